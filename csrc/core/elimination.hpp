// SPDX-License-Identifier: Apache-2.0
// The published elimination, left end first, with one scalar pivot for all channels: its numbers
// and their derivatives, the same text for the CPU and for a CUDA thread.
#pragma once

#include "boundary_spectral.hpp"

#if defined(__CUDACC__)
#define PHYSCON_ELIMINATION __device__
#define PHYSCON_UNROLL _Pragma("unroll")
#else
#define PHYSCON_ELIMINATION
#define PHYSCON_UNROLL
#endif

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// The numbers of the two steps: gains are these multiples of the identity, and of G in the column
/// of the last point.
struct Steps {
    double k00, kn0, k0n, last, rho, difference, pivot;
    double seen[4], own[4], block[4];  ///< multiples for [a_0 a_N y_0 y_N]

    /// From the answers K_00, K_N0 and K_0N.
    PHYSCON_ELIMINATION Steps(const TwoStepGainArgs& a, double same, double across, double back)
        : k00(same), kn0(across), k0n(back) {
        last = small(a, k00) ? a.tolerance : k00;
        rho = k0n / last;
        difference = k00 - kn0 * rho;
        pivot = small(a, difference) ? a.tolerance : difference;
        seen[0] = 1;
        seen[1] = -k0n / pivot;
        seen[2] = -1 / pivot;
        seen[3] = rho / pivot;
        const double alone[4] = {0, 1, 0, -1 / last}, slipped[4] = {1, -1, 0, 0};
        const bool both = a.ends[0] && a.ends[1];
        PHYSCON_UNROLL
        for (int s = 0; s < 4; ++s) {
            own[s] = alone[s] + a.slip * (seen[s] + slipped[s]);
            block[s] = -seen[s] / last;
        }
        PHYSCON_UNROLL
        for (int s = 0; s < 4 && !both; ++s) {
            seen[s] = a.ends[0] ? alone[s ^ 1] : 0;
            own[s] = a.ends[1] ? alone[s] : 0;
            block[s] = 0;
        }
    }

    /// Gradients of the three answers from those of the multiples; both ends.
    PHYSCON_ELIMINATION void pull_back(
        const TwoStepGainArgs& a,
        const double (&of_seen)[4],
        const double (&of_own)[4],
        const double (&of_block)[4],
        double (&answers)[3]
    ) const {
        double bar[4], of_last = of_own[3];
        PHYSCON_UNROLL
        for (int s = 0; s < 4; ++s) {
            bar[s] = of_seen[s] + (a.slip * of_own[s] - of_block[s] / last);
            of_last += of_block[s] * seen[s];
        }
        of_last /= last * last;
        const double of_pivot = (bar[1] * k0n + bar[2] - bar[3] * rho) / (pivot * pivot);
        const double of_difference = small(a, difference) ? 0 : of_pivot;
        const double of_rho = bar[3] / pivot - of_difference * kn0;
        of_last -= of_rho * rho / last;
        answers[0] = of_difference + (small(a, k00) ? 0 : of_last);
        answers[1] = -of_difference * rho;
        answers[2] = of_rho / last - bar[1] / pivot;
    }

  private:
    PHYSCON_ELIMINATION static bool small(const TwoStepGainArgs& a, double value) {
        return (a.modulus && value < 0 ? -value : value) < a.tolerance;
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
