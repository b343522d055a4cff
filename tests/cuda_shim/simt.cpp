// SPDX-License-Identifier: Apache-2.0
// Runs kernels on the CPU, one block after another.
//
// SIMT_THREADS not defined: every device thread is a fiber, switched at barriers and warp
// collectives only, the next one chosen at random from a seed; blocks run in random order. A
// missing barrier lets a thread run ahead of data. Made for the address sanitizer: the shared
// memory of a block is a heap block of exactly its size, filled with NaN.
//
// SIMT_THREADS defined: every device thread is a thread of the system. Made for the thread
// sanitizer, which sees a race without the need that it does harm. All threads of a block (of a
// warp) must pass the same barriers; the fibers check that.
//
// The blocks of a cluster run together, one cluster after another.
//
// An asynchronous copy lands when the thread that started it waits; until then what it fills is
// NaN. The matrix instruction ignores the low 13 bits of its operands, cuts what it adds off at
// 2^-24 of the largest and the result at its last bit: the most that published tests of devices
// allow (Fasi, Higham, Mikaitis and Pranesh 2021).
#include "simt.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime.h"

#if defined(SIMT_THREADS)
#include <condition_variable>
#include <mutex>
#include <thread>
#else
#include <ucontext.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#endif

#if defined(SIMT_THREADS)
thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
#else
dim3 threadIdx, blockIdx, blockDim, gridDim;
#endif

namespace simt {
namespace {

constexpr unsigned warp_size = 32;
constexpr int most_shared = 227 * 1024;  // of a block on sm_90

Options current_options;
std::int64_t longest = 0, launched = 0;
std::vector<std::int64_t> noted;

std::unique_ptr<char[]> new_shared(std::size_t bytes) {
    std::unique_ptr<char[]> memory(new char[bytes]);
    std::memset(memory.get(), 0xff, bytes);  // NaN as a number, -1 as an index
    return memory;
}
/// Where block `rank` has what block `self` has at `mine`.
void* other_memory(
    const std::vector<std::unique_ptr<char[]>>& memories, std::size_t self, void* mine, int rank
) {
    return memories[static_cast<std::size_t>(rank)].get() +
           (static_cast<char*>(mine) - memories[self].get());
}
/// Blocks of a cluster, 0 for a launch that no device would accept.
unsigned cluster_size(const cudaLaunchConfig_t& config) {
    unsigned size = 1;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        size = config.attrs[i].val.clusterDim.x;
    }
    const bool fits =
        size == 1 || (size >= 1 && size <= 8 && config.gridDim.x % size == 0 &&
                      config.blockDim.x % warp_size == 0 && current_options.major >= 9);
    return fits ? size : 0;
}
bool is_valid(const cudaLaunchConfig_t& config) {
    return config.gridDim.x != 0 && config.gridDim.x <= 0x7fffffffu && config.gridDim.y != 0 &&
           config.gridDim.y <= 0xffffu && config.blockDim.x != 0 && config.blockDim.x <= 1024 &&
           config.dynamicSmemBytes <= std::size_t{most_shared} && cluster_size(config) != 0;
}

std::int64_t block_count(const cudaLaunchConfig_t& config) {
    return std::int64_t{config.gridDim.x} * config.gridDim.y;
}

struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
    bool exists;
};
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

/// What a lane brings to a matrix instruction.
struct Fragment {
    unsigned a[4], b[2];
};
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
void multiply(const Fragment* lanes, unsigned lane, float (&sum)[4]) {
    for (unsigned i = 0; i < 4; ++i) {
        sum[i] = multiplied(lanes, lane / 4 + i / 2 * 8, 2 * (lane % 4) + i % 2, sum[i]);
    }
}
/// Lanes write one set of fragments while the slowest still read the other.
std::vector<Fragment> fragments[2];

std::vector<std::int64_t> block_order(std::int64_t count) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(current_options.seed));
    return order;
}

}  // namespace

Options& options() {
    return current_options;
}
std::int64_t barriers() {
    const std::int64_t found = longest;
    longest = 0;
    return found;
}
std::int64_t launches() {
    const std::int64_t found = launched;
    launched = 0;
    return found;
}
std::vector<std::int64_t> blocks() {
    return std::exchange(noted, {});
}
/// Whether a launch was dry: it has been noted, and is not to run.
bool note(const cudaLaunchConfig_t& config) {
    if (current_options.dry) {
        noted.push_back(block_count(config));
    }
    return current_options.dry;
}
/// Block `i` of the grid, counted along the first axis.
dim3 place_of(std::int64_t i, const dim3& grid) {
    return dim3(static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x));
}

unsigned to_tf32(float x) {
    unsigned bits = 0;
    std::memcpy(&bits, &x, sizeof(bits));
    // Half of the last kept place carries into it; infinity and NaN stay.
    return std::isfinite(x) ? (bits + 0x1000u) & ~0x1fffu : bits;
}

#if !defined(SIMT_THREADS)

namespace {

[[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "simt: %s\n", message.c_str());
    std::exit(3);
}

void check_aligned(const void* address, std::size_t bytes) {
    if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) {
        fail("an asynchronous copy of " + std::to_string(bytes) + " bytes is not aligned");
    }
}

enum class Wait { none, block, warp, cluster, finished };
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    unsigned thread;
    Wait wait;
    std::int64_t passed;
    unsigned products;
    std::vector<Copy> copies;
    void* sanitizer_stack;
};
std::vector<Fiber> fibers;  // of a cluster, block after block
std::vector<std::unique_ptr<char[]>> memories;
unsigned first_block = 0;
Fiber* running = nullptr;
ucontext_t scheduler;
const void* scheduler_stack = nullptr;
std::size_t scheduler_size = 0;
void* scheduler_sanitizer_stack = nullptr;
const std::function<void()>* body = nullptr;
std::vector<std::uint64_t> brought;

void to_scheduler(bool last) {
    Fiber& self = *running;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(
        last ? nullptr : &self.sanitizer_stack, scheduler_stack, scheduler_size
    );
#endif
    (void)last;
    swapcontext(&self.context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self.sanitizer_stack, &scheduler_stack, &scheduler_size);
#endif
}
void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    (*body)();
    running->wait = Wait::finished;
    to_scheduler(true);
}
void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx = dim3(fiber.thread % blockDim.x);
    blockIdx = place_of(std::int64_t{first_block} + fiber.thread / blockDim.x, gridDim);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(
        &scheduler_sanitizer_stack, fiber.stack.data(), fiber.stack.size()
    );
#endif
    swapcontext(&scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_sanitizer_stack, nullptr, nullptr);
#endif
    running = nullptr;
}

void wait(Wait kind) {
    running->wait = kind;
    to_scheduler(false);
}

/// Lets a group of threads go on when all that are left wait for the same thing.
bool release(std::size_t begin, std::size_t end, Wait kind) {
    bool any = false;
    for (std::size_t i = begin; i < end; ++i) {
        if (fibers[i].wait != kind && fibers[i].wait != Wait::finished) {
            return false;
        }
        any = any || fibers[i].wait == kind;
    }
    for (std::size_t i = begin; i < end && any; ++i) {
        if (fibers[i].wait == kind) {
            fibers[i].wait = Wait::none;
        }
    }
    return any;
}

/// The first thread of the block that a thread belongs to.
std::size_t block_begin(std::size_t thread) {
    return thread / blockDim.x * blockDim.x;
}

/// The shared memory of a block is gone when all its threads have finished.
void leave(std::size_t block) {
    const auto begin = fibers.begin() + static_cast<std::ptrdiff_t>(block * blockDim.x);
    if (std::all_of(begin, begin + blockDim.x, [](const Fiber& fiber) {
            return fiber.wait == Wait::finished;
        })) {
        memories[block].reset();
    }
}

/// The block that begins with this thread goes on; false if it waits for others or has finished.
bool advance(std::size_t begin, std::mt19937_64& random) {
    const std::size_t end = begin + blockDim.x;
    std::vector<std::size_t> ready;
    for (std::size_t i = begin; i < end; ++i) {
        if (fibers[i].wait == Wait::none) {
            ready.push_back(i);
        }
    }
    // All that can run do so before anything is released, in random order.
    std::shuffle(ready.begin(), ready.end(), random);
    for (const std::size_t i : ready) {
        resume(fibers[i]);
        leave(i / blockDim.x);
        const std::size_t first = i / warp_size * warp_size;
        // A whole warp that waits may overtake the others.
        release(first, std::min<std::size_t>(first + warp_size, end), Wait::warp);
    }
    return !ready.empty() || release(begin, end, Wait::block);
}

void run_cluster(std::mt19937_64& random) {
    const std::size_t count = fibers.size();
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        fiber.wait = Wait::none;
        fiber.passed = 0;
        fiber.products = 0;
        makecontext(&fiber.context, enter, 0);
    }
    std::vector<std::size_t> blocks(count / blockDim.x);
    std::iota(blocks.begin(), blocks.end(), std::size_t{0});
    const auto has_finished = [](const Fiber& fiber) { return fiber.wait == Wait::finished; };
    while (!std::all_of(fibers.begin(), fibers.end(), has_finished)) {
        // One block at a time: a block may run far ahead of the others.
        bool any = false;
        std::shuffle(blocks.begin(), blocks.end(), random);
        for (std::size_t i = 0; i < blocks.size() && !any; ++i) {
            any = advance(blocks[i] * blockDim.x, random);
        }
        if (!any && !release(0, count, Wait::cluster)) {
            std::string waiting;
            for (std::size_t i = 0; i < count && waiting.size() < 200; ++i) {
                waiting += fibers[i].wait == Wait::block     ? " B"
                           : fibers[i].wait == Wait::warp    ? " W"
                           : fibers[i].wait == Wait::cluster ? " C"
                                                             : " .";
            }
            fail(
                "divergent barrier in block " + std::to_string(first_block) +
                ", threads wait for (B)lock, (W)arp, (C)luster:" + waiting
            );
        }
    }
}

}  // namespace

double* shared_memory() {
    return reinterpret_cast<double*>(memories[running->thread / blockDim.x].get());
}
void* shared_of_block(void* mine, int rank) {
    return other_memory(memories, running->thread / blockDim.x, mine, rank);
}
void barrier(Wait kind) {
    if (running->passed++ != current_options.skip) {
        wait(kind);
    }
}
void cluster_barrier() {
    barrier(Wait::cluster);
}
void block_barrier() {
    barrier(Wait::block);
}
void warp_barrier() {
    barrier(Wait::warp);
}
std::uint64_t exchange(std::uint64_t value, int source) {
    const std::size_t self = running->thread, first = self / warp_size * warp_size;
    brought[self] = value;
    wait(Wait::warp);
    const std::uint64_t found = brought[first + static_cast<std::size_t>(source)];
    wait(Wait::warp);
    return found;
}
void multiply_tf32(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    const std::size_t self = running->thread;
    std::vector<Fragment>& shared = fragments[running->products++ % 2];
    std::copy(a, a + 4, shared[self].a);
    std::copy(b, b + 2, shared[self].b);
    wait(Wait::warp);
    multiply(&shared[self / warp_size * warp_size], self % warp_size, sum);
}
void start_copy(void* to, const void* from, std::size_t bytes, bool exists) {
    check_aligned(to, bytes);
    check_aligned(from, bytes);
    std::memset(to, 0xff, bytes);
    running->copies.push_back({to, from, bytes, exists});
}
void wait_for_copies() {
    land(running->copies);
}
bool any_of(std::size_t begin, std::size_t end, bool value, Wait kind) {
    brought[running->thread] = value;
    wait(kind);
    bool any = false;
    for (std::size_t i = begin; i < end; ++i) {
        any = any || (fibers[i].wait != Wait::finished && brought[i] != 0);
    }
    wait(kind);
    return any;
}
bool any_in_warp(bool value) {
    const std::size_t first = running->thread / warp_size * warp_size;
    return any_of(first, std::min(first + warp_size, fibers.size()), value, Wait::warp);
}
bool any_in_block(bool value) {
    const std::size_t begin = block_begin(running->thread);
    return any_of(begin, begin + blockDim.x, value, Wait::block);
}

cudaError_t run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
    if (!is_valid(config)) {
        return cudaErrorInvalidConfiguration;
    }
    if (note(config)) {
        return cudaSuccess;
    }
    ++launched;
    constexpr std::size_t stack_bytes = 256 * 1024;
    const unsigned parts = cluster_size(config);
    body = &kernel;
    fibers.resize(config.blockDim.x * parts);
    brought.assign(fibers.size(), 0);
    for (auto& set : fragments) {
        set.resize(fibers.size());
    }
    for (std::size_t i = 0; i < fibers.size(); ++i) {
        fibers[i].stack.resize(stack_bytes);
        fibers[i].thread = static_cast<unsigned>(i);
    }
    blockDim = config.blockDim;
    gridDim = config.gridDim;
    std::mt19937_64 random(current_options.seed + 1);
    for (const std::int64_t cluster : block_order(block_count(config) / parts)) {
        memories.clear();
        for (unsigned i = 0; i < parts; ++i) {
            memories.push_back(new_shared(config.dynamicSmemBytes));
        }
        first_block = static_cast<unsigned>(cluster) * parts;
        run_cluster(random);
        for (const Fiber& fiber : fibers) {
            longest = std::max(longest, fiber.passed);
            if (!fiber.copies.empty()) {
                fail("a kernel ended while it was copying");
            }
        }
    }
    return cudaSuccess;
}

#else

namespace {

/// A barrier that the thread sanitizer understands. Every round has a lock of its own: one lock for
/// all would order a thread that wakes late after one that ran ahead, and hide the race.
class Barrier {
  public:
    void wait(unsigned count, std::uint64_t& turn) {
        Round& round = rounds_[turn++ % rounds];
        std::unique_lock lock(round.mutex);
        if (++round.arrived == count) {
            round.open = true;
            round.opened.notify_all();
        }
        round.opened.wait(lock, [&] { return round.open; });
        if (--round.arrived == 0) {
            round.open = false;
        }
    }

  private:
    static constexpr std::uint64_t rounds = 64;
    struct Round {
        std::mutex mutex;
        std::condition_variable opened;
        unsigned arrived = 0;
        bool open = false;
    };
    Round rounds_[rounds];
};

std::unique_ptr<Barrier> cluster_wait;
std::vector<std::unique_ptr<Barrier>> block_wait, warp_wait;
std::vector<std::unique_ptr<char[]>> memories;
std::vector<std::uint64_t> brought;
unsigned all_threads = 0;
thread_local unsigned self;  // place in the cluster
thread_local std::int64_t passed;
thread_local std::uint64_t cluster_turn, block_turn, warp_turn, products;
thread_local std::vector<Copy> copies;

void wait_for_cluster() {
    cluster_wait->wait(all_threads, cluster_turn);
}
void wait_for_block() {
    block_wait[self / blockDim.x]->wait(blockDim.x, block_turn);
}
void wait_for_warp() {
    const unsigned warp = self / warp_size;
    warp_wait[warp]->wait(std::min(warp_size, all_threads - warp * warp_size), warp_turn);
}

}  // namespace

double* shared_memory() {
    return reinterpret_cast<double*>(memories[self / blockDim.x].get());
}
void* shared_of_block(void* mine, int rank) {
    return other_memory(memories, self / blockDim.x, mine, rank);
}
void cluster_barrier() {
    if (passed++ != current_options.skip) {
        wait_for_cluster();
    }
}
void block_barrier() {
    if (passed++ != current_options.skip) {
        wait_for_block();
    }
}
void warp_barrier() {
    if (passed++ != current_options.skip) {
        wait_for_warp();
    }
}
std::uint64_t exchange(std::uint64_t value, int source) {
    const std::size_t first = self / warp_size * warp_size;
    brought[self] = value;
    wait_for_warp();
    const std::uint64_t found = brought[first + static_cast<std::size_t>(source)];
    wait_for_warp();
    return found;
}
void multiply_tf32(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    std::vector<Fragment>& shared = fragments[products++ % 2];
    std::copy(a, a + 4, shared[self].a);
    std::copy(b, b + 2, shared[self].b);
    wait_for_warp();
    multiply(&shared[self / warp_size * warp_size], self % warp_size, sum);
}
void start_copy(void* to, const void* from, std::size_t bytes, bool exists) {
    std::memset(to, 0xff, bytes);
    copies.push_back({to, from, bytes, exists});
}
void wait_for_copies() {
    land(copies);
}
template <typename Wait>
bool any_of(std::size_t begin, std::size_t end, bool value, const Wait& wait) {
    brought[self] = value;
    wait();
    bool any = false;
    for (std::size_t i = begin; i < end; ++i) {
        any = any || brought[i] != 0;
    }
    wait();
    return any;
}
bool any_in_warp(bool value) {
    const std::size_t first = self / warp_size * warp_size;
    const std::size_t last = std::min(first + warp_size, brought.size());
    return any_of(first, last, value, wait_for_warp);
}
bool any_in_block(bool value) {
    const std::size_t begin = self / blockDim.x * blockDim.x;
    return any_of(begin, begin + blockDim.x, value, wait_for_block);
}

cudaError_t run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
    if (!is_valid(config)) {
        return cudaErrorInvalidConfiguration;
    }
    if (note(config)) {
        return cudaSuccess;
    }
    ++launched;
    const unsigned parts = cluster_size(config);
    all_threads = config.blockDim.x * parts;
    brought.assign(all_threads, 0);
    for (auto& set : fragments) {
        set.resize(all_threads);
    }
    cluster_wait = std::make_unique<Barrier>();
    block_wait.clear();
    for (unsigned i = 0; i < parts; ++i) {
        block_wait.push_back(std::make_unique<Barrier>());
    }
    warp_wait.clear();
    for (unsigned i = 0; i < (all_threads + warp_size - 1) / warp_size; ++i) {
        warp_wait.push_back(std::make_unique<Barrier>());
    }
    const auto order = block_order(block_count(config) / parts);
    Barrier between;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < all_threads; ++i) {
        threads.emplace_back([&, i] {
            std::uint64_t turn = 0;
            self = i;
            for (const std::int64_t cluster : order) {
                between.wait(all_threads, turn);
                if (i == 0) {
                    memories.clear();
                    for (unsigned j = 0; j < parts; ++j) {
                        memories.push_back(new_shared(config.dynamicSmemBytes));
                    }
                }
                between.wait(all_threads, turn);
                threadIdx = dim3(i % config.blockDim.x);
                blockIdx = place_of(cluster * parts + i / config.blockDim.x, config.gridDim);
                blockDim = config.blockDim;
                gridDim = config.gridDim;
                passed = 0;
                kernel();
                if (i == 0) {
                    longest = std::max(longest, passed);
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return cudaSuccess;
}

#endif

}  // namespace simt

const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorInvalidConfiguration ? "invalid configuration" : "invalid value";
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
    const bool fits = value >= 0 && value <= simt::most_shared;
    return fits ? cudaSuccess : cudaErrorInvalidValue;
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
            *value = static_cast<int>(simt::most_shared);
            break;
        default:
            *value = static_cast<int>(simt::most_shared + 1024);
    }
    return cudaSuccess;
}
