// SPDX-License-Identifier: Apache-2.0
// Folded transforms: geometry, tables and the stages that other kernels build on.
//
// About the centre, x at distance t on either side meets the same cosine and opposite sines:
//
//   s = x(c + t) + x(c - t),  d = x(c + t) - x(c - t):   Re X = sum s cos,  Im X = -sum d sin
//
// If P is an even integer, t and P / 2 - t meet the same cosine up to the parity of k (and the same
// sine up to the opposite parity), which halves the sums once more: even and odd k use
//
//   s(t) + s(P/2 - t), s(t) - s(P/2 - t)   and   d(t) - d(P/2 - t), d(t) + d(P/2 - t).
//
// Points are therefore numbered by q = 0, 1, ..: t = q for odd N, q + 1/2 for even N.
#pragma once

#include "../spectral.hpp"
#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// Where the (up to) four values that share a cosine lie: c + t = up + q, c - t = down - q,
/// c + (P/2 - t) = top - q, c - (P/2 - t) = bottom + q. Indices outside [0, n) do not exist.
struct Fold {
    int64_t n, points;
    int64_t up, down, top, bottom;
    bool paired;  ///< whether any top and bottom exist
};

inline Fold fold_axis(int64_t n, double period) {
    Fold f = {};
    const int64_t odd = n % 2, half = (n + 1) / 2;
    f.n = n;
    f.up = n / 2;
    f.down = n - 1 - f.up;
    f.points = half;
    const double quarter = period / 4;
    // floor(P/4) is exact for any P; even integers are those with 2 floor(P/2) = P.
    if (2 * __builtin_floor(period / 2) == period && 2 * static_cast<double>(n) > period) {
        const double first = odd != 0 ? 0 : 0.5;
        const auto count = static_cast<int64_t>(__builtin_floor(quarter - first)) + 1;
        if (count < half) {
            f.points = count;
            f.paired = true;
            // c + P/2 - t at q = 0
            f.top = f.down + static_cast<int64_t>(period / 2);
            f.bottom = n - 1 - f.top;
        }
    }
    return f;
}

/// cos and sin of pi j / P for an integer j, reduced without rounding: exact zeros and symmetries.
struct CosineSine {
    double cosine, sine;
};
CosineSine cosine_sine(double j, double period);

/// Whether the last axis is transformed in two steps, see spectral_split.hpp.
template <typename T>
bool is_split(const SpectralGrid& grid);
/// Whether it is the only one and has few points, see spectral_short.hpp.
template <typename T>
bool is_short(const SpectralGrid& grid);

/// The tables of a grid inside the caller's memory. `half` marks sums over points: a point that is
/// its own mirror image (t = 0, or t = P/4 when folded twice) is met twice there and counts half.
template <typename T>
struct SpectralTables {
    T* weights;    ///< (m) h_k of the last axis, times 1 / P of all others
    T* analysis;   ///< last axis, half: for each vector of k, each q: cosines, sines
    T* synthesis;  ///< last axis: for each vector of q, each k: cosines, sines
    // The only axis of a grid, or null: in two steps, for each k, each vector of q; few points.
    T* split;
    T* short_analysis;
    T* short_synthesis;
    T* cosine[2];  ///< other axes: (M / 2 + 1, points)
    T* sine[2];    ///< the same
    T* half_cosine[2];
    T* half_sine[2];
    std::size_t bytes;
};
template <typename T>
SpectralTables<T> find_tables(const SpectralGrid& grid, void* base);

inline int64_t mode_count(const SpectralGrid& grid) {
    return grid.modes[0] * grid.modes[1] * grid.modes[2];
}
inline int64_t point_count(const SpectralGrid& grid) {
    return grid.size[0] * grid.size[1] * grid.size[2];
}

// The entry points of ../spectral.hpp for other kernels of this instruction set. Each returns the
// bytes of workspace that it needs and does nothing else when `workspace` is null.
template <typename T>
std::size_t analyse(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
);
template <typename T>
std::size_t synthesise(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
);
template <typename T>
std::size_t mix(const SpectralMixArgs<T>& args, const Executor& executor, void* workspace);
/// What is taken off the gradient of the weights of mode k, as pairs of real numbers:
/// (f_0 f_1) first + (f_2 f_3) second, f = factors + 4 k.
template <typename T>
struct WeightTerm {
    const T *first, *second, *factors;
};
template <typename T>
std::size_t mix_adjoint(
    const SpectralMixArgs<T>& args,
    const Executor& executor,
    void* workspace,
    const WeightTerm<T>* less = nullptr
);

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
