// SPDX-License-Identifier: Apache-2.0
// CUDA entry points, and what the build holds. The same symbols exist in every build.
//
// All pointers are device memory. Nothing is allocated, nothing is waited for: work is put on the
// stream. Each call returns null, or a sentence about what went wrong.
#pragma once

#include "../condition.hpp"
#include "../fv.hpp"
#include "storage.hpp"

namespace physcon::cuda {

/// True when CUDA kernels are part of this build.
bool compiled() noexcept;

/// Comma-separated architectures that the kernels were compiled for; empty without kernels.
const char* architectures() noexcept;

/// What is known about one kernel on one architecture.
struct KernelRecord {
    const char* op;
    const char* architecture;
    const char* verified;  ///< Revision at which it passed on hardware; null: not yet.
    int largest_rank;      ///< More rows run the composite implementation; 0: any number.
};
/// The one table that decides what runs: records up to one without a name.
const KernelRecord* kernel_records() noexcept;

/// Launches of a convolution on a line: by the rule of spectral_cluster.cu, one where the kernel of
/// that file can at all, or several.
enum class Launches { automatic, one, several };

/// Where a call runs: a cudaStream_t, the number of multiprocessors of its device, whether
/// transforms of single precision may round their operands to 10 bits after the point, and how
/// fields lie in memory: x and the gradient of y that a convolution, a layer or a face rule reads,
/// and y and the gradient of x that it writes. On lines the two are the same, and other than `own`
/// only where `fuses_layer` holds for the face rules. `field` of a layer is float in any case.
struct Device {
    void* stream = nullptr;
    int multiprocessors = 1;
    Launches launches = Launches::automatic;
    bool tf32 = false;
    Storage storage = Storage::own;
    Storage result = Storage::own;
};

/// For diagonal priors without a covariance T may be a 16-bit type.
template <typename T>
std::size_t condition_workspace(const ConditionArgs<T>& args, const Device& device);
template <typename T>
const char* condition(const ConditionArgs<T>& args, const Device& device, void* workspace);

template <typename T>
std::size_t condition_backward_workspace(
    const ConditionBackwardArgs<T>& args, const Device& device
);
template <typename T>
const char* condition_backward(
    const ConditionBackwardArgs<T>& args, const Device& device, void* workspace
);

template <typename T>
const char* condition_disjoint(const DisjointArgs<T>& args, const Device& device);
template <typename T>
const char* condition_disjoint_backward(const DisjointBackwardArgs<T>& args, const Device& device);

/// Soft rows on three neighbouring points, their adjoint, and products with their posterior.
template <typename T>
std::size_t condition_banded_workspace(const BandedArgs<T>& args, const Device& device);
template <typename T>
const char* condition_banded(const BandedArgs<T>& args, const Device& device, void* workspace);
template <typename T>
std::size_t condition_banded_backward_workspace(
    const BandedBackwardArgs<T>& args, const Device& device
);
template <typename T>
const char* condition_banded_backward(
    const BandedBackwardArgs<T>& args, const Device& device, void* workspace
);
template <typename T>
std::size_t banded_product_workspace(const BandedProductArgs<T>& args, const Device& device);
template <typename T>
const char* banded_product(const BandedProductArgs<T>& args, const Device& device, void* workspace);

/// Finite-volume steps; memory where the arrays of an item leave shared memory. `table_steps`: how
/// many steps the tables hold. An item that wants more comes back as NaN with info -1.
std::size_t balance_law_workspace(const BalanceLawArgs& args);
const char* balance_law(
    const BalanceLawArgs& args, std::int64_t table_steps, const Device& device, void* workspace
);

std::size_t cavity_workspace(const CavityArgs& args, const Device& device);
const char* cavity(const CavityArgs& args, const Device& device, void* workspace);

/// Multiprocessors of a device, or 0 when it cannot be asked.
int multiprocessors(int device) noexcept;

/// Compute capability of a device, 0.0 when it cannot be asked.
struct Capability {
    int major = 0, minor = 0;
};
Capability capability(int device) noexcept;

}  // namespace physcon::cuda
