// SPDX-License-Identifier: Apache-2.0
// Bindings of condition_diagonal, condition_cross, condition_dense and their adjoints.
#include <optional>
#include <tuple>

#include "torch/binding.hpp"
#include "torch/cuda.hpp"

namespace physcon::binding {
namespace {

using Optional = std::optional<Tensor>;

/// The arguments that all three forms share.
struct Problem {
    Geometry geometry;
    int64_t rank;
    Operand mean, rows, target, noise;
    bool noise_is_matrix;

    static int64_t rank_of(const char* op, const Tensor& rows) {
        STD_TORCH_CHECK(
            rows.dim() >= 2, op, ": expected rows to have at least 2 dimensions, got ", rows.dim()
        );
        return rows.size(-2);
    }
    Problem(const char* op, const Tensor& m, const Tensor& g, const Tensor& b, const Tensor& r)
        : geometry(op, m),
          rank(rank_of(op, g)),
          mean(geometry, "mean", m, m, {geometry.n}),
          rows(geometry, "rows", g, m, {rank, geometry.n}, true),
          target(geometry, "target", b, m, {rank}),
          noise(
              r.dim() == m.dim() + 1 ? Operand(geometry, "noise", r, m, {rank, rank})
                                     : Operand(geometry, "noise", r, m, {rank})
          ),
          noise_is_matrix(r.dim() == m.dim() + 1) {
        STD_TORCH_CHECK(rank >= 1, op, ": expected rows to hold at least 1 row, got 0");
        STD_TORCH_CHECK(geometry.n >= 1, op, ": expected mean to hold at least 1 point, got 0");
    }

    double work() const {
        return static_cast<double>(geometry.items * geometry.n) *
               static_cast<double>(rank * rank + 8 * rank);
    }
    Tensor output(std::initializer_list<int64_t> rest) const {
        return allocate(mean.tensor, join(geometry.batch, rest));
    }
    Tensor output(std::initializer_list<int64_t> rest, ScalarType dtype) const {
        return allocate(mean.tensor, join(geometry.batch, rest), dtype);
    }
};

struct Outputs {
    Tensor mean, variance, factor, covariance, cross, cholesky, multipliers, info;

    Outputs(const Problem& p, bool want_factor, bool want_covariance, bool want_cross)
        : mean(p.output({p.geometry.n})),
          variance(p.output({p.geometry.n})),
          factor(p.output({want_factor || want_covariance ? p.rank : 0, p.geometry.n})),
          covariance(p.output({want_covariance ? p.geometry.n : 0, p.geometry.n})),
          cross(p.output({want_cross ? p.rank : 0, p.geometry.n})),
          cholesky(p.output({p.rank, p.rank}, ScalarType::Double)),
          multipliers(p.output({p.rank}, ScalarType::Double)),
          info(p.output({p.rank}, ScalarType::Int)) {}
};

template <typename T>
T* pointer(Tensor& t) {
    return t.numel() == 0 ? nullptr : static_cast<T*>(t.mutable_data_ptr());
}

/// Priors that a call has; null: not this one.
struct Prior {
    const Operand *variance = nullptr, *cross = nullptr, *covariance = nullptr;
};

template <typename T>
ConditionArgs<T> forward_args(const Problem& p, const Prior& prior, Outputs& out) {
    ConditionArgs<T> args;
    args.batch = p.geometry.items;
    args.n = p.geometry.n;
    args.rank = p.rank;
    args.mean = p.mean.view<T>();
    if (prior.variance != nullptr) {
        args.variance = prior.variance->view<T>();
    }
    if (prior.cross != nullptr) {
        args.cross = prior.cross->view<T>();
    }
    if (prior.covariance != nullptr) {
        args.covariance = prior.covariance->view<T>();
    }
    args.rows = p.rows.view<T>();
    args.target = p.target.view<T>();
    args.noise = p.noise.view<T>();
    args.noise_is_matrix = p.noise_is_matrix;
    args.mean_out = pointer<T>(out.mean);
    args.variance_out = pointer<T>(out.variance);
    args.factor_out = pointer<T>(out.factor);
    args.covariance_out = pointer<T>(out.covariance);
    args.cross_out = pointer<T>(out.cross);
    args.cholesky_out = pointer<double>(out.cholesky);
    args.multipliers_out = pointer<double>(out.multipliers);
    args.info_out = pointer<std::int32_t>(out.info);
    return args;
}

template <typename T>
void run_on_device(const Problem& p, const ConditionArgs<T>& args) {
    CudaCall call(p.geometry.op, p.mean.tensor);
    void* memory = call.workspace(cuda::condition_workspace(args, call.device()));
    call.check(cuda::condition(args, call.device(), memory));
}

void run(const Problem& p, const Prior& prior, Outputs& out) {
    const bool cuda = p.mean.tensor.is_cuda();
    const bool plain = prior.variance != nullptr && prior.cross == nullptr;
    if (cuda && plain && out.covariance.numel() == 0 && is_stored(p.mean.tensor)) {
        dispatch_stored(p.mean.tensor, [&](auto type) {
            const auto args = forward_args<decltype(type)>(p, prior, out);
            if (args.batch > 0) {
                run_on_device(p, args);
            }
        });
        return;
    }
    dispatch(p.geometry.op, p.mean.tensor, [&](auto type) {
        const auto args = forward_args<decltype(type)>(p, prior, out);
        if (args.batch == 0) {
            return;
        }
        if (cuda) {
            run_on_device(p, args);
            return;
        }
        const Executor executor = torch_executor(p.work());
        Workspace workspace(condition_workspace(args, executor));
        condition(args, executor, workspace.data());
    });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> condition_diagonal(
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& rows,
    const Tensor& target,
    const Tensor& noise,
    bool factor,
    bool covariance
) {
    const Problem p("physcon::condition_diagonal", mean, rows, target, noise);
    const Operand prior(p.geometry, "variance", variance, mean, {p.geometry.n});
    Outputs out(p, factor, covariance, false);
    run(p, {&prior}, out);
    return {
        out.mean, out.variance, out.factor, out.covariance, out.cholesky, out.multipliers, out.info
    };
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> condition_cross(
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& cross,
    const Tensor& rows,
    const Tensor& target,
    const Tensor& noise,
    bool factor
) {
    const Problem p("physcon::condition_cross", mean, rows, target, noise);
    const Operand prior(p.geometry, "variance", variance, mean, {p.geometry.n});
    const Operand c(p.geometry, "cross", cross, mean, {p.rank, p.geometry.n});
    Outputs out(p, factor, false, false);
    run(p, {&prior, &c}, out);
    return {out.mean, out.variance, out.factor, out.cholesky, out.multipliers, out.info};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> condition_dense(
    const Tensor& mean,
    const Tensor& prior_covariance,
    const Tensor& rows,
    const Tensor& target,
    const Tensor& noise,
    bool covariance
) {
    const Problem p("physcon::condition_dense", mean, rows, target, noise);
    const int64_t n = p.geometry.n;
    const Operand prior(p.geometry, "prior_covariance", prior_covariance, mean, {n, n});
    Outputs out(p, true, covariance, true);
    run(p, {nullptr, nullptr, &prior}, out);
    return {
        out.mean,
        out.variance,
        out.factor,
        out.covariance,
        out.cross,
        out.cholesky,
        out.multipliers,
        out.info
    };
}

// ---- adjoints
// -----------------------------------------------------------------------------------------------------

struct Gradients {
    Tensor mean, variance, cross, rows, target, noise;
    Gradients(const Problem& p, bool want_cross, bool want_rows)
        : mean(p.output({p.geometry.n})),
          variance(p.output({p.geometry.n})),
          cross(p.output({want_cross ? p.rank : 0, p.geometry.n})),
          rows(
              want_rows && p.rows.shared ? allocate(p.mean.tensor, {p.rank, p.geometry.n})
                                         : p.output({want_rows ? p.rank : 0, p.geometry.n})
          ),
          target(p.output({p.rank})),
          noise(p.output({p.rank, p.rank})) {}
};

/// Gradients with respect to the outputs, as autograd hands them over.
struct Upstream {
    const Tensor &mean, &variance;
    const Optional& factor;
};

void run_backward(
    const Problem& p,
    const Upstream& upstream,
    const Operand& variance,
    const Operand* cross,
    const Tensor& cholesky,
    const Tensor& multipliers,
    Gradients& out
) {
    const Tensor& m = p.mean.tensor;
    const Operand grad_mean(p.geometry, "grad_mean", upstream.mean, m, {p.geometry.n});
    const Operand grad_variance(p.geometry, "grad_variance", upstream.variance, m, {p.geometry.n});
    std::optional<Operand> grad_factor;
    if (upstream.factor.has_value()) {
        grad_factor.emplace(
            p.geometry,
            "grad_factor",
            *upstream.factor,
            m,
            std::initializer_list<int64_t>{p.rank, p.geometry.n}
        );
    }
    const Tensor l = packed(cholesky), alpha = packed(multipliers);
    if (p.geometry.items == 0) {
        if (p.rows.shared && out.rows.numel() > 0) {
            torch::stable::zero_(out.rows);  // a sum of no terms
        }
        return;
    }
    const auto fill = [&](auto& args, auto type) {
        using scalar_t = decltype(type);
        args.batch = p.geometry.items;
        args.n = p.geometry.n;
        args.rank = p.rank;
        args.grad_mean = grad_mean.view<scalar_t>();
        args.grad_variance = grad_variance.view<scalar_t>();
        if (grad_factor.has_value()) {
            args.grad_factor = grad_factor->view<scalar_t>();
        }
        args.mean = p.mean.view<scalar_t>();
        args.variance = variance.view<scalar_t>();
        if (cross != nullptr) {
            args.cross = cross->view<scalar_t>();
        }
        args.rows = p.rows.view<scalar_t>();
        args.rows_shared = p.rows.shared;
        args.cholesky = l.const_data_ptr<double>();
        args.multipliers = alpha.const_data_ptr<double>();
        args.mean_out = pointer<scalar_t>(out.mean);
        args.variance_out = pointer<scalar_t>(out.variance);
        args.cross_out = pointer<scalar_t>(out.cross);
        args.rows_out = pointer<scalar_t>(out.rows);
        args.target_out = pointer<scalar_t>(out.target);
        args.noise_out = pointer<scalar_t>(out.noise);
    };
    const auto run_adjoint = [&](auto type) {
        ConditionBackwardArgs<decltype(type)> args;
        fill(args, type);
        CudaCall call(p.geometry.op, m);
        void* memory = call.workspace(cuda::condition_backward_workspace(args, call.device()));
        call.check(cuda::condition_backward(args, call.device(), memory));
    };
    if (m.is_cuda() && cross == nullptr && is_stored(m)) {
        dispatch_stored(m, run_adjoint);
        return;
    }
    dispatch(p.geometry.op, m, [&](auto type) {
        if (m.is_cuda()) {
            run_adjoint(type);
            return;
        }
        ConditionBackwardArgs<decltype(type)> args;
        fill(args, type);
        const Executor executor = torch_executor(p.work());
        Workspace workspace(condition_backward_workspace(args, executor));
        condition_backward(args, executor, workspace.data());
    });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> condition_diagonal_backward(
    const Tensor& grad_mean,
    const Tensor& grad_variance,
    const Optional& grad_factor,
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& rows,
    const Tensor& target,
    const Tensor& noise,
    const Tensor& cholesky,
    const Tensor& multipliers,
    bool rows_needed
) {
    const Problem p("physcon::condition_diagonal_backward", mean, rows, target, noise);
    const Operand prior(p.geometry, "variance", variance, mean, {p.geometry.n});
    Gradients out(p, false, rows_needed);
    run_backward(
        p, {grad_mean, grad_variance, grad_factor}, prior, nullptr, cholesky, multipliers, out
    );
    return {out.mean, out.variance, out.rows, out.target, out.noise};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> condition_cross_backward(
    const Tensor& grad_mean,
    const Tensor& grad_variance,
    const Optional& grad_factor,
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& cross,
    const Tensor& rows,
    const Tensor& target,
    const Tensor& noise,
    const Tensor& cholesky,
    const Tensor& multipliers,
    bool rows_needed
) {
    const Problem p("physcon::condition_cross_backward", mean, rows, target, noise);
    const Operand prior(p.geometry, "variance", variance, mean, {p.geometry.n});
    const Operand c(p.geometry, "cross", cross, mean, {p.rank, p.geometry.n});
    Gradients out(p, true, rows_needed);
    run_backward(p, {grad_mean, grad_variance, grad_factor}, prior, &c, cholesky, multipliers, out);
    return {out.mean, out.variance, out.cross, out.rows, out.target, out.noise};
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("condition_diagonal", TORCH_BOX(&physcon::binding::condition_diagonal));
    m.impl(
        "condition_diagonal_backward", TORCH_BOX(&physcon::binding::condition_diagonal_backward)
    );
    m.impl("condition_cross", TORCH_BOX(&physcon::binding::condition_cross));
    m.impl("condition_cross_backward", TORCH_BOX(&physcon::binding::condition_cross_backward));
    m.impl("condition_dense", TORCH_BOX(&physcon::binding::condition_dense));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("condition_diagonal", TORCH_BOX(&physcon::binding::condition_diagonal));
    m.impl(
        "condition_diagonal_backward", TORCH_BOX(&physcon::binding::condition_diagonal_backward)
    );
    m.impl("condition_cross", TORCH_BOX(&physcon::binding::condition_cross));
    m.impl("condition_cross_backward", TORCH_BOX(&physcon::binding::condition_cross_backward));
    m.impl("condition_dense", TORCH_BOX(&physcon::binding::condition_dense));
}
