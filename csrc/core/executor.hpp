// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace physcon {

/// Work on the indices [begin, end); must not throw.
using Task = void (*)(void* context, std::int64_t begin, std::int64_t end);

/// How the caller runs independent work. The core owns no threads: it hands `count` indices to
/// `run`, which calls `task` on disjoint ranges that cover [0, count), in any order, and returns
/// when all are done. Results never depend on `threads` or on how the ranges are cut.
struct Executor {
    void (*run)(void* pool, std::int64_t count, Task task, void* context);
    void* pool;
    int threads;  ///< How many ranges can make progress at once, >= 1. Sizes the workspace.
};

inline void run_in_caller(void*, std::int64_t count, Task task, void* context) {
    task(context, 0, count);
}
/// Runs everything in the calling thread.
inline Executor serial_executor() {
    return {run_in_caller, nullptr, 1};
}

}  // namespace physcon
