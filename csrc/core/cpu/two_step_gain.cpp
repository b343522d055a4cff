// SPDX-License-Identifier: Apache-2.0
// Gains of the published elimination: multiples of the identity, and of G in the second column.
#include "../boundary_spectral.hpp"
#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// The numbers of the two steps.
struct Steps {
    double k00, kn0, k0n, last, rho, difference, pivot;
    double seen[4], own[4], block[4];  ///< multiples for [a_0 a_N y_0 y_N]

    explicit Steps(const TwoStepGainArgs& a) {
        double* entry[3] = {&k00, &kn0, &k0n};
        for (int64_t b = 0; b < 3; ++b) {
            const double* answers = a.response + b * a.modes * a.channels * a.channels * a.parts;
            *entry[b] = 0;
            for (int64_t i = 0; i < a.channels; ++i) {
                *entry[b] += answers[i * a.channels * a.parts];
            }
        }
        last = small(a, k00) ? a.tolerance : k00;
        rho = k0n / last;
        difference = k00 - kn0 * rho;
        pivot = small(a, difference) ? a.tolerance : difference;
        seen[0] = 1;
        seen[1] = -k0n / pivot;
        seen[2] = -1 / pivot;
        seen[3] = rho / pivot;
        const double alone[4] = {0, 1, 0, -1 / last}, slipped[4] = {1, -1, 0, 0};
        for (int s = 0; s < 4; ++s) {
            own[s] = alone[s] + a.slip * (seen[s] + slipped[s]);
            block[s] = -seen[s] / last;
        }
        if (!(a.ends[0] && a.ends[1])) {
            for (int s = 0; s < 4; ++s) {
                seen[s] = a.ends[0] ? alone[s ^ 1] : 0;
                own[s] = a.ends[1] ? alone[s] : 0;
                block[s] = 0;
            }
        }
    }
    static bool small(const TwoStepGainArgs& a, double value) {
        return (a.modulus && value < 0 ? -value : value) < a.tolerance;
    }
};

}  // namespace

void two_step_gain(const TwoStepGainArgs& a, const Executor& executor) {
    const Steps steps(a);
    const int64_t c = a.channels, row = c * a.parts;
    run_indices(executor, a.modes * 4 * c, [&](int64_t, int64_t index) {
        const int64_t s = index / c % 4, i = index % c;
        const double* across = a.response + ((a.modes + index / (4 * c)) * c + i) * row;
        double* to = a.gain_out + index * 2 * row;
        for (int64_t j = 0; j < row; ++j) {
            to[j] = 0;
            to[row + j] = steps.block[s] * across[j];
        }
        to[i * a.parts] = steps.seen[s];
        to[row + i * a.parts] += steps.own[s];
    });
}

void two_step_gain_adjoint(const TwoStepGainArgs& a, const Executor&) {
    const Steps steps(a);
    const int64_t c = a.channels, row = c * a.parts, size = a.modes * c * row;
    for (int64_t i = 0; i < 3 * size; ++i) {
        a.response_out[i] = 0;
    }
    double seen[4] = {}, own[4] = {}, block[4] = {};
    for (int64_t q = 0; q < a.modes; ++q) {
        for (int64_t s = 0; s < 4; ++s) {
            for (int64_t i = 0; i < c; ++i) {
                const double* bar = a.gain_bar + ((q * 4 + s) * c + i) * 2 * row;
                const double* across = a.response + size + (q * c + i) * row;
                double* to = a.response_out + size + (q * c + i) * row;
                seen[s] += bar[i * a.parts];
                own[s] += bar[row + i * a.parts];
                for (int64_t j = 0; j < row; ++j) {
                    block[s] += bar[row + j] * across[j];
                    to[j] += steps.block[s] * bar[row + j];
                }
            }
        }
    }
    const double last = steps.last, pivot = steps.pivot;
    double of_last = own[3];
    for (int s = 0; s < 4; ++s) {
        seen[s] += a.slip * own[s] - block[s] / last;
        of_last += block[s] * steps.seen[s];
    }
    of_last /= last * last;
    const double of_pivot = (seen[1] * steps.k0n + seen[2] - seen[3] * steps.rho) / (pivot * pivot);
    const double of_difference = Steps::small(a, steps.difference) ? 0 : of_pivot;
    const double of_rho = seen[3] / pivot - of_difference * steps.kn0;
    of_last -= of_rho * steps.rho / last;
    const double entry[3] = {
        of_difference + (Steps::small(a, steps.k00) ? 0 : of_last),
        -of_difference * steps.rho,
        of_rho / last - seen[1] / pivot
    };
    for (int64_t b = 0; b < 3; ++b) {
        for (int64_t i = 0; i < c; ++i) {
            a.response_out[b * size + i * row] += entry[b];
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
