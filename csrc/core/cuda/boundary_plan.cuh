// SPDX-License-Identifier: Apache-2.0
// What the corrected convolutions of lines and of grids have in common.
#pragma once

#include "faces_plan.cuh"
#include "spectral_entry.hpp"
#include "spectral_plan.cuh"

namespace physcon::cuda {

template <typename T, typename Args>
MixCall<T> mixing(const Args& a) {
    MixCall<T> call;
    call.modes = mode_count(a.grid);
    call.batch = a.batch;
    call.in = a.in;
    call.out = a.out;
    call.weight = reinterpret_cast<const Pair<T>*>(a.weight);
    return call;
}

template <typename T, typename Args>
Analysis<T> analysis_of(const Args& a, const Tables<T>& tables, int64_t channels) {
    Analysis<T> analysis;
    analysis.grid = a.grid;
    analysis.rows = a.batch * channels;
    analysis.channels = channels;
    analysis.tables = tables;
    return analysis;
}
template <typename T, typename Args>
Synthesis<T> synthesis_of(const Args& a, const Tables<T>& tables, int64_t channels) {
    Synthesis<T> synthesis;
    synthesis.grid = a.grid;
    synthesis.rows = a.batch * channels;
    synthesis.channels = channels;
    synthesis.tables = tables;
    return synthesis;
}

template <typename T>
AssignFacesArgs<T> face_args(const BoundarySpectralConvArgs<T>& a) {
    AssignFacesArgs<T> f;
    f.items = a.batch;
    f.channels = a.out;
    f.input = f.output = a.y_out;
    for (int axis = 0; axis < 3; ++axis) {
        f.size[axis] = a.grid.size[axis];
        f.rule[axis] = a.rule[axis];
    }
    return f;
}
template <typename T>
AssignFacesBackwardArgs<T> face_args(const BoundarySpectralConvBackwardArgs<T>& a) {
    AssignFacesBackwardArgs<T> f;
    f.items = a.batch;
    f.channels = a.out;
    f.grad = a.grad;
    for (int axis = 0; axis < 3; ++axis) {
        f.size[axis] = a.grid.size[axis];
        f.rule[axis] = a.rule[axis];
        f.gradient[axis] = a.face_gradient[axis];
    }
    return f;
}

template <typename T>
void forward_grid(
    const BoundarySpectralConvArgs<T>& a, const Device& device, Queue& queue, Arena& arena
);
template <typename T>
void backward_grid(
    const BoundarySpectralConvBackwardArgs<T>& a, const Device& device, Queue& queue, Arena& arena
);

}  // namespace physcon::cuda
