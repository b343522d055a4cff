// SPDX-License-Identifier: Apache-2.0
// Dense algebra of rank size, in double precision: factorisation with row dropping, triangular solves.
#pragma once

#include "../condition.hpp"
#include "simd.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr double infinity = __builtin_inf();
inline constexpr double epsilon64 = 2.220446049250313e-16;
template <typename T>
inline constexpr double epsilon = sizeof(T) == 4 ? 1.1920928955078125e-07 : epsilon64;

inline bool finite(double x) { return x - x == 0; }

/// Reciprocal diagonal of a factor: 0 for a dropped row, whose diagonal is infinite.
inline double inverse_pivot(const double* cholesky, int64_t rank, int64_t k) {
    return 1.0 / cholesky[k * rank + k];
}

/// x <- L^-1 x.
inline void solve_lower(const double* cholesky, int64_t rank, double* x) {
    for (int64_t k = 0; k < rank; ++k) {
        double value = x[k];
        for (int64_t j = 0; j < k; ++j) value -= cholesky[k * rank + j] * x[j];
        x[k] = value * inverse_pivot(cholesky, rank, k);
    }
}

/// x <- L^-T x.
inline void solve_upper(const double* cholesky, int64_t rank, double* x) {
    for (int64_t k = rank - 1; k >= 0; --k) {
        const double value = x[k] * inverse_pivot(cholesky, rank, k);
        x[k] = value;
        for (int64_t j = 0; j < k; ++j) x[j] -= cholesky[k * rank + j] * value;
    }
}

/// inverse <- L^-1 (lower triangle; the upper one is zeroed). Dropped rows and columns are zero.
inline void invert_lower(const double* cholesky, int64_t rank, double* inverse) {
    for (int64_t k = 0; k < rank; ++k) {
        double* row = inverse + k * rank;
        for (int64_t j = 0; j < rank; ++j) row[j] = 0;
        for (int64_t i = 0; i < k; ++i) {
            const double factor = cholesky[k * rank + i];
            const double* other = inverse + i * rank;
            for (int64_t j = 0; j <= i; ++j) row[j] -= factor * other[j];
        }
        const double pivot = inverse_pivot(cholesky, rank, k);
        for (int64_t j = 0; j < k; ++j) row[j] *= pivot;
        row[k] = pivot;
    }
}

/// Row-order Cholesky factor of `gram` (lower triangle read), equilibrated by its diagonal. A row whose scaled
/// pivot is at most 16 max(rank, 4) eps depends on earlier rows: it gets an infinite pivot and zeros, which
/// removes it from every later solve. Returns the smallest accepted scaled pivot.
inline double factor_dropping(const double* gram, int64_t rank, double* cholesky, double* dependence) {
    const double threshold = 16.0 * static_cast<double>(larger<int64_t>(rank, 4)) * epsilon64;
    double smallest = 1;
    for (int64_t k = 0; k < rank; ++k) {
        double* row = cholesky + k * rank;
        for (int64_t j = k + 1; j < rank; ++j) row[j] = 0;
        const double scale = gram[k * rank + k];
        double remaining = scale;
        for (int64_t j = 0; j < k; ++j) {
            const double* other = cholesky + j * rank;
            double value = gram[k * rank + j];
            for (int64_t i = 0; i < j; ++i) value -= row[i] * other[i];
            row[j] = value * inverse_pivot(cholesky, rank, j);
            remaining -= row[j] * row[j];
        }
        if (remaining > threshold * scale) {
            row[k] = __builtin_sqrt(remaining);
            smallest = smaller(smallest, remaining / scale);
            continue;
        }
        for (int64_t j = 0; j < k; ++j) {
            dependence[k * rank + j] = row[j];
            row[j] = 0;
        }
        row[k] = infinity;
    }
    return smallest;
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
