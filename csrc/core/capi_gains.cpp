// SPDX-License-Identifier: Apache-2.0
// The C functions of spectral.h that make gains from weights.
#include "core/boundary_spectral.hpp"
#include "core/capi_spectral.hpp"

namespace physcon {
namespace {

template <typename CArgs>
void check_axis(Checker& check, const CArgs& args) {
    check_grid(check, args.grid);
    check.at_least("axis", args.axis, 0);
    check.at_least("grid.axes - axis", args.grid.axes - args.axis, 1);
    check.at_least("ends to correct", (args.first != 0) + (args.last != 0), 1);
}

template <typename T, typename CArgs>
CorrectionGainArgs<T> convert_gain(const CArgs& args) {
    CorrectionGainArgs<T> out;
    out.grid = convert_grid(args.grid);
    out.axis = 3 - args.grid.axes + args.axis;
    out.in = args.in;
    out.out = args.out;
    out.ends[0] = args.first != 0;
    out.ends[1] = args.last != 0;
    out.ridge = args.ridge;
    out.weight = args.weight;
    out.gain_out = args.gain_out;
    return out;
}

template <typename CArgs>
int check_gain(Checker& check, const CArgs* args, const physcon_executor* executor) {
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    check_axis(check, *args);
    check.at_least("in", args->in, 1);
    check.at_least("out", args->out, 1);
    if (check.good() && !(args->ridge >= 0 && std::isfinite(args->ridge))) {
        check.reject("expected ridge to be finite and not negative", 0, 0);
    }
    check.executor(executor);
    return check.status();
}

template <typename T, typename CArgs>
std::size_t gain_workspace(const CArgs* args, const physcon_executor* executor) {
    Checker check("", nullptr);
    if (check_gain(check, args, executor) != PHYSCON_OK) {
        return 0;
    }
    return workspace_bytes(check, executor, [&](const Executor& pool) {
        return correction_gain_workspace(convert_gain<T>(*args), pool);
    });
}

template <typename T, typename CArgs>
int run_gain(
    const char* op,
    const CArgs* args,
    const physcon_executor* executor,
    void* workspace,
    std::size_t workspace_size,
    physcon_error* error
) {
    Checker check(op, error);
    if (check_gain(check, args, executor) != PHYSCON_OK) {
        return check.status();
    }
    check.given("weight", args->weight);
    check.given("gain_out", args->gain_out);
    const CorrectionGainArgs<T> call = convert_gain<T>(*args);
    return run_in_workspace(
        check,
        executor,
        workspace,
        workspace_size,
        error,
        [&](const Executor& pool) { return correction_gain_workspace(call, pool); },
        [&](const Executor& pool) { correction_gain(call, pool, workspace); }
    );
}

/// The answers of the ends, and the gains from them; the answers stay in the workspace.
template <typename T>
struct PublishedCall {
    EndResponseArgs<T> response;
    TwoStepGainArgs steps;
    std::size_t answers;  ///< bytes

    template <typename CArgs>
    explicit PublishedCall(const CArgs& args) {
        response.grid = convert_grid(args.grid);
        response.axis = 3 - args.grid.axes + args.axis;
        response.in = response.out = steps.channels = args.channels;
        response.weight = args.weight;
        steps.modes = 1;
        for (int axis = 0; axis < 3; ++axis) {
            steps.modes *= axis == response.axis ? 1 : response.grid.modes[axis];
        }
        steps.parts = args.grid.axes == 1 ? 1 : 2;
        steps.ends[0] = args.first != 0;
        steps.ends[1] = args.last != 0;
        steps.tolerance = args.tolerance;
        steps.modulus = args.modulus != 0;
        steps.slip = args.slip;
        steps.gain_out = args.gain_out;
        const std::int64_t entries = 3 * steps.modes * args.channels * args.channels * steps.parts;
        answers = aligned(static_cast<std::size_t>(entries) * sizeof(double));
    }
    std::size_t workspace(const Executor& executor) const {
        return answers + end_response_workspace(response, executor);
    }
    void run(const Executor& executor, void* memory) {
        auto* blocks = static_cast<double*>(memory);
        response.response_out = blocks;
        steps.response = blocks;
        end_response(response, executor, static_cast<char*>(memory) + answers);
        two_step_gain(steps, executor);
    }
};

template <typename CArgs>
int check_published(Checker& check, const CArgs* args, const physcon_executor* executor) {
    check.given("args", args);
    if (!check.good()) {
        return check.status();
    }
    check_axis(check, *args);
    check.at_least("channels", args->channels, 1);
    if (check.good() && !(args->tolerance >= 0 && std::isfinite(args->tolerance))) {
        check.reject("expected tolerance to be finite and not negative", 0, 0);
    }
    if (check.good() && !std::isfinite(args->slip)) {
        check.reject("expected slip to be finite", 0, 0);
    }
    check.executor(executor);
    return check.status();
}

template <typename T, typename CArgs>
std::size_t published_workspace(const CArgs* args, const physcon_executor* executor) {
    Checker check("", nullptr);
    if (check_published(check, args, executor) != PHYSCON_OK) {
        return 0;
    }
    return workspace_bytes(check, executor, [&](const Executor& pool) {
        return PublishedCall<T>(*args).workspace(pool);
    });
}

template <typename T, typename CArgs>
int run_published(
    const char* op,
    const CArgs* args,
    const physcon_executor* executor,
    void* workspace,
    std::size_t workspace_size,
    physcon_error* error
) {
    Checker check(op, error);
    if (check_published(check, args, executor) != PHYSCON_OK) {
        return check.status();
    }
    check.given("weight", args->weight);
    check.given("gain_out", args->gain_out);
    PublishedCall<T> call(*args);
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

}  // namespace
}  // namespace physcon

using namespace physcon;

PHYSCON_DEFINE_WORKSPACE_CALL(correction_gain, double, f64, gain_workspace, run_gain)
PHYSCON_DEFINE_WORKSPACE_CALL(correction_gain, float, f32, gain_workspace, run_gain)
PHYSCON_DEFINE_WORKSPACE_CALL(published_gain, double, f64, published_workspace, run_published)
PHYSCON_DEFINE_WORKSPACE_CALL(published_gain, float, f32, published_workspace, run_published)
