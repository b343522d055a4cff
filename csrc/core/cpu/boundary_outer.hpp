// SPDX-License-Identifier: Apache-2.0
// The gradient of the weights on a line in one mixing. The spectrum X is shifted by U and then
// mixed; g is the gradient of the mixed one, h what the ends add to it on the way back. Both U and
// h come from the ends alone, with real rows p, q, r, s for an item that all wavenumbers share:
//
//   U = p cos + i q sin,   h = w (r cos + i s sin)
//   dL/dW = X^H (g + h) + U^H g = (X + U)^H (g + h) - U^H h
//   U^H h = w (cos^2 p'r + sin^2 q's + i cos sin (p's - q'r))
//
// The last line, summed over the batch, needs three matrices for all wavenumbers together. Where U
// and h are both large, as without a ridge, the difference cancels: `is_mild` tells.
#pragma once

#include "boundary_ends.hpp"
#include "boundary_gains.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// Sum of the squares of a spectrum.
template <typename T>
double square_sum(const Spectrum<const T>& spectrum, int64_t modes) {
    const int64_t count = 2 * modes * spectrum.batch * spectrum.channels;
    Wide<T> sum = {};
    int64_t i = 0;
    for (; i + width<T> <= count; i += width<T>) {
        const Wide<T> v = load_wide(spectrum.data + i);
        for (int w = 0; w < Wide<T>::parts; ++w) {
            sum.part[w] += v.part[w] * v.part[w];
        }
    }
    double total = 0;
    for (int w = 0; w < Wide<T>::parts; ++w) {
        total += sum_lanes(sum.part[w]);
    }
    for (; i < count; ++i) {
        total += static_cast<double>(spectrum.data[i]) * static_cast<double>(spectrum.data[i]);
    }
    return total;
}
/// The same of what sources at the ends of a line radiate.
inline double square_sum(
    const Records& r, int64_t at, int64_t channels, const Phases& phases, bool weighted
) {
    double even = 0, odd = 0, total = 0;
    for (int64_t b = 0; b < r.batch; ++b) {
        const double* first = r.data + b * r.length() + at;
        const double* last = first + channels;
        for (int64_t c = 0; c < channels; ++c) {
            even += (first[c] + last[c]) * (first[c] + last[c]);
            odd += (first[c] - last[c]) * (first[c] - last[c]);
        }
    }
    for (int64_t k = 0; k < r.normal.modes; ++k) {
        const double w = weighted ? phases.weight[k] : 1;
        const double c = w * phases.cosine[k], s = w * phases.sine[k];
        total += c * c * even + s * s * odd;
    }
    return total;
}

/// Whether |U| |h| <= 2 (|X| + |U|) |g|, so that rounding grows by a small factor only.
template <typename T>
bool is_mild(
    const Spectrum<const T>& spectrum,
    const Spectrum<const T>& upstream,
    const Records& seen,
    const Records& grad,
    const Phases& phases
) {
    const int64_t modes = seen.normal.modes;
    const double x = square_sum(spectrum, modes), g = square_sum(upstream, modes);
    const double u = square_sum(seen, seen.shifts(), seen.in, phases, false);
    const double h = square_sum(grad, grad.outputs(), grad.out, phases, true);
    return u * h <= 4 * (x + u) * g;
}

template <typename T>
struct EndTerm {
    int64_t in, out, modes;
    double* products;  ///< [d_0 d_N]' [g_0 g_N], (2 in, 2 out)
    T *first, *second, *factors;

    EndTerm(Arena& arena, const SpectralGrid& grid, int64_t i, int64_t o)
        : in(i),
          out(o),
          modes(grid.modes[2]),
          products(arena.take<double>(4 * in * out)),
          first(arena.take<T>(2 * in * out)),
          second(arena.take<T>(2 * in * out)),
          factors(arena.take<T>(4 * modes)) {}

    /// From the shifts of the ends, and what was radiated back from the ends of the output.
    void fill(
        const Records& seen, const Records& grad, const Phases& phases, const Executor& executor
    ) const {
        Gains::cut(seen, 2 * in, executor, [&](int64_t, int64_t, int64_t row, int64_t count) {
            GainProduct p = {};
            p.left = seen.data + seen.shifts() + row;
            p.left_row = 1;
            p.left_step = seen.length();
            p.right = grad.data + grad.outputs();
            p.right_step = grad.length();
            p.columns = p.out_row = 2 * out;
            p.out = products + row * p.out_row;
            p.rows = count;
            p.steps = seen.batch;
            multiply(p);
        });
        run_indices(executor, in, [&](int64_t, int64_t i) {
            const double* near = products + 2 * i * out;        // d_0' g_0, d_0' g_N
            const double* far = products + 2 * (in + i) * out;  // d_N' g_0, d_N' g_N
            T* one = first + 2 * i * out;
            T* other = second + 2 * i * out;
            for (int64_t o = 0; o < out; ++o) {
                const double same = near[o] + far[out + o], across = near[out + o] + far[o];
                one[2 * o] = static_cast<T>(same + across);
                one[2 * o + 1] = static_cast<T>(2 * (far[o] - near[out + o]));
                other[2 * o] = static_cast<T>(same - across);
                other[2 * o + 1] = 0;
            }
        });
        for (int64_t k = 0; k < modes; ++k) {
            const double c = phases.cosine[k], s = phases.sine[k], w = phases.weight[k];
            factors[4 * k] = static_cast<T>(w * c * c);
            factors[4 * k + 1] = static_cast<T>(w * c * s);
            factors[4 * k + 2] = static_cast<T>(w * s * s);
            factors[4 * k + 3] = 0;
        }
    }
    WeightTerm<T> view() const {
        return {first, second, factors};
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
