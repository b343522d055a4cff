// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA kernels of the convolutions when they are not part of the build.
#include "core/cuda/pointwise_entry.hpp"
#include "core/cuda/spectral_entry.hpp"

namespace physcon::cuda {
namespace {
constexpr const char* absent = "this build holds no CUDA kernels; build with PHYSCON_CUDA=ON";
}

template <typename T>
std::size_t spectral_tables_size(const SpectralGrid&) {
    return 0;
}
template <typename T>
const char* spectral_tables(const SpectralGrid&, void*, const Device&) {
    return absent;
}
template <typename T>
std::size_t spectral_conv_workspace(const SpectralConvArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* spectral_conv(const SpectralConvArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
std::size_t spectral_conv_backward_workspace(const SpectralConvBackwardArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* spectral_conv_backward(const SpectralConvBackwardArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
std::size_t boundary_spectral_conv_workspace(const BoundarySpectralConvArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* boundary_spectral_conv(const BoundarySpectralConvArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
std::size_t boundary_spectral_conv_backward_workspace(
    const BoundarySpectralConvBackwardArgs<T>&, const Device&
) {
    return 0;
}
template <typename T>
const char* boundary_spectral_conv_backward(
    const BoundarySpectralConvBackwardArgs<T>&, const Device&, void*
) {
    return absent;
}
bool fuses_layer(const SpectralGrid&, std::int64_t) {
    return false;
}
template <typename T>
std::size_t fno_line_workspace(const FnoLineArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* fno_line(const FnoLineArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
const char* assign_faces(const AssignFacesArgs<T>&, const Device&) {
    return absent;
}
template <typename T>
const char* assign_faces_backward(const AssignFacesBackwardArgs<T>&, const Device&) {
    return absent;
}
template <typename T>
std::size_t pointwise_workspace(const PointwiseArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* pointwise(const PointwiseArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
std::size_t pointwise_backward_workspace(const PointwiseBackwardArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* pointwise_backward(const PointwiseBackwardArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
const char* end_response(const EndResponseArgs<T>&, const Device&) {
    return absent;
}
template <typename T>
const char* end_response_adjoint(const EndResponseArgs<T>&, const Device&) {
    return absent;
}
const char* two_step_gain(const TwoStepGainArgs&, const Device&) {
    return absent;
}
std::size_t two_step_gain_adjoint_workspace(const TwoStepGainArgs&) {
    return 0;
}
const char* two_step_gain_adjoint(const TwoStepGainArgs&, const Device&, void*) {
    return absent;
}
bool is_captured(const Device&) noexcept {
    return false;
}
void* kept_memory(std::size_t) noexcept {
    return nullptr;
}
const char* wait_for(const Device&) noexcept {
    return absent;
}

#define PHYSCON_INSTANTIATE(T)                                                                    \
    template std::size_t spectral_tables_size<T>(const SpectralGrid&);                            \
    template const char* spectral_tables<T>(const SpectralGrid&, void*, const Device&);           \
    template std::size_t spectral_conv_workspace(const SpectralConvArgs<T>&, const Device&);      \
    template const char* spectral_conv(const SpectralConvArgs<T>&, const Device&, void*);         \
    template std::size_t spectral_conv_backward_workspace(                                        \
        const SpectralConvBackwardArgs<T>&, const Device&                                         \
    );                                                                                            \
    template const char* spectral_conv_backward(                                                  \
        const SpectralConvBackwardArgs<T>&, const Device&, void*                                  \
    );                                                                                            \
    template std::size_t boundary_spectral_conv_workspace(                                        \
        const BoundarySpectralConvArgs<T>&, const Device&                                         \
    );                                                                                            \
    template const char* boundary_spectral_conv(                                                  \
        const BoundarySpectralConvArgs<T>&, const Device&, void*                                  \
    );                                                                                            \
    template std::size_t boundary_spectral_conv_backward_workspace(                               \
        const BoundarySpectralConvBackwardArgs<T>&, const Device&                                 \
    );                                                                                            \
    template const char* boundary_spectral_conv_backward(                                         \
        const BoundarySpectralConvBackwardArgs<T>&, const Device&, void*                          \
    );                                                                                            \
    template std::size_t fno_line_workspace(const FnoLineArgs<T>&, const Device&);                \
    template const char* fno_line(const FnoLineArgs<T>&, const Device&, void*);                   \
    template const char* assign_faces(const AssignFacesArgs<T>&, const Device&);                  \
    template const char* assign_faces_backward(const AssignFacesBackwardArgs<T>&, const Device&); \
    template const char* end_response(const EndResponseArgs<T>&, const Device&);                  \
    template const char* end_response_adjoint(const EndResponseArgs<T>&, const Device&);          \
    template std::size_t pointwise_workspace(const PointwiseArgs<T>&, const Device&);             \
    template const char* pointwise(const PointwiseArgs<T>&, const Device&, void*);                \
    template std::size_t pointwise_backward_workspace(                                            \
        const PointwiseBackwardArgs<T>&, const Device&                                            \
    );                                                                                            \
    template const char* pointwise_backward(const PointwiseBackwardArgs<T>&, const Device&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
