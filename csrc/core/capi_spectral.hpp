// SPDX-License-Identifier: Apache-2.0
// What the C functions of spectral.h share: checks of a grid and its form in the core.
#pragma once

#include <physcon/spectral.h>

#include <cmath>

#include "core/capi.hpp"
#include "core/spectral.hpp"

namespace physcon {

inline std::size_t aligned(std::size_t bytes) {
    constexpr std::size_t step = PHYSCON_WORKSPACE_ALIGNMENT;
    return (bytes + step - 1) / step * step;
}

inline void check_axes(Checker& check, std::int32_t axes) {
    if (axes < 1 || axes > 3) {
        check.reject("expected axes to be 1, 2 or 3", 0, axes);
    }
}

inline void check_grid(Checker& check, const physcon_spectral_grid& grid) {
    check_axes(check, grid.axes);
    for (int axis = 0; check.good() && axis < grid.axes; ++axis) {
        const double period = grid.period[axis];
        const std::int64_t modes = grid.modes[axis];
        check.at_least("grid.size", grid.size[axis], 1);
        if (!(std::isfinite(period) && period >= static_cast<double>(grid.size[axis]))) {
            check.reject("expected grid.period to be at least grid.size", axis, grid.size[axis]);
        }
        if (!check.good()) {
            return;
        }
        if (axis == grid.axes - 1) {
            if (modes < 1 || static_cast<double>(modes) > std::floor(period / 2) + 1) {
                check.reject(
                    "expected grid.modes of the last axis to be 1 to floor(period / 2) + 1",
                    axis,
                    modes
                );
            }
        } else if (modes < 2 || modes % 2 != 0 || static_cast<double>(modes) > period) {
            check.reject("expected grid.modes to be even, 2 to the period", axis, modes);
        }
    }
}

inline SpectralGrid convert_grid(const physcon_spectral_grid& in) {
    SpectralGrid out;
    out.axes = in.axes;
    for (int axis = 0; axis < in.axes; ++axis) {
        const int to = 3 - in.axes + axis;
        out.size[to] = in.size[axis];
        out.modes[to] = in.modes[axis];
        out.period[to] = in.period[axis];
    }
    return out;
}

}  // namespace physcon

/// The two C functions of an op that works in a workspace: how many bytes, and the call.
#define PHYSCON_DEFINE_WORKSPACE_CALL(op, T, suffix, bytes, run)                          \
    std::size_t physcon_##op##_workspace_##suffix(                                        \
        const physcon_##op##_args_##suffix* args, const physcon_executor* executor        \
    ) {                                                                                   \
        return bytes<T>(args, executor);                                                  \
    }                                                                                     \
    int physcon_##op##_##suffix(                                                          \
        const physcon_##op##_args_##suffix* args,                                         \
        const physcon_executor* executor,                                                 \
        void* workspace,                                                                  \
        std::size_t workspace_size,                                                       \
        physcon_error* error                                                              \
    ) {                                                                                   \
        return run<T>(#op "_" #suffix, args, executor, workspace, workspace_size, error); \
    }
