// SPDX-License-Identifier: Apache-2.0
// What a binding needs to put work on a CUDA device.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "core/cuda/kernels.hpp"
#include "torch/binding.hpp"

namespace physcon::binding {

/// Whether a tensor holds 16-bit floating-point numbers.
inline bool is_stored(const Tensor& t) {
    return t.scalar_type() == ScalarType::BFloat16 || t.scalar_type() == ScalarType::Half;
}
/// As dispatch(), for 16-bit numbers as kernels see them.
template <typename Body>
void dispatch_stored(const Tensor& t, Body&& body) {
    if (t.scalar_type() == ScalarType::BFloat16) {
        body(cuda::BFloat16{});
    } else {
        body(cuda::Float16{});
    }
}

/// Makes the device of a tensor current while it lives, and finds its current stream.
class CudaCall {
  public:
    CudaCall(const char* op, const Tensor& like);
    const cuda::Device& device() const {
        return device_;
    }
    /// Memory of the stream, alive as long as this object: later work on it waits for earlier.
    void* workspace(std::size_t bytes);
    /// Raises when a launch reported an error.
    void check(const char* error) const;

  private:
    const char* op_;
    Tensor like_, memory_;
    torch::stable::accelerator::DeviceGuard guard_;
    cuda::Device device_;
};

}  // namespace physcon::binding
