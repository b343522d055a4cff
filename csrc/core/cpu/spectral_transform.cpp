// SPDX-License-Identifier: Apache-2.0
// Analysis and synthesis. The last axis is transformed line by line, in groups of lines: folded
// values are packed as (even, odd) pairs, one of which every lane of a vector of wavenumbers picks
// by its parity, so that a tile needs neither shuffles nor a split of even and odd wavenumbers. The
// other axes follow on the result of one item while it is in cache, vectors across the wavenumbers
// that are already transformed.
//
// Between the axes a line of the last one is planar: `padded` real parts, then `padded` imaginary
// parts, wavenumbers filled up with zeros to whole vectors.
#include <utility>

#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

// Each point q stands for up to 4 values, so a partial sum covers at most 256 of them.
constexpr int64_t run = 64;
constexpr int64_t group_lines = 24;
// Longer lines are read in pieces too far apart for the processor to foresee the next one.
constexpr int64_t prefetched_points = 2048;

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int analysis_lines = 12;  // 32 registers: 12 x (cosine, sine) sums
constexpr int wide_lines = 6;       // 6 x 2 vectors of wavenumbers
constexpr int synthesis_lines = 6;  // 6 x (even, odd) x (cosine, sine)
constexpr int product_rows = 8;
#else
constexpr int analysis_lines = 6;
constexpr int wide_lines = 3;
constexpr int synthesis_lines = 3;
constexpr int product_rows = 4;
#endif

template <typename T, std::size_t... i>
inline Vector<T> reverse(Vector<T> v, std::index_sequence<i...>) {
    return __builtin_shufflevector(v, v, (width<T> - 1 - static_cast<int>(i))...);
}
template <typename T>
inline Vector<T> reverse(Vector<T> v) {
    return reverse<T>(v, std::make_index_sequence<width<T>>{});
}
/// a_0 b_0 a_1 b_1 .. from lane `first` on.
template <int first, typename T, std::size_t... i>
inline Vector<T> interleave(Vector<T> a, Vector<T> b, std::index_sequence<i...>) {
    return __builtin_shufflevector(
        a, b, (first + static_cast<int>(i) / 2 + (i % 2 == 0 ? 0 : width<T>))...
    );
}
template <typename T>
inline void store_pairs(T* to, Vector<T> a, Vector<T> b) {
    const auto lanes = std::make_index_sequence<width<T>>{};
    store(to, interleave<0, T>(a, b, lanes));
    store(to + width<T>, interleave<width<T> / 2, T>(a, b, lanes));
}

/// Two neighbours p[0], p[1] repeated over all lanes.
inline Vector<float> repeat_pair(const float* p) {
    double both;
    __builtin_memcpy(&both, p, sizeof(both));
#if defined(__AVX512F__)
    return (Vector<float>)_mm512_set1_pd(both);
#elif defined(__AVX2__)
    return (Vector<float>)_mm256_set1_pd(both);
#else
    Vector<double> v;
    for (int i = 0; i < width<double>; ++i) {
        v[i] = both;
    }
    return (Vector<float>)v;
#endif
}
inline Vector<double> repeat_pair(const double* p) {
#if defined(__AVX512F__)
    return (Vector<double>)_mm512_maskz_broadcast_f64x2(0xff, _mm_loadu_pd(p));
#elif defined(__AVX2__)
    return (Vector<double>)_mm256_broadcast_pd((const __m128d*)p);
#else
    return load(p);
#endif
}

/// Elements [start, start + width) of an array of n, zeros where there are none.
template <typename T>
inline Vector<T> load_window(const T* p, int64_t start, int64_t n) {
    if (start >= 0 && start + width<T> <= n) {
        return load(p + start);
    }
    const int64_t first = smaller(larger<int64_t>(-start, 0), int64_t{width<T>});
    const int64_t last = larger(smaller<int64_t>(n - start, width<T>), first);
#if defined(__AVX512F__)
    const unsigned mask = ((1u << last) - 1u) & ~((1u << first) - 1u);
    if constexpr (sizeof(T) == 4) {
        return (Vector<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p + start);
    } else {
        return (Vector<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p + start);
    }
#else
    T lanes[width<T>] = {};
    for (int64_t i = first; i < last; ++i) {
        lanes[i] = p[start + i];
    }
    return load(lanes);
#endif
}
/// Lanes go to [start, start + width); only those inside [low, high) are stored.
template <typename T>
inline void store_window(T* p, int64_t start, int64_t low, int64_t high, Vector<T> v) {
    if (start >= low && start + width<T> <= high) {
        store(p + start, v);
        return;
    }
    const int64_t first = smaller(larger<int64_t>(low - start, 0), int64_t{width<T>});
    const int64_t last = larger(smaller<int64_t>(high - start, width<T>), first);
#if defined(__AVX512F__)
    const unsigned mask = ((1u << last) - 1u) & ~((1u << first) - 1u);
    if constexpr (sizeof(T) == 4) {
        _mm512_mask_storeu_ps(p + start, static_cast<__mmask16>(mask), (__m512)v);
    } else {
        _mm512_mask_storeu_pd(p + start, static_cast<__mmask8>(mask), (__m512d)v);
    }
#else
    T lanes[width<T>];
    store(lanes, v);
    for (int64_t i = first; i < last; ++i) {
        p[start + i] = lanes[i];
    }
#endif
}

// ---- the last axis: analysis
// ---------------------------------------------------------------------

/// Pairs of sums and of differences of one vector of points: x(c + t), x(c - t), and the same at
/// the mirrored distance.
template <bool paired, typename T>
inline void fold_values(
    Vector<T> a, Vector<T> b, Vector<T> e, Vector<T> f, T* sums, T* differences
) {
    const Vector<T> s = a + b, d = a - b;
    if (paired) {
        const Vector<T> s2 = e + f, d2 = e - f;
        store_pairs<T>(sums, s + s2, s - s2);
        store_pairs<T>(differences, d - d2, d + d2);
    } else {
        store_pairs<T>(sums, s, s);
        store_pairs<T>(differences, d, d);
    }
}
/// The same where some of the values do not exist: they count as zero.
template <bool paired, typename T>
[[gnu::noinline]] void fold_existing(
    const T* x, const Fold& fold, int64_t q, T* sums, T* differences
) {
    constexpr int lanes = width<T>;
    const int64_t n = fold.n;
    Vector<T> e = {}, f = {};
    if (paired) {
        e = reverse<T>(load_window(x, fold.top - q - lanes + 1, n));
        f = load_window(x, fold.bottom + q, n);
    }
    fold_values<paired, T>(
        load_window(x, fold.up + q, n),
        reverse<T>(load_window(x, fold.down - q - lanes + 1, n)),
        e,
        f,
        sums,
        differences
    );
}

/// Points [q0, q0 + count) of one line, filled up to whole vectors. With `prefetching`, what comes
/// `ahead` elements later (in ascending and descending order) is asked for meanwhile.
template <bool paired, bool prefetching, typename T>
inline void fold_line(
    const T* x,
    const Fold& fold,
    int64_t q0,
    int64_t count,
    const int64_t (&ahead)[2],
    T* sums,
    T* differences
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    int64_t i = 0;
    for (; paired && i < count && fold.bottom + q0 + i < 0; i += lanes) {
        fold_existing<paired>(x, fold, q0 + i, sums + 2 * i, differences + 2 * i);
    }
    const int64_t stop = smaller(count, fold.points - q0 - lanes + 1);
    const T *up = x + fold.up + q0, *down = x + fold.down - q0 - lanes + 1;
    const T *bottom = x + fold.bottom + q0, *top = x + fold.top - q0 - lanes + 1;
    for (; i < stop; i += lanes) {
        if (prefetching) {
            prefetch(up + i + ahead[0]);
            prefetch(down - i + ahead[1]);
            if (paired) {
                prefetch(bottom + i + ahead[0]);
                prefetch(top - i + ahead[1]);
            }
        }
        const V e = paired ? reverse<T>(load(top - i)) : V{}, f = paired ? load(bottom + i) : V{};
        fold_values<paired, T>(
            load(up + i), reverse<T>(load(down - i)), e, f, sums + 2 * i, differences + 2 * i
        );
    }
    for (; i < count; i += lanes) {
        fold_existing<paired>(x, fold, q0 + i, sums + 2 * i, differences + 2 * i);
    }
}

constexpr int64_t packed_pairs = 2 * run;  // per line, sums and differences each

/// out (re, im) += folded lines times the basis of `vectors` vectors of wavenumbers.
template <int lines, int vectors, typename T>
inline void analyse_tile(
    const T* sums,
    const T* differences,
    const T* basis,
    int64_t basis_stride,
    int64_t count,
    bool first,
    T* out,
    int64_t padded
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    V re[lines][vectors] = {}, im[lines][vectors] = {};
    for (int64_t q = 0; q < count; ++q) {
        V c[vectors], s[vectors];
        for (int v = 0; v < vectors; ++v) {
            c[v] = load(basis + v * basis_stride + 2 * q * lanes);
            s[v] = load(basis + v * basis_stride + (2 * q + 1) * lanes);
        }
#pragma GCC unroll 16
        for (int r = 0; r < lines; ++r) {
            const V a = repeat_pair(sums + r * packed_pairs + 2 * q);
            const V b = repeat_pair(differences + r * packed_pairs + 2 * q);
            for (int v = 0; v < vectors; ++v) {
                re[r][v] += a * c[v];
                im[r][v] -= b * s[v];
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < lines; ++r) {
        for (int v = 0; v < vectors; ++v) {
            T* to = out + r * 2 * padded + v * lanes;
            if (first) {
                store(to, re[r][v]);
                store(to + padded, im[r][v]);
            } else {
                store(to, load(to) + re[r][v]);
                store(to + padded, load(to + padded) + im[r][v]);
            }
        }
    }
}

/// The last axis of a grid as the line kernels see it.
template <typename T>
struct Lines {
    Fold fold;
    int64_t modes, padded;
    const T* analysis;
    const T* synthesis;
};
template <typename T>
Lines<T> lines_of(const SpectralGrid& grid, const SpectralTables<T>& tables) {
    Lines<T> l = {};
    l.fold = fold_axis(grid.size[2], grid.period[2]);
    l.modes = grid.modes[2];
    l.padded = round_up(l.modes, width<T>);
    l.analysis = tables.analysis;
    l.synthesis = tables.synthesis;
    return l;
}

constexpr int64_t packed_group = 2 * group_lines * packed_pairs;  // elements of scratch

/// out (lines, 2 padded) from x (lines, n), up to group_lines at once.
template <typename T>
void analyse_group(const Lines<T>& l, const T* x, int64_t lines, T* packed, T* out) {
    constexpr int lanes = width<T>;
    const int64_t points = l.fold.points, basis_stride = 2 * points * lanes;
    T* sums = packed;
    T* differences = packed + group_lines * packed_pairs;
    for (int64_t q0 = 0; q0 < points; q0 += run) {
        const int64_t count = smaller(run, points - q0);
        // Next come the following points of the same lines, or the first ones of the next lines.
        const int64_t next = q0 + run < points ? 0 : lines * l.fold.n;
        const int64_t ahead[2] = {next == 0 ? run : next - q0, next == 0 ? -run : next + q0};
        for (int64_t r = 0; r < lines; ++r) {
            const T* line = x + r * l.fold.n;
            T *to_sums = sums + r * packed_pairs, *to_differences = differences + r * packed_pairs;
            const auto fold = [&](auto paired_tag, auto prefetching_tag) {
                fold_line<decltype(paired_tag)::value, decltype(prefetching_tag)::value>(
                    line, l.fold, q0, count, ahead, to_sums, to_differences
                );
            };
            if (!l.fold.paired) {
                fold(std::false_type{}, std::true_type{});
            } else if (l.fold.n > prefetched_points) {
                fold(std::true_type{}, std::true_type{});
            } else {
                fold(std::true_type{}, std::false_type{});
            }
        }
        const auto tile = [&](auto rows_tag, auto vectors_tag, int64_t r, int64_t k) {
            analyse_tile<decltype(rows_tag)::value, decltype(vectors_tag)::value>(
                sums + r * packed_pairs,
                differences + r * packed_pairs,
                l.analysis + k / lanes * basis_stride + 2 * q0 * lanes,
                basis_stride,
                count,
                q0 == 0,
                out + r * 2 * l.padded + k,
                l.padded
            );
        };
        using One = std::integral_constant<int, 1>;
        using Two = std::integral_constant<int, 2>;
        using Three = std::integral_constant<int, 3>;
        using Many = std::integral_constant<int, analysis_lines>;
        using Wide = std::integral_constant<int, wide_lines>;
        int64_t k = 0;
        for (; k + 2 * lanes <= l.padded; k += 2 * lanes) {
            int64_t r = 0;
            for (; r + wide_lines <= lines; r += wide_lines) {
                tile(Wide{}, Two{}, r, k);
            }
            if constexpr (wide_lines > 3) {
                for (; r + 3 <= lines; r += 3) {
                    tile(Three{}, Two{}, r, k);
                }
            }
            for (; r < lines; ++r) {
                tile(One{}, Two{}, r, k);
            }
        }
        for (; k < l.padded; k += lanes) {
            int64_t r = 0;
            for (; r + analysis_lines <= lines; r += analysis_lines) {
                tile(Many{}, One{}, r, k);
            }
            for (; r + 3 <= lines; r += 3) {
                tile(Three{}, One{}, r, k);
            }
            for (; r < lines; ++r) {
                tile(One{}, One{}, r, k);
            }
        }
    }
}

// ---- the last axis: synthesis
// --------------------------------------------------------------------

/// The up to four values of each of a vector of points q, of which some may not exist.
template <typename T>
[[gnu::noinline]] void store_existing(const Fold& f, int64_t q, const Vector<T>* values, T* to) {
    constexpr int lanes = width<T>;
    const int64_t stop = smaller(q + lanes, f.points);
    store_window(to, f.up + q, f.up + q, f.up + stop, values[0]);
    store_window(to, f.down - q - lanes + 1, f.down - stop + 1, f.down - q + 1, values[1]);
    if (f.paired) {
        const int64_t top = smaller(f.top - q + 1, f.n), bottom = larger<int64_t>(f.bottom + q, 0);
        store_window(to, f.top - q - lanes + 1, f.top - stop + 1, top, values[2]);
        store_window(to, f.bottom + q, bottom, f.bottom + stop, values[3]);
    }
}

/// One vector of points q of `lines` lines, all wavenumbers: up to four vectors of values each.
template <int lines, typename T>
inline void synthesise_tile(const Lines<T>& l, const T* in, int64_t q, T* y) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    const int64_t padded = l.padded;
    const T* basis = l.synthesis + q * 2 * l.modes;
    V even[lines] = {}, odd[lines] = {}, even_sine[lines] = {}, odd_sine[lines] = {};
    int64_t k = 0;
    for (; k + 2 <= l.modes; k += 2, basis += 4 * lanes) {
        const V c0 = load(basis), s0 = load(basis + lanes);
        const V c1 = load(basis + 2 * lanes), s1 = load(basis + 3 * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < lines; ++r) {
            const T* z = in + r * 2 * padded + k;
            even[r] += z[0] * c0;
            even_sine[r] += z[padded] * s0;
            odd[r] += z[1] * c1;
            odd_sine[r] += z[padded + 1] * s1;
        }
    }
    if (k < l.modes) {
        const V c0 = load(basis), s0 = load(basis + lanes);
#pragma GCC unroll 16
        for (int r = 0; r < lines; ++r) {
            const T* z = in + r * 2 * padded + k;
            even[r] += z[0] * c0;
            even_sine[r] += z[padded] * s0;
        }
    }
    const Fold& f = l.fold;
    const bool whole = q + lanes <= f.points && (!f.paired || f.bottom + q >= 0);
#pragma GCC unroll 8
    for (int r = 0; r < lines; ++r) {
        T* to = y + r * f.n;
        const V s = even[r] + odd[r], d = even_sine[r] + odd_sine[r];
        const V s2 = even[r] - odd[r], d2 = odd_sine[r] - even_sine[r];
        const V values[4] = {s - d, reverse<T>(s + d), reverse<T>(s2 - d2), s2 + d2};
        if (whole) {
            store(to + f.up + q, values[0]);
            store(to + f.down - q - lanes + 1, values[1]);
            if (f.paired) {
                store(to + f.top - q - lanes + 1, values[2]);
                store(to + f.bottom + q, values[3]);
            }
        } else {
            store_existing(f, q, values, to);
        }
    }
}

/// y (lines, n) from in (lines, 2 padded), up to group_lines at once.
template <typename T>
void synthesise_group(const Lines<T>& l, const T* in, int64_t lines, T* y) {
    constexpr int lanes = width<T>;
    // As many points at once as keep their part of the basis in the first-level cache.
    const int64_t vectors =
        larger<int64_t>(1, 16384 / (2 * l.modes * lanes * static_cast<int64_t>(sizeof(T))));
    for (int64_t q0 = 0; q0 < l.fold.points; q0 += vectors * lanes) {
        const int64_t stop = smaller(q0 + vectors * lanes, l.fold.points);
        int64_t r = 0;
        for (; r + synthesis_lines <= lines; r += synthesis_lines) {
            for (int64_t q = q0; q < stop; q += lanes) {
                synthesise_tile<synthesis_lines>(l, in + r * 2 * l.padded, q, y + r * l.fold.n);
            }
        }
        for (; r < lines; ++r) {
            for (int64_t q = q0; q < stop; q += lanes) {
                synthesise_tile<1>(l, in + r * 2 * l.padded, q, y + r * l.fold.n);
            }
        }
    }
}

// ---- the other axes
// ------------------------------------------------------------------------------

/// out (rows, columns) (+)= sum over steps of left(row, step) right(step, columns); columns are
/// whole vectors.
template <typename T>
struct RealProduct {
    const T* left;
    int64_t left_row, left_step;
    const T* right;
    int64_t right_step;
    T* out;
    int64_t out_row;
    int64_t rows, steps, columns;
};

template <int rows, int vectors, typename T>
inline void real_tile(const RealProduct<T>& p, int64_t row, int64_t column) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    for (int64_t k0 = 0; k0 == 0 || k0 < p.steps; k0 += run) {
        const int64_t stop = smaller(k0 + run, p.steps);
        V sum[rows][vectors] = {};
        for (int64_t k = k0; k < stop; ++k) {
            V b[vectors];
            for (int v = 0; v < vectors; ++v) {
                b[v] = load(p.right + k * p.right_step + column + v * lanes);
            }
            const T* left = p.left + row * p.left_row + k * p.left_step;
            for (int r = 0; r < rows; ++r) {
                for (int v = 0; v < vectors; ++v) {
                    sum[r][v] += left[r * p.left_row] * b[v];
                }
            }
        }
        for (int r = 0; r < rows; ++r) {
            for (int v = 0; v < vectors; ++v) {
                T* to = p.out + (row + r) * p.out_row + column + v * lanes;
                store(to, k0 == 0 ? sum[r][v] : load(to) + sum[r][v]);
            }
        }
    }
}
template <int vectors, typename T>
inline void real_columns(const RealProduct<T>& p, int64_t column) {
    int64_t row = 0;
    for (; row + product_rows <= p.rows; row += product_rows) {
        real_tile<product_rows, vectors>(p, row, column);
    }
    if constexpr (product_rows > 4) {
        for (; row + 4 <= p.rows; row += 4) {
            real_tile<4, vectors>(p, row, column);
        }
    }
    for (; row < p.rows; ++row) {
        real_tile<1, vectors>(p, row, column);
    }
}
template <typename T>
void real_product(const RealProduct<T>& p) {
    int64_t column = 0;
    for (; column + 2 * width<T> <= p.columns; column += 2 * width<T>) {
        real_columns<2>(p, column);
    }
    for (; column < p.columns; column += width<T>) {
        real_columns<1>(p, column);
    }
}

/// One of the other axes: complex columns, planar in blocks of 2 `padded`.
template <typename T>
struct Columns {
    Fold fold;
    int64_t wavenumbers;  ///< m + 1: 0 .. m
    int64_t columns, padded;
    const T* cosine;
    const T* sine;
    const T* half_cosine;
    const T* half_sine;
    /// Scratch: folded points or points before unfolding, and sums over either parity.
    int64_t scratch() const {
        return (4 * fold.points + 2 * wavenumbers) * columns;
    }
};
template <typename T>
Columns<T> columns_of(
    const SpectralGrid& grid, const SpectralTables<T>& tables, int axis, int64_t columns
) {
    Columns<T> c = {};
    c.fold = fold_axis(grid.size[axis], grid.period[axis]);
    c.wavenumbers = grid.modes[axis] / 2 + 1;
    c.columns = columns;
    c.padded = round_up(grid.modes[2], width<T>);
    c.cosine = tables.cosine[axis];
    c.sine = tables.sine[axis];
    c.half_cosine = tables.half_cosine[axis];
    c.half_sine = tables.half_sine[axis];
    return c;
}

inline int64_t even_count(int64_t n) {
    return (n + 1) / 2;
}

/// out (2 m, columns) from in (n, columns).
template <typename T>
void analyse_columns(const Columns<T>& c, const T* in, T* scratch, T* out) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    const int64_t columns = c.columns, points = c.fold.points, m = c.wavenumbers - 1;
    T* folded[4];
    for (int i = 0; i < 4; ++i) {
        folded[i] = scratch + i * points * columns;
    }
    T* cosines = scratch + 4 * points * columns;
    T* sines = cosines + c.wavenumbers * columns;
    const auto row = [&](int64_t index) { return in + index * columns; };
    for (int64_t q = 0; q < points; ++q) {
        const T *a = row(c.fold.up + q), *b = row(c.fold.down - q);
        const int64_t mirror = c.fold.bottom + q;
        const bool paired = c.fold.paired && mirror >= 0;
        const T *e = paired ? row(c.fold.top - q) : nullptr, *f = paired ? row(mirror) : nullptr;
        for (int64_t j = 0; j < columns; j += lanes) {
            const V s = load(a + j) + load(b + j), d = load(a + j) - load(b + j);
            V s2 = {}, d2 = {};
            if (paired) {
                s2 = load(e + j) + load(f + j);
                d2 = load(e + j) - load(f + j);
            }
            const int64_t at = q * columns + j;
            store(folded[0] + at, s + s2);
            store(folded[1] + at, s - s2);
            store(folded[2] + at, d - d2);
            store(folded[3] + at, d + d2);
        }
    }
    for (int parity = 0; parity < 2; ++parity) {
        RealProduct<T> p = {};
        p.left_row = 2 * points;
        p.left_step = 1;
        p.right_step = columns;
        p.out_row = 2 * columns;
        p.rows = parity == 0 ? even_count(c.wavenumbers) : c.wavenumbers / 2;
        p.steps = points;
        p.columns = columns;
        p.left = c.half_cosine + parity * points;
        p.right = folded[parity];
        p.out = cosines + parity * columns;
        real_product(p);
        p.left = c.half_sine + parity * points;
        p.right = folded[2 + parity];
        p.out = sines + parity * columns;
        real_product(p);
    }
    // X(+-k) = C -+ i S.
    for (int64_t k = 0; k <= m; ++k) {
        const T *cosine = cosines + k * columns, *sine = sines + k * columns;
        T* plus = k < m ? out + k * columns : nullptr;
        T* minus = k > 0 ? out + (2 * m - k) * columns : nullptr;
        for (int64_t block = 0; block < columns; block += 2 * c.padded) {
            for (int64_t j = block; j < block + c.padded; j += lanes) {
                const V cr = load(cosine + j), ci = load(cosine + j + c.padded);
                const V sr = load(sine + j), si = load(sine + j + c.padded);
                if (plus != nullptr) {
                    store(plus + j, cr + si);
                    store(plus + j + c.padded, ci - sr);
                }
                if (minus != nullptr) {
                    store(minus + j, cr - si);
                    store(minus + j + c.padded, ci + sr);
                }
            }
        }
    }
}

/// out (n, columns) from in (2 m, columns): sum over signed k of in(k) e^{+i w t}.
template <typename T>
void synthesise_columns(const Columns<T>& c, const T* in, T* scratch, T* out) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    const int64_t columns = c.columns, points = c.fold.points, m = c.wavenumbers - 1;
    T* parts[4];  // even cosines, odd cosines, even sines, odd sines
    for (int i = 0; i < 4; ++i) {
        parts[i] = scratch + i * points * columns;
    }
    T* cosines = scratch + 4 * points * columns;
    T* sines = cosines + c.wavenumbers * columns;
    // Y(k) e^{i w t} + Y(-k) e^{-i w t} = (Y(k) + Y(-k)) cos + i (Y(k) - Y(-k)) sin.
    for (int64_t k = 0; k <= m; ++k) {
        T *cosine = cosines + k * columns, *sine = sines + k * columns;
        const T* plus = k < m ? in + k * columns : nullptr;
        const T* minus = k > 0 ? in + (2 * m - k) * columns : nullptr;
        for (int64_t block = 0; block < columns; block += 2 * c.padded) {
            for (int64_t j = block; j < block + c.padded; j += lanes) {
                V pr = {}, pi = {}, mr = {}, mi = {};
                if (plus != nullptr) {
                    pr = load(plus + j);
                    pi = load(plus + j + c.padded);
                }
                if (minus != nullptr) {
                    mr = load(minus + j);
                    mi = load(minus + j + c.padded);
                }
                store(cosine + j, pr + mr);
                store(cosine + j + c.padded, pi + mi);
                store(sine + j, mi - pi);
                store(sine + j + c.padded, pr - mr);
            }
        }
    }
    for (int parity = 0; parity < 2; ++parity) {
        RealProduct<T> p = {};
        p.left_row = 1;
        p.left_step = 2 * points;
        p.right_step = 2 * columns;
        p.out_row = columns;
        p.rows = points;
        p.steps = parity == 0 ? even_count(c.wavenumbers) : c.wavenumbers / 2;
        p.columns = columns;
        p.left = c.cosine + parity * points;
        p.right = cosines + parity * columns;
        p.out = parts[parity];
        real_product(p);
        p.left = c.sine + parity * points;
        p.right = sines + parity * columns;
        p.out = parts[2 + parity];
        real_product(p);
    }
    const auto row = [&](int64_t index) { return out + index * columns; };
    for (int64_t q = 0; q < points; ++q) {
        T *a = row(c.fold.up + q), *b = row(c.fold.down - q);
        const int64_t mirror = c.fold.bottom + q;
        const bool paired = c.fold.paired && mirror >= 0;
        T *e = paired ? row(c.fold.top - q) : nullptr, *f = paired ? row(mirror) : nullptr;
        for (int64_t j = 0; j < columns; j += lanes) {
            const int64_t at = q * columns + j;
            const V even = load(parts[0] + at), odd = load(parts[1] + at);
            const V even_sine = load(parts[2] + at), odd_sine = load(parts[3] + at);
            const V s = even + odd, d = even_sine + odd_sine;
            store(a + j, s + d);
            store(b + j, s - d);
            if (paired) {
                const V s2 = even - odd, d2 = odd_sine - even_sine;
                store(e + j, s2 + d2);
                store(f + j, s2 - d2);
            }
        }
    }
}

// ---- whole items
// ---------------------------------------------------------------------------------

/// What one slot needs while it transforms an item of several axes or a group of lines.
template <typename T>
struct Scratch {
    T* packed;   ///< folded lines
    T* planar;   ///< the last axis transformed: lines of 2 `padded`
    T* middle;   ///< the last two axes transformed
    T* modes;    ///< all axes transformed
    T* columns;  ///< scratch of the column transforms
};

template <typename T>
class Transform {
  public:
    Transform(const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace)
        : args_(args),
          executor_(executor),
          tables_(find_tables<T>(args.grid, const_cast<T*>(args.tables))),
          lines_(lines_of(args.grid, tables_)),
          arena_(workspace) {
        const SpectralGrid& g = args.grid;
        const int64_t line = 2 * lines_.padded;
        if (g.axes >= 2) {
            last_but_one_ = columns_of(g, tables_, 1, line);
        }
        if (g.axes == 3) {
            first_ = columns_of(g, tables_, 0, g.modes[1] * line);
        }
        const int64_t slots = larger(executor.threads, 1);
        scratch_ = arena_.take<Scratch<T>>(slots);
        for (int64_t slot = 0; slot < slots; ++slot) {
            Scratch<T> s = {};
            s.packed = arena_.take<T>(packed_group);
            s.planar = arena_.take<T>(larger(group_lines, g.axes == 1 ? 0 : g.size[1]) * line);
            if (g.axes >= 2) {
                s.modes = arena_.take<T>(g.modes[0] * g.modes[1] * line);
                const int64_t most =
                    larger(last_but_one_.scratch(), g.axes == 3 ? first_.scratch() : int64_t{0});
                s.columns = arena_.take<T>(most);
            }
            if (g.axes == 3) {
                s.middle = arena_.take<T>(g.size[0] * g.modes[1] * line);
            }
            if (workspace != nullptr) {
                scratch_[slot] = s;
            }
        }
    }

    std::size_t bytes() const {
        return arena_.used();
    }

    void analyse() {
        if (args_.grid.axes == 1) {
            const int64_t groups = (args_.rows + group_lines - 1) / group_lines;
            run_indices(executor_, groups, [&](int64_t slot, int64_t group) {
                const int64_t row = group * group_lines;
                const int64_t count = smaller(group_lines, args_.rows - row);
                const Scratch<T>& s = scratch_[slot];
                analyse_group(
                    lines_, args_.values + row * lines_.fold.n, count, s.packed, s.planar
                );
                scatter(s.planar, 1, row, count);
            });
            return;
        }
        run_indices(executor_, args_.rows, [&](int64_t slot, int64_t row) {
            const Scratch<T>& s = scratch_[slot];
            const SpectralGrid& g = args_.grid;
            const int64_t plane = g.size[1] * g.size[2], line = 2 * lines_.padded;
            for (int64_t i = 0; i < g.size[0]; ++i) {
                const T* x = args_.values + (row * g.size[0] + i) * plane;
                for (int64_t r = 0; r < g.size[1]; r += group_lines) {
                    const int64_t count = smaller(group_lines, g.size[1] - r);
                    analyse_group(lines_, x + r * g.size[2], count, s.packed, s.planar + r * line);
                }
                T* to = g.axes == 2 ? s.modes : s.middle + i * g.modes[1] * line;
                analyse_columns(last_but_one_, s.planar, s.columns, to);
            }
            if (g.axes == 3) {
                analyse_columns(first_, s.middle, s.columns, s.modes);
            }
            scatter(s.modes, g.modes[0] * g.modes[1], row, 1);
        });
    }

    void synthesise() {
        if (args_.grid.axes == 1) {
            const int64_t groups = (args_.rows + group_lines - 1) / group_lines;
            run_indices(executor_, groups, [&](int64_t slot, int64_t group) {
                const int64_t row = group * group_lines;
                const int64_t count = smaller(group_lines, args_.rows - row);
                const Scratch<T>& s = scratch_[slot];
                gather(s.planar, 1, row, count);
                synthesise_group(lines_, s.planar, count, args_.values_out + row * lines_.fold.n);
            });
            return;
        }
        run_indices(executor_, args_.rows, [&](int64_t slot, int64_t row) {
            const Scratch<T>& s = scratch_[slot];
            const SpectralGrid& g = args_.grid;
            const int64_t plane = g.size[1] * g.size[2], line = 2 * lines_.padded;
            gather(s.modes, g.modes[0] * g.modes[1], row, 1);
            if (g.axes == 3) {
                synthesise_columns(first_, s.modes, s.columns, s.middle);
            }
            for (int64_t i = 0; i < g.size[0]; ++i) {
                const T* from = g.axes == 2 ? s.modes : s.middle + i * g.modes[1] * line;
                synthesise_columns(last_but_one_, from, s.columns, s.planar);
                T* y = args_.values_out + (row * g.size[0] + i) * plane;
                for (int64_t r = 0; r < g.size[1]; r += group_lines) {
                    const int64_t count = smaller(group_lines, g.size[1] - r);
                    synthesise_group(lines_, s.planar + r * line, count, y + r * g.size[2]);
                }
            }
        });
    }

  private:
    /// Planar (count rows, outer, 2 padded) to the spectrum. One of count and outer is 1.
    void scatter(const T* planar, int64_t outer, int64_t row, int64_t count) const {
        const int64_t modes = lines_.modes, padded = lines_.padded;
        for (int64_t o = 0; o < outer; ++o) {
            for (int64_t k = 0; k < modes; ++k) {
                const T h = args_.weighted ? tables_.weights[k] : T(1);
                T* to = args_.spectrum_out + 2 * ((o * modes + k) * args_.rows + row);
                const T* from = planar + o * 2 * padded + k;
                for (int64_t r = 0; r < count; ++r, from += 2 * padded) {
                    to[2 * r] = h * from[0];
                    to[2 * r + 1] = h * from[padded];
                }
            }
        }
    }
    /// The other way; padding becomes zero.
    void gather(T* planar, int64_t outer, int64_t row, int64_t count) const {
        const int64_t modes = lines_.modes, padded = lines_.padded;
        for (int64_t o = 0; o < outer; ++o) {
            for (int64_t k = 0; k < padded; ++k) {
                T* to = planar + o * 2 * padded + k;
                if (k >= modes) {
                    for (int64_t r = 0; r < count; ++r, to += 2 * padded) {
                        to[0] = to[padded] = 0;
                    }
                    continue;
                }
                const T h = args_.weighted ? tables_.weights[k] : T(1);
                const T* from = args_.spectrum + 2 * ((o * modes + k) * args_.rows + row);
                for (int64_t r = 0; r < count; ++r, to += 2 * padded) {
                    to[0] = h * from[2 * r];
                    to[padded] = h * from[2 * r + 1];
                }
            }
        }
    }

    const SpectralTransformArgs<T>& args_;
    const Executor& executor_;
    SpectralTables<T> tables_;
    Lines<T> lines_;
    Columns<T> last_but_one_ = {}, first_ = {};
    Arena arena_;
    Scratch<T>* scratch_;
};

}  // namespace

template <typename T>
std::size_t analyse(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    Transform<T> transform(args, executor, workspace);
    if (workspace != nullptr) {
        transform.analyse();
    }
    return transform.bytes();
}
template <typename T>
std::size_t synthesise(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    Transform<T> transform(args, executor, workspace);
    if (workspace != nullptr) {
        transform.synthesise();
    }
    return transform.bytes();
}

template <typename T>
std::size_t spectral_analysis_workspace(
    const SpectralTransformArgs<T>& args, const Executor& executor
) {
    return analyse(args, executor, nullptr);
}
template <typename T>
void spectral_analysis(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    analyse(args, executor, workspace);
}
template <typename T>
std::size_t spectral_synthesis_workspace(
    const SpectralTransformArgs<T>& args, const Executor& executor
) {
    return synthesise(args, executor, nullptr);
}
template <typename T>
void spectral_synthesis(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    synthesise(args, executor, workspace);
}

#define PHYSCON_INSTANTIATE(T)                                                                \
    template std::size_t analyse(const SpectralTransformArgs<T>&, const Executor&, void*);    \
    template std::size_t synthesise(const SpectralTransformArgs<T>&, const Executor&, void*); \
    template std::size_t spectral_analysis_workspace(                                         \
        const SpectralTransformArgs<T>&, const Executor&                                      \
    );                                                                                        \
    template void spectral_analysis(const SpectralTransformArgs<T>&, const Executor&, void*); \
    template std::size_t spectral_synthesis_workspace(                                        \
        const SpectralTransformArgs<T>&, const Executor&                                      \
    );                                                                                        \
    template void spectral_synthesis(const SpectralTransformArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
