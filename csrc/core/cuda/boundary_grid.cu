// SPDX-License-Identifier: Apache-2.0
// The corrected convolution on grids of two and three axes.
#include <algorithm>

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
    void lines(
        Field* field, Complex* const (&buffers)[2], [[maybe_unused]] Storage storage = Storage::own
    ) const {
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
                storage,
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

/// A field that a call writes. Where its faces are assigned or added to after `changed` numbers of
/// 16 bits were made, those are computed from numbers that have not been rounded: kept beside the
/// field by what transforms it as a whole, otherwise all in a field apart.
template <typename T>
struct Written {
    T* wide;
    bool apart;
    T* place;  ///< until the end
    Storage storage;

    Written(T* field, const Device& device, int64_t changed, bool whole, Arena& arena) {
        const bool rounded = device.result != Storage::own && changed > 0;
        wide = arena.take<T>(rounded ? changed : 0);
        apart = rounded && !whole;
        place = apart ? wide : field;
        storage = apart ? Storage::own : device.result;
    }
    void set(Synthesis<T>& synthesis) const {
        synthesis.out = place;
        synthesis.storage = storage;
        synthesis.wide = wide;
    }
    /// Assigns faces, and rounds a field apart.
    void finish(AssignFacesArgs<T> f, const Device& device, Queue& queue) const {
        f.input = place;
        Device from_place = device;
        from_place.storage = storage;
        store_faces(f, from_place, queue);
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

/// Whether one launch of clusters makes all corrections: where their orbits give a third of the
/// device something to do, on the average of the axes. With 8 x 8 modes of 16 items of 64 channels
/// the products of an axis are 67 Mflop, some 5 us on 64 blocks, and the launches of the other way
/// take longer than what the whole device would save of it.
template <typename T>
bool takes_orbits(const OrbitCall<T>& c, const Queue& queue) {
    int64_t orbits = 0, steps = 0;
    for (const OrbitAxis& axis : c.axis) {
        orbits += axis.orbits();
        steps += axis.orbits() > 0 ? 1 : 0;
    }
    return steps > 0 && 3 * orbits * c.parts >= steps * queue.multiprocessors;
}
/// The call for the corrected axes of a grid, without the spectra; tickets where they are needed.
template <typename T, typename Args>
OrbitCall<T> orbits_of(const Args& a, const Tables<T>& t, const MixCall<T>& mix, Arena& arena) {
    OrbitCall<T> c(mix, a.grid);
    int64_t modes = 0, steps = 0;
    for (int i = 0; i < 3; ++i) {
        OrbitAxis& axis = c.axis[i];
        axis.gain = {a.gains.data[i], a.gains.parts[i]};
        axis.phase = t.ends[i];
        if (axis.orbits() > 0) {
            modes = larger(modes, axis.normal.own.modes);
            ++steps;
        }
    }
    c.parts = cluster_parts(modes);
    c.tickets.counter = steps > 1 ? arena.take<unsigned>(Tickets::counters) : nullptr;
    return c;
}
/// `cleared`: an earlier launch sees to the tickets.
template <typename T>
void run_orbits(void (*kernel)(OrbitCall<T>), const OrbitCall<T>& c, bool cleared, Queue& queue) {
    if (!cleared && c.tickets.counter != nullptr) {
        queue.run(clear_tickets_kernel, 1, warp_size, 0, c.tickets);
    }
    int across = 4;
    while (across < most_orbit_across && across * thread_columns < larger(c.mix.in, c.mix.out)) {
        across *= 2;
    }
    const int threads = across * OrbitMixCut::row_threads;
    const std::size_t shared = ticket_bytes + product_bytes<OrbitMixCut, T>(across);
    int64_t clusters = 0;
    for (const OrbitAxis& axis : c.axis) {
        clusters += axis.orbits();
    }
    run_clusters(queue, kernel, clusters, c.parts, threads, shared, c);
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
void forward_grid(
    const BoundarySpectralConvArgs<T>& a, const Device& device, Queue& queue, Arena& arena
) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call = mixing<T>(a);
    const int64_t numbers = call.modes * a.batch, points = point_count(a.grid);
    auto* spectrum = reinterpret_cast<Pair<T>*>(a.spectrum_out);
    auto* mixed = arena.take<Pair<T>>(numbers * a.out);
    auto* shifted = arena.take<Pair<T>>(numbers * a.in);
    auto* shift = arena.take<Pair<T>>(numbers * a.in);
    const bool whole = takes_planes<T>(a.grid, a.batch * a.in, queue);
    OrbitCall<T> orbits = orbits_of(a, tables, call, arena);
    const bool by_orbits = takes_orbits(orbits, queue);
    Complex* buffers[2];
    take_buffers(a, tables, whole, queue, arena, buffers);
    const bool stores_faces = takes_planes<T>(a.grid, a.batch * a.out, queue);
    const bool faces = any_rule(a.rule);
    const Written<T> y(a.y_out, device, faces ? a.batch * a.out * points : 0, stores_faces, arena);
    auto* data = reinterpret_cast<Complex*>(a.shifts_out);
    auto analysis = analysis_of(a, tables, a.in);
    analysis.values = a.x;
    analysis.storage = device.storage;
    analysis.out = spectrum;
    const EndRecords records = records_of(a, tables, data, queue);
    if (whole) {
        analysis.records = records;
        analysis.tickets = orbits.tickets;
    }
    analyse(analysis, queue, arena);
    call.input.data = spectrum;
    call.output = mixed;
    const Spectrum<T> sources = {shift, a.batch, a.in}, products = {mixed, a.batch, a.out};
    const Spectrum<T> after = {shifted, a.batch, a.in};
    bool earlier = false;
    for (int axis = 0; axis < 3 && !arena.measures(); ++axis) {
        if (a.gains.data[axis] == nullptr) {
            continue;
        }
        const Correction<T> c(a, tables, axis, records.data[axis], queue);
        if (!whole) {
            c.template lines<false>(a.x, buffers, device.storage);
        }
        if (by_orbits) {
            orbits.axis[axis].records = c.records;
            continue;
        }
        const Spectrum<T> before = {const_cast<Pair<T>*>(call.input.data), a.batch, a.in};
        const int64_t seen = c.records.seen();
        if (earlier) {
            c.evaluate(c.call(true, true, 0, true), sources, c.records);
        }
        mix(call, queue);
        c.evaluate(c.call(true, true, 2 * a.in), products, c.records);
        c.template apply<false>(c.records);
        c.radiate(c.call(false, false, seen), c.records, before, after);
        c.radiate(
            c.call(false, false, seen), c.records, earlier ? sources : Spectrum<T>{}, sources
        );
        call.input.data = shifted;
        earlier = true;
    }
    if (!arena.measures() && by_orbits) {
        orbits.input = {spectrum, a.batch, a.in};
        orbits.mixed = products;
        orbits.shifted = after;
        orbits.shift = sources;
        run_orbits(boundary_orbit_kernel<T>, orbits, whole, queue);
    } else if (!arena.measures()) {
        mix(call, queue);
    }
    auto synthesis = synthesis_of(a, tables, a.out);
    synthesis.weighted = true;
    synthesis.spectrum = mixed;
    y.set(synthesis);
    for (int axis = 0; axis < 3 && stores_faces; ++axis) {
        synthesis.rule[axis] = a.rule[axis];
    }
    synthesise(synthesis, queue, arena);
    if (!arena.measures() && faces && !stores_faces) {
        y.finish(face_args(a), device, queue);
    }
}

/// With the mixings t = 1 .. n + 1 of n corrected axes, the gradients g_t of their outputs and the
/// shifts U_j of the axes,
///
///   dL/dW = X^H (g_1 + .. + g_{n+1}) + sum_j U_j^H (g_{j+1} + .. + g_{n+1}),
///
/// so going back over the axes needs one running sum of the g_t.
template <typename T>
void backward_grid(
    const BoundarySpectralConvBackwardArgs<T>& a, const Device& device, Queue& queue, Arena& arena
) {
    const Tables<T> tables = find_tables(a.grid, a.tables);
    MixCall<T> call = mixing<T>(a);
    const int64_t numbers = call.modes * a.batch, points = point_count(a.grid);
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
    auto* interior = arena.take<T>(faces ? a.batch * a.out * points : 0);
    auto* upstream = arena.take<Pair<T>>(numbers * a.out);
    auto* pulled = arena.take<Pair<T>>(numbers * a.in);
    auto* through = arena.take<Pair<T>>(stack > 1 ? numbers * a.in : 0);
    auto* left = arena.take<Pair<T>>(stack * numbers * a.in);
    auto* right = arena.take<Pair<T>>(stack * numbers * a.out);
    auto* grads = arena.take<Complex>(records);
    OrbitCall<T> orbits = orbits_of(a, tables, call, arena);
    const bool by_orbits = takes_orbits(orbits, queue);
    const bool adds = a.x_out != nullptr && stack > 0;
    const Written<T> x(a.x_out, device, adds ? a.batch * a.in * points : 0, ends_whole, arena);
    Complex* buffers[2];
    take_buffers(a, tables, ends_whole, queue, arena, buffers);
    if (faces && !arena.measures()) {
        AssignFacesBackwardArgs<T> f = face_args(a);
        f.output = interior;
        Device to_interior = device;
        to_interior.result = Storage::own;
        pull_back_faces(f, to_interior, queue);
    }
    auto analysis = analysis_of(a, tables, a.out);
    analysis.weighted = true;
    analysis.values = faces ? interior : a.grad;
    analysis.storage = faces ? Storage::own : device.storage;
    analysis.out = upstream;
    for (int axis = 0; axis < 3 && whole; ++axis) {
        analysis.rule[axis] = a.rule[axis];
        analysis.face_gradient[axis] = a.face_gradient[axis].values;
    }
    if (whole) {
        analysis.tickets = orbits.tickets;
    }
    analyse(analysis, queue, arena);
    call.input.data = reinterpret_cast<const Pair<T>*>(a.spectrum);
    call.upstream.data = upstream;
    call.input_gradient = pulled;

    auto* shifts = const_cast<Complex*>(reinterpret_cast<const Complex*>(a.shifts));  // read only
    const EndRecords seen_of = records_of(a, tables, shifts, queue);
    const EndRecords grad_of = records_of(a, tables, grads, queue);
    const Spectrum<T> flow = {upstream, a.batch, a.out}, back = {through, a.batch, a.in};
    Spectrum<T> shift, copy;
    if (a.weight_out != nullptr) {
        shift = {left, a.batch, a.in, stack};
        copy = {right, a.batch, a.out, stack};
    }
    GainGradients gains;
    int64_t slot = 0;
    for (int axis = 2; axis >= 0 && !arena.measures(); --axis) {
        if (a.gains.data[axis] == nullptr) {
            continue;
        }
        const Correction<T> c(a, tables, axis, grad_of.data[axis], queue);
        const Records grad = c.records;
        const Records seen = {seen_of.data[axis], a.batch, a.in, a.out};
        const int64_t moved = seen.seen();
        if (a.gain_out[axis] != nullptr) {
            gains.axis[axis] = {
                seen, grad, c.normal.others * moved * 2 * a.in, c.gain.parts, a.gain_out[axis]
            };
        }
        if (by_orbits) {
            orbits.axis[axis].records = grad;
            orbits.axis[axis].seen = seen;
            continue;
        }
        if (a.weight_out != nullptr) {
            shift.slot = copy.slot = slot;
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
        if (slot > 0) {  // later axes saw the shifts of this one in their end lines
            c.evaluate(c.call(false, false, moved, true), back, grad);
        }
        c.template apply<true>(grad);
        c.radiate(c.call(true, true, 2 * a.in), grad, flow, flow);
        if (slot + 1 < stack) {
            c.radiate(c.call(true, true, 0), grad, slot > 0 ? back : Spectrum<T>{}, back);
        }
        ++slot;
    }
    if (!arena.measures()) {
        if (by_orbits) {
            orbits.flow = flow;
            orbits.pulled = {pulled, a.batch, a.in};
            orbits.back = back;
            orbits.left = shift;
            orbits.right = copy;
            orbits.pulls = a.x_out != nullptr;
            run_orbits(boundary_orbit_adjoint_kernel<T>, orbits, whole, queue);
        }
        call.weight_gradient = reinterpret_cast<Pair<T>*>(a.weight_out);
        call.input_gradient = a.x_out == nullptr ? nullptr : pulled;
        call.more_rows = stack * a.batch;
        call.more_input = left;
        call.more_upstream = right;
        if (!by_orbits) {
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
    x.set(synthesis);
    if (ends_whole) {
        synthesis.records = grad_of;
    }
    synthesise(synthesis, queue, arena);
    for (int axis = 0; axis < 3 && !arena.measures() && !ends_whole; ++axis) {
        if (a.gains.data[axis] != nullptr) {
            const Correction<T> c(a, tables, axis, grad_of.data[axis], queue);
            c.template lines<true>(x.place, buffers);
        }
    }
    if (!arena.measures() && x.apart) {
        AssignFacesArgs<T> f;
        f.items = a.batch;
        f.channels = a.in;
        f.output = a.x_out;
        std::copy(a.grid.size, a.grid.size + 3, f.size);
        x.finish(f, device, queue);
    }
}

#define PHYSCON_INSTANTIATE(T)                                                                     \
    template void forward_grid(const BoundarySpectralConvArgs<T>&, const Device&, Queue&, Arena&); \
    template void backward_grid(                                                                   \
        const BoundarySpectralConvBackwardArgs<T>&, const Device&, Queue&, Arena&                  \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
