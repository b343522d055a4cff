// SPDX-License-Identifier: Apache-2.0
// Small systems of several items at once, one item per lane of a vector: alone, a system of this
// size waits for its square roots and divisions.
#pragma once

#include "small.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr int64_t lane_items = width<double>;
inline constexpr int64_t lane_rank = 16;  // beyond it the systems fill the vectors by themselves

/// A x = e for the lower triangle of A, per lane; matrices are (rank, rank), row after row.
struct LaneSystem {
    Vector<double>*a, *e;             // given; a is kept for the refinement
    Vector<double>*factor, *inverse;  // L and L^-1, lower triangles
    Vector<double>*x, *work;          // solution, scratch of 2 rank
    Vector<double> smallest;          // smallest pivot relative to a_kk; NaN counts as smaller

    static constexpr int64_t doubles(int64_t rank) {
        return (3 * rank * rank + 4 * rank) * width<double>;
    }
    LaneSystem(double* memory, int64_t rank) {
        a = reinterpret_cast<Vector<double>*>(memory);
        factor = a + rank * rank;
        inverse = factor + rank * rank;
        e = inverse + rank * rank;
        x = e + rank;
        work = x + rank;
    }

    /// Right-looking Cholesky factor and its inverse.
    void decompose(int64_t rank) {
        smallest = Vector<double>{} + 1;
        for (int64_t k = 0; k < rank; ++k) {
            for (int64_t j = 0; j <= k; ++j) {
                factor[k * rank + j] = a[k * rank + j];
            }
        }
        for (int64_t k = 0; k < rank; ++k) {
            const Vector<double> pivot = factor[k * rank + k];
            const Vector<double> relative = pivot / a[k * rank + k];
            smallest = relative >= smallest ? smallest : relative;
            const Vector<double> root = square_root(pivot), reciprocal = 1 / root;
            factor[k * rank + k] = root;
            inverse[k * rank + k] = reciprocal;
            for (int64_t i = k + 1; i < rank; ++i) {
                const Vector<double> entry = factor[i * rank + k] * reciprocal;
                factor[i * rank + k] = entry;
                for (int64_t j = k + 1; j <= i; ++j) {
                    factor[i * rank + j] -= entry * factor[j * rank + k];
                }
            }
        }
        for (int64_t k = 1; k < rank; ++k) {
            for (int64_t j = 0; j < k; ++j) {
                Vector<double> sum = {};
                for (int64_t i = j; i < k; ++i) {
                    sum -= factor[k * rank + i] * inverse[i * rank + j];
                }
                inverse[k * rank + j] = sum * inverse[k * rank + k];
            }
        }
    }

    /// x = A^-1 e, refined.
    void solve(int64_t rank, int refinements) {
        for (int64_t k = 0; k < rank; ++k) {
            x[k] = Vector<double>{};
            work[k] = e[k];
        }
        add_solution(rank);
        for (int pass = 0; pass < refinements; ++pass) {
            for (int64_t k = 0; k < rank; ++k) {
                Vector<double> left = e[k];
                for (int64_t j = 0; j < rank; ++j) {
                    left -= (j <= k ? a[k * rank + j] : a[j * rank + k]) * x[j];
                }
                work[k] = left;
            }
            add_solution(rank);
        }
    }

  private:
    /// x <- x + A^-1 work.
    void add_solution(int64_t rank) {
        Vector<double>* half = work + rank;
        for (int64_t k = 0; k < rank; ++k) {
            Vector<double> sum = {};
            for (int64_t j = 0; j <= k; ++j) {
                sum += inverse[k * rank + j] * work[j];
            }
            half[k] = sum;
        }
        for (int64_t j = 0; j < rank; ++j) {
            for (int64_t k = j; k < rank; ++k) {
                x[j] += inverse[k * rank + j] * half[k];
            }
        }
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
