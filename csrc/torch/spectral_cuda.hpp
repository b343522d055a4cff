// SPDX-License-Identifier: Apache-2.0
// A spectral op on a CUDA device: its stream, its tables, its workspace.
#pragma once

#include "core/cuda/spectral_entry.hpp"
#include "torch/cuda.hpp"
#include "torch/spectral.hpp"

namespace physcon::binding {

/// The dtype that a corrected convolution or a layer computes in: of 16-bit fields on lines,
/// kernels know those whose faces the last pass assigns.
inline ScalarType computed_type(
    const SpectralCall& call, const Tensor& field, const Tensor& stencil
) {
    const int64_t width = stencil.numel() != 0 ? stencil.size(1) : 0;
    const bool known = call.grid.axes > 1 || cuda::fuses_layer(call.grid, width);
    return known ? computed_type(field) : field.scalar_type();
}

template <typename T>
class SpectralCudaCall {
  public:
    /// `field` is what the call reads, `result` what it writes.
    SpectralCudaCall(const SpectralCall& call, const Tensor& field, const Tensor& result);
    /// The tables of the grid, alive as long as this object.
    const T* tables() const {
        return tables_;
    }
    template <typename Args>
    void run(
        std::size_t (*workspace)(const Args&, const cuda::Device&),
        const char* (*launch)(const Args&, const cuda::Device&, void*),
        const Args& args
    ) {
        cuda::Device device = device_.device(field_, result_);
        device.launches = launches_;
        device_.check(launch(args, device, device_.workspace(workspace(args, device))));
    }

  private:
    CudaCall device_;
    Tensor field_, result_, own_tables_;
    const T* tables_;
    cuda::Launches launches_;
};

}  // namespace physcon::binding
