// SPDX-License-Identifier: Apache-2.0
#include "condition_disjoint.cuh"

#include "kernels.hpp"

namespace physcon::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t copy_blocks = 1 << 16;
constexpr int64_t warp_support = 2048;  // points of a row, on average, that a warp handles alone

template <typename T>
cudaError_t copy_points(
    const Strided<T>& first,
    const Strided<T>& second,
    int64_t batch,
    int64_t n,
    T* first_out,
    T* second_out,
    cudaStream_t stream
) {
    if (batch * n == 0) {
        return cudaSuccess;
    }
    return launch(
        condition_copy_kernel<T>,
        smaller((batch * n + threads - 1) / threads, copy_blocks),
        threads,
        0,
        stream,
        first,
        second,
        batch,
        n,
        first_out,
        second_out
    );
}

/// One team per row of an item: a warp for short rows.
template <typename Args>
cudaError_t launch_rows(
    const Args& a, void (*by_warp)(Args), void (*by_block)(Args), cudaStream_t stream
) {
    const bool warps = a.support <= warp_support * a.rank;
    const int teams = warps ? threads / warp_size : 1;
    return launch(
        warps ? by_warp : by_block,
        (a.batch * a.rank + teams - 1) / teams,
        threads,
        sizeof(double) * 2 * warp_size,
        stream,
        a
    );
}

}  // namespace

template <typename T>
const char* condition_disjoint(const DisjointArgs<T>& a, const Device& device) {
    if (a.batch == 0) {
        return nullptr;
    }
    const auto stream = static_cast<cudaStream_t>(device.stream);
    cudaError_t error =
        copy_points(a.mean, a.variance, a.batch, a.n, a.mean_out, a.variance_out, stream);
    if (error == cudaSuccess) {
        error = launch_rows<DisjointArgs<T>>(
            a,
            condition_disjoint_kernel<T, WarpTeam>,
            condition_disjoint_kernel<T, BlockTeam>,
            stream
        );
    }
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <typename T>
const char* condition_disjoint_backward(const DisjointBackwardArgs<T>& a, const Device& device) {
    if (a.batch == 0) {
        return nullptr;
    }
    const auto stream = static_cast<cudaStream_t>(device.stream);
    cudaError_t error =
        copy_points(a.grad_mean, a.grad_variance, a.batch, a.n, a.mean_out, a.variance_out, stream);
    if (error == cudaSuccess) {
        error = launch_rows<DisjointBackwardArgs<T>>(
            a, disjoint_adjoint_kernel<T, WarpTeam>, disjoint_adjoint_kernel<T, BlockTeam>, stream
        );
    }
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#define PHYSCON_INSTANTIATE(T)                                                      \
    template const char* condition_disjoint(const DisjointArgs<T>&, const Device&); \
    template const char* condition_disjoint_backward(const DisjointBackwardArgs<T>&, const Device&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
