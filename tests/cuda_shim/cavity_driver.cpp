// SPDX-License-Identifier: Apache-2.0
// Steps of the cavity as driver.cpp runs the other ops: a header, then arrays; an answer alike.
#include <string>

#include "arrays.hpp"
#include "core/cuda/kernels.hpp"

namespace {

using namespace physcon;
using simt::Arrays;

struct Header {
    std::int64_t seed, skip, batch, n, multiprocessors, major;
};

const char* run(const Header& h, Arrays& arrays) {
    simt::options().major = static_cast<int>(h.major);
    CavityArgs a;
    a.batch = h.batch, a.n = h.n;
    const std::int64_t m = h.n + 1, cells = h.n * h.n;
    a.u = {arrays.input<double>(), h.n * m};
    a.v = {arrays.input<double>(), h.n * m};
    a.lid = arrays.input<double>();
    a.viscosity = arrays.input<double>();
    a.dt = arrays.input<double>();
    a.steps = arrays.input<std::int64_t>();
    a.u_out = arrays.output<double>(h.batch * h.n * m);
    a.v_out = arrays.output<double>(h.batch * h.n * m);
    a.pressure_out = arrays.output<double>(h.batch * cells);
    a.uu_out = arrays.output<double>(h.batch * cells);
    a.uv_out = arrays.output<double>(h.batch * m * m);
    a.vu_out = arrays.output<double>(h.batch * m * m);
    a.vv_out = arrays.output<double>(h.batch * cells);
    const cuda::Device device{nullptr, static_cast<int>(h.multiprocessors)};
    return cuda::cavity(a, device, arrays.scratch(cuda::cavity_workspace(a, device)));
}

}  // namespace

int main() {
    return simt::serve<Header>(run);
}
