// SPDX-License-Identifier: Apache-2.0
// Gains of the published elimination: multiples of the identity, and of G in the second column.
#include "../elimination.hpp"
#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// The answers of channel 0 to a source in all channels.
Steps steps_of(const TwoStepGainArgs& a) {
    double answer[3] = {};
    for (int64_t b = 0; b < 3; ++b) {
        const double* column = a.response + b * a.modes * a.channels * a.channels * a.parts;
        for (int64_t i = 0; i < a.channels; ++i) {
            answer[b] += column[i * a.channels * a.parts];
        }
    }
    return {a, answer[0], answer[1], answer[2]};
}

}  // namespace

void two_step_gain(const TwoStepGainArgs& a, const Executor& executor) {
    const Steps steps = steps_of(a);
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
    const Steps steps = steps_of(a);
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
    double entry[3];
    steps.pull_back(a, seen, own, block, entry);
    for (int64_t b = 0; b < 3; ++b) {
        for (int64_t i = 0; i < c; ++i) {
            a.response_out[b * size + i * row] += entry[b];
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
