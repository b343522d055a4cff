// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "device.cuh"

namespace physcon::cuda {

/// u Phi(u); the tail keeps its relative accuracy.
__device__ inline float gelu(float u) {
    return u * normcdff(u);
}
__device__ inline double gelu(double u) {
    return u * normcdf(u);
}
template <typename T>
__device__ T gelu_slope(T u) {
    constexpr double density = 0.39894228040143267794;
    if constexpr (sizeof(T) == 4) {
        return normcdff(u) + u * (static_cast<T>(density) * expf(-u * u / 2));
    } else {
        return normcdf(u) + u * (density * exp(-u * u / 2));
    }
}

}  // namespace physcon::cuda
