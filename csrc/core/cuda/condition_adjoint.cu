// SPDX-License-Identifier: Apache-2.0
#include "condition_adjoint.cuh"

#include "condition_marginal.hpp"

namespace physcon::cuda {

// Beyond this rank the matrices of an item live in L2: they leave no room for a second block, or,
// on devices of 99 KB a block, for the first.
constexpr int64_t shared_rank = 36;
// Partial gradients of shared rows: that many teams at most, and that many doubles.
constexpr int64_t most_slots = 256, most_doubles = int64_t{1} << 25;

template <typename T>
BackwardPlan adjoint_plan(const ConditionBackwardArgs<T>& a, int multiprocessors) {
    BackwardPlan plan;
    const bool added_up = a.rows_shared && a.rows_out != nullptr && a.batch > 1;
    plan.warps = fits_warp(a.n, a.rank);
    plan.in_shared = a.rank <= shared_rank;
    plan.slots = a.batch;
    if (added_up) {
        const int64_t fit = larger<int64_t>(1, most_doubles / (a.rank * a.n));
        plan.slots = smaller(a.batch, smaller(most_slots, fit));
    }
    plan.splits = split_count(plan.slots, a.n, multiprocessors);
    return plan;
}

namespace {

template <typename T, bool diagonal, int tiles, typename Team>
cudaError_t run(
    const ConditionBackwardArgs<T>& a,
    const BackwardPlan& plan,
    cudaStream_t stream,
    double* matrices,
    double* partial,
    double* rows_partial
) {
    const int r = static_cast<int>(a.rank);
    const int team_threads = Team::is_warp ? warp_size : plan.threads;
    const int teams = plan.threads / team_threads;
    if (plan.splits > 1) {
        const std::size_t shared = sizeof(double) * product_memory(r + 1, r + 1, plan.threads);
        const cudaError_t error = launch(
            adjoint_partial_kernel<T, diagonal, tiles>,
            a.batch * plan.splits,
            plan.threads,
            shared,
            stream,
            a,
            plan.splits,
            partial
        );
        if (error != cudaSuccess) {
            return error;
        }
    }
    const std::size_t shared =
        sizeof(double) * teams * backward_doubles(r, team_threads, matrices == nullptr);
    const cudaError_t error = launch(
        adjoint_kernel<T, diagonal, tiles, Team>,
        (plan.slots * plan.splits + teams - 1) / teams,
        plan.threads,
        shared,
        stream,
        a,
        plan.splits,
        plan.slots,
        matrices,
        static_cast<const double*>(partial),
        rows_partial
    );
    if (error != cudaSuccess || rows_partial == nullptr) {
        return error;
    }
    const int64_t size = a.rank * a.n;
    return launch(
        adjoint_rows_kernel<T>,
        smaller<int64_t>((size + plan.threads - 1) / plan.threads, 1 << 16),
        plan.threads,
        0,
        stream,
        static_cast<const double*>(rows_partial),
        plan.slots,
        size,
        a.rows_out
    );
}

}  // namespace

template <typename T>
const char* condition_adjoint(
    const ConditionBackwardArgs<T>& a, const BackwardPlan& plan, void* stream, Arena& arena
) {
    const int r = static_cast<int>(a.rank);
    const bool added_up = a.rows_shared && a.rows_out != nullptr && a.batch > 1;
    const int64_t sums = a.batch * plan.splits * backward_sums(r);
    auto* partial = arena.take<double>(plan.splits > 1 ? sums : 0);
    auto* rows_partial = arena.take<double>(added_up ? plan.slots * a.rank * a.n : 0);
    const int64_t units = plan.slots * plan.splits;
    auto* matrices =
        arena.take<double>(plan.in_shared ? 0 : units * AdjointSystem::matrix_doubles(r));
    if (arena.measures()) {
        return nullptr;
    }
    matrices = plan.in_shared ? nullptr : matrices;
    rows_partial = added_up ? rows_partial : nullptr;
    const bool diagonal = a.cross.data == nullptr;
    const bool small = larger(
                           product_tiles(r + 1, r + 1, true),
                           a.grad_factor.data == nullptr ? 0 : product_tiles(r, r, false)
                       ) <= (plan.warps ? warp_size : plan.threads);
    const auto on = static_cast<cudaStream_t>(stream);
    const auto call = [&](auto run_kernel) {
        return run_kernel(a, plan, on, matrices, partial, rows_partial);
    };
    cudaError_t error;
    if constexpr (is_stored<T>) {  // diagonal priors only
        error = plan.warps ? call(run<T, true, 1, WarpTeam>)
                : small    ? call(run<T, true, 1, BlockTeam>)
                           : call(run<T, true, 4, BlockTeam>);
    } else if (plan.warps) {
        error = diagonal ? call(run<T, true, 1, WarpTeam>) : call(run<T, false, 1, WarpTeam>);
    } else if (small) {
        error = diagonal ? call(run<T, true, 1, BlockTeam>) : call(run<T, false, 1, BlockTeam>);
    } else {
        error = diagonal ? call(run<T, true, 4, BlockTeam>) : call(run<T, false, 4, BlockTeam>);
    }
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#define PHYSCON_INSTANTIATE(T)                                                \
    template BackwardPlan adjoint_plan(const ConditionBackwardArgs<T>&, int); \
    template const char* condition_adjoint(                                   \
        const ConditionBackwardArgs<T>&, const BackwardPlan&, void*, Arena&   \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)
PHYSCON_INSTANTIATE(BFloat16)
PHYSCON_INSTANTIATE(Float16)

}  // namespace physcon::cuda
