// SPDX-License-Identifier: Apache-2.0
#include "condition_marginal.cuh"

#include "condition_marginal.hpp"

namespace physcon::cuda {

// Beyond this rank the matrices of an item live in L2: they leave no room for a second block, or,
// on devices of 99 KB a block, for the first.
constexpr int64_t shared_rank = 48;
constexpr int some_rows = 16;  // whose entries at a point a thread of a block keeps in registers

template <typename T>
Plan marginal_plan(const ConditionArgs<T>& a, int multiprocessors) {
    Plan plan;
    const bool diagonal = a.cross.data == nullptr && a.covariance.data == nullptr;
    plan.warps =
        diagonal ? warp_sums(a.batch, a.n, a.rank, multiprocessors) : fits_warp(a.n, a.rank);
    plan.in_shared = a.rank <= shared_rank;
    plan.splits = plan.warps ? 1 : split_count(a.batch, a.n, multiprocessors);
    if (plan.warps) {
        plan.threads = 128;  // the last items are spread more evenly
    }
    return plan;
}

namespace {

template <typename T, bool diagonal, int tiles, typename Team, int rows = 0>
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
    constexpr bool tiled = !(Team::is_warp && rows > 0);
    const std::size_t shared =
        sizeof(double) * teams * forward_doubles(r, team_threads, matrices == nullptr, tiled);
    return launch(
        condition_marginal_kernel<T, diagonal, tiles, Team, rows>,
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

const char* failure(cudaError_t error) {
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
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
    const auto on = static_cast<cudaStream_t>(stream);
    const auto call = [&](auto run_kernel) {
        return run_kernel(a, plan, on, matrices, partial, finished);
    };
    if constexpr (!is_stored<T>) {  // which have diagonal priors only
        if (a.cross.data != nullptr) {
            const bool small = product_tiles(r + 1, r + 1, false) <= plan.threads;
            return failure(
                plan.warps ? call(run<T, false, 1, WarpTeam>)
                : small    ? call(run<T, false, 1, BlockTeam>)
                           : call(run<T, false, 5, BlockTeam>)
            );
        }
    }
    if (plan.warps) {
        return failure(
            r == 1 ? call(run<T, true, 1, WarpTeam, 1>) : call(run<T, true, 1, WarpTeam, few_rows>)
        );
    }
    const bool small = product_tiles(r + 1, r + 1, true) <= plan.threads;
    return failure(
        r <= some_rows ? call(run<T, true, 1, BlockTeam, some_rows>)
        : small        ? call(run<T, true, 1, BlockTeam>)
                       : call(run<T, true, 3, BlockTeam>)
    );
}

#define PHYSCON_INSTANTIATE(T)                                 \
    template Plan marginal_plan(const ConditionArgs<T>&, int); \
    template const char* condition_marginal(const ConditionArgs<T>&, const Plan&, void*, Arena&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)
PHYSCON_INSTANTIATE(BFloat16)
PHYSCON_INSTANTIATE(Float16)

}  // namespace physcon::cuda
