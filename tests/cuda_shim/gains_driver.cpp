// SPDX-License-Identifier: Apache-2.0
// Answers at the ends of an axis and gains as driver.cpp runs the other ops: a header, then arrays.
#include <string>

#include "arrays.hpp"
#include "core/cuda/spectral_entry.hpp"

namespace {

using namespace physcon;
using simt::Arrays;

struct Header {
    std::int64_t seed, skip, op, single, multiprocessors;
    std::int64_t axes, axis, in, out, sizes[3], modes[3];
    double periods[3];
    std::int64_t others, parts, modulus;  ///< of the elimination, whose channels are `in`
    double tolerance, slip;
};

template <typename T>
const char* respond(const Header& h, Arrays& arrays, const cuda::Device& device, bool adjoint) {
    EndResponseArgs<T> a;
    a.grid.axes = static_cast<int>(h.axes);
    a.axis = static_cast<int>(h.axis);
    std::int64_t modes = 1;
    for (int i = 0; i < 3; ++i) {
        a.grid.size[i] = h.sizes[i];
        a.grid.modes[i] = h.modes[i];
        a.grid.period[i] = h.periods[i];
        modes *= h.modes[i];
    }
    a.in = h.in, a.out = h.out;
    if (adjoint) {
        a.response_bar = arrays.input<double>();
        a.weight_out = arrays.output<T>(modes * h.in * h.out * 2);
        return cuda::end_response_adjoint(a, device);
    }
    a.weight = arrays.input<T>();
    const std::int64_t others = modes / h.modes[h.axis];
    a.response_out = arrays.output<double>(3 * others * h.in * h.out * (h.axes == 1 ? 1 : 2));
    return cuda::end_response(a, device);
}

const char* eliminate(const Header& h, Arrays& arrays, const cuda::Device& device, bool adjoint) {
    TwoStepGainArgs a;
    a.modes = h.others, a.channels = h.in, a.parts = h.parts;
    a.tolerance = h.tolerance, a.slip = h.slip, a.modulus = h.modulus != 0;
    a.response = arrays.input<double>();
    if (adjoint) {
        a.gain_bar = arrays.input<double>();
        a.response_out = arrays.output<double>(3 * h.others * h.in * h.in * h.parts);
        void* workspace = arrays.scratch(cuda::two_step_gain_adjoint_workspace(a));
        return cuda::two_step_gain_adjoint(a, device, workspace);
    }
    a.gain_out = arrays.output<double>(8 * h.others * h.in * h.in * h.parts);
    return cuda::two_step_gain(a, device);
}

const char* run(const Header& h, Arrays& arrays) {
    const cuda::Device device{nullptr, static_cast<int>(h.multiprocessors)};
    const bool adjoint = h.op % 2 == 1;
    if (h.op >= 2) {
        return eliminate(h, arrays, device, adjoint);
    }
    return h.single != 0 ? respond<float>(h, arrays, device, adjoint)
                         : respond<double>(h, arrays, device, adjoint);
}

}  // namespace

int main() {
    return simt::serve<Header>(run);
}
