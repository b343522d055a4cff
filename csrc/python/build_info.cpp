// SPDX-License-Identifier: Apache-2.0
#include <physcon/version.h>

#include "build_config.hpp"
#include "core/cpu_features.hpp"
#include "core/cuda/kernels.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace physcon::python {
namespace {

/// The table of CUDA kernels.
py::list cuda_kernels() {
    py::list kernels;
    for (const cuda::KernelRecord* record = cuda::kernel_records(); record->op != nullptr;
         ++record) {
        py::dict entry;
        entry["op"] = record->op;
        entry["architecture"] = record->architecture;
        entry["verified"] =
            record->verified == nullptr ? py::object(py::none()) : py::str(record->verified);
        entry["largest_rank"] = record->largest_rank;
        kernels.append(entry);
    }
    return kernels;
}

py::dict build_info() {
    py::list available;
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
        if (isa_available(isa)) {
            available.append(isa_name(isa));
        }
    }
    py::dict info;
    info["version"] = PHYSCON_VERSION;
    info["git_revision"] = PHYSCON_BUILD_GIT;
    info["compiler"] = PHYSCON_BUILD_COMPILER;
    info["build_type"] = PHYSCON_BUILD_TYPE;
    info["flags"] = PHYSCON_BUILD_FLAGS;
    info["processor"] = PHYSCON_BUILD_PROCESSOR;
    info["cuda"] = cuda::compiled();
    info["cuda_architectures"] = cuda::architectures();
    info["torch_built"] = PHYSCON_BUILD_TORCH;
    info["torch_built_cuda"] = PHYSCON_BUILD_TORCH_CUDA;
    info["torch_target"] = PHYSCON_BUILD_TORCH_TARGET;
    info["isa_available"] = available;
    info["isa_active"] = isa_name(active_isa());
    return info;
}

}  // namespace

void bind_build_info(py::module_& m) {
    m.attr("__version__") = PHYSCON_VERSION;
    m.def("cuda_kernels", &cuda_kernels, "What is known about each CUDA kernel.");
    m.def("build_info", &build_info, "Facts about this build and the instruction set in use.");
}

}  // namespace physcon::python
