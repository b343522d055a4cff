// SPDX-License-Identifier: Apache-2.0
// Finite-volume steps as driver.cpp runs the other ops: a header, then arrays; an answer alike.
#include <string>

#include "arrays.hpp"
#include "core/cuda/kernels.hpp"

namespace {

using namespace physcon;
using simt::Arrays;

struct Header {
    std::int64_t seed, skip, batch, rows, n, terms, table_steps, stages;
    std::int64_t choices[9];
    double spacing[2], weights[8];
};

const char* run(const Header& h, Arrays& arrays) {
    BalanceLawArgs a;
    a.batch = h.batch, a.rows = h.rows, a.n = h.n;
    a.planar = h.rows > 1;
    a.inner_spacing = h.spacing[0], a.outer_spacing = h.spacing[1];
    a.transport = static_cast<Transport>(h.choices[0]);
    a.reconstruction = static_cast<Reconstruction>(h.choices[1]);
    a.diffusivity = static_cast<Diffusivity>(h.choices[2]);
    a.average = static_cast<FaceAverage>(h.choices[3]);
    a.integrator = static_cast<Integrator>(h.choices[4]);
    a.stages = h.stages;
    a.terms = h.terms;
    const std::int64_t size = h.rows * h.n;
    a.state = {arrays.input<double>(), a.fields() * 2 * size};
    a.speed = {arrays.input<double>(), 2};
    a.diffusion = {arrays.input<double>(), 2};
    Edge* tables[5] = {&a.edges[0], &a.edges[1], &a.edges[2], &a.edges[3], &a.amplitudes};
    for (int i = 0; i < 5; ++i) {
        Edge& e = *tables[i];
        e.along = 1;
        e.stage = i < 2 ? h.rows : i < 4 ? h.n : h.terms;
        e.step = e.stage * h.stages;
        e.item = e.step * h.table_steps;
        e.data = arrays.input<double>();
        if (i < 4) {
            e.kind = static_cast<EdgeKind>(h.choices[5 + i]);
            e.a = h.weights[2 * i], e.b = h.weights[2 * i + 1];
        }
    }
    a.shapes = {arrays.input<double>(), h.terms * size};
    a.dt = arrays.input<double>();
    a.steps = arrays.input<std::int64_t>();
    a.state_out = arrays.output<double>(h.batch * a.fields() * 2 * size);
    a.inner_flux_out = arrays.output<double>(h.batch * h.rows * (h.n + 1));
    a.outer_flux_out = arrays.output<double>(a.planar ? h.batch * (h.rows + 1) * h.n : 0);
    a.source_out = arrays.output<double>(h.batch * h.terms);
    a.info_out = arrays.output<std::int32_t>(h.batch);
    void* workspace = arrays.scratch(cuda::balance_law_workspace(a));
    return cuda::balance_law(a, h.table_steps, cuda::Device{}, workspace);
}

}  // namespace

int main() {
    return simt::serve<Header>(run);
}
