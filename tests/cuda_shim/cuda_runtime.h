// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header of this name: kernels compile with the host compiler and run on the
// CPU. Test use only. What it checks is described in simt.cpp, fibers.cpp and threads.cpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaStream_t = struct CUstream_st*;
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        struct {
            unsigned x, y, z;
        } clusterDim;
    } val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute* attrs;
    unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor,
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor
};

enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0 };
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return cudaSuccess;
}
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
    return cudaSuccess;
}
inline cudaError_t cudaMalloc(void**, std::size_t) {
    return cudaErrorInvalidValue;  // no kernel allocates
}

const char* cudaGetErrorString(cudaError_t error);
inline cudaError_t cudaGetLastError() {
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);

#if defined(SIMT_THREADS)
extern thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
#else
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
#endif

namespace simt {

double* shared_memory();
/// The same place in the shared memory of another block of the cluster.
void* shared_of_block(void* mine, int rank);
/// Waits for every thread of the cluster, of the block, or of the warp.
void cluster_barrier();
void block_barrier();
void warp_barrier();
/// Waits for the warp; the value that lane `source` brought.
std::uint64_t exchange(std::uint64_t value, int source);
/// All lanes have to take part in a collective.
void check_mask(unsigned lanes);
/// Gives way to the blocks that run beside this one.
void pause();
bool any_in_warp(bool value);
bool any_in_block(bool value);
cudaError_t run(
    const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& body
);
/// A copy that lands when its thread waits; what it fills is NaN until then.
void start_copy(void* to, const void* from, std::size_t bytes, bool exists);
void wait_for_copies();
/// The matrix instruction, as mma.cuh describes it.
void multiply_tf32(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
unsigned to_tf32(float x);

template <int bytes>
void copy_async(void* to, const void* from, bool exists) {
    start_copy(to, from, bytes, exists);
}
template <typename T>
T shuffle(T value, int source) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t));
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = exchange(bits, source);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
inline int lane() {
    return static_cast<int>(threadIdx.x % 32);
}

}  // namespace simt

inline void __syncthreads() {
    simt::block_barrier();
}
inline int __syncthreads_or(int value) {
    return simt::any_in_block(value != 0);
}
inline void __syncwarp() {
    simt::warp_barrier();
}
inline int __any_sync(unsigned lanes, int value) {
    simt::check_mask(lanes);
    return simt::any_in_warp(value != 0);
}
template <typename T>
T __shfl_xor_sync(unsigned lanes, T value, int mask) {
    simt::check_mask(lanes);
    return simt::shuffle(value, simt::lane() ^ mask);
}
inline void __threadfence() {}

template <typename T>
T atomicAdd(T* address, T value) {
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}

// Compiled without contraction, so these are what they say.
inline double __dadd_rn(double a, double b) {
    return a + b;
}
inline double __dsub_rn(double a, double b) {
    return a - b;
}
inline double __dmul_rn(double a, double b) {
    return a * b;
}
inline double __fma_rn(double a, double b, double c) {
    return std::fma(a, b, c);
}
constexpr double simt_pi = 3.14159265358979323846;
inline double sinpi(double x) {
    return std::sin(simt_pi * x);
}
inline double cospi(double x) {
    return std::cos(simt_pi * x);
}
inline double normcdf(double x) {
    return 0.5 * std::erfc(-x * std::sqrt(0.5));
}
inline float normcdff(float x) {
    return static_cast<float>(normcdf(x));
}
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}
inline double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(
    const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), const Arguments&... arguments
) {
    const std::tuple<Parameters...> values(arguments...);
    return simt::run(*config, reinterpret_cast<const void*>(kernel), [&] {
        std::apply(kernel, values);
    });
}

namespace physcon::cuda {
using simt::cluster_barrier;
inline void leave_cluster() {
    simt::cluster_barrier();
}
inline unsigned acquired(const unsigned* number) {
    return __atomic_load_n(number, __ATOMIC_ACQUIRE);
}
using simt::copy_async;
using simt::multiply_tf32;
using simt::pause;
using simt::shared_memory;
using simt::shared_of_block;
using simt::to_tf32;
using simt::wait_for_copies;
}  // namespace physcon::cuda
