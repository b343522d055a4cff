// SPDX-License-Identifier: Apache-2.0
// Launches of the marginal kernels, for the entry points and for tests that choose the plan.
#pragma once

#include "kernels.hpp"
#include "workspace.hpp"

namespace physcon::cuda {

struct Plan;
struct BackwardPlan;

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
