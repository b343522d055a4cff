// SPDX-License-Identifier: Apache-2.0
// Bindings of two_step_gain and its adjoint.
#include "core/cuda/spectral_entry.hpp"
#include "torch/cuda.hpp"

namespace physcon::binding {
namespace {

/// The blocks of a call, checked, and the numbers of its arguments.
struct TwoStepCall {
    Tensor response;
    TwoStepGainArgs args;
    Shape gain;

    TwoStepCall(const char* op, const Tensor& given, double tolerance, bool modulus, double slip)
        : response(packed(given)) {
        const Shape shape = shape_of(given);
        const bool fits = (shape.size() == 4 || (shape.size() == 5 && shape[4] == 2)) &&
                          shape[0] == 3 && shape[1] >= 1 && shape[2] == shape[3];
        STD_TORCH_CHECK(
            fits && given.scalar_type() == ScalarType::Double,
            op,
            ": expected response to be float64 of shape (3, Q, C, C) or (3, Q, C, C, 2), got ",
            describe(shape)
        );
        args.modes = shape[1];
        args.channels = shape[2];
        args.parts = shape.size() == 4 ? 1 : 2;
        args.tolerance = tolerance;
        args.modulus = modulus;
        args.slip = slip;
        args.response = response.const_data_ptr<double>();
        gain = {shape[1], 4 * shape[2], 2 * shape[2], args.parts};
    }
    Executor executor() const {
        return torch_executor(8.0 * static_cast<double>(product(gain)));
    }
};

Tensor two_step_gain(const Tensor& response, double tolerance, bool modulus, double slip) {
    const char* op = "physcon::two_step_gain";
    TwoStepCall call(op, response, tolerance, modulus, slip);
    Tensor gain = allocate(response, call.gain);
    call.args.gain_out = gain.mutable_data_ptr<double>();
    if (response.is_cuda()) {
        const CudaCall device(op, response);
        device.check(cuda::two_step_gain(call.args, device.device()));
        return gain;
    }
    physcon::two_step_gain(call.args, call.executor());
    return gain;
}

Tensor two_step_gain_backward(
    const Tensor& grad_in, const Tensor& response, double tolerance, bool modulus, double slip
) {
    const char* op = "physcon::two_step_gain_backward";
    TwoStepCall call(op, response, tolerance, modulus, slip);
    STD_TORCH_CHECK(
        shape_of(grad_in) == call.gain && grad_in.scalar_type() == ScalarType::Double,
        op,
        ": expected grad to be float64 of shape ",
        describe(call.gain),
        ", got ",
        describe(shape_of(grad_in))
    );
    const Tensor grad = packed(grad_in);
    Tensor out = allocate(response, shape_of(response));
    call.args.gain_bar = grad.const_data_ptr<double>();
    call.args.response_out = out.mutable_data_ptr<double>();
    if (response.is_cuda()) {
        CudaCall device(op, response);
        void* memory = device.workspace(cuda::two_step_gain_adjoint_workspace(call.args));
        device.check(cuda::two_step_gain_adjoint(call.args, device.device(), memory));
        return out;
    }
    physcon::two_step_gain_adjoint(call.args, call.executor());
    return out;
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("two_step_gain", TORCH_BOX(&physcon::binding::two_step_gain));
    m.impl("two_step_gain_backward", TORCH_BOX(&physcon::binding::two_step_gain_backward));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("two_step_gain", TORCH_BOX(&physcon::binding::two_step_gain));
    m.impl("two_step_gain_backward", TORCH_BOX(&physcon::binding::two_step_gain_backward));
}
