// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace simt {

/// How the next launches run.
struct Options {
    std::uint64_t seed = 0;  ///< order of blocks and threads (fibers)
    std::int64_t skip = -1;  ///< the barrier that is left out, -1: none
    int major = 9;           ///< of the compute capability; clusters from 9 on
    bool dry = false;        ///< launches are checked and noted, nothing runs
};
Options& options();
/// Barriers that a thread passed in the longest launch since the last call.
std::int64_t barriers();

/// A kernel that ran, as the linker knows it, and the threads of its blocks.
struct Launch {
    std::string kernel;
    unsigned threads;
    bool counts;  ///< among the launches of a call
};
/// Launches since the last call.
std::vector<Launch> launches();
/// What has been launched so far belonged to no call.
void set_up();
/// Blocks of each dry launch since the last call.
std::vector<std::int64_t> blocks();

}  // namespace simt
