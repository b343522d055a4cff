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

/// How kernels find the numbers of a tensor.
inline cuda::Storage storage_of(const Tensor& t) {
    return !is_stored(t)                             ? cuda::Storage::own
           : t.scalar_type() == ScalarType::BFloat16 ? cuda::Storage::bfloat16
                                                     : cuda::Storage::float16;
}
/// The dtype that kernels compute in.
inline ScalarType computed_type(const Tensor& t) {
    return t.is_cuda() && is_stored(t) ? ScalarType::Float : t.scalar_type();
}
/// As dispatch(), with that type.
template <typename Body>
void dispatch_computed(const char* op, const Tensor& t, Body&& body) {
    if (computed_type(t) == ScalarType::Float) {
        body(float{});
    } else {
        dispatch(op, t, body);
    }
}
/// The numbers of a field, which may be 16-bit ones: a pointer as kernels of such fields take it.
template <typename T>
const T* field_data(const Tensor& t) {
    return static_cast<const T*>(t.const_data_ptr());
}
template <typename T>
T* mutable_field_data(const Tensor& t) {
    return static_cast<T*>(t.mutable_data_ptr());
}

/// Makes the device of a tensor current while it lives, and finds its current stream.
class CudaCall {
  public:
    CudaCall(const char* op, const Tensor& like);
    const cuda::Device& device() const {
        return device_;
    }
    /// The same for a field that is read and one that is written, each in its storage.
    cuda::Device device(const Tensor& field, const Tensor& result) const;
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
