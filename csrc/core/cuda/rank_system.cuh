// SPDX-License-Identifier: Apache-2.0
// Algebra of rank size by one team, in double precision: factorisation with row dropping, inverse
// factor, status, multipliers. The rules are those of core/cpu/small.hpp.
#pragma once

#include "../condition.hpp"
#include "device.cuh"

namespace physcon::cuda {

// Below this scaled pivot the rows of float data are corrected as well.
constexpr double benign_pivot = 1e-3;
constexpr int refinements = 2;

__host__ __device__ constexpr double pivot_rounding(int rank) {
    return 16.0 * (rank < 4 ? 4 : rank) * epsilon64;
}

constexpr int row_group = 4;  // rows of the inverse factor applied to a point at once
__host__ __device__ constexpr int padded_rows(int rank) {
    return (rank + row_group - 1) / row_group * row_group;
}

/// Memory of one item; matrices are dense with `rank` columns. `sums` has rank + 1: the Gram matrix
/// A (rank, rank), then G m in the last column.
struct RankSystem {
    int rank;
    double *sums, *low, *inverse;
    double *rhs, *alpha, *work, *other, *diagonal;  // (rank)

    static __host__ __device__ constexpr int matrix_doubles(int rank) {
        return (rank + 1) * (rank + 1) + rank * rank + padded_rows(rank) * rank;
    }
    static __host__ __device__ constexpr int vector_doubles(int rank) {
        return 5 * rank;
    }
    __device__ RankSystem(int r, double* matrices, double* vectors) : rank(r) {
        sums = matrices;
        low = sums + (r + 1) * (r + 1);
        inverse = low + r * r;
        rhs = vectors;
        alpha = rhs + r;
        work = alpha + r;
        other = work + r;
        diagonal = other + r;
    }
    __device__ double& gram(int i, int j) const {
        return sums[i * (rank + 1) + j];
    }
    __device__ bool dropped(int k) const {
        return low[k * rank + k] == infinity();
    }
};

/// x <- W' W b for the inverse factor W, by way of `work`. The vectors are shared by the team.
template <typename Team>
__device__ void apply_inverse(
    const Team& team, const double* inverse, int rank, const double* b, double* work, double* x
) {
    for (int k = team.rank(); k < rank; k += team.size()) {
        double sum = 0;
        for (int j = 0; j <= k; ++j) {
            sum += inverse[k * rank + j] * b[j];
        }
        work[k] = sum;
    }
    team.sync();
    for (int j = team.rank(); j < rank; j += team.size()) {
        double sum = 0;
        for (int k = j; k < rank; ++k) {
            sum += inverse[k * rank + j] * work[k];
        }
        x[j] = sum;
    }
    team.sync();
}

/// Factors `low` (lower triangle of A on entry) row after row and builds the inverse factor with
/// it. A dropped row gets an infinite pivot, zeros elsewhere, and above the diagonal of `inverse`
/// the coefficients with which earlier rows combine to it. Returns the smallest relative pivot.
template <typename Team>
__device__ double factor_dropping(const Team& team, const RankSystem& s, bool& any_dropped) {
    const int r = s.rank;
    constexpr double suspicious = 1e-4;
    double smallest = 1;
    any_dropped = false;
    for (int k = 0; k < r; ++k) {
        for (int j = team.rank(); j < k; j += team.size()) {
            double c = 0;
            for (int i = j; i < k; ++i) {
                c += s.low[k * r + i] * s.inverse[i * r + j];
            }
            s.work[j] = c;
        }
        team.sync();
        const double remaining = s.low[k * r + k], scale = s.diagonal[k];
        double size = scale;
        if (remaining < suspicious * scale) {
            for (int j = 0; j < k; ++j) {
                size += s.work[j] * s.work[j] * s.diagonal[j];
            }
        }
        const bool used = remaining > pivot_rounding(r) * size;
        const double root = used ? sqrt(remaining) : infinity();
        const double pivot = used ? 1 / root : 0.0;
        team.sync();  // the pivot and the coefficients have been read
        for (int i = k + 1 + team.rank(); i < r; i += team.size()) {
            s.low[i * r + k] *= pivot;
        }
        for (int j = team.rank(); j < k; j += team.size()) {
            const double c = s.work[j];
            s.inverse[k * r + j] = -c * pivot;
            if (!used) {
                s.inverse[j * r + k] = c;
                s.low[k * r + j] = 0;
            }
        }
        if (team.rank() == 0) {
            s.low[k * r + k] = root;
            s.inverse[k * r + k] = pivot;
        }
        team.sync();
        if (!used) {
            any_dropped = true;
            continue;
        }
        smallest = smaller(smallest, remaining / scale);
        const int left = r - k - 1;
        for (int e = team.rank(); e < left * left; e += team.size()) {
            const int i = k + 1 + e / left, j = k + 1 + e % left;
            if (j <= i) {
                s.low[i * r + j] -= s.low[i * r + k] * s.low[j * r + k];
            }
        }
        team.sync();
    }
    return smallest;
}

/// Tells dropped rows apart; a thread judges one row. `work` holds |G| |m| + |b| on entry.
template <typename Team>
__device__ void classify(const Team& team, const RankSystem& s, double eps, int32_t* info) {
    const int r = s.rank;
    for (int k = team.rank(); k < r; k += team.size()) {  // other <- W rhs
        double sum = 0;
        for (int j = 0; j <= k; ++j) {
            sum += s.inverse[k * r + j] * s.rhs[j];
        }
        s.other[k] = sum;
    }
    team.sync();
    for (int k = team.rank(); k < r; k += team.size()) {
        if (!s.dropped(k)) {
            continue;
        }
        const double own = s.diagonal[k];
        const bool empty = !(own > 0);
        double difference = s.rhs[k], size = s.work[k];
        double coefficients = empty ? 0.0 : sqrt(own), multipliers = 0;
        for (int j = 0; j < k && !empty; ++j) {
            const double c = s.inverse[j * r + k] * (s.dropped(j) ? 0.0 : 1.0);
            const double unit = s.diagonal[j] > 0 ? sqrt(s.diagonal[j]) : 0.0;
            double solution = 0;
            for (int i = j; i < k; ++i) {
                solution += s.inverse[i * r + j] * s.other[i];
            }
            difference -= c * s.rhs[j];
            size += fabs(c) * s.work[j];
            coefficients += fabs(c) * unit;
            multipliers += fabs(solution) * unit;
        }
        // The sums round, and the rounding of A moves the combination and with it the residual.
        const double tolerance =
            64 * eps * size + (empty ? 0.0 : pivot_rounding(r) * coefficients * multipliers);
        const bool consistent = fabs(difference) <= tolerance;
        const RowStatus status =
            empty ? (consistent ? RowStatus::satisfied : RowStatus::infeasible)
                  : (consistent ? RowStatus::redundant : RowStatus::inconsistent);
        info[k] = static_cast<int32_t>(status);
    }
    team.sync();
}

/// alpha <- A^-1 rhs, refined in the system of rank size.
template <typename Team>
__device__ void solve_multipliers(const Team& team, const RankSystem& s) {
    apply_inverse(team, s.inverse, s.rank, s.rhs, s.work, s.alpha);
    for (int pass = 0; pass < refinements; ++pass) {
        for (int k = team.rank(); k < s.rank; k += team.size()) {
            double value = s.rhs[k];
            for (int j = 0; j < s.rank; ++j) {
                value -= s.gram(k, j) * s.alpha[j];
            }
            s.other[k] = value;
        }
        team.sync();
        // `diagonal` is free by now: it takes the step.
        apply_inverse(team, s.inverse, s.rank, s.other, s.work, s.diagonal);
        for (int k = team.rank(); k < s.rank; k += team.size()) {
            s.alpha[k] += s.diagonal[k];
        }
        team.sync();
    }
}

}  // namespace physcon::cuda
