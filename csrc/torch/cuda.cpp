// SPDX-License-Identifier: Apache-2.0
#include "torch/cuda.hpp"

#include <torch/csrc/stable/library.h>

// Part of CUDA builds of torch only, so a CPU build leaves it null.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace physcon::binding {
namespace {

thread_local bool tf32_allowed = false;

/// Whether the following calls of this thread may round operands; returns what held before.
bool allow_tf32(bool allowed) {
    const bool before = tf32_allowed;
    tf32_allowed = allowed;
    return before;
}

}  // namespace

CudaCall::CudaCall(const char* op, const Tensor& like)
    : op_(op), like_(like), memory_(like), guard_(like.get_device_index()) {
    STD_TORCH_CHECK(
        &aoti_torch_get_current_cuda_stream != nullptr,
        op,
        ": expected a CUDA build of torch for a CUDA tensor"
    );
    const int32_t index = like.get_device_index();
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index, &device_.stream));
    device_.multiprocessors = cuda::multiprocessors(index);
    device_.tf32 = tf32_allowed;
    STD_TORCH_CHECK(
        device_.multiprocessors > 0,
        op,
        ": expected CUDA kernels in this build and a driver no older than their run time for "
        "device ",
        index,
        "; update the driver, or run torch operations instead with PHYSCON_CUDA_KERNELS=none"
    );
}

cuda::Device CudaCall::device(const Tensor& field, const Tensor& result) const {
    cuda::Device device = device_;
    device.storage = storage_of(field);
    device.result = storage_of(result);
    return device;
}

void* CudaCall::workspace(std::size_t bytes) {
    memory_ = allocate(like_, {static_cast<int64_t>(bytes) + 1}, ScalarType::Byte);
    return memory_.mutable_data_ptr();
}

void CudaCall::check(const char* error) const {
    if (error == nullptr) {
        return;
    }
    const int32_t index = like_.get_device_index();
    const cuda::Capability found = cuda::capability(index);
    STD_TORCH_CHECK(
        false,
        op_,
        ": ",
        error,
        " (cuda:",
        index,
        " has compute capability ",
        found.major,
        ".",
        found.minor,
        ", this build holds code for ",
        cuda::architectures(),
        "; PHYSCON_CUDA_KERNELS=none runs torch operations instead)"
    );
}

}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CompositeExplicitAutograd, m) {
    m.impl("allow_tf32", TORCH_BOX(&physcon::binding::allow_tf32));
}
