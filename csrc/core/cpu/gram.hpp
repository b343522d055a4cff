// SPDX-License-Identifier: Apache-2.0
// Sums over the points of products of rows: 4 x 4 register tiles that read the caller's rows in
// place and widen them on the way.
//
// Lanes hold one vector of doubles per entry, tile after tile; a run of points is summed in
// registers in double precision and then added to them.
// The order of additions depends on nothing but the points.
#pragma once

#include "tile.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr int64_t gram_run = 256;  // points whose rows stay in the first-level cache

/// `count` rows of points, `stride` elements apart.
template <typename T>
struct Rows {
    const T* data;
    int64_t stride, count;
    Rows from(int64_t point) const {
        return {data + point, stride, count};
    }
    /// Four rows from `first`; behind the last row its copies, whose sums nobody reads.
    void four(int64_t first, const T* (&out)[tile_rows]) const {
        for (int64_t i = 0; i < tile_rows; ++i) {
            out[i] = data + smaller(first + i, count - 1) * stride;
        }
    }
};

/// Points of many rows at a time that are copied side by side before they are read more than once:
/// more rows than the hardware follows as streams.
inline constexpr int64_t copied_rank = 17;
inline constexpr int64_t copied_points = 128;
inline constexpr int64_t pass_points(int64_t rank) {
    return rank >= copied_rank ? copied_points : gram_run;
}
/// `count` points of the rows, in place or, for many rows, copied to `buffer`.
template <typename T>
inline Rows<T> nearby(const Rows<T>& rows, int64_t count, T* buffer) {
    if (rows.count < copied_rank) {
        return rows;
    }
    for (int64_t k = 0; k < rows.count; ++k) {
        const T* from = rows.data + k * rows.stride;
        T* to = buffer + k * copied_points;
        each_vector<width<T>>(count, [&](auto full, int64_t p, int live) {
            constexpr bool is_full = decltype(full)::value;
            prefetch(from + p + copied_points);
            store_lanes<is_full>(to + p, load_lanes<is_full>(from + p, live), live);
        });
    }
    return {buffer, copied_points, rows.count};
}

/// Doubles in the accumulators of all 4 x 4 tiles of left right' (or its lower tiles only).
inline int64_t product_lanes(int64_t left_rows, int64_t right_rows, bool lower) {
    const int64_t rows = tiles(left_rows), columns = tiles(right_rows);
    return (lower ? rows * (rows + 1) / 2 : rows * columns) * tile_rows * tile_rows * width<double>;
}
inline int64_t gram_lanes(int64_t rank, bool lower) {
    return product_lanes(rank, rank, lower);
}
/// Doubles in the accumulators of `rows` products with one vector.
inline int64_t dot_lanes(int64_t rows) {
    return round_up(rows, larger<int64_t>(tile_rows, width<double>)) * width<double>;
}

inline void add_to_lanes(double* lanes, Vector<double> sum) {
    store(lanes, load(lanes) + sum);
}
/// One tile: lanes += left diag(weight) right' over `count` points; without a weight it is one.
template <bool weighted, typename L, typename R, typename W>
inline void product_tile(
    const L* const (&left)[tile_rows],
    const R* const (&right)[tile_rows],
    const W* weight,
    int64_t count,
    double* lanes
) {
    using V = Vector<double>;
    V sum[tile_rows][tile_rows] = {};
    each_vector<width<double>>(count, [&](auto full, int64_t p, int live) {
        constexpr bool is_full = decltype(full)::value;
        V x[tile_rows];
        for (int i = 0; i < tile_rows; ++i) {
            x[i] = load_as<double, is_full>(left[i] + p, live);
        }
        if constexpr (weighted) {
            const V w = load_as<double, is_full>(weight + p, live);
            for (int i = 0; i < tile_rows; ++i) {
                x[i] *= w;
            }
        }
        for (int j = 0; j < tile_rows; ++j) {
            const V y = load_as<double, is_full>(right[j] + p, live);
            for (int i = 0; i < tile_rows; ++i) {
                sum[i][j] += x[i] * y;
            }
        }
    });
    for (int i = 0; i < tile_rows; ++i) {
        for (int j = 0; j < tile_rows; ++j) {
            add_to_lanes(lanes + (i * tile_rows + j) * width<double>, sum[i][j]);
        }
    }
}

/// A tile on the diagonal of rows diag(weight) rows', without what is above the diagonal, and the
/// products of its rows with one vector. With `keep`, `scaled` receives the rows times the weight,
/// gram_run apart, for the tiles left of this one.
template <bool keep, typename T, typename W, typename X>
inline void diagonal_tile(
    const T* const (&rows)[tile_rows],
    const W* weight,
    const X* vector,
    int64_t count,
    int64_t ahead,
    double* scaled,
    double* lanes,
    double* dots
) {
    using V = Vector<double>;
    V sum[tile_rows][tile_rows] = {}, dot[tile_rows] = {};
    each_vector<width<double>>(count, [&](auto full, int64_t p, int live) {
        constexpr bool is_full = decltype(full)::value;
        const V w = load_as<double, is_full>(weight + p, live);
        const V v = load_as<double, is_full>(vector + p, live);
        V y[tile_rows];
        for (int i = 0; i < tile_rows; ++i) {
            prefetch(rows[i] + p + ahead);
            y[i] = load_as<double, is_full>(rows[i] + p, live);
            dot[i] += y[i] * v;
            const V x = y[i] * w;
            if constexpr (keep) {
                store(scaled + i * gram_run + p, x);
            }
            for (int j = 0; j <= i; ++j) {
                sum[i][j] += x * y[j];
            }
        }
    });
    for (int i = 0; i < tile_rows; ++i) {
        add_to_lanes(dots + i * width<double>, dot[i]);
        for (int j = 0; j <= i; ++j) {
            add_to_lanes(lanes + (i * tile_rows + j) * width<double>, sum[i][j]);
        }
    }
}

constexpr int64_t tile_lanes = tile_rows * tile_rows * width<double>;

/// lanes += left diag(weight) right' over `count` points.
template <bool weighted, typename L, typename R, typename W>
inline void add_products(
    const Rows<L>& left, const Rows<R>& right, int64_t count, const W* weight, double* lanes
) {
    for (int64_t j = 0; j < tiles(right.count); ++j) {
        const R* b[tile_rows];
        right.four(j * tile_rows, b);
        for (int64_t i = 0; i < tiles(left.count); ++i) {
            const L* a[tile_rows];
            left.four(i * tile_rows, a);
            double* tile = lanes + (i * tiles(right.count) + j) * tile_lanes;
            product_tile<weighted>(a, b, weight, count, tile);
        }
    }
}

/// lanes += rows diag(weight) rows', lower tiles; dots += rows times one vector. At most gram_run
/// points; `ahead` elements further is what the caller reads next.
template <typename T, typename W, typename X>
inline void add_gram(
    const Rows<T>& rows,
    int64_t count,
    int64_t ahead,
    const W* weight,
    const X* vector,
    double* lanes,
    double* dots
) {
    alignas(vector_bytes) double scaled[tile_rows * gram_run];
    const double *x[tile_rows], *none = nullptr;
    Rows<double>{scaled, gram_run, tile_rows}.four(0, x);
    for (int64_t i = 0; i < rows.count; i += tile_rows) {
        const T* a[tile_rows];
        rows.four(i, a);
        double *last = lanes + i / tile_rows * tile_lanes, *product = dots + i * width<double>;
        // Storing a row costs as much as scaling it twice: it pays for two tiles or more.
        const bool keep = i > tile_rows;
        if (keep) {
            diagonal_tile<true>(a, weight, vector, count, ahead, scaled, last, product);
        } else {
            diagonal_tile<false>(a, weight, vector, count, ahead, scaled, last, product);
        }
        for (int64_t j = 0; j < i; j += tile_rows, lanes += tile_lanes) {
            const T* b[tile_rows];
            rows.four(j, b);
            if (keep) {
                product_tile<false>(x, b, none, count, lanes);
            } else {
                product_tile<true>(a, b, weight, count, lanes);
            }
        }
        lanes += tile_lanes;
    }
}

/// lanes += rows times one vector.
template <typename T, typename X>
inline void add_dots(const Rows<T>& rows, int64_t count, const X* vector, double* lanes) {
    for (int64_t i = 0; i < rows.count; i += tile_rows) {
        const T* a[tile_rows];
        rows.four(i, a);
        Vector<double> sum[tile_rows] = {};
        each_vector<width<double>>(count, [&](auto full, int64_t p, int live) {
            constexpr bool is_full = decltype(full)::value;
            const Vector<double> x = load_as<double, is_full>(vector + p, live);
            for (int r = 0; r < tile_rows; ++r) {
                prefetch(a[r] + p + gram_run);
                sum[r] += load_as<double, is_full>(a[r] + p, live) * x;
            }
        });
        for (int r = 0; r < tile_rows; ++r, lanes += width<double>) {
            add_to_lanes(lanes, sum[r]);
        }
    }
}

/// The sixteen sums of one tile, row after row.
inline void tile_sums(const double* lanes, double (&sums)[tile_rows * tile_rows]) {
    for (int i = 0; i < tile_rows * tile_rows; i += width<double>) {
        store(sums + i, sum_vectors(lanes + i * width<double>));
    }
}

/// The sums of a row of tiles.
template <int64_t columns>
inline void product_sums(const double* lanes, int64_t count, double (&sums)[tile_rows][columns]) {
    for (int64_t tile = 0; tile < count; ++tile, lanes += tile_lanes) {
        double entries[tile_rows * tile_rows];
        tile_sums(lanes, entries);
        for (int i = 0; i < tile_rows; ++i) {
            for (int j = 0; j < tile_rows; ++j) {
                sums[i][tile * tile_rows + j] = entries[i * tile_rows + j];
            }
        }
    }
}

/// Adds up the lanes into a dense (rank, rank) matrix; a lower-only sum is mirrored.
inline void gram_finish(const double* lanes, int64_t rank, bool lower, double* gram) {
    double sums[tile_rows * tile_rows];
    for (int64_t i = 0; i < rank; i += tile_rows) {
        for (int64_t j = 0; j < (lower ? i + 1 : rank); j += tile_rows) {
            tile_sums(lanes, sums);
            lanes += tile_lanes;
            for (int64_t row = i; row < smaller(i + tile_rows, rank); ++row) {
                for (int64_t column = j; column < smaller(j + tile_rows, lower ? row + 1 : rank);
                     ++column) {
                    const double sum = sums[(row - i) * tile_rows + column - j];
                    gram[row * rank + column] = sum;
                    if (lower) {
                        gram[column * rank + row] = sum;
                    }
                }
            }
        }
    }
}
inline void dots_finish(const double* lanes, int64_t rows, double* dots) {
    for (int64_t i = 0; i < rows; i += width<double>) {
        const Vector<double> sums = sum_vectors(lanes + i * width<double>);
        store_partial(dots + i, sums, static_cast<int>(smaller<int64_t>(width<double>, rows - i)));
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
