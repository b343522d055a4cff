// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA kernels when they are not part of the build.
#include "core/cuda/kernels.hpp"

namespace physcon::cuda {

bool compiled() noexcept {
    return false;
}

const char* architectures() noexcept {
    return "";
}

}  // namespace physcon::cuda
