// SPDX-License-Identifier: Apache-2.0
// One product for all stages of the convolutions: transforms and mixing are sums over pairs of
// numbers times pairs of numbers, which differ in their signs only.
//
// A block holds a tile of the result in registers and walks over the sum in steps: operands go
// through shared memory, fetched by functions of the caller, zeros where nothing exists. Sums are
// formed in an order that depends on the sizes only.
#pragma once

#include "mma.cuh"

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

// Numbers from one step to the next. What the threads of a warp read or write at once lies in
// different banks: four numbers of a row, or on the matrix units four steps of eight rows or
// columns.
template <typename C>
__host__ __device__ constexpr int left_pitch(Arithmetic arithmetic) {
    return C::tile_rows + (on_matrix_units(arithmetic) ? 8 : 4);
}
__host__ __device__ constexpr int right_pitch(int columns, Arithmetic arithmetic) {
    return columns + (on_matrix_units(arithmetic) ? 8 : 1);
}
/// Bytes of shared memory for a block with this many threads side by side.
template <typename C, typename T>
__host__ __device__ constexpr std::size_t product_bytes(
    int column_threads, Arithmetic arithmetic = Arithmetic::fused
) {
    const int columns = thread_columns * column_threads;
    return static_cast<std::size_t>(product_steps<T>) *
           (2 * left_pitch<C>(arithmetic) + 2 * right_pitch(columns, arithmetic)) * sizeof(T);
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

// A warp on the matrix units owns 32 x 32 entries, a thread as many of them as otherwise.
constexpr int warp_side = 32;
constexpr int warp_row_tiles = warp_side / matrix_rows;
constexpr int warp_column_tiles = warp_side / matrix_columns;

/// The place of a warp on the matrix units in a tile of `rows`, and of a lane in an instruction.
struct WarpPlace {
    int row, column, group, member;
    __device__ explicit WarpPlace(int rows) {
        const int warp = static_cast<int>(threadIdx.x) / warp_size, down = rows / warp_side;
        row = warp % down * warp_side;
        column = warp / down * warp_side;
        group = static_cast<int>(threadIdx.x) % warp_size / quad;
        member = static_cast<int>(threadIdx.x) % quad;
    }
};

/// What a thread holds of the tile of its block: rows and columns of its own, or on the matrix
/// units four numbers of each instruction, `warp_column_tiles` of them for 16 rows.
template <typename C, typename T, Arithmetic arithmetic = Arithmetic::fused>
struct Sums {
    static_assert(arithmetic == Arithmetic::fused || sizeof(T) == 4);
    T first[C::rows][thread_columns] = {}, second[C::rows][thread_columns] = {};

    /// Calls use(row, column, first, second) for every entry.
    template <typename Use>
    __device__ void each(const Use& use) {
        if constexpr (on_matrix_units(arithmetic)) {
            static_assert(C::rows == warp_row_tiles * warp_column_tiles && thread_columns == 4);
            const WarpPlace at(C::tile_rows);
#pragma unroll
            for (int t = 0; t < C::rows; ++t) {
#pragma unroll
                for (int i = 0; i < thread_columns; ++i) {
                    const int row = t / warp_column_tiles * matrix_rows + at.group + i / 2 * 8;
                    const int column =
                        t % warp_column_tiles * matrix_columns + 2 * at.member + i % 2;
                    use(at.row + row, at.column + column, first[t][i], second[t][i]);
                }
            }
        } else {
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

/// sum += left(step, row) right(step, column), numbers of 16 steps, on the matrix units.
template <Arithmetic arithmetic, int tiles, typename Left, typename Right>
__device__ inline void multiply_steps(
    const WarpPlace& at, const Left& left, const Right& right, float (&sum)[tiles][4]
) {
    // Operands are read anew in each call: there are no registers to keep them in.
    __syncwarp();
    Operand<4, arithmetic> a[warp_row_tiles][2];
#pragma unroll
    for (int i = 0; i < warp_row_tiles; ++i) {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
            const int row = at.row + i * matrix_rows + at.group + e % 2 * 8;
            a[i][e / 4].set(e % 4, left(at.member + e / 2 * quad, row));
        }
    }
#pragma unroll
    for (int j = 0; j < warp_column_tiles; ++j) {
        Operand<2, arithmetic> b[2];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int column = at.column + j * matrix_columns + at.group;
            b[e / 2].set(e % 2, right(at.member + e * quad, column));
        }
#pragma unroll
        for (int i = 0; i < warp_row_tiles; ++i) {
            multiply(sum[i * warp_column_tiles + j], a[i], b);
        }
    }
}

/// The products of a form, 16 steps of them: a and b by step and row, c and s by step and
/// column.
template <
    Form form,
    typename Cut_,
    Arithmetic arithmetic,
    typename A,
    typename B,
    typename C,
    typename S>
__device__ inline void multiply_pairs(
    const A& a, const B& b, const C& c, const S& s, Sums<Cut_, float, arithmetic>& sums
) {
    const WarpPlace at(Cut_::tile_rows);
    const auto minus_s = [&](int step, int column) { return -s(step, column); };
    multiply_steps<arithmetic>(at, a, c, sums.first);
    if constexpr (form == Form::folded_analysis) {
        multiply_steps<arithmetic>(at, b, minus_s, sums.second);
    } else if constexpr (form == Form::folded_synthesis) {
        multiply_steps<arithmetic>(at, b, s, sums.second);
    } else if constexpr (form == Form::plain) {
        multiply_steps<arithmetic>(at, b, minus_s, sums.first);
        multiply_steps<arithmetic>(at, a, s, sums.second);
        multiply_steps<arithmetic>(at, b, c, sums.second);
    } else {
        static_assert(form == Form::conjugate_right);
        multiply_steps<arithmetic>(at, b, s, sums.first);
        multiply_steps<arithmetic>(at, a, minus_s, sums.second);
        multiply_steps<arithmetic>(at, b, c, sums.second);
    }
}

/// put(e, get(e)) for the entries of this thread from `e` on, as long as there are whole batches of
/// them: the numbers of a batch are all on their way before the first is waited for. Returns the
/// next entry.
template <int batch, typename Get, typename Put>
__device__ inline int fetch_batches(int e, int entries, const Get& get, const Put& put) {
    const int threads = static_cast<int>(blockDim.x);
#pragma unroll 1
    for (; e + (batch - 1) * threads < entries; e += batch * threads) {
        decltype(get(0)) z[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            z[i] = get(e + i * threads);
        }
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            put(e + i * threads, z[i]);
        }
    }
    return e;
}

/// put(e, get(e)) for the entries below `entries`, shared by the threads of a block.
template <int batch = 8, typename Get, typename Put>
__device__ inline void fetch_together(int entries, const Get& get, const Put& put) {
    int e = static_cast<int>(threadIdx.x);
    e = fetch_batches<batch>(e, entries, get, put);
    e = fetch_batches<2>(e, entries, get, put);
    fetch_batches<1>(e, entries, get, put);
}

/// put(step, at, number(step, at)) for `count` steps of `width` numbers, a power of two. `along`:
/// the numbers of a step lie side by side in memory, else those of eight steps are read side by
/// side. The matrix units take 16 steps or none: those past the end are zero.
///
/// A thread waits for a load that it reads within a branch before it asks for the next, so numbers
/// that do not exist are not skipped here: nothing is done with them, and others stand in.
template <bool matrix, bool along, typename T, typename Number, typename Put>
__device__ inline void fetch_tile(int count, int width, const Number& number, const Put& put) {
    constexpr int octet = 8, unit = matrix ? matrix_group : along ? 1 : octet;
    const int entries = (count + unit - 1) / unit * unit * width;
    int bits = 0;
    while (1 << bits < width) {
        ++bits;
    }
    const auto step_of = [&](int e) {
        return along ? e >> bits : (e / octet >> bits) * octet + e % octet;
    };
    const auto place_of = [&](int e) { return (along ? e : e / octet) & (width - 1); };
    const auto get = [&](int e) -> Pair<T> {
        const int step = step_of(e);
        const Pair<T> z = number(smaller(step, count - 1), place_of(e));
        return !matrix || step < count ? z : Pair<T>{0, 0};
    };
    const auto store = [&](int e, const Pair<T>& z) { put(step_of(e), place_of(e), z); };
    // Double precision has no registers for more.
    fetch_together<sizeof(T) == 4 ? 8 : 2>(entries, get, store);
}

/// Adds the steps [begin, end) of left(step, row) times right(step, column). Operands are fetched
/// as `C` says, which is cut as the sums are.
template <
    Form form,
    typename C,
    typename T,
    typename Left,
    typename Right,
    typename Cut_,
    Arithmetic arithmetic>
__device__ void add_product(
    T* memory,
    int64_t begin,
    int64_t end,
    const Left& left,
    const Right& right,
    Sums<Cut_, T, arithmetic>& sums
) {
    static_assert(C::rows == Cut_::rows && C::row_threads == Cut_::row_threads);
    constexpr bool matrix = on_matrix_units(arithmetic);
    constexpr int steps = product_steps<T>, pitch = left_pitch<C>(arithmetic);
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
    const int column_threads = threads / C::row_threads;
    const int columns = column_threads * thread_columns;
    const int basis_pitch = right_pitch(columns, arithmetic);
    T *a = memory, *b = a + steps * pitch;
    T *c = b + steps * pitch, *s = c + steps * basis_pitch;
    auto* basis = reinterpret_cast<Pair<T>*>(c);

    constexpr bool aside = sizeof(T) == 4 && !matrix;
    Sums<Cut_, T, arithmetic> parts;
    Sums<Cut_, T, arithmetic>& current = aside ? parts : sums;
    int terms = 0;
    for (int64_t start = begin; start < end; start += steps) {
        const int count = static_cast<int>(smaller<int64_t>(steps, end - start));
        __syncthreads();  // the previous tiles have been used
        fetch_tile<matrix, C::left_along_rows, T>(
            count,
            C::tile_rows,
            [&](int step, int row) { return left(start + step, row); },
            [&](int step, int row, const Pair<T>& z) {
                a[step * pitch + row] = z.re;
                b[step * pitch + row] = z.im;
            }
        );
        fetch_tile<matrix, C::right_along_columns, T>(
            count,
            columns,
            [&](int step, int column) { return right(start + step, column); },
            [&](int step, int column, const Pair<T>& z) {
                if constexpr (matrix) {
                    c[step * basis_pitch + column] = z.re;
                    s[step * basis_pitch + column] = z.im;
                } else {
                    basis[step * basis_pitch + column] = z;
                }
            }
        );
        __syncthreads();
        if constexpr (matrix) {
#pragma unroll 1
            for (int k = 0; k < count; k += matrix_group) {
                const auto in = [&](const T* plane, int plane_pitch) {
                    return [=](int step, int at) { return plane[(k + step) * plane_pitch + at]; };
                };
                multiply_pairs<form>(
                    in(a, pitch), in(b, pitch), in(c, basis_pitch), in(s, basis_pitch), current
                );
            }
        } else {
            constexpr int rows = C::rows;
            const int across = thread % column_threads, down = thread / column_threads * rows;
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
                    z[j] = basis[k * basis_pitch + across + j * column_threads];
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
template <
    Form form,
    typename C,
    Arithmetic arithmetic = Arithmetic::fused,
    typename T,
    typename Left,
    typename Right,
    typename Store>
__device__ void pair_product(
    T* memory, int64_t begin, int64_t end, const Left& left, const Right& right, const Store& store
) {
    Sums<C, T, arithmetic> sums;
    add_product<form, C>(memory, begin, end, left, right, sums);
    sums.each(store);
}

}  // namespace physcon::cuda
