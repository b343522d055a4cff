// SPDX-License-Identifier: Apache-2.0
// What a Fourier layer adds to its convolution z, point by point: arguments and entry points.
//
//   u_o(p) = z_o(p) + sum_i x_i(p) S_io + b_o,     y = gelu(u) or u
//
// in one pass. Faces are assigned to u; a point assigned by a rule that does not count its own
// value is prescribed, and keeps its value where the activation changes the others.
#pragma once

#include "faces.hpp"

namespace physcon {

/// A dense real matrix (rows, columns) by its strides.
template <typename T>
struct MatrixView {
    const T* data = nullptr;  ///< null: no matrix
    std::int64_t row = 0, column = 0;
};

template <typename T>
struct PointwiseArgs {
    std::int64_t items = 0, in = 0, out = 0;
    std::int64_t size[3] = {1, 1, 1};
    const T* x = nullptr;     ///< (items, in, size)
    MatrixView<T> skip;       ///< (out, in): transposed S
    const T* bias = nullptr;  ///< (out) or null
    bool activated = false;   ///< gelu, or nothing
    FaceRule<T> rule[3];
    T* field = nullptr;       ///< (items, out, size): z, overwritten by u
    T* output = nullptr;      ///< y; may be `field` itself, which then holds no u
    bool keeps_field = true;  ///< false: what a `field` apart holds in the end is of no use
};
template <typename T>
std::size_t pointwise_workspace(const PointwiseArgs<T>& args, const Executor& executor);
template <typename T>
void pointwise(const PointwiseArgs<T>& args, const Executor& executor, void* workspace);

/// The adjoint down to the gradient of z; that of x takes the adjoint of the convolution and a
/// call of `pointwise` with S itself. What is null is not computed.
template <typename T>
struct PointwiseBackwardArgs {
    std::int64_t items = 0, in = 0, out = 0;
    std::int64_t size[3] = {1, 1, 1};
    const T* grad = nullptr;   ///< gradient of y
    const T* field = nullptr;  ///< u, if activated
    bool activated = false;
    const T* x = nullptr;  ///< for `skip_out`
    FaceRule<T> rule[3];   ///< `values` is not read
    FaceGradient<T> face_gradient[3];
    /// Gradient of z; null if it is `grad` itself: no activation, no faces, no storage in 16 bits.
    T* field_out = nullptr;
    T* skip_out = nullptr;  ///< (in, out)
    T* bias_out = nullptr;  ///< (out)
};
template <typename T>
std::size_t pointwise_backward_workspace(
    const PointwiseBackwardArgs<T>& args, const Executor& executor
);
template <typename T>
void pointwise_backward(
    const PointwiseBackwardArgs<T>& args, const Executor& executor, void* workspace
);

}  // namespace physcon
