// SPDX-License-Identifier: Apache-2.0
#include "condition_marginal.cuh"

#include "condition_marginal.hpp"

namespace physcon::cuda {

// Beyond this rank the matrices of an item live in L2: they leave no room for a second block, or,
// on devices of 99 KB a block, for the first.
constexpr int64_t shared_rank = 48;

template <typename T>
Plan marginal_plan(const ConditionArgs<T>& a, int multiprocessors) {
    Plan plan;
    plan.warps = fits_warp(a.n, a.rank);
    plan.in_shared = a.rank <= shared_rank;
    plan.splits = split_count(a.batch, a.n, multiprocessors);
    return plan;
}

namespace {

template <typename T, bool diagonal, int tiles, typename Team>
cudaError_t run(
    const ConditionArgs<T>& a,
    const Plan& plan,
    cudaStream_t stream,
    double* matrices,
    double* partial,
    unsigned* finished
) {
    const int r = static_cast<int>(a.rank);
    const int team_threads = Team::is_warp ? warp_size : plan.threads;
    const int teams = plan.threads / team_threads;
    if (plan.splits > 1) {
        const std::size_t shared = sizeof(double) * product_memory(r + 1, r + 1, plan.threads);
        const cudaError_t error = launch(
            condition_partial_kernel<T, diagonal, tiles>,
            a.batch * plan.splits,
            plan.threads,
            shared,
            stream,
            a,
            plan.splits,
            partial,
            finished
        );
        if (error != cudaSuccess) {
            return error;
        }
    }
    const std::size_t shared =
        sizeof(double) * teams * forward_doubles(r, team_threads, matrices == nullptr);
    return launch(
        condition_marginal_kernel<T, diagonal, tiles, Team>,
        (a.batch * plan.splits + teams - 1) / teams,
        plan.threads,
        shared,
        stream,
        a,
        plan.splits,
        matrices,
        static_cast<const double*>(partial),
        finished
    );
}

}  // namespace

template <typename T>
const char* condition_marginal(
    const ConditionArgs<T>& a, const Plan& plan, void* stream, Arena& arena
) {
    const int r = static_cast<int>(a.rank);
    const int64_t units = a.batch * plan.splits;
    auto* partial = arena.take<double>(plan.splits > 1 ? units * (r + 1) * (r + 1) : 0);
    auto* finished = arena.take<unsigned>(plan.splits > 1 ? a.batch : 0);
    auto* matrices = arena.take<double>(plan.in_shared ? 0 : units * RankSystem::matrix_doubles(r));
    if (arena.measures()) {
        return nullptr;
    }
    if (plan.in_shared) {
        matrices = nullptr;
    }
    const bool diagonal = a.cross.data == nullptr;
    const bool small = product_tiles(r + 1, r + 1, diagonal) <= (plan.warps ? 32 : plan.threads);
    const auto on = static_cast<cudaStream_t>(stream);
    const auto call = [&](auto run_kernel) {
        return run_kernel(a, plan, on, matrices, partial, finished);
    };
    cudaError_t error;
    if constexpr (is_stored<T>) {  // diagonal priors only
        error = plan.warps ? call(run<T, true, 1, WarpTeam>)
                : small    ? call(run<T, true, 1, BlockTeam>)
                           : call(run<T, true, 3, BlockTeam>);
    } else if (plan.warps) {
        error = diagonal ? call(run<T, true, 1, WarpTeam>) : call(run<T, false, 1, WarpTeam>);
    } else if (small) {
        error = diagonal ? call(run<T, true, 1, BlockTeam>) : call(run<T, false, 1, BlockTeam>);
    } else {
        error = diagonal ? call(run<T, true, 3, BlockTeam>) : call(run<T, false, 5, BlockTeam>);
    }
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#define PHYSCON_INSTANTIATE(T)                                 \
    template Plan marginal_plan(const ConditionArgs<T>&, int); \
    template const char* condition_marginal(const ConditionArgs<T>&, const Plan&, void*, Arena&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)
PHYSCON_INSTANTIATE(BFloat16)
PHYSCON_INSTANTIATE(Float16)

}  // namespace physcon::cuda
