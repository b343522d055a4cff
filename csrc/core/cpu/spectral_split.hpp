// SPDX-License-Identifier: Apache-2.0
// The only axis of a grid whose period P is a multiple of 16, in two steps (Cooley and Tukey 1965,
// cut down to the wavenumbers that are kept). With n = q + L j, L = P / 16, j = 0 .. 15:
//
//   X(k) = sum_q e^{-i w_k (q - c)} Y(k mod 16, q),   Y(r, q) = sum_j x(q + L j) e^{-2 pi i r j /
//   16}
//
// The first step is a short real transform across 16 vectors of points q, without multiplications
// by anything but three constants; Y(16 - r) is the conjugate of Y(r). The second one costs a
// sixteenth of the direct sum, and meets wavenumbers of opposite residues in pairs, which share Y.
// The synthesis is the transpose: 16 sums over wavenumbers of equal residue, then the short
// transform. The centre c is part of the angles of the second step.
#pragma once

#include "shuffle.hpp"
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr int64_t radix = 16;
inline constexpr int split_lines = 4;
inline constexpr int64_t split_run = 4;  // vectors of points between the two steps of the analysis
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int split_waves = 2;    // 4 lines x 2 wavenumbers x (real, imaginary) sums
inline constexpr int split_vectors = 2;  // 4 lines x 2 vectors of points x (cosine, sine) sums
#else
inline constexpr int split_waves = 1;
inline constexpr int split_vectors = 1;
#endif

inline int64_t split_step(const SpectralGrid& grid) {
    return static_cast<int64_t>(grid.period[2]) / radix;
}

/// How the axis is cut.
template <typename T>
struct Split {
    int64_t n, modes;
    int64_t step;     ///< L
    int64_t vectors;  ///< of points q, the last one filled up
    const T* basis;   ///< for each k, each vector of q: cosines, sines of w_k (q - c); or null

    /// Whether the line ends before vector q of the last j does.
    bool ends(int64_t q) const {
        return q + (radix - 1) * step + width<T> > n;
    }
    /// Whether every vector begins at a multiple of its size, if the first one does.
    bool is_aligned() const {
        return n == radix * step && step % width<T> == 0;
    }
    const T* wave(int64_t k, int64_t vector) const {
        return basis + (k * vectors + vector) * 2 * width<T>;
    }
    int64_t scratch() const {
        const int64_t between = split_lines * split_run * radix * width<T>;
        return between + modes * 2 * split_lines * width<T>;
    }
};
template <typename T>
Split<T> split_of(const SpectralGrid& grid, const SpectralTables<T>& tables) {
    Split<T> s = {};
    s.n = grid.size[2];
    s.modes = grid.modes[2];
    s.step = split_step(grid);
    s.vectors = round_up(s.step, width<T>) / width<T>;
    s.basis = tables.split;
    return s;
}

/// x at q + L j for a vector of q, all j. What lies beyond q = L is met by zeros of the basis; what
/// lies beyond the line counts as zero.
template <typename T>
inline void load_points(const Split<T>& s, const T* x, int64_t q, Vector<T> (&value)[radix]) {
    if (s.ends(q)) {
#pragma GCC unroll 16
        for (int j = 0; j < radix; ++j) {
            const int64_t at = q + j * s.step;
            value[j] = at + width<T> <= s.n ? load(x + at) : load_window(x, at, larger(s.n, at));
        }
        return;
    }
#pragma GCC unroll 16
    for (int j = 0; j < radix; ++j) {
        value[j] = load(x + q + j * s.step);
    }
}
/// The other way. Lanes beyond q = L spill over into the points of the next j: vectors of points
/// are stored in descending order.
template <bool streamed, typename T>
inline void store_points(const Split<T>& s, T* y, int64_t q, const Vector<T> (&value)[radix]) {
    if (!streamed && s.ends(q)) {
#pragma GCC unroll 16
        for (int j = 0; j < radix; ++j) {
            const int64_t at = q + j * s.step;
            store_window(y, at, at, s.n, value[j]);
        }
        return;
    }
#pragma GCC unroll 16
    for (int j = 0; j < radix; ++j) {
        T* to = y + q + j * s.step;
        if (streamed) {
            stream(to, value[j]);
        } else {
            store(to, value[j]);
        }
    }
}

/// Asks for the points of a block of the analysis, a few each time.
template <typename T>
class Ahead {
  public:
    Ahead(const Split<T>& s, const T* next, int64_t stride, int64_t lines, int64_t vectors)
        : s_(s), next_(next), stride_(stride), pieces_(lines * radix), vectors_(vectors) {
        const int64_t times = (s.modes + split_waves - 1) / split_waves;
        each_ = (pieces_ + times - 1) / times;
    }
    void ask() {
        const int64_t stop = smaller(piece_ + each_, pieces_);
        for (; piece_ < stop; ++piece_) {
            const T* p = next_ + piece_ / radix * stride_ + piece_ % radix * s_.step;
            for (int64_t v = 0; v < vectors_; ++v) {
                prefetch(p + v * width<T>);
            }
        }
    }

  private:
    const Split<T>& s_;
    const T* next_;
    int64_t stride_, pieces_, vectors_, each_, piece_ = 0;
};

template <typename T>
inline constexpr T cos_eighth = T(0.92387953251128675613);  // cos(pi / 8)
template <typename T>
inline constexpr T sin_eighth = T(0.38268343236508977173);
template <typename T>
inline constexpr T half_root = T(0.70710678118654752440);

/// x_0 .. x_15 to Y_0, Y_8 and sum x cos, sum x sin of wavenumbers 1 .. 7.
template <typename T>
inline void short_analysis(Vector<T> (&x)[radix]) {
    using V = Vector<T>;
    V a[8], b[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
        a[j] = x[j] + x[j + 8];
        b[j] = x[j] - x[j + 8];
    }
    // Even wavenumbers: eight points a.
    const V t0 = a[0] + a[4], t1 = a[1] + a[5], t2 = a[2] + a[6], t3 = a[3] + a[7];
    const V d0 = a[0] - a[4], d1 = a[1] - a[5], d2 = a[2] - a[6], d3 = a[3] - a[7];
    const V across = d1 - d3, along = d1 + d3, t02 = t0 + t2, t13 = t1 + t3;
    x[0] = t02 + t13;
    x[1] = t02 - t13;
    x[8] = t0 - t2;
    x[9] = t1 - t3;
    x[4] = d0 + half_root<T> * across;
    x[5] = d2 + half_root<T> * along;
    x[12] = d0 - half_root<T> * across;
    x[13] = half_root<T> * along - d2;
    // Odd wavenumbers: cosines meet b_j - b_(8-j), sines b_j + b_(8-j).
    const V p1 = b[1] - b[7], p2 = b[2] - b[6], p3 = b[3] - b[5];
    const V q1 = b[1] + b[7], q2 = b[2] + b[6], q3 = b[3] + b[5];
    const V e = b[0] + half_root<T> * p2, f = b[0] - half_root<T> * p2;
    const V u = cos_eighth<T> * p1 + sin_eighth<T> * p3;
    const V w = sin_eighth<T> * p1 - cos_eighth<T> * p3;
    const V es = half_root<T> * q2 + b[4], fs = half_root<T> * q2 - b[4];
    const V us = sin_eighth<T> * q1 + cos_eighth<T> * q3;
    const V ws = cos_eighth<T> * q1 - sin_eighth<T> * q3;
    x[2] = e + u;
    x[14] = e - u;
    x[6] = f + w;
    x[10] = f - w;
    x[3] = us + es;
    x[15] = us - es;
    x[7] = ws + fs;
    x[11] = ws - fs;
}
/// The transpose.
template <typename T>
inline void short_synthesis(Vector<T> (&x)[radix]) {
    using V = Vector<T>;
    const V e = x[2] + x[14], u = x[2] - x[14], f = x[6] + x[10], w = x[6] - x[10];
    const V us = x[3] + x[15], es = x[3] - x[15], ws = x[7] + x[11], fs = x[7] - x[11];
    const V p1 = cos_eighth<T> * u + sin_eighth<T> * w;
    const V p3 = sin_eighth<T> * u - cos_eighth<T> * w;
    const V q1 = sin_eighth<T> * us + cos_eighth<T> * ws;
    const V q3 = cos_eighth<T> * us - sin_eighth<T> * ws;
    const V ef = e - f, sum = es + fs;
    const V p2 = half_root<T> * ef;
    const V b[8] = {
        e + f,
        q1 + p1,
        half_root<T> * sum + p2,
        q3 + p3,
        es - fs,
        q3 - p3,
        half_root<T> * sum - p2,
        q1 - p1
    };
    const V first = x[0] + x[1], second = x[0] - x[1];
    const V t[4] = {first + x[8], second + x[9], first - x[8], second - x[9]};
    const V across = x[4] - x[12], along = x[5] + x[13];
    const V m = half_root<T> * across;
    const V d[4] = {x[4] + x[12], half_root<T> * along + m, x[5] - x[13], half_root<T> * along - m};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        const V low = t[j] + d[j], high = t[j] - d[j];
        x[j] = low + b[j];
        x[j + 8] = low - b[j];
        x[j + 4] = high + b[j + 4];
        x[j + 12] = high - b[j + 4];
    }
}

/// Sums inside pieces of 128 bits, which hold `results` sums of each of a and b's vectors so far.
template <int results, typename T, std::size_t... i>
inline Vector<T> fold_pieces(Vector<T> a, Vector<T> b, std::index_sequence<i...>) {
    constexpr int piece = 16 / static_cast<int>(sizeof(T));
    constexpr auto source = [](int lane, int part) {
        const int at = lane % piece, group = at / (2 * results) + part * piece / (2 * results);
        const int from = lane - at + group * results + at % results;
        return at / results % 2 == 0 ? from : from + width<T>;
    };
    return __builtin_shufflevector(a, b, source(static_cast<int>(i), 0)...) +
           __builtin_shufflevector(a, b, source(static_cast<int>(i), 1)...);
}
/// The lanes of each vector added up, in one order: first inside pieces of 128 bits, then pieces.
template <int count, typename T, int n>
inline void fold_vectors(Vector<T> (&v)[n]) {
    if constexpr (count > 1) {
        constexpr int done = width<T> / count, piece = 16 / static_cast<int>(sizeof(T));
#pragma GCC unroll 8
        for (int i = 0; i < count / 2; ++i) {
            if constexpr (done < piece) {
                v[i] = fold_pieces<done, T>(
                    v[2 * i], v[2 * i + 1], std::make_index_sequence<width<T>>{}
                );
            } else {
                v[i] = fold<width<T> * piece / (2 * done)>(
                    v[2 * i], v[2 * i + 1], std::make_integer_sequence<int, width<T>>{}
                );
            }
        }
        fold_vectors<count / 2, T>(v);
    }
}
/// The sum of each of `count` vectors, a multiple of the lanes.
template <int count, typename T>
inline void sum_each(Vector<T> (&v)[count], T* to) {
#pragma GCC unroll 16
    for (int first = 0; first < count; first += width<T>) {
        Vector<T> part[width<T>];
#pragma GCC unroll 16
        for (int i = 0; i < width<T>; ++i) {
            part[i] = v[first + i];
        }
        fold_vectors<width<T>, T>(part);
        store(to + first, part[0]);
    }
}

/// Y of a wavenumber: real (residues 0 and 8), as stored (1 .. 7), or its conjugate (9 .. 15).
enum class Residue { real, own, conjugate };
inline Residue residue_of(int64_t k) {
    const int64_t r = k % radix;
    return r % 8 == 0 ? Residue::real : r < 8 ? Residue::own : Residue::conjugate;
}
/// Where Y of a wavenumber lies among the 16 results of the first step.
inline int64_t slot_of(int64_t k) {
    const int64_t r = k % radix;
    return r == 0 ? 0 : r == 8 ? 1 : 2 * smaller(r, radix - r);
}

/// to <- factor from, `count` numbers.
template <int count, typename T>
inline void scale(T factor, const T* from, T* to) {
    if constexpr ((count & (count - 1)) == 0) {
        typedef T Piece __attribute__((vector_size(count * sizeof(T))));
        Piece piece;
        __builtin_memcpy(&piece, from, sizeof(piece));
        piece *= factor;
        __builtin_memcpy(to, &piece, sizeof(piece));
    } else {
        for (int i = 0; i < count; ++i) {
            to[i] = factor * from[i];
        }
    }
}

/// Second step of the analysis for wavenumber k[0] and, if `waves` is 2, its partner k[1]: the one
/// of opposite residue, or of residue 8 beside 0. Sums are real and imaginary part of each line.
template <int lines, int waves, Residue residue, typename T>
inline void sum_points(
    const Split<T>& s,
    const T* between,
    const int64_t (&k)[2],
    int64_t first,
    int64_t stop,
    Vector<T> (&sum)[waves][2 * lines]
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    for (int64_t v = first; v < stop; ++v) {
#pragma GCC unroll 2
        for (int i = 0; i < waves; ++i) {
            const V c = load(s.wave(k[i], v)), d = load(s.wave(k[i], v) + lanes);
            const T* y = between + (v - first) * radix * lanes + slot_of(k[i]) * lanes;
#pragma GCC unroll 4
            for (int r = 0; r < lines; ++r, y += split_run * radix * lanes) {
                const V re = load(y);
                V &to_re = sum[i][2 * r], &to_im = sum[i][2 * r + 1];
                to_re += c * re;
                to_im -= d * re;
                if constexpr (residue != Residue::real) {
                    const V im = load(y + lanes);
                    if ((residue == Residue::own) == (i == 0)) {
                        to_re -= d * im;
                        to_im -= c * im;
                    } else {
                        to_re += d * im;
                        to_im += c * im;
                    }
                }
            }
        }
    }
}

/// out (modes, out_step) <- spectrum of `lines` lines x, `stride` apart: real and imaginary part of
/// each line behind each other. Factors of the wavenumbers, unless null, go into it. Meanwhile the
/// lines that follow are asked for.
template <int lines, typename T>
void analyse_split(
    const Split<T>& s,
    const T* x,
    int64_t stride,
    const T* factors,
    T* work,
    T* out,
    int64_t out_step
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    T* between = work;
    T* partial = work + split_lines * split_run * radix * lanes;
    for (int64_t first = 0; first < s.vectors; first += split_run) {
        const int64_t stop = smaller(first + split_run, s.vectors);
        for (int r = 0; r < lines; ++r) {
            for (int64_t v = first; v < stop; ++v) {
                V value[radix];
                load_points(s, x + r * stride, v * lanes, value);
                short_analysis<T>(value);
                T* to = between + (r * split_run + v - first) * radix * lanes;
#pragma GCC unroll 16
                for (int j = 0; j < radix; ++j) {
                    store(to + j * lanes, value[j]);
                }
            }
        }
        const T* next = stop < s.vectors ? x + stop * lanes : x + lines * stride;
        Ahead<T> ahead(s, next, stride, lines, stop - first);
        const auto waves = [&](auto count, auto residue, int64_t k, int64_t partner) {
            constexpr int w = decltype(count)::value;
            constexpr int sums = w * 2 * lines;
            const int64_t both[2] = {k, partner};
            ahead.ask();
            V sum[w][2 * lines] = {};
            if (first > 0) {
                for (int i = 0; i < w; ++i) {
                    for (int j = 0; j < 2 * lines; ++j) {
                        sum[i][j] = load(partial + (both[i] * 2 * split_lines + j) * lanes);
                    }
                }
            }
            sum_points<lines, w, decltype(residue)::value>(s, between, both, first, stop, sum);
            if (stop < s.vectors) {
                for (int i = 0; i < w; ++i) {
                    for (int j = 0; j < 2 * lines; ++j) {
                        store(partial + (both[i] * 2 * split_lines + j) * lanes, sum[i][j]);
                    }
                }
                return;
            }
            constexpr int filled = (sums + lanes - 1) / lanes * lanes;
            V flat[filled] = {};
            for (int i = 0; i < w; ++i) {
                for (int j = 0; j < 2 * lines; ++j) {
                    flat[i * 2 * lines + j] = sum[i][j];
                }
            }
            T result[filled];
            sum_each<filled, T>(flat, result);
            for (int i = 0; i < w; ++i) {
                const T factor = factors == nullptr ? T(1) : factors[both[i]];
                scale<2 * lines>(factor, result + i * 2 * lines, out + both[i] * out_step);
            }
        };
        using One = std::integral_constant<int, 1>;
        using Own = std::integral_constant<Residue, Residue::own>;
        using Real = std::integral_constant<Residue, Residue::real>;
        using Conjugate = std::integral_constant<Residue, Residue::conjugate>;
        for (int64_t k = 0; k < s.modes; ++k) {
            const Residue residue = residue_of(k);
            const int64_t r = k % radix, partner = r == 0 ? k + 8 : k + radix - 2 * r;
            if (split_waves == 2 && partner < s.modes && r < 8) {
                using Two = std::integral_constant<int, split_waves>;
                if (residue == Residue::real) {
                    waves(Two{}, Real{}, k, partner);
                } else {
                    waves(Two{}, Own{}, k, partner);
                }
            } else if (split_waves == 2 && r >= 8) {
                continue;  // done with its partner
            } else if (residue == Residue::real) {
                waves(One{}, Real{}, k, k);
            } else if (residue == Residue::own) {
                waves(One{}, Own{}, k, k);
            } else {
                waves(One{}, Conjugate{}, k, k);
            }
        }
    }
}

/// `vectors` vectors of points of `lines` lines: sums over the wavenumbers of each residue.
template <int lines, int vectors, typename T>
inline void sum_waves(const Split<T>& s, const T* factors, int64_t v, T* between) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    const auto add = [&](int64_t k, auto&& each) {
        V c[vectors], d[vectors];
        for (int i = 0; i < vectors; ++i) {
            c[i] = load(s.wave(k, v + i));
            d[i] = load(s.wave(k, v + i) + lanes);
        }
        const T* z = factors + k * 2 * split_lines;
#pragma GCC unroll 4
        for (int r = 0; r < lines; ++r) {
            for (int i = 0; i < vectors; ++i) {
                each(r, i, z[2 * r], z[2 * r + 1], c[i], d[i]);
            }
        }
    };
    const auto put = [&](int slot, const V(&sum)[lines][vectors]) {
        for (int r = 0; r < lines; ++r) {
            for (int i = 0; i < vectors; ++i) {
                store(between + ((r * vectors + i) * radix + slot) * lanes, sum[r][i]);
            }
        }
    };
    for (int64_t r = 0; r <= 8; r += 8) {
        V even[lines][vectors] = {};
        for (int64_t k = r; k < s.modes; k += radix) {
            add(k, [&](int line, int i, T re, T im, V c, V d) {
                even[line][i] += re * c;
                even[line][i] -= im * d;
            });
        }
        put(r == 0 ? 0 : 1, even);
    }
    for (int64_t r = 1; r < 8; ++r) {
        V even[lines][vectors] = {}, odd[lines][vectors] = {};
        for (int64_t k = r; k < s.modes; k += radix) {
            add(k, [&](int line, int i, T re, T im, V c, V d) {
                even[line][i] += re * c;
                even[line][i] -= im * d;
                odd[line][i] -= re * d;
                odd[line][i] -= im * c;
            });
            const int64_t partner = k + radix - 2 * r;
            if (partner < s.modes) {
                add(partner, [&](int line, int i, T re, T im, V c, V d) {
                    even[line][i] += re * c;
                    even[line][i] -= im * d;
                    odd[line][i] += re * d;
                    odd[line][i] += im * c;
                });
            }
        }
        put(static_cast<int>(2 * r), even);
        put(static_cast<int>(2 * r + 1), odd);
    }
}

/// `lines` lines y, `stride` apart, from their spectrum in (modes, in_step), times factors unless
/// these are null. `streamed`: past the caches.
template <int lines, bool streamed, typename T>
void synthesise_split(
    const Split<T>& s, const T* in, int64_t in_step, const T* factors, T* work, int64_t stride, T* y
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    T* between = work;
    T* coefficients = work + split_lines * split_run * radix * lanes;
    for (int64_t k = 0; k < s.modes; ++k) {
        const T factor = factors == nullptr ? T(1) : factors[k];
        scale<2 * lines>(factor, in + k * in_step, coefficients + k * 2 * split_lines);
    }
    const auto points = [&](auto count, int64_t v) {
        constexpr int vectors = decltype(count)::value;
        sum_waves<lines, vectors>(s, coefficients, v, between);
        for (int r = 0; r < lines; ++r) {
            for (int i = vectors - 1; i >= 0; --i) {
                const T* from = between + (r * vectors + i) * radix * lanes;
                V value[radix];
#pragma GCC unroll 16
                for (int j = 0; j < radix; ++j) {
                    value[j] = load(from + j * lanes);
                }
                short_synthesis<T>(value);
                store_points<streamed>(s, y + r * stride, (v + i) * lanes, value);
            }
        }
    };
    int64_t left = s.vectors;
    for (; left >= split_vectors; left -= split_vectors) {
        points(std::integral_constant<int, split_vectors>{}, left - split_vectors);
    }
    if (left > 0) {
        points(std::integral_constant<int, 1>{}, 0);
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
