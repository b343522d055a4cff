// SPDX-License-Identifier: Apache-2.0
// CUDA entry points of what a Fourier layer adds to its convolution; conventions as in kernels.hpp.
#pragma once

#include "../pointwise.hpp"
#include "kernels.hpp"

namespace physcon::cuda {

template <typename T>
std::size_t pointwise_workspace(const PointwiseArgs<T>& args, const Device& device);
template <typename T>
const char* pointwise(const PointwiseArgs<T>& args, const Device& device, void* workspace);

template <typename T>
std::size_t pointwise_backward_workspace(
    const PointwiseBackwardArgs<T>& args, const Device& device
);
template <typename T>
const char* pointwise_backward(
    const PointwiseBackwardArgs<T>& args, const Device& device, void* workspace
);

}  // namespace physcon::cuda
