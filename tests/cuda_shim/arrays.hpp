// SPDX-License-Identifier: Apache-2.0
// The arrays of a problem: every one is a heap block of exactly its size; outputs start as NaN.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace simt {

inline void read_all(void* to, std::size_t bytes) {
    if (std::fread(to, 1, bytes, stdin) != bytes) {
        std::fprintf(stderr, "driver: expected %zu more bytes\n", bytes);
        std::exit(4);
    }
}

/// Arrays in order; none is larger than what was asked for.
class Arrays {
  public:
    template <typename T>
    const T* input() {
        std::int64_t bytes;
        read_all(&bytes, sizeof(bytes));
        if (bytes == 0) {
            return nullptr;
        }
        char* data = add(static_cast<std::size_t>(bytes));
        read_all(data, static_cast<std::size_t>(bytes));
        return reinterpret_cast<const T*>(data);
    }
    template <typename T>
    T* output(std::int64_t count) {
        if (count == 0) {
            outputs_.push_back({nullptr, 0});
            return nullptr;
        }
        const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
        char* data = add(bytes);
        outputs_.push_back({data, bytes});
        return reinterpret_cast<T*>(data);
    }
    void* scratch(std::size_t bytes) {
        return add(bytes + 1);
    }
    void write() const {
        for (const auto& [data, bytes] : outputs_) {
            const auto count = static_cast<std::int64_t>(bytes);
            std::fwrite(&count, sizeof(count), 1, stdout);
            if (bytes > 0) {
                std::fwrite(data, 1, bytes, stdout);
            }
        }
    }

  private:
    char* add(std::size_t bytes) {
        owned_.emplace_back(static_cast<char*>(std::malloc(bytes)), std::free);
        std::memset(owned_.back().get(), 0xff, bytes);
        return owned_.back().get();
    }
    std::vector<std::unique_ptr<char, void (*)(void*)>> owned_;
    std::vector<std::pair<char*, std::size_t>> outputs_;
};

}  // namespace simt
