// SPDX-License-Identifier: Apache-2.0
// Copies from device memory to shared memory that run beside the thread that asked for them.
#pragma once

#include "device.cuh"

namespace physcon::cuda {

#if defined(__CUDACC__)
/// Starts a copy of 4, 8 or 16 bytes, aligned to as many on both sides; zeros where nothing
/// `exists`: `from` is not read then, but must be an address.
template <int bytes>
__device__ inline void copy_async(void* to, const void* from, bool exists) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16);
    const auto place = static_cast<unsigned>(__cvta_generic_to_shared(to));
    const int read = exists ? bytes : 0;
    if constexpr (bytes == 16) {  // past the first cache, which has no use for it
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :
                     : "r"(place), "l"(from), "r"(read)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     :
                     : "r"(place), "l"(from), "n"(bytes), "r"(read)
                     : "memory");
    }
}
/// Waits for the copies of this thread; other threads see them after a barrier.
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}
#endif

}  // namespace physcon::cuda
