// SPDX-License-Identifier: Apache-2.0
// Bindings of fno_block and its adjoint.
#include <algorithm>
#include <tuple>

#include "core/cuda/pointwise_entry.hpp"
#include "torch/cuda.hpp"
#include "torch/faces.hpp"
#include "torch/gains.hpp"
#include "torch/spectral.hpp"
#include "torch/spectral_cuda.hpp"

namespace physcon::binding {
namespace {

/// Everything of a call but its field, checked.
struct Block {
    SpectralCall call;
    Tensor skip, bias;
    ScalarType type;  ///< of everything but fields, which may have 16 bits
    Faces faces;
    bool corrected;

    Block(
        const char* op,
        const Tensor& field,
        const char* name,
        bool is_input,
        const Tensor& weight,
        const Tensor& skip_in,
        const Tensor& bias_in,
        const Tensor* const (&gains)[3],
        const Tensor* const (&values)[3],
        const Tensor* const (&stencils)[3],
        const std::vector<double>& period
    )
        : call(op, name, field, std::max<int64_t>(1, weight.dim() - 3), weight, period),
          skip(packed(skip_in)),
          bias(packed(bias_in)),
          type(computed_type(call, field, *stencils[0])),
          faces(op, call.value_shape(call.out), type, call.grid.axes, values, stencils),
          corrected(false) {
        if (type != ScalarType::Float && type != ScalarType::Double) {
            refuse_dtype(op, field);
        }
        for (const Tensor* gain : gains) {
            corrected = corrected || gain->numel() != 0;
        }
        const Shape shape = call.value_shape(is_input ? call.in : call.out);
        call.check(name, field, shape, field.scalar_type());
        call.check("weight", weight, shape_of(weight), type);
        call.check("skip", skip, has_skip() ? Shape{call.in, call.out} : Shape{0}, type);
        call.check("bias", bias, has_bias() ? Shape{call.out} : Shape{0}, type);
    }
    bool has_skip() const {
        return skip.dim() == 2;
    }
    bool has_bias() const {
        return bias.numel() != 0 || call.out == 0;
    }
    /// Floating-point operations of one product of all channels and points, roughly.
    double work() const {
        return static_cast<double>(call.items * call.point_count * call.out) *
               (2 * static_cast<double>(call.in) + 30);
    }
};

template <typename Args>
void set_sizes(const Block& block, Args& args) {
    args.items = block.call.items;
    args.in = block.call.in;
    args.out = block.call.out;
    std::copy(block.call.grid.size, block.call.grid.size + 3, args.size);
}
/// With x and the output in the storage of these tensors.
template <typename T>
void run_pointwise(
    const Block& block, const PointwiseArgs<T>& args, const Tensor& x, const Tensor& output
) {
    if (x.is_cuda()) {
        CudaCall call(block.call.op, x);
        const cuda::Device device = call.device(x, output);
        void* memory = call.workspace(cuda::pointwise_workspace(args, device));
        call.check(cuda::pointwise(args, device, memory));
        return;
    }
    const Executor executor = torch_executor(block.work());
    Workspace workspace(pointwise_workspace(args, executor));
    pointwise(args, executor, workspace.data());
}

/// Whether the kernels of a device take the whole layer in the launches of its convolution.
bool takes_line(const Block& block, const Tensor& x) {
    const int64_t width = block.faces.assigned(0) ? block.faces.stencils[0].size(1) : 0;
    return x.is_cuda() && cuda::fuses_layer(block.call.grid, width);
}
/// That call: fills in y and u of the layer, returns spectrum and record of its convolution.
template <typename T>
std::pair<Tensor, Tensor> run_line(
    const Block& block,
    const Tensor& x,
    const Tensor& weight_in,
    const Tensor* const (&given)[3],
    const PointwiseArgs<T>& layer
) {
    const SpectralCall& call = block.call;
    const Tensor weight = packed(weight_in);
    const GivenGains gains(call, given);
    const Tensor spectrum = allocate(x, call.spectrum_shape(call.in), block.type);
    const Tensor shifts =
        allocate(x, block.corrected ? shifts_shape(call, gains) : Shape{0}, ScalarType::Double);
    SpectralCudaCall<T> device(call, x, x);
    cuda::FnoLineArgs<T> args;
    args.layer = layer;
    BoundarySpectralConvArgs<T>& convolution = args.convolution;
    set_sizes<T>(call, weight, convolution);
    convolution.tables = device.tables();
    convolution.x = layer.x;
    convolution.gains = gains.view(call.grid.axes);
    convolution.y_out = layer.output;
    convolution.spectrum_out = spectrum.mutable_data_ptr<T>();
    convolution.shifts_out = shifts.mutable_data_ptr<double>();
    device.run(cuda::fno_line_workspace<T>, cuda::fno_line<T>, args);
    return {spectrum, shifts};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fno_block(
    const Tensor& x_in,
    const Tensor& weight,
    const Tensor& skip,
    const Tensor& bias,
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
    bool activated,
    bool keep
) {
    const Block block(
        "physcon::fno_block",
        x_in,
        "x",
        true,
        weight,
        skip,
        bias,
        {&gain_0, &gain_1, &gain_2},
        {&values_0, &values_1, &values_2},
        {&stencil_0, &stencil_1, &stencil_2},
        period
    );
    const Tensor x = packed(x_in);
    const Tensor nothing = allocate(x, {0}, block.type),
                 no_stencil = allocate(x, {0}, ScalarType::Double);
    const bool kept = activated && keep;
    Tensor field, spectrum, shifts = allocate(x, {0}, ScalarType::Double);
    const bool line = takes_line(block, x);
    if (line) {
        const Shape shape = block.call.value_shape(block.call.out);
        field = kept ? allocate(x, shape, block.type) : allocate(x, shape);
    } else if (block.corrected) {
        std::tie(field, spectrum, shifts) = boundary_spectral_conv_to(
            block.type,
            x,
            weight,
            {&gain_0, &gain_1, &gain_2},
            {&nothing, &nothing, &nothing},
            {&no_stencil, &no_stencil, &no_stencil},
            period_or_size(period, block.call.size)
        );
    } else {
        std::tie(field, spectrum) = spectral_conv_to(block.type, x, weight, period);
    }
    const bool apart = kept || field.scalar_type() != x.scalar_type();
    Tensor y = apart ? allocate(x, shape_of(field)) : field;
    dispatch(block.call.op, weight, [&](auto type) {
        using scalar_t = decltype(type);
        PointwiseArgs<scalar_t> args;
        set_sizes(block, args);
        args.x = field_data<scalar_t>(x);
        if (block.has_skip()) {
            args.skip = {block.skip.const_data_ptr<scalar_t>(), 1, block.call.out};
        }
        args.bias = block.has_bias() ? block.bias.const_data_ptr<scalar_t>() : nullptr;
        args.activated = activated;
        block.faces.set(args.rule);
        args.field = mutable_field_data<scalar_t>(field);
        args.output = mutable_field_data<scalar_t>(y);
        args.keeps_field = kept;
        if (line) {
            std::tie(spectrum, shifts) =
                run_line(block, x, weight, {&gain_0, &gain_1, &gain_2}, args);
        } else {
            run_pointwise(block, args, x, y);
        }
    });
    return {y, kept ? field : nothing, spectrum, shifts};
}

using Gradients =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Gradients fno_block_backward(
    const Tensor& grad_in,
    const Tensor& field_in,
    const Tensor& spectrum,
    const Tensor& shifts,
    const Tensor& x_in,
    const Tensor& weight,
    const Tensor& skip,
    const Tensor& bias,
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
    bool activated,
    bool x_needed,
    bool weight_needed,
    bool skip_needed,
    bool bias_needed,
    bool gains_needed,
    bool values_needed
) {
    const Block block(
        "physcon::fno_block_backward",
        grad_in,
        "grad",
        false,
        weight,
        skip,
        bias,
        {&gain_0, &gain_1, &gain_2},
        {&values_0, &values_1, &values_2},
        {&stencil_0, &stencil_1, &stencil_2},
        period
    );
    const SpectralCall& call = block.call;
    skip_needed = skip_needed && block.has_skip();
    bias_needed = bias_needed && block.has_bias();
    call.check("x", x_in, call.value_shape(call.in), grad_in.scalar_type());
    const Tensor grad = packed(grad_in), x = packed(x_in);
    const ScalarType type = block.type;
    const bool stored = grad.scalar_type() != type;
    const Tensor nothing = allocate(grad, {0}, type),
                 no_stencil = allocate(grad, {0}, ScalarType::Double);
    Tensor field = packed(field_in);
    if (activated && field.numel() == 0) {
        const auto again = fno_block(
            x,
            weight,
            skip,
            bias,
            gain_0,
            gain_1,
            gain_2,
            values_0,
            values_1,
            values_2,
            stencil_0,
            stencil_1,
            stencil_2,
            period,
            stored,
            stored
        );
        // Without activation the output is the field; in 16 bits it would be rounded.
        field = stored ? std::get<1>(again) : std::get<0>(again);
    }
    if (activated) {
        call.check("field", field, shape_of(grad), type);
    }
    const bool passed_on = !activated && !block.faces.any() && !stored;
    Tensor field_grad = passed_on ? grad : allocate(grad, shape_of(grad), type);
    Tensor skip_out = allocate(grad, skip_needed ? Shape{call.in, call.out} : Shape{0}, type);
    Tensor bias_out = allocate(grad, bias_needed ? Shape{call.out} : Shape{0}, type);
    FaceGradients values(block.faces, weight, type, values_needed);
    dispatch(call.op, weight, [&](auto tag) {
        using scalar_t = decltype(tag);
        PointwiseBackwardArgs<scalar_t> args;
        set_sizes(block, args);
        args.grad = field_data<scalar_t>(grad);
        args.field = activated ? field.const_data_ptr<scalar_t>() : nullptr;
        args.activated = activated;
        args.x = field_data<scalar_t>(x);
        block.faces.set(args.rule);
        values.set(block.faces, args.face_gradient);
        args.field_out = passed_on ? nullptr : field_grad.mutable_data_ptr<scalar_t>();
        args.skip_out = skip_needed ? skip_out.mutable_data_ptr<scalar_t>() : nullptr;
        args.bias_out = bias_needed ? bias_out.mutable_data_ptr<scalar_t>() : nullptr;
        if (grad.is_cuda()) {
            CudaCall cuda_call(call.op, grad);
            const cuda::Device device = cuda_call.device(grad, field_grad);
            void* memory = cuda_call.workspace(cuda::pointwise_backward_workspace(args, device));
            cuda_call.check(cuda::pointwise_backward(args, device, memory));
            return;
        }
        const Executor executor = torch_executor(block.work());
        Workspace workspace(pointwise_backward_workspace(args, executor));
        pointwise_backward(args, executor, workspace.data());
    });
    // Outputs never share memory, not even none.
    Tensor x_out = allocate(grad, {0}, type), weight_out = allocate(grad, {0}, type), gain_out[3];
    for (Tensor& gain : gain_out) {
        gain = allocate(grad, {0}, ScalarType::Double);
    }
    if (block.corrected) {
        std::tie(
            x_out,
            weight_out,
            gain_out[0],
            gain_out[1],
            gain_out[2],
            std::ignore,
            std::ignore,
            std::ignore
        ) =
            boundary_spectral_conv_backward(
                field_grad,
                spectrum,
                shifts,
                weight,
                gain_0,
                gain_1,
                gain_2,
                nothing,
                nothing,
                nothing,
                no_stencil,
                no_stencil,
                no_stencil,
                period_or_size(period, call.size),
                x_needed,
                weight_needed,
                gains_needed,
                false
            );
    } else if (x_needed || weight_needed) {
        std::tie(x_out, weight_out) = spectral_conv_backward(
            field_grad, spectrum, weight, call.size, period, x_needed, weight_needed
        );
    }
    Tensor x_grad = stored ? allocate(grad, shape_of(x_out)) : x_out;
    if (x_needed && (block.has_skip() || stored)) {
        dispatch(call.op, weight, [&](auto tag) {
            using scalar_t = decltype(tag);
            PointwiseArgs<scalar_t> args;
            set_sizes(block, args);
            std::swap(args.in, args.out);
            args.x = field_grad.const_data_ptr<scalar_t>();
            if (block.has_skip()) {
                args.skip = {block.skip.const_data_ptr<scalar_t>(), call.out, 1};
            }
            args.field = x_out.mutable_data_ptr<scalar_t>();
            args.output = mutable_field_data<scalar_t>(x_grad);
            args.keeps_field = false;
            run_pointwise(block, args, field_grad, x_grad);
        });
    }
    return {
        x_grad,
        weight_out,
        skip_out,
        bias_out,
        gain_out[0],
        gain_out[1],
        gain_out[2],
        values.summed[0],
        values.summed[1],
        values.summed[2]
    };
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("fno_block", TORCH_BOX(&physcon::binding::fno_block));
    m.impl("fno_block_backward", TORCH_BOX(&physcon::binding::fno_block_backward));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("fno_block", TORCH_BOX(&physcon::binding::fno_block));
    m.impl("fno_block_backward", TORCH_BOX(&physcon::binding::fno_block_backward));
}
