// SPDX-License-Identifier: Apache-2.0
// Bindings of assign_faces and its adjoint.
#include "torch/faces.hpp"

#include <tuple>

#include "core/cuda/spectral_entry.hpp"
#include "torch/cuda.hpp"

namespace physcon::binding {

Faces::Faces(
    const char* name,
    const Shape& field,
    ScalarType dtype,
    int64_t axes,
    const Tensor* const (&data)[3],
    const Tensor* const (&rows)[3]
)
    : op(name), dims(axes), items(1), channels(0) {
    STD_TORCH_CHECK(dims >= 1 && dims <= 3, op, ": expected dims to be 1, 2 or 3, got ", dims);
    const auto lead = static_cast<int64_t>(field.size()) - dims - 1;
    STD_TORCH_CHECK(
        lead >= 0, op, ": expected a field (*batch, channels, sizes), got ", describe(field)
    );
    batch = Shape(field.begin(), field.begin() + lead);
    sizes = Shape(field.begin() + lead + 1, field.end());
    items = product(batch);
    channels = field[static_cast<std::size_t>(lead)];
    for (int64_t a = 0; a < dims; ++a) {
        size[3 - dims + a] = sizes[static_cast<std::size_t>(a)];
    }
    for (int64_t a = 0; a < 3; ++a) {
        values[a] = packed(*data[a]);
        stencils[a] = packed(*rows[a]);
        if (!assigned(a)) {
            continue;
        }
        STD_TORCH_CHECK(a < dims, op, ": expected values_", a, " to be empty, got faces");
        STD_TORCH_CHECK(
            values[a].scalar_type() == dtype,
            op,
            ": expected values_",
            a,
            " to have the dtype of the field"
        );
        const Shape found = shape_of(values[a]);
        Shape full = join(batch, {channels, 2});
        const Shape others = tangent(a);
        full.insert(full.end(), others.begin(), others.end());
        bool fits = found.size() == full.size(), shared = true, own = true;
        for (std::size_t i = 0; fits && i < full.size(); ++i) {
            const bool is_batch = static_cast<int64_t>(i) < lead;
            const bool is_end = static_cast<int64_t>(i) == lead + 1;
            fits = found[i] == full[i] || (found[i] == 1 && !is_end);
            shared = shared && (!is_batch || found[i] == 1);
            own = own && (!is_batch || found[i] == full[i]);
        }
        STD_TORCH_CHECK(
            fits && (shared || own),
            op,
            ": expected values_",
            a,
            " to have shape ",
            describe(full),
            " or 1 along any axis but that of the ends, got ",
            describe(found)
        );
        const Shape width = shape_of(stencils[a]);
        const int64_t points = sizes[static_cast<std::size_t>(a)];
        STD_TORCH_CHECK(
            stencils[a].scalar_type() == ScalarType::Double && width.size() == 2 && width[0] == 2 &&
                width[1] >= 1,
            op,
            ": expected stencil_",
            a,
            " to be float64 of shape (2, q + 1), got ",
            describe(width)
        );
        STD_TORCH_CHECK(
            points >= 2 && width[1] < points,
            op,
            ": expected axis ",
            a,
            " to have more points than the stencil and at least 2, got ",
            points,
            " points and a stencil of ",
            width[1]
        );
    }
}

Shape Faces::tangent(int64_t axis) const {
    Shape others = sizes;
    others.erase(others.begin() + axis);
    return others;
}

FaceGradients::FaceGradients(const Faces& faces, const Tensor& like, ScalarType dtype, bool needed)
    : wanted(needed) {
    for (int64_t axis = 0; axis < 3; ++axis) {
        if (!needed || !faces.assigned(axis)) {
            full[axis] = summed[axis] = allocate(like, {0}, dtype);
            continue;
        }
        Shape shape = join(faces.batch, {faces.channels, 2});
        const Shape others = faces.tangent(axis);
        shape.insert(shape.end(), others.begin(), others.end());
        full[axis] = allocate(like, shape, dtype);
        const Shape own = shape_of(faces.values[axis]);
        summed[axis] = own == shape ? full[axis] : allocate(like, own, dtype);
    }
}

namespace {

double work(const Faces& faces) {
    return static_cast<double>(faces.items * faces.channels * product(faces.sizes));
}

Tensor assign_faces(
    const Tensor& u,
    const Tensor& values_0,
    const Tensor& values_1,
    const Tensor& values_2,
    const Tensor& stencil_0,
    const Tensor& stencil_1,
    const Tensor& stencil_2,
    int64_t dims
) {
    const Faces faces(
        "physcon::assign_faces",
        shape_of(u),
        computed_type(u),
        dims,
        {&values_0, &values_1, &values_2},
        {&stencil_0, &stencil_1, &stencil_2}
    );
    const Tensor input = packed(u);
    Tensor output = allocate(u, shape_of(u));
    dispatch_computed(faces.op, u, [&](auto type) {
        using scalar_t = decltype(type);
        AssignFacesArgs<scalar_t> args;
        faces.set_geometry(args);
        args.input = field_data<scalar_t>(input);
        args.output = mutable_field_data<scalar_t>(output);
        if (u.is_cuda()) {
            const CudaCall call(faces.op, u);
            call.check(cuda::assign_faces(args, call.device(u, output)));
            return;
        }
        physcon::assign_faces(args, torch_executor(work(faces)));
    });
    return output;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> assign_faces_backward(
    const Tensor& grad,
    const Tensor& values_0,
    const Tensor& values_1,
    const Tensor& values_2,
    const Tensor& stencil_0,
    const Tensor& stencil_1,
    const Tensor& stencil_2,
    int64_t dims,
    bool values_needed
) {
    const ScalarType type = computed_type(grad);
    const Faces faces(
        "physcon::assign_faces_backward",
        shape_of(grad),
        type,
        dims,
        {&values_0, &values_1, &values_2},
        {&stencil_0, &stencil_1, &stencil_2}
    );
    const Tensor input = packed(grad);
    Tensor output = allocate(grad, shape_of(grad));
    FaceGradients gradients(faces, grad, type, values_needed);
    dispatch_computed(faces.op, grad, [&](auto tag) {
        using scalar_t = decltype(tag);
        AssignFacesBackwardArgs<scalar_t> args;
        faces.set_geometry(args);
        args.grad = field_data<scalar_t>(input);
        args.output = mutable_field_data<scalar_t>(output);
        gradients.set(faces, args.gradient);
        if (grad.is_cuda()) {
            const CudaCall call(faces.op, grad);
            call.check(cuda::assign_faces_backward(args, call.device(grad, output)));
            return;
        }
        physcon::assign_faces_backward(args, torch_executor(work(faces)));
    });
    return {output, gradients.summed[0], gradients.summed[1], gradients.summed[2]};
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("assign_faces", TORCH_BOX(&physcon::binding::assign_faces));
    m.impl("assign_faces_backward", TORCH_BOX(&physcon::binding::assign_faces_backward));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("assign_faces", TORCH_BOX(&physcon::binding::assign_faces));
    m.impl("assign_faces_backward", TORCH_BOX(&physcon::binding::assign_faces_backward));
}
