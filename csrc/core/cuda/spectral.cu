// SPDX-License-Identifier: Apache-2.0
// The convolution: analysis, mixing, synthesis; backwards the adjoints in reverse order.
#include "spectral_cluster_plan.cuh"
#include "spectral_entry.hpp"
#include "spectral_plan.cuh"
#include "spectral_stream.cuh"

namespace physcon::cuda {
namespace {

int64_t pieces(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

/// Threads side by side, a power of two: enough for `columns`, within limits.
int threads_across(int64_t columns, int least, int most) {
    int threads = least;
    while (threads < most && threads * thread_columns < columns) {
        threads *= 2;
    }
    return threads;
}

constexpr int most_analysis_columns = most_product_threads / AnalysisCut::row_threads;
constexpr int most_splits = 16;
constexpr int64_t blocks_wanted = 4;  // per multiprocessor
constexpr int mix_column_threads = 16, few_mix_column_threads = 4;

/// The arithmetic of an axis, real and folded or complex. The sums of a single axis are split as
/// much as it needs.
template <typename T>
Arithmetic analysis_arithmetic(const SpectralGrid& grid, int axis, bool tf32) {
    const int64_t points = axis == 2 ? Fold(grid.size[axis]).points : 2 * grid.size[axis];
    const auto n = static_cast<double>(grid.size[axis]), m = static_cast<double>(grid.modes[axis]);
    const double operations = (axis == 2 ? 2 : 8) * n * m;
    const double moved = sizeof(T) * ((axis == 2 ? 1 : 2) * n + 2 * m);
    return transform_arithmetic<T>(operations, moved, grid.axes == 1 ? 0 : points, tf32);
}
/// Threads side by side in a tile of an analysis.
int analysis_columns(int64_t modes, Arithmetic arithmetic) {
    const int least = on_matrix_units(arithmetic) ? matrix_column_threads : 2;
    return threads_across(modes, least, most_analysis_columns);
}

template <bool stored>
auto stream_kernel(Arithmetic arithmetic) {
    return arithmetic == Arithmetic::split  ? spectral_stream_kernel<Arithmetic::split, stored>
           : arithmetic == Arithmetic::tf32 ? spectral_stream_kernel<Arithmetic::tf32, stored>
                                            : spectral_stream_kernel<Arithmetic::fused, stored>;
}
template <typename T, bool folded>
auto analysis_kernel(Arithmetic arithmetic, Storage storage) {
    if constexpr (sizeof(T) == 4 && folded) {
        return storage == Storage::own ? stream_kernel<false>(arithmetic)
                                       : stream_kernel<true>(arithmetic);
    } else if constexpr (sizeof(T) == 4) {
        return arithmetic == Arithmetic::split
                   ? spectral_analysis_kernel<T, folded, Arithmetic::split>
               : arithmetic == Arithmetic::tf32
                   ? spectral_analysis_kernel<T, folded, Arithmetic::tf32>
                   : spectral_analysis_kernel<T, folded, Arithmetic::fused>;
    } else {
        return spectral_analysis_kernel<T, folded, Arithmetic::fused>;
    }
}
template <typename T, Synthesised kind, bool stored>
auto synthesis_kernel(Arithmetic arithmetic) {
    if constexpr (sizeof(T) == 4) {
        if (arithmetic == Arithmetic::split) {
            return spectral_synthesis_kernel<T, kind, Arithmetic::split, stored>;
        }
        if (arithmetic == Arithmetic::tf32) {
            return spectral_synthesis_kernel<T, kind, Arithmetic::tf32, stored>;
        }
    }
    return spectral_synthesis_kernel<T, kind, Arithmetic::fused, stored>;
}
template <typename T, Synthesised kind>
auto synthesis_kernel(Arithmetic arithmetic, Storage storage) {
    if constexpr (sizeof(T) == 4) {
        if (storage != Storage::own) {
            return synthesis_kernel<T, kind, true>(arithmetic);
        }
    }
    return synthesis_kernel<T, kind, false>(arithmetic);
}

template <typename T>
void analyse_axis(
    const Analysis<T>& a,
    int axis,
    const T* in,
    Pair<T>* out,
    int64_t lines,
    int splits,
    Queue& queue
) {
    const bool last = axis == 2;
    AnalysisCall<T> c;
    c.in = in;
    c.storage = last ? a.storage : Storage::own;
    c.basis = a.tables.basis[axis];
    c.weights = last && a.weighted ? a.tables.weights : nullptr;
    c.out = out;
    c.lines = lines;
    c.n = a.grid.size[axis];
    c.modes = a.grid.modes[axis];
    const Arithmetic arithmetic = analysis_arithmetic<T>(a.grid, axis, queue.tf32);
    const int across = analysis_columns(c.modes, arithmetic);
    c.line_tiles = pieces(lines, AnalysisCut::tile_rows);
    c.mode_tiles = pieces(c.modes, across * thread_columns);
    const int64_t points = last ? Fold(c.n).points : c.n;
    c.run = pieces(pieces(points, splits), product_steps<T>) * product_steps<T>;
    if (last && a.grid.axes == 1) {
        c.rule = a.rule[2];
        c.face_gradient = a.face_gradient[2];
    }
    queue.run(
        last ? analysis_kernel<T, true>(arithmetic, c.storage)
             : analysis_kernel<T, false>(arithmetic, c.storage),
        c.line_tiles * c.mode_tiles * splits,
        across * AnalysisCut::row_threads,
        last && sizeof(T) == 4 ? stream_bytes(across)
                               : product_bytes<AnalysisCut, T>(across, arithmetic),
        c
    );
}

/// Parts of the only axis that give every multiprocessor something to do and are no longer than the
/// arithmetic wants; no part is empty.
template <typename T>
int split_count(const SpectralGrid& grid, int64_t lines, const Queue& queue) {
    const int64_t points = Fold(grid.size[2]).points, chunks = pieces(points, product_steps<T>);
    const Arithmetic arithmetic = analysis_arithmetic<T>(grid, 2, queue.tf32);
    const int across = analysis_columns(grid.modes[2], arithmetic);
    const int64_t tiles = larger<int64_t>(
        1, pieces(lines, AnalysisCut::tile_rows) * pieces(grid.modes[2], across * thread_columns)
    );
    const int64_t wanted = larger<int64_t>(1, blocks_wanted * queue.multiprocessors / tiles);
    const int64_t least = on_matrix_units(arithmetic) ? pieces(points, longest_matrix_sum) : 1;
    const int64_t count = smaller(chunks, larger(least, smaller<int64_t>(wanted, most_splits)));
    return static_cast<int>(pieces(chunks, pieces(chunks, count)));
}

}  // namespace

template <typename T>
Partial<T> analyse(const Analysis<T>& a, Queue& queue, Arena& arena) {
    const SpectralGrid& g = a.grid;
    Partial<T> result;
    if (g.axes == 1) {
        const int splits = split_count<T>(g, a.rows, queue);
        result.stride = g.modes[2] * a.rows;
        result.count = splits;
        Pair<T>* out = splits == 1 ? a.out : arena.take<Pair<T>>(splits * result.stride);
        result.data = out;
        if (!arena.measures()) {
            analyse_axis(a, 2, a.values, out, a.rows, splits, queue);
        }
        return result;
    }
    result.data = a.out;
    if (takes_planes<T>(g, a.rows, queue)) {
        if (!arena.measures()) {
            analyse_planes(a, queue);
        }
        return result;
    }
    const T* in = a.values;
    int64_t numbers = a.rows * g.size[0] * g.size[1] * g.size[2];
    for (int axis = 2; axis >= 3 - g.axes; --axis) {
        const int64_t lines = numbers / g.size[axis];
        numbers = lines * g.modes[axis];
        Pair<T>* out = axis == 3 - g.axes ? a.out : arena.take<Pair<T>>(numbers);
        if (!arena.measures()) {
            analyse_axis(a, axis, in, out, lines, 1, queue);
        }
        in = reinterpret_cast<const T*>(out);
    }
    return result;
}

template <typename T>
void synthesise(const Synthesis<T>& s, Queue& queue, Arena& arena) {
    const SpectralGrid& g = s.grid;
    if (takes_planes<T>(g, s.rows, queue)) {
        if (!arena.measures()) {
            synthesise_planes(s, queue);
        }
        return;
    }
    const Pair<T>* in = s.spectrum;
    int64_t numbers = s.rows * mode_count(g);
    for (int axis = 3 - g.axes; axis < 3; ++axis) {
        const bool last = axis == 2;
        SynthesisCall<T> c;
        c.spectrum = in;
        c.basis = s.tables.basis[axis];
        c.weights = last && s.weighted ? s.tables.weights : nullptr;
        c.lines = numbers / g.modes[axis];
        c.n = g.size[axis];
        c.modes = g.modes[axis];
        c.line_tiles = pieces(c.lines, SynthesisCut::tile_rows);
        c.channels = s.channels;
        numbers = c.lines * c.n;
        auto* between = last ? nullptr : arena.take<Pair<T>>(numbers);
        c.out = last ? s.out : reinterpret_cast<T*>(between);
        c.storage = last ? s.storage : Storage::own;
        std::size_t edges = 0;
        if (g.axes == 1) {
            c.rule = s.rule[2];
            c.ends = s.ends;
            c.ends_length = s.ends_length;
            edges =
                static_cast<std::size_t>(2 * SynthesisCut::tile_rows * s.rule[2].width) * sizeof(T);
        }
        const auto n = static_cast<double>(c.n), m = static_cast<double>(c.modes);
        constexpr double number = sizeof(T);
        double operations = (last ? 2 : 8) * n * m, moved = number * ((last ? 1 : 2) * n + 2 * m);
        if (s.layer != nullptr) {
            const PointwiseArgs<T>& p = *s.layer;
            c.line_tiles = p.items * pieces(p.out, SynthesisCut::tile_rows);
            c.in = p.in;
            c.x = p.x;
            c.skip = p.skip;
            c.bias = p.bias;
            c.activated = p.activated;
            c.field = p.field == p.output ? nullptr : p.field;
            const auto in_channels = static_cast<double>(p.in);
            operations += 2 * in_channels * n;
            moved += number * n * in_channels / static_cast<double>(p.out);
        }
        const Arithmetic arithmetic =
            transform_arithmetic<T>(operations, moved, (last ? 1 : 2) * c.modes + c.in, queue.tf32);
        auto* kernel = s.layer != nullptr
                           ? synthesis_kernel<T, Synthesised::layer>(arithmetic, c.storage)
                       : last ? synthesis_kernel<T, Synthesised::real>(arithmetic, c.storage)
                              : synthesis_kernel<T, Synthesised::complex, false>(arithmetic);
        const int64_t points = last ? Fold(c.n).points : c.n;
        const int across = threads_across(points, matrix_column_threads, 16);
        if (!arena.measures()) {
            queue.run(
                kernel,
                c.line_tiles * pieces(points, across * thread_columns),
                across * SynthesisCut::row_threads,
                product_bytes<SynthesisCut, T>(across, arithmetic) + edges,
                c
            );
        }
        in = between;
    }
}

namespace {

/// Threads side by side in a tile of `columns` channels.
int mix_threads(int64_t columns) {
    return threads_across(columns, few_mix_column_threads, mix_column_threads);
}

}  // namespace

template <typename T>
void mix(const MixCall<T>& c, Queue& queue) {
    const int across = mix_threads(c.out);
    const Tiles tiles(c.batch, c.out, MixCut::tile_rows, across * thread_columns);
    queue.run_any(
        spectral_mix_kernel<T>,
        c.modes * tiles.count(),
        across * MixCut::row_threads,
        product_bytes<MixCut, T>(across),
        c
    );
}

template <typename T>
void mix_adjoint(const MixCall<T>& c, Queue& queue) {
    const int across = mix_threads(larger(c.in, c.out));
    const int columns = across * thread_columns;
    const Tiles pull(c.batch, c.in, PullCut::tile_rows, columns);
    const Tiles weighing(c.in, c.out, WeighCut::tile_rows, columns);
    const int64_t pulls = c.input_gradient == nullptr ? 0 : c.modes * pull.count();
    const int64_t weighs = c.weight_gradient == nullptr ? 0 : c.modes * weighing.count();
    queue.run_any(
        spectral_mix_gradient_kernel<T>,
        pulls + weighs,
        across * MixCut::row_threads,
        product_bytes<MixCut, T>(across),
        c,
        pulls,
        weighs
    );
}

namespace {

template <typename T>
const char* forward(const SpectralConvArgs<T>& a, const Device& device, Arena& arena) {
    Queue queue(device.stream, device.multiprocessors, device.tf32);
    const Tables<T> tables = find_tables(a.grid, a.tables);
    ClusterCall<T> pass = cluster_call(a, tables, a.in, a.out);
    if (a.grid.axes == 1 && takes_one_launch(device, pass)) {
        pass.x = a.x;
        pass.storage = device.storage;
        pass.spectrum = reinterpret_cast<Pair<T>*>(a.spectrum_out);
        pass.y = a.y_out;
        if (!arena.measures()) {
            run_clusters<T, false>(pass, queue);
        }
        return queue.result();
    }
    Analysis<T> analysis;
    analysis.grid = a.grid;
    analysis.rows = a.batch * a.in;
    analysis.tables = tables;
    analysis.values = a.x;
    analysis.storage = device.storage;
    analysis.out = reinterpret_cast<Pair<T>*>(a.spectrum_out);
    MixCall<T> call;
    call.modes = mode_count(a.grid);
    call.batch = a.batch;
    call.in = a.in;
    call.out = a.out;
    call.weight = reinterpret_cast<const Pair<T>*>(a.weight);
    call.input = analyse(analysis, queue, arena);
    call.input_out = call.input.count > 1 ? analysis.out : nullptr;
    call.output = arena.take<Pair<T>>(call.modes * a.batch * a.out);
    if (!arena.measures()) {
        mix(call, queue);
    }
    Synthesis<T> synthesis;
    synthesis.grid = a.grid;
    synthesis.rows = a.batch * a.out;
    synthesis.tables = tables;
    synthesis.weighted = true;
    synthesis.spectrum = call.output;
    synthesis.out = a.y_out;
    synthesis.storage = device.result;
    synthesise(synthesis, queue, arena);
    return queue.result();
}

template <typename T>
const char* backward(const SpectralConvBackwardArgs<T>& a, const Device& device, Arena& arena) {
    Queue queue(device.stream, device.multiprocessors, device.tf32);
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call;
    call.modes = mode_count(a.grid);
    call.batch = a.batch;
    call.in = a.in;
    call.out = a.out;
    call.weight = reinterpret_cast<const Pair<T>*>(a.weight);
    call.input.data = reinterpret_cast<const Pair<T>*>(a.spectrum);
    call.weight_gradient = reinterpret_cast<Pair<T>*>(a.weight_out);
    Analysis<T> analysis;
    analysis.grid = a.grid;
    analysis.rows = a.batch * a.out;
    analysis.tables = tables;
    analysis.weighted = true;
    analysis.values = a.grad;
    analysis.storage = device.storage;
    analysis.out = arena.take<Pair<T>>(call.modes * analysis.rows);
    ClusterCall<T> pass = cluster_call(a, tables, a.out, a.in);
    if (a.x_out != nullptr && a.grid.axes == 1 && takes_one_launch(device, pass)) {
        pass.x = a.grad;
        pass.storage = device.storage;
        pass.spectrum = analysis.out;
        pass.y = a.x_out;
        call.upstream.data = analysis.out;
        if (!arena.measures()) {
            run_clusters<T, true>(pass, queue);
            mix_adjoint(call, queue);
        }
        return queue.result();
    }
    call.upstream = analyse(analysis, queue, arena);
    if (a.x_out != nullptr) {
        call.input_gradient = arena.take<Pair<T>>(call.modes * a.batch * a.in);
    }
    if (!arena.measures()) {
        mix_adjoint(call, queue);
    }
    if (a.x_out != nullptr) {
        Synthesis<T> synthesis;
        synthesis.grid = a.grid;
        synthesis.rows = a.batch * a.in;
        synthesis.tables = tables;
        synthesis.spectrum = call.input_gradient;
        synthesis.out = a.x_out;
        synthesis.storage = device.result;
        synthesise(synthesis, queue, arena);
    }
    return queue.result();
}

}  // namespace

template <typename T>
std::size_t spectral_tables_size(const SpectralGrid& grid) {
    Arena arena(nullptr);
    find_tables<T>(grid, arena);
    return arena.used();
}
template <typename T>
const char* spectral_tables(const SpectralGrid& grid, void* memory, const Device& device) {
    Queue queue(device.stream, device.multiprocessors, device.tf32);
    const Tables<T> tables = find_tables(grid, static_cast<const T*>(memory));
    int64_t entries = 0;
    for (int axis = 0; axis < 3; ++axis) {
        entries = larger(entries, grid.size[axis] * grid.modes[axis]);
    }
    const int64_t blocks =
        smaller<int64_t>(pieces(entries, table_threads), blocks_wanted * device.multiprocessors);
    queue.run(spectral_tables_kernel<T>, blocks, table_threads, 0, grid, tables);
    return queue.result();
}

template <typename T>
std::size_t spectral_conv_workspace(const SpectralConvArgs<T>& args, const Device& device) {
    Arena arena(nullptr);
    forward(args, device, arena);
    return arena.used();
}
template <typename T>
const char* spectral_conv(const SpectralConvArgs<T>& args, const Device& device, void* workspace) {
    Arena arena(workspace);
    return forward(args, device, arena);
}
template <typename T>
std::size_t spectral_conv_backward_workspace(
    const SpectralConvBackwardArgs<T>& args, const Device& device
) {
    Arena arena(nullptr);
    backward(args, device, arena);
    return arena.used();
}
template <typename T>
const char* spectral_conv_backward(
    const SpectralConvBackwardArgs<T>& args, const Device& device, void* workspace
) {
    Arena arena(workspace);
    return backward(args, device, arena);
}

bool is_captured(const Device& device) noexcept {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    const auto stream = static_cast<cudaStream_t>(device.stream);
    return cudaStreamIsCapturing(stream, &status) != cudaSuccess ||
           status != cudaStreamCaptureStatusNone;
}
const char* wait_for(const Device& device) noexcept {
    const cudaError_t error = cudaStreamSynchronize(static_cast<cudaStream_t>(device.stream));
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
void* kept_memory(std::size_t bytes) noexcept {
    void* memory = nullptr;
    // Another thread may be capturing a graph, which an allocation would end otherwise.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    if (reported(cudaThreadExchangeStreamCaptureMode(&mode)) != cudaSuccess) {
        return nullptr;
    }
    const cudaError_t error = reported(cudaMalloc(&memory, bytes));
    static_cast<void>(reported(cudaThreadExchangeStreamCaptureMode(&mode)));
    return error == cudaSuccess ? memory : nullptr;
}

#define PHYSCON_INSTANTIATE(T)                                                               \
    template Partial<T> analyse(const Analysis<T>&, Queue&, Arena&);                         \
    template void synthesise(const Synthesis<T>&, Queue&, Arena&);                           \
    template void mix(const MixCall<T>&, Queue&);                                            \
    template void mix_adjoint(const MixCall<T>&, Queue&);                                    \
    template std::size_t spectral_tables_size<T>(const SpectralGrid&);                       \
    template const char* spectral_tables<T>(const SpectralGrid&, void*, const Device&);      \
    template std::size_t spectral_conv_workspace(const SpectralConvArgs<T>&, const Device&); \
    template const char* spectral_conv(const SpectralConvArgs<T>&, const Device&, void*);    \
    template std::size_t spectral_conv_backward_workspace(                                   \
        const SpectralConvBackwardArgs<T>&, const Device&                                    \
    );                                                                                       \
    template const char* spectral_conv_backward(                                             \
        const SpectralConvBackwardArgs<T>&, const Device&, void*                             \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
