// SPDX-License-Identifier: Apache-2.0
// The C functions: check, forward to the templates, turn exceptions into codes.
#include "core/capi.hpp"

#include "core/condition.hpp"
#include "core/cpu_features.hpp"

namespace physcon {
namespace {

enum class Form { diagonal, cross, dense };

template <typename T, typename CArgs>
ConditionArgs<T> convert_condition(const CArgs& in) {
    ConditionArgs<T> out;
    out.batch = in.batch;
    out.n = in.n;
    out.rank = in.rank;
    out.mean = {in.mean, in.mean_stride};
    out.variance = {in.variance, in.variance_stride};
    out.cross = {in.cross, in.cross_stride};
    out.covariance = {in.covariance, in.covariance_stride};
    out.rows = {in.rows, in.rows_stride};
    out.target = {in.target, in.target_stride};
    out.noise = {in.noise, in.noise_stride};
    out.noise_is_matrix = in.noise_is_matrix != 0;
    out.mean_out = in.mean_out;
    out.variance_out = in.variance_out;
    out.factor_out = in.factor_out;
    out.covariance_out = in.covariance_out;
    out.cross_out = in.cross_out;
    out.cholesky_out = in.cholesky_out;
    out.multipliers_out = in.multipliers_out;
    out.info_out = in.info_out;
    return out;
}

template <typename T, typename CArgs>
DisjointArgs<T> convert_disjoint(const CArgs& in) {
    DisjointArgs<T> out;
    out.batch = in.batch;
    out.n = in.n;
    out.rank = in.rank;
    out.support = in.support;
    out.mean = {in.mean, in.mean_stride};
    out.variance = {in.variance, in.variance_stride};
    out.weights = {in.weights, in.weights_stride};
    out.order = in.order;
    out.offsets = in.offsets;
    out.target = {in.target, in.target_stride};
    out.noise = {in.noise, in.noise_stride};
    out.mean_out = in.mean_out;
    out.variance_out = in.variance_out;
    out.factor_out = in.factor_out;
    out.cholesky_out = in.cholesky_out;
    out.multipliers_out = in.multipliers_out;
    out.info_out = in.info_out;
    return out;
}

template <typename T, typename CArgs>
BandedArgs<T> convert_banded(const CArgs& in) {
    BandedArgs<T> out;
    out.batch = in.batch;
    out.n = in.n;
    out.mean = {in.mean, in.mean_stride};
    out.variance = {in.variance, in.variance_stride};
    out.stencil = {in.stencil, in.stencil_stride};
    out.target = {in.target, in.target_stride};
    out.noise = {in.noise, in.noise_stride};
    out.mean_out = in.mean_out;
    out.variance_out = in.variance_out;
    out.band_out = in.band_out;
    out.multipliers_out = in.multipliers_out;
    out.info_out = in.info_out;
    return out;
}

template <typename T, typename CArgs>
int run_condition(
    const char* op,
    Form form,
    const CArgs* args,
    const physcon_executor* executor,
    void* workspace,
    std::size_t workspace_size,
    physcon_error* error
) {
    Checker check(op, error);
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    const std::int64_t n = args->n, rank = args->rank;
    check.at_least("batch", args->batch, 0);
    check.at_least("n", n, 1);
    check.at_least("rank", rank, 1);
    check.executor(executor);
    if (!check.good() || args->batch == 0) {
        return check.status();
    }
    check.input("mean", args->mean, args->mean_stride, n);
    check.input("rows", args->rows, args->rows_stride, rank * n);
    check.input("target", args->target, args->target_stride, rank);
    check.input(
        "noise", args->noise, args->noise_stride, args->noise_is_matrix ? rank * rank : rank
    );
    if (form == Form::dense) {
        check.input("covariance", args->covariance, args->covariance_stride, n * n);
        check.given("cross_out", args->cross_out);
        check.given("factor_out", args->factor_out);
    } else {
        check.input("variance", args->variance, args->variance_stride, n);
        check.absent("covariance", args->covariance);
        check.absent("cross_out", args->cross_out);
    }
    if (form == Form::cross) {
        check.input("cross", args->cross, args->cross_stride, rank * n);
        check.absent("covariance_out", args->covariance_out);
    } else {
        check.absent("cross", args->cross);
    }
    check.given("mean_out", args->mean_out);
    check.given("variance_out", args->variance_out);
    if (args->covariance_out != nullptr) {
        check.given("factor_out with covariance_out", args->factor_out);
    }
    check.given("cholesky_out", args->cholesky_out);
    check.given("multipliers_out", args->multipliers_out);
    check.given("info_out", args->info_out);
    const ConditionArgs<T> converted = convert_condition<T>(*args);
    return run_in_workspace(
        check,
        executor,
        workspace,
        workspace_size,
        error,
        [&](const Executor& pool) { return condition_workspace(converted, pool); },
        [&](const Executor& pool) { condition(converted, pool, workspace); }
    );
}

template <typename T, typename CArgs>
int run_disjoint(
    const char* op, const CArgs* args, const physcon_executor* executor, physcon_error* error
) {
    Checker check(op, error);
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    const std::int64_t n = args->n, rank = args->rank, support = args->support;
    check.at_least("batch", args->batch, 0);
    check.at_least("n", n, 1);
    check.at_least("rank", rank, 1);
    check.at_least("support", support, 0);
    check.at_least("n - support", n - support, 0);
    check.executor(executor);
    if (!check.good() || args->batch == 0) {
        return check.status();
    }
    check.input("mean", args->mean, args->mean_stride, n);
    check.input("variance", args->variance, args->variance_stride, n);
    check.input("target", args->target, args->target_stride, rank);
    check.input("noise", args->noise, args->noise_stride, rank);
    check.given("offsets", args->offsets);
    check.given("mean_out", args->mean_out);
    check.given("variance_out", args->variance_out);
    check.given("cholesky_out", args->cholesky_out);
    check.given("multipliers_out", args->multipliers_out);
    check.given("info_out", args->info_out);
    if (support > 0) {
        check.input("weights", args->weights, args->weights_stride, support);
        check.given("factor_out", args->factor_out);
    }
    if (!check.good()) {
        return check.status();
    }
    if (args->offsets[0] != 0) {
        check.reject("expected offsets to begin with 0", 0, args->offsets[0]);
    }
    for (std::int64_t k = 0; k < rank && check.good(); ++k) {
        if (args->offsets[k + 1] < args->offsets[k]) {
            check.reject("expected offsets to ascend", k + 1, args->offsets[k + 1]);
        }
    }
    if (check.good() && args->offsets[rank] != support) {
        check.reject("expected offsets to end with support", rank, args->offsets[rank]);
    }
    for (std::int64_t j = 0; args->order != nullptr && j < support && check.good(); ++j) {
        if (args->order[j] < 0 || args->order[j] >= n) {
            check.reject("expected order to be in [0, n)", j, args->order[j]);
        }
    }
    if (!check.good()) {
        return check.status();
    }
    return guarded(error, [&] {
        condition_disjoint(convert_disjoint<T>(*args), executor_of(executor));
    });
}

template <typename T, typename CArgs>
int run_banded(
    const char* op,
    const CArgs* args,
    const physcon_executor* executor,
    void* workspace,
    std::size_t workspace_size,
    physcon_error* error
) {
    Checker check(op, error);
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    const std::int64_t n = args->n;
    check.at_least("batch", args->batch, 0);
    check.at_least("n", n, 3);
    check.executor(executor);
    if (!check.good() || args->batch == 0) {
        return check.status();
    }
    check.input("mean", args->mean, args->mean_stride, n);
    check.input("variance", args->variance, args->variance_stride, n);
    check.input("stencil", args->stencil, args->stencil_stride, 3 * (n - 2));
    check.input("target", args->target, args->target_stride, n - 2);
    check.input("noise", args->noise, args->noise_stride, n - 2);
    check.given("mean_out", args->mean_out);
    check.given("variance_out", args->variance_out);
    check.given("band_out", args->band_out);
    check.given("multipliers_out", args->multipliers_out);
    check.given("info_out", args->info_out);
    const BandedArgs<T> converted = convert_banded<T>(*args);
    return run_in_workspace(
        check,
        executor,
        workspace,
        workspace_size,
        error,
        [&](const Executor& pool) { return condition_banded_workspace(converted, pool); },
        [&](const Executor& pool) { condition_banded(converted, pool, workspace); }
    );
}

/// Sizes that a workspace can be asked for; the call itself reports what is wrong.
template <typename CArgs>
bool sized(const CArgs* args, const physcon_executor* executor, std::int64_t least_n) {
    const bool pool = executor == nullptr || executor->threads >= 1;
    return args != nullptr && args->batch > 0 && args->n >= least_n && pool;
}

}  // namespace
}  // namespace physcon

using namespace physcon;

const char* physcon_version(void) {
    return PHYSCON_VERSION;
}

const char* physcon_status_name(int status) {
    switch (status) {
        case PHYSCON_OK:
            return "ok";
        case PHYSCON_ERROR_ARGUMENT:
            return "argument";
        case PHYSCON_ERROR_WORKSPACE:
            return "workspace";
        case PHYSCON_ERROR_ENVIRONMENT:
            return "environment";
        default:
            return "unknown";
    }
}

int physcon_active_isa(const char** name, physcon_error* error) {
    Checker check("active_isa", error);
    check.given("name", name);
    if (!check.good()) {
        return check.status();
    }
    return guarded(error, [&] { *name = isa_name(active_isa()); });
}

// The same seven functions for each scalar type.
#define PHYSCON_DEFINE_C_API(T, suffix)                                                          \
    std::size_t physcon_condition_workspace_##suffix(                                            \
        const physcon_condition_args_##suffix* args, const physcon_executor* executor            \
    ) {                                                                                          \
        std::size_t size = 0;                                                                    \
        if (sized(args, executor, 1) && args->rank >= 1) {                                       \
            guarded(nullptr, [&] {                                                               \
                size = condition_workspace(convert_condition<T>(*args), executor_of(executor));  \
            });                                                                                  \
        }                                                                                        \
        return size;                                                                             \
    }                                                                                            \
    int physcon_condition_diagonal_##suffix(                                                     \
        const physcon_condition_args_##suffix* args,                                             \
        const physcon_executor* executor,                                                        \
        void* workspace,                                                                         \
        std::size_t workspace_size,                                                              \
        physcon_error* error                                                                     \
    ) {                                                                                          \
        return run_condition<T>(                                                                 \
            "condition_diagonal_" #suffix,                                                       \
            Form::diagonal,                                                                      \
            args,                                                                                \
            executor,                                                                            \
            workspace,                                                                           \
            workspace_size,                                                                      \
            error                                                                                \
        );                                                                                       \
    }                                                                                            \
    int physcon_condition_cross_##suffix(                                                        \
        const physcon_condition_args_##suffix* args,                                             \
        const physcon_executor* executor,                                                        \
        void* workspace,                                                                         \
        std::size_t workspace_size,                                                              \
        physcon_error* error                                                                     \
    ) {                                                                                          \
        return run_condition<T>(                                                                 \
            "condition_cross_" #suffix,                                                          \
            Form::cross,                                                                         \
            args,                                                                                \
            executor,                                                                            \
            workspace,                                                                           \
            workspace_size,                                                                      \
            error                                                                                \
        );                                                                                       \
    }                                                                                            \
    int physcon_condition_dense_##suffix(                                                        \
        const physcon_condition_args_##suffix* args,                                             \
        const physcon_executor* executor,                                                        \
        void* workspace,                                                                         \
        std::size_t workspace_size,                                                              \
        physcon_error* error                                                                     \
    ) {                                                                                          \
        return run_condition<T>(                                                                 \
            "condition_dense_" #suffix,                                                          \
            Form::dense,                                                                         \
            args,                                                                                \
            executor,                                                                            \
            workspace,                                                                           \
            workspace_size,                                                                      \
            error                                                                                \
        );                                                                                       \
    }                                                                                            \
    int physcon_condition_disjoint_##suffix(                                                     \
        const physcon_disjoint_args_##suffix* args,                                              \
        const physcon_executor* executor,                                                        \
        physcon_error* error                                                                     \
    ) {                                                                                          \
        return run_disjoint<T>("condition_disjoint_" #suffix, args, executor, error);            \
    }                                                                                            \
    std::size_t physcon_condition_banded_workspace_##suffix(                                     \
        const physcon_banded_args_##suffix* args, const physcon_executor* executor               \
    ) {                                                                                          \
        std::size_t size = 0;                                                                    \
        if (sized(args, executor, 3)) {                                                          \
            guarded(nullptr, [&] {                                                               \
                size =                                                                           \
                    condition_banded_workspace(convert_banded<T>(*args), executor_of(executor)); \
            });                                                                                  \
        }                                                                                        \
        return size;                                                                             \
    }                                                                                            \
    int physcon_condition_banded_##suffix(                                                       \
        const physcon_banded_args_##suffix* args,                                                \
        const physcon_executor* executor,                                                        \
        void* workspace,                                                                         \
        std::size_t workspace_size,                                                              \
        physcon_error* error                                                                     \
    ) {                                                                                          \
        return run_banded<T>(                                                                    \
            "condition_banded_" #suffix, args, executor, workspace, workspace_size, error        \
        );                                                                                       \
    }

PHYSCON_DEFINE_C_API(double, f64)
PHYSCON_DEFINE_C_API(float, f32)
