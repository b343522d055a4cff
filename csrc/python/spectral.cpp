// SPDX-License-Identifier: Apache-2.0
// NumPy front end of the spectral C functions; physcon_ext.core shapes the arrays and documents the
// calls. Fields come as (items, channels, sizes).
#include <physcon/spectral.h>

#include <algorithm>
#include <vector>

#include "python/arrays.hpp"
#include "python/bindings.hpp"

namespace physcon::python {
namespace {

using MaybeArrays = std::vector<MaybeArray>;

/// Binds the names of the C API to a scalar type.
template <typename T>
struct Api;

#define PHYSCON_BIND_API(T, suffix)                                                             \
    template <>                                                                                 \
    struct Api<T> {                                                                             \
        using Conv = physcon_spectral_conv_args_##suffix;                                       \
        using Faces = physcon_assign_faces_args_##suffix;                                       \
        using Face = physcon_face_##suffix;                                                     \
        using Gain = physcon_correction_gain_args_##suffix;                                     \
        using Published = physcon_published_gain_args_##suffix;                                 \
        using Pointwise = physcon_pointwise_args_##suffix;                                      \
        static constexpr auto tables_size = &physcon_spectral_tables_size_##suffix;             \
        static constexpr auto tables = &physcon_spectral_tables_##suffix;                       \
        static constexpr auto conv_workspace = &physcon_spectral_conv_workspace_##suffix;       \
        static constexpr auto conv = &physcon_spectral_conv_##suffix;                           \
        static constexpr auto assign_faces = &physcon_assign_faces_##suffix;                    \
        static constexpr auto pointwise_workspace = &physcon_pointwise_workspace_##suffix;      \
        static constexpr auto pointwise = &physcon_pointwise_##suffix;                          \
        static constexpr auto gain_workspace = &physcon_correction_gain_workspace_##suffix;     \
        static constexpr auto gain = &physcon_correction_gain_##suffix;                         \
        static constexpr auto published_workspace = &physcon_published_gain_workspace_##suffix; \
        static constexpr auto published = &physcon_published_gain_##suffix;                     \
    };
PHYSCON_BIND_API(double, f64)
PHYSCON_BIND_API(float, f32)
#undef PHYSCON_BIND_API

void expect_axes(const Array& array, const char* name, py::ssize_t axes) {
    if (array.ndim() != axes) {
        throw py::value_error(
            std::string("physcon::core: expected ") + name + " with " + std::to_string(axes) +
            " axes, got " + std::to_string(array.ndim())
        );
    }
}

/// The grid of a weight (M_1 .. M_d, in, out, 2).
physcon_spectral_grid grid_of(
    const Array& weight, const std::vector<std::int64_t>& size, const std::vector<double>& period
) {
    const auto axes = static_cast<py::ssize_t>(size.size());
    if (axes < 1 || axes > 3 || period.size() != size.size()) {
        throw py::value_error("physcon::core: expected 1 to 3 sizes and as many periods");
    }
    expect_axes(weight, "weight", axes + 3);
    physcon_spectral_grid grid{};
    grid.axes = static_cast<std::int32_t>(axes);
    for (py::ssize_t a = 0; a < axes; ++a) {
        const auto at = static_cast<std::size_t>(a);
        grid.size[a] = size[at];
        grid.modes[a] = weight.shape(a);
        grid.period[a] = period[at];
    }
    return grid;
}

std::int64_t other_modes(const physcon_spectral_grid& grid, int axis) {
    std::int64_t count = 1;
    for (int a = 0; a < grid.axes; ++a) {
        count *= a == axis ? 1 : grid.modes[a];
    }
    return count;
}

/// Faces from values (items or 1, channels or 1, 2, others or 1) and stencils (2, width).
template <typename T>
void bind_faces(
    const MaybeArrays& values,
    const MaybeArrays& stencils,
    const std::vector<std::int64_t>& shape,  // (items, channels, sizes)
    typename Api<T>::Face (&face)[3]
) {
    const std::size_t axes = shape.size() - 2;
    if (values.size() != axes || stencils.size() != axes) {
        throw py::value_error("physcon::core: expected values and stencils for every axis");
    }
    for (std::size_t axis = 0; axis < axes; ++axis) {
        if (!stencils[axis] || !values[axis]) {
            continue;
        }
        const Array &stencil = *stencils[axis], &value = *values[axis];
        expect_axes(stencil, "a stencil", 2);
        check<double>(stencil, "a stencil", 2 * stencil.shape(1));
        expect_axes(value, "values", static_cast<py::ssize_t>(axes) + 2);
        check<T>(value, "values", value.size());
        std::vector<std::int64_t> full = {shape[0], shape[1], 2};
        for (std::size_t a = 0; a < axes; ++a) {
            if (a != axis) {
                full.push_back(shape[a + 2]);
            }
        }
        std::vector<std::int64_t> step(full.size());
        std::int64_t next = 1;
        for (std::size_t i = full.size(); i-- > 0;) {
            const std::int64_t extent = value.shape(static_cast<py::ssize_t>(i));
            if (extent != full[i] && (extent != 1 || i == 2)) {
                throw py::value_error(
                    "physcon::core: expected values of axis " + std::to_string(axis) +
                    " to have size " + std::to_string(full[i]) + " (or 1) along their axis " +
                    std::to_string(i) + ", got " + std::to_string(extent)
                );
            }
            step[i] = extent == 1 ? 0 : next;
            next *= extent;
        }
        auto& to = face[axis];
        to.stencil = static_cast<const double*>(stencil.data());
        to.width = stencil.shape(1);
        to.values = static_cast<const T*>(value.data());
        to.item_stride = step[0];
        to.channel_stride = step[1];
        to.end_stride = step[2];
        for (std::size_t i = 3; i < step.size(); ++i) {
            to.tangent_stride[i - 3] = step[i];
        }
    }
}

std::vector<std::int64_t> shape_of(const Array& array) {
    return {array.shape(), array.shape() + array.ndim()};
}

template <typename T>
void spectral_conv_as(
    const Array& x,
    const Array& weight,
    const std::vector<double>& period,
    const MaybeArrays& gains,
    const MaybeArrays& values,
    const MaybeArrays& stencils,
    Array& y_out
) {
    const std::vector<std::int64_t> shape = shape_of(y_out);
    if (shape.size() < 3 || shape.size() > 5) {
        throw py::value_error("physcon::core: expected y_out (items, channels, sizes)");
    }
    typename Api<T>::Conv args{};
    args.grid = grid_of(weight, {shape.begin() + 2, shape.end()}, period);
    const auto axes = static_cast<std::size_t>(args.grid.axes);
    args.batch = shape[0];
    args.in = weight.shape(weight.ndim() - 3);
    args.out = weight.shape(weight.ndim() - 2);
    std::int64_t points = 1, modes = 1;
    for (std::size_t a = 0; a < axes; ++a) {
        points *= args.grid.size[a];
        modes *= args.grid.modes[a];
    }
    check<T>(x, "x", args.batch * args.in * points);
    check<T>(weight, "weight", modes * args.in * args.out * 2);
    args.x = static_cast<const T*>(x.data());
    args.weight = static_cast<const T*>(weight.data());
    args.y_out = output<T>(y_out, "y_out", args.batch * args.out * points);
    if (gains.size() != axes) {
        throw py::value_error("physcon::core: expected gains for every axis");
    }
    for (std::size_t a = 0; a < axes; ++a) {
        if (gains[a]) {
            const std::int64_t parts = axes == 1 ? 1 : 2;
            check<double>(
                *gains[a],
                "gains",
                other_modes(args.grid, static_cast<int>(a)) * 4 * (args.in + args.out) * args.in *
                    parts
            );
            args.gain[a] = static_cast<const double*>(gains[a]->data());
        }
    }
    bind_faces<T>(values, stencils, shape, args.face);
    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        const Workspace tables(Api<T>::tables_size(&args.grid));
        status = Api<T>::tables(&args.grid, tables.data(), tables.size(), &error);
        if (status == PHYSCON_OK) {
            args.tables = tables.data();
            const Workspace workspace(Api<T>::conv_workspace(&args, nullptr));
            status = Api<T>::conv(&args, nullptr, workspace.data(), workspace.size(), &error);
        }
    }
    raise_unless_ok(status, error);
}

template <typename T>
void assign_faces_as(
    const Array& u, const MaybeArrays& values, const MaybeArrays& stencils, Array& u_out
) {
    const std::vector<std::int64_t> shape = shape_of(u_out);
    if (shape.size() < 3 || shape.size() > 5) {
        throw py::value_error("physcon::core: expected u (items, channels, sizes)");
    }
    typename Api<T>::Faces args{};
    args.axes = static_cast<std::int32_t>(shape.size()) - 2;
    args.batch = shape[0];
    args.channels = shape[1];
    for (int a = 0; a < args.axes; ++a) {
        args.size[a] = shape[static_cast<std::size_t>(a) + 2];
    }
    check<T>(u, "u", u_out.size());
    args.u = static_cast<const T*>(u.data());
    args.u_out = output<T>(u_out, "u_out", u_out.size());
    bind_faces<T>(values, stencils, shape, args.face);
    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        status = Api<T>::assign_faces(&args, nullptr, &error);
    }
    raise_unless_ok(status, error);
}

template <typename T>
void pointwise_as(
    const Array& z,
    const MaybeArray& x,
    const MaybeArray& skip,
    const MaybeArray& bias,
    bool activated,
    const MaybeArrays& values,
    const MaybeArrays& stencils,
    Array& y_out
) {
    const std::vector<std::int64_t> shape = shape_of(y_out);
    if (shape.size() < 3 || shape.size() > 5) {
        throw py::value_error("physcon::core: expected y_out (items, channels, sizes)");
    }
    typename Api<T>::Pointwise args{};
    args.axes = static_cast<std::int32_t>(shape.size()) - 2;
    args.batch = shape[0];
    args.in = args.out = shape[1];
    std::int64_t points = 1;
    for (int a = 0; a < args.axes; ++a) {
        args.size[a] = shape[static_cast<std::size_t>(a) + 2];
        points *= args.size[a];
    }
    if (x && skip) {
        expect_axes(*skip, "skip", 2);
        args.in = skip->shape(0);
        check<T>(*skip, "skip", args.in * args.out);
        check<T>(*x, "x", args.batch * args.in * points);
        args.skip = static_cast<const T*>(skip->data());
        args.x = static_cast<const T*>(x->data());
    }
    if (bias) {
        check<T>(*bias, "bias", args.out);
        args.bias = static_cast<const T*>(bias->data());
    }
    args.activated = activated ? 1 : 0;
    check<T>(z, "z", y_out.size());
    args.y = output<T>(y_out, "y_out", y_out.size());
    const auto* start = static_cast<const T*>(z.data());
    bind_faces<T>(values, stencils, shape, args.face);
    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        if (start != args.y) {
            std::copy(start, start + args.batch * args.out * points, args.y);
        }
        const Workspace workspace(Api<T>::pointwise_workspace(&args, nullptr));
        status = Api<T>::pointwise(&args, nullptr, workspace.data(), workspace.size(), &error);
    }
    raise_unless_ok(status, error);
}

template <typename T>
void correction_gain_as(
    const Array& weight,
    int axis,
    const std::vector<std::int64_t>& size,
    const std::vector<double>& period,
    bool first,
    bool last,
    double ridge,
    Array& gain_out
) {
    typename Api<T>::Gain args{};
    args.grid = grid_of(weight, size, period);
    args.axis = axis;
    args.in = weight.shape(weight.ndim() - 3);
    args.out = weight.shape(weight.ndim() - 2);
    args.first = first ? 1 : 0;
    args.last = last ? 1 : 0;
    args.ridge = ridge;
    check<T>(weight, "weight", weight.size());
    args.weight = static_cast<const T*>(weight.data());
    const std::int64_t parts = args.grid.axes == 1 ? 1 : 2;
    args.gain_out = output<double>(
        gain_out,
        "gain_out",
        other_modes(args.grid, axis) * 4 * (args.in + args.out) * args.in * parts
    );
    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        const Workspace workspace(Api<T>::gain_workspace(&args, nullptr));
        status = Api<T>::gain(&args, nullptr, workspace.data(), workspace.size(), &error);
    }
    raise_unless_ok(status, error);
}

template <typename T>
void published_gain_as(
    const Array& weight,
    int axis,
    const std::vector<std::int64_t>& size,
    const std::vector<double>& period,
    bool first,
    bool last,
    double tolerance,
    bool modulus,
    double slip,
    Array& gain_out
) {
    typename Api<T>::Published args{};
    args.grid = grid_of(weight, size, period);
    args.axis = axis;
    args.channels = weight.shape(weight.ndim() - 2);
    args.first = first ? 1 : 0;
    args.last = last ? 1 : 0;
    args.tolerance = tolerance;
    args.modulus = modulus ? 1 : 0;
    args.slip = slip;
    const std::int64_t square = args.channels * args.channels;
    const std::int64_t parts = args.grid.axes == 1 ? 1 : 2;
    if (weight.shape(weight.ndim() - 3) != args.channels) {
        throw py::value_error("physcon::core: expected weight with as many channels out as in");
    }
    check<T>(weight, "weight", weight.size());
    args.weight = static_cast<const T*>(weight.data());
    args.gain_out =
        output<double>(gain_out, "gain_out", other_modes(args.grid, axis) * 8 * square * parts);
    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        const Workspace workspace(Api<T>::published_workspace(&args, nullptr));
        status = Api<T>::published(&args, nullptr, workspace.data(), workspace.size(), &error);
    }
    raise_unless_ok(status, error);
}

}  // namespace

void bind_spectral(py::module_& m) {
    m.def("spectral_conv", by_dtype(&spectral_conv_as<double>, &spectral_conv_as<float>));
    m.def("assign_faces", by_dtype(&assign_faces_as<double>, &assign_faces_as<float>));
    m.def("pointwise", by_dtype(&pointwise_as<double>, &pointwise_as<float>));
    m.def("correction_gain", by_dtype(&correction_gain_as<double>, &correction_gain_as<float>));
    m.def("published_gain", by_dtype(&published_gain_as<double>, &published_gain_as<float>));
}

}  // namespace physcon::python
