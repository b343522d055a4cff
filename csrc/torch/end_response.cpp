// SPDX-License-Identifier: Apache-2.0
// Bindings of end_response and its adjoint.
#include "torch/spectral_cuda.hpp"

namespace physcon::binding {
namespace {

/// One axis of a convolution.
struct EndCall {
    SpectralCall spectral;
    int axis;  ///< in the numbering of the grid

    EndCall(
        const char* op,
        const Tensor& weight,
        int64_t of_axis,
        const std::vector<int64_t>& size,
        const std::vector<double>& period
    )
        : spectral(op, Shape{}, size, weight, period),
          axis(3 - spectral.grid.axes + static_cast<int>(of_axis)) {
        STD_TORCH_CHECK(
            of_axis >= 0 && of_axis < spectral.grid.axes,
            op,
            ": expected axis to be at least 0 and less than ",
            spectral.grid.axes,
            ", got ",
            of_axis
        );
    }
    Shape response_shape() const {
        Shape shape = {
            3, spectral.mode_count / spectral.grid.modes[axis], spectral.in, spectral.out
        };
        if (spectral.grid.axes > 1) {
            shape.push_back(2);
        }
        return shape;
    }
    template <typename T>
    void set(EndResponseArgs<T>& args) const {
        args.grid = spectral.grid;
        args.axis = axis;
        args.in = spectral.in;
        args.out = spectral.out;
    }
    Executor executor() const {
        return torch_executor(
            8.0 * static_cast<double>(spectral.mode_count) *
            static_cast<double>(spectral.in * spectral.out)
        );
    }
};

Tensor end_response(
    const Tensor& weight_in,
    int64_t axis,
    const std::vector<int64_t>& size,
    const std::vector<double>& period
) {
    const char* op = "physcon::end_response";
    const EndCall call(op, weight_in, axis, size, period);
    const Tensor weight = packed(weight_in);
    Tensor response = allocate(weight, call.response_shape(), ScalarType::Double);
    dispatch(op, weight, [&](auto tag) {
        using scalar_t = decltype(tag);
        EndResponseArgs<scalar_t> args;
        call.set(args);
        args.weight = weight.const_data_ptr<scalar_t>();
        args.response_out = response.mutable_data_ptr<double>();
        if (weight.is_cuda()) {
            const CudaCall device(op, weight);
            device.check(cuda::end_response(args, device.device()));
            return;
        }
        const Executor executor = call.executor();
        Workspace workspace(end_response_workspace(args, executor));
        physcon::end_response(args, executor, workspace.data());
    });
    return response;
}

Tensor end_response_backward(
    const Tensor& grad_in,
    const Tensor& weight,
    int64_t axis,
    const std::vector<int64_t>& size,
    const std::vector<double>& period
) {
    const char* op = "physcon::end_response_backward";
    const EndCall call(op, weight, axis, size, period);
    call.spectral.check("grad", grad_in, call.response_shape(), ScalarType::Double);
    const Tensor grad = packed(grad_in);
    Tensor weight_out = allocate(weight, shape_of(weight));
    dispatch(op, weight, [&](auto tag) {
        using scalar_t = decltype(tag);
        EndResponseArgs<scalar_t> args;
        call.set(args);
        args.response_bar = grad.const_data_ptr<double>();
        args.weight_out = weight_out.mutable_data_ptr<scalar_t>();
        if (weight.is_cuda()) {
            const CudaCall device(op, weight);
            device.check(cuda::end_response_adjoint(args, device.device()));
            return;
        }
        const Executor executor = call.executor();
        Workspace workspace(end_response_workspace(args, executor));
        physcon::end_response_adjoint(args, executor, workspace.data());
    });
    return weight_out;
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("end_response", TORCH_BOX(&physcon::binding::end_response));
    m.impl("end_response_backward", TORCH_BOX(&physcon::binding::end_response_backward));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("end_response", TORCH_BOX(&physcon::binding::end_response));
    m.impl("end_response_backward", TORCH_BOX(&physcon::binding::end_response_backward));
}
