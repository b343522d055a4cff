// SPDX-License-Identifier: Apache-2.0
// One axis of a grid, seen from the modes of the others: places, phases at its ends, and the part
// of what happens there that a real field has.
#pragma once

#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// A complex number of the modes of all axes but one sits at this mirror image, if anywhere.
struct Mirror {
    bool real_field;  ///< whether only the real part of the field counts here
    int64_t partner;  ///< -1: not retained
    double sign;
};

/// One axis of a grid, seen from the modes q of the others.
struct Normal {
    const SpectralGrid& grid;
    int axis;
    int64_t modes, inner, others;  ///< of the axis, of those behind it, of all others

    Normal(const SpectralGrid& g, int a) : grid(g), axis(a), modes(g.modes[a]), inner(1) {
        for (int i = a + 1; i < 3; ++i) {
            inner *= g.modes[i];
        }
        others = g.modes[0] * g.modes[1] * g.modes[2] / modes;
    }
    int64_t mode(int64_t k, int64_t q) const {
        return (q / inner * modes + k) * inner + q % inner;
    }
    /// h_k
    double weight(int64_t k) const {
        const int64_t wave = wavenumber(grid, axis, k);
        const bool twice = axis == 2 && wave > 0 && 2 * static_cast<double>(wave) != grid.period[2];
        return (twice ? 2 : 1) / grid.period[axis];
    }
    int first() const {
        return axis == 0 ? 1 : 0;
    }
    int second() const {
        return axis == 2 ? 1 : 2;
    }
    static int64_t wavenumber(const SpectralGrid& grid, int axis, int64_t k) {
        return axis == 2 || k < (grid.modes[axis] + 1) / 2 ? k : k - grid.modes[axis];
    }
    Mirror mirror(int64_t q) const {
        const int64_t at[2] = {q / grid.modes[second()], q % grid.modes[second()]};
        const int axes[2] = {first(), second()};
        int64_t to[2];
        Mirror m = {true, 0, 1};
        for (int i = 0; i < 2; ++i) {
            const int64_t k = wavenumber(grid, axes[i], at[i]), count = grid.modes[axes[i]];
            const bool own =
                k == 0 || 2 * static_cast<double>(k < 0 ? -k : k) == grid.period[axes[i]];
            to[i] = at[i];
            if (own && k != 0 && grid.size[axes[i]] % 2 == 0) {
                m.sign = -m.sign;  // the phase of the centre, twice
            }
            if (own) {
                continue;
            }
            if (axes[i] == 2) {
                return {false, -1, 1};
            }
            to[i] = k < 0 ? -k : count - k;
            if (to[i] == count / 2 && k < 0) {
                m.partner = -1;
            }
        }
        if (m.partner == 0) {
            m.partner = to[0] * grid.modes[second()] + to[1];
        }
        return m;
    }
};

/// cos(w_k t) and sin(w_k t) of every mode of an axis at a distance t from its centre, and h_k.
struct Phases {
    double *cosine, *sine, *weight;
    Phases(Arena& arena, const Normal& normal)
        : cosine(arena.take<double>(normal.modes)),
          sine(arena.take<double>(normal.modes)),
          weight(arena.take<double>(normal.modes)) {}
    /// Of the points `inwards` points away from the ends.
    void fill(const Normal& normal, int64_t inwards = 0) const {
        const double period = normal.grid.period[normal.axis];
        for (int64_t k = 0; k < normal.modes; ++k) {
            const int64_t wave = Normal::wavenumber(normal.grid, normal.axis, k);
            const auto turns = static_cast<double>(
                (wave < 0 ? -wave : wave) * (normal.grid.size[normal.axis] - 1 - 2 * inwards)
            );
            const CosineSine value = cosine_sine(turns, period);
            cosine[k] = value.cosine;
            sine[k] = wave < 0 ? -value.sine : value.sine;
            weight[k] = normal.weight(k);
        }
    }
};

/// Keeps the part of the ends that a real field has; its own adjoint. `centred`: the ends come from
/// spectra about the centre, otherwise they multiply such spectra.
inline void take_real_field(
    double* ends, const Normal& normal, bool centred, int64_t length, const Executor& executor
) {
    run_indices(executor, normal.others, [&](int64_t, int64_t q) {
        const Mirror m = normal.mirror(q);
        // A pair is done by its smaller index; nobody else touches either.
        if (!m.real_field || (m.partner >= 0 && m.partner < q)) {
            return;
        }
        double* own = ends + q * length;
        if (m.partner < 0) {
            for (int64_t i = 0; i < length; ++i) {
                own[i] *= 0.5;
            }
            return;
        }
        double* other = ends + m.partner * length;
        for (int64_t i = 0; i < length; i += 2) {
            const double re = own[i], im = own[i + 1], sign = centred ? m.sign : 1;
            const double mirror_re = other[i], mirror_im = other[i + 1];
            own[i] = 0.5 * (re + sign * mirror_re);
            own[i + 1] = 0.5 * (im - sign * mirror_im);
            other[i] = 0.5 * (mirror_re + sign * re);
            other[i + 1] = 0.5 * (mirror_im - sign * im);
        }
    });
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
