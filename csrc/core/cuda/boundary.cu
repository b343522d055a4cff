// SPDX-License-Identifier: Apache-2.0
// The corrected convolution: on a line three launches, everything between the transforms in one,
// and what a Fourier layer adds in the last; on grids axis by axis.
#include "boundary_grid.cuh"
#include "boundary_line.cuh"
#include "faces_plan.cuh"
#include "spectral_entry.hpp"
#include "spectral_plan.cuh"

namespace physcon::cuda {
namespace {

template <typename T, typename Args>
MixCall<T> mixing(const Args& a) {
    MixCall<T> call;
    call.modes = mode_count(a.grid);
    call.batch = a.batch;
    call.in = a.in;
    call.out = a.out;
    call.weight = reinterpret_cast<const Pair<T>*>(a.weight);
    return call;
}

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
Analysis<T> analysis_of(const Args& a, const Tables<T>& tables, int64_t channels) {
    Analysis<T> analysis;
    analysis.grid = a.grid;
    analysis.rows = a.batch * channels;
    analysis.tables = tables;
    return analysis;
}
template <typename T, typename Args>
Synthesis<T> synthesis_of(const Args& a, const Tables<T>& tables, int64_t channels) {
    Synthesis<T> synthesis;
    synthesis.grid = a.grid;
    synthesis.rows = a.batch * channels;
    synthesis.channels = channels;
    synthesis.tables = tables;
    return synthesis;
}

template <typename T>
bool any_rule(const FaceRule<T> (&rule)[3]) {
    return rule[0].stencil != nullptr || rule[1].stencil != nullptr || rule[2].stencil != nullptr;
}

template <typename T>
AssignFacesArgs<T> face_args(const BoundarySpectralConvArgs<T>& a) {
    AssignFacesArgs<T> f;
    f.items = a.batch;
    f.channels = a.out;
    f.input = f.output = a.y_out;
    for (int axis = 0; axis < 3; ++axis) {
        f.size[axis] = a.grid.size[axis];
        f.rule[axis] = a.rule[axis];
    }
    return f;
}
template <typename T>
AssignFacesBackwardArgs<T> face_args(const BoundarySpectralConvBackwardArgs<T>& a) {
    AssignFacesBackwardArgs<T> f;
    f.items = a.batch;
    f.channels = a.out;
    f.grad = a.grad;
    for (int axis = 0; axis < 3; ++axis) {
        f.size[axis] = a.grid.size[axis];
        f.rule[axis] = a.rule[axis];
        f.gradient[axis] = a.face_gradient[axis];
    }
    return f;
}

// ---- a line
// --------------------------------------------------------------------------------------

template <typename T>
void forward_line(
    const BoundarySpectralConvArgs<T>& a,
    Queue& queue,
    Arena& arena,
    const PointwiseArgs<T>* layer = nullptr
) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    auto analysis = analysis_of(a, tables, a.in);
    analysis.values = a.x;
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
    synthesis.layer = layer;
    const FaceRule<T>& rule = layer == nullptr ? a.rule[2] : layer->rule[2];
    const bool fused = fuses_faces(a.grid, rule.width);
    if (fused) {
        synthesis.rule = rule;
    }
    synthesise(synthesis, queue, arena);
    if (!arena.measures() && !fused && rule.stencil != nullptr) {
        store_faces(face_args(a), queue);
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
void backward_line(const BoundarySpectralConvBackwardArgs<T>& a, Queue& queue, Arena& arena) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call = mixing<T>(a);
    const int64_t numbers = call.modes * a.batch;
    auto analysis = analysis_of(a, tables, a.out);
    analysis.weighted = true;
    analysis.values = a.grad;
    analysis.out = arena.take<Pair<T>>(numbers * a.out);
    analysis.rule = a.rule[2];
    analysis.face_gradient = a.face_gradient[2].values;
    call.upstream = analyse(analysis, queue, arena);
    call.input.data = reinterpret_cast<const Pair<T>*>(a.spectrum);
    call.input_gradient = arena.take<Pair<T>>(a.x_out == nullptr ? 0 : numbers * a.in);
    call.weight_gradient = reinterpret_cast<Pair<T>*>(a.weight_out);
    auto synthesis = synthesis_of(a, tables, a.in);
    if (a.gains.data[2] == nullptr) {
        if (a.x_out == nullptr) {
            call.input_gradient = nullptr;
        }
        if (!arena.measures()) {
            mix_adjoint(call, queue);
        }
    } else {
        LineCall<T> c = line_call(a, tables);
        c.given = call.upstream;
        c.given_out = analysis.out;
        c.mixed = a.x_out == nullptr ? arena.take<Pair<T>>(numbers * a.in) : call.input_gradient;
        c.corrected = arena.take<Pair<T>>(numbers * a.out);
        c.record = arena.take<double>(a.batch * c.length());
        c.seen = a.shifts;
        if (a.weight_out != nullptr) {
            c.shift = arena.take<Pair<T>>(numbers * a.in);
        }
        call.upstream = {c.corrected, 0, 1};
        call.input_gradient = nullptr;
        call.more_rows = a.batch;
        call.more_input = c.shift;
        call.more_upstream = analysis.out;
        if (!arena.measures()) {
            run_line(boundary_line_adjoint_kernel<T>, c, queue);
            gradients(call, c, a.gain_out[2], queue);
        }
        synthesis.ends = c.record;
        synthesis.ends_length = c.length();
        call.input_gradient = c.mixed;
    }
    if (a.x_out != nullptr) {
        synthesis.spectrum = call.input_gradient;
        synthesis.out = a.x_out;
        synthesise(synthesis, queue, arena);
    }
    if (!arena.measures()) {
        sum_face_gradients(face_args(a), queue);
    }
}

// ---- grids
// ---------------------------------------------------------------------------------------

int64_t grid_blocks(int64_t count) {
    return smaller<int64_t>((count + grid_threads - 1) / grid_threads, int64_t{1} << 16);
}

/// A corrected axis: its place, its records, its end lines.
template <typename T>
struct Correction {
    const SpectralGrid& grid;
    const Tables<T>& tables;
    int axis;
    Normal normal;
    Records records;
    GainMatrix gain;
    Queue& queue;

    template <typename Args>
    Correction(const Args& a, const Tables<T>& t, int axis_in, Complex* data, Queue& q)
        : grid(a.grid),
          tables(t),
          axis(axis_in),
          normal(a.grid, axis_in),
          records{data, a.batch, a.in, a.out},
          gain{a.gains.data[axis_in], a.gains.parts[axis_in]},
          queue(q) {}
    int64_t size() const {
        return normal.others * records.batch * records.length();
    }
    EndCall call(bool weighted, bool symmetric, int64_t slot, bool adds = false) const {
        return {normal, tables.ends[axis], weighted, symmetric, adds, slot};
    }
    void evaluate(const EndCall& e, const Spectrum<T>& spectrum, const Records& to) const {
        const int64_t count = normal.others * spectrum.batch * spectrum.channels;
        queue.run(
            boundary_evaluate_kernel<T>, grid_blocks(count), grid_threads, 0, e, spectrum, to
        );
    }
    void radiate(
        const EndCall& e, const Records& from, const Spectrum<T>& base, const Spectrum<T>& out
    ) const {
        const int64_t count = mode_count(grid) * out.batch * out.channels;
        queue.run(
            boundary_radiate_kernel<T>, grid_blocks(count), grid_threads, 0, e, from, base, out
        );
    }
    template <bool adjoint>
    void apply(const Records& r) const {
        const int64_t count = normal.others * r.batch * (adjoint ? r.seen() : 2 * r.in);
        queue.run(
            boundary_gain_kernel<adjoint>,
            grid_blocks(count),
            grid_threads,
            0,
            gain,
            r,
            normal.others
        );
    }

    /// Numbers of a buffer for end lines between their transforms.
    int64_t buffer() const {
        const int64_t first = larger(normal.first.size, normal.first.modes);
        const int64_t second = larger(normal.second.size, normal.second.modes);
        return first * second * records.batch * 2 * records.in;
    }
    /// The a-slots of the records from the field, or (`adjoint`) added to the field from them.
    template <bool adjoint, typename Field>
    void lines(Field* field, Complex* const (&buffers)[2]) const {
        const EndLines ends = {FaceAxis(records.batch, records.in, grid.size, axis)};
        const int64_t run = 2 * records.in, lanes = records.batch * run;
        const int first = axis == 0 ? 1 : 0, second = axis == 2 ? 1 : 2;
        // The second axis of the others, then the first; one that the grid does not have is left
        // out. With two stages the first writes to the other buffer.
        LineTransform stages[2];
        int count = 0;
        if (second >= 3 - grid.axes) {
            stages[count++] = {
                tables.exact[second],
                grid.size[second],
                grid.modes[second],
                grid.size[first],
                lanes,
                run,
                run,
                run
            };
        }
        if (first >= 3 - grid.axes) {
            stages[count++] = {
                tables.exact[first],
                grid.size[first],
                grid.modes[first],
                1,
                grid.modes[second] * lanes,
                run,
                run,
                run
            };
        }
        const int64_t length = records.length();
        if constexpr (!adjoint) {
            stages[count - 1].out_row = length;
            queue.run(
                boundary_lines_kernel<T>,
                grid_blocks(ends.count()),
                grid_threads,
                0,
                ends,
                field,
                buffers[0]
            );
            for (int i = 0; i < count; ++i) {
                const LineTransform& t = stages[i];
                queue.run(
                    boundary_line_transform_kernel<true>,
                    grid_blocks(t.blocks * t.modes * t.lanes),
                    grid_threads,
                    0,
                    t,
                    static_cast<const Complex*>(buffers[i]),
                    i + 1 == count ? records.data : buffers[i + 1]
                );
            }
        } else {
            stages[count - 1].in_row = length;
            for (int i = count - 1; i >= 0; --i) {
                const LineTransform& t = stages[i];
                queue.run(
                    boundary_line_transform_kernel<false>,
                    grid_blocks(t.blocks * t.points * t.lanes),
                    grid_threads,
                    0,
                    t,
                    static_cast<const Complex*>(i + 1 == count ? records.data : buffers[i + 1]),
                    buffers[i]
                );
            }
            queue.run(
                boundary_lines_pull_kernel<T>,
                grid_blocks(ends.count()),
                grid_threads,
                0,
                ends,
                static_cast<const Complex*>(buffers[0]),
                field
            );
        }
    }
};

/// Two buffers for the end lines of any corrected axis.
template <typename T, typename Args>
void take_buffers(const Args& a, const Tables<T>& t, Queue& queue, Arena& arena, Complex* (&b)[2]) {
    int64_t most = 0;
    for (int axis = 0; axis < 3; ++axis) {
        if (a.gains.data[axis] != nullptr) {
            most = larger(most, Correction<T>(a, t, axis, nullptr, queue).buffer());
        }
    }
    for (Complex*& buffer : b) {
        buffer = arena.take<Complex>(most);
    }
}

template <typename T>
void forward_grid(const BoundarySpectralConvArgs<T>& a, Queue& queue, Arena& arena) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call = mixing<T>(a);
    const int64_t numbers = call.modes * a.batch;
    auto* spectrum = reinterpret_cast<Pair<T>*>(a.spectrum_out);
    auto* mixed = arena.take<Pair<T>>(numbers * a.out);
    auto* shifted = arena.take<Pair<T>>(numbers * a.in);
    auto* shift = arena.take<Pair<T>>(numbers * a.in);
    Complex* buffers[2];
    take_buffers(a, tables, queue, arena, buffers);
    auto analysis = analysis_of(a, tables, a.in);
    analysis.values = a.x;
    analysis.out = spectrum;
    analyse(analysis, queue, arena);
    call.input.data = spectrum;
    call.output = mixed;
    auto* data = reinterpret_cast<Complex*>(a.shifts_out);
    const Spectrum<T> sources = {shift, a.batch, a.in};
    bool earlier = false;
    for (int axis = 0; axis < 3 && !arena.measures(); ++axis) {
        if (a.gains.data[axis] == nullptr) {
            continue;
        }
        const Correction<T> c(a, tables, axis, data, queue);
        data += c.size();
        const int64_t seen = c.records.seen();
        c.template lines<false>(a.x, buffers);
        if (earlier) {
            c.evaluate(c.call(true, true, 0, true), sources, c.records);
        }
        mix(call, queue);
        c.evaluate(c.call(true, true, 2 * a.in), {mixed, a.batch, a.out}, c.records);
        c.template apply<false>(c.records);
        const Spectrum<T> before = {const_cast<Pair<T>*>(call.input.data), a.batch, a.in};
        c.radiate(c.call(false, false, seen), c.records, before, {shifted, a.batch, a.in});
        c.radiate(
            c.call(false, false, seen), c.records, earlier ? sources : Spectrum<T>{}, sources
        );
        call.input.data = shifted;
        earlier = true;
    }
    if (!arena.measures()) {
        mix(call, queue);
    }
    auto synthesis = synthesis_of(a, tables, a.out);
    synthesis.weighted = true;
    synthesis.spectrum = mixed;
    synthesis.out = a.y_out;
    synthesise(synthesis, queue, arena);
    if (!arena.measures() && any_rule(a.rule)) {
        store_faces(face_args(a), queue);
    }
}

/// With the mixings t = 1 .. n + 1 of n corrected axes, the gradients g_t of their outputs and the
/// shifts U_j of the axes,
///
///   dL/dW = X^H (g_1 + .. + g_{n+1}) + sum_j U_j^H (g_{j+1} + .. + g_{n+1}),
///
/// so going back over the axes needs one running sum of the g_t.
template <typename T>
void backward_grid(const BoundarySpectralConvBackwardArgs<T>& a, Queue& queue, Arena& arena) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call = mixing<T>(a);
    const int64_t numbers = call.modes * a.batch;
    int64_t stack = 0, records = 0;
    for (int axis = 0; axis < 3; ++axis) {
        if (a.gains.data[axis] != nullptr) {
            stack += 1;
            records += Correction<T>(a, tables, axis, nullptr, queue).size();
        }
    }
    const bool faces = any_rule(a.rule);
    auto* interior = arena.take<T>(faces ? a.batch * a.out * point_count(a.grid) : 0);
    auto* upstream = arena.take<Pair<T>>(numbers * a.out);
    auto* pulled = arena.take<Pair<T>>(numbers * a.in);
    auto* through = arena.take<Pair<T>>(stack > 1 ? numbers * a.in : 0);
    auto* left = arena.take<Pair<T>>(stack * numbers * a.in);
    auto* right = arena.take<Pair<T>>(stack * numbers * a.out);
    auto* grads = arena.take<Complex>(records);
    Complex* buffers[2];
    take_buffers(a, tables, queue, arena, buffers);
    if (faces && !arena.measures()) {
        AssignFacesBackwardArgs<T> f = face_args(a);
        f.output = interior;
        pull_back_faces(f, queue);
    }
    auto analysis = analysis_of(a, tables, a.out);
    analysis.weighted = true;
    analysis.values = faces ? interior : a.grad;
    analysis.out = upstream;
    analyse(analysis, queue, arena);
    call.input.data = reinterpret_cast<const Pair<T>*>(a.spectrum);
    call.upstream.data = upstream;
    call.input_gradient = pulled;

    const auto* seen_end = reinterpret_cast<const Complex*>(a.shifts) + records;
    Complex* grads_end = grads + records;
    const Spectrum<T> flow = {upstream, a.batch, a.out}, back = {through, a.batch, a.in};
    int64_t slot = stack;
    for (int axis = 2; axis >= 0 && !arena.measures(); --axis) {
        if (a.gains.data[axis] == nullptr) {
            continue;
        }
        Correction<T> c(a, tables, axis, nullptr, queue);
        --slot;
        seen_end -= c.size();
        grads_end -= c.size();
        Records grad = c.records, seen = c.records;
        grad.data = grads_end;
        seen.data = const_cast<Complex*>(seen_end);  // read only
        const int64_t moved = seen.seen();
        const bool last = slot == stack - 1;
        if (a.weight_out != nullptr) {
            const Spectrum<T> shift = {left, a.batch, a.in, stack, slot};
            c.radiate(c.call(false, false, moved), seen, Spectrum<T>{}, shift);
            queue.run(
                boundary_copy_kernel<T>,
                grid_blocks(numbers * a.out),
                grid_threads,
                0,
                call.modes,
                flow,
                Spectrum<T>{right, a.batch, a.out, stack, slot}
            );
        }
        mix_adjoint(call, queue);
        c.evaluate(c.call(false, false, moved), {pulled, a.batch, a.in}, grad);
        if (!last) {  // later axes saw the shifts of this one in their end lines
            c.evaluate(c.call(false, false, moved, true), back, grad);
        }
        if (a.gain_out[axis] != nullptr) {
            queue.run(
                boundary_gain_gradient_kernel<int64_t>,
                grid_blocks(c.normal.others * seen.seen() * 2 * a.in),
                grid_threads,
                0,
                seen,
                grad,
                c.normal.others,
                c.gain.parts,
                a.gain_out[axis]
            );
        }
        c.template apply<true>(grad);
        c.radiate(c.call(true, true, 2 * a.in), grad, flow, flow);
        if (slot > 0) {
            c.radiate(c.call(true, true, 0), grad, last ? Spectrum<T>{} : back, back);
        }
    }
    if (!arena.measures()) {
        call.weight_gradient = reinterpret_cast<Pair<T>*>(a.weight_out);
        call.input_gradient = a.x_out == nullptr ? nullptr : pulled;
        call.more_rows = stack * a.batch;
        call.more_input = left;
        call.more_upstream = right;
        mix_adjoint(call, queue);
    }
    if (a.x_out == nullptr) {
        return;
    }
    auto synthesis = synthesis_of(a, tables, a.in);
    synthesis.spectrum = pulled;
    synthesis.out = a.x_out;
    synthesise(synthesis, queue, arena);
    Complex* data = grads;
    for (int axis = 0; axis < 3 && !arena.measures(); ++axis) {
        if (a.gains.data[axis] != nullptr) {
            const Correction<T> c(a, tables, axis, data, queue);
            c.template lines<true>(a.x_out, buffers);
            data += c.size();
        }
    }
}

template <typename T>
const char* forward(const BoundarySpectralConvArgs<T>& a, const Device& device, Arena& arena) {
    Queue queue(device.stream, device.multiprocessors);
    if (a.grid.axes == 1) {
        forward_line(a, queue, arena);
    } else {
        forward_grid(a, queue, arena);
    }
    return queue.result();
}
template <typename T>
const char* backward(
    const BoundarySpectralConvBackwardArgs<T>& a, const Device& device, Arena& arena
) {
    Queue queue(device.stream, device.multiprocessors);
    if (a.grid.axes == 1) {
        backward_line(a, queue, arena);
    } else {
        backward_grid(a, queue, arena);
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
    Queue queue(device.stream, device.multiprocessors);
    forward_line(args.convolution, queue, arena, &args.layer);
    return arena.used();
}
template <typename T>
const char* fno_line(const FnoLineArgs<T>& args, const Device& device, void* workspace) {
    Arena arena(workspace);
    Queue queue(device.stream, device.multiprocessors);
    forward_line(args.convolution, queue, arena, &args.layer);
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
