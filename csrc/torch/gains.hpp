// SPDX-License-Identifier: Apache-2.0
// Gains of corrected convolutions as the ops receive them: one tensor per axis.
#pragma once

#include <algorithm>

#include "core/boundary_spectral.hpp"
#include "torch/spectral.hpp"

namespace physcon::binding {

/// The gains of a call, checked and contiguous; an empty tensor leaves its axis alone.
struct GivenGains {
    Tensor gain[3];
    int64_t records = 0;  ///< of all corrected axes

    GivenGains(const SpectralCall& call, const Tensor* const (&given)[3]) {
        for (int64_t axis = 0; axis < 3; ++axis) {
            gain[axis] = packed(*given[axis]);
            if (!corrected(axis)) {
                continue;
            }
            STD_TORCH_CHECK(
                axis < call.grid.axes, call.op, ": expected gain_", axis, " to be empty, got gains"
            );
            const int64_t others = call.mode_count / call.modes[static_cast<std::size_t>(axis)];
            const Shape shape = shape_of(gain[axis]);
            const Shape full = {others, 2 * (call.in + call.out), 2 * call.in, 2};
            const bool fits = shape.size() == 4 && (shape[3] == 1 || shape[3] == 2) &&
                              std::equal(shape.begin(), shape.end() - 1, full.begin());
            STD_TORCH_CHECK(
                fits,
                call.op,
                ": expected gain_",
                axis,
                " to have shape ",
                describe(full),
                " (or 1 as its last size: real), got ",
                describe(shape)
            );
            STD_TORCH_CHECK(
                gain[axis].scalar_type() == ScalarType::Double,
                call.op,
                ": expected gain_",
                axis,
                " to be float64"
            );
            STD_TORCH_CHECK(
                call.size[static_cast<std::size_t>(axis)] >= 2,
                call.op,
                ": expected at least 2 points along the corrected axis ",
                axis,
                ", got ",
                call.size[static_cast<std::size_t>(axis)]
            );
            records += others;
        }
    }
    bool corrected(int64_t axis) const {
        return gain[axis].numel() != 0;
    }
    BoundaryGains view(int64_t axes) const {
        BoundaryGains view;
        for (int64_t axis = 0; axis < axes; ++axis) {
            if (corrected(axis)) {
                view.data[3 - axes + axis] = gain[axis].const_data_ptr<double>();
                view.parts[3 - axes + axis] = gain[axis].size(3);
            }
        }
        return view;
    }
};

/// (records, *batch, numbers of a record)
inline Shape shifts_shape(const SpectralCall& call, const GivenGains& gains) {
    const int64_t parts = call.grid.axes == 1 ? 1 : 2;
    Shape shape = {gains.records};
    shape.insert(shape.end(), call.batch.begin(), call.batch.end());
    shape.push_back((2 * (call.in + call.out) + 2 * call.in) * parts);
    return shape;
}

}  // namespace physcon::binding
