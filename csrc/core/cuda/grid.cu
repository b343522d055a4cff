// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

namespace physcon::cuda {

// Of the first axis of a grid, on every device.
constexpr int64_t most_blocks = 0x7fffffff;

std::size_t most_shared() {
    int device = 0, bytes = 0;
    const bool known =
        cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ==
            cudaSuccess;
    return known ? static_cast<std::size_t>(bytes) : 0;
}

dim3 grid_of(int64_t blocks) {
    const int64_t rows = (blocks + most_blocks - 1) / most_blocks;
    const int64_t columns = rows == 0 ? 0 : (blocks + rows - 1) / rows;
    return dim3(static_cast<unsigned>(columns), static_cast<unsigned>(rows));
}

}  // namespace physcon::cuda
