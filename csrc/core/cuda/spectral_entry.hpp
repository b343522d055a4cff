// SPDX-License-Identifier: Apache-2.0
// CUDA entry points of the convolutions and of face rules; conventions as in kernels.hpp. Where the
// arguments have `tables`, these are made by `spectral_tables` below.
#pragma once

#include "../boundary_spectral.hpp"
#include "../pointwise.hpp"
#include "kernels.hpp"

namespace physcon::cuda {

template <typename T>
std::size_t spectral_tables_size(const SpectralGrid& grid);
template <typename T>
const char* spectral_tables(const SpectralGrid& grid, void* tables, const Device& device);

template <typename T>
std::size_t spectral_conv_workspace(const SpectralConvArgs<T>& args, const Device& device);
template <typename T>
const char* spectral_conv(const SpectralConvArgs<T>& args, const Device& device, void* workspace);

template <typename T>
std::size_t spectral_conv_backward_workspace(
    const SpectralConvBackwardArgs<T>& args, const Device& device
);
template <typename T>
const char* spectral_conv_backward(
    const SpectralConvBackwardArgs<T>& args, const Device& device, void* workspace
);

template <typename T>
std::size_t boundary_spectral_conv_workspace(
    const BoundarySpectralConvArgs<T>& args, const Device& device
);
template <typename T>
const char* boundary_spectral_conv(
    const BoundarySpectralConvArgs<T>& args, const Device& device, void* workspace
);

template <typename T>
std::size_t boundary_spectral_conv_backward_workspace(
    const BoundarySpectralConvBackwardArgs<T>& args, const Device& device
);
template <typename T>
const char* boundary_spectral_conv_backward(
    const BoundarySpectralConvBackwardArgs<T>& args, const Device& device, void* workspace
);

/// A Fourier layer on a line in the launches of its convolution. The gains may be none; the face
/// rules are those of the layer.
template <typename T>
struct FnoLineArgs {
    BoundarySpectralConvArgs<T> convolution;  ///< `y_out` is the output of the layer
    PointwiseArgs<T> layer;                   ///< `field` is written only
};
/// Whether the widest face rule of a layer is narrow enough for that, and the grid a line.
bool fuses_layer(const SpectralGrid& grid, int64_t width);
template <typename T>
std::size_t fno_line_workspace(const FnoLineArgs<T>& args, const Device& device);
template <typename T>
const char* fno_line(const FnoLineArgs<T>& args, const Device& device, void* workspace);

template <typename T>
const char* assign_faces(const AssignFacesArgs<T>& args, const Device& device);
template <typename T>
const char* assign_faces_backward(const AssignFacesBackwardArgs<T>& args, const Device& device);

/// Answers at the ends of an axis, gains of the published elimination of both ends, their adjoints.
template <typename T>
const char* end_response(const EndResponseArgs<T>& args, const Device& device);
template <typename T>
const char* end_response_adjoint(const EndResponseArgs<T>& args, const Device& device);
const char* two_step_gain(const TwoStepGainArgs& args, const Device& device);
std::size_t two_step_gain_adjoint_workspace(const TwoStepGainArgs& args);
const char* two_step_gain_adjoint(
    const TwoStepGainArgs& args, const Device& device, void* workspace
);

/// Whether the work of a stream is being recorded: nothing may wait for it then.
bool is_captured(const Device& device) noexcept;
/// Waits for the stream.
const char* wait_for(const Device& device) noexcept;
/// Memory of the current device that is never given back; null where there is none. It comes from
/// the driver: memory pools of torch, of which graphs may own one, know nothing of it.
void* kept_memory(std::size_t bytes) noexcept;

}  // namespace physcon::cuda
