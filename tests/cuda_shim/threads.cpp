// SPDX-License-Identifier: Apache-2.0
// Every device thread is a thread of the system. Made for the thread sanitizer, which sees a race
// without the need that it does harm: between threads of a block, and between blocks, some of which
// run at the same time and know nothing of each other. All threads of a block (of a warp) must pass
// the same barriers; the fibers check that.
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "machine.hpp"

namespace simt {
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

/// The threads that run one cluster after another.
struct Group {
    Group(unsigned threads, unsigned parts) : blocks(parts), warps(threads / warp_size + 1) {
        warp_brought.resize(threads);
        block_brought.resize(threads);
        fragments.resize(threads);
    }
    Barrier between, cluster;
    std::vector<Barrier> blocks, warps;
    std::vector<Memory> memories;
    Brought<std::uint64_t> warp_brought, block_brought;
    Brought<Fragment> fragments;
};

/// Threads that run at the same time, as far as there are several blocks.
constexpr unsigned most_threads = 512;
unsigned block_threads = 0, cluster_threads = 0;
thread_local Group* group;
thread_local unsigned self;  // place in the cluster
thread_local std::int64_t passed;
thread_local std::uint64_t cluster_wait, block_wait, warp_wait;
thread_local std::uint64_t warp_turn, block_turn, products;
thread_local std::vector<Copy> copies;

void wait_for_cluster() {
    group->cluster.wait(cluster_threads, cluster_wait);
}
void wait_for_block() {
    group->blocks[self / block_threads].wait(block_threads, block_wait);
}
void wait_for_warp() {
    check_whole_warps(block_threads);
    group->warps[self / warp_size].wait(warp_size, warp_wait);
}
unsigned first_of_warp() {
    return self / warp_size * warp_size;
}
bool is_there() {
    return passed++ != options().skip;
}

}  // namespace

double* shared_memory() {
    return reinterpret_cast<double*>(group->memories[self / block_threads].get());
}
void* shared_of_block(void* mine, int rank) {
    return other_memory(group->memories, self / block_threads, mine, rank);
}
void cluster_barrier() {
    if (is_there()) {
        wait_for_cluster();
    }
}
void pause() {
    std::this_thread::yield();
}
void block_barrier() {
    if (is_there()) {
        wait_for_block();
    }
}
void warp_barrier() {
    if (is_there()) {
        wait_for_warp();
    }
}
std::uint64_t exchange(std::uint64_t value, int source) {
    auto& brought = group->warp_brought.at(warp_turn++);
    brought[self] = value;
    wait_for_warp();
    return brought[first_of_warp() + static_cast<unsigned>(source)];
}
void multiply_tf32(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    auto& shared = group->fragments.at(products++);
    std::copy(a, a + 4, shared[self].a);
    std::copy(b, b + 2, shared[self].b);
    wait_for_warp();
    multiply(&shared[first_of_warp()], self % warp_size, sum);
}
void start_copy(void* to, const void* from, std::size_t bytes, bool exists) {
    begin(copies, {to, from, bytes, exists});
}
void wait_for_copies() {
    land(copies);
}
bool any_in_warp(bool value) {
    auto& brought = group->warp_brought.at(warp_turn++);
    brought[self] = value;
    wait_for_warp();
    const auto first = brought.begin() + first_of_warp();
    return std::find(first, first + warp_size, 1u) != first + warp_size;
}
bool any_in_block(bool value) {
    auto& brought = group->block_brought.at(block_turn++);
    brought[self] = value;
    wait_for_block();
    const auto first = brought.begin() + self / block_threads * block_threads;
    return std::find(first, first + block_threads, 1u) != first + block_threads;
}

void run_blocks(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
    const unsigned parts = cluster_size(config);
    block_threads = thread_count(config);
    cluster_threads = block_threads * parts;
    const auto order = block_order(block_count(config) / parts);
    const std::size_t at_once =
        std::min<std::size_t>(order.size(), std::max(1u, most_threads / cluster_threads));
    std::vector<std::unique_ptr<Group>> groups;
    std::vector<std::thread> threads;
    for (std::size_t g = 0; g < at_once; ++g) {
        groups.push_back(std::make_unique<Group>(cluster_threads, parts));
    }
    for (std::size_t t = 0; t < at_once * cluster_threads; ++t) {
        threads.emplace_back([&, t] {
            std::uint64_t turn = 0;
            group = groups[t / cluster_threads].get();
            self = static_cast<unsigned>(t % cluster_threads);
            blockDim = config.blockDim;
            gridDim = config.gridDim;
            threadIdx = place_of(self % block_threads, blockDim);
            for (std::size_t i = t / cluster_threads; i < order.size(); i += at_once) {
                group->between.wait(cluster_threads, turn);
                if (self == 0) {
                    group->memories.clear();
                    for (unsigned j = 0; j < parts; ++j) {
                        group->memories.push_back(new_shared(config.dynamicSmemBytes));
                    }
                }
                group->between.wait(cluster_threads, turn);
                blockIdx = place_of(order[i] * parts + self / block_threads, gridDim);
                passed = 0;
                kernel();
                if (t == 0) {
                    note_barriers(passed);
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace simt
