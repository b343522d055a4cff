// SPDX-License-Identifier: Apache-2.0
// Teams of threads and what every kernel needs: sums in a fixed order, compensated sums, launches.
// Kernels are plain C++ except for the names of the CUDA run time, so that the same bodies run on
// the host when another <cuda_runtime.h> supplies these names.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace physcon::cuda {

using std::int32_t;
using std::int64_t;

constexpr int warp_size = 32;
constexpr unsigned all_lanes = 0xffffffffu;
constexpr double epsilon64 = 2.220446049250313e-16;
template <typename T>
constexpr double epsilon = sizeof(T) == 8 ? epsilon64 : 1.1920928955078125e-07;

#if defined(__CUDACC__)
/// The dynamic shared memory of the block, 16-byte aligned.
__device__ inline double* shared_memory() {
    extern __shared__ __align__(16) double physcon_shared_memory[];
    return physcon_shared_memory;
}
#endif

template <typename T>
__host__ __device__ constexpr T smaller(T a, T b) {
    return b < a ? b : a;
}
template <typename T>
__host__ __device__ constexpr T larger(T a, T b) {
    return a < b ? b : a;
}
__device__ inline double infinity() {
    return __longlong_as_double(0x7ff0000000000000ll);
}
__device__ inline double not_a_number() {
    return __longlong_as_double(0x7ff8000000000000ll);
}
__device__ inline bool finite(double x) {
    return x - x == 0;
}

/// The place of the block among those of a launch: a grid goes on along its second axis where the
/// first is too short. The last blocks of such a grid may lie beyond the work.
__device__ inline int64_t block_index() {
    return static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
}

/// high + low, added to without losing the rounding errors (Ogita, Rump and Oishi 2005).
struct Compensated {
    double high = 0, low = 0;
    __device__ void add(double value) {
        const double sum = __dadd_rn(high, value);
        const double back = __dsub_rn(sum, high);
        low += __dadd_rn(__dsub_rn(high, __dsub_rn(sum, back)), __dsub_rn(value, back));
        high = sum;
    }
    __device__ void add_product(double a, double b) {
        const double product = __dmul_rn(a, b);
        low += __fma_rn(a, b, -product);
        add(product);
    }
    /// The same bits whichever of two sums is added to the other.
    __device__ void add(const Compensated& other) {
        low += other.low;
        add(other.high);
    }
    __device__ double value() const {
        return high + low;
    }
};

__device__ inline double warp_sum(double value) {
    for (int step = warp_size / 2; step > 0; step /= 2) {
        value += __shfl_xor_sync(all_lanes, value, step);
    }
    return value;
}
__device__ inline Compensated warp_sum(Compensated sum) {
    for (int step = warp_size / 2; step > 0; step /= 2) {
        Compensated other;
        other.high = __shfl_xor_sync(all_lanes, sum.high, step);
        other.low = __shfl_xor_sync(all_lanes, sum.low, step);
        sum.add(other);
    }
    return sum;
}

/// The threads that work on one item: a warp.
struct WarpTeam {
    static constexpr bool is_warp = true;
    double* scratch;
    __device__ int rank() const {
        return static_cast<int>(threadIdx.x) % warp_size;
    }
    __device__ int size() const {
        return warp_size;
    }
    __device__ void sync() const {
        __syncwarp();
    }
    __device__ bool any(bool value) const {
        return __any_sync(all_lanes, value) != 0;
    }
    /// The same value in every thread.
    __device__ double sum(double value) const {
        return warp_sum(value);
    }
};

/// The threads that work on one item: a block of whole warps.
struct BlockTeam {
    static constexpr bool is_warp = false;
    double* scratch;  ///< One entry per warp.
    __device__ int rank() const {
        return static_cast<int>(threadIdx.x);
    }
    __device__ int size() const {
        return static_cast<int>(blockDim.x);
    }
    __device__ void sync() const {
        __syncthreads();
    }
    __device__ bool any(bool value) const {
        return __syncthreads_or(value) != 0;
    }
    __device__ double sum(double value) const {
        value = warp_sum(value);
        __syncthreads();  // the previous sum has been read
        if (rank() % warp_size == 0) {
            scratch[rank() / warp_size] = value;
        }
        __syncthreads();
        double total = 0;
        for (int i = 0; i < size() / warp_size; ++i) {
            total += scratch[i];
        }
        return total;
    }
};

constexpr int tile_side = 4;  // a thread holds 4 x 4 products
constexpr int tile_entries = tile_side * tile_side;

__host__ __device__ constexpr int tile_count(int rows) {
    return (rows + tile_side - 1) / tile_side;
}
__host__ __device__ constexpr int product_tiles(int left_rows, int right_rows, bool lower) {
    const int rows = tile_count(left_rows), columns = tile_count(right_rows);
    return lower ? rows * (rows + 1) / 2 : rows * columns;
}
/// Doubles of a row of `points` in shared memory: no two rows of a column are in one bank.
__host__ __device__ constexpr int tile_pitch(int points) {
    return points + 1;
}
/// Binary logarithm of the points of a tile in shared memory, 32 to 128: few rows take more where
/// the threads leave room, for each tile waits for memory once.
__host__ __device__ constexpr int tile_bits(int rows, int threads) {
    int bits = 5;
    while (bits < 7 && rows * tile_pitch(2 << bits) <= threads * tile_entries) {
        ++bits;
    }
    return bits;
}
/// Doubles of shared memory that products() needs.
__host__ __device__ constexpr int product_memory(int left_rows, int right_rows, int threads) {
    const int rows = (tile_count(left_rows) + tile_count(right_rows)) * tile_side;
    return larger(rows * tile_pitch(1 << tile_bits(rows, threads)), threads * tile_entries);
}

/// out (left_rows, right_rows) <- sum over the points [begin, end) of left_i right_j, in double
/// precision and in an order that depends on the sizes only. load(row, point, left, right) fetches
/// one entry of either matrix. `lower`: the matrices have as many rows and the product is
/// symmetric; its lower tiles are summed and mirrored. `tiles` per thread bound the number of rows.
template <int tiles, typename Team, typename Load>
__device__ void products(
    const Team& team,
    int left_rows,
    int right_rows,
    bool lower,
    int64_t begin,
    int64_t end,
    double* memory,
    const Load& load,
    double* out
) {
    const int padded_left = tile_count(left_rows) * tile_side;
    const int padded_right = tile_count(right_rows) * tile_side;
    const int bits = tile_bits(padded_left + padded_right, team.size()), points = 1 << bits;
    const int pitch = tile_pitch(points), filled = larger(padded_left, padded_right);
    double *left = memory, *right = memory + padded_left * pitch;
    const int count = product_tiles(left_rows, right_rows, lower);
    // Threads left over share the points of a tile.
    const int groups = smaller(points, larger(1, team.size() / count));
    double sum[tiles][tile_side][tile_side];
    int row[tiles], column[tiles], first[tiles];
#pragma unroll
    for (int t = 0; t < tiles; ++t) {
        const int unit = team.rank() + t * team.size();
        int tile = unit % count;
        first[t] = unit < groups * count ? unit / count : points;
        if (lower) {
            row[t] = 0;
            while (tile > row[t]) {
                tile -= ++row[t];
            }
            column[t] = tile;
        } else {
            row[t] = tile / tile_count(right_rows);
            column[t] = tile % tile_count(right_rows);
        }
#pragma unroll
        for (int i = 0; i < tile_side; ++i) {
#pragma unroll
            for (int j = 0; j < tile_side; ++j) {
                sum[t][i][j] = 0;
            }
        }
    }
    for (int64_t start = begin; start < end; start += points) {
        team.sync();  // the previous tile has been used
#pragma unroll 4
        for (int e = team.rank(); e < filled * points; e += team.size()) {
            const int k = e >> bits, p = e & (points - 1), at = k * pitch + p;
            double l = 0, r = 0;
            if (start + p < end && k < larger(left_rows, right_rows)) {
                load(k, start + p, l, r);
            }
            if (k < padded_left) {
                left[at] = k < left_rows ? l : 0.0;
            }
            if (k < padded_right) {
                right[at] = k < right_rows ? r : 0.0;
            }
        }
        team.sync();
#pragma unroll
        for (int t = 0; t < tiles; ++t) {
            const double* l = left + row[t] * tile_side * pitch;
            const double* r = right + column[t] * tile_side * pitch;
            for (int p = first[t]; p < points; p += groups) {
                double x[tile_side], y[tile_side];
#pragma unroll
                for (int i = 0; i < tile_side; ++i) {
                    x[i] = l[i * pitch + p];
                    y[i] = r[i * pitch + p];
                }
#pragma unroll
                for (int i = 0; i < tile_side; ++i) {
#pragma unroll
                    for (int j = 0; j < tile_side; ++j) {
                        sum[t][i][j] += x[i] * y[j];
                    }
                }
            }
        }
    }
    // One round per tile of a thread: the groups meet in memory, and are added in their order.
#pragma unroll
    for (int t = 0; t < tiles; ++t) {
        const int offset = t * team.size();
        team.sync();
        if (first[t] < points) {
#pragma unroll
            for (int i = 0; i < tile_side; ++i) {
#pragma unroll
                for (int j = 0; j < tile_side; ++j) {
                    memory[team.rank() * tile_entries + i * tile_side + j] = sum[t][i][j];
                }
            }
        }
        team.sync();
        const int here = smaller(count - offset, team.size());
        for (int e = team.rank(); e < here * tile_entries; e += team.size()) {
            double total = 0;
            for (int g = 0; g < groups; ++g) {
                total += memory[g * count * tile_entries + e];
            }
            int tile = offset + e / tile_entries, ti = 0, tj = 0;
            if (lower) {
                while (tile > ti) {
                    tile -= ++ti;
                }
                tj = tile;
            } else {
                ti = tile / tile_count(right_rows);
                tj = tile % tile_count(right_rows);
            }
            const int i = ti * tile_side + e % tile_entries / tile_side;
            const int j = tj * tile_side + e % tile_side;
            if (i < left_rows && j < right_rows && !(lower && j > i)) {
                out[i * right_rows + j] = total;
                if (lower) {
                    out[j * right_rows + i] = total;
                }
            }
        }
    }
    team.sync();
}

/// Asks for shared memory above the default limit, for as much as the device has: another thread
/// may be about to start the same kernel with more.
template <typename... Parameters>
cudaError_t allow_shared(void (*kernel)(Parameters...), std::size_t shared) {
    constexpr std::size_t default_shared = 48 * 1024;
    if (shared <= default_shared) {
        return cudaSuccess;
    }
    int device = 0, most = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    }
    return error != cudaSuccess ? error
                                : cudaFuncSetAttribute(
                                      reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      larger(most, static_cast<int>(shared))
                                  );
}

/// Shared memory that a block of the current device can have, 0 when it cannot be asked.
std::size_t most_shared();

/// The grid of so many blocks. Along its first axis a device takes 2^31 - 1.
dim3 grid_of(int64_t blocks);

/// The same error, which the run time forgets: it belongs to this call and to no later one.
inline cudaError_t reported(cudaError_t error) {
    if (error != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
    }
    return error;
}

/// Starts a kernel that finds its work by block_index(); `shared` above the default limit is asked
/// for. Returns the first error.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(
    void (*kernel)(Parameters...),
    int64_t blocks,
    int threads,
    std::size_t shared,
    cudaStream_t stream,
    const Arguments&... arguments
) {
    const cudaError_t error = allow_shared(kernel, shared);
    if (error != cudaSuccess) {
        return reported(error);
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid_of(blocks);
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    return reported(cudaLaunchKernelEx(&config, kernel, arguments...));
}

}  // namespace physcon::cuda
