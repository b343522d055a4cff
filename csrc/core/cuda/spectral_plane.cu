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
template <typename T>
Shape analysis_shape(const SpectralGrid& grid) {
    const int across =
        threads_across(grid.modes[2], 2, most_product_threads / AnalysisCut::row_threads);
    return shape_of<T>(
        grid, across * AnalysisCut::row_threads, product_bytes<AnalysisCut, T>(across)
    );
}
template <typename T>
Shape synthesis_shape(const SpectralGrid& grid) {
    const int across = threads_across(Fold(grid.size[2]).points, 8, 16);
    return shape_of<T>(
        grid, across * SynthesisCut::row_threads, product_bytes<SynthesisCut, T>(across)
    );
}

/// Shared memory that a block of the current device can have.
std::size_t most_shared() {
    int device = 0, bytes = 0;
    const bool known =
        cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ==
            cudaSuccess;
    return known ? static_cast<std::size_t>(bytes) : 0;
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
    return grid.axes > 1 && rows >= queue.multiprocessors && grid_of(rows).y == 1 &&
           larger(analysis_shape<T>(grid).shared, synthesis_shape<T>(grid).shared) <= most_shared();
}

template <typename T>
void analyse_planes(const Analysis<T>& a, Queue& queue) {
    PlaneCall<T> c = plane_call<T>(a);
    c.in = a.values;
    c.spectrum_out = a.out;
    for (int axis = 0; axis < 3; ++axis) {
        c.face_gradient[axis] = a.face_gradient[axis];
    }
    auto* kernel = spectral_plane_analysis_kernel<T, false, false>;
    if (any_rule(a.rule)) {
        kernel = a.grid.axes == 3 ? spectral_plane_analysis_kernel<T, true, true>
                                  : spectral_plane_analysis_kernel<T, false, true>;
    } else if (a.grid.axes == 3) {
        kernel = spectral_plane_analysis_kernel<T, true, false>;
    }
    const Shape shape = analysis_shape<T>(a.grid);
    queue.run(kernel, a.rows, shape.threads, shape.shared, c);
}

template <typename T>
void synthesise_planes(const Synthesis<T>& s, Queue& queue) {
    PlaneCall<T> c = plane_call<T>(s);
    c.spectrum = s.spectrum;
    c.out = s.out;
    const Shape shape = synthesis_shape<T>(s.grid);
    queue.run(
        s.grid.axes == 3 ? spectral_plane_synthesis_kernel<T, true>
                         : spectral_plane_synthesis_kernel<T, false>,
        s.rows,
        shape.threads,
        shape.shared,
        c
    );
}

#define PHYSCON_INSTANTIATE(T)                                                 \
    template bool takes_planes<T>(const SpectralGrid&, int64_t, const Queue&); \
    template void analyse_planes(const Analysis<T>&, Queue&);                  \
    template void synthesise_planes(const Synthesis<T>&, Queue&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
