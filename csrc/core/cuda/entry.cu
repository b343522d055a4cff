// SPDX-License-Identifier: Apache-2.0
// Entry points: which launches a call is made of.
#include "condition_adjoint.cuh"
#include "condition_dense.hpp"
#include "condition_marginal.cuh"
#include "condition_marginal.hpp"
#include "kernels.hpp"

#ifndef PHYSCON_CUDA_ARCHITECTURES
#error "PHYSCON_CUDA_ARCHITECTURES must list what the kernels are compiled for"
#endif

namespace physcon::cuda {

bool compiled() noexcept {
    return true;
}
const char* architectures() noexcept {
    return PHYSCON_CUDA_ARCHITECTURES;
}
int multiprocessors(int device) noexcept {
    int count = 0;
    const cudaError_t error =
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
    return error == cudaSuccess ? count : 0;
}

Capability capability(int device) noexcept {
    Capability found;
    if (cudaDeviceGetAttribute(&found.major, cudaDevAttrComputeCapabilityMajor, device) !=
            cudaSuccess ||
        cudaDeviceGetAttribute(&found.minor, cudaDevAttrComputeCapabilityMinor, device) !=
            cudaSuccess) {
        return {};
    }
    return found;
}

template <typename T>
const char* condition_planned(
    const ConditionArgs<T>& args, const Plan& plan, void* stream, Arena& arena
) {
    if constexpr (is_stored<T>) {
        return condition_marginal(args, plan, stream, arena);
    } else {
        ConditionArgs<T> a = args;
        if (args.covariance.data != nullptr) {
            auto* diagonal = arena.take<T>(args.batch * args.n);
            a.variance = {diagonal, args.n};
            a.cross = {args.cross_out, args.rank * args.n};
            if (!arena.measures()) {
                if (const char* error = dense_cross(args, diagonal, stream)) {
                    return error;
                }
            }
        }
        if (const char* error = condition_marginal(a, plan, stream, arena)) {
            return error;
        }
        const bool done = arena.measures() || args.covariance_out == nullptr;
        return done ? nullptr : downdate(args, stream);
    }
}

template <typename T>
std::size_t condition_workspace(const ConditionArgs<T>& args, const Device& device) {
    Arena arena(nullptr);
    condition_planned(args, marginal_plan(args, device.multiprocessors), nullptr, arena);
    return arena.used();
}
template <typename T>
const char* condition(const ConditionArgs<T>& args, const Device& device, void* workspace) {
    if (args.batch == 0) {
        return nullptr;
    }
    Arena arena(workspace);
    const Plan plan = marginal_plan(args, device.multiprocessors);
    return condition_planned(args, plan, device.stream, arena);
}

template <typename T>
std::size_t condition_backward_workspace(
    const ConditionBackwardArgs<T>& args, const Device& device
) {
    Arena arena(nullptr);
    condition_adjoint(args, adjoint_plan(args, device.multiprocessors), nullptr, arena);
    return arena.used();
}
template <typename T>
const char* condition_backward(
    const ConditionBackwardArgs<T>& args, const Device& device, void* workspace
) {
    Arena arena(workspace);
    if (args.batch == 0) {
        return nullptr;
    }
    const BackwardPlan plan = adjoint_plan(args, device.multiprocessors);
    return condition_adjoint(args, plan, device.stream, arena);
}

#define PHYSCON_INSTANTIATE(T)                                                                   \
    template const char* condition_planned(const ConditionArgs<T>&, const Plan&, void*, Arena&); \
    template std::size_t condition_workspace(const ConditionArgs<T>&, const Device&);            \
    template const char* condition(const ConditionArgs<T>&, const Device&, void*);               \
    template std::size_t condition_backward_workspace(                                           \
        const ConditionBackwardArgs<T>&, const Device&                                           \
    );                                                                                           \
    template const char* condition_backward(const ConditionBackwardArgs<T>&, const Device&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)
PHYSCON_INSTANTIATE(BFloat16)
PHYSCON_INSTANTIATE(Float16)

}  // namespace physcon::cuda
