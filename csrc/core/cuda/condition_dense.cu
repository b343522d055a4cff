// SPDX-License-Identifier: Apache-2.0
#include "condition_dense.cuh"

#include "condition_dense.hpp"

namespace physcon::cuda {

template <typename T>
const char* dense_cross(const ConditionArgs<T>& a, T* diagonal, void* stream) {
    const int64_t columns = (a.n + dense_threads - 1) / dense_threads;
    const int64_t groups = (a.rank + dense_rows - 1) / dense_rows;
    const cudaError_t error = launch(
        condition_dense_cross_kernel<T>,
        a.batch * columns * groups,
        dense_threads,
        sizeof(double) * dense_run * dense_rows,
        static_cast<cudaStream_t>(stream),
        a,
        columns,
        groups,
        diagonal
    );
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <typename T>
const char* downdate(const ConditionArgs<T>& a, void* stream) {
    const int64_t side = (a.n + downdate_side - 1) / downdate_side;
    const cudaError_t error = launch(
        condition_downdate_kernel<T>,
        a.batch * side * side,
        downdate_threads,
        sizeof(double) * 2 * downdate_run * downdate_side,
        static_cast<cudaStream_t>(stream),
        a,
        side
    );
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#define PHYSCON_INSTANTIATE(T)                                            \
    template const char* dense_cross(const ConditionArgs<T>&, T*, void*); \
    template const char* downdate(const ConditionArgs<T>&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
