// SPDX-License-Identifier: Apache-2.0
// Launches of the marginal kernels, for the entry points and for tests that choose the plan.
#pragma once

#include <algorithm>

#include "kernels.hpp"
#include "storage.hpp"
#include "workspace.hpp"

namespace physcon::cuda {

struct Plan;
struct BackwardPlan;

/// A warp per item up to this size, in either direction.
inline bool fits_warp(std::int64_t n, std::int64_t rank) {
    constexpr std::int64_t warp_points = 256, warp_rank = 4;
    return n <= warp_points && rank <= warp_rank;
}

/// Rows whose sums a lane keeps in registers.
constexpr std::int64_t few_rows = 8;
/// Whether a warp takes an item of a diagonal prior: its points are few, or many items hide how
/// long it waits for each of them.
inline bool warp_sums(
    std::int64_t items, std::int64_t n, std::int64_t rank, std::int64_t multiprocessors
) {
    constexpr std::int64_t short_item = 256, long_item = 2048, waiting = 4;
    const bool many = items >= waiting * multiprocessors;
    return rank <= few_rows && n <= (many ? long_item : short_item);
}

/// Blocks per unit of work (an item, or a slot of items) of n points: one where the units fill the
/// device, else as many as it holds at once, two to a multiprocessor, each with enough points.
inline int split_count(std::int64_t units, std::int64_t n, int multiprocessors) {
    constexpr std::int64_t split_points = 1024, most_splits = 256;
    if (units >= multiprocessors || units == 0) {
        return 1;
    }
    const std::int64_t wanted = 2 * std::int64_t{multiprocessors} / units;
    const std::int64_t most = std::clamp<std::int64_t>(n / split_points, 1, most_splits);
    return static_cast<int>(std::min(wanted, most));
}

template <typename T>
Plan marginal_plan(const ConditionArgs<T>& args, int multiprocessors);
/// Takes its workspace from the arena, and launches when the arena has memory. Returns an error or
/// null.
template <typename T>
const char* condition_marginal(
    const ConditionArgs<T>& args, const Plan& plan, void* stream, Arena& arena
);

/// The whole forward call, dense priors included, with a plan.
template <typename T>
const char* condition_planned(
    const ConditionArgs<T>& args, const Plan& plan, void* stream, Arena& arena
);

template <typename T>
BackwardPlan adjoint_plan(const ConditionBackwardArgs<T>& args, int multiprocessors);
template <typename T>
const char* condition_adjoint(
    const ConditionBackwardArgs<T>& args, const BackwardPlan& plan, void* stream, Arena& arena
);

}  // namespace physcon::cuda
