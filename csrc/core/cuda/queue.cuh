// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "device.cuh"

namespace physcon::cuda {

/// The stream of a call, and the first error of its launches.
struct Queue {
    cudaStream_t stream;
    int multiprocessors;
    cudaError_t error = cudaSuccess;

    explicit Queue(void* stream_in, int count)
        : stream(static_cast<cudaStream_t>(stream_in)), multiprocessors(count) {}
    template <typename... Parameters, typename... Arguments>
    void run(
        void (*kernel)(Parameters...),
        int64_t blocks,
        int threads,
        std::size_t shared,
        const Arguments&... arguments
    ) {
        if (error == cudaSuccess && blocks > 0) {
            error = blocks <= most_blocks
                        ? launch(kernel, blocks, threads, shared, stream, arguments...)
                        : cudaErrorInvalidConfiguration;
        }
    }
    const char* result() const {
        return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
    }

  private:
    static constexpr int64_t most_blocks = 0x7fffffff;
};

}  // namespace physcon::cuda
