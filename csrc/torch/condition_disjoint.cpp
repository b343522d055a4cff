// SPDX-License-Identifier: Apache-2.0
// Bindings of condition_disjoint and its adjoint.
#include <optional>
#include <tuple>

#include "torch/binding.hpp"
#include "torch/cuda.hpp"

namespace physcon::binding {
namespace {

struct Rows {
    Geometry geometry;
    int64_t rank, support;
    Operand mean, variance, weights, target, noise;
    Tensor order, offsets;

    Rows(
        const char* op,
        const Tensor& m,
        const Tensor& v,
        const Tensor& w,
        const Tensor& order_in,
        const Tensor& offsets_in,
        const Tensor& b,
        const Tensor& r
    )
        : geometry(op, m),
          rank(offsets_in.numel() - 1),
          support(w.dim() >= 1 ? w.size(-1) : 0),
          mean(geometry, "mean", m, m, {geometry.n}),
          variance(geometry, "variance", v, m, {geometry.n}),
          weights(geometry, "weights", w, m, {support}, true),
          target(geometry, "target", b, m, {rank}),
          noise(geometry, "noise", r, m, {rank}),
          order(packed(order_in)),
          offsets(packed(offsets_in)) {
        STD_TORCH_CHECK(
            rank >= 1, op, ": expected offsets to hold at least 2 entries, got ", offsets.numel()
        );
        STD_TORCH_CHECK(
            order.scalar_type() == ScalarType::Long && offsets.scalar_type() == ScalarType::Long,
            op,
            ": expected order and offsets to be int64"
        );
        STD_TORCH_CHECK(
            order.numel() == 0 || order.numel() == support,
            op,
            ": expected order to have ",
            support,
            " entries (or none), got ",
            order.numel()
        );
        if (order.is_cpu()) {
            check_indices();
        }
    }

    double work() const {
        return 20.0 * static_cast<double>(geometry.items * geometry.n);
    }
    const int64_t* order_data() const {
        return order.numel() == 0 ? nullptr : order.const_data_ptr<int64_t>();
    }
    Tensor output(int64_t size) const {
        return allocate(mean.tensor, join(geometry.batch, {size}));
    }

  private:
    /// Wrong indices would read and write outside the arrays: cheap to check, fatal to trust.
    void check_indices() const {
        const int64_t* at = offsets.const_data_ptr<int64_t>();
        STD_TORCH_CHECK(
            at[0] == 0 && at[rank] == support,
            geometry.op,
            ": expected offsets to run from 0 to ",
            support,
            ", got ",
            at[0],
            " to ",
            at[rank]
        );
        for (int64_t k = 0; k < rank; ++k) {
            STD_TORCH_CHECK(
                at[k] <= at[k + 1],
                geometry.op,
                ": expected offsets to ascend, got a step down at ",
                k
            );
        }
        STD_TORCH_CHECK(
            order.numel() != 0 || support <= geometry.n,
            geometry.op,
            ": expected at most ",
            geometry.n,
            " cells in the rows, got ",
            support
        );
        if (order.numel() == 0) {
            return;
        }
        const int64_t* index = order.const_data_ptr<int64_t>();
        std::vector<char> seen(static_cast<std::size_t>(geometry.n), 0);
        for (int64_t j = 0; j < support; ++j) {
            STD_TORCH_CHECK(
                index[j] >= 0 && index[j] < geometry.n,
                geometry.op,
                ": expected order to index ",
                geometry.n,
                " cells, got ",
                index[j]
            );
            STD_TORCH_CHECK(
                !seen[static_cast<std::size_t>(index[j])],
                geometry.op,
                ": expected disjoint rows, got cell ",
                index[j],
                " twice"
            );
            seen[static_cast<std::size_t>(index[j])] = 1;
        }
    }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> condition_disjoint(
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& weights,
    const Tensor& target,
    const Tensor& noise,
    const Tensor& order,
    const Tensor& offsets
) {
    const Rows r(
        "physcon::condition_disjoint", mean, variance, weights, order, offsets, target, noise
    );
    Tensor mean_out = r.output(r.geometry.n), variance_out = r.output(r.geometry.n),
           factor = r.output(r.support);
    const Shape rows = join(r.geometry.batch, {r.rank});
    Tensor cholesky = allocate(mean, rows, ScalarType::Double),
           multipliers = allocate(mean, rows, ScalarType::Double);
    Tensor info = allocate(mean, rows, ScalarType::Int);
    dispatch(r.geometry.op, mean, [&](auto type) {
        using scalar_t = decltype(type);
        DisjointArgs<scalar_t> args;
        args.batch = r.geometry.items;
        args.n = r.geometry.n;
        args.rank = r.rank;
        args.support = r.support;
        args.mean = r.mean.view<scalar_t>();
        args.variance = r.variance.view<scalar_t>();
        args.weights = r.weights.view<scalar_t>();
        args.order = r.order_data();
        args.offsets = r.offsets.const_data_ptr<int64_t>();
        args.target = r.target.view<scalar_t>();
        args.noise = r.noise.view<scalar_t>();
        args.mean_out = mean_out.mutable_data_ptr<scalar_t>();
        args.variance_out = variance_out.mutable_data_ptr<scalar_t>();
        args.factor_out = factor.mutable_data_ptr<scalar_t>();
        args.cholesky_out = cholesky.mutable_data_ptr<double>();
        args.multipliers_out = multipliers.mutable_data_ptr<double>();
        args.info_out = info.mutable_data_ptr<std::int32_t>();
        if (mean.is_cuda()) {
            const CudaCall call(r.geometry.op, mean);
            call.check(cuda::condition_disjoint(args, call.device()));
            return;
        }
        physcon::condition_disjoint(args, torch_executor(r.work()));
    });
    return {mean_out, variance_out, factor, cholesky, multipliers, info};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> condition_disjoint_backward(
    const Tensor& grad_mean,
    const Tensor& grad_variance,
    const std::optional<Tensor>& grad_factor,
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& weights,
    const Tensor& order,
    const Tensor& offsets,
    const Tensor& target,
    const Tensor& noise,
    const Tensor& cholesky_in,
    const Tensor& multipliers_in
) {
    const Rows r(
        "physcon::condition_disjoint_backward",
        mean,
        variance,
        weights,
        order,
        offsets,
        target,
        noise
    );
    const Operand up(r.geometry, "grad_mean", grad_mean, mean, {r.geometry.n});
    const Operand uq(r.geometry, "grad_variance", grad_variance, mean, {r.geometry.n});
    std::optional<Operand> uf;
    if (grad_factor.has_value()) {
        uf.emplace(
            r.geometry, "grad_factor", *grad_factor, mean, std::initializer_list<int64_t>{r.support}
        );
    }
    const Tensor cholesky = packed(cholesky_in);
    const Tensor multipliers = packed(multipliers_in);
    Tensor mean_out = r.output(r.geometry.n), variance_out = r.output(r.geometry.n),
           weights_out = r.output(r.support);
    Tensor target_out = r.output(r.rank), noise_out = r.output(r.rank);
    dispatch(r.geometry.op, mean, [&](auto type) {
        using scalar_t = decltype(type);
        DisjointBackwardArgs<scalar_t> args;
        args.batch = r.geometry.items;
        args.n = r.geometry.n;
        args.rank = r.rank;
        args.support = r.support;
        args.grad_mean = up.view<scalar_t>();
        args.grad_variance = uq.view<scalar_t>();
        if (uf.has_value()) {
            args.grad_factor = uf->view<scalar_t>();
        }
        args.mean = r.mean.view<scalar_t>();
        args.variance = r.variance.view<scalar_t>();
        args.weights = r.weights.view<scalar_t>();
        args.order = r.order_data();
        args.offsets = r.offsets.const_data_ptr<int64_t>();
        args.cholesky = cholesky.const_data_ptr<double>();
        args.multipliers = multipliers.const_data_ptr<double>();
        args.mean_out = mean_out.mutable_data_ptr<scalar_t>();
        args.variance_out = variance_out.mutable_data_ptr<scalar_t>();
        args.weights_out = weights_out.mutable_data_ptr<scalar_t>();
        args.target_out = target_out.mutable_data_ptr<scalar_t>();
        args.noise_out = noise_out.mutable_data_ptr<scalar_t>();
        if (mean.is_cuda()) {
            const CudaCall call(r.geometry.op, mean);
            call.check(cuda::condition_disjoint_backward(args, call.device()));
            return;
        }
        physcon::condition_disjoint_backward(args, torch_executor(r.work()));
    });
    return {mean_out, variance_out, weights_out, target_out, noise_out};
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("condition_disjoint", TORCH_BOX(&physcon::binding::condition_disjoint));
    m.impl(
        "condition_disjoint_backward", TORCH_BOX(&physcon::binding::condition_disjoint_backward)
    );
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("condition_disjoint", TORCH_BOX(&physcon::binding::condition_disjoint));
    m.impl(
        "condition_disjoint_backward", TORCH_BOX(&physcon::binding::condition_disjoint_backward)
    );
}
