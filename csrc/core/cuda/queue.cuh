// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "device.cuh"

namespace physcon::cuda {

/// The stream of a call, and the first error of its launches.
struct Queue {
    cudaStream_t stream;
    int multiprocessors;
    bool tf32;  ///< as in Device
    cudaError_t error = cudaSuccess;
    bool fits = true;  ///< whether every grid had room on one axis, where a kernel needs that

    explicit Queue(void* stream_in, int count, bool tf32_in = false)
        : stream(static_cast<cudaStream_t>(stream_in)), multiprocessors(count), tf32(tf32_in) {}
    template <typename... Parameters, typename... Arguments>
    void run(
        void (*kernel)(Parameters...),
        int64_t blocks,
        int threads,
        std::size_t shared,
        const Arguments&... arguments
    ) {
        if (goes_on(blocks) && fits_one_axis(blocks)) {
            error = launch(kernel, blocks, threads, shared, stream, arguments...);
        }
    }
    /// As run(), for kernels that find their work by block_index().
    template <typename... Parameters, typename... Arguments>
    void run_any(
        void (*kernel)(Parameters...),
        int64_t blocks,
        int threads,
        std::size_t shared,
        const Arguments&... arguments
    ) {
        if (goes_on(blocks)) {
            error = launch(kernel, blocks, threads, shared, stream, arguments...);
        }
    }
    bool goes_on(int64_t blocks) const {
        return error == cudaSuccess && fits && blocks > 0;
    }
    bool fits_one_axis(int64_t blocks) {
        fits = grid_of(blocks).y == 1;
        return fits;
    }
    const char* result() const {
        if (!fits) {
            return "expected a batch of at most 2^31 - 1 blocks of threads; split the batch";
        }
        return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
    }
};

}  // namespace physcon::cuda
