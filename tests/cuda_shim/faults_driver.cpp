// SPDX-License-Identifier: Apache-2.0
// Kernels and launches that are wrong, each in one way, to try the shim itself, and some that are
// right. The arguments of the program name the one that runs; what it leaves in memory is printed.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "cuda_runtime.h"
#include "simt.hpp"

namespace {

using simt::lane;
using simt::shared_memory;
using simt::shared_of_block;

constexpr unsigned all = 0xffffffffu;
constexpr int doubles = 8;  // of every array, in shared memory and not

// ---- barriers and collectives -------------------------------------------------------------------

void divergent_barrier(double*) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncwarp();
    }
}
void barrier_after_an_early_end(double*) {
    if (threadIdx.x != 5) {
        __syncthreads();
    }
}
void barrier_and_vote(double*) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads_or(0);
    }
}
void barrier_and_shuffle(double*) {
    if (lane() < 16) {
        __syncwarp();
    } else {
        __shfl_xor_sync(all, 1, 1);
    }
}
void shuffle_from_an_ended_lane(double*) {
    if (lane() != 3) {
        __shfl_xor_sync(all, 1, 1);
    }
}
void shuffle_of_half_a_warp(double*) {
    __shfl_xor_sync(0xffffu, 1, 1);
}
void warp_barrier(double*) {
    __syncwarp();
}

// ---- memory -------------------------------------------------------------------------------------

void past_the_end_of_shared_memory(double* out) {
    out[0] = shared_memory()[doubles];
}
void past_the_end_of_an_array(double* out) {
    out[doubles] = 1;
}
struct alignas(16) Run {
    float value[4];
};
void misaligned_run(double* out) {
    const auto* numbers = reinterpret_cast<const float*>(out) + 1;
    out[0] = reinterpret_cast<const Run*>(numbers)->value[0];
}
void misaligned_copy(double* out) {
    simt::copy_async<16>(shared_memory() + 1, out, true);
    simt::wait_for_copies();
}
void copy_that_nobody_waits_for(double* out) {
    simt::copy_async<16>(shared_memory(), out, true);
}
/// Reads what is copied before waiting, and after.
void early_read(double* out) {
    if (threadIdx.x == 0) {
        out[2] = 7;
        simt::copy_async<8>(shared_memory(), out + 2, true);
        out[0] = shared_memory()[0];
        simt::wait_for_copies();
        out[1] = shared_memory()[0];
    }
}
/// What every block finds in its shared memory, which it then fills.
void fresh_memory(double* out) {
    if (threadIdx.x == 0) {
        out[blockIdx.x] = shared_memory()[1];
        shared_memory()[1] = 1;
    }
}

// ---- clusters -----------------------------------------------------------------------------------

double* of_the_other() {
    return static_cast<double*>(shared_of_block(shared_memory(), 1 - static_cast<int>(blockIdx.x)));
}
void other_block_before_it_starts(double* out) {
    out[0] = *of_the_other();
}
void block_that_is_not_there(double* out) {
    simt::cluster_barrier();
    out[0] = *static_cast<double*>(shared_of_block(shared_memory(), 2));
}
/// Long enough for the other block to end.
void linger() {
    for (int i = 0; i < 100; ++i) {
        __syncthreads();
    }
}
void other_block_after_its_end(double* out) {
    simt::cluster_barrier();
    if (blockIdx.x == 0) {
        linger();
        out[0] = *of_the_other();
    }
}
void memory_of_a_block_that_has_ended(double* out) {
    simt::cluster_barrier();
    const double* other = of_the_other();
    simt::cluster_barrier();
    if (blockIdx.x == 0) {
        linger();
        out[0] = *other;
    }
}
/// As it should be.
void other_block(double* out) {
    if (threadIdx.x == 0) {
        shared_memory()[0] = 10 + blockIdx.x;
    }
    simt::cluster_barrier();
    if (threadIdx.x == 0) {
        out[blockIdx.x] = *of_the_other();
    }
    simt::cluster_barrier();
}

// ---- races --------------------------------------------------------------------------------------

void two_threads_write(double*) {
    if (threadIdx.x % 32 == 0) {
        shared_memory()[0] = threadIdx.x;
    }
}
void two_blocks_write(double* out) {
    if (threadIdx.x == 0) {
        out[0] = 1;
    }
}
void a_block_reads_what_another_writes(double* out) {
    if (threadIdx.x == 0) {
        out[1 + blockIdx.x] = out[2 - blockIdx.x];
    }
}
/// As it should be: the last block to come adds up what all have left.
void last_block_adds(double* out) {
    if (threadIdx.x == 0) {
        out[1 + blockIdx.x] = 2 + blockIdx.x;
        __threadfence();
        auto* arrived = reinterpret_cast<unsigned*>(out + 5);
        if (atomicAdd(arrived, 1u) == gridDim.x - 1) {
            out[0] = out[1] + out[2];
        }
    }
}

struct Case {
    const char* name;
    void (*kernel)(double*);
    unsigned threads = 64, blocks = 1, cluster = 1;
};
const Case cases[] = {
    {"divergent_barrier", divergent_barrier},
    {"barrier_after_an_early_end", barrier_after_an_early_end},
    {"barrier_and_vote", barrier_and_vote},
    {"barrier_and_shuffle", barrier_and_shuffle},
    {"shuffle_from_an_ended_lane", shuffle_from_an_ended_lane},
    {"shuffle_of_half_a_warp", shuffle_of_half_a_warp},
    {"barrier_of_a_warp_with_lanes_missing", warp_barrier, 40},
    {"past_the_end_of_shared_memory", past_the_end_of_shared_memory},
    {"past_the_end_of_an_array", past_the_end_of_an_array},
    {"misaligned_run", misaligned_run},
    {"misaligned_copy", misaligned_copy},
    {"copy_that_nobody_waits_for", copy_that_nobody_waits_for},
    {"early_read", early_read},
    {"fresh_memory", fresh_memory, 64, 2},
    {"other_block_before_it_starts", other_block_before_it_starts, 64, 2, 2},
    {"block_that_is_not_there", block_that_is_not_there, 64, 2, 2},
    {"other_block_after_its_end", other_block_after_its_end, 64, 2, 2},
    {"memory_of_a_block_that_has_ended", memory_of_a_block_that_has_ended, 64, 2, 2},
    {"other_block", other_block, 64, 2, 2},
    {"two_threads_write", two_threads_write},
    {"two_blocks_write", two_blocks_write, 64, 2},
    {"a_block_reads_what_another_writes", a_block_reads_what_another_writes, 64, 2},
    {"last_block_adds", last_block_adds, 64, 2},
};

void idle(double*) {}

cudaError_t start(
    void (*kernel)(double*),
    dim3 grid,
    dim3 block,
    std::size_t shared,
    unsigned cluster,
    double* out
) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.attrs = &attribute;
    config.numAttrs = cluster == 1 ? 0 : 1;
    return cudaLaunchKernelEx(&config, kernel, out);
}

/// Architecture, grid, block, shared memory, whether it is asked for, blocks of
/// a cluster.
int launch(const char* const* words) {
    const auto number = [&](int i) { return static_cast<unsigned>(std::stoul(words[i])); };
    simt::options().major = static_cast<int>(number(0));
    const std::size_t shared = number(7);
    cudaError_t error = cudaSuccess;
    if (number(8) != 0) {
        error = cudaFuncSetAttribute(
            reinterpret_cast<const void*>(idle),
            cudaFuncAttributeMaxDynamicSharedMemorySize,
            static_cast<int>(shared)
        );
    }
    if (error == cudaSuccess) {
        simt::options().dry = true;
        const dim3 grid(number(1), number(2), number(3)), block(number(4), number(5), number(6));
        error = start(idle, grid, block, shared, number(9), nullptr);
    }
    std::printf("%s\n", error == cudaSuccess ? "starts" : cudaGetErrorString(error));
    return 0;
}

}  // namespace

int main(int count, char** words) {
    if (count == 12 && std::strcmp(words[1], "launch") == 0) {
        return launch(words + 2);
    }
    for (const Case& c : cases) {
        if (count == 2 && std::strcmp(words[1], c.name) == 0) {
            const std::unique_ptr<double[]> out(new double[doubles]());
            const cudaError_t error = start(
                c.kernel, c.blocks, c.threads, doubles * sizeof(double), c.cluster, out.get()
            );
            for (int i = 0; i < doubles && error == cudaSuccess; ++i) {
                std::printf("%g ", out[static_cast<std::size_t>(i)]);
            }
            return error == cudaSuccess ? 0 : 1;
        }
    }
    return 2;
}
