// SPDX-License-Identifier: Apache-2.0
// Bindings of boundary_spectral_conv and its adjoint.
#include "core/boundary_spectral.hpp"

#include <tuple>

#include "torch/faces.hpp"
#include "torch/gains.hpp"
#include "torch/spectral.hpp"
#include "torch/spectral_cuda.hpp"

namespace physcon::binding {

std::tuple<Tensor, Tensor, Tensor> boundary_spectral_conv(
    const Tensor& x,
    const Tensor& weight,
    const Tensor& gain_0,
    const Tensor& gain_1,
    const Tensor& gain_2,
    const Tensor& values_0,
    const Tensor& values_1,
    const Tensor& values_2,
    const Tensor& stencil_0,
    const Tensor& stencil_1,
    const Tensor& stencil_2,
    const std::vector<double>& period
) {
    return boundary_spectral_conv_to(
        x.scalar_type(),
        x,
        weight,
        {&gain_0, &gain_1, &gain_2},
        {&values_0, &values_1, &values_2},
        {&stencil_0, &stencil_1, &stencil_2},
        period
    );
}

std::tuple<Tensor, Tensor, Tensor> boundary_spectral_conv_to(
    ScalarType result,
    const Tensor& x_in,
    const Tensor& weight_in,
    const Tensor* const (&gains_in)[3],
    const Tensor* const (&values)[3],
    const Tensor* const (&stencils)[3],
    const std::vector<double>& period
) {
    const char* op = "physcon::boundary_spectral_conv";
    const auto axes = static_cast<int64_t>(period.size());
    const SpectralCall call(op, "x", x_in, axes, weight_in, period);
    const ScalarType type = computed_type(call, x_in, *stencils[0]);
    call.check("x", x_in, call.value_shape(call.in), x_in.scalar_type());
    call.check("weight", weight_in, shape_of(weight_in), type);
    const GivenGains gains(call, gains_in);
    const Faces faces(op, call.value_shape(call.out), type, call.grid.axes, values, stencils);
    const Tensor x = packed(x_in), weight = packed(weight_in);
    Tensor y = allocate(x, call.value_shape(call.out), result);
    Tensor spectrum = allocate(x, call.spectrum_shape(call.in), type);
    Tensor shifts = allocate(x, shifts_shape(call, gains), ScalarType::Double);
    dispatch(op, weight, [&](auto type_tag) {
        using scalar_t = decltype(type_tag);
        BoundarySpectralConvArgs<scalar_t> args;
        set_sizes<scalar_t>(call, weight, args);
        args.x = field_data<scalar_t>(x);
        args.gains = gains.view(call.grid.axes);
        faces.set(args.rule);
        args.y_out = mutable_field_data<scalar_t>(y);
        args.spectrum_out = spectrum.mutable_data_ptr<scalar_t>();
        args.shifts_out = shifts.mutable_data_ptr<double>();
        if (x.is_cuda()) {
            SpectralCudaCall<scalar_t> device(call, x, y);
            args.tables = device.tables();
            device.run(
                cuda::boundary_spectral_conv_workspace<scalar_t>,
                cuda::boundary_spectral_conv<scalar_t>,
                args
            );
            return;
        }
        const auto tables = spectral_tables_of<scalar_t>(call.grid);
        args.tables = tables.get();
        const Executor executor = torch_executor(call.work());
        Workspace workspace(boundary_spectral_conv_workspace(args, executor));
        physcon::boundary_spectral_conv(args, executor, workspace.data());
    });
    return {y, spectrum, shifts};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>
boundary_spectral_conv_backward(
    const Tensor& grad_in,
    const Tensor& spectrum_in,
    const Tensor& shifts_in,
    const Tensor& weight_in,
    const Tensor& gain_0,
    const Tensor& gain_1,
    const Tensor& gain_2,
    const Tensor& values_0,
    const Tensor& values_1,
    const Tensor& values_2,
    const Tensor& stencil_0,
    const Tensor& stencil_1,
    const Tensor& stencil_2,
    const std::vector<double>& period,
    bool x_needed,
    bool weight_needed,
    bool gains_needed,
    bool values_needed
) {
    const char* op = "physcon::boundary_spectral_conv_backward";
    const auto axes = static_cast<int64_t>(period.size());
    const SpectralCall call(op, "grad", grad_in, axes, weight_in, period);
    const ScalarType type = computed_type(call, grad_in, stencil_0);
    const GivenGains gains(call, {&gain_0, &gain_1, &gain_2});
    call.check("grad", grad_in, call.value_shape(call.out), grad_in.scalar_type());
    call.check("weight", weight_in, shape_of(weight_in), type);
    call.check("spectrum", spectrum_in, call.spectrum_shape(call.in), type);
    call.check("shifts", shifts_in, shifts_shape(call, gains), ScalarType::Double);
    const Faces faces(
        op,
        call.value_shape(call.out),
        type,
        call.grid.axes,
        {&values_0, &values_1, &values_2},
        {&stencil_0, &stencil_1, &stencil_2}
    );
    const Tensor grad = packed(grad_in), spectrum = packed(spectrum_in), shifts = packed(shifts_in),
                 weight = packed(weight_in);
    Tensor x_out = allocate(grad, x_needed ? call.value_shape(call.in) : Shape{0});
    Tensor weight_out = allocate(weight, weight_needed ? shape_of(weight) : Shape{0});
    Tensor gain_out[3];
    for (int axis = 0; axis < 3; ++axis) {
        const bool wanted = gains_needed && gains.corrected(axis);
        gain_out[axis] =
            allocate(grad, wanted ? shape_of(gains.gain[axis]) : Shape{0}, ScalarType::Double);
    }
    FaceGradients values(faces, weight, type, values_needed);
    dispatch(op, weight, [&](auto type_tag) {
        using scalar_t = decltype(type_tag);
        BoundarySpectralConvBackwardArgs<scalar_t> args;
        set_sizes<scalar_t>(call, weight, args);
        args.grad = field_data<scalar_t>(grad);
        args.spectrum = spectrum.const_data_ptr<scalar_t>();
        args.shifts = shifts.const_data_ptr<double>();
        args.gains = gains.view(call.grid.axes);
        faces.set(args.rule);
        values.set(faces, args.face_gradient);
        args.x_out = x_needed ? mutable_field_data<scalar_t>(x_out) : nullptr;
        args.weight_out = weight_needed ? weight_out.mutable_data_ptr<scalar_t>() : nullptr;
        for (int axis = 0; axis < call.grid.axes; ++axis) {
            if (gain_out[axis].numel() != 0) {
                args.gain_out[3 - call.grid.axes + axis] =
                    gain_out[axis].mutable_data_ptr<double>();
            }
        }
        if (grad.is_cuda()) {
            SpectralCudaCall<scalar_t> device(call, grad, grad);
            args.tables = device.tables();
            device.run(
                cuda::boundary_spectral_conv_backward_workspace<scalar_t>,
                cuda::boundary_spectral_conv_backward<scalar_t>,
                args
            );
            return;
        }
        const auto tables = spectral_tables_of<scalar_t>(call.grid);
        args.tables = tables.get();
        const Executor executor = torch_executor(2 * call.work());
        Workspace workspace(boundary_spectral_conv_backward_workspace(args, executor));
        physcon::boundary_spectral_conv_backward(args, executor, workspace.data());
    });
    return {
        x_out,
        weight_out,
        gain_out[0],
        gain_out[1],
        gain_out[2],
        values.summed[0],
        values.summed[1],
        values.summed[2]
    };
}

}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("boundary_spectral_conv", TORCH_BOX(&physcon::binding::boundary_spectral_conv));
    m.impl(
        "boundary_spectral_conv_backward",
        TORCH_BOX(&physcon::binding::boundary_spectral_conv_backward)
    );
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("boundary_spectral_conv", TORCH_BOX(&physcon::binding::boundary_spectral_conv));
    m.impl(
        "boundary_spectral_conv_backward",
        TORCH_BOX(&physcon::binding::boundary_spectral_conv_backward)
    );
}
