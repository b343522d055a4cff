// SPDX-License-Identifier: Apache-2.0
// The only axis of a grid with few points: plain sums over all of them. Folding would cost more
// than it saves. As many lines at once as their parts of one wavenumber fill a vector, so that
// results are turned into the order of the spectrum in registers.
#pragma once

#include "shuffle.hpp"
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

// Up to so many points, or a few more where one vector holds all wavenumbers.
inline constexpr int64_t short_points = 32, short_points_few = 128;
template <typename T>
inline constexpr int short_lines = width<T> / 2;

template <typename T>
struct Short {
    int64_t n, modes, padded_points, padded_modes;  ///< padded_modes counts real numbers
    const T* analysis;   ///< for each point: cos, -sin of each wavenumber; or null
    const T* synthesis;  ///< for each wavenumber: cosines of the points, then minus sines
    int64_t scratch() const {
        return modes * width<T>;
    }
};
template <typename T>
Short<T> short_of(const SpectralGrid& grid, const SpectralTables<T>& tables) {
    Short<T> s = {};
    s.n = grid.size[2];
    s.modes = grid.modes[2];
    s.padded_points = round_up(s.n, width<T>);
    s.padded_modes = round_up(2 * s.modes, width<T>);
    s.analysis = tables.short_analysis;
    s.synthesis = tables.short_synthesis;
    return s;
}

/// out (modes, out_step) <- spectrum of `count` lines x, `stride` apart, up to short_lines.
template <typename T>
void analyse_short(
    const Short<T>& s,
    const T* x,
    int64_t stride,
    int64_t count,
    const T* factors,
    T* out,
    int64_t out_step
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>, lines = short_lines<T>;
    const T* line[lines];
    for (int r = 0; r < lines; ++r) {
        line[r] = x + smaller<int64_t>(r, count - 1) * stride;  // those too many are not stored
    }
    for (int64_t first = 0; first < s.modes; first += lines) {
        V sum[lines] = {};
        const T* basis = s.analysis + 2 * first;
        for (int64_t q = 0; q < s.n; ++q, basis += s.padded_modes) {
            const V b = load(basis);
#pragma GCC unroll 8
            for (int r = 0; r < lines; ++r) {
                sum[r] += line[r][q] * b;
            }
        }
        transpose<2, T>(sum);
        const int64_t stop = smaller<int64_t>(lines, s.modes - first);
        for (int64_t k = 0; k < stop; ++k) {
            const V value = factors == nullptr ? sum[k] : factors[first + k] * sum[k];
            T* to = out + (first + k) * out_step;
            if (count == lines) {
                store(to, value);
            } else {
                store_partial(to, value, static_cast<int>(2 * count));
            }
        }
    }
    static_assert(lanes == 2 * lines);
}

/// `count` lines y, `stride` apart, from their spectrum in (modes, in_step).
template <typename T>
void synthesise_short(
    const Short<T>& s,
    const T* in,
    int64_t in_step,
    const T* factors,
    int64_t count,
    T* work,
    int64_t stride,
    T* y
) {
    using V = Vector<T>;
    constexpr int lanes = width<T>, lines = short_lines<T>;
    for (int64_t k = 0; k < s.modes; ++k) {
        const T* from = in + k * in_step;
        const V z = count == lines ? load(from) : load_partial(from, static_cast<int>(2 * count));
        store(work + k * lanes, factors == nullptr ? z : factors[k] * z);
    }
    for (int64_t q = 0; q < s.n; q += lanes) {
        V sum[lines] = {};
        const T* basis = s.synthesis + q;
        for (int64_t k = 0; k < s.modes; ++k, basis += 2 * s.padded_points) {
            const V c = load(basis), d = load(basis + s.padded_points);
            const T* z = work + k * lanes;
#pragma GCC unroll 8
            for (int r = 0; r < lines; ++r) {
                sum[r] += z[2 * r] * c;
                sum[r] += z[2 * r + 1] * d;
            }
        }
        const int left = static_cast<int>(smaller<int64_t>(lanes, s.n - q));
#pragma GCC unroll 8
        for (int r = 0; r < lines; ++r) {
            if (r < count) {
                T* to = y + r * stride + q;
                if (left == lanes) {
                    store(to, sum[r]);
                } else {
                    store_partial(to, sum[r], left);
                }
            }
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
