// SPDX-License-Identifier: Apache-2.0
// Face rules as the ops receive them: one tensor of data and one of stencils per axis, both empty
// for an axis that is left alone.
#pragma once

#include "core/faces.hpp"
#include "torch/binding.hpp"

namespace physcon::binding {

/// The rules of the last `dims` axes of a field (batch, channels, sizes).
struct Faces {
    const char* op;
    int64_t dims, items, channels;
    int64_t size[3] = {1, 1, 1};  ///< leading ones for a line or a plane
    Shape batch, sizes;
    Tensor values[3], stencils[3];  ///< by axis; contiguous

    Faces(
        const char* op,
        const Shape& field,
        ScalarType dtype,
        int64_t dims,
        const Tensor* const (&values)[3],
        const Tensor* const (&stencils)[3]
    );
    bool assigned(int64_t axis) const {
        return stencils[axis].numel() != 0;
    }
    bool any() const {
        return assigned(0) || assigned(1) || assigned(2);
    }
    /// Sizes of the axes other than `axis`.
    Shape tangent(int64_t axis) const;

    /// Fills in what the arguments of the op and of its adjoint share.
    template <typename Args>
    void set_geometry(Args& args) const {
        args.items = items;
        args.channels = channels;
        for (int axis = 0; axis < 3; ++axis) {
            args.size[axis] = size[axis];
        }
        set(args.rule);
    }
    template <typename T>
    void set(FaceRule<T> (&rule)[3]) const {
        for (int64_t axis = 0; axis < dims; ++axis) {
            if (assigned(axis)) {
                rule[3 - dims + axis] = rule_of<T>(axis);
            }
        }
    }

  private:
    template <typename T>
    FaceRule<T> rule_of(int64_t axis) const {
        const Shape shape = shape_of(values[axis]);
        const auto first = static_cast<int64_t>(shape.size()) - dims - 1;  // the channel axis
        FaceRule<T> rule;
        rule.stencil = stencils[axis].const_data_ptr<double>();
        rule.width = stencils[axis].size(1);
        rule.values = values[axis].const_data_ptr<T>();
        int64_t step = 1;
        for (int64_t i = 0; i < dims - 1; ++i) {
            const int64_t extent = shape[static_cast<std::size_t>(first + dims - i)];
            rule.tangent[1 - i] = extent == 1 ? 0 : step;
            step *= extent;
        }
        rule.end = step;
        const int64_t own = shape[static_cast<std::size_t>(first)];
        rule.channel = own == 1 ? 0 : 2 * step;
        rule.item = own * 2 * step;
        bool shared = true;
        for (int64_t i = 0; i < first; ++i) {
            shared = shared && shape[static_cast<std::size_t>(i)] == 1;
        }
        if (shared) {
            rule.item = 0;
        }
        return rule;
    }
};

/// Memory for the gradients of the data of all axes; empty tensors where there is nothing.
struct FaceGradients {
    Tensor full[3], summed[3];
    bool wanted;
    FaceGradients(const Faces& faces, const Tensor& like, ScalarType dtype, bool needed);
    template <typename T>
    void set(const Faces& faces, FaceGradient<T> (&gradient)[3]) {
        for (int64_t axis = 0; axis < faces.dims; ++axis) {
            if (!wanted || !faces.assigned(axis)) {
                continue;
            }
            FaceGradient<T>& g = gradient[3 - faces.dims + axis];
            g.values = full[axis].template mutable_data_ptr<T>();
            if (shape_of(summed[axis]) == shape_of(full[axis])) {
                continue;
            }
            g.summed = summed[axis].template mutable_data_ptr<T>();
            const Shape shape = shape_of(summed[axis]);
            const auto first = static_cast<int64_t>(shape.size()) - faces.dims - 1;
            for (int64_t i = 0; i < first; ++i) {
                g.extent[0] *= shape[static_cast<std::size_t>(i)];
            }
            g.extent[1] = shape[static_cast<std::size_t>(first)];
            g.extent[2] = 2;
            for (int64_t i = 0; i < faces.dims - 1; ++i) {
                g.extent[4 - i] = shape[static_cast<std::size_t>(first + faces.dims - i)];
            }
        }
    }
};

}  // namespace physcon::binding
