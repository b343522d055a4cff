// SPDX-License-Identifier: Apache-2.0
// The other axes, before the last one: real rows in, real rows out, vectors across the row.
//
// With C(k) = sum x cos(w_k t) and S(k) = sum x sin(w_k t) the transform of real rows is
// X(+-k) = C -+ i S; C and S are real, so the remaining axes transform 2 m + 1 real rows (C for
// k = 0 .. m, S for k = 1 .. m) instead of n, and signs are combined at the very end. Backwards
//
//   y(t) = sum_k cos(w_k t) Re(Y(k) + Y(-k)) + sin(w_k t) Re(i (Y(k) - Y(-k)))
//
// where Re stands for the synthesis of the remaining axes.
#pragma once

#include "shuffle.hpp"
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int analysis_rows = 7;   // 7 x 2 vectors of sums
inline constexpr int synthesis_rows = 3;  // 3 x 2 vectors x (even, odd) x (cosine, sine)
#else
inline constexpr int analysis_rows = 4;
inline constexpr int synthesis_rows = 1;
#endif
inline constexpr int64_t summed_points = 64;        // of up to 4 rows each, as in lines
inline constexpr int64_t folded_bytes = 32 * 1024;  // a block of columns, folded

/// One of the other axes.
template <typename T>
struct Rows {
    Fold fold;
    int64_t waves;  ///< m: wavenumbers 0 .. m
    const T* cosine;
    const T* sine;
    const T* half_cosine;
    const T* half_sine;
    int64_t count() const {
        return 2 * waves + 1;
    }
    /// Columns that are folded at once: pairs of vectors.
    int64_t block() const {
        const int64_t column = 4 * fold.points * static_cast<int64_t>(sizeof(T));
        const int64_t step = 2 * width<T>;
        return smaller<int64_t>(8, larger<int64_t>(1, folded_bytes / (column * step))) * step;
    }
    int64_t scratch() const {
        return 4 * fold.points * block();
    }
};
template <typename T>
Rows<T> rows_of(const SpectralGrid& grid, const SpectralTables<T>& tables, int axis) {
    Rows<T> r = {};
    r.fold = fold_axis(grid.size[axis], grid.period[axis]);
    r.waves = grid.modes[axis] / 2;
    r.cosine = tables.cosine[axis];
    r.sine = tables.sine[axis];
    r.half_cosine = tables.half_cosine[axis];
    r.half_sine = tables.half_sine[axis];
    return r;
}

/// Where the rows of wavenumber k lie among 2 m + 1; the sine of k = 0 does not exist.
inline int64_t cosine_row(int64_t k) {
    return k;
}
inline int64_t sine_row(int64_t k, int64_t waves) {
    return waves + k;
}

/// Points q of a block of columns: sums for even and odd k, differences for even and odd k.
template <bool full, typename T>
inline void fold_rows(
    const T* in, int64_t stride, const Fold& f, int64_t columns, int64_t block, T* folded
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    for (int64_t q = 0; q < f.points; ++q) {
        const T *a = in + (f.up + q) * stride, *b = in + (f.down - q) * stride;
        const bool paired = f.paired && f.bottom + q >= 0;
        const T *e = in + (f.top - q) * stride, *g = in + (f.bottom + q) * stride;
        T* to = folded + q * 4 * block;
        for (int64_t j = 0; j < columns; j += lanes) {
            const int count = full ? lanes : static_cast<int>(smaller<int64_t>(lanes, columns - j));
            const V up = load_lanes<full>(a + j, count), down = load_lanes<full>(b + j, count);
            const V s = up + down, d = up - down;
            V s2 = {}, d2 = {};
            if (paired) {
                const V top = load_lanes<full>(e + j, count);
                const V bottom = load_lanes<full>(g + j, count);
                s2 = top + bottom;
                d2 = top - bottom;
            }
            store(to + j, s + s2);
            store(to + block + j, s - s2);
            store(to + 2 * block + j, d - d2);
            store(to + 3 * block + j, d + d2);
        }
    }
}

/// `rows` wavenumbers of one parity, two vectors of columns: out = sum over q of left[q] folded[q].
/// Asks meanwhile for two cache lines per point of what comes next, at `ahead`.
template <int rows, typename T>
inline void row_tile(
    const T* left,
    int64_t left_row,
    const T* folded,
    int64_t step,
    int64_t points,
    T* out,
    int64_t out_row,
    const int (&count)[2],
    const T* ahead
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    constexpr int64_t cache_line = 64 / sizeof(T);
    V total[rows][2] = {};
    for (int64_t q0 = 0; q0 < points; q0 += summed_points) {
        const int64_t stop = smaller(q0 + summed_points, points);
        V sum[rows][2] = {};
        for (int64_t q = q0; q < stop; ++q) {
            prefetch(ahead + 2 * q * cache_line);
            prefetch(ahead + (2 * q + 1) * cache_line);
            const V b0 = load(folded + q * step), b1 = load(folded + q * step + lanes);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                sum[r][0] += left[r * left_row + q] * b0;
                sum[r][1] += left[r * left_row + q] * b1;
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            total[r][0] = q0 == 0 ? sum[r][0] : total[r][0] + sum[r][0];
            total[r][1] = q0 == 0 ? sum[r][1] : total[r][1] + sum[r][1];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < 2; ++v) {
            T* to = out + r * out_row + v * lanes;
            if (count[v] == lanes) {
                store(to, total[r][v]);
            } else {
                store_partial(to, total[r][v], count[v]);
            }
        }
    }
}

/// out (2 m + 1 rows, out_stride apart) from in (n rows, in_stride apart), `columns` long.
template <typename T>
void analyse_rows(
    const Rows<T>& r,
    const T* in,
    int64_t in_stride,
    int64_t columns,
    T* scratch,
    T* out,
    int64_t out_stride
) {
    constexpr int lanes = width<T>;
    constexpr int64_t cache_line = 64 / sizeof(T);
    const int64_t points = r.fold.points, block = r.block();
    // Items follow each other: the next one is fetched while this one is summed.
    const T* ahead = in + r.fold.n * in_stride;
    const T* end = ahead + r.fold.n * in_stride;
    for (int64_t j0 = 0; j0 < columns; j0 += block) {
        const int64_t count = smaller(block, columns - j0);
        if (count % lanes == 0) {
            fold_rows<true>(in + j0, in_stride, r.fold, count, block, scratch);
        } else {
            fold_rows<false>(in + j0, in_stride, r.fold, count, block, scratch);
        }
        for (int64_t j = 0; j < count; j += 2 * lanes) {
            const int kept[2] = {
                static_cast<int>(smaller<int64_t>(lanes, count - j)),
                static_cast<int>(larger<int64_t>(0, smaller<int64_t>(lanes, count - j - lanes)))
            };
            for (int parity = 0; parity < 2; ++parity) {
                // Cosines of k = parity, parity + 2, ..; sines of the same, but not of 0.
                const int64_t cosines = (r.waves - parity) / 2 + 1;
                for_tiles<analysis_rows>(cosines, [&](auto tag, int64_t first) {
                    const int64_t k = parity + 2 * first;
                    row_tile<decltype(tag)::value>(
                        r.half_cosine + k * points,
                        2 * points,
                        scratch + parity * block + j,
                        4 * block,
                        points,
                        out + cosine_row(k) * out_stride + j0 + j,
                        2 * out_stride,
                        kept,
                        ahead
                    );
                    ahead += smaller(2 * points * cache_line, end - ahead);
                });
                const int64_t first_sine = parity == 0 ? 2 : 1;
                const int64_t sines = (r.waves - first_sine + 2) / 2;
                for_tiles<analysis_rows>(sines, [&](auto tag, int64_t first) {
                    const int64_t k = first_sine + 2 * first;
                    row_tile<decltype(tag)::value>(
                        r.half_sine + k * points,
                        2 * points,
                        scratch + (2 + parity) * block + j,
                        4 * block,
                        points,
                        out + sine_row(k, r.waves) * out_stride + j0 + j,
                        2 * out_stride,
                        kept,
                        ahead
                    );
                    ahead += smaller(2 * points * cache_line, end - ahead);
                });
            }
        }
    }
}

/// `rows` points q, one or two vectors of columns, all wavenumbers: up to four rows of values each.
template <int rows, int vectors, bool full, bool streamed, typename T>
inline void unfold_tile(
    const Rows<T>& r,
    const T* in,
    int64_t in_stride,
    int64_t q,
    int count,
    T* out,
    int64_t out_stride
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    const int64_t points = r.fold.points;
    V even[rows][vectors] = {}, odd[rows][vectors] = {};
    V even_sine[rows][vectors] = {}, odd_sine[rows][vectors] = {};
    const auto add = [&](const T* factor, const T* row, V(&sum)[rows][vectors]) {
        V a[vectors];
        for (int v = 0; v < vectors; ++v) {
            a[v] = load(row + v * lanes);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) {
            for (int v = 0; v < vectors; ++v) {
                sum[i][v] += factor[i] * a[v];
            }
        }
    };
    const auto add_wave = [&](int64_t k, V(&cosines)[rows][vectors], V(&sines)[rows][vectors]) {
        add(r.cosine + k * points + q, in + cosine_row(k) * in_stride, cosines);
        add(r.sine + k * points + q, in + sine_row(k, r.waves) * in_stride, sines);
    };
    add(r.cosine + q, in, even);
    int64_t k = 1;
    for (; k + 1 <= r.waves; k += 2) {
        add_wave(k, odd, odd_sine);
        add_wave(k + 1, even, even_sine);
    }
    if (k <= r.waves) {
        add_wave(k, odd, odd_sine);
    }
    const auto put = [&](int64_t row, int v, V value) {
        T* to = out + row * out_stride + v * lanes;
        if constexpr (streamed) {
            stream(to, value);
        } else {
            store_lanes<full>(to, value, count);
        }
    };
    const Fold& f = r.fold;
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
        const bool paired = f.paired && f.bottom + q + i >= 0;
        for (int v = 0; v < vectors; ++v) {
            const V s = even[i][v] + odd[i][v], d = even_sine[i][v] + odd_sine[i][v];
            put(f.up + q + i, v, s + d);
            put(f.down - q - i, v, s - d);
            if (paired) {
                const V s2 = even[i][v] - odd[i][v], d2 = odd_sine[i][v] - even_sine[i][v];
                put(f.top - q - i, v, s2 + d2);
                put(f.bottom + q + i, v, s2 - d2);
            }
        }
    }
}

/// out (n rows, out_stride apart) from in (2 m + 1 rows, in_stride apart), `columns` long. Rows of
/// `in` are readable up to the next whole vector. `streamed`: the caches have no room for `out`.
template <typename T>
void synthesise_rows(
    const Rows<T>& r,
    const T* in,
    int64_t in_stride,
    int64_t columns,
    bool streamed,
    T* out,
    int64_t out_stride
) {
    constexpr int lanes = width<T>;
    const bool past = streamed && out_stride % lanes == 0 &&
                      reinterpret_cast<std::uintptr_t>(out) % vector_bytes == 0;
    for_tiles<synthesis_rows>(r.fold.points, [&](auto tag, int64_t q) {
        constexpr int rows = decltype(tag)::value;
        int64_t j = 0;
        for (; j + 2 * lanes <= columns; j += 2 * lanes) {
            if (past) {
                unfold_tile<rows, 2, true, true>(
                    r, in + j, in_stride, q, lanes, out + j, out_stride
                );
            } else {
                unfold_tile<rows, 2, true, false>(
                    r, in + j, in_stride, q, lanes, out + j, out_stride
                );
            }
        }
        for (; j + lanes <= columns; j += lanes) {
            unfold_tile<rows, 1, true, false>(r, in + j, in_stride, q, lanes, out + j, out_stride);
        }
        if (j < columns) {
            const int count = static_cast<int>(columns - j);
            unfold_tile<rows, 1, false, false>(r, in + j, in_stride, q, count, out + j, out_stride);
        }
    });
    if (past) {
        finish_streams();
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
