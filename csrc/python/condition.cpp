// SPDX-License-Identifier: Apache-2.0
// NumPy front end of the C functions, without copies. Arrays come as (items, ...) with one item
// when the batch shares it; physcon_ext.core shapes them and documents the calls.
#include "python/arrays.hpp"
#include "python/bindings.hpp"

namespace physcon::python {
namespace {

/// Binds the names of the C API to a scalar type.
template <typename T>
struct Api;

#define PHYSCON_BIND_API(T, suffix)                                                            \
    template <>                                                                                \
    struct Api<T> {                                                                            \
        using Condition = physcon_condition_args_##suffix;                                     \
        using Disjoint = physcon_disjoint_args_##suffix;                                       \
        using Banded = physcon_banded_args_##suffix;                                           \
        static constexpr auto condition_workspace = &physcon_condition_workspace_##suffix;     \
        static constexpr auto condition_diagonal = &physcon_condition_diagonal_##suffix;       \
        static constexpr auto condition_cross = &physcon_condition_cross_##suffix;             \
        static constexpr auto condition_dense = &physcon_condition_dense_##suffix;             \
        static constexpr auto condition_disjoint = &physcon_condition_disjoint_##suffix;       \
        static constexpr auto banded_workspace = &physcon_condition_banded_workspace_##suffix; \
        static constexpr auto condition_banded = &physcon_condition_banded_##suffix;           \
    };
PHYSCON_BIND_API(double, f64)
PHYSCON_BIND_API(float, f32)
#undef PHYSCON_BIND_API

template <typename T>
void condition_as(
    const Array& mean,
    const MaybeArray& variance,
    const MaybeArray& cross,
    const MaybeArray& covariance,
    const Array& rows,
    const Array& target,
    const Array& noise,
    Array& mean_out,
    Array& variance_out,
    MaybeArray& factor_out,
    MaybeArray& covariance_out,
    MaybeArray& cross_out,
    Array& cholesky_out,
    Array& multipliers_out,
    Array& info_out
) {
    if (mean_out.ndim() != 2 || rows.ndim() != 3) {
        throw py::value_error("physcon::core: expected mean_out (items, n) and rows (items, r, n)");
    }
    typename Api<T>::Condition args{};
    const std::int64_t batch = args.batch = mean_out.shape(0);
    const std::int64_t n = args.n = mean_out.shape(1);
    const std::int64_t rank = args.rank = rows.shape(1);
    const auto bind =
        [&](const Array& array, const char* name, std::int64_t size, auto& data, auto& stride) {
            const Input<T> in = input<T>(array, name, batch, size);
            data = in.data;
            stride = in.stride;
        };
    bind(mean, "mean", n, args.mean, args.mean_stride);
    if (variance) {
        bind(*variance, "variance", n, args.variance, args.variance_stride);
    }
    if (cross) {
        bind(*cross, "cross", rank * n, args.cross, args.cross_stride);
    }
    if (covariance) {
        bind(*covariance, "prior_covariance", n * n, args.covariance, args.covariance_stride);
    }
    bind(rows, "rows", rank * n, args.rows, args.rows_stride);
    bind(target, "target", rank, args.target, args.target_stride);
    args.noise_is_matrix = noise.ndim() == 3;
    bind(noise, "noise", noise.ndim() == 3 ? rank * rank : rank, args.noise, args.noise_stride);
    args.mean_out = output<T>(mean_out, "mean_out", batch * n);
    args.variance_out = output<T>(variance_out, "variance_out", batch * n);
    args.factor_out = output<T>(factor_out, "factor_out", batch * rank * n);
    args.covariance_out = output<T>(covariance_out, "covariance_out", batch * n * n);
    args.cross_out = output<T>(cross_out, "cross_out", batch * rank * n);
    args.cholesky_out = output<double>(cholesky_out, "cholesky_out", batch * rank * rank);
    args.multipliers_out = output<double>(multipliers_out, "multipliers_out", batch * rank);
    args.info_out = output<std::int32_t>(info_out, "info_out", batch * rank);

    const auto call = covariance ? Api<T>::condition_dense
                      : cross    ? Api<T>::condition_cross
                                 : Api<T>::condition_diagonal;
    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        const Workspace workspace(Api<T>::condition_workspace(&args, nullptr));
        status = call(&args, nullptr, workspace.data(), workspace.size(), &error);
    }
    raise_unless_ok(status, error);
}

template <typename T>
void disjoint_as(
    const Array& mean,
    const Array& variance,
    const Array& weights,
    const MaybeArray& order,
    const Array& offsets,
    const Array& target,
    const Array& noise,
    Array& mean_out,
    Array& variance_out,
    Array& factor_out,
    Array& cholesky_out,
    Array& multipliers_out,
    Array& info_out
) {
    if (mean_out.ndim() != 2 || factor_out.ndim() != 2 || offsets.ndim() != 1) {
        throw py::value_error(
            "physcon::core: expected mean_out (items, n), factor_out (items, p), offsets (r + 1,)"
        );
    }
    typename Api<T>::Disjoint args{};
    const std::int64_t batch = args.batch = mean_out.shape(0);
    const std::int64_t n = args.n = mean_out.shape(1);
    const std::int64_t rank = args.rank = offsets.shape(0) - 1;
    const std::int64_t support = args.support = factor_out.shape(1);
    const auto bind =
        [&](const Array& array, const char* name, std::int64_t size, auto& data, auto& stride) {
            const Input<T> in = input<T>(array, name, batch, size);
            data = in.data;
            stride = in.stride;
        };
    bind(mean, "mean", n, args.mean, args.mean_stride);
    bind(variance, "variance", n, args.variance, args.variance_stride);
    bind(weights, "weights", support, args.weights, args.weights_stride);
    bind(target, "target", rank, args.target, args.target_stride);
    bind(noise, "noise", rank, args.noise, args.noise_stride);
    if (order) {
        check<std::int64_t>(*order, "order", support);
        args.order = static_cast<const std::int64_t*>(order->data());
    }
    check<std::int64_t>(offsets, "offsets", rank + 1);
    args.offsets = static_cast<const std::int64_t*>(offsets.data());
    args.mean_out = output<T>(mean_out, "mean_out", batch * n);
    args.variance_out = output<T>(variance_out, "variance_out", batch * n);
    args.factor_out = output<T>(factor_out, "factor_out", batch * support);
    args.cholesky_out = output<double>(cholesky_out, "cholesky_out", batch * rank);
    args.multipliers_out = output<double>(multipliers_out, "multipliers_out", batch * rank);
    args.info_out = output<std::int32_t>(info_out, "info_out", batch * rank);

    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        status = Api<T>::condition_disjoint(&args, nullptr, &error);
    }
    raise_unless_ok(status, error);
}

template <typename T>
void banded_as(
    const Array& mean,
    const Array& variance,
    const Array& stencil,
    const Array& target,
    const Array& noise,
    Array& mean_out,
    Array& variance_out,
    Array& band_out,
    Array& multipliers_out,
    Array& info_out
) {
    if (mean_out.ndim() != 2 || mean_out.shape(1) < 3) {
        throw py::value_error("physcon::core: expected mean_out (items, n) with n >= 3");
    }
    typename Api<T>::Banded args{};
    const std::int64_t batch = args.batch = mean_out.shape(0);
    const std::int64_t n = args.n = mean_out.shape(1);
    const auto bind =
        [&](const Array& array, const char* name, std::int64_t size, auto& data, auto& stride) {
            const Input<T> in = input<T>(array, name, batch, size);
            data = in.data;
            stride = in.stride;
        };
    bind(mean, "mean", n, args.mean, args.mean_stride);
    bind(variance, "variance", n, args.variance, args.variance_stride);
    bind(stencil, "stencil", 3 * (n - 2), args.stencil, args.stencil_stride);
    bind(target, "target", n - 2, args.target, args.target_stride);
    bind(noise, "noise", n - 2, args.noise, args.noise_stride);
    args.mean_out = output<T>(mean_out, "mean_out", batch * n);
    args.variance_out = output<T>(variance_out, "variance_out", batch * n);
    args.band_out = output<double>(band_out, "band_out", batch * 3 * n);
    args.multipliers_out = output<double>(multipliers_out, "multipliers_out", batch * (n - 2));
    args.info_out = output<std::int32_t>(info_out, "info_out", batch);

    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        const Workspace workspace(Api<T>::banded_workspace(&args, nullptr));
        status =
            Api<T>::condition_banded(&args, nullptr, workspace.data(), workspace.size(), &error);
    }
    raise_unless_ok(status, error);
}

}  // namespace

void bind_condition(py::module_& m) {
    m.def("condition", by_dtype(&condition_as<double>, &condition_as<float>));
    m.def("condition_disjoint", by_dtype(&disjoint_as<double>, &disjoint_as<float>));
    m.def("condition_banded", by_dtype(&banded_as<double>, &banded_as<float>));
}

}  // namespace physcon::python
