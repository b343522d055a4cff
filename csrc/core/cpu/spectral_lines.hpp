// SPDX-License-Identifier: Apache-2.0
// The last axis, line by line in groups of lines. Folded values are packed as (even, odd) pairs,
// one of which every lane of a vector of wavenumbers picks by its parity, so that a tile needs
// neither shuffles nor a split of even and odd wavenumbers.
//
// A transformed line is planar: `padded` real parts, then `padded` imaginary parts, wavenumbers
// filled up with zeros to whole vectors.
#pragma once

#include "shuffle.hpp"
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

// Each point q stands for up to 4 values, so a partial sum covers at most 256 of them.
inline constexpr int64_t folded_run = 64;
inline constexpr int64_t group_lines = 24;
// Longer lines are read in pieces too far apart for the processor to foresee the next one.
inline constexpr int64_t prefetched_points = 2048;

#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int analysis_lines = 12;  // 32 registers: 12 x (cosine, sine) sums
inline constexpr int wide_lines = 6;       // 6 x 2 vectors of wavenumbers
inline constexpr int synthesis_lines = 6;  // 6 x (even, odd) x (cosine, sine)
#else
inline constexpr int analysis_lines = 6;
inline constexpr int wide_lines = 3;
inline constexpr int synthesis_lines = 3;
#endif

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

inline constexpr int64_t packed_pairs = 2 * folded_run;  // per line, sums and differences each

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

inline constexpr int64_t packed_group = 2 * group_lines * packed_pairs;  // elements of scratch

/// out (lines, 2 padded) from lines x, `stride` apart, up to group_lines at once.
template <typename T>
void analyse_group(
    const Lines<T>& l, const T* x, int64_t stride, int64_t lines, T* packed, T* out
) {
    constexpr int lanes = width<T>;
    const int64_t points = l.fold.points, basis_stride = 2 * points * lanes;
    T* sums = packed;
    T* differences = packed + group_lines * packed_pairs;
    for (int64_t q0 = 0; q0 < points; q0 += folded_run) {
        const int64_t count = smaller(folded_run, points - q0);
        // Next come the following points of the same lines, or the first ones of the next lines.
        const int64_t next = q0 + folded_run < points ? 0 : lines * stride;
        const int64_t ahead[2] = {
            next == 0 ? folded_run : next - q0, next == 0 ? -folded_run : next + q0
        };
        for (int64_t r = 0; r < lines; ++r) {
            const T* line = x + r * stride;
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
        int64_t k = 0;
        const auto tile = [&](auto lines_tag, auto vectors_tag, int64_t r) {
            analyse_tile<decltype(lines_tag)::value, decltype(vectors_tag)::value>(
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
        for (; k + 2 * lanes <= l.padded; k += 2 * lanes) {
            for_tiles<wide_lines>(lines, [&](auto tag, int64_t r) {
                tile(tag, std::integral_constant<int, 2>{}, r);
            });
        }
        if (k < l.padded) {
            for_tiles<analysis_lines>(lines, [&](auto tag, int64_t r) {
                tile(tag, std::integral_constant<int, 1>{}, r);
            });
        }
    }
}

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
template <int lines, bool streamed, typename T>
inline void synthesise_tile(const Lines<T>& l, const T* in, int64_t q, int64_t stride, T* y) {
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
        T* to = y + r * stride;
        const V s = even[r] + odd[r], d = even_sine[r] + odd_sine[r];
        const V s2 = even[r] - odd[r], d2 = odd_sine[r] - even_sine[r];
        const V values[4] = {s - d, reverse<T>(s + d), reverse<T>(s2 - d2), s2 + d2};
        const auto put = [&](int64_t at, V value) {
            if (streamed) {
                stream(to + at, value);
            } else {
                store(to + at, value);
            }
        };
        if (whole) {
            put(f.up + q, values[0]);
            put(f.down - q - lanes + 1, values[1]);
            if (f.paired) {
                put(f.top - q - lanes + 1, values[2]);
                put(f.bottom + q, values[3]);
            }
        } else {
            store_existing(f, q, values, to);
        }
    }
}

/// Whether every whole vector of every line begins at a multiple of its size.
template <typename T>
bool is_aligned(const Lines<T>& l, const T* y, int64_t stride) {
    const Fold& f = l.fold;
    const int64_t lanes = width<T>;
    const auto whole = [&](int64_t at) { return at % lanes == 0; };
    return reinterpret_cast<std::uintptr_t>(y) % vector_bytes == 0 && whole(stride) &&
           whole(f.up) && whole(f.down + 1) && (!f.paired || (whole(f.top + 1) && whole(f.bottom)));
}

/// Lines y, `stride` apart, from in (lines, 2 padded), up to group_lines at once; `streamed` for
/// more of them than the caches hold.
template <typename T>
void synthesise_group(
    const Lines<T>& l, const T* in, int64_t lines, int64_t stride, bool streamed, T* y
) {
    constexpr int lanes = width<T>;
    // As many points at once as keep their part of the basis in the first-level cache.
    const int64_t vectors =
        larger<int64_t>(1, 16384 / (2 * l.modes * lanes * static_cast<int64_t>(sizeof(T))));
    const bool past = streamed && is_aligned(l, y, stride);
    for (int64_t q0 = 0; q0 < l.fold.points; q0 += vectors * lanes) {
        const int64_t stop = smaller(q0 + vectors * lanes, l.fold.points);
        for_tiles<synthesis_lines>(lines, [&](auto tag, int64_t r) {
            constexpr int count = decltype(tag)::value;
            const T* from = in + r * 2 * l.padded;
            for (int64_t q = q0; q < stop; q += lanes) {
                if (past) {
                    synthesise_tile<count, true>(l, from, q, stride, y + r * stride);
                } else {
                    synthesise_tile<count, false>(l, from, q, stride, y + r * stride);
                }
            }
        });
    }
    if (past) {
        finish_streams();
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
