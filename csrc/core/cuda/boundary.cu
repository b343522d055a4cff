// SPDX-License-Identifier: Apache-2.0
// The corrected convolution: on a line three launches, everything between the transforms in one,
// and what a Fourier layer adds in the last.
#include "boundary_line.cuh"
#include "boundary_plan.cuh"
#include "spectral_cluster_plan.cuh"

namespace physcon::cuda {
namespace {

template <typename T, typename Args>
LineCall<T> line_call(const Args& a, const Tables<T>& tables) {
    LineCall<T> c;
    c.batch = a.batch;
    c.in = a.in;
    c.out = a.out;
    c.modes = a.grid.modes[2];
    c.n = a.grid.size[2];
    c.parts = cluster_parts(c.modes);
    c.period = a.grid.period[2];
    c.phase = tables.ends[2];
    c.weight = reinterpret_cast<const Pair<T>*>(a.weight);
    c.gain = a.gains.data[2];
    c.gain_parts = a.gains.parts[2];
    return c;
}

template <typename T>
void run_line(void (*kernel)(LineCall<T>), const LineCall<T>& c, Queue& queue) {
    const int64_t clusters = (c.batch + line_items - 1) / line_items;
    const std::size_t shared = line_bytes<T>(larger(c.in, c.out));
    run_clusters(queue, kernel, clusters, c.parts, line_threads(larger(c.in, c.out)), shared, c);
}

template <typename T, typename Args>
void set_gain(const Args& a, int64_t answers, ClusterCall<T>& pass) {
    pass.gain = a.gains.data[2];
    pass.answers = static_cast<int>(answers);
    pass.gain_parts = a.gains.parts[2];
}

template <typename T>
void forward_line(
    const BoundarySpectralConvArgs<T>& a,
    const Device& device,
    Queue& queue,
    Arena& arena,
    const PointwiseArgs<T>* layer = nullptr
) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    ClusterCall<T> pass = cluster_call(a, tables, a.in, a.out);
    set_gain(a, 2 * a.in, pass);
    pass.rule = layer == nullptr ? a.rule[2] : layer->rule[2];
    if (layer != nullptr) {
        pass.skip = layer->skip;
        pass.bias = layer->bias;
        pass.activated = layer->activated;
        pass.field = layer->field == layer->output ? nullptr : layer->field;
    }
    if (takes_one_launch(device, pass)) {
        pass.x = a.x;
        pass.storage = device.storage;
        pass.spectrum = reinterpret_cast<Pair<T>*>(a.spectrum_out);
        pass.record = a.shifts_out;
        pass.y = a.y_out;
        if (!arena.measures()) {
            run_clusters<T, false>(pass, queue);
        }
        return;
    }
    auto analysis = analysis_of(a, tables, a.in);
    analysis.values = a.x;
    analysis.storage = device.storage;
    analysis.out = reinterpret_cast<Pair<T>*>(a.spectrum_out);
    MixCall<T> call = mixing<T>(a);
    call.input = analyse(analysis, queue, arena);
    call.input_out = call.input.count > 1 ? analysis.out : nullptr;
    call.output = arena.take<Pair<T>>(call.modes * a.batch * a.out);
    if (!arena.measures() && a.gains.data[2] == nullptr) {
        mix(call, queue);
    } else if (!arena.measures()) {
        LineCall<T> c = line_call(a, tables);
        c.x = a.x;
        c.storage = device.storage;
        c.given = call.input;
        c.given_out = analysis.out;
        c.mixed = call.output;
        c.record = a.shifts_out;
        run_line(boundary_line_kernel<T>, c, queue);
    }
    auto synthesis = synthesis_of(a, tables, a.out);
    synthesis.weighted = true;
    synthesis.spectrum = call.output;
    synthesis.out = a.y_out;
    synthesis.storage = device.result;
    synthesis.layer = layer;
    const FaceRule<T>& rule = pass.rule;
    const bool fused = fuses_faces(a.grid, rule.width);
    if (fused) {
        synthesis.rule[2] = rule;
    }
    synthesise(synthesis, queue, arena);
    if (!arena.measures() && !fused && rule.stencil != nullptr) {
        store_faces(face_args(a), device, queue);
    }
}

/// The sums over the batch, of the weight and of the gain, in one launch.
template <typename T>
void gradients(const MixCall<T>& call, const LineCall<T>& c, double* gain_out, Queue& queue) {
    constexpr int across = 16, threads = across * WeighCut::row_threads;
    const Tiles tiles(c.in, c.out, WeighCut::tile_rows, across * thread_columns);
    const int64_t weighs = call.weight_gradient == nullptr ? 0 : call.modes * tiles.count();
    const int64_t numbers = gain_out == nullptr ? 0 : 4 * (c.in + c.out) * c.in;
    queue.run(
        boundary_line_gradients_kernel<T>,
        weighs + (numbers + threads - 1) / threads,
        threads,
        product_bytes<WeighCut, T>(across),
        call,
        c,
        weighs,
        gain_out
    );
}

template <typename T>
void backward_line(
    const BoundarySpectralConvBackwardArgs<T>& a, const Device& device, Queue& queue, Arena& arena
) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call = mixing<T>(a);
    const int64_t numbers = call.modes * a.batch;
    auto analysis = analysis_of(a, tables, a.out);
    analysis.weighted = true;
    analysis.values = a.grad;
    analysis.storage = device.storage;
    analysis.out = arena.take<Pair<T>>(numbers * a.out);
    analysis.rule[2] = a.rule[2];
    analysis.face_gradient[2] = a.face_gradient[2].values;
    ClusterCall<T> pass = cluster_call(a, tables, a.out, a.in);
    set_gain(a, 2 * (a.in + a.out), pass);
    pass.rule = a.rule[2];
    const bool at_once = a.x_out != nullptr && takes_one_launch(device, pass);
    pass.face_gradient = analysis.face_gradient[2];
    pass.x = a.grad;
    pass.storage = device.storage;
    pass.spectrum = analysis.out;
    pass.y = a.x_out;
    call.upstream.data = analysis.out;
    if (!at_once) {
        call.upstream = analyse(analysis, queue, arena);
    }
    const bool pulls = a.x_out != nullptr && !at_once;
    call.input.data = reinterpret_cast<const Pair<T>*>(a.spectrum);
    call.input_gradient = arena.take<Pair<T>>(pulls ? numbers * a.in : 0);
    call.weight_gradient = reinterpret_cast<Pair<T>*>(a.weight_out);
    auto synthesis = synthesis_of(a, tables, a.in);
    if (a.gains.data[2] == nullptr) {
        if (!pulls) {
            call.input_gradient = nullptr;
        }
        if (!arena.measures()) {
            if (at_once) {
                run_clusters<T, true>(pass, queue);
            }
            mix_adjoint(call, queue);
        }
    } else {
        LineCall<T> c = line_call(a, tables);
        c.given = call.upstream;
        c.given_out = analysis.out;
        c.mixed = a.x_out == nullptr ? arena.take<Pair<T>>(numbers * a.in) : call.input_gradient;
        c.corrected = pass.corrected = arena.take<Pair<T>>(numbers * a.out);
        c.record = pass.record = arena.take<double>(a.batch * c.length());
        c.seen = pass.seen = a.shifts;
        if (a.weight_out != nullptr) {
            c.shift = pass.shift = arena.take<Pair<T>>(numbers * a.in);
        }
        call.upstream = {c.corrected, 0, 1};
        call.input_gradient = nullptr;
        call.more_rows = a.batch;
        call.more_input = c.shift;
        call.more_upstream = analysis.out;
        if (!arena.measures()) {
            if (at_once) {
                run_clusters<T, true>(pass, queue);
            } else {
                run_line(boundary_line_adjoint_kernel<T>, c, queue);
            }
            gradients(call, c, a.gain_out[2], queue);
        }
        synthesis.ends = c.record;
        synthesis.ends_length = c.length();
        call.input_gradient = c.mixed;
    }
    if (pulls) {
        synthesis.spectrum = call.input_gradient;
        synthesis.out = a.x_out;
        synthesis.storage = device.result;
        synthesise(synthesis, queue, arena);
    }
    if (!arena.measures()) {
        sum_face_gradients(face_args(a), queue);
    }
}

template <typename T>
const char* forward(const BoundarySpectralConvArgs<T>& a, const Device& device, Arena& arena) {
    Queue queue(device.stream, device.multiprocessors, device.tf32);
    if (a.grid.axes == 1) {
        forward_line(a, device, queue, arena);
    } else {
        forward_grid(a, device, queue, arena);
    }
    return queue.result();
}
template <typename T>
const char* backward(
    const BoundarySpectralConvBackwardArgs<T>& a, const Device& device, Arena& arena
) {
    Queue queue(device.stream, device.multiprocessors, device.tf32);
    if (a.grid.axes == 1) {
        backward_line(a, device, queue, arena);
    } else {
        backward_grid(a, device, queue, arena);
    }
    return queue.result();
}

}  // namespace

template <typename T>
std::size_t boundary_spectral_conv_workspace(
    const BoundarySpectralConvArgs<T>& args, const Device& device
) {
    Arena arena(nullptr);
    forward(args, device, arena);
    return arena.used();
}
template <typename T>
const char* boundary_spectral_conv(
    const BoundarySpectralConvArgs<T>& args, const Device& device, void* workspace
) {
    Arena arena(workspace);
    return forward(args, device, arena);
}
template <typename T>
std::size_t boundary_spectral_conv_backward_workspace(
    const BoundarySpectralConvBackwardArgs<T>& args, const Device& device
) {
    Arena arena(nullptr);
    backward(args, device, arena);
    return arena.used();
}
template <typename T>
const char* boundary_spectral_conv_backward(
    const BoundarySpectralConvBackwardArgs<T>& args, const Device& device, void* workspace
) {
    Arena arena(workspace);
    return backward(args, device, arena);
}

bool fuses_layer(const SpectralGrid& grid, int64_t width) {
    return fuses_faces(grid, width);
}
template <typename T>
std::size_t fno_line_workspace(const FnoLineArgs<T>& args, const Device& device) {
    Arena arena(nullptr);
    Queue queue(device.stream, device.multiprocessors, device.tf32);
    forward_line(args.convolution, device, queue, arena, &args.layer);
    return arena.used();
}
template <typename T>
const char* fno_line(const FnoLineArgs<T>& args, const Device& device, void* workspace) {
    Arena arena(workspace);
    Queue queue(device.stream, device.multiprocessors, device.tf32);
    forward_line(args.convolution, device, queue, arena, &args.layer);
    return queue.result();
}

#define PHYSCON_INSTANTIATE(T)                                                     \
    template std::size_t fno_line_workspace(const FnoLineArgs<T>&, const Device&); \
    template const char* fno_line(const FnoLineArgs<T>&, const Device&, void*);    \
    template std::size_t boundary_spectral_conv_workspace(                         \
        const BoundarySpectralConvArgs<T>&, const Device&                          \
    );                                                                             \
    template const char* boundary_spectral_conv(                                   \
        const BoundarySpectralConvArgs<T>&, const Device&, void*                   \
    );                                                                             \
    template std::size_t boundary_spectral_conv_backward_workspace(                \
        const BoundarySpectralConvBackwardArgs<T>&, const Device&                  \
    );                                                                             \
    template const char* boundary_spectral_conv_backward(                          \
        const BoundarySpectralConvBackwardArgs<T>&, const Device&, void*           \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
