// SPDX-License-Identifier: Apache-2.0
// Cosines, sines and weights of a grid in device memory, and where folded points lie.
//
// On the last axis x at distance t on either side of the centre meets the same cosine and opposite
// sines, so s = x(c + t) + x(c - t) and d = x(c + t) - x(c - t) halve the sums: Re X = sum s cos,
// Im X = -sum d sin. Points are numbered by q with t = q for odd N and t = q + 1/2 for even N.
#pragma once

#include "../spectral.hpp"
#include "spectral_product.cuh"
#include "workspace.hpp"

namespace physcon::cuda {

/// Point q of an axis lies at up + q and down - q.
struct Fold {
    int64_t n, points, up, down;
    __host__ __device__ explicit Fold(int64_t size)
        : n(size), points((size + 1) / 2), up(size / 2), down(size - 1 - size / 2) {}
};

/// cos and sin of pi j / P for an integer j, reduced without rounding: exact zeros and symmetries.
__device__ inline Pair<double> cosine_sine(double j, double period) {
    double r = fmod(j, 2 * period), cosine_sign = 1, sine_sign = 1;
    if (r > period) {
        r = 2 * period - r;
        sine_sign = -1;
    }
    if (r > period / 2) {
        r = period - r;
        cosine_sign = -1;
    }
    const bool swapped = r > period / 4;
    const double turns = (swapped ? period / 2 - r : r) / period;
    const double c = cospi(turns), s = sinpi(turns);
    return {cosine_sign * (swapped ? s : c), sine_sign * (swapped ? c : s)};
}

/// One axis of a grid.
struct Axis {
    int64_t size, modes;
    double period;
    bool last;
    __host__ __device__ Axis(const SpectralGrid& grid, int axis)
        : size(grid.size[axis]),
          modes(grid.modes[axis]),
          period(grid.period[axis]),
          last(axis == 2) {}
    /// Wavenumber of mode k: the last axis is one-sided.
    __host__ __device__ int64_t wavenumber(int64_t k) const {
        return last || k < (modes + 1) / 2 ? k : k - modes;
    }
    /// h_k of this axis alone.
    __host__ __device__ double weight(int64_t k) const {
        const bool twice = last && k > 0 && 2 * static_cast<double>(k) != period;
        return (twice ? 2 : 1) / period;
    }
    /// cos and sin of w_k (n - c) where n - c is `twice` / 2.
    __device__ Pair<double> phase(int64_t k, int64_t twice) const {
        const int64_t wave = wavenumber(k);
        const auto turns = static_cast<double>(wave < 0 ? -wave : wave) *
                           static_cast<double>(twice < 0 ? -twice : twice);
        Pair<double> value = cosine_sine(turns, period);
        value.im = (wave < 0) != (twice < 0) ? -value.im : value.im;
        return value;
    }
};

template <typename T>
struct Tables {
    T* weights;         ///< (modes of the last axis): h_k of all axes together
    Pair<T>* basis[3];  ///< last axis (folded points, M), others (N, M): cos and sin of w_k (n - c)
    Pair<double>* ends[3];   ///< (M): the same at the last point
    Pair<double>* exact[3];  ///< with several axes (N, M): the same at all points
};
/// The same pieces in the same order for whoever fills or reads them.
template <typename T>
Tables<T> find_tables(const SpectralGrid& grid, Arena& arena) {
    Tables<T> t = {};
    t.weights = arena.take<T>(grid.modes[2]);
    for (int axis = 3 - grid.axes; axis < 3; ++axis) {
        const int64_t points = axis == 2 ? Fold(grid.size[2]).points : grid.size[axis];
        t.basis[axis] = arena.take<Pair<T>>(points * grid.modes[axis]);
        t.ends[axis] = arena.take<Pair<double>>(grid.modes[axis]);
        if (grid.axes > 1) {
            t.exact[axis] = arena.take<Pair<double>>(grid.size[axis] * grid.modes[axis]);
        }
    }
    return t;
}
template <typename T>
Tables<T> find_tables(const SpectralGrid& grid, const T* base) {
    Arena arena(const_cast<T*>(base));
    return find_tables<T>(grid, arena);
}

constexpr int table_threads = 256;

template <typename T>
__global__ void __launch_bounds__(table_threads, 1) spectral_tables_kernel(
    SpectralGrid grid, Tables<T> tables
) {
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
#pragma unroll
    for (int index = 0; index < 3; ++index) {
        const Axis axis(grid, index);
        if (index < 3 - grid.axes) {
            continue;
        }
        const int64_t folded = axis.last ? Fold(axis.size).up : 0;
        for (int64_t e = thread; e < axis.size * axis.modes; e += step) {
            const int64_t point = e / axis.modes, k = e % axis.modes;
            const Pair<double> value = axis.phase(k, 2 * point - (axis.size - 1));
            if (point >= folded) {
                tables.basis[index][e - folded * axis.modes] = {
                    static_cast<T>(value.re), static_cast<T>(value.im)
                };
            }
            if (tables.exact[index] != nullptr) {
                tables.exact[index][e] = value;
            }
            if (point == axis.size - 1) {
                tables.ends[index][k] = value;
            }
        }
    }
    const Axis last(grid, 2);
    for (int64_t k = thread; k < last.modes; k += step) {
        tables.weights[k] = static_cast<T>(last.weight(k) / (grid.period[0] * grid.period[1]));
    }
}

}  // namespace physcon::cuda
