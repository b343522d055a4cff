// SPDX-License-Identifier: Apache-2.0
// NumPy front end of the finite volumes, without copies. physcon_ext.core shapes the arrays and
// documents the call.
#include <physcon/balance_law.h>

#include "python/arrays.hpp"
#include "python/bindings.hpp"

namespace physcon::python {
namespace {

/// A table (items, steps, stages, places) in place, whatever its strides.
physcon_table_f64 table(const Array& array, const char* name) {
    if (!py::isinstance<py::array_t<double>>(array) || array.ndim() != 4) {
        throw py::type_error(
            std::string("physcon::core: expected ") + name + " to be float64 with 4 axes"
        );
    }
    physcon_table_f64 found{};
    found.data = static_cast<const double*>(array.data());
    std::int64_t* strides[4] = {
        &found.item_stride, &found.step_stride, &found.stage_stride, &found.place_stride
    };
    for (int axis = 0; axis < 4; ++axis) {
        if (array.strides(axis) % static_cast<py::ssize_t>(sizeof(double)) != 0) {
            throw py::value_error(
                std::string("physcon::core: expected ") + name + " to be aligned to its elements"
            );
        }
        *strides[axis] = array.strides(axis) / static_cast<py::ssize_t>(sizeof(double));
    }
    return found;
}

/// Shapes are those that physcon_ext.core makes; it checks and explains them.
void balance_law(
    const Array& state,
    const Array& spacing,
    const Array& speed,
    const Array& diffusion,
    const std::vector<Array>& values,
    const Array& weights,
    const Array& shapes,
    const Array& amplitudes,
    const Array& dt,
    const Array& steps,
    const std::vector<std::int64_t>& choices,
    std::int64_t stages,
    Array& state_out,
    Array& inner_flux_out,
    Array& outer_flux_out,
    Array& source_out,
    Array& info_out
) {
    if (state.ndim() != 5 || shapes.ndim() != 4 || values.size() != 4 || choices.size() != 9) {
        throw py::value_error(
            "physcon::core: expected state (items, fields, 2, rows, n), shapes (items, terms, "
            "rows, n), 4 tables and 9 choices"
        );
    }
    physcon_balance_law_args_f64 args{};
    const std::int64_t batch = args.batch = state.shape(0);
    const std::int64_t fields = state.shape(1), rows = args.rows = state.shape(3),
                       n = args.n = state.shape(4), cells = rows * n,
                       terms = args.terms = shapes.shape(1);
    check<double>(spacing, "spacing", 2);
    check<double>(weights, "weights", 8);
    const double* widths = static_cast<const double*>(spacing.data());
    args.inner_spacing = widths[0];
    args.outer_spacing = widths[1];
    args.transport = static_cast<std::int32_t>(choices[0]);
    args.reconstruction = static_cast<std::int32_t>(choices[1]);
    args.diffusivity = static_cast<std::int32_t>(choices[2]);
    args.average = static_cast<std::int32_t>(choices[3]);
    args.integrator = static_cast<std::int32_t>(choices[4]);
    args.stages = stages;
    const auto bind =
        [&](const Array& array, const char* name, std::int64_t size, auto& data, auto& stride) {
            const Input<double> in = input<double>(array, name, batch, size);
            data = in.data;
            stride = in.stride;
        };
    bind(speed, "speed", 2, args.speed, args.speed_stride);
    bind(diffusion, "diffusion", 2, args.diffusion, args.diffusion_stride);
    for (std::size_t i = 0; i < 4; ++i) {
        physcon_edge_f64& edge = args.edges[i];
        edge.kind = static_cast<std::int32_t>(choices[5 + i]);
        edge.a = static_cast<const double*>(weights.data())[2 * i];
        edge.b = static_cast<const double*>(weights.data())[2 * i + 1];
        edge.value = table(values[i], "the values of an edge");
    }
    bind(shapes, "shapes", terms * cells, args.shapes, args.shapes_stride);
    args.amplitudes = table(amplitudes, "amplitudes");
    check<double>(dt, "dt", batch);
    check<std::int64_t>(steps, "steps", batch);
    args.dt = static_cast<const double*>(dt.data());
    args.steps = static_cast<const std::int64_t*>(steps.data());
    bind(state, "state", fields * 2 * cells, args.state, args.state_stride);
    args.state_out = output<double>(state_out, "state_out", batch * fields * 2 * cells);
    args.inner_flux_out = output<double>(inner_flux_out, "inner_flux_out", batch * rows * (n + 1));
    args.outer_flux_out =
        rows == 1 ? nullptr
                  : output<double>(outer_flux_out, "outer_flux_out", batch * (rows + 1) * n);
    args.source_out = output<double>(source_out, "source_out", batch * terms);
    args.info_out = output<std::int32_t>(info_out, "info_out", batch);

    physcon_error error;
    int status = PHYSCON_OK;
    {
        const py::gil_scoped_release unlocked;
        const Workspace workspace(physcon_balance_law_workspace_f64(&args, nullptr));
        status =
            physcon_balance_law_f64(&args, nullptr, workspace.data(), workspace.size(), &error);
    }
    raise_unless_ok(status, error);
}

}  // namespace

void bind_balance_law(py::module_& m) {
    m.def("balance_law", &balance_law);
}

}  // namespace physcon::python
