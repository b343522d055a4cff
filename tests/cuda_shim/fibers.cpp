// SPDX-License-Identifier: Apache-2.0
// Every device thread is a fiber, switched at barriers and collectives only, the next one chosen at
// random from a seed; blocks run in random order, those of a cluster together, and with an odd seed
// two clusters side by side. A missing barrier lets a thread run ahead of data. Made for the
// address sanitizer: the shared memory of a block is a heap block of exactly its size, filled with
// NaN, and gone when the block has ended.
//
// All threads of a block, or of a warp, must meet at the same barrier or collective: a thread that
// has ended or waits for something else stops the program. Another block of a cluster has shared
// memory after a barrier of the cluster, not before, and until it ends. A block that waits for
// blocks that do not run beside it stops the program, too.
#include <ucontext.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "machine.hpp"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {
namespace {

/// What a thread waits for. The first three are for all of a block, the next for a warp, and what
/// other blocks do is for the thread alone.
enum class Wait { none, block, block_vote, cluster, warp, shuffle, vote, product, others, ended };
constexpr char letters[] = ".BVCwsvpo-";
bool of_warp(Wait wait) {
    return wait >= Wait::warp && wait <= Wait::product;
}

constexpr std::size_t stack_bytes = 256 * 1024;
/// Runs the body of one kernel after the other; lives on, and keeps its stack.
struct Fiber {
    std::unique_ptr<char[]> stack{new char[stack_bytes]};
    void* place[5];  // where it goes on
    bool started = false;
    Wait wait = Wait::none;
    std::int64_t passed = 0;
    std::uint64_t warp_turn = 0, block_turn = 0, products = 0;
    bool met_cluster = false;
    std::vector<Copy> copies;
    void* sanitizer_stack = nullptr;
};
std::vector<std::unique_ptr<Fiber>> fibers;  // of clusters, block after block, and some more
std::size_t count = 0;                       // of those in use
unsigned block_threads = 0, parts = 1;       // threads of a block, blocks of a cluster
std::vector<std::int64_t> clusters;          // that run side by side
std::int64_t events = 0;                     // ends, and waits for anything but other blocks
std::vector<Memory> memories;
std::size_t running = 0;
void* scheduler[5];
const void* scheduler_stack = nullptr;
std::size_t scheduler_size = 0;
void* scheduler_sanitizer_stack = nullptr;
const std::function<void()>* body = nullptr;
Brought<std::uint64_t> warp_brought, block_brought;
Brought<Fragment> fragments;

void enter();

// Not swapcontext(), which asks the system for the signal mask at every switch.
#define SIMT_SWITCHES [[gnu::noinline]] __attribute__((no_sanitize("address", "undefined")))
SIMT_SWITCHES void go_on(void** place) {
    __builtin_longjmp(place, 1);
}
SIMT_SWITCHES void start(Fiber& fiber) {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = stack_bytes;
    context.uc_link = nullptr;
    makecontext(&context, enter, 0);
    fiber.started = true;
    setcontext(&context);
}
SIMT_SWITCHES void switch_to_fiber(Fiber& fiber) {
    if (__builtin_setjmp(scheduler) == 0) {
        fiber.started ? go_on(fiber.place) : start(fiber);
    }
}
SIMT_SWITCHES void switch_to_scheduler(Fiber& fiber) {
    if (__builtin_setjmp(fiber.place) == 0) {
        go_on(scheduler);
    }
}

void wait(Wait kind) {
    Fiber& self = *fibers[running];
    self.wait = kind;
    events += kind == Wait::others ? 0 : 1;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&self.sanitizer_stack, scheduler_stack, scheduler_size);
#endif
    switch_to_scheduler(self);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self.sanitizer_stack, &scheduler_stack, &scheduler_size);
#endif
}
void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    for (;;) {
        (*body)();
        wait(Wait::ended);
    }
}
void resume(std::size_t thread) {
    Fiber& fiber = *fibers[thread];
    running = thread;
    threadIdx = place_of(static_cast<std::int64_t>(thread % block_threads), blockDim);
    const std::size_t block = thread / block_threads;
    const auto rank = static_cast<std::int64_t>(block % parts);
    blockIdx = place_of(clusters[block / parts] * parts + rank, gridDim);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_sanitizer_stack, fiber.stack.get(), stack_bytes);
#endif
    switch_to_fiber(fiber);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_sanitizer_stack, nullptr, nullptr);
#endif
}

bool all_wait(std::size_t begin, std::size_t end, Wait kind) {
    return std::all_of(fibers.begin() + begin, fibers.begin() + end, [kind](const auto& fiber) {
        return fiber->wait == kind;
    });
}
/// Lets threads go on that all wait for the same thing.
void release(std::size_t begin, std::size_t end) {
    std::for_each(fibers.begin() + begin, fibers.begin() + end, [](const auto& fiber) {
        fiber->wait = Wait::none;
    });
}

/// The block goes on that begins with this thread; false if it waits for others or has ended.
bool advance(std::size_t begin, std::mt19937_64& random) {
    const std::size_t end = begin + block_threads;
    std::vector<std::size_t> ready;
    for (std::size_t i = begin; i < end; ++i) {
        if (fibers[i]->wait == Wait::none) {
            ready.push_back(i);
        }
    }
    // All that can run do so before anything is released, in random order.
    std::shuffle(ready.begin(), ready.end(), random);
    for (const std::size_t i : ready) {
        resume(i);
        const std::size_t first = i - (i - begin) % warp_size;
        const std::size_t last = std::min<std::size_t>(first + warp_size, end);
        if (of_warp(fibers[i]->wait) && all_wait(first, last, fibers[i]->wait)) {
            release(first, last);  // a whole warp that waits may overtake the others
        }
    }
    const Wait wait = fibers[begin]->wait;
    if (ready.empty() && (wait == Wait::block || wait == Wait::block_vote) &&
        all_wait(begin, end, wait)) {
        release(begin, end);
        return true;
    }
    if (all_wait(begin, end, Wait::ended)) {
        memories[begin / block_threads].reset();
    }
    return !ready.empty();
}

/// Whether one of the clusters goes on, all of which waits for that.
bool release_cluster() {
    const std::size_t threads = std::size_t{block_threads} * parts;
    for (std::size_t begin = 0; begin < count; begin += threads) {
        if (all_wait(begin, begin + threads, Wait::cluster)) {
            release(begin, begin + threads);
            return true;
        }
    }
    return false;
}
/// Threads that wait for other blocks look again; false if none does.
bool release_lookers() {
    bool any = false;
    for (std::size_t i = 0; i < count; ++i) {
        if (fibers[i]->wait == Wait::others) {
            fibers[i]->wait = Wait::none;
            any = true;
        }
    }
    return any;
}

void run_clusters(std::mt19937_64& random) {
    for (std::size_t i = 0; i < count; ++i) {
        Fiber& fiber = *fibers[i];
        fiber.wait = Wait::none;
        fiber.passed = 0;
        fiber.warp_turn = fiber.block_turn = fiber.products = 0;
        fiber.met_cluster = false;
    }
    std::vector<std::size_t> blocks(count / block_threads);
    std::iota(blocks.begin(), blocks.end(), std::size_t{0});
    std::int64_t last_look = -1;
    while (!all_wait(0, count, Wait::ended)) {
        // One block at a time: a block may run far ahead of the others.
        bool any = false;
        std::shuffle(blocks.begin(), blocks.end(), random);
        for (std::size_t i = 0; i < blocks.size() && !any; ++i) {
            any = advance(blocks[i] * block_threads, random);
        }
        if (any || release_cluster()) {
            continue;
        }
        const bool changed = std::exchange(last_look, events) != events;
        if (!(changed && release_lookers()) && !all_wait(0, count, Wait::ended)) {
            std::string waiting;
            for (std::size_t i = 0; i < std::min<std::size_t>(count, 256); ++i) {
                waiting += letters[static_cast<int>(fibers[i]->wait)];
            }
            fail(
                "divergent barrier or endless wait in block " +
                std::to_string(clusters[0] * parts) +
                ", threads wait for (B)lock or its (V)ote, (C)luster, (w)arp, its (s)huffle, " +
                "(v)ote or matrix (p)roduct, (o)ther blocks, or have ended (-): " + waiting
            );
        }
    }
}

/// Whether it was not left out.
bool barrier(Wait kind) {
    const bool present = fibers[running]->passed++ != options().skip;
    if (present) {
        wait(kind);
    }
    return present;
}

std::size_t first_of_warp() {
    return running - running % block_threads % warp_size;
}

}  // namespace

double* shared_memory() {
    return reinterpret_cast<double*>(memories[running / block_threads].get());
}
void* shared_of_block(void* mine, int rank) {
    const std::size_t self = running / block_threads, first = self - self % parts;
    if (first + static_cast<std::size_t>(rank) != self && !fibers[running]->met_cluster) {
        fail("the shared memory of another block before that is known to have started");
    }
    return other_memory(memories, self, mine, static_cast<int>(first) + rank);
}
void cluster_barrier() {
    fibers[running]->met_cluster |= barrier(Wait::cluster);
}
void pause() {
    wait(Wait::others);
}
void block_barrier() {
    barrier(Wait::block);
}
void warp_barrier() {
    check_whole_warps(block_threads);
    barrier(Wait::warp);
}
std::uint64_t exchange(std::uint64_t value, int source) {
    check_whole_warps(block_threads);
    auto& brought = warp_brought.at(fibers[running]->warp_turn++);
    brought[running] = value;
    wait(Wait::shuffle);
    return brought[first_of_warp() + static_cast<std::size_t>(source)];
}
void multiply_tf32(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    check_whole_warps(block_threads);
    auto& shared = fragments.at(fibers[running]->products++);
    std::copy(a, a + 4, shared[running].a);
    std::copy(b, b + 2, shared[running].b);
    wait(Wait::product);
    multiply(&shared[first_of_warp()], running % block_threads % warp_size, sum);
}
void start_copy(void* to, const void* from, std::size_t bytes, bool exists) {
    begin(fibers[running]->copies, {to, from, bytes, exists});
}
void wait_for_copies() {
    land(fibers[running]->copies);
}
bool any_in_warp(bool value) {
    check_whole_warps(block_threads);
    auto& brought = warp_brought.at(fibers[running]->warp_turn++);
    brought[running] = value;
    wait(Wait::vote);
    const auto first = brought.begin() + static_cast<std::ptrdiff_t>(first_of_warp());
    return std::find(first, first + warp_size, 1u) != first + warp_size;
}
bool any_in_block(bool value) {
    auto& brought = block_brought.at(fibers[running]->block_turn++);
    brought[running] = value;
    wait(Wait::block_vote);
    const auto first = brought.begin() + static_cast<std::ptrdiff_t>(running) -
                       static_cast<std::ptrdiff_t>(running % block_threads);
    return std::find(first, first + block_threads, 1u) != first + block_threads;
}

void run_blocks(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
    parts = cluster_size(config);
    block_threads = thread_count(config);
    const std::vector<std::int64_t> order = block_order(block_count(config) / parts);
    const std::size_t beside = std::min<std::size_t>(order.size(), 1 + options().seed % 2);
    count = beside * block_threads * parts;
    body = &kernel;
    while (fibers.size() < count) {
        fibers.push_back(std::make_unique<Fiber>());
    }
    warp_brought.resize(count);
    block_brought.resize(count);
    fragments.resize(count);
    blockDim = config.blockDim;
    gridDim = config.gridDim;
    std::mt19937_64 random(options().seed + 1);
    for (std::size_t first = 0; first < order.size(); first += beside) {
        const auto begin = order.begin() + static_cast<std::ptrdiff_t>(first);
        const std::size_t size = std::min(beside, order.size() - first);
        clusters.assign(begin, begin + static_cast<std::ptrdiff_t>(size));
        count = size * block_threads * parts;
        memories.clear();
        for (std::size_t i = 0; i < size * parts; ++i) {
            memories.push_back(new_shared(config.dynamicSmemBytes));
        }
        run_clusters(random);
        for (std::size_t i = 0; i < count; ++i) {
            note_barriers(fibers[i]->passed);
            if (!fibers[i]->copies.empty()) {
                fail("a kernel ended while it was copying");
            }
        }
    }
}

}  // namespace simt
