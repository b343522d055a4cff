// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../boundary_spectral.hpp"
#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// `end_response` for other kernels of this instruction set: returns the bytes of workspace that it
/// needs and does nothing else when `workspace` is null.
template <typename T>
std::size_t respond(const EndResponseArgs<T>& args, const Executor& executor, void* workspace);

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
