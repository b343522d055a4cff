// SPDX-License-Identifier: Apache-2.0
#include "gains.cuh"

#include "queue.cuh"
#include "spectral_entry.hpp"

namespace physcon::cuda {
namespace {

template <typename T>
const char* respond(
    void (*kernel)(ResponseCall<T>), const EndResponseArgs<T>& a, const Device& device
) {
    Queue queue(device.stream, device.multiprocessors);
    ResponseCall<T> c = {Normal(a.grid, a.axis), a.in * a.out, 0, a.grid.axes == 1 ? 1 : 2};
    c.pieces = (c.entries + response_threads - 1) / response_threads;
    c.weight = reinterpret_cast<const Pair<T>*>(a.weight);
    c.response_out = a.response_out;
    c.response_bar = a.response_bar;
    c.weight_out = reinterpret_cast<Pair<T>*>(a.weight_out);
    const int64_t modes = smaller<int64_t>(factor_modes, c.normal.own.modes);
    const auto shared = sizeof(double) * static_cast<std::size_t>(3 * modes);
    queue.run_any(kernel, c.normal.others * c.pieces, response_threads, shared, c);
    return queue.result();
}

/// Blocks whose sums are kept: a function of the sizes alone, so that bits are as well.
int64_t adjoint_blocks(const TwoStepGainArgs& a) {
    return smaller((a.modes * a.channels + gain_warps - 1) / gain_warps, most_step_blocks);
}

}  // namespace

template <typename T>
const char* end_response(const EndResponseArgs<T>& args, const Device& device) {
    return respond(end_response_kernel<T>, args, device);
}
template <typename T>
const char* end_response_adjoint(const EndResponseArgs<T>& args, const Device& device) {
    return respond(end_response_adjoint_kernel<T>, args, device);
}

const char* two_step_gain(const TwoStepGainArgs& a, const Device& device) {
    Queue queue(device.stream, device.multiprocessors);
    const int64_t numbers = a.modes * 4 * a.channels * a.channels * a.parts;
    const int64_t blocks = (numbers + gain_threads - 1) / gain_threads;
    // Every block adds up the three answers, so there are not more than can run.
    const int64_t most = int64_t{8} * device.multiprocessors;
    queue.run(two_step_gain_kernel, smaller(blocks, most), gain_threads, steps_shared, a);
    return queue.result();
}

std::size_t two_step_gain_adjoint_workspace(const TwoStepGainArgs& args) {
    return sizeof(double) * static_cast<std::size_t>(step_sums * adjoint_blocks(args));
}
const char* two_step_gain_adjoint(const TwoStepGainArgs& a, const Device& device, void* workspace) {
    Queue queue(device.stream, device.multiprocessors);
    auto* partial = static_cast<double*>(workspace);
    const int64_t blocks = adjoint_blocks(a);
    queue.run(two_step_gain_adjoint_kernel, blocks, gain_threads, steps_shared, a, partial);
    const int64_t alone = smaller<int64_t>(blocks, 1);
    queue.run(two_step_gain_answers_kernel, alone, gain_threads, steps_shared, a, partial, blocks);
    return queue.result();
}

#define PHYSCON_INSTANTIATE(T)                                                   \
    template const char* end_response(const EndResponseArgs<T>&, const Device&); \
    template const char* end_response_adjoint(const EndResponseArgs<T>&, const Device&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
