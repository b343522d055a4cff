// SPDX-License-Identifier: Apache-2.0
// The two products with an n x n matrix: C = G S, and S - V' V.
#pragma once

#include "../condition.hpp"
#include "device.cuh"

namespace physcon::cuda {

constexpr int dense_threads = 128;  // columns of a block of C
constexpr int dense_rows = 16;      // rows of G at once
constexpr int dense_run = 64;       // columns of G in shared memory
constexpr int downdate_side = 64;   // points of a tile of the posterior covariance
constexpr int downdate_run = 16;    // rows of V in shared memory
constexpr int downdate_threads = 256;
constexpr int downdate_part = 4;  // a thread holds 4 x 4 entries

/// C (rank, n) and the diagonal of S. Grid: batch times column blocks times row groups.
template <typename T>
__global__ void __launch_bounds__(dense_threads, 1) condition_dense_cross_kernel(
    ConditionArgs<T> a, int64_t column_blocks, int64_t row_groups, T* diagonal
) {
    double* tile = shared_memory();  // (dense_run, dense_rows)
    const int64_t n = a.n;
    const int64_t place = block_index(), block = place % column_blocks;
    const int64_t group = place / column_blocks % row_groups;
    const int64_t b = place / (column_blocks * row_groups);
    if (b >= a.batch) {
        return;
    }
    const int64_t column = block * dense_threads + threadIdx.x;
    const int first = static_cast<int>(group) * dense_rows;
    const int count = smaller(dense_rows, static_cast<int>(a.rank) - first);
    const T *g = a.rows.item(b) + first * n, *s = a.covariance.item(b);
    double sum[dense_rows] = {};
    for (int64_t start = 0; start < n; start += dense_run) {
        const int size = static_cast<int>(smaller<int64_t>(dense_run, n - start));
        __syncthreads();  // the previous tile has been used
        for (int e = static_cast<int>(threadIdx.x); e < dense_run * dense_rows;
             e += dense_threads) {
            const int k = e / dense_run, i = e % dense_run;
            const bool inside = k < count && i < size;
            tile[i * dense_rows + k] = inside ? static_cast<double>(g[k * n + start + i]) : 0.0;
        }
        __syncthreads();
        for (int i = 0; i < size && column < n; ++i) {
            const double x = s[(start + i) * n + column];
#pragma unroll
            for (int k = 0; k < dense_rows; ++k) {
                sum[k] += tile[i * dense_rows + k] * x;
            }
        }
    }
    if (column >= n) {
        return;
    }
#pragma unroll
    for (int k = 0; k < dense_rows; ++k) {
        if (k < count) {
            a.cross_out[(b * a.rank + first + k) * n + column] = static_cast<T>(sum[k]);
        }
    }
    if (group == 0) {
        diagonal[b * n + column] = s[column * (n + 1)];
    }
}

/// One tile of S - V' V, with the variances on the diagonal; S is diagonal when none is given.
/// Entry and mirrored entry add the same products in the same order: exactly symmetric.
template <typename T>
__global__ void __launch_bounds__(downdate_threads, 2) condition_downdate_kernel(
    ConditionArgs<T> a, int64_t side
) {
    double *left = shared_memory(), *right = left + downdate_run * downdate_side;
    const int64_t n = a.n;
    const int64_t place = block_index(), b = place / (side * side);
    if (b >= a.batch) {
        return;
    }
    const int64_t top = place / side % side * downdate_side;
    const int64_t start = place % side * downdate_side;
    const T* v = a.factor_out + b * a.rank * n;
    constexpr int across = downdate_side / downdate_part;
    const int row = static_cast<int>(threadIdx.x) / across;
    const int column = static_cast<int>(threadIdx.x) % across;
    double sum[downdate_part][downdate_part] = {};
    for (int64_t k0 = 0; k0 < a.rank; k0 += downdate_run) {
        __syncthreads();  // the previous tiles have been used
        for (int e = static_cast<int>(threadIdx.x); e < downdate_run * downdate_side;
             e += downdate_threads) {
            const int64_t k = k0 + e / downdate_side;
            const int64_t i = top + e % downdate_side, j = start + e % downdate_side;
            left[e] = k < a.rank && i < n ? static_cast<double>(v[k * n + i]) : 0.0;
            right[e] = k < a.rank && j < n ? static_cast<double>(v[k * n + j]) : 0.0;
        }
        __syncthreads();
        const int run = static_cast<int>(smaller<int64_t>(downdate_run, a.rank - k0));
        for (int k = 0; k < run; ++k) {
#pragma unroll
            for (int i = 0; i < downdate_part; ++i) {
#pragma unroll
                for (int j = 0; j < downdate_part; ++j) {
                    sum[i][j] += left[k * downdate_side + row + i * across] *
                                 right[k * downdate_side + column + j * across];
                }
            }
        }
    }
    const T* s = a.covariance.data == nullptr ? nullptr : a.covariance.item(b);
#pragma unroll
    for (int i = 0; i < downdate_part; ++i) {
#pragma unroll
        for (int j = 0; j < downdate_part; ++j) {
            const int64_t y = top + row + i * across, x = start + column + j * across;
            if (y >= n || x >= n) {
                continue;
            }
            const double prior = s == nullptr ? 0.0 : static_cast<double>(s[y * n + x]);
            a.covariance_out[(b * n + y) * n + x] =
                y == x ? a.variance_out[b * n + y] : static_cast<T>(prior - sum[i][j]);
        }
    }
}

}  // namespace physcon::cuda
