// SPDX-License-Identifier: Apache-2.0
// The corrected convolution on grids of two and three axes.
#include "boundary_grid.cuh"
#include "boundary_orbit.cuh"
#include "boundary_plan.cuh"

namespace physcon::cuda {
namespace {

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
    /// Whether one launch does all of it: where its clusters give half of the device something to
    /// do.
    bool takes_orbits() const {
        return 2 * normal.others * parts() >= queue.multiprocessors;
    }
    int parts() const {
        return cluster_parts(normal.own.modes);
    }
    OrbitCall<T> orbit(const MixCall<T>& mix) const {
        OrbitCall<T> c = {mix, normal, tables.ends[axis], records, gain};
        c.parts = parts();
        return c;
    }
    void run_orbits(void (*kernel)(OrbitCall<T>), const OrbitCall<T>& c) const {
        int across = 4;
        while (across < most_orbit_across &&
               across * thread_columns < larger(c.mix.in, c.mix.out)) {
            across *= 2;
        }
        const int threads = across * OrbitMixCut::row_threads;
        const std::size_t shared = product_bytes<OrbitMixCut, T>(across);
        run_clusters(queue, kernel, normal.others, c.parts, threads, shared, c);
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

/// Two buffers for the end lines of any corrected axis; none where whole planes do without.
template <typename T, typename Args>
void take_buffers(
    const Args& a, const Tables<T>& t, bool whole, Queue& queue, Arena& arena, Complex* (&b)[2]
) {
    int64_t most = 0;
    for (int axis = 0; axis < 3 && !whole; ++axis) {
        if (a.gains.data[axis] != nullptr) {
            most = larger(most, Correction<T>(a, t, axis, nullptr, queue).buffer());
        }
    }
    for (Complex*& buffer : b) {
        buffer = arena.take<Complex>(most);
    }
}

/// Where the records of the corrected axes lie, one after the other.
template <typename T, typename Args>
EndRecords records_of(const Args& a, const Tables<T>& t, Complex* data, Queue& queue) {
    EndRecords records;
    for (int axis = 0; axis < 3; ++axis) {
        if (a.gains.data[axis] != nullptr) {
            const Correction<T> c(a, t, axis, nullptr, queue);
            records.data[axis] = data;
            records.length = c.records.length();
            data += c.size();
        }
    }
    return records;
}

/// The sums over the batch, of the weight and of the gains, in one launch.
template <typename T>
void gradients(const MixCall<T>& call, const GainGradients& gains, Queue& queue) {
    constexpr int across = 16, threads = across * WeighCut::row_threads;
    const Tiles tiles(call.in, call.out, WeighCut::tile_rows, across * thread_columns);
    const int64_t weighs = call.weight_gradient == nullptr ? 0 : call.modes * tiles.count();
    int64_t numbers = 0;
    for (const GainGradient& g : gains.axis) {
        numbers += g.count;
    }
    queue.run_any(
        boundary_orbit_gradients_kernel<T>,
        weighs + (numbers + threads - 1) / threads,
        threads,
        product_bytes<WeighCut, T>(across),
        call,
        weighs,
        gains
    );
}

}  // namespace

template <typename T>
void forward_grid(const BoundarySpectralConvArgs<T>& a, Queue& queue, Arena& arena) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call = mixing<T>(a);
    const int64_t numbers = call.modes * a.batch;
    auto* spectrum = reinterpret_cast<Pair<T>*>(a.spectrum_out);
    auto* mixed = arena.take<Pair<T>>(numbers * a.out);
    auto* shifted = arena.take<Pair<T>>(numbers * a.in);
    auto* shift = arena.take<Pair<T>>(numbers * a.in);
    const bool whole = takes_planes<T>(a.grid, a.batch * a.in, queue);
    Complex* buffers[2];
    take_buffers(a, tables, whole, queue, arena, buffers);
    auto* data = reinterpret_cast<Complex*>(a.shifts_out);
    auto analysis = analysis_of(a, tables, a.in);
    analysis.values = a.x;
    analysis.out = spectrum;
    if (whole) {
        analysis.records = records_of(a, tables, data, queue);
    }
    analyse(analysis, queue, arena);
    call.input.data = spectrum;
    call.output = mixed;
    const Spectrum<T> sources = {shift, a.batch, a.in}, products = {mixed, a.batch, a.out};
    int left = 0;
    for (const double* gain : a.gains.data) {
        left += gain != nullptr ? 1 : 0;
    }
    bool earlier = false, finished = false;
    for (int axis = 0; axis < 3 && !arena.measures(); ++axis) {
        if (a.gains.data[axis] == nullptr) {
            continue;
        }
        const Correction<T> c(a, tables, axis, data, queue);
        data += c.size();
        if (!whole) {
            c.template lines<false>(a.x, buffers);
        }
        const bool last = --left == 0;
        const Spectrum<T> before = {const_cast<Pair<T>*>(call.input.data), a.batch, a.in};
        const Spectrum<T> after = {shifted, a.batch, a.in};
        call.input.data = shifted;
        if (c.takes_orbits()) {
            OrbitCall<T> orbit = c.orbit(call);
            orbit.first = !earlier;
            orbit.last = finished = last;
            orbit.input = before;
            orbit.mixed = products;
            orbit.shifted = after;
            orbit.shift = sources;
            c.run_orbits(boundary_orbit_kernel<T>, orbit);
        } else {
            const int64_t seen = c.records.seen();
            if (earlier) {
                c.evaluate(c.call(true, true, 0, true), sources, c.records);
            }
            MixCall<T> first = call;
            first.input.data = before.data;
            mix(first, queue);
            c.evaluate(c.call(true, true, 2 * a.in), products, c.records);
            c.template apply<false>(c.records);
            c.radiate(c.call(false, false, seen), c.records, before, after);
            c.radiate(
                c.call(false, false, seen), c.records, earlier ? sources : Spectrum<T>{}, sources
            );
        }
        earlier = true;
    }
    if (!arena.measures() && !finished) {
        mix(call, queue);
    }
    auto synthesis = synthesis_of(a, tables, a.out);
    synthesis.weighted = true;
    synthesis.spectrum = mixed;
    synthesis.out = a.y_out;
    const bool stores_faces = takes_planes<T>(a.grid, a.batch * a.out, queue);
    for (int axis = 0; axis < 3 && stores_faces; ++axis) {
        synthesis.rule[axis] = a.rule[axis];
    }
    synthesise(synthesis, queue, arena);
    if (!arena.measures() && any_rule(a.rule) && !stores_faces) {
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
    const bool whole = takes_planes<T>(a.grid, a.batch * a.out, queue);
    const bool ends_whole = takes_planes<T>(a.grid, a.batch * a.in, queue);
    const bool faces = any_rule(a.rule) && !whole;  // in a pass of their own
    auto* interior = arena.take<T>(faces ? a.batch * a.out * point_count(a.grid) : 0);
    auto* upstream = arena.take<Pair<T>>(numbers * a.out);
    auto* pulled = arena.take<Pair<T>>(numbers * a.in);
    auto* through = arena.take<Pair<T>>(stack > 1 ? numbers * a.in : 0);
    auto* left = arena.take<Pair<T>>(stack * numbers * a.in);
    auto* right = arena.take<Pair<T>>(stack * numbers * a.out);
    auto* grads = arena.take<Complex>(records);
    Complex* buffers[2];
    take_buffers(a, tables, ends_whole, queue, arena, buffers);
    if (faces && !arena.measures()) {
        AssignFacesBackwardArgs<T> f = face_args(a);
        f.output = interior;
        pull_back_faces(f, queue);
    }
    auto analysis = analysis_of(a, tables, a.out);
    analysis.weighted = true;
    analysis.values = faces ? interior : a.grad;
    analysis.out = upstream;
    for (int axis = 0; axis < 3 && whole; ++axis) {
        analysis.rule[axis] = a.rule[axis];
        analysis.face_gradient[axis] = a.face_gradient[axis].values;
    }
    analyse(analysis, queue, arena);
    call.input.data = reinterpret_cast<const Pair<T>*>(a.spectrum);
    call.upstream.data = upstream;
    call.input_gradient = pulled;

    const auto* seen_end = reinterpret_cast<const Complex*>(a.shifts) + records;
    Complex* grads_end = grads + records;
    const Spectrum<T> flow = {upstream, a.batch, a.out}, back = {through, a.batch, a.in};
    GainGradients gains;
    bool finished = false;
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
        if (a.gain_out[axis] != nullptr) {
            gains.axis[axis] = {
                seen, grad, c.normal.others * seen.seen() * 2 * a.in, c.gain.parts, a.gain_out[axis]
            };
        }
        Spectrum<T> shift, copy;
        if (a.weight_out != nullptr) {
            shift = {left, a.batch, a.in, stack, slot};
            copy = {right, a.batch, a.out, stack, slot};
        }
        if (c.takes_orbits()) {
            OrbitCall<T> orbit = c.orbit(call);
            orbit.records = grad;
            orbit.seen = seen;
            orbit.first = slot == 0;
            orbit.last = last;
            orbit.flow = flow;
            orbit.pulled = {pulled, a.batch, a.in};
            orbit.back = back;
            orbit.left = shift;
            orbit.right = copy;
            orbit.pulls = a.x_out != nullptr;
            finished = orbit.first;
            c.run_orbits(boundary_orbit_adjoint_kernel<T>, orbit);
            continue;
        }
        if (a.weight_out != nullptr) {
            c.radiate(c.call(false, false, moved), seen, Spectrum<T>{}, shift);
            queue.run(
                boundary_copy_kernel<T>,
                grid_blocks(numbers * a.out),
                grid_threads,
                0,
                call.modes,
                flow,
                copy
            );
        }
        mix_adjoint(call, queue);
        c.evaluate(c.call(false, false, moved), {pulled, a.batch, a.in}, grad);
        if (!last) {  // later axes saw the shifts of this one in their end lines
            c.evaluate(c.call(false, false, moved, true), back, grad);
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
        if (!finished) {
            mix_adjoint(call, queue);
            call.weight_gradient = nullptr;
        }
        gradients(call, gains, queue);
    }
    if (whole && !arena.measures()) {
        sum_face_gradients(face_args(a), queue);
    }
    if (a.x_out == nullptr) {
        return;
    }
    auto synthesis = synthesis_of(a, tables, a.in);
    synthesis.spectrum = pulled;
    synthesis.out = a.x_out;
    if (ends_whole) {
        synthesis.records = records_of(a, tables, grads, queue);
    }
    synthesise(synthesis, queue, arena);
    Complex* data = grads;
    for (int axis = 0; axis < 3 && !arena.measures() && !ends_whole; ++axis) {
        if (a.gains.data[axis] != nullptr) {
            const Correction<T> c(a, tables, axis, data, queue);
            c.template lines<true>(a.x_out, buffers);
            data += c.size();
        }
    }
}

#define PHYSCON_INSTANTIATE(T)                                                      \
    template void forward_grid(const BoundarySpectralConvArgs<T>&, Queue&, Arena&); \
    template void backward_grid(const BoundarySpectralConvBackwardArgs<T>&, Queue&, Arena&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
