// SPDX-License-Identifier: Apache-2.0
// Conditioning of batched Gaussians on linear rows: arguments and entry points of the torch-free
// core.
//
//   C = G S,  A = C G' + R,  e = b - G m,  alpha = A^-1 e,  V = L^-1 C  (A = L L')
//   m' = m + C' alpha,   S' = S - V' V
//
// All arrays are dense and row-major. A stride counts elements between batch items; 0 shares one
// item. No function allocates, throws or keeps state. Workspaces come from the caller, 64-byte
// aligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "executor.hpp"

namespace physcon {

/// What became of one row of one item (the `info` output).
enum class RowStatus : std::int32_t {
    used = 0,
    redundant = 1,     ///< implied by earlier rows and consistent with them; dropped
    inconsistent = 2,  ///< contradicts earlier rows; dropped
    infeasible = 3,    ///< no variance and no noise on the whole row, residual not zero; dropped
    satisfied = 4,     ///< no variance and no noise, residual zero; dropped
    non_finite = 5,    ///< the item holds NaN or infinity; its outputs are NaN
};

template <typename T>
struct Strided {
    const T* data = nullptr;
    std::int64_t stride = 0;
    constexpr const T* item(std::int64_t b) const {
        return data + b * stride;
    }
};

/// Diagonal prior (`cross` empty: C = G diag(variance)), general prior by its cross covariance
/// (`cross` given), or dense prior (`covariance` given: C is computed into `cross_out`).
template <typename T>
struct ConditionArgs {
    std::int64_t batch = 0, n = 0, rank = 0;
    Strided<T> mean;        ///< (n)
    Strided<T> variance;    ///< (n) marginal prior variance; unused for a dense prior
    Strided<T> cross;       ///< (rank, n) or null
    Strided<T> covariance;  ///< (n, n) or null
    Strided<T> rows;        ///< (rank, n), G
    Strided<T> target;      ///< (rank), b
    Strided<T> noise;       ///< (rank) variances, or (rank, rank) when noise_is_matrix
    bool noise_is_matrix = false;
    T* mean_out = nullptr;      ///< (batch, n)
    T* variance_out = nullptr;  ///< (batch, n)
    T* factor_out =
        nullptr;  ///< (batch, rank, n), V; null when not wanted (needed for covariance_out)
    T* covariance_out = nullptr;  ///< (batch, n, n) or null
    T* cross_out = nullptr;       ///< (batch, rank, n); dense prior only
    double* cholesky_out =
        nullptr;  ///< (batch, rank, rank); a dropped row has an infinite diagonal
    double* multipliers_out = nullptr;  ///< (batch, rank)
    std::int32_t* info_out = nullptr;   ///< (batch, rank), RowStatus
};

template <typename T>
std::size_t condition_workspace(const ConditionArgs<T>& args, const Executor& executor);
template <typename T>
void condition(const ConditionArgs<T>& args, const Executor& executor, void* workspace);

/// Adjoint of `condition` for the diagonal and the cross form; null outputs are not computed.
template <typename T>
struct ConditionBackwardArgs {
    std::int64_t batch = 0, n = 0, rank = 0;
    Strided<T> grad_mean, grad_variance;  ///< (n); upstream
    Strided<T> grad_factor;               ///< (rank, n) or null
    Strided<T> mean, variance, cross, rows;
    const double* cholesky = nullptr;  ///< saved by the forward call
    const double* multipliers = nullptr;
    T* mean_out = nullptr;      ///< (batch, n)
    T* variance_out = nullptr;  ///< (batch, n)
    T* cross_out = nullptr;     ///< (batch, rank, n); cross form only
    T* rows_out =
        nullptr;  ///< (batch, rank, n), or (rank, n) summed over the batch when rows_shared
    bool rows_shared = false;
    T* target_out = nullptr;  ///< (batch, rank)
    T* noise_out = nullptr;   ///< (batch, rank, rank), symmetric
};

template <typename T>
std::size_t condition_backward_workspace(
    const ConditionBackwardArgs<T>& args, const Executor& executor
);
template <typename T>
void condition_backward(
    const ConditionBackwardArgs<T>& args, const Executor& executor, void* workspace
);

/// Rows with disjoint support and a diagonal prior: row k owns the cells
/// order[offsets[k]..offsets[k+1]).
template <typename T>
struct DisjointArgs {
    std::int64_t batch = 0, n = 0, rank = 0,
                 support = 0;               ///< support = offsets[rank], the number of listed cells
    Strided<T> mean, variance;              ///< (n)
    Strided<T> weights;                     ///< (support), in the order of `order`
    const std::int64_t* order = nullptr;    ///< (support) or null for 0, 1, 2, ...
    const std::int64_t* offsets = nullptr;  ///< (rank + 1), ascending from 0
    Strided<T> target, noise;               ///< (rank)
    T* mean_out = nullptr;                  ///< (batch, n)
    T* variance_out = nullptr;              ///< (batch, n)
    T* factor_out = nullptr;                ///< (batch, support), w s / sqrt(d)
    double* cholesky_out = nullptr;         ///< (batch, rank), sqrt(d); infinite when dropped
    double* multipliers_out = nullptr;      ///< (batch, rank)
    std::int32_t* info_out = nullptr;       ///< (batch, rank)
};
template <typename T>
void condition_disjoint(const DisjointArgs<T>& args, const Executor& executor);

template <typename T>
struct DisjointBackwardArgs {
    std::int64_t batch = 0, n = 0, rank = 0, support = 0;
    Strided<T> grad_mean, grad_variance;  ///< (n)
    Strided<T> grad_factor;               ///< (support) or null
    Strided<T> mean, variance, weights;
    const std::int64_t* order = nullptr;
    const std::int64_t* offsets = nullptr;
    const double* cholesky = nullptr;
    const double* multipliers = nullptr;
    T* mean_out = nullptr;      ///< (batch, n)
    T* variance_out = nullptr;  ///< (batch, n)
    T* weights_out = nullptr;   ///< (batch, support) or null
    T* target_out = nullptr;    ///< (batch, rank)
    T* noise_out = nullptr;     ///< (batch, rank)
};
template <typename T>
void condition_disjoint_backward(const DisjointBackwardArgs<T>& args, const Executor& executor);

/// Rows on three neighbouring cells, row k on cells k, k+1, k+2, noise > 0, diagonal prior. O(n).
template <typename T>
struct BandedArgs {
    std::int64_t batch = 0, n = 0;  ///< n >= 3; n - 2 rows
    Strided<T> mean, variance;      ///< (n)
    Strided<T> stencil;             ///< (n - 2, 3)
    Strided<T> target, noise;       ///< (n - 2)
    T* mean_out = nullptr;
    T* variance_out = nullptr;
    double* band_out =
        nullptr;  ///< (batch, 3, n): lower Cholesky bands of I + E' R^-1 E, E = D diag(sqrt(s))
    double* multipliers_out = nullptr;  ///< (batch, n - 2)
    std::int32_t* info_out = nullptr;   ///< (batch)
};
template <typename T>
std::size_t condition_banded_workspace(const BandedArgs<T>& args, const Executor& executor);
template <typename T>
void condition_banded(const BandedArgs<T>& args, const Executor& executor, void* workspace);

template <typename T>
struct BandedBackwardArgs {
    std::int64_t batch = 0, n = 0;
    Strided<T> grad_mean, grad_variance;
    Strided<T> mean_posterior, variance, stencil, noise;
    const double* band = nullptr;
    const double* multipliers = nullptr;
    T* mean_out = nullptr;      ///< (batch, n)
    T* variance_out = nullptr;  ///< (batch, n)
    T* stencil_out = nullptr;   ///< (batch, n - 2, 3)
    T* target_out = nullptr;    ///< (batch, n - 2)
    T* noise_out = nullptr;     ///< (batch, n - 2)
};
template <typename T>
std::size_t condition_banded_backward_workspace(
    const BandedBackwardArgs<T>& args, const Executor& executor
);
template <typename T>
void condition_banded_backward(
    const BandedBackwardArgs<T>& args, const Executor& executor, void* workspace
);

/// out = sqrt(s) Lambda^-1 sqrt(s) x for `count` vectors of each item: products with the posterior
/// of the banded rows.
template <typename T>
struct BandedProductArgs {
    std::int64_t batch = 0, n = 0, count = 0;
    Strided<T> variance;  ///< (n)
    Strided<T> stencil;   ///< (n - 2, 3)
    Strided<T> noise;     ///< (n - 2)
    Strided<T> vectors;   ///< (count, n)
    T* out = nullptr;     ///< (batch, count, n)
};
template <typename T>
std::size_t banded_product_workspace(const BandedProductArgs<T>& args, const Executor& executor);
template <typename T>
void banded_product(const BandedProductArgs<T>& args, const Executor& executor, void* workspace);

}  // namespace physcon
