// SPDX-License-Identifier: Apache-2.0
// How work is cut. Points are cut into chunks whose size never depends on threads, and partial sums
// of chunks are added in their order; who computes a chunk is therefore invisible in the bits.
#pragma once

#include <cstddef>

#include "../executor.hpp"
#include "simd.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

inline constexpr int64_t chunk_points = 4096;

inline int64_t chunk_count(int64_t n) {
    return larger<int64_t>(1, (n + chunk_points - 1) / chunk_points);
}

/// Calls body(slot) for every slot in [0, slots).
template <typename Body>
inline void run_slots(const Executor& executor, int64_t slots, Body&& body) {
    if (slots == 1) {
        body(0);
        return;
    }
    executor.run(
        executor.pool,
        slots,
        [](void* context, int64_t begin, int64_t end) {
            for (int64_t slot = begin; slot < end; ++slot) {
                (*static_cast<Body*>(context))(slot);
            }
        },
        &body
    );
}

/// Cuts [0, count) evenly over the slots and calls body(slot, index) in ascending order within each
/// slot.
template <typename Body>
inline void run_indices(const Executor& executor, int64_t count, Body&& body) {
    const int64_t slots = smaller<int64_t>(larger(executor.threads, 1), count);
    if (slots < 1) {
        return;
    }
    run_slots(executor, slots, [&](int64_t slot) {
        for (int64_t i = count * slot / slots; i < count * (slot + 1) / slots; ++i) {
            body(slot, i);
        }
    });
}

/// Hands out aligned pieces of the caller's workspace; with a null base it only measures.
class Arena {
  public:
    explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
    template <typename T>
    T* take(int64_t count) {
        char* piece = base_ == nullptr ? nullptr : base_ + used_;
        used_ += static_cast<std::size_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
        return reinterpret_cast<T*>(piece);
    }
    std::size_t used() const {
        return used_;
    }

  private:
    char* base_;
    std::size_t used_ = 0;
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
