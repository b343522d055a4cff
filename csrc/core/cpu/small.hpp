// SPDX-License-Identifier: Apache-2.0
// Dense algebra of rank size, in double precision: factorisation with row dropping, triangular
// solves.
#pragma once

#include "../condition.hpp"
#include "tile.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr double infinity = __builtin_inf();
inline constexpr double epsilon64 = 2.220446049250313e-16;
template <typename T>
inline constexpr double epsilon = sizeof(T) == 4 ? 1.1920928955078125e-07 : epsilon64;

// Below this scaled pivot the explicit inverse factor is applied in double precision for float data
// too.
inline constexpr double benign_pivot = 1e-3;

// Smaller scaled pivots are worth a look at how much cancelled before a row is called dependent.
inline constexpr double suspicious_pivot = 1e-4;

inline bool finite(double x) {
    return x - x == 0;
}

// `Rank` is int64_t, or a std::integral_constant so that small systems unroll.

/// Calls body(rank) with the rank as a constant where that pays.
template <typename Body>
inline void with_rank(int64_t rank, Body&& body) {
    switch (rank) {
        case 2:
            return body(std::integral_constant<int64_t, 2>{});
        case 3:
            return body(std::integral_constant<int64_t, 3>{});
        case 4:
            return body(std::integral_constant<int64_t, 4>{});
        case 5:
            return body(std::integral_constant<int64_t, 5>{});
        case 6:
            return body(std::integral_constant<int64_t, 6>{});
        case 7:
            return body(std::integral_constant<int64_t, 7>{});
        case 8:
            return body(std::integral_constant<int64_t, 8>{});
        default:
            return body(rank);
    }
}

/// Reciprocal diagonal of a factor: 0 for a dropped row, whose diagonal is infinite.
inline double inverse_pivot(const double* cholesky, int64_t rank, int64_t k) {
    return 1.0 / cholesky[k * rank + k];
}

/// x <- L^-1 x for the leading `count` rows.
inline void solve_lower(const double* cholesky, int64_t rank, int64_t count, double* x) {
    for (int64_t k = 0; k < count; ++k) {
        double value = x[k];
        for (int64_t j = 0; j < k; ++j) {
            value -= cholesky[k * rank + j] * x[j];
        }
        x[k] = value * inverse_pivot(cholesky, rank, k);
    }
}

/// x <- L^-T x for the leading `count` rows.
inline void solve_upper(const double* cholesky, int64_t rank, int64_t count, double* x) {
    for (int64_t k = count - 1; k >= 0; --k) {
        const double value = x[k] * inverse_pivot(cholesky, rank, k);
        x[k] = value;
        for (int64_t j = 0; j < k; ++j) {
            x[j] -= cholesky[k * rank + j] * value;
        }
    }
}

/// inverse <- L^-1 (lower triangle; the upper one is zeroed). Dropped rows and columns are zero.
template <typename Rank>
inline void invert_lower(const double* cholesky, Rank rank, double* inverse) {
    for (int64_t k = 0; k < rank; ++k) {
        double* row = inverse + k * rank;
        const double pivot = inverse_pivot(cholesky, rank, k);
        each_tile<double>(0, rank, [&](auto tag, auto full, int64_t begin, int live) {
            constexpr int vectors = decltype(tag)::value;
            constexpr bool is_full = decltype(full)::value;
            Vector<double> sum[vectors] = {};
            for (int64_t i = begin; i < k; ++i) {
                for (int v = 0; v < vectors; ++v) {
                    const double* other = inverse + i * rank + begin + v * width<double>;
                    sum[v] -= cholesky[k * rank + i] * load_lanes<is_full>(other, live);
                }
            }
            for (int v = 0; v < vectors; ++v) {
                store_lanes<is_full>(row + begin + v * width<double>, sum[v] * pivot, live);
            }
        });
        row[k] = pivot;
    }
}

/// What the rounding of a Gram matrix of this rank may add to a pivot, relative to what the pivot
/// came from.
inline double pivot_rounding(int64_t rank) {
    return 16.0 * static_cast<double>(larger<int64_t>(rank, 4)) * epsilon64;
}

inline constexpr int64_t factor_panel = 4;

/// Row-order Cholesky factor of `gram` (lower triangle read). A row whose pivot is at most the
/// rounding of gram_kk + sum_j c_j^2 gram_jj, c being the coefficients with which earlier rows
/// combine to it, depends on them: it gets an infinite pivot and zeros, which removes it from every
/// later solve; `dependence` keeps what its row of the factor was. Returns the smallest accepted
/// pivot relative to gram_kk. Right-looking, `factor_panel` columns at a time, which stand one
/// after the other in `columns`, scratch of factor_panel * rank.
template <typename Rank>
inline double factor_dropping(
    const double* gram, Rank rank, double* cholesky, double* dependence, double* columns
) {
    const double threshold = pivot_rounding(rank);
    double smallest = 1;
    for (int64_t k = 0; k < rank; ++k) {
        for (int64_t j = 0; j < rank; ++j) {
            cholesky[k * rank + j] = j <= k ? gram[k * rank + j] : 0;
        }
    }
    for (int64_t first = 0; first < rank; first += factor_panel) {
        const int64_t behind = smaller<int64_t>(first + factor_panel, rank);
        for (int64_t i = first; i < rank; ++i) {
            for (int64_t k = first; k < behind; ++k) {
                columns[(k - first) * rank + i] = cholesky[i * rank + k];
            }
        }
        for (int64_t k = first; k < behind; ++k) {
            double *row = cholesky + k * rank, *column = columns + (k - first) * rank;
            for (int64_t q = first; q < k; ++q) {
                const double* earlier = columns + (q - first) * rank;
                const double factor = earlier[k];
                row[q] = factor;
                each_vector<width<double>>(rank - k, [&](auto full, int64_t i, int live) {
                    constexpr bool is_full = decltype(full)::value;
                    const Vector<double> step = factor * load_lanes<is_full>(earlier + k + i, live);
                    const Vector<double> left = load_lanes<is_full>(column + k + i, live) - step;
                    store_lanes<is_full>(column + k + i, left, live);
                });
            }
            const double scale = gram[k * rank + k], remaining = column[k];
            double size = scale;
            if (remaining < suspicious_pivot * scale) {
                double* combination = dependence + k * rank;
                for (int64_t j = 0; j < k; ++j) {
                    combination[j] = row[j];
                }
                solve_upper(cholesky, rank, k, combination);
                for (int64_t j = 0; j < k; ++j) {
                    size += combination[j] * combination[j] * gram[j * rank + j];
                }
            }
            if (!(remaining > threshold * size)) {
                for (int64_t j = 0; j < k; ++j) {
                    dependence[k * rank + j] = row[j];
                    row[j] = 0;
                }
                row[k] = infinity;
                for (int64_t i = k; i < rank; ++i) {
                    column[i] = 0;
                }
                continue;
            }
            smallest = smaller(smallest, remaining / scale);
            row[k] = __builtin_sqrt(remaining);
            const double inverse = 1 / row[k];
            for (int64_t i = k + 1; i < rank; ++i) {
                column[i] *= inverse;
            }
        }
        for (int64_t i = behind; i < rank; ++i) {
            for (int64_t k = first; k < behind; ++k) {
                cholesky[i * rank + k] = columns[(k - first) * rank + i];
            }
            double* row = cholesky + i * rank + behind;
            const double* column = columns + behind;
            each_vector<width<double>>(i + 1 - behind, [&](auto full, int64_t j, int live) {
                constexpr bool is_full = decltype(full)::value;
                Vector<double> left = load_lanes<is_full>(row + j, live);
                for (int64_t k = 0; k < factor_panel; ++k) {
                    const double* at = column + k * rank;
                    left -= at[i - behind] * load_lanes<is_full>(at + j, live);
                }
                store_lanes<is_full>(row + j, left, live);
            });
        }
    }
    return smallest;
}

/// out = matrix x.
template <typename Rank>
inline void multiply_vector(const double* matrix, Rank rank, const double* x, double* out) {
    if constexpr (!std::is_same_v<Rank, int64_t>) {
        for (int64_t k = 0; k < rank; ++k) {
            double sum = 0;
            for (int64_t j = 0; j < rank; ++j) {
                sum += matrix[k * rank + j] * x[j];
            }
            out[k] = sum;
        }
        return;
    }
    for (int64_t k = 0; k < rank; k += width<double>) {
        const int64_t count = smaller<int64_t>(width<double>, rank - k);
        alignas(vector_bytes) double sums[width<double> * width<double>] = {};
        for (int64_t i = 0; i < count; ++i) {
            Vector<double> sum = {};
            each_vector<width<double>>(rank, [&](auto full, int64_t j, int live) {
                constexpr bool is_full = decltype(full)::value;
                const double* row = matrix + (k + i) * rank + j;
                sum += load_lanes<is_full>(row, live) * load_lanes<is_full>(x + j, live);
            });
            store(sums + i * width<double>, sum);
        }
        store_partial(out + k, sum_vectors(sums), static_cast<int>(count));
    }
}

/// out = left right, square matrices.
inline void multiply_matrix(const double* left, const double* right, int64_t rank, double* out) {
    for (int64_t i = 0; i < rank; i += tile_rows) {
        const double* row[tile_rows];  // behind the last row its copies, which are not stored
        for (int64_t r = 0; r < tile_rows; ++r) {
            row[r] = left + smaller(i + r, rank - 1) * rank;
        }
        each_tile<double>(0, rank, [&](auto tag, auto full, int64_t j, int live) {
            constexpr int vectors = decltype(tag)::value;
            constexpr bool is_full = decltype(full)::value;
            Vector<double> sum[tile_rows][vectors] = {};
            for (int64_t k = 0; k < rank; ++k) {
                Vector<double> value[vectors];
                for (int v = 0; v < vectors; ++v) {
                    value[v] = load_lanes<is_full>(right + k * rank + j + v * width<double>, live);
                }
                for (int r = 0; r < tile_rows; ++r) {
                    for (int v = 0; v < vectors; ++v) {
                        sum[r][v] += row[r][k] * value[v];
                    }
                }
            }
            for (int64_t r = 0; r < smaller<int64_t>(tile_rows, rank - i); ++r) {
                for (int v = 0; v < vectors; ++v) {
                    store_lanes<is_full>(
                        out + (i + r) * rank + j + v * width<double>, sum[r][v], live
                    );
                }
            }
        });
    }
}

/// x <- x + W' W b for the inverse factor W = L^-1, that is A^-1 b. `work` is scratch of the size
/// of x.
template <typename Rank>
inline void add_solution(
    const double* inverse, Rank rank, const double* b, double* work, double* x
) {
    multiply_vector(inverse, rank, b, work);
    for (int64_t k = 0; k < rank; ++k) {
        for (int64_t j = 0; j <= k; ++j) {
            x[j] += work[k] * inverse[k * rank + j];
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
