// SPDX-License-Identifier: Apache-2.0
// Bindings of condition_banded, its adjoint, and banded_product.
#include <tuple>

#include "torch/binding.hpp"
#include "torch/cuda.hpp"

namespace physcon::binding {
namespace {

struct Stencil {
    Geometry geometry;
    int64_t rows;
    Operand variance, stencil, noise;

    /// `like` gives the batch and the number of points: the mean, or the variance of a product.
    Stencil(const char* op, const Tensor& like, const Tensor& v, const Tensor& d, const Tensor& r)
        : geometry(op, like),
          rows(geometry.n - 2),
          variance(geometry, "variance", v, like, {geometry.n}),
          stencil(geometry, "stencil", d, like, {rows, 3}, true),
          noise(geometry, "noise", r, like, {rows}) {
        STD_TORCH_CHECK(geometry.n >= 3, op, ": expected at least 3 points, got ", geometry.n);
    }
    double work() const {
        return 100.0 * static_cast<double>(geometry.items * geometry.n);
    }
    Tensor output(const Tensor& like, std::initializer_list<int64_t> rest) const {
        return allocate(like, join(geometry.batch, rest));
    }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> condition_banded(
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& stencil,
    const Tensor& target,
    const Tensor& noise
) {
    const Stencil s("physcon::condition_banded", mean, variance, stencil, noise);
    const int64_t n = s.geometry.n;
    const Operand m(s.geometry, "mean", mean, mean, {n}),
        t(s.geometry, "target", target, mean, {s.rows});
    Tensor mean_out = s.output(mean, {n}), variance_out = s.output(mean, {n});
    Tensor band = allocate(mean, join(s.geometry.batch, {3, n}), ScalarType::Double);
    Tensor multipliers = allocate(mean, join(s.geometry.batch, {s.rows}), ScalarType::Double);
    Tensor info = allocate(mean, join(s.geometry.batch, {1}), ScalarType::Int);
    dispatch(s.geometry.op, mean, [&](auto type) {
        using scalar_t = decltype(type);
        BandedArgs<scalar_t> args;
        args.batch = s.geometry.items;
        args.n = n;
        args.mean = m.view<scalar_t>();
        args.variance = s.variance.view<scalar_t>();
        args.stencil = s.stencil.view<scalar_t>();
        args.target = t.view<scalar_t>();
        args.noise = s.noise.view<scalar_t>();
        args.mean_out = mean_out.mutable_data_ptr<scalar_t>();
        args.variance_out = variance_out.mutable_data_ptr<scalar_t>();
        args.band_out = band.mutable_data_ptr<double>();
        args.multipliers_out = multipliers.mutable_data_ptr<double>();
        args.info_out = info.mutable_data_ptr<std::int32_t>();
        if (mean.is_cuda()) {
            CudaCall call(s.geometry.op, mean);
            void* memory = call.workspace(cuda::condition_banded_workspace(args, call.device()));
            call.check(cuda::condition_banded(args, call.device(), memory));
            return;
        }
        const Executor executor = torch_executor(s.work());
        Workspace workspace(condition_banded_workspace(args, executor));
        physcon::condition_banded(args, executor, workspace.data());
    });
    return {mean_out, variance_out, band, multipliers, info};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> condition_banded_backward(
    const Tensor& grad_mean,
    const Tensor& grad_variance,
    const Tensor& mean,
    const Tensor& variance,
    const Tensor& stencil,
    const Tensor& target,
    const Tensor& noise,
    const Tensor& mean_posterior,
    const Tensor& band_in,
    const Tensor& multipliers_in
) {
    const Stencil s("physcon::condition_banded_backward", mean, variance, stencil, noise);
    const int64_t n = s.geometry.n;
    const Operand t(s.geometry, "target", target, mean, {s.rows});
    const Operand up(s.geometry, "grad_mean", grad_mean, mean, {n});
    const Operand uq(s.geometry, "grad_variance", grad_variance, mean, {n});
    const Operand posterior(s.geometry, "mean_posterior", mean_posterior, mean, {n});
    const Tensor band = packed(band_in), multipliers = packed(multipliers_in);
    Tensor mean_out = s.output(mean, {n}), variance_out = s.output(mean, {n});
    Tensor stencil_out = s.output(mean, {s.rows, 3});
    Tensor target_out = s.output(mean, {s.rows}), noise_out = s.output(mean, {s.rows});
    dispatch(s.geometry.op, mean, [&](auto type) {
        using scalar_t = decltype(type);
        BandedBackwardArgs<scalar_t> args;
        args.batch = s.geometry.items;
        args.n = n;
        args.grad_mean = up.view<scalar_t>();
        args.grad_variance = uq.view<scalar_t>();
        args.mean_posterior = posterior.view<scalar_t>();
        args.variance = s.variance.view<scalar_t>();
        args.stencil = s.stencil.view<scalar_t>();
        args.noise = s.noise.view<scalar_t>();
        args.band = band.const_data_ptr<double>();
        args.multipliers = multipliers.const_data_ptr<double>();
        args.mean_out = mean_out.mutable_data_ptr<scalar_t>();
        args.variance_out = variance_out.mutable_data_ptr<scalar_t>();
        args.stencil_out = stencil_out.mutable_data_ptr<scalar_t>();
        args.target_out = target_out.mutable_data_ptr<scalar_t>();
        args.noise_out = noise_out.mutable_data_ptr<scalar_t>();
        if (mean.is_cuda()) {
            CudaCall call(s.geometry.op, mean);
            void* memory =
                call.workspace(cuda::condition_banded_backward_workspace(args, call.device()));
            call.check(cuda::condition_banded_backward(args, call.device(), memory));
            return;
        }
        const Executor executor = torch_executor(s.work());
        Workspace workspace(condition_banded_backward_workspace(args, executor));
        physcon::condition_banded_backward(args, executor, workspace.data());
    });
    return {mean_out, variance_out, stencil_out, target_out, noise_out};
}

Tensor banded_product(
    const Tensor& variance, const Tensor& stencil, const Tensor& noise, const Tensor& x
) {
    const Stencil s("physcon::banded_product", variance, variance, stencil, noise);
    STD_TORCH_CHECK(
        x.dim() >= 2, s.geometry.op, ": expected x to have at least 2 dimensions, got ", x.dim()
    );
    const int64_t n = s.geometry.n, count = x.size(-2);
    const Operand vectors(s.geometry, "x", x, variance, {count, n});
    Tensor out = s.output(variance, {count, n});
    dispatch(s.geometry.op, variance, [&](auto type) {
        using scalar_t = decltype(type);
        BandedProductArgs<scalar_t> args;
        args.batch = s.geometry.items;
        args.n = n;
        args.count = count;
        args.variance = s.variance.view<scalar_t>();
        args.stencil = s.stencil.view<scalar_t>();
        args.noise = s.noise.view<scalar_t>();
        args.vectors = vectors.view<scalar_t>();
        args.out = out.mutable_data_ptr<scalar_t>();
        if (variance.is_cuda()) {
            CudaCall call(s.geometry.op, variance);
            void* memory = call.workspace(cuda::banded_product_workspace(args, call.device()));
            call.check(cuda::banded_product(args, call.device(), memory));
            return;
        }
        const Executor executor = torch_executor(s.work());
        Workspace workspace(banded_product_workspace(args, executor));
        physcon::banded_product(args, executor, workspace.data());
    });
    return out;
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("condition_banded", TORCH_BOX(&physcon::binding::condition_banded));
    m.impl("condition_banded_backward", TORCH_BOX(&physcon::binding::condition_banded_backward));
    m.impl("banded_product", TORCH_BOX(&physcon::binding::banded_product));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("condition_banded", TORCH_BOX(&physcon::binding::condition_banded));
    m.impl("condition_banded_backward", TORCH_BOX(&physcon::binding::condition_banded_backward));
    m.impl("banded_product", TORCH_BOX(&physcon::binding::banded_product));
}
