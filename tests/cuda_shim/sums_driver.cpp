// SPDX-License-Identifier: Apache-2.0
// Compensated sums of a warp, one for each lane to see.
#include "arrays.hpp"
#include "device.cuh"

namespace {

using namespace physcon::cuda;

struct Header {
    std::int64_t seed, skip;
};

void sums_kernel(const double* high, const double* low, double* out) {
    const Compensated sum = warp_sum(Compensated{high[threadIdx.x], low[threadIdx.x]});
    out[2 * threadIdx.x] = sum.high;
    out[2 * threadIdx.x + 1] = sum.low;
}

}  // namespace

int main() {
    return simt::serve<Header>([](const Header&, simt::Arrays& arrays) -> const char* {
        const auto *high = arrays.input<double>(), *low = arrays.input<double>();
        auto* out = arrays.output<double>(2 * warp_size);
        const cudaError_t error = launch(sums_kernel, 1, warp_size, 0, nullptr, high, low, out);
        return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
    });
}
