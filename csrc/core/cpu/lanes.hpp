// SPDX-License-Identifier: Apache-2.0
// Small systems of several items at once, one item per lane of a vector: alone, a system of this
// size waits for its square roots and divisions.
#pragma once

#include <cstddef>

#include "small.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr int64_t lane_items = width<double>;
inline constexpr int64_t lane_rank = 16;  // beyond it the systems fill the vectors by themselves

/// How many items of `rows` rows of n points to handle together: as many as fill the lanes, as long
/// as what the first pass over the points has read is still in the cache for the second. Larger
/// items are read twice from memory anyway.
inline int64_t items_in_cache(int64_t n, int64_t rows, std::size_t size) {
    constexpr int64_t cache_bytes = 512 << 10;
    const int64_t bytes = n * rows * static_cast<int64_t>(size);
    if (bytes > cache_bytes) {
        return lane_items;
    }
    return larger<int64_t>(1, smaller(lane_items, cache_bytes / bytes));
}

/// Whether all items stay in the second-level cache: several items of one row at once then hide
/// the square root and the divisions between their passes; from memory the passes would only wait.
inline bool all_in_cache(int64_t batch, int64_t n, int64_t rows, std::size_t size) {
    return batch * n * rows * static_cast<int64_t>(size) <= 1 << 20;
}

/// smallest <- the smaller one; what is not a number stays so.
inline void keep_smallest(Vector<double> value, Vector<double>& smallest) {
    smallest = (value < smallest ? value : smallest) + (value - value);
}

/// inverse <- L^-1 for the lower triangle `factor` whose diagonal has these reciprocals in place in
/// `inverse`.
inline void invert_lanes(const Vector<double>* factor, int64_t rank, Vector<double>* inverse) {
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

/// A x = e for the lower triangle of A, per lane; matrices are (rank, rank), row after row.
struct LaneSystem {
    Vector<double>*a, *e;             // given; a is kept for the refinement
    Vector<double>*factor, *inverse;  // L and L^-1, lower triangles
    Vector<double>*x, *work;          // solution, scratch of 2 rank
    Vector<double> smallest;          // smallest pivot relative to a_kk

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
            keep_smallest(relative, smallest);
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
        invert_lanes(factor, rank, inverse);
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

/// The rank-sized part of the adjoint, per lane: a = A^-1 C p and, for W = L^-1,
/// adjoint = W' W (C diag(q) C') W' W - sym(a alpha'), lower triangle.
struct LaneAdjoint {
    Vector<double>*factor, *sums, *alpha;  // given: L, C diag(q) C', alpha
    Vector<double>* a;                     // C p, then A^-1 C p
    Vector<double>*inverse, *adjoint, *work;
    Vector<double> smallest;  // smallest pivot relative to a_kk

    static constexpr int64_t doubles(int64_t rank) {
        return (5 * rank * rank + 3 * rank) * width<double>;
    }
    LaneAdjoint(double* memory, int64_t rank) {
        factor = reinterpret_cast<Vector<double>*>(memory);
        sums = factor + rank * rank;
        inverse = sums + rank * rank;
        adjoint = inverse + rank * rank;
        work = adjoint + rank * rank;
        alpha = work + rank * rank;
        a = alpha + rank;
        half = a + rank;
    }

    void solve(int64_t rank) {
        smallest = Vector<double>{} + 1;
        for (int64_t k = 0; k < rank; ++k) {
            Vector<double> scale = {};
            for (int64_t j = 0; j <= k; ++j) {
                scale += factor[k * rank + j] * factor[k * rank + j];
            }
            const Vector<double> pivot = factor[k * rank + k];
            const Vector<double> relative = pivot * pivot / scale;
            keep_smallest(relative, smallest);
            inverse[k * rank + k] = 1 / pivot;
        }
        invert_lanes(factor, rank, inverse);
        for (int64_t k = 0; k < rank; ++k) {
            half[k] = Vector<double>{};
            for (int64_t j = 0; j <= k; ++j) {
                half[k] += inverse[k * rank + j] * a[j];
            }
        }
        for (int64_t j = 0; j < rank; ++j) {
            a[j] = Vector<double>{};
            for (int64_t k = j; k < rank; ++k) {
                a[j] += inverse[k * rank + j] * half[k];
            }
        }
        // work <- sums W', adjoint <- W work (symmetric), work <- adjoint W, adjoint <- W' work.
        for (int64_t i = 0; i < rank; ++i) {
            for (int64_t j = 0; j < rank; ++j) {
                Vector<double> sum = {};
                for (int64_t k = 0; k <= j; ++k) {
                    sum += sums[i * rank + k] * inverse[j * rank + k];
                }
                work[i * rank + j] = sum;
            }
        }
        for (int64_t i = 0; i < rank; ++i) {
            for (int64_t j = 0; j <= i; ++j) {
                Vector<double> sum = {};
                for (int64_t k = 0; k <= i; ++k) {
                    sum += inverse[i * rank + k] * work[k * rank + j];
                }
                adjoint[i * rank + j] = adjoint[j * rank + i] = sum;
            }
        }
        for (int64_t i = 0; i < rank; ++i) {
            for (int64_t j = 0; j < rank; ++j) {
                Vector<double> sum = {};
                for (int64_t k = j; k < rank; ++k) {
                    sum += adjoint[i * rank + k] * inverse[k * rank + j];
                }
                work[i * rank + j] = sum;
            }
        }
        for (int64_t i = 0; i < rank; ++i) {
            for (int64_t j = 0; j <= i; ++j) {
                Vector<double> sum = -0.5 * (a[i] * alpha[j] + a[j] * alpha[i]);
                for (int64_t k = i; k < rank; ++k) {
                    sum += inverse[k * rank + i] * work[k * rank + j];
                }
                adjoint[i * rank + j] = sum;
            }
        }
    }

  private:
    Vector<double>* half;
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
