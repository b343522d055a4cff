// SPDX-License-Identifier: Apache-2.0
// Binding of the finite-volume solvers.
#include "core/fv.hpp"

#include <limits>
#include <tuple>

#include "torch/binding.hpp"
#include "torch/cuda.hpp"

namespace physcon::binding {
namespace {

void check_device(const char* op, const char* name, const Tensor& given, const Tensor& like) {
    STD_TORCH_CHECK(
        given.is_cuda() == like.is_cuda() && given.get_device_index() == like.get_device_index(),
        op,
        ": expected ",
        name,
        " to be on the device of the state"
    );
}
void check_host(const char* op, const char* name, const Tensor& given) {
    STD_TORCH_CHECK(given.is_cpu(), op, ": expected ", name, " to be on the CPU");
}

/// A float64 tensor of a given shape, contiguous, on the device of `like`.
struct Field {
    Tensor tensor;
    Field(
        const char* op,
        const char* name,
        const Tensor& given,
        const Shape& shape,
        const Tensor& like
    )
        : tensor(torch::stable::contiguous(given)) {
        check_device(op, name, given, like);
        STD_TORCH_CHECK(
            given.scalar_type() == ScalarType::Double && shape_of(given) == shape,
            op,
            ": expected ",
            name,
            " to be float64 of shape ",
            describe(shape),
            ", got ",
            describe(shape_of(given))
        );
    }
    const double* data() const {
        return tensor.const_data_ptr<double>();
    }
};

/// A table (batch, steps, stages, along) read in place, expanded axes included.
void set_table(
    const char* op,
    Edge& e,
    const char* name,
    const Tensor& t,
    int64_t batch,
    int64_t along,
    const Tensor& like
) {
    check_device(op, name, t, like);
    STD_TORCH_CHECK(
        t.scalar_type() == ScalarType::Double && t.dim() == 4 && t.size(0) == batch &&
            t.size(3) == along,
        op,
        ": expected ",
        name,
        " to be float64 (",
        batch,
        ", steps, stages, ",
        along,
        "), got ",
        describe(shape_of(t))
    );
    e.data = t.const_data_ptr<double>();
    e.item = t.stride(0);
    e.step = t.size(1) == 1 ? 0 : t.stride(1);  // a table of one step serves all of them
    e.stage = t.stride(2);
    e.along = t.stride(3);
}

Tensor step_counts(const char* op, const Tensor& steps, int64_t batch, const Tensor& like) {
    check_device(op, "steps", steps, like);
    STD_TORCH_CHECK(
        steps.scalar_type() == ScalarType::Long && shape_of(steps) == Shape{batch},
        op,
        ": expected steps to be int64 of shape (",
        batch,
        ",)"
    );
    return torch::stable::contiguous(steps);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> balance_law(
    const Tensor& state,
    const Tensor& spacing,
    const Tensor& speed,
    const Tensor& diffusion,
    const Tensor& inner_low,
    const Tensor& inner_high,
    const Tensor& outer_low,
    const Tensor& outer_high,
    const Tensor& edge_weights,
    const Tensor& shapes,
    const Tensor& amplitudes,
    const Tensor& dt,
    const Tensor& steps,
    const Tensor& choices,
    int64_t stages
) {
    constexpr const char* op = "physcon::balance_law";
    STD_TORCH_CHECK(
        state.dim() == 5 && state.size(3) >= 1 && state.size(4) >= 4,
        op,
        ": expected state to be (batch, fields, 2, rows, n) with n >= 4, got ",
        describe(shape_of(state))
    );
    BalanceLawArgs args;
    args.batch = state.size(0);
    args.rows = state.size(3);
    args.n = state.size(4);
    args.planar = args.rows > 1;
    const int64_t batch = args.batch;
    check_host(op, "choices", choices);
    check_host(op, "spacing", spacing);
    check_host(op, "edge_weights", edge_weights);
    const Tensor chosen = torch::stable::contiguous(choices);
    STD_TORCH_CHECK(
        chosen.scalar_type() == ScalarType::Long && shape_of(chosen) == Shape{9},
        op,
        ": expected choices to be int64 of shape (9,), got ",
        describe(shape_of(choices))
    );
    const int64_t* choice = chosen.const_data_ptr<int64_t>();
    constexpr int64_t most[9] = {2, 4, 3, 4, 6, 4, 4, 4, 4};
    for (int64_t i = 0; i < 9; ++i) {
        STD_TORCH_CHECK(
            choice[i] >= 0 && choice[i] <= most[i],
            op,
            ": expected choices[",
            i,
            "] to be in [0, ",
            most[i],
            "], got ",
            choice[i]
        );
    }
    args.transport = static_cast<Transport>(choice[0]);
    args.reconstruction = static_cast<Reconstruction>(choice[1]);
    args.diffusivity = static_cast<Diffusivity>(choice[2]);
    args.average = static_cast<FaceAverage>(choice[3]);
    args.integrator = static_cast<Integrator>(choice[4]);
    args.stages = stages;
    const char* complaint = balance_law_complaint(args);
    STD_TORCH_CHECK(complaint == nullptr, op, ": ", complaint == nullptr ? "" : complaint);
    const Field s(op, "state", state, {batch, args.fields(), 2, args.rows, args.n}, state);
    const Field h(op, "spacing", spacing, {2}, spacing), c(op, "speed", speed, {batch, 2}, state),
        k(op, "diffusion", diffusion, {batch, 2}, state),
        weights(op, "edge_weights", edge_weights, {4, 2}, edge_weights),
        step(op, "dt", dt, {batch}, state);
    STD_TORCH_CHECK(
        shapes.dim() == 4 && shapes.size(1) <= most_source_terms,
        op,
        ": expected at most ",
        most_source_terms,
        " source terms"
    );
    args.terms = shapes.size(1);
    const Field source(op, "shapes", shapes, {batch, args.terms, args.rows, args.n}, state);
    args.inner_spacing = h.data()[0];
    args.outer_spacing = h.data()[1];
    args.speed = {c.data(), 2};
    args.diffusion = {k.data(), 2};
    args.shapes = {source.data(), args.terms * args.rows * args.n};
    const Tensor* tables[4] = {&inner_low, &inner_high, &outer_low, &outer_high};
    const char* names[4] = {"inner_low", "inner_high", "outer_low", "outer_high"};
    for (int64_t i = 0; i < 4; ++i) {
        Edge& e = args.edges[i];
        e.kind = static_cast<EdgeKind>(choice[5 + i]);
        e.a = weights.data()[2 * i];
        e.b = weights.data()[2 * i + 1];
        set_table(op, e, names[i], *tables[i], batch, i < 2 ? args.rows : args.n, state);
    }
    set_table(op, args.amplitudes, "amplitudes", amplitudes, batch, args.terms, state);
    const Tensor counts = step_counts(op, steps, batch, state);
    args.state = {s.data(), args.fields() * 2 * args.rows * args.n};
    args.dt = step.data();
    args.steps = counts.const_data_ptr<int64_t>();
    int64_t table_steps = std::numeric_limits<int64_t>::max();  // that every table holds
    for (int64_t i = 0; i < 5; ++i) {
        const Tensor& t = i < 4 ? *tables[i] : amplitudes;
        table_steps = std::min(table_steps, t.size(1) == 1 ? table_steps : t.size(1));
        STD_TORCH_CHECK(
            t.size(2) >= stages,
            op,
            ": expected tables of at least ",
            stages,
            " stages, got ",
            describe(shape_of(t))
        );
    }
    Tensor out = allocate(state, {batch, args.fields(), 2, args.rows, args.n});
    Tensor inner = allocate(state, {batch, args.rows, args.n + 1});
    const int64_t outer_rows = args.planar ? args.rows + 1 : 0;
    Tensor outer = allocate(state, {batch, outer_rows, args.n});
    Tensor given = allocate(state, {batch, args.terms});
    Tensor info = allocate(state, {batch}, ScalarType::Int);
    args.state_out = out.mutable_data_ptr<double>();
    args.inner_flux_out = inner.mutable_data_ptr<double>();
    args.outer_flux_out = args.planar ? outer.mutable_data_ptr<double>() : nullptr;
    args.source_out = given.mutable_data_ptr<double>();
    args.info_out = info.mutable_data_ptr<std::int32_t>();
    if (state.is_cuda()) {
        // How many steps an item takes is known on the device alone.
        CudaCall call(op, state);
        void* memory = call.workspace(cuda::balance_law_workspace(args));
        call.check(cuda::balance_law(args, table_steps, call.device(), memory));
        return {out, inner, outer, given, info};
    }
    double total = 0;
    for (int64_t b = 0; b < batch; ++b) {
        STD_TORCH_CHECK(
            args.steps[b] <= table_steps,
            op,
            ": expected tables of at least ",
            args.steps[b],
            " steps, got ",
            table_steps
        );
        total += static_cast<double>(args.steps[b]);
    }
    const double work = 50.0 * total * static_cast<double>(args.rows * args.n * stages);
    const Executor executor = torch_executor(work);
    Workspace workspace(balance_law_workspace(args, executor));
    physcon::balance_law(args, executor, workspace.data());
    return {out, inner, outer, given, info};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> cavity(
    const Tensor& u,
    const Tensor& v,
    const Tensor& lid,
    const Tensor& viscosity,
    const Tensor& dt,
    const Tensor& steps
) {
    constexpr const char* op = "physcon::cavity";
    STD_TORCH_CHECK(
        u.dim() == 3 && u.size(2) >= 8 && u.size(2) % 2 == 0,
        op,
        ": expected u to be (batch, n + 1, n) with n even and >= 8, got ",
        describe(shape_of(u))
    );
    const int64_t batch = u.size(0), n = u.size(2), m = n + 1;
    const Field x(op, "u", u, {batch, m, n}, u), y(op, "v", v, {batch, n, m}, u),
        l(op, "lid", lid, {batch}, u), nu(op, "viscosity", viscosity, {batch}, u),
        step(op, "dt", dt, {batch}, u);
    const Tensor counts = step_counts(op, steps, batch, u);
    Tensor u_out = allocate(u, {batch, m, n}), v_out = allocate(u, {batch, n, m});
    Tensor pressure = allocate(u, {batch, n, n}), uu = allocate(u, {batch, n, n}),
           vv = allocate(u, {batch, n, n});
    Tensor uv = allocate(u, {batch, m, m}), vu = allocate(u, {batch, m, m});
    CavityArgs args;
    args.batch = batch;
    args.n = n;
    args.lid = l.data();
    args.viscosity = nu.data();
    args.dt = step.data();
    args.steps = counts.const_data_ptr<int64_t>();
    args.u = {x.data(), n * m};
    args.v = {y.data(), n * m};
    args.u_out = u_out.mutable_data_ptr<double>();
    args.v_out = v_out.mutable_data_ptr<double>();
    args.pressure_out = pressure.mutable_data_ptr<double>();
    args.uu_out = uu.mutable_data_ptr<double>();
    args.uv_out = uv.mutable_data_ptr<double>();
    args.vu_out = vu.mutable_data_ptr<double>();
    args.vv_out = vv.mutable_data_ptr<double>();
    if (u.is_cuda()) {
        CudaCall call(op, u);
        void* memory = call.workspace(cuda::cavity_workspace(args, call.device()));
        call.check(cuda::cavity(args, call.device(), memory));
        return {u_out, v_out, pressure, uu, uv, vu, vv};
    }
    const Executor executor = torch_executor(1e6 * static_cast<double>(batch));
    Workspace workspace(cavity_workspace(args, executor));
    physcon::cavity(args, executor, workspace.data());
    return {u_out, v_out, pressure, uu, uv, vu, vv};
}

}  // namespace
}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("balance_law", TORCH_BOX(&physcon::binding::balance_law));
    m.impl("cavity", TORCH_BOX(&physcon::binding::cavity));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("balance_law", TORCH_BOX(&physcon::binding::balance_law));
    m.impl("cavity", TORCH_BOX(&physcon::binding::cavity));
}
