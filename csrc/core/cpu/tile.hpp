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

inline int64_t tiles(int64_t rank) {
    return (rank + tile_rows - 1) / tile_rows;
}
inline int64_t padded_rank(int64_t rank) {
    return tiles(rank) * tile_rows;
}

/// Doubles in the accumulators of all 4 x 4 tiles of left right' (or its lower tiles only).
inline int64_t product_lanes(int64_t left_rows, int64_t right_rows, bool lower) {
    const int64_t rows = tiles(left_rows), columns = tiles(right_rows);
    return (lower ? rows * (rows + 1) / 2 : rows * columns) * tile_rows * tile_rows * width<double>;
}
inline int64_t gram_lanes(int64_t rank, bool lower) {
    return product_lanes(rank, rank, lower);
}

/// lanes += left right' over one packed block; lanes hold one vector per entry, tile after tile.
inline void product_block(
    const double* left,
    int64_t left_rows,
    const double* right,
    int64_t right_rows,
    bool lower,
    double* lanes
) {
    using V = Vector<double>;
    for (int64_t ti = 0; ti < tiles(left_rows); ++ti) {
        const double* a = left + ti * tile_rows * block;
        for (int64_t tj = 0; tj < (lower ? ti + 1 : tiles(right_rows)); ++tj) {
            const double* b = right + tj * tile_rows * block;
            V sum[tile_rows][tile_rows] = {};
            for (int64_t p = 0; p < block; p += width<double>) {
                V x[tile_rows];
                for (int i = 0; i < tile_rows; ++i) {
                    x[i] = load(a + i * block + p);
                }
                for (int j = 0; j < tile_rows; ++j) {
                    const V y = load(b + j * block + p);
                    for (int i = 0; i < tile_rows; ++i) {
                        sum[i][j] += x[i] * y;
                    }
                }
            }
            for (int i = 0; i < tile_rows; ++i) {
                for (int j = 0; j < tile_rows; ++j) {
                    store(lanes, load(lanes) + sum[i][j]);
                    lanes += width<double>;
                }
            }
        }
    }
}
inline void gram_block(
    const double* left, const double* right, int64_t rank, bool lower, double* lanes
) {
    product_block(left, rank, right, rank, lower, lanes);
}

/// Where product_block keeps the entry (row, column) of a full product.
inline const double* product_entry(
    const double* lanes, int64_t right_rows, int64_t row, int64_t column
) {
    const int64_t tile = row / tile_rows * tiles(right_rows) + column / tile_rows;
    const int64_t inside = row % tile_rows * tile_rows + column % tile_rows;
    return lanes + (tile * tile_rows * tile_rows + inside) * width<double>;
}

/// Adds up the lanes into a dense (rank, rank) matrix; a lower-only sum is mirrored.
inline void gram_finish(const double* lanes, int64_t rank, bool lower, double* gram) {
    for (int64_t ti = 0; ti < tiles(rank); ++ti) {
        for (int64_t tj = 0; tj < (lower ? ti + 1 : tiles(rank)); ++tj) {
            for (int i = 0; i < tile_rows; ++i) {
                for (int j = 0; j < tile_rows; ++j, lanes += width<double>) {
                    const int64_t row = ti * tile_rows + i, column = tj * tile_rows + j;
                    if (row >= rank || column >= rank || (lower && column > row)) {
                        continue;
                    }
                    gram[row * rank + column] = sum_lanes(load(lanes));
                    if (lower) {
                        gram[column * rank + row] = gram[row * rank + column];
                    }
                }
            }
        }
    }
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
