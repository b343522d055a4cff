// SPDX-License-Identifier: Apache-2.0
// Steps of a computation in one launch, where each needs all of the one before: clusters take tasks
// in the order of the steps, and a task waits until the step before its own is complete.
//
// What a task waits for has earlier tickets, is running for that reason, and comes to its end: no
// cluster waits for one that has no room on the device yet, however few run at once, and the launch
// is an ordinary one. Which cluster takes a task changes nothing in it.
#pragma once

#include "cluster.cuh"

namespace physcon::cuda {

#if defined(__CUDACC__)
/// A number that others write; what they wrote before is seen after.
__device__ inline unsigned acquired(const unsigned* number) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(number) : "memory");
    return value;
}
/// Gives way to other threads before another look at what is waited for.
__device__ inline void pause() {
    __nanosleep(32);
}
#endif

/// Without counters there is one step, and its tasks are those of the clusters in their order.
struct Tickets {
    static constexpr int most_steps = 3, counters = 1 + most_steps;
    unsigned* counter = nullptr;  ///< tickets taken, then complete tasks of each step

    /// By one block of an earlier launch.
    __device__ void clear() const {
        if (counter != nullptr && threadIdx.x < static_cast<unsigned>(counters)) {
            counter[threadIdx.x] = 0;
        }
    }
    /// The next task, for all blocks of a cluster. `mine`: shared memory for this alone.
    __device__ unsigned take(const Cluster& cluster, unsigned* mine) const {
        if (counter == nullptr) {
            return blockIdx.x / static_cast<unsigned>(cluster.parts);
        }
        if (cluster.rank == 0 && threadIdx.x == 0) {
            *mine = atomicAdd(counter, 1u);
        }
        cluster.sync();
        return cluster.of(*mine, 0);
    }
    /// Waits for the `tasks` of a step.
    __device__ void wait(int step, int64_t tasks) const {
        if (threadIdx.x == 0) {
            while (acquired(counter + 1 + step) < tasks) {
                pause();
            }
        }
        __syncthreads();
    }
    /// A task of a step is complete when all blocks of its cluster have come here.
    __device__ void complete(const Cluster& cluster, int step) const {
        if (counter == nullptr) {
            return;
        }
        cluster.sync();
        if (cluster.rank == 0 && threadIdx.x == 0) {
            __threadfence();
            atomicAdd(counter + 1 + step, 1u);
        }
    }
};

}  // namespace physcon::cuda
