// SPDX-License-Identifier: Apache-2.0
// Runs kernels on the CPU: the device and its launches, what is copied, and the matrix instruction.
// Threads are fibers (fibers.cpp) or threads of the system (threads.cpp).
//
// A launch is refused as a device of the compute capability would refuse it: too many blocks on an
// axis, threads or blocks of a cluster, and more shared memory than there is or was asked for.
//
// An asynchronous copy lands when the thread that started it waits; until then what it fills is
// NaN. The matrix instruction ignores the low 13 bits of its operands, cuts what it adds off at
// 2^-24 of the largest and the result at its last bit: the most that published tests of devices
// allow (Fasi, Higham, Mikaitis and Pranesh 2021).
#include "simt.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "machine.hpp"

#if defined(SIMT_THREADS)
thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
#else
dim3 threadIdx, blockIdx, blockDim, gridDim;
#endif

namespace simt {
namespace {

constexpr std::size_t default_shared = 48 * 1024;
constexpr std::size_t reserved_shared = 1024;  // of every block, by the system

Options current_options;
std::int64_t longest = 0;
std::vector<Launch> launched;
std::vector<std::int64_t> noted;
std::map<const void*, std::size_t> allowed_shared;  // by kernel

/// The most that a block may ask for: 227 KB on sm_90, 99 KB on sm_86 and sm_89, which run the code
/// of sm_80 with less than that device has.
std::size_t most_shared() {
    return (current_options.major >= 9 ? 227 : 99) * std::size_t{1024};
}
bool fits(const dim3& extent, unsigned x, unsigned y, unsigned z) {
    return extent.x - 1 < x && extent.y - 1 < y && extent.z - 1 < z;  // zero is too large as well
}
cudaError_t check(const cudaLaunchConfig_t& config, const void* kernel) {
    if (!fits(config.gridDim, 0x7fffffffu, 0xffffu, 0xffffu) ||
        !fits(config.blockDim, 1024, 1024, 64) || thread_count(config) > 1024 ||
        cluster_size(config) == 0) {
        return cudaErrorInvalidConfiguration;
    }
    const auto found = allowed_shared.find(kernel);
    const std::size_t allowed = found == allowed_shared.end() ? default_shared : found->second;
    return config.dynamicSmemBytes <= std::min(std::max(allowed, default_shared), most_shared())
               ? cudaSuccess
               : cudaErrorInvalidValue;
}
std::string name_of(const void* kernel) {
    Dl_info found = {};
    const bool known = dladdr(kernel, &found) != 0 && found.dli_saddr == kernel;
    return known && found.dli_sname != nullptr ? found.dli_sname : "?";
}

double operand(unsigned bits) {
    return static_cast<double>(__uint_as_float(bits & ~0x1fffu));
}
/// One entry of the result; `lanes` are those of the warp.
float multiplied(const Fragment* lanes, unsigned row, unsigned column, float sum) {
    double terms[9] = {static_cast<double>(sum)}, largest = std::fabs(terms[0]);
    for (unsigned k = 0; k < 8; ++k) {
        const double a = operand(lanes[row % 8 * 4 + k % 4].a[k / 4 * 2 + row / 8]);
        const double b = operand(lanes[column * 4 + k % 4].b[k / 4]);
        terms[k + 1] = a * b;
        largest = std::max(largest, std::fabs(terms[k + 1]));
    }
    double total = 0;
    int exponent = 0;
    std::frexp(largest, &exponent);
    const double unit = std::ldexp(1.0, exponent - 25);
    const bool cut = std::isfinite(largest) && unit > 0;
    for (const double term : terms) {
        total += cut ? std::trunc(term / unit) * unit : term;
    }
    const auto rounded = static_cast<float>(total);
    return std::fabs(static_cast<double>(rounded)) > std::fabs(total) ? std::nextafter(rounded, 0.f)
                                                                      : rounded;
}

}  // namespace

void fail(const std::string& message) {
    std::fprintf(stderr, "simt: %s\n", message.c_str());
    std::_Exit(3);
}
Options& options() {
    return current_options;
}
std::int64_t barriers() {
    return std::exchange(longest, 0);
}
std::vector<Launch> launches() {
    return std::exchange(launched, {});
}
void set_up() {
    for (Launch& launch : launched) {
        launch.counts = false;
    }
}
std::vector<std::int64_t> blocks() {
    return std::exchange(noted, {});
}

Memory new_shared(std::size_t bytes) {
    Memory memory(new char[bytes]);
    std::memset(memory.get(), 0xff, bytes);
    return memory;
}
void* other_memory(const std::vector<Memory>& memories, std::size_t self, void* mine, int rank) {
    const auto other = static_cast<std::size_t>(rank);
    if (other >= memories.size() || !memories[other]) {
        fail("the shared memory of block " + std::to_string(rank) + " of a cluster is not there");
    }
    return memories[other].get() + (static_cast<char*>(mine) - memories[self].get());
}

unsigned cluster_size(const cudaLaunchConfig_t& config) {
    unsigned size = 1;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        size = config.attrs[i].val.clusterDim.x;
    }
    const bool fits =
        size == 1 || (size >= 1 && size <= 8 && config.gridDim.x % size == 0 &&
                      thread_count(config) % warp_size == 0 && current_options.major >= 9);
    return fits ? size : 0;
}
unsigned thread_count(const cudaLaunchConfig_t& config) {
    return config.blockDim.x * config.blockDim.y * config.blockDim.z;
}
std::int64_t block_count(const cudaLaunchConfig_t& config) {
    return std::int64_t{config.gridDim.x} * config.gridDim.y * config.gridDim.z;
}
dim3 place_of(std::int64_t i, const dim3& extent) {
    const auto row = i / extent.x;
    return dim3(
        static_cast<unsigned>(i % extent.x),
        static_cast<unsigned>(row % extent.y),
        static_cast<unsigned>(row / extent.y)
    );
}
std::vector<std::int64_t> block_order(std::int64_t count) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(current_options.seed));
    return order;
}
void check_whole_warps(unsigned threads) {
    if (threads % warp_size != 0) {
        fail("a collective of a warp of which lanes are missing");
    }
}
void note_barriers(std::int64_t passed) {
    longest = std::max(longest, passed);
}

void begin(std::vector<Copy>& copies, const Copy& copy) {
    for (const void* address : {static_cast<const void*>(copy.to), copy.from}) {
        if (reinterpret_cast<std::uintptr_t>(address) % copy.bytes != 0) {
            fail("an asynchronous copy of " + std::to_string(copy.bytes) + " bytes is not aligned");
        }
    }
    std::memset(copy.to, 0xff, copy.bytes);
    copies.push_back(copy);
}
void land(std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
        if (copy.exists) {
            std::memcpy(copy.to, copy.from, copy.bytes);
        } else {
            std::memset(copy.to, 0, copy.bytes);
        }
    }
    copies.clear();
}
void multiply(const Fragment* lanes, unsigned lane, float (&sum)[4]) {
    for (unsigned i = 0; i < 4; ++i) {
        sum[i] = multiplied(lanes, lane / 4 + i / 2 * 8, 2 * (lane % 4) + i % 2, sum[i]);
    }
}
unsigned to_tf32(float x) {
    unsigned bits = 0;
    std::memcpy(&bits, &x, sizeof(bits));
    // Half of the last kept place carries into it; infinity and NaN stay.
    return std::isfinite(x) ? (bits + 0x1000u) & ~0x1fffu : bits;
}
void check_mask(unsigned lanes) {
    if (lanes != 0xffffffffu) {
        fail("a collective of some lanes of a warp");
    }
}

cudaError_t run(
    const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& body
) {
    const cudaError_t error = check(config, kernel);
    if (error != cudaSuccess) {
        return error;
    }
    if (current_options.dry) {
        noted.push_back(block_count(config));
        return cudaSuccess;
    }
    launched.push_back({name_of(kernel), thread_count(config), true});
    run_blocks(config, body);
    return cudaSuccess;
}

}  // namespace simt

const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorInvalidConfiguration ? "invalid configuration" : "invalid value";
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
    if (value < 0 || static_cast<std::size_t>(value) > simt::most_shared()) {
        return cudaErrorInvalidValue;
    }
    simt::allowed_shared[kernel] = static_cast<std::size_t>(value);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrMultiProcessorCount:
            *value = 4;
            break;
        case cudaDevAttrComputeCapabilityMajor:
            *value = simt::options().major;
            break;
        case cudaDevAttrComputeCapabilityMinor:
            *value = 0;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = static_cast<int>(simt::most_shared());
            break;
        default:
            *value = static_cast<int>(simt::most_shared() + simt::reserved_shared);
    }
    return cudaSuccess;
}
