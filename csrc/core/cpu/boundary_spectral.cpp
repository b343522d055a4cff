// SPDX-License-Identifier: Apache-2.0
// The stage between the transforms of the corrected convolution.
#include "boundary_axis.hpp"
#include "boundary_ends.hpp"
#include "faces.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

template <typename T>
std::size_t forward(
    const BoundarySpectralConvArgs<T>& a, const Executor& executor, void* workspace
) {
    Arena arena(workspace);
    const int64_t modes = mode_count(a.grid), numbers = 2 * modes * a.batch;
    const int corrected = corrected_axes(a.gains);
    T* shifted = arena.take<T>(corrected > 0 ? numbers * a.in : 0);
    T* shift = arena.take<T>(corrected > 1 ? numbers * a.in : 0);
    T* mixed = arena.take<T>(numbers * a.out);
    double* ends = arena.take<double>(ends_size(a.grid, a.batch, larger(a.in, a.out)));

    auto analysis = transform(a.grid, a.tables, a.batch * a.in, false);
    analysis.values = a.x;
    analysis.spectrum_out = a.spectrum_out;
    auto mix_args = mixing<T>(a);
    mix_args.input = a.spectrum_out;
    mix_args.output = mixed;
    auto synthesis = transform(a.grid, a.tables, a.batch * a.out, true);
    synthesis.spectrum = mixed;
    synthesis.values_out = a.y_out;
    const std::size_t stage = larger(
        larger(analyse<T>(analysis, executor, nullptr), mix<T>(mix_args, executor, nullptr)),
        synthesise<T>(synthesis, executor, nullptr)
    );
    void* scratch = arena.take<char>(static_cast<int64_t>(stage));
    if (workspace != nullptr) {
        analyse(analysis, executor, scratch);
    }
    double* shifts = a.shifts_out;
    int done = 0;
    for (int axis = 0; axis < 3; ++axis) {
        if (a.gains.data[axis] == nullptr) {
            continue;
        }
        const Correction<T> c(arena, a.grid, axis, a.batch, a.in, a.out, a.gains, shifts, executor);
        const Records& r = c.records;
        if (workspace == nullptr) {
            continue;
        }
        c.fill(executor);
        const Spectrum<const T> before = {mix_args.input, a.batch, a.in};
        if (c.on_line()) {
            c.lines.read_line(a.x, r.data, r.length(), executor);
        } else {
            c.lines.analyse(a.x, ends, executor);
            r.put(ends, 2 * a.in, 0, executor);
        }
        if (done > 0) {
            const Spectrum<const T> moved = {shift, a.batch, a.in};
            evaluate_ends<T>(moved, c.normal, c.phases, true, ends, executor);
            take_real_field(ends, c.normal, true, a.batch * 4 * a.in, executor);
            // The lines of the input plus what earlier axes put there.
            run_indices(executor, c.normal.others * a.batch, [&](int64_t, int64_t row) {
                double* to = r.data + row * r.length();
                for (int64_t i = 0; i < 4 * a.in; ++i) {
                    to[i] += ends[row * 4 * a.in + i];
                }
            });
        }
        mix(mix_args, executor, scratch);
        c.evaluate({mixed, a.batch, a.out}, true, r, r.outputs(), ends, executor);
        c.gains.apply(r, executor);
        c.radiate(r, r.shifts(), false, before, {shifted, a.batch, a.in}, ends, executor);
        ++done;
        if (done < corrected) {
            const Spectrum<const T> sum = {done > 1 ? shift : nullptr, a.batch, a.in};
            c.radiate(r, r.shifts(), false, sum, {shift, a.batch, a.in}, ends, executor);
        }
        mix_args.input = shifted;
        shifts += r.size();
    }
    if (workspace != nullptr) {
        mix(mix_args, executor, scratch);
        synthesise(synthesis, executor, scratch);
        AssignFacesArgs<T> faces;
        faces.items = a.batch;
        faces.channels = a.out;
        faces.input = faces.output = a.y_out;
        bool any = false;
        for (int axis = 0; axis < 3; ++axis) {
            faces.size[axis] = a.grid.size[axis];
            faces.rule[axis] = a.rule[axis];
            any = any || a.rule[axis].stencil != nullptr;
        }
        if (any) {
            store_faces(faces, executor);
        }
    }
    return arena.used();
}

}  // namespace

template <typename T>
std::size_t boundary_spectral_conv_workspace(
    const BoundarySpectralConvArgs<T>& args, const Executor& executor
) {
    return forward(args, executor, nullptr);
}
template <typename T>
void boundary_spectral_conv(
    const BoundarySpectralConvArgs<T>& args, const Executor& executor, void* workspace
) {
    forward(args, executor, workspace);
}

#define PHYSCON_INSTANTIATE(T)                                     \
    template std::size_t boundary_spectral_conv_workspace(         \
        const BoundarySpectralConvArgs<T>&, const Executor&        \
    );                                                             \
    template void boundary_spectral_conv(                          \
        const BoundarySpectralConvArgs<T>&, const Executor&, void* \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
