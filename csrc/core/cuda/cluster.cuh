// SPDX-License-Identifier: Apache-2.0
// Neighbouring blocks that wait for each other: a cluster from sm_90 on, single blocks before.
#pragma once

#include "queue.cuh"

namespace physcon::cuda {

#if defined(__CUDACC__)
/// Waits for all threads of the cluster; what they wrote before is seen after.
__device__ inline void cluster_barrier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
#endif
}
/// Waits for all threads of the cluster, but for nothing that they wrote.
__device__ inline void leave_cluster() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive_relaxed();
    __cluster_barrier_wait();
#endif
}
/// The same place in the shared memory of another block of the cluster.
__device__ inline void* shared_of_block(void* mine, int rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    return __cluster_map_shared_rank(mine, static_cast<unsigned>(rank));
#else
    (void)rank;
    return mine;
#endif
}
#endif

/// `parts` blocks in a row.
struct Cluster {
    int rank, parts;
    __device__ explicit Cluster(int size)
        : rank(static_cast<int>(blockIdx.x) % size), parts(size) {}
    __device__ void sync() const {
        if (parts == 1) {
            __syncthreads();
        } else {
            cluster_barrier();
        }
    }
    /// Before a block ends whose shared memory others may still read.
    __device__ void leave() const {
        if (parts > 1) {
            leave_cluster();
        }
    }
    /// What the block `other` has in its shared memory where this one has `mine`.
    template <typename V>
    __device__ const V& of(const V& mine, int other) const {
        return *static_cast<const V*>(shared_of_block(const_cast<V*>(&mine), other));
    }
};

constexpr int most_parts = 8;  // what every device with clusters offers

/// Whether the current device has clusters and runs code that knows of them: that of the latest
/// architecture of the build which is no later than its own.
inline bool has_clusters() {
#if defined(__CUDA_ARCH_LIST__)
    constexpr int compiled[] = {__CUDA_ARCH_LIST__};
#else
    constexpr int compiled[] = {800, 900};
#endif
    int device = 0, major = 0, minor = 0, runs = 0;
    const bool known =
        cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess;
    for (const int architecture : compiled) {
        runs = architecture <= 100 * major + 10 * minor ? architecture : runs;
    }
    return known && runs >= 900;
}

/// Blocks of a cluster on the current device, no more than there are tasks.
inline int cluster_parts(int64_t tasks) {
    const bool clusters = has_clusters();
    int parts = 1;
    while (clusters && parts < most_parts && 2 * parts <= tasks) {
        parts *= 2;
    }
    return parts;
}

/// As Queue::run, `parts` blocks to a cluster.
template <typename... Parameters, typename... Arguments>
void run_clusters(
    Queue& queue,
    void (*kernel)(Parameters...),
    int64_t clusters,
    int parts,
    int threads,
    std::size_t shared,
    const Arguments&... arguments
) {
    if (parts == 1) {
        queue.run(kernel, clusters, threads, shared, arguments...);
        return;
    }
    if (!queue.goes_on(clusters) || !queue.fits_one_axis(clusters * parts)) {
        return;
    }
    queue.error = reported(allow_shared(kernel, shared));
    if (queue.error != cudaSuccess) {
        return;
    }
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(parts);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid_of(clusters * parts);
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared;
    config.stream = queue.stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    queue.error = reported(cudaLaunchKernelEx(&config, kernel, arguments...));
}

}  // namespace physcon::cuda
