// SPDX-License-Identifier: Apache-2.0
// What both ways to run threads share: fibers.cpp and threads.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "simt.hpp"

namespace simt {

constexpr unsigned warp_size = 32;

[[noreturn]] void fail(const std::string& message);

/// The shared memory of a block: NaN as a number, -1 as an index.
using Memory = std::unique_ptr<char[]>;
Memory new_shared(std::size_t bytes);
/// Where block `rank` of a cluster has what block `self` has at `mine`.
void* other_memory(const std::vector<Memory>& memories, std::size_t self, void* mine, int rank);

/// Blocks of a cluster, 0 for a launch that no device would accept.
unsigned cluster_size(const cudaLaunchConfig_t& config);
/// Threads of a block.
unsigned thread_count(const cudaLaunchConfig_t& config);
std::int64_t block_count(const cudaLaunchConfig_t& config);
/// The place of number `i`, counted along the first axis.
dim3 place_of(std::int64_t i, const dim3& extent);
/// Numbers below `count` in an order that depends on the seed.
std::vector<std::int64_t> block_order(std::int64_t count);
/// Whether the lanes of every warp are there, as warp collectives want it.
void check_whole_warps(unsigned threads);
void note_barriers(std::int64_t passed);
/// Runs every block; the launch has been checked.
void run_blocks(const cudaLaunchConfig_t& config, const std::function<void()>& body);

struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
    bool exists;
};
/// What is copied to holds NaN from now on.
void begin(std::vector<Copy>& copies, const Copy& copy);
void land(std::vector<Copy>& copies);

/// What a lane brings to a matrix instruction.
struct Fragment {
    unsigned a[4], b[2];
};
/// The part of the result that belongs to a lane; `lanes` are those of its warp.
void multiply(const Fragment* lanes, unsigned lane, float (&sum)[4]);

/// What threads bring to something that they do together. Those who write one set may still be
/// read in the other by the slowest: a thread passes a barrier between.
template <typename T>
struct Brought {
    std::vector<T> sets[2];
    void resize(std::size_t count) {
        sets[0].resize(count);
        sets[1].resize(count);
    }
    std::vector<T>& at(std::uint64_t turn) {
        return sets[turn % 2];
    }
};

}  // namespace simt
