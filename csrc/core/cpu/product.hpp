// SPDX-License-Identifier: Apache-2.0
// The two products with an n x n matrix: C = left * matrix and out = base - left' right.
#pragma once

#include "shuffle.hpp"
#include "tile.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// left (rank, n) as tiles read it: for each group of 4 rows, column after column.
template <typename T>
inline void pack_rows(const T* left, int64_t rank, int64_t n, T* packed) {
    for (int64_t group = 0; group < tiles(rank); ++group) {
        for (int64_t i = 0; i < tile_rows; ++i) {
            const int64_t row = group * tile_rows + i;
            T* out = packed + group * n * tile_rows + i;
            for (int64_t j = 0; j < n; ++j) {
                out[j * tile_rows] = row < rank ? left[row * n + j] : T(0);
            }
        }
    }
}

/// Columns [j, j + vectors * width) of left * matrix; partial sums of 256 rows keep single
/// precision honest.
template <int vectors, bool full, typename T>
inline void multiply_columns(
    const T* packed, const T* matrix, int64_t rank, int64_t n, int64_t j, T* out
) {
    constexpr int64_t run = 256;
    const int count = full ? width<T> : static_cast<int>(n - j);
    for (int64_t group = 0; group < tiles(rank); ++group) {
        const T* entries = packed + group * n * tile_rows;
        Vector<T> total[tile_rows][vectors] = {};
        for (int64_t start = 0; start < n; start += run) {
            const int64_t stop = smaller(start + run, n);
            Vector<T> sum[tile_rows][vectors] = {};
            for (int64_t i = start; i < stop; ++i) {
                const T* row = matrix + i * n + j;
                Vector<T> value[vectors];
                for (int v = 0; v < vectors; ++v) {
                    value[v] = load_lanes<full>(row + v * width<T>, count);
                }
                const T* four = entries + i * tile_rows;
                for (int r = 0; r < tile_rows; ++r) {
                    for (int v = 0; v < vectors; ++v) {
                        sum[r][v] += four[r] * value[v];
                    }
                }
            }
            for (int r = 0; r < tile_rows; ++r) {
                for (int v = 0; v < vectors; ++v) {
                    total[r][v] += sum[r][v];
                }
            }
        }
        for (int r = 0; r < tile_rows && group * tile_rows + r < rank; ++r) {
            T* target = out + (group * tile_rows + r) * n + j;
            for (int v = 0; v < vectors; ++v) {
                store_lanes<full>(target + v * width<T>, total[r][v], count);
            }
        }
    }
}

inline constexpr int64_t column_panel =
    64;  // columns handed out at once: whole vectors for every type

/// out columns [panel * 64, panel * 64 + 64) of left * matrix.
template <typename T>
inline void multiply_panel(
    const T* packed, const T* matrix, int64_t rank, int64_t n, int64_t panel, T* out
) {
    int64_t j = panel * column_panel;
    const int64_t stop = smaller(j + column_panel, n);
    for (; j + tile_vectors * width<T> <= stop; j += tile_vectors * width<T>) {
        multiply_columns<tile_vectors, true>(packed, matrix, rank, n, j, out);
    }
    for (; j + width<T> <= stop; j += width<T>) {
        multiply_columns<1, true>(packed, matrix, rank, n, j, out);
    }
    if (j < stop) {
        multiply_columns<1, false>(packed, matrix, rank, n, j, out);
    }
}

/// base[at ..] - sum; without a base it is zero.
template <bool full, typename T>
inline Vector<T> downdate(const T* base, Vector<T> sum, int64_t at, int live) {
    return (base == nullptr ? Vector<T>{} : load_lanes<full>(base + at, live)) - sum;
}

/// Columns from `j` of four rows of out = base - left' left, from row i. `four` is scratch of
/// 4 * rank.
template <typename T>
inline void downdate_rows(
    const T* base, const T* left, int64_t rank, int64_t n, int64_t i, int64_t j, T* four, T* out
) {
    const int64_t rows = smaller<int64_t>(tile_rows, n - i);
    for (int64_t k = 0; k < rank; ++k) {
        for (int64_t r = 0; r < tile_rows; ++r) {
            four[k * tile_rows + r] = r < rows ? left[k * n + i + r] : T(0);
        }
    }
    each_tile<T>(j, n, [&](auto tag, auto full, int64_t at, int live) {
        constexpr int vectors = decltype(tag)::value;
        constexpr bool is_full = decltype(full)::value;
        Vector<T> sum[tile_rows][vectors] = {};
        for (int64_t k = 0; k < rank; ++k) {
            Vector<T> value[vectors];
            for (int v = 0; v < vectors; ++v) {
                value[v] = load_lanes<is_full>(left + k * n + at + v * width<T>, live);
            }
            for (int r = 0; r < tile_rows; ++r) {
                for (int v = 0; v < vectors; ++v) {
                    sum[r][v] += four[k * tile_rows + r] * value[v];
                }
            }
        }
        for (int64_t r = 0; r < rows; ++r) {
            for (int v = 0; v < vectors; ++v) {
                const int64_t to = (i + r) * n + at + v * width<T>;
                store_lanes<is_full>(out + to, downdate<is_full>(base, sum[r][v], to, live), live);
            }
        }
    });
}

/// One square tile of out = base - left' left and the tile that mirrors it, row i, column j >= i.
/// `factor` holds the columns of `left` that belong to the rows.
template <bool streamed, typename T>
inline void downdate_tile(
    const T* base,
    const T* factor,
    const T* left,
    int64_t rank,
    int64_t n,
    int64_t i,
    int64_t j,
    T* out
) {
    constexpr int64_t side = width<T>;
    Vector<T> sum[side] = {};
    for (int64_t k = 0; k < rank; ++k) {
        const Vector<T> value = load(left + k * n + j);
        for (int64_t r = 0; r < side; ++r) {
            sum[r] += factor[k * side + r] * value;
        }
    }
    const auto put = [&](int64_t at, Vector<T> value) {
        const Vector<T> result = downdate<true>(base, value, at, side);
        if (streamed && i != j) {  // what is on the diagonal is written again
            stream(out + at, result);
        } else {
            store(out + at, result);
        }
    };
    for (int64_t r = 0; r < side; ++r) {
        if (!streamed) {
            prefetch_to_write(out + (j + side + r) * n + i);  // the next tile's mirror image
        }
        put((i + r) * n + j, sum[r]);
    }
    if (i == j) {
        return;
    }
    transpose<1, T>(sum);
    for (int64_t r = 0; r < side; ++r) {
        put((j + r) * n + i, sum[r]);
    }
}

/// Tiles per side of a block, whose mirror image then consists of runs of whole cache lines.
inline constexpr int64_t block_tiles = 4;

template <typename T>
inline int64_t downdate_scratch(int64_t rank) {
    return larger<int64_t>(tile_rows, block_tiles * width<T>) * rank;
}

/// How many parts of out = base - left' left may be computed at the same time.
template <typename T>
inline int64_t downdate_parts(int64_t n) {
    const int64_t blocks = (n / width<T> + block_tiles - 1) / block_tiles;
    return (blocks + 1) / 2 + 1;
}

/// Part of out = base - left' left: a row of blocks from the top and one from the bottom, which
/// together are as long for every part; the last part is what tiles do not cover. `scratch` holds
/// downdate_scratch<T>(rank) values. Results that no cache can hold are `streamed`, which needs
/// rows of whole aligned vectors.
template <typename T>
inline void downdate_part(
    const T* base,
    const T* left,
    int64_t rank,
    int64_t n,
    int64_t part,
    bool streamed,
    T* scratch,
    T* out
) {
    constexpr int64_t side = width<T>, step = block_tiles * side;
    const int64_t covered = n / side * side, blocks = (covered + step - 1) / step;
    if (part == downdate_parts<T>(n) - 1) {
        for (int64_t i = 0; i < n && covered < n; i += tile_rows) {
            downdate_rows(base, left, rank, n, i, i < covered ? covered : 0, scratch, out);
        }
        return;
    }
    const int64_t rows[2] = {part, blocks - 1 - part};
    for (int64_t which = 0; which < (rows[0] == rows[1] ? 1 : 2); ++which) {
        const int64_t first = rows[which] * step, last = smaller(first + step, covered);
        for (int64_t i = first; i < last; i += side) {
            for (int64_t k = 0; k < rank; ++k) {
                store(scratch + (i - first) * rank + k * side, load(left + k * n + i));
            }
        }
        for (int64_t column = first; column < covered; column += step) {
            const int64_t end = smaller(column + step, covered);
            for (int64_t i = first; i < last; i += side) {
                const T* factor = scratch + (i - first) * rank;
                for (int64_t j = larger(column, i); j < end; j += side) {
                    if (streamed) {
                        downdate_tile<true>(base, factor, left, rank, n, i, j, out);
                    } else {
                        downdate_tile<false>(base, factor, left, rank, n, i, j, out);
                    }
                }
            }
        }
    }
    finish_streams();
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
