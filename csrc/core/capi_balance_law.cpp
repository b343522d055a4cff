// SPDX-License-Identifier: Apache-2.0
// The C functions of balance_law.h.
#include <physcon/balance_law.h>

#include "core/capi.hpp"
#include "core/fv.hpp"

namespace physcon {
namespace {

using Args = physcon_balance_law_args_f64;

void set_table(Edge& to, const physcon_table_f64& table) {
    to.data = table.data;
    to.item = table.item_stride;
    to.step = table.step_stride;
    to.stage = table.stage_stride;
    to.along = table.place_stride;
}

BalanceLawArgs convert(const Args& in) {
    BalanceLawArgs out;
    out.batch = in.batch;
    out.rows = in.rows;
    out.n = in.n;
    out.planar = in.rows > 1;
    out.inner_spacing = in.inner_spacing;
    out.outer_spacing = out.planar ? in.outer_spacing : 1.0;
    out.transport = static_cast<Transport>(in.transport);
    out.reconstruction = static_cast<Reconstruction>(in.reconstruction);
    out.speed = {in.speed, in.speed_stride};
    out.diffusivity = static_cast<Diffusivity>(in.diffusivity);
    out.average = static_cast<FaceAverage>(in.average);
    out.diffusion = {in.diffusion, in.diffusion_stride};
    for (int i = 0; i < 4; ++i) {
        Edge& to = out.edges[i];
        to.kind = i < 2 || out.planar ? static_cast<EdgeKind>(in.edges[i].kind) : EdgeKind::outflow;
        to.a = in.edges[i].a;
        to.b = in.edges[i].b;
        set_table(to, in.edges[i].value);
    }
    out.terms = in.terms;
    out.shapes = {in.shapes, in.shapes_stride};
    set_table(out.amplitudes, in.amplitudes);
    out.integrator = static_cast<Integrator>(in.integrator);
    out.stages = in.stages;
    out.dt = in.dt;
    out.steps = in.steps;
    out.state = {in.state, in.state_stride};
    out.state_out = in.state_out;
    out.inner_flux_out = in.inner_flux_out;
    out.outer_flux_out = in.outer_flux_out;
    out.source_out = in.source_out;
    out.info_out = in.info_out;
    return out;
}

void check_choice(Checker& check, const char* sentence, std::int32_t value, std::int32_t most) {
    if (value < 0 || value > most) {
        check.reject(sentence, 0, value);
    }
}

void check_edge(Checker& check, const physcon_edge_f64& edge, std::int64_t place) {
    if (edge.kind < 0 || edge.kind > PHYSCON_EDGE_FLUX) {
        check.reject("expected edges.kind to be a physcon_edge_kind", place, edge.kind);
    }
    const bool has = edge.kind == PHYSCON_EDGE_VALUE || edge.kind == PHYSCON_EDGE_MIXED ||
                     edge.kind == PHYSCON_EDGE_FLUX;
    if (has) {
        check.given("edges.value.data of an edge with a value", edge.value.data);
    }
}

/// Shapes and choices, which decide how much workspace there must be.
void check_form(Checker& check, const Args& args) {
    check.at_least("batch", args.batch, 0);
    check.at_least("n", args.n, 4);
    check.at_least("rows", args.rows, args.rows > 1 ? 4 : 1);
    if (!(args.inner_spacing > 0) || (args.rows > 1 && !(args.outer_spacing > 0))) {
        check.reject("expected spacings > 0", args.inner_spacing > 0 ? 1 : 0, 0);
    }
    check_choice(check, "expected transport to be 0 to 2", args.transport, 2);
    check_choice(check, "expected reconstruction to be 0 to 4", args.reconstruction, 4);
    check_choice(check, "expected diffusivity to be 0 to 3", args.diffusivity, 3);
    check_choice(check, "expected average to be 0 to 4", args.average, 4);
    check_choice(check, "expected integrator to be 0 to 6", args.integrator, 6);
    check.at_least("terms", args.terms, 0);
    if (args.terms > most_source_terms) {
        check.reject("expected at most 8 source terms", 0, args.terms);
    }
}

void check_edges(Checker& check, const Args& args) {
    const int edges = args.rows > 1 ? 4 : 2;
    for (int i = 0; check.good() && i < edges; ++i) {
        check_edge(check, args.edges[i], i);
        const std::int32_t opposite = args.edges[i ^ 1].kind;
        if ((args.edges[i].kind == PHYSCON_EDGE_PERIODIC) != (opposite == PHYSCON_EDGE_PERIODIC)) {
            check.reject("expected both edges of an axis to be periodic or none", i, opposite);
        }
    }
}

void check_data(Checker& check, const Args& args) {
    if (args.transport != PHYSCON_TRANSPORT_NONE) {
        check.input("speed", args.speed, args.speed_stride, 2);
    }
    if (args.diffusivity != PHYSCON_DIFFUSIVITY_NONE) {
        check.input("diffusion", args.diffusion, args.diffusion_stride, 2);
    }
    const std::int64_t cells = args.rows * args.n;
    if (args.terms > 0) {
        check.input("shapes", args.shapes, args.shapes_stride, args.terms * cells);
        check.given("amplitudes.data", args.amplitudes.data);
        check.given("source_out", args.source_out);
    }
    const std::int64_t fields = args.integrator == PHYSCON_INTEGRATOR_VERLET ? 2 : 1;
    check.input("state", args.state, args.state_stride, fields * 2 * cells);
    check.given("dt", args.dt);
    check.given("steps", args.steps);
    check.given("state_out", args.state_out);
    check.given("inner_flux_out", args.inner_flux_out);
    if (args.rows > 1) {
        check.given("outer_flux_out", args.outer_flux_out);
    }
    check.given("info_out", args.info_out);
    for (std::int64_t b = 0; check.good() && b < args.batch; ++b) {
        if (args.steps[b] < 0) {
            check.reject("expected steps to be >= 0", b, args.steps[b]);
        }
    }
}

}  // namespace
}  // namespace physcon

using namespace physcon;

std::size_t physcon_balance_law_workspace_f64(const Args* args, const physcon_executor* executor) {
    Checker check("balance_law_f64", nullptr);
    check.given("args", args);
    if (check.good()) {
        check_form(check, *args);
        check.executor(executor);
    }
    if (!check.good() || args->batch == 0) {
        return 0;
    }
    return workspace_bytes(check, executor, [&](const Executor& pool) {
        return balance_law_workspace(convert(*args), pool);
    });
}

int physcon_balance_law_f64(
    const Args* args,
    const physcon_executor* executor,
    void* workspace,
    std::size_t workspace_size,
    physcon_error* error
) {
    Checker check("balance_law_f64", error);
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    check_form(check, *args);
    check.executor(executor);
    if (!check.good() || args->batch == 0) {
        return check.status();
    }
    check_edges(check, *args);
    check_data(check, *args);
    const BalanceLawArgs converted = convert(*args);
    if (check.good()) {
        if (const char* complaint = balance_law_complaint(converted)) {
            return fail(error, PHYSCON_ERROR_ARGUMENT, "physcon_balance_law_f64: %s", complaint);
        }
    }
    return run_in_workspace(
        check,
        executor,
        workspace,
        workspace_size,
        error,
        [&](const Executor& pool) { return balance_law_workspace(converted, pool); },
        [&](const Executor& pool) { balance_law(converted, pool, workspace); }
    );
}
