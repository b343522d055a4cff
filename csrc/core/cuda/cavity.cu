// SPDX-License-Identifier: Apache-2.0
#include "cavity.cuh"

#include "kernels.hpp"
#include "queue.cuh"
#include "workspace.hpp"

namespace physcon::cuda {
namespace {

constexpr int64_t blocks_each = 2;  // waiting for a multiprocessor

bool exchanges_in_shared(int64_t n) {
    const int64_t bytes = cavity_exchange(n) * static_cast<int64_t>(sizeof(double));
    return bytes <= static_cast<int64_t>(most_shared());
}
int64_t doubles_per_flow(int64_t n) {
    return cavity_doubles(n) + (exchanges_in_shared(n) ? 0 : cavity_exchange(n));
}
int64_t blocks_for(const CavityArgs& a, const Device& device) {
    return bounded_slots(
        a.batch,
        device.multiprocessors * blocks_each,
        doubles_per_flow(a.n) * static_cast<int64_t>(sizeof(double))
    );
}
/// Few threads for few points: idle ones make barriers slower.
int threads_for(int64_t n) {
    const int64_t wanted = (n * n / 4 + warp_size - 1) / warp_size * warp_size;
    return static_cast<int>(smaller<int64_t>(wanted, cavity_threads));
}

}  // namespace

std::size_t cavity_workspace(const CavityArgs& a, const Device& device) {
    Arena arena(nullptr);
    arena.take<double>(blocks_for(a, device) * doubles_per_flow(a.n));
    return arena.used();
}

const char* cavity(const CavityArgs& a, const Device& device, void* workspace) {
    Queue queue(device.stream, device.multiprocessors);
    const bool shared = exchanges_in_shared(a.n);
    queue.run(
        shared ? cavity_kernel<true> : cavity_kernel<false>,
        blocks_for(a, device),
        threads_for(a.n),
        shared ? sizeof(double) * static_cast<std::size_t>(cavity_exchange(a.n)) : 0,
        a,
        static_cast<double*>(workspace)
    );
    return queue.result();
}

}  // namespace physcon::cuda
