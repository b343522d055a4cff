// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace physcon::cuda {

/// How many units of work have memory at once: no more than there are or than `wanted`, and as many
/// as a bounded workspace holds.
inline std::int64_t bounded_slots(
    std::int64_t units, std::int64_t wanted, std::int64_t bytes_each
) {
    constexpr std::int64_t most_bytes = std::int64_t{1} << 30;
    const std::int64_t fitting = std::max<std::int64_t>(1, most_bytes / bytes_each);
    return std::min(units, std::min(wanted, fitting));
}

/// Hands out aligned pieces of the caller's workspace; with a null base it only measures.
class Arena {
  public:
    explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
    template <typename T>
    T* take(std::int64_t count) {
        char* piece = base_ == nullptr ? nullptr : base_ + used_;
        used_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
        return reinterpret_cast<T*>(piece);
    }
    bool measures() const {
        return base_ == nullptr;
    }
    std::size_t used() const {
        return used_;
    }

  private:
    char* base_;
    std::size_t used_ = 0;
};

}  // namespace physcon::cuda
