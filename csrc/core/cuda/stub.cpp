// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA kernels when they are not part of the build.
#include "core/cuda/kernels.hpp"

namespace physcon::cuda {

bool compiled() noexcept {
    return false;
}
const char* architectures() noexcept {
    return "";
}
int multiprocessors(int) noexcept {
    return 0;
}
Capability capability(int) noexcept {
    return {};
}

namespace {
constexpr const char* absent = "this build holds no CUDA kernels; build with PHYSCON_CUDA=ON";
}

template <typename T>
std::size_t condition_workspace(const ConditionArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* condition(const ConditionArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
std::size_t condition_backward_workspace(const ConditionBackwardArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* condition_backward(const ConditionBackwardArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
const char* condition_disjoint(const DisjointArgs<T>&, const Device&) {
    return absent;
}
template <typename T>
const char* condition_disjoint_backward(const DisjointBackwardArgs<T>&, const Device&) {
    return absent;
}

template <typename T>
std::size_t condition_banded_workspace(const BandedArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* condition_banded(const BandedArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
std::size_t condition_banded_backward_workspace(const BandedBackwardArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* condition_banded_backward(const BandedBackwardArgs<T>&, const Device&, void*) {
    return absent;
}
template <typename T>
std::size_t banded_product_workspace(const BandedProductArgs<T>&, const Device&) {
    return 0;
}
template <typename T>
const char* banded_product(const BandedProductArgs<T>&, const Device&, void*) {
    return absent;
}

std::size_t balance_law_workspace(const BalanceLawArgs&) {
    return 0;
}
const char* balance_law(const BalanceLawArgs&, std::int64_t, const Device&, void*) {
    return absent;
}
std::size_t cavity_workspace(const CavityArgs&, const Device&) {
    return 0;
}
const char* cavity(const CavityArgs&, const Device&, void*) {
    return absent;
}

#define PHYSCON_INSTANTIATE(T)                                                                 \
    template std::size_t condition_workspace(const ConditionArgs<T>&, const Device&);          \
    template const char* condition(const ConditionArgs<T>&, const Device&, void*);             \
    template std::size_t condition_backward_workspace(                                         \
        const ConditionBackwardArgs<T>&, const Device&                                         \
    );                                                                                         \
    template const char* condition_backward(                                                   \
        const ConditionBackwardArgs<T>&, const Device&, void*                                  \
    );                                                                                         \
    template const char* condition_disjoint(const DisjointArgs<T>&, const Device&);            \
    template const char* condition_disjoint_backward(                                          \
        const DisjointBackwardArgs<T>&, const Device&                                          \
    );                                                                                         \
    template std::size_t condition_banded_workspace(const BandedArgs<T>&, const Device&);      \
    template const char* condition_banded(const BandedArgs<T>&, const Device&, void*);         \
    template std::size_t condition_banded_backward_workspace(                                  \
        const BandedBackwardArgs<T>&, const Device&                                            \
    );                                                                                         \
    template const char* condition_banded_backward(                                            \
        const BandedBackwardArgs<T>&, const Device&, void*                                     \
    );                                                                                         \
    template std::size_t banded_product_workspace(const BandedProductArgs<T>&, const Device&); \
    template const char* banded_product(const BandedProductArgs<T>&, const Device&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

#define PHYSCON_INSTANTIATE_STORED(T)                                                 \
    template std::size_t condition_workspace(const ConditionArgs<T>&, const Device&); \
    template const char* condition(const ConditionArgs<T>&, const Device&, void*);    \
    template std::size_t condition_backward_workspace(                                \
        const ConditionBackwardArgs<T>&, const Device&                                \
    );                                                                                \
    template const char* condition_backward(const ConditionBackwardArgs<T>&, const Device&, void*);
PHYSCON_INSTANTIATE_STORED(BFloat16)
PHYSCON_INSTANTIATE_STORED(Float16)

}  // namespace physcon::cuda
