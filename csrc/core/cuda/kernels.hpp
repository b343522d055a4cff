// SPDX-License-Identifier: Apache-2.0
// What the build holds for CUDA. The same symbols exist in every build.
#pragma once

namespace physcon::cuda {

/// True when CUDA kernels are part of this build.
bool compiled() noexcept;

/// Comma-separated architectures that the kernels were compiled for; empty without kernels.
const char* architectures() noexcept;

}  // namespace physcon::cuda
