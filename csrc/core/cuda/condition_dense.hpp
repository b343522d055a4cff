// SPDX-License-Identifier: Apache-2.0
// Launches of the products with an n x n matrix.
#pragma once

#include "kernels.hpp"

namespace physcon::cuda {

/// C = G S into cross_out, and the diagonal of S.
template <typename T>
const char* dense_cross(const ConditionArgs<T>& args, T* diagonal, void* stream);
/// covariance_out = S - V' V from factor_out.
template <typename T>
const char* downdate(const ConditionArgs<T>& args, void* stream);

}  // namespace physcon::cuda
