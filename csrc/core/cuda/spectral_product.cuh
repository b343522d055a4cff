// SPDX-License-Identifier: Apache-2.0
// One product for all stages of the convolutions: transforms and mixing are sums over pairs of
// numbers times pairs of numbers, which differ in their signs only.
//
// A block holds a tile of the result in registers and walks over the sum in steps: operands go
// through shared memory, fetched by functions of the caller, zeros where nothing exists. Sums are
// formed in an order that depends on the sizes only.
#pragma once

#include "device.cuh"

namespace physcon::cuda {

template <typename T>
struct alignas(2 * sizeof(T)) Pair {
    T re, im;
};
template <typename T>
__device__ inline Pair<T>& operator+=(Pair<T>& a, const Pair<T>& b) {
    a.re += b.re;
    a.im += b.im;
    return a;
}

/// What becomes of (a, b) and (c, s): the two sums.
enum class Form {
    folded_analysis,   ///< a c, -b s
    folded_synthesis,  ///< a c, b s
    plain,             ///< (a + i b) (c + i s)
    conjugate_right,   ///< (a + i b) (c - i s)
    conjugate_left,    ///< (a - i b) (c + i s)
};

/// How a tile is cut and where its operands are contiguous in memory.
template <int rows_, int row_threads_, bool left_along_rows_, bool right_along_columns_>
struct Cut {
    static constexpr int rows = rows_;                ///< of a thread
    static constexpr int row_threads = row_threads_;  ///< threads below each other
    static constexpr bool left_along_rows = left_along_rows_;
    static constexpr bool right_along_columns = right_along_columns_;
    static constexpr int tile_rows = rows * row_threads;
};

constexpr int thread_columns = 4;
constexpr int most_product_threads = 256;
template <typename T>
constexpr int product_steps = 128 / static_cast<int>(sizeof(T));  // of a tile in shared memory
// Single-precision sums of more terms are put aside and started anew.
constexpr int most_terms = 128;

template <typename C, typename T>
__host__ __device__ constexpr int left_pitch() {
    return C::tile_rows + 4;  // 16-byte aligned; steps lie in different banks
}
/// Bytes of shared memory for a block with this many threads side by side.
template <typename C, typename T>
__host__ __device__ constexpr std::size_t product_bytes(int column_threads) {
    return static_cast<std::size_t>(product_steps<T>) *
           (2 * left_pitch<C, T>() + 2 * (thread_columns * column_threads + 1)) * sizeof(T);
}

template <typename T, int count>
struct alignas(count * sizeof(T) < 16 ? count * sizeof(T) : 16) Run {
    T value[count];
};

template <Form form, typename T>
__device__ inline void accumulate(T a, T b, const Pair<T>& z, T& first, T& second) {
    if (form == Form::folded_analysis) {
        first += a * z.re;
        second -= b * z.im;
    } else if (form == Form::folded_synthesis) {
        first += a * z.re;
        second += b * z.im;
    } else if (form == Form::plain) {
        first += a * z.re;
        first -= b * z.im;
        second += a * z.im;
        second += b * z.re;
    } else if (form == Form::conjugate_right) {
        first += a * z.re;
        first += b * z.im;
        second += b * z.re;
        second -= a * z.im;
    } else {
        first += a * z.re;
        first += b * z.im;
        second += a * z.im;
        second -= b * z.re;
    }
}

/// What a thread holds of the tile of its block.
template <typename C, typename T>
struct Sums {
    T first[C::rows][thread_columns] = {}, second[C::rows][thread_columns] = {};

    /// Calls use(row, column, first, second) for every entry.
    template <typename Use>
    __device__ void each(const Use& use) {
        const int column_threads = static_cast<int>(blockDim.x) / C::row_threads;
        const int across = static_cast<int>(threadIdx.x) % column_threads;
        const int down = static_cast<int>(threadIdx.x) / column_threads * C::rows;
#pragma unroll
        for (int r = 0; r < C::rows; ++r) {
#pragma unroll
            for (int j = 0; j < thread_columns; ++j) {
                use(down + r, across + j * column_threads, first[r][j], second[r][j]);
            }
        }
    }
    /// Adds other sums, which start anew.
    __device__ void take(Sums& other) {
#pragma unroll
        for (int r = 0; r < C::rows; ++r) {
#pragma unroll
            for (int j = 0; j < thread_columns; ++j) {
                first[r][j] += other.first[r][j];
                second[r][j] += other.second[r][j];
                other.first[r][j] = other.second[r][j] = 0;
            }
        }
    }
};

/// Adds the steps [begin, end) of left(step, row) times right(step, column). Operands are fetched
/// as `C` says, which is cut as the sums are.
template <Form form, typename C, typename T, typename Left, typename Right, typename Cut_>
__device__ void add_product(
    T* memory, int64_t begin, int64_t end, const Left& left, const Right& right, Sums<Cut_, T>& sums
) {
    static_assert(C::rows == Cut_::rows && C::row_threads == Cut_::row_threads);
    constexpr int steps = product_steps<T>, pitch = left_pitch<C, T>(), rows = C::rows;
    constexpr int octet = 8;  // steps that are fetched side by side
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
    const int column_threads = threads / C::row_threads;
    const int columns = column_threads * thread_columns;
    const int across = thread % column_threads, down = thread / column_threads * rows;
    T *a = memory, *b = a + steps * pitch;
    auto* basis = reinterpret_cast<Pair<T>*>(b + steps * pitch);

    constexpr bool aside = sizeof(T) == 4;
    Sums<Cut_, T> parts;
    Sums<Cut_, T>& current = aside ? parts : sums;
    int terms = 0;
    for (int64_t start = begin; start < end; start += steps) {
        const int count = static_cast<int>(smaller<int64_t>(steps, end - start));
        __syncthreads();  // the previous tiles have been used
        for (int e = thread; e < steps * C::tile_rows; e += threads) {
            const int row = C::left_along_rows ? e % C::tile_rows : e / octet % C::tile_rows;
            const int step = C::left_along_rows ? e / C::tile_rows
                                                : e / (octet * C::tile_rows) * octet + e % octet;
            if (step < count) {
                const Pair<T> z = left(start + step, row);
                a[step * pitch + row] = z.re;
                b[step * pitch + row] = z.im;
            }
        }
        for (int e = thread; e < steps * columns; e += threads) {
            const int column = C::right_along_columns ? e % columns : e / octet % columns;
            const int step =
                C::right_along_columns ? e / columns : e / (octet * columns) * octet + e % octet;
            if (step < count) {
                basis[step * (columns + 1) + column] = right(start + step, column);
            }
        }
        __syncthreads();
#pragma unroll 2
        for (int k = 0; k < count; ++k) {
            constexpr int run = smaller<int>(rows, 16 / static_cast<int>(sizeof(T)));
            Run<T, run> x[rows / run], y[rows / run];
            Pair<T> z[thread_columns];
#pragma unroll
            for (int r = 0; r < rows / run; ++r) {
                x[r] = *reinterpret_cast<const Run<T, run>*>(a + k * pitch + down + r * run);
                y[r] = *reinterpret_cast<const Run<T, run>*>(b + k * pitch + down + r * run);
            }
#pragma unroll
            for (int j = 0; j < thread_columns; ++j) {
                z[j] = basis[k * (columns + 1) + across + j * column_threads];
            }
#pragma unroll
            for (int r = 0; r < rows; ++r) {
#pragma unroll
                for (int j = 0; j < thread_columns; ++j) {
                    accumulate<form>(
                        x[r / run].value[r % run],
                        y[r / run].value[r % run],
                        z[j],
                        current.first[r][j],
                        current.second[r][j]
                    );
                }
            }
        }
        terms += steps;
        if (aside && terms >= most_terms) {
            terms = 0;
            sums.take(parts);
        }
    }
    if (aside) {
        sums.take(parts);
    }
}

/// Calls store(row, column, first, second) for every entry of the tile of this block, summed over
/// the steps [begin, end) of left(step, row) times right(step, column).
template <Form form, typename C, typename T, typename Left, typename Right, typename Store>
__device__ void pair_product(
    T* memory, int64_t begin, int64_t end, const Left& left, const Right& right, const Store& store
) {
    Sums<C, T> sums;
    add_product<form, C>(memory, begin, end, left, right, sums);
    sums.each(store);
}

}  // namespace physcon::cuda
