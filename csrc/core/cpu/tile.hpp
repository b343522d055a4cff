// SPDX-License-Identifier: Apache-2.0
// Register tiles. Blocks of `block` points are packed row by row, padded with zeros to whole tiles,
// so that the inner loops have neither tails nor branches.
#pragma once

#include "simd.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr int tile_rows = 4;
inline constexpr int tile_vectors = 4;
inline constexpr int64_t block =
    128;  // points packed at once: a row of a block is 8 vectors of 512 bits in float

inline constexpr int64_t tiles(int64_t rank) {
    return (rank + tile_rows - 1) / tile_rows;
}
inline constexpr int64_t padded_rank(int64_t rank) {
    return tiles(rank) * tile_rows;
}

template <int... index, typename Body>
[[gnu::always_inline]] inline void unrolled(Body&& body, std::integer_sequence<int, index...>) {
    (body(std::integral_constant<int, index>{}), ...);
}
/// body(0), ..., body(count - 1) with constant indices: arrays of vectors indexed by them stay in
/// registers, which gcc otherwise gives up where a loop holds a branch.
template <int count, typename Body>
[[gnu::always_inline]] inline void unrolled(Body&& body) {
    unrolled(body, std::make_integer_sequence<int, count>{});
}

/// Calls step(full, p, lanes) for the whole vectors of `count` points, then for what is left.
template <int lanes, typename Step>
inline void each_vector(int64_t count, Step&& step) {
    int64_t p = 0;
    for (; p + lanes <= count; p += lanes) {
        step(std::true_type{}, p, lanes);
    }
    if (p < count) {
        step(std::false_type{}, p, static_cast<int>(count - p));
    }
}

/// Calls step(vectors, full, p, live) for tile_vectors vectors of X at a time, then for one.
template <typename X, typename Step>
inline void each_tile(int64_t begin, int64_t end, Step&& step) {
    int64_t p = begin;
    for (; p + tile_vectors * width<X> <= end; p += tile_vectors * width<X>) {
        step(std::integral_constant<int, tile_vectors>{}, std::true_type{}, p, width<X>);
    }
    each_vector<width<X>>(end - p, [&](auto full, int64_t at, int live) {
        step(std::integral_constant<int, 1>{}, full, p + at, live);
    });
}

/// Small matrices as the tiles read them: for each group of 4 rows, column after column, 4 entries
/// each. `columns_of(group)` entries are kept: all of them, or those up to the diagonal of a lower
/// triangle.
template <typename T>
inline void pack_matrix(const double* matrix, int64_t rank, T* packed) {
    for (int64_t group = 0; group < tiles(rank); ++group) {
        for (int64_t j = 0; j < padded_rank(rank); ++j) {
            for (int i = 0; i < tile_rows; ++i) {
                const int64_t row = group * tile_rows + i;
                *packed++ = row < rank && j < rank ? static_cast<T>(matrix[row * rank + j]) : T(0);
            }
        }
    }
}

/// sum[i] += packed[i] x for the rows from `first` of four, x being `vectors` vectors of points.
template <bool full, int first, int vectors, typename X, typename T>
inline void multiply_column(
    const X* packed, const T* x, int live, Vector<X> (&sum)[tile_rows][vectors]
) {
    Vector<X> value[vectors];
    for (int v = 0; v < vectors; ++v) {
        value[v] = load_as<X, full>(x + v * width<X>, live);
    }
    for (int i = first; i < tile_rows; ++i) {
        for (int v = 0; v < vectors; ++v) {
            sum[i][v] += packed[i] * value[v];
        }
    }
}

/// Four rows of a lower triangle times `vectors` vectors of points: sum[i] = sum_j matrix[i][j]
/// x[j] for rows 4 group .. 4 group + 3. `x` are `rank` rows, `stride` elements apart.
template <bool full, int vectors, typename X, typename T>
inline void multiply_lower(
    const X* packed,
    int64_t group,
    int64_t rank,
    const T* x,
    int64_t stride,
    int live,
    Vector<X> (&sum)[tile_rows][vectors]
) {
    for (int i = 0; i < tile_rows; ++i) {
        for (int v = 0; v < vectors; ++v) {
            sum[i][v] = Vector<X>{};
        }
    }
    for (int64_t j = 0; j < group * tile_rows; ++j, packed += tile_rows) {
        multiply_column<full, 0>(packed, x + j * stride, live, sum);
    }
    const auto last = [&](int64_t j) {
        return x + smaller(group * tile_rows + j, rank - 1) * stride;
    };
    multiply_column<full, 0>(packed, last(0), live, sum);
    multiply_column<full, 1>(packed + tile_rows, last(1), live, sum);
    multiply_column<full, 2>(packed + 2 * tile_rows, last(2), live, sum);
    multiply_column<full, 3>(packed + 3 * tile_rows, last(3), live, sum);
}

/// Four rows of matrix * x for `vectors` vectors of points starting at `p`: sum[i][v] = sum_j
/// matrix[i][j] x[j].
template <int vectors, typename T>
inline void multiply_tile(
    const T* packed,
    const T* x,
    int64_t x_stride,
    int64_t columns,
    Vector<T> (&sum)[tile_rows][vectors]
) {
    for (int i = 0; i < tile_rows; ++i) {
        for (int v = 0; v < vectors; ++v) {
            sum[i][v] = Vector<T>{};
        }
    }
    for (int64_t j = 0; j < columns; ++j, packed += tile_rows, x += x_stride) {
        Vector<T> value[vectors];
        for (int v = 0; v < vectors; ++v) {
            value[v] = load(x + v * width<T>);
        }
        for (int i = 0; i < tile_rows; ++i) {
            for (int v = 0; v < vectors; ++v) {
                sum[i][v] += packed[i] * value[v];
            }
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
