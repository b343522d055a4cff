// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace physcon::cuda {

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
