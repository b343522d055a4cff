// SPDX-License-Identifier: Apache-2.0
#include "balance_law.cuh"

#include "kernels.hpp"
#include "workspace.hpp"

namespace physcon::cuda {
namespace {

// Two blocks of a multiprocessor of sm_80 fit beside each other.
constexpr int64_t shared_limit = 80 * 1024;

std::size_t shared_bytes(const BalanceLawArgs& a) {
    const int64_t bytes = sizeof(double) * (balance_doubles(a) + scratch_doubles);
    return bytes <= shared_limit ? static_cast<std::size_t>(bytes) : 0;
}
/// As many threads as cells, within limits: idle ones make barriers slower.
int threads_for(const BalanceLawArgs& a) {
    const int64_t wanted = (a.rows * (a.n + 1) + warp_size - 1) / warp_size * warp_size;
    return static_cast<int>(smaller<int64_t>(wanted, balance_threads));
}

}  // namespace

std::size_t balance_law_workspace(const BalanceLawArgs& a) {
    Arena arena(nullptr);
    arena.take<double>(shared_bytes(a) > 0 ? 0 : a.batch * balance_doubles(a));
    return arena.used();
}

const char* balance_law(
    const BalanceLawArgs& a, std::int64_t table_steps, const Device& device, void* workspace
) {
    if (a.batch == 0) {
        return nullptr;
    }
    const auto stream = static_cast<cudaStream_t>(device.stream);
    auto* memory = static_cast<double*>(workspace);
    const std::size_t shared = shared_bytes(a);
    const cudaError_t error = shared > 0 ? launch(
                                               balance_law_kernel<true>,
                                               a.batch,
                                               threads_for(a),
                                               shared,
                                               stream,
                                               a,
                                               table_steps,
                                               memory
                                           )
                                         : launch(
                                               balance_law_kernel<false>,
                                               a.batch,
                                               threads_for(a),
                                               sizeof(double) * scratch_doubles,
                                               stream,
                                               a,
                                               table_steps,
                                               memory
                                           );
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace physcon::cuda
