// SPDX-License-Identifier: Apache-2.0
// Launches of the transforms of whole planes and volumes, and when they are the ones that run.
#include "spectral_plane.cuh"

#include "spectral_plan.cuh"

namespace physcon::cuda {
namespace {

int threads_across(int64_t columns, int least, int most) {
    int threads = least;
    while (threads < most && threads * thread_columns < columns) {
        threads *= 2;
    }
    return threads;
}

/// Threads and shared memory of a block.
struct Shape {
    int threads;
    std::size_t shared;
};
template <typename T>
Shape shape_of(const SpectralGrid& grid, int threads, std::size_t product) {
    const auto panels = static_cast<std::size_t>(panel_numbers(grid)) * sizeof(Pair<T>);
    const auto ends = static_cast<std::size_t>(end_numbers(grid, threads)) * sizeof(Complex);
    return {threads, larger(product + panels, ends)};
}
/// The arithmetic of the last axis: a line is read or written once.
template <typename T>
Arithmetic plane_arithmetic(const SpectralGrid& grid, const Queue& queue) {
    const int64_t n = grid.size[2], m = grid.modes[2];
    const auto products = 2 * static_cast<double>(n) * static_cast<double>(m);
    const double bytes = sizeof(T) * static_cast<double>(n);
    return transform_arithmetic<T>(products, bytes, larger(Fold(n).points, m), queue.tf32);
}
template <typename T>
Shape analysis_shape(const SpectralGrid& grid, PlaneInput input, Arithmetic arithmetic) {
    const int least = on_matrix_units(arithmetic) ? matrix_column_threads : 2;
    const int across =
        threads_across(grid.modes[2], least, most_product_threads / AnalysisCut::row_threads);
    return shape_of<T>(
        grid, across * AnalysisCut::row_threads, plane_product_bytes<T>(input, across, arithmetic)
    );
}
template <typename T>
Shape synthesis_shape(const SpectralGrid& grid, Arithmetic arithmetic) {
    const int across = threads_across(Fold(grid.size[2]).points, matrix_column_threads, 16);
    return shape_of<T>(
        grid, across * SynthesisCut::row_threads, product_bytes<SynthesisCut, T>(across, arithmetic)
    );
}

template <typename T>
using Kernel = void (*)(PlaneCall<T>);
template <typename T, bool volume, PlaneInput input>
Kernel<T> analysis_of(Arithmetic wanted) {
    if constexpr (sizeof(T) == 4) {
        if (wanted == Arithmetic::split) {
            return spectral_plane_analysis_kernel<T, volume, input, Arithmetic::split>;
        }
        if (wanted == Arithmetic::tf32) {
            return spectral_plane_analysis_kernel<T, volume, input, Arithmetic::tf32>;
        }
    }
    return spectral_plane_analysis_kernel<T, volume, input, Arithmetic::fused>;
}
template <typename T, bool volume>
Kernel<T> analysis_kernel(Arithmetic wanted, PlaneInput input) {
    // With face rules there are no registers for the matrix units.
    if (input == PlaneInput::faces) {
        return spectral_plane_analysis_kernel<T, volume, PlaneInput::faces, Arithmetic::fused>;
    }
    if constexpr (sizeof(T) == 4) {
        if (input == PlaneInput::stored_faces) {
            constexpr PlaneInput both = PlaneInput::stored_faces;
            return spectral_plane_analysis_kernel<T, volume, both, Arithmetic::fused>;
        }
        if (input == PlaneInput::stored) {
            return analysis_of<T, volume, PlaneInput::stored>(wanted);
        }
    }
    return analysis_of<T, volume, PlaneInput::plain>(wanted);
}
template <typename T, bool volume, bool stored>
Kernel<T> synthesis_of(Arithmetic wanted) {
    if constexpr (sizeof(T) == 4) {
        if (wanted == Arithmetic::split) {
            return spectral_plane_synthesis_kernel<T, volume, Arithmetic::split, stored>;
        }
        if (wanted == Arithmetic::tf32) {
            return spectral_plane_synthesis_kernel<T, volume, Arithmetic::tf32, stored>;
        }
    }
    return spectral_plane_synthesis_kernel<T, volume, Arithmetic::fused, stored>;
}
template <typename T, bool volume>
Kernel<T> synthesis_kernel(Arithmetic wanted, Storage storage) {
    if constexpr (sizeof(T) == 4) {
        if (storage != Storage::own) {
            return synthesis_of<T, volume, true>(wanted);
        }
    }
    return synthesis_of<T, volume, false>(wanted);
}

/// What an analysis and a synthesis have in common.
template <typename T, typename Transform>
PlaneCall<T> plane_call(const Transform& t) {
    PlaneCall<T> c;
    c.grid = t.grid;
    c.rows = t.rows;
    c.channels = t.channels;
    c.records = t.records;
    for (int axis = 0; axis < 3; ++axis) {
        c.basis[axis] = t.tables.basis[axis];
        c.exact[axis] = t.tables.exact[axis];
        c.rule[axis] = t.rule[axis];
    }
    c.weights = t.weighted ? t.tables.weights : nullptr;
    return c;
}

}  // namespace

template <typename T>
bool takes_planes(const SpectralGrid& grid, int64_t rows, const Queue& queue) {
    const Arithmetic arithmetic = plane_arithmetic<T>(grid, queue);
    std::size_t shared = synthesis_shape<T>(grid, arithmetic).shared;
    for (const PlaneInput input : {PlaneInput::plain, PlaneInput::faces}) {
        shared = larger(shared, analysis_shape<T>(grid, input, arithmetic).shared);
    }
    return grid.axes > 1 && rows >= queue.multiprocessors && grid_of(rows).y == 1 &&
           shared <= most_shared();
}

template <typename T>
void analyse_planes(const Analysis<T>& a, Queue& queue) {
    PlaneCall<T> c = plane_call<T>(a);
    c.in = a.values;
    c.storage = a.storage;
    c.spectrum_out = a.out;
    c.tickets = a.tickets;
    for (int axis = 0; axis < 3; ++axis) {
        c.face_gradient[axis] = a.face_gradient[axis];
    }
    const bool faces = any_rule(a.rule);
    const Arithmetic arithmetic = faces ? Arithmetic::fused : plane_arithmetic<T>(a.grid, queue);
    const bool stored = a.storage != Storage::own;
    const PlaneInput input = faces    ? stored ? PlaneInput::stored_faces : PlaneInput::faces
                             : stored ? PlaneInput::stored
                                      : PlaneInput::plain;
    const Kernel<T> kernel = a.grid.axes == 3 ? analysis_kernel<T, true>(arithmetic, input)
                                              : analysis_kernel<T, false>(arithmetic, input);
    const Shape shape = analysis_shape<T>(a.grid, input, arithmetic);
    queue.run(kernel, a.rows, shape.threads, shape.shared, c);
}

template <typename T>
void synthesise_planes(const Synthesis<T>& s, Queue& queue) {
    PlaneCall<T> c = plane_call<T>(s);
    c.spectrum = s.spectrum;
    c.out = s.out;
    c.storage = s.storage;
    c.wide = s.wide;
    for (int axis = 0; axis < 3; ++axis) {
        const int64_t ends = s.records.data[axis] != nullptr ? 1 : 0;
        c.reach[axis] = s.rule[axis].stencil != nullptr ? s.rule[axis].width : ends;
    }
    const Arithmetic arithmetic = plane_arithmetic<T>(s.grid, queue);
    const Kernel<T> kernel = s.grid.axes == 3 ? synthesis_kernel<T, true>(arithmetic, s.storage)
                                              : synthesis_kernel<T, false>(arithmetic, s.storage);
    const Shape shape = synthesis_shape<T>(s.grid, arithmetic);
    queue.run(kernel, s.rows, shape.threads, shape.shared, c);
}

#define PHYSCON_INSTANTIATE(T)                                                 \
    template bool takes_planes<T>(const SpectralGrid&, int64_t, const Queue&); \
    template void analyse_planes(const Analysis<T>&, Queue&);                  \
    template void synthesise_planes(const Synthesis<T>&, Queue&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
