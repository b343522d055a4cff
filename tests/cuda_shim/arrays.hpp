// SPDX-License-Identifier: Apache-2.0
// The arrays of a problem: every one is a heap block of exactly its size; outputs start as NaN.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "simt.hpp"

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

/// Answers problems until there are no more: how it ended and what it took, then the outputs. Every
/// header starts with the seed of the schedule and the barrier to skip. A line per kernel that ran
/// names it, the threads of its blocks, and whether it counts.
template <typename Header, typename Run>
int serve(const Run& run) {
    Header h;
    while (std::fread(&h, sizeof(h), 1, stdin) == 1) {
        options() = {static_cast<std::uint64_t>(h.seed), h.skip};
        Arrays arrays;
        const char* error = run(h, arrays);
        const std::string text = error == nullptr ? "" : error;
        std::string ran;
        for (const Launch& launch : launches()) {
            ran += launch.kernel + ' ' + std::to_string(launch.threads);
            ran += launch.counts ? " 1\n" : " 0\n";
        }
        const std::int64_t numbers[] = {
            barriers(),
            static_cast<std::int64_t>(ran.size()),
            static_cast<std::int64_t>(text.size())
        };
        std::fwrite(numbers, sizeof(numbers), 1, stdout);
        std::fwrite(ran.data(), 1, ran.size(), stdout);
        std::fwrite(text.data(), 1, text.size(), stdout);
        arrays.write();
        std::fflush(stdout);
    }
    return 0;
}

}  // namespace simt
