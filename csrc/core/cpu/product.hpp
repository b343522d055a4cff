// SPDX-License-Identifier: Apache-2.0
// The two products with an n x n matrix: C = left * matrix and out = base - left' right.
#pragma once

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

/// Four rows of out = base - left' right, from row i. `four` is scratch of 4 * rank.
template <typename T>
inline void downdate_rows(
    const T* base,
    const T* left,
    const T* right,
    int64_t rank,
    int64_t n,
    int64_t i,
    T* four,
    T* out
) {
    const int64_t rows = smaller<int64_t>(tile_rows, n - i);
    for (int64_t k = 0; k < rank; ++k) {
        for (int64_t r = 0; r < tile_rows; ++r) {
            four[k * tile_rows + r] = r < rows ? left[k * n + i + r] : T(0);
        }
    }
    const auto columns = [&](auto vectors_tag, auto full_tag, int64_t j) {
        constexpr int vectors = decltype(vectors_tag)::value;
        constexpr bool full = decltype(full_tag)::value;
        const int count = full ? width<T> : static_cast<int>(n - j);
        Vector<T> sum[tile_rows][vectors] = {};
        for (int64_t k = 0; k < rank; ++k) {
            Vector<T> value[vectors];
            for (int v = 0; v < vectors; ++v) {
                value[v] = load_lanes<full>(right + k * n + j + v * width<T>, count);
            }
            for (int r = 0; r < tile_rows; ++r) {
                for (int v = 0; v < vectors; ++v) {
                    sum[r][v] += four[k * tile_rows + r] * value[v];
                }
            }
        }
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t at = (i + r) * n + j;
            for (int v = 0; v < vectors; ++v) {
                const Vector<T> old = base == nullptr
                                          ? Vector<T>{}
                                          : load_lanes<full>(base + at + v * width<T>, count);
                store_lanes<full>(out + at + v * width<T>, old - sum[r][v], count);
                prefetch_to_write(out + at + v * width<T> + tile_rows * n);  // the next four rows
            }
        }
    };
    using Many = std::integral_constant<int, tile_vectors>;
    using One = std::integral_constant<int, 1>;
    int64_t j = 0;
    for (; j + tile_vectors * width<T> <= n; j += tile_vectors * width<T>) {
        columns(Many{}, std::true_type{}, j);
    }
    for (; j + width<T> <= n; j += width<T>) {
        columns(One{}, std::true_type{}, j);
    }
    if (j < n) {
        columns(One{}, std::false_type{}, j);
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
