/* SPDX-License-Identifier: Apache-2.0 */
/** Conditioning of batched Gaussians on linear rows, in plain C.
 *
 *    A = G S G^T + R,  mean' = mean + S G^T A^-1 (b - G mean),  S' = S - S G^T A^-1 G S
 *
 *  Arrays are dense and row-major. "(n) per item" means that item k begins k * stride elements
 *  after the first; stride 0 shares one item among the batch. Outputs are contiguous and must not
 *  overlap inputs. The caller owns all memory; nothing is kept after a call returns. Every call is
 *  reentrant and its results do not depend on the executor. Structs set to zero hold NULL pointers
 *  and shared strides. Functions return a physcon_status and, if `error` is not NULL, a sentence.
 */
#ifndef PHYSCON_H
#define PHYSCON_H

#include <stddef.h>
#include <stdint.h>

#include <physcon/export.h>
#include <physcon/version.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a call returns. */
typedef enum physcon_status {
    /** The outputs are written. */
    PHYSCON_OK = 0,
    /** An argument is wrong; nothing is written. */
    PHYSCON_ERROR_ARGUMENT = 1,
    /** The workspace is NULL, too small or not aligned to PHYSCON_WORKSPACE_ALIGNMENT bytes. */
    PHYSCON_ERROR_WORKSPACE = 2,
    /** The environment variable PHYSCON_ISA asks for what cannot run here. */
    PHYSCON_ERROR_ENVIRONMENT = 3
} physcon_status;

/** What became of one row of one item. */
typedef enum physcon_row_status {
    /** The row holds. */
    PHYSCON_ROW_USED = 0,
    /** Implied by earlier rows and consistent with them; dropped. */
    PHYSCON_ROW_REDUNDANT = 1,
    /** Contradicts earlier rows; dropped. */
    PHYSCON_ROW_INCONSISTENT = 2,
    /** No variance and no noise on the whole row, residual not zero; dropped. */
    PHYSCON_ROW_INFEASIBLE = 3,
    /** No variance and no noise on the whole row, residual zero; dropped. */
    PHYSCON_ROW_SATISFIED = 4,
    /** The item holds NaN or infinity; its outputs are NaN. Other items are not affected. */
    PHYSCON_ROW_NON_FINITE = 5
} physcon_row_status;

/** Bytes of the longest message, its final zero included. */
#define PHYSCON_MESSAGE_SIZE 256
/** Alignment of a workspace in bytes. */
#define PHYSCON_WORKSPACE_ALIGNMENT 64

/** Receives one sentence on failure and an empty one on success; owned by the caller. */
typedef struct physcon_error {
    char message[PHYSCON_MESSAGE_SIZE];
} physcon_error;

/** Does the work of the indices [begin, end). */
typedef void (*physcon_task)(void* context, int64_t begin, int64_t end);

/** How independent work is run. NULL instead of an executor means: in the calling thread. */
typedef struct physcon_executor {
    /** Calls `task` on disjoint ranges that cover [0, count), in any order and from any threads,
     *  and returns when all are done. */
    void (*run)(void* pool, int64_t count, physcon_task task, void* context);
    /** Passed to `run` unchanged. */
    void* pool;
    /** How many ranges make progress at once, >= 1. */
    int32_t threads;
} physcon_executor;

/** Version of the library, "major.minor.patch"; lives forever. */
PHYSCON_API const char* physcon_version(void);

/** One word for a physcon_status or "unknown"; lives forever. */
PHYSCON_API const char* physcon_status_name(int status);

/** Writes the name of the instruction set in use ("portable", "avx2", "avx512") to `name`, which
 *  then points to a string that lives forever. */
PHYSCON_API int physcon_active_isa(const char** name, physcon_error* error);

/* ---- double ------------------------------------------------------------------------------- */

/** Prior and rows of the diagonal, cross and dense forms. Unused pointers are NULL. */
typedef struct physcon_condition_args_f64 {
    /** Number of independent items, >= 0; nothing is done for 0. */
    int64_t batch;
    /** Number of points of one item, >= 1. */
    int64_t n;
    /** Number of rows of one item, >= 1. */
    int64_t rank;
    /** Prior mean, (n) per item, in the unit u of the field. */
    const double* mean;
    int64_t mean_stride;
    /** Prior marginal variance, (n) per item, u^2, >= 0; NULL for the dense form. */
    const double* variance;
    int64_t variance_stride;
    /** Rows times prior covariance, (rank, n) per item; the cross form only. */
    const double* cross;
    int64_t cross_stride;
    /** Prior covariance, (n, n) per item, symmetric, u^2; the dense form only. */
    const double* covariance;
    int64_t covariance_stride;
    /** Rows G, (rank, n) per item. */
    const double* rows;
    int64_t rows_stride;
    /** Required values b of G u, (rank) per item. */
    const double* target;
    int64_t target_stride;
    /** Noise: (rank) variances, or a (rank, rank) covariance when noise_is_matrix is not 0. */
    const double* noise;
    int64_t noise_stride;
    int32_t noise_is_matrix;
    /** Posterior mean, (batch, n), required. */
    double* mean_out;
    /** Posterior marginal variance, (batch, n), required. */
    double* variance_out;
    /** V with posterior = prior - V^T V, (batch, rank, n); NULL if not wanted. Required for
     *  covariance_out and for the dense form. */
    double* factor_out;
    /** Posterior covariance, (batch, n, n); NULL if not wanted. Not in the cross form. */
    double* covariance_out;
    /** Rows times prior covariance, (batch, rank, n); required for the dense form, else NULL. */
    double* cross_out;
    /** Lower Cholesky factor of A = G S G^T + R, (batch, rank, rank), required. A dropped row has
     *  an infinite diagonal. */
    double* cholesky_out;
    /** A^-1 (b - G mean), (batch, rank), required. */
    double* multipliers_out;
    /** physcon_row_status of each row, (batch, rank), required. */
    int32_t* info_out;
} physcon_condition_args_f64;

/** Rows of which no two share a point, under a diagonal prior. */
typedef struct physcon_disjoint_args_f64 {
    /** Number of independent items, >= 0; nothing is done for 0. */
    int64_t batch;
    /** Number of points of one item, >= 1. */
    int64_t n;
    /** Number of rows, >= 1. */
    int64_t rank;
    /** Number of listed points, offsets[rank]; at most n. */
    int64_t support;
    /** Prior mean, (n) per item. */
    const double* mean;
    int64_t mean_stride;
    /** Prior variance, (n) per item, >= 0. */
    const double* variance;
    int64_t variance_stride;
    /** Weights of the listed points, (support) per item, in the order of `order`. */
    const double* weights;
    int64_t weights_stride;
    /** Row k owns the points order[offsets[k]] ... order[offsets[k + 1] - 1], each in [0, n) and
     *  listed once; NULL stands for 0, 1, 2, ... Shared by the batch. */
    const int64_t* order;
    /** (rank + 1), ascending from 0 to support. Shared by the batch. */
    const int64_t* offsets;
    /** Required values, (rank) per item. */
    const double* target;
    int64_t target_stride;
    /** Noise variances, (rank) per item, >= 0. */
    const double* noise;
    int64_t noise_stride;
    /** Posterior mean, (batch, n), required. */
    double* mean_out;
    /** Posterior variance, (batch, n), required. */
    double* variance_out;
    /** Entries of V in the order of `weights`, (batch, support), required. */
    double* factor_out;
    /** Square roots of A's diagonal, (batch, rank), required; infinite for a dropped row. */
    double* cholesky_out;
    /** A^-1 (b - G mean), (batch, rank), required. */
    double* multipliers_out;
    /** physcon_row_status of each row, (batch, rank), required. */
    int32_t* info_out;
} physcon_disjoint_args_f64;

/** Rows on three neighbouring points (row k on k, k + 1, k + 2), under a diagonal prior. */
typedef struct physcon_banded_args_f64 {
    /** Number of independent items, >= 0; nothing is done for 0. */
    int64_t batch;
    /** Number of points of one item, >= 3; there are n - 2 rows. */
    int64_t n;
    /** Prior mean, (n) per item. */
    const double* mean;
    int64_t mean_stride;
    /** Prior variance, (n) per item, >= 0. */
    const double* variance;
    int64_t variance_stride;
    /** Weights, (n - 2, 3) per item. */
    const double* stencil;
    int64_t stencil_stride;
    /** Required values, (n - 2) per item. */
    const double* target;
    int64_t target_stride;
    /** Noise variances, (n - 2) per item, > 0. */
    const double* noise;
    int64_t noise_stride;
    /** Posterior mean, (batch, n), required. */
    double* mean_out;
    /** Posterior variance, (batch, n), required. */
    double* variance_out;
    /** Lower Cholesky bands of I + E^T R^-1 E with E = D diag(sqrt(variance)), (batch, 3, n),
     *  required: diagonal, first and second subdiagonal. */
    double* band_out;
    /** A^-1 (b - D mean), (batch, n - 2), required. */
    double* multipliers_out;
    /** 0, or PHYSCON_ROW_NON_FINITE, (batch), required. */
    int32_t* info_out;
} physcon_banded_args_f64;

/** Bytes of workspace for the diagonal, cross and dense forms; `executor` as in the call. */
PHYSCON_API size_t physcon_condition_workspace_f64(
    const physcon_condition_args_f64* args, const physcon_executor* executor
);
/** Conditions on `rows` under the diagonal prior of `variance`. */
PHYSCON_API int physcon_condition_diagonal_f64(
    const physcon_condition_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Conditions under any prior, given by `variance` and `cross`. */
PHYSCON_API int physcon_condition_cross_f64(
    const physcon_condition_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Conditions under the dense prior of `covariance`. */
PHYSCON_API int physcon_condition_dense_f64(
    const physcon_condition_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Conditions on rows with disjoint support in O(n); needs no workspace. */
PHYSCON_API int physcon_condition_disjoint_f64(
    const physcon_disjoint_args_f64* args, const physcon_executor* executor, physcon_error* error
);
/** Bytes of workspace for the banded form; `executor` as in the call. */
PHYSCON_API size_t physcon_condition_banded_workspace_f64(
    const physcon_banded_args_f64* args, const physcon_executor* executor
);
/** Conditions on rows of three neighbouring points in O(n). */
PHYSCON_API int physcon_condition_banded_f64(
    const physcon_banded_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);

/* ---- float: the fields mean the same ------------------------------------------------------ */

/** Prior and rows of the diagonal, cross and dense forms. Unused pointers are NULL. */
typedef struct physcon_condition_args_f32 {
    int64_t batch;
    int64_t n;
    int64_t rank;
    const float* mean;
    int64_t mean_stride;
    const float* variance;
    int64_t variance_stride;
    const float* cross;
    int64_t cross_stride;
    const float* covariance;
    int64_t covariance_stride;
    const float* rows;
    int64_t rows_stride;
    const float* target;
    int64_t target_stride;
    const float* noise;
    int64_t noise_stride;
    int32_t noise_is_matrix;
    float* mean_out;
    float* variance_out;
    float* factor_out;
    float* covariance_out;
    float* cross_out;
    double* cholesky_out;
    double* multipliers_out;
    int32_t* info_out;
} physcon_condition_args_f32;

/** Rows of which no two share a point, under a diagonal prior. */
typedef struct physcon_disjoint_args_f32 {
    int64_t batch;
    int64_t n;
    int64_t rank;
    int64_t support;
    const float* mean;
    int64_t mean_stride;
    const float* variance;
    int64_t variance_stride;
    const float* weights;
    int64_t weights_stride;
    const int64_t* order;
    const int64_t* offsets;
    const float* target;
    int64_t target_stride;
    const float* noise;
    int64_t noise_stride;
    float* mean_out;
    float* variance_out;
    float* factor_out;
    double* cholesky_out;
    double* multipliers_out;
    int32_t* info_out;
} physcon_disjoint_args_f32;

/** Rows on three neighbouring points (row k on k, k + 1, k + 2), under a diagonal prior. */
typedef struct physcon_banded_args_f32 {
    int64_t batch;
    int64_t n;
    const float* mean;
    int64_t mean_stride;
    const float* variance;
    int64_t variance_stride;
    const float* stencil;
    int64_t stencil_stride;
    const float* target;
    int64_t target_stride;
    const float* noise;
    int64_t noise_stride;
    float* mean_out;
    float* variance_out;
    double* band_out;
    double* multipliers_out;
    int32_t* info_out;
} physcon_banded_args_f32;

/** Bytes of workspace for the diagonal, cross and dense forms; `executor` as in the call. */
PHYSCON_API size_t physcon_condition_workspace_f32(
    const physcon_condition_args_f32* args, const physcon_executor* executor
);
/** Conditions on `rows` under the diagonal prior of `variance`. */
PHYSCON_API int physcon_condition_diagonal_f32(
    const physcon_condition_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Conditions under any prior, given by `variance` and `cross`. */
PHYSCON_API int physcon_condition_cross_f32(
    const physcon_condition_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Conditions under the dense prior of `covariance`. */
PHYSCON_API int physcon_condition_dense_f32(
    const physcon_condition_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Conditions on rows with disjoint support in O(n); needs no workspace. */
PHYSCON_API int physcon_condition_disjoint_f32(
    const physcon_disjoint_args_f32* args, const physcon_executor* executor, physcon_error* error
);
/** Bytes of workspace for the banded form; `executor` as in the call. */
PHYSCON_API size_t physcon_condition_banded_workspace_f32(
    const physcon_banded_args_f32* args, const physcon_executor* executor
);
/** Conditions on rows of three neighbouring points in O(n). */
PHYSCON_API int physcon_condition_banded_f32(
    const physcon_banded_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);

#ifdef __cplusplus
}
#endif

#endif
