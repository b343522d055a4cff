// SPDX-License-Identifier: Apache-2.0
// End points of a field on a grid, assigned by a rule: arguments and entry points.
//
//   u_face <- g + sum_j s_j u^(j),   u^(j): the value j points inwards, j = 0..q
//
// Axis after axis, both ends of each; what a later axis assigns stands at corners and is seen by
// nothing before it. A row of zeros stores the bits of g.
#pragma once

#include <cstddef>
#include <cstdint>

#include "executor.hpp"

namespace physcon {

/// Rule of the two end faces of one axis, and its data g, broadcast through strides of 0.
template <typename T>
struct FaceRule {
    const double* stencil = nullptr;  ///< (2, width): first end, last end; null: axis untouched
    std::int64_t width = 0;           ///< q + 1, 1 <= width < points of the axis
    const T* values = nullptr;
    std::int64_t item = 0, channel = 0, end = 0;  ///< element strides of `values`
    std::int64_t tangent[2] = {0, 0};             ///< of the other two axes, in their order
};

/// Three axes; the missing leading ones of a line or a plane have size 1 and no rule.
template <typename T>
struct AssignFacesArgs {
    std::int64_t items = 0, channels = 0;
    std::int64_t size[3] = {1, 1, 1};
    const T* input = nullptr;  ///< (items, channels, size)
    T* output = nullptr;       ///< the same shape; may be `input` itself
    FaceRule<T> rule[3];
};
template <typename T>
void assign_faces(const AssignFacesArgs<T>& args, const Executor& executor);

/// Gradients of the data of one axis.
template <typename T>
struct FaceGradient {
    T* values = nullptr;  ///< (items, channels, 2, other sizes): before any sum; null: not needed
    T* summed = nullptr;  ///< (extents): summed over the axes along which the data were broadcast
    std::int64_t extent[5] = {1, 1, 1, 1, 1};  ///< items, channels, ends, other two; 1: summed
};

/// Adjoint of `assign_faces`. `values` of the rules is not read.
template <typename T>
struct AssignFacesBackwardArgs {
    std::int64_t items = 0, channels = 0;
    std::int64_t size[3] = {1, 1, 1};
    const T* grad = nullptr;  ///< gradient of the output
    T* output = nullptr;      ///< gradient of the input; may be `grad` itself
    FaceRule<T> rule[3];
    FaceGradient<T> gradient[3];
};
template <typename T>
void assign_faces_backward(const AssignFacesBackwardArgs<T>& args, const Executor& executor);

}  // namespace physcon
