// SPDX-License-Identifier: Apache-2.0
// The C functions of spectral.h that work on fields.
#include "core/capi_spectral.hpp"

#include "core/boundary_spectral.hpp"
#include "core/pointwise.hpp"

namespace physcon {
namespace {

void check_sizes(Checker& check, const std::int64_t* size, std::int32_t axes) {
    for (int axis = 0; check.good() && axis < axes; ++axis) {
        check.at_least("size", size[axis], 1);
    }
}

template <typename Face>
void check_faces(
    Checker& check, const Face (&faces)[3], const std::int64_t* size, std::int32_t axes
) {
    for (int axis = 0; check.good() && axis < axes; ++axis) {
        const Face& face = faces[axis];
        if (face.stencil == nullptr) {
            continue;
        }
        check.given("face.values where there is a stencil", face.values);
        check.at_least("face.width", face.width, 1);
        check.at_least("points of an assigned axis less face.width", size[axis] - face.width, 1);
    }
}

template <typename T, typename Face>
void convert_faces(const Face (&faces)[3], std::int32_t axes, FaceRule<T> (&rule)[3]) {
    for (int axis = 0; axis < axes; ++axis) {
        const Face& in = faces[axis];
        FaceRule<T>& out = rule[3 - axes + axis];
        out.stencil = in.stencil;
        out.width = in.width;
        out.values = in.values;
        out.item = in.item_stride;
        out.channel = in.channel_stride;
        out.end = in.end_stride;
        for (int i = 0; i < axes - 1; ++i) {
            out.tangent[3 - axes + i] = in.tangent_stride[i];
        }
    }
}

template <typename CArgs>
bool plain(const CArgs& args) {
    bool none = true;
    for (int axis = 0; axis < args.grid.axes; ++axis) {
        none = none && args.gain[axis] == nullptr && args.face[axis].stencil == nullptr;
    }
    return none;
}

/// The call of the core and its workspace: first what it keeps for an adjoint, then its own.
template <typename T>
struct SpectralCall {
    BoundarySpectralConvArgs<T> corrected;
    SpectralConvArgs<T> simple;
    bool is_plain;
    std::size_t spectrum, shifts;  ///< bytes

    template <typename CArgs>
    explicit SpectralCall(const CArgs& args) : is_plain(plain(args)), shifts(0) {
        const SpectralGrid grid = convert_grid(args.grid);
        const auto fill = [&](auto& to) {
            to.grid = grid;
            to.batch = args.batch;
            to.in = args.in;
            to.out = args.out;
            to.tables = static_cast<const T*>(args.tables);
            to.x = args.x;
            to.weight = args.weight;
            to.y_out = args.y_out;
        };
        fill(simple);
        fill(corrected);
        convert_faces(args.face, args.grid.axes, corrected.rule);
        const std::int64_t modes = grid.modes[0] * grid.modes[1] * grid.modes[2];
        const std::int64_t parts = grid.axes == 1 ? 1 : 2;
        for (int axis = 0; axis < grid.axes; ++axis) {
            const int to = 3 - grid.axes + axis;
            corrected.gains.data[to] = args.gain[axis];
            corrected.gains.parts[to] = parts;
            if (args.gain[axis] != nullptr) {
                shifts +=
                    static_cast<std::size_t>(
                        modes / grid.modes[to] * args.batch * (4 * args.in + 2 * args.out) * parts
                    ) *
                    sizeof(double);
            }
        }
        shifts = aligned(shifts);
        spectrum = aligned(static_cast<std::size_t>(2 * modes * args.batch * args.in) * sizeof(T));
    }
    std::size_t workspace(const Executor& executor) const {
        return spectrum + shifts +
               (is_plain ? spectral_conv_workspace(simple, executor)
                         : boundary_spectral_conv_workspace(corrected, executor));
    }
    void run(const Executor& executor, void* memory) {
        auto* base = static_cast<char*>(memory);
        simple.spectrum_out = corrected.spectrum_out = reinterpret_cast<T*>(base);
        corrected.shifts_out = reinterpret_cast<double*>(base + spectrum);
        base += spectrum + shifts;
        if (is_plain) {
            spectral_conv(simple, executor, base);
        } else {
            boundary_spectral_conv(corrected, executor, base);
        }
    }
};

template <typename CArgs>
int check_conv(Checker& check, const CArgs* args, const physcon_executor* executor) {
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    check_grid(check, args->grid);
    check.at_least("batch", args->batch, 0);
    check.at_least("in", args->in, 1);
    check.at_least("out", args->out, 1);
    check.executor(executor);
    if (check.good()) {
        check_faces(check, args->face, args->grid.size, args->grid.axes);
    }
    for (int axis = 0; check.good() && axis < args->grid.axes; ++axis) {
        if (args->gain[axis] != nullptr) {
            check.at_least("points of a corrected axis", args->grid.size[axis], 2);
        }
    }
    return check.status();
}

template <typename T, typename CArgs>
int run_conv(
    const char* op,
    const CArgs* args,
    const physcon_executor* executor,
    void* workspace,
    std::size_t workspace_size,
    physcon_error* error
) {
    Checker check(op, error);
    check_conv(check, args, executor);
    if (!check.good() || args->batch == 0) {
        return check.status();
    }
    check.given("tables", args->tables);
    check.given("x", args->x);
    check.given("weight", args->weight);
    check.given("y_out", args->y_out);
    SpectralCall<T> call(*args);
    return run_in_workspace(
        check,
        executor,
        workspace,
        workspace_size,
        error,
        [&](const Executor& pool) { return call.workspace(pool); },
        [&](const Executor& pool) { call.run(pool, workspace); }
    );
}

template <typename T, typename CArgs>
std::size_t conv_workspace(const CArgs* args, const physcon_executor* executor) {
    Checker check("", nullptr);
    if (check_conv(check, args, executor) != PHYSCON_OK || args->batch == 0) {
        return 0;
    }
    return workspace_bytes(check, executor, [&](const Executor& pool) {
        return SpectralCall<T>(*args).workspace(pool);
    });
}

template <typename T>
SpectralTablesArgs<T> tables_of(const physcon_spectral_grid& grid, void* tables) {
    SpectralTablesArgs<T> args;
    args.grid = convert_grid(grid);
    args.tables = static_cast<T*>(tables);
    return args;
}

template <typename T>
std::size_t tables_size(const physcon_spectral_grid* grid) {
    Checker check("", nullptr);
    check.given("grid", grid);
    if (check.good()) {
        check_grid(check, *grid);
    }
    return workspace_bytes(check, nullptr, [&](const Executor& pool) {
        return spectral_tables_size(tables_of<T>(*grid, nullptr), pool);
    });
}

template <typename T>
int make_tables(
    const char* op,
    const physcon_spectral_grid* grid,
    void* tables,
    std::size_t size,
    physcon_error* error
) {
    Checker check(op, error);
    check.given("grid", grid);
    if (check.good()) {
        check_grid(check, *grid);
    }
    if (!check.good()) {
        return check.status();
    }
    const SpectralTablesArgs<T> args = tables_of<T>(*grid, tables);
    return run_in_workspace(
        check,
        nullptr,
        tables,
        size,
        error,
        [&](const Executor& pool) { return spectral_tables_size(args, pool); },
        [&](const Executor& pool) { spectral_tables(args, pool); }
    );
}

template <typename T, typename CArgs>
int run_faces(
    const char* op, const CArgs* args, const physcon_executor* executor, physcon_error* error
) {
    Checker check(op, error);
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    check_axes(check, args->axes);
    check.at_least("batch", args->batch, 0);
    check.at_least("channels", args->channels, 1);
    check.executor(executor);
    check_sizes(check, args->size, args->axes);
    if (check.good()) {
        check_faces(check, args->face, args->size, args->axes);
    }
    if (!check.good() || args->batch == 0) {
        return check.status();
    }
    check.given("u", args->u);
    check.given("u_out", args->u_out);
    if (!check.good()) {
        return check.status();
    }
    return guarded(error, [&] {
        AssignFacesArgs<T> call;
        call.items = args->batch;
        call.channels = args->channels;
        for (int axis = 0; axis < args->axes; ++axis) {
            call.size[3 - args->axes + axis] = args->size[axis];
        }
        call.input = args->u;
        call.output = args->u_out;
        convert_faces(args->face, args->axes, call.rule);
        assign_faces(call, executor_of(executor));
    });
}

template <typename T, typename CArgs>
PointwiseArgs<T> convert_pointwise(const CArgs& args) {
    PointwiseArgs<T> out;
    out.items = args.batch;
    out.in = args.in;
    out.out = args.out;
    for (int axis = 0; axis < args.axes; ++axis) {
        out.size[3 - args.axes + axis] = args.size[axis];
    }
    out.x = args.y;  // any pointer does where nothing is read
    if (args.skip != nullptr) {
        out.x = args.x;
        out.skip = {args.skip, 1, args.out};
    }
    out.bias = args.bias;
    out.activated = args.activated != 0;
    convert_faces(args.face, args.axes, out.rule);
    out.field = out.output = args.y;
    return out;
}

template <typename CArgs>
int check_pointwise(Checker& check, const CArgs* args, const physcon_executor* executor) {
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    check_axes(check, args->axes);
    check.at_least("batch", args->batch, 0);
    check.at_least("in", args->in, 1);
    check.at_least("out", args->out, 1);
    check.executor(executor);
    check_sizes(check, args->size, args->axes);
    if (check.good()) {
        check_faces(check, args->face, args->size, args->axes);
    }
    return check.status();
}

template <typename T, typename CArgs>
std::size_t pointwise_bytes(const CArgs* args, const physcon_executor* executor) {
    Checker check("", nullptr);
    if (check_pointwise(check, args, executor) != PHYSCON_OK || args->batch == 0) {
        return 0;
    }
    return workspace_bytes(check, executor, [&](const Executor& pool) {
        return pointwise_workspace(convert_pointwise<T>(*args), pool);
    });
}

template <typename T, typename CArgs>
int run_pointwise(
    const char* op,
    const CArgs* args,
    const physcon_executor* executor,
    void* workspace,
    std::size_t workspace_size,
    physcon_error* error
) {
    Checker check(op, error);
    check_pointwise(check, args, executor);
    if (!check.good() || args->batch == 0) {
        return check.status();
    }
    if (args->skip != nullptr) {
        check.given("x where there is a skip", args->x);
    }
    check.given("y", args->y);
    const PointwiseArgs<T> call = convert_pointwise<T>(*args);
    return run_in_workspace(
        check,
        executor,
        workspace,
        workspace_size,
        error,
        [&](const Executor& pool) { return pointwise_workspace(call, pool); },
        [&](const Executor& pool) { pointwise(call, pool, workspace); }
    );
}

}  // namespace
}  // namespace physcon

using namespace physcon;

// The same functions for each scalar type.
#define PHYSCON_DEFINE_SPECTRAL_C_API(T, suffix)                                                \
    std::size_t physcon_spectral_tables_size_##suffix(const physcon_spectral_grid* grid) {      \
        return tables_size<T>(grid);                                                            \
    }                                                                                           \
    int physcon_spectral_tables_##suffix(                                                       \
        const physcon_spectral_grid* grid, void* tables, std::size_t size, physcon_error* error \
    ) {                                                                                         \
        return make_tables<T>("spectral_tables_" #suffix, grid, tables, size, error);           \
    }                                                                                           \
    int physcon_assign_faces_##suffix(                                                          \
        const physcon_assign_faces_args_##suffix* args,                                         \
        const physcon_executor* executor,                                                       \
        physcon_error* error                                                                    \
    ) {                                                                                         \
        return run_faces<T>("assign_faces_" #suffix, args, executor, error);                    \
    }

PHYSCON_DEFINE_SPECTRAL_C_API(double, f64)
PHYSCON_DEFINE_SPECTRAL_C_API(float, f32)
PHYSCON_DEFINE_WORKSPACE_CALL(spectral_conv, double, f64, conv_workspace, run_conv)
PHYSCON_DEFINE_WORKSPACE_CALL(spectral_conv, float, f32, conv_workspace, run_conv)
PHYSCON_DEFINE_WORKSPACE_CALL(pointwise, double, f64, pointwise_bytes, run_pointwise)
PHYSCON_DEFINE_WORKSPACE_CALL(pointwise, float, f32, pointwise_bytes, run_pointwise)
