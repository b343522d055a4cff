// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

namespace physcon::cuda {

// Of the first axis of a grid, on every device.
constexpr int64_t most_blocks = 0x7fffffff;

dim3 grid_of(int64_t blocks) {
    const int64_t rows = (blocks + most_blocks - 1) / most_blocks;
    const int64_t columns = rows == 0 ? 0 : (blocks + rows - 1) / rows;
    return dim3(static_cast<unsigned>(columns), static_cast<unsigned>(rows));
}

}  // namespace physcon::cuda
