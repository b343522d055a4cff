// SPDX-License-Identifier: Apache-2.0
// The corrected axes of a grid, everything between their end lines and the corrected spectrum, in
// one launch.
//
// A correction couples the wavenumbers k of its axis at one mode q of the others, and q with its
// mirror image where both belong to the same real number: such a pair is an orbit. A cluster serves
// an orbit for all items, so that weights are read by no other. Its blocks share the modes of
// Y = X W, then the end values, then the columns of the gain, then the modes again, and meet in
// between through device memory.
//
// Corrections of several axes are steps that follow each other: an orbit of one axis crosses all of
// the next, since shifts d_0(k_1) of axis 0, which are sums over k_0, enter through W(k_0, k_1) the
// ends of axis 1 for every k_0. To repeat in each orbit what it needs of the step before would cost
// the products of all modes, as many times as there are orbits (12 x 12 modes of 16 items of 64
// channels: 75 Mflop on eight multiprocessors, some 20 us). To wait for that step through a counter
// costs two passages through the second cache, about 1 us; another launch costs 2 to 3.
#pragma once

#include "boundary_grid.cuh"
#include "tickets.cuh"

namespace physcon::cuda {

// Few items per mode.
using OrbitMixCut = Cut<2, 8, false, true>;
using OrbitPullCut = Cut<2, 8, false, false>;
constexpr int most_orbit_across = 16;
constexpr int most_orbit_threads = most_orbit_across * OrbitMixCut::row_threads;

/// An axis of the grid, corrected if it has a gain.
struct OrbitAxis {
    Normal normal;
    const Complex* phase = nullptr;  ///< e_k
    GainMatrix gain = {};
    Records records = {};  ///< adjoint: their gradients
    Records seen = {};     ///< adjoint: of the forward call
    OrbitAxis(const SpectralGrid& grid, int axis) : normal(grid, axis) {}
    /// Tasks of the step that corrects it.
    __host__ __device__ int64_t orbits() const {
        return gain.data == nullptr ? 0 : normal.others;
    }
};

template <typename T>
struct OrbitCall {
    MixCall<T> mix;  ///< sizes and weights
    OrbitAxis axis[3];
    int parts = 1;  ///< blocks of a cluster
    Tickets tickets = {};
    Spectrum<T> input = {};                ///< X
    Spectrum<T> mixed = {};                ///< Y; X' W after the last axis
    Spectrum<T> shifted = {}, shift = {};  ///< X' and all shifts so far, unless after the last axis

    // Adjoint.
    Spectrum<T> flow = {};    ///< gradient of Y; what came back through the ends is added
    Spectrum<T> pulled = {};  ///< flow W^H
    Spectrum<T> back = {};    ///< gradient of the shifts through the end lines of later axes
    Spectrum<T> left = {}, right = {};  ///< rows for the gradient of the weight by step, or none
    bool pulls = true;                  ///< whether the gradient of X is wanted

    OrbitCall(const MixCall<T>& call, const SpectralGrid& grid)
        : mix(call), axis{{grid, 0}, {grid, 1}, {grid, 2}} {}
};

// Ahead of the memory of products.
constexpr int ticket_bytes = 16;

/// A block of the cluster of an orbit.
template <typename T>
struct OrbitBlock {
    const OrbitCall<T>& c;
    Cluster cluster;
    T* memory;
    int axis = 0, step = 0, steps = 0;
    int64_t before = 0;  ///< tasks of the step before
    int64_t member[2];
    int members = 1;  ///< 0: the cluster of the mirror image serves both

    __device__ OrbitBlock(const OrbitCall<T>& call, bool backwards)
        : c(call),
          cluster(call.parts),
          memory(reinterpret_cast<T*>(shared_memory() + ticket_bytes / sizeof(double))) {
        int64_t q = c.tickets.take(cluster, reinterpret_cast<unsigned*>(shared_memory()));
        bool found = false;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            const int place = backwards ? 2 - i : i;
            const int64_t orbits = c.axis[place].orbits();
            if (orbits == 0) {
                continue;
            }
            if (!found && q < orbits) {
                axis = place;
                step = steps;
                found = true;
            } else if (!found) {
                q -= orbits;
                before = orbits;
            }
            ++steps;
        }
        const Mirror mirror = own().normal.mirror(q);
        member[0] = member[1] = q;
        if (mirror.real_field && mirror.partner >= 0 && mirror.partner != q) {
            member[1] = mirror.partner;
            members = mirror.partner < q ? 0 : 2;
        }
    }
    __device__ const OrbitAxis& own() const {
        return c.axis[axis];
    }
    __device__ bool last() const {
        return step == steps - 1;
    }
    /// Does the task, body(), once the step before is complete.
    template <typename Body>
    __device__ void run(const Body& body) const {
        if (members > 0) {
            if (step > 0) {
                c.tickets.wait(step - 1, before);
            }
            body();
        }
        c.tickets.complete(cluster, step);
    }
    __device__ EndCall ends(bool weighted, bool symmetric, int64_t slot, bool adds = false) const {
        return {own().normal, own().phase, weighted, symmetric, adds, slot};
    }
    /// Calls body(q, b, i) for `count` numbers of every item, shared by the cluster.
    template <typename Body>
    __device__ void share(int64_t count, const Body& body) const {
        const int64_t width = c.mix.batch * count, all = members * width;
        const int64_t threads = static_cast<int64_t>(c.parts) * blockDim.x;
        for (int64_t e = cluster.rank * static_cast<int64_t>(blockDim.x) + threadIdx.x; e < all;
             e += threads) {
            body(e < width ? member[0] : member[1], e % width / count, e % count);
        }
    }
    /// Calls body(q, k) for the modes of this block.
    template <typename Body>
    __device__ void own_modes(const Body& body) const {
        const int64_t modes = own().normal.own.modes;
        for (int64_t u = cluster.rank; u < members * modes; u += c.parts) {
            body(u < modes ? member[0] : member[1], u % modes);
        }
    }
    /// Calls body(b, i) for `count` numbers of every item in this block.
    template <typename Body>
    __device__ void items(int64_t count, const Body& body) const {
        for (int64_t e = threadIdx.x; e < c.mix.batch * count; e += blockDim.x) {
            body(e / count, e % count);
        }
    }
    /// out(mode) <- rows W, rows(b, i) given.
    template <typename Rows>
    __device__ void mix(int64_t mode, const Rows& rows, const Spectrum<T>& out) const {
        const MixCall<T>& m = c.mix;
        product<Form::plain, OrbitMixCut>(
            m.in,
            m.out,
            mode,
            rows,
            [&](int64_t i, int64_t o) { return (mode * m.in + i) * m.out + o; },
            out
        );
    }
    /// pulled(mode) <- flow W^H.
    __device__ void pull(int64_t mode) const {
        const MixCall<T>& m = c.mix;
        product<Form::conjugate_right, OrbitPullCut>(
            m.out,
            m.in,
            mode,
            [&](int64_t b, int64_t o) { return c.flow.at(mode, b, o); },
            [&](int64_t o, int64_t i) { return (mode * m.in + i) * m.out + o; },
            c.pulled
        );
    }

  private:
    template <Form form, typename C, typename Rows, typename Place>
    __device__ void product(
        int64_t steps,
        int64_t width,
        int64_t mode,
        const Rows& rows,
        const Place& place,
        const Spectrum<T>& out
    ) const {
        const int columns = static_cast<int>(blockDim.x) / C::row_threads * thread_columns;
        for (int64_t b0 = 0; b0 < c.mix.batch; b0 += C::tile_rows) {
            for (int64_t o0 = 0; o0 < width; o0 += columns) {
                const auto left = [&](int64_t i, int row) -> Pair<T> {
                    return b0 + row < c.mix.batch ? rows(b0 + row, i) : Pair<T>{0, 0};
                };
                const auto right = [&](int64_t i, int column) -> Pair<T> {
                    return o0 + column < width ? c.mix.weight[place(i, o0 + column)]
                                               : Pair<T>{0, 0};
                };
                const auto store = [&](int row, int column, T re, T im) {
                    if (b0 + row < c.mix.batch && o0 + column < width) {
                        out.at(mode, b0 + row, o0 + column) = {re, im};
                    }
                };
                pair_product<form, C>(memory, 0, steps, left, right, store);
            }
        }
    }
};

/// Where no other launch before clears them.
__global__ void __launch_bounds__(warp_size, 1) clear_tickets_kernel(Tickets tickets) {
    tickets.clear();
}

/// X' = X + shifts of an axis, or after the last one X' W.
template <typename T>
__device__ void correct_orbit(const OrbitBlock<T>& block) {
    const OrbitCall<T>& c = block.c;
    const OrbitAxis& axis = block.own();
    const Records& records = axis.records;
    const int64_t in = c.mix.in, seen = records.seen();
    const bool first = block.step == 0;
    const Spectrum<T> input = first ? c.input : c.shifted;
    block.own_modes([&](int64_t q, int64_t k) {
        const int64_t mode = axis.normal.mode(k, q);
        block.mix(mode, [&](int64_t b, int64_t i) { return input.at(mode, b, i); }, c.mixed);
    });
    block.cluster.sync();
    block.share(c.mix.out, [&](int64_t q, int64_t b, int64_t o) {
        evaluate_ends(block.ends(true, true, 2 * in), c.mixed, records, q, b, o);
    });
    if (!first) {
        block.share(in, [&](int64_t q, int64_t b, int64_t i) {
            evaluate_ends(block.ends(true, true, 0, true), c.shift, records, q, b, i);
        });
    }
    block.cluster.sync();
    block.share(2 * in, [&](int64_t q, int64_t b, int64_t to) {
        apply_gain<false>(axis.gain, records, q, b, to);
    });
    block.cluster.sync();
    block.own_modes([&](int64_t q, int64_t k) {
        const int64_t mode = axis.normal.mode(k, q);
        const auto added = [&](const Spectrum<T>& base, int64_t b, int64_t i) {
            return radiated(block.ends(false, false, seen), records, in, base, q, k, b, i);
        };
        if (block.last()) {
            block.mix(mode, [&](int64_t b, int64_t i) { return added(input, b, i); }, c.mixed);
            return;
        }
        block.items(in, [&](int64_t b, int64_t i) {
            c.shifted.at(mode, b, i) = added(input, b, i);
            c.shift.at(mode, b, i) = added(first ? Spectrum<T>{} : c.shift, b, i);
        });
    });
}
template <typename T>
__global__ void __launch_bounds__(most_orbit_threads, 1) boundary_orbit_kernel(OrbitCall<T> c) {
    const OrbitBlock<T> block(c, false);
    block.run([&] { correct_orbit(block); });
}

template <typename T>
__device__ void pull_orbit_back(const OrbitBlock<T>& block) {
    const OrbitCall<T>& c = block.c;
    const OrbitAxis& axis = block.own();
    const Records& records = axis.records;
    const int64_t in = c.mix.in, out = c.mix.out, moved = records.seen();
    const bool first = block.step == 0;  // of the steps back: the last axis
    block.own_modes([&](int64_t q, int64_t k) {
        const int64_t mode = axis.normal.mode(k, q);
        if (c.left.data != nullptr) {
            Spectrum<T> left = c.left, right = c.right;
            left.slot = right.slot = block.step;
            block.items(in, [&](int64_t b, int64_t i) {
                left.at(mode, b, i) = radiated(
                    block.ends(false, false, moved), axis.seen, in, Spectrum<T>{}, q, k, b, i
                );
            });
            block.items(out, [&](int64_t b, int64_t o) {
                right.at(mode, b, o) = c.flow.at(mode, b, o);
            });
        }
        block.pull(mode);
    });
    block.cluster.sync();
    block.share(in, [&](int64_t q, int64_t b, int64_t i) {
        evaluate_ends(block.ends(false, false, moved), c.pulled, records, q, b, i);
        if (!first) {  // later axes saw the shifts of this one in their end lines
            evaluate_ends(block.ends(false, false, moved, true), c.back, records, q, b, i);
        }
    });
    block.cluster.sync();
    block.share(moved, [&](int64_t q, int64_t b, int64_t to) {
        apply_gain<true>(axis.gain, records, q, b, to);
    });
    block.cluster.sync();
    block.own_modes([&](int64_t q, int64_t k) {
        const int64_t mode = axis.normal.mode(k, q);
        block.items(out, [&](int64_t b, int64_t o) {
            Pair<T>& to = c.flow.at(mode, b, o);
            to = radiated(block.ends(true, true, 2 * in), records, out, c.flow, q, k, b, o);
        });
        if (!block.last()) {
            block.items(in, [&](int64_t b, int64_t i) {
                const Spectrum<T> base = first ? Spectrum<T>{} : c.back;
                c.back.at(mode, b, i) =
                    radiated(block.ends(true, true, 0), records, in, base, q, k, b, i);
            });
        } else if (c.pulls) {
            __syncthreads();
            block.pull(mode);
        }
    });
}
template <typename T>
__global__ void __launch_bounds__(most_orbit_threads, 1) boundary_orbit_adjoint_kernel(
    OrbitCall<T> c
) {
    const OrbitBlock<T> block(c, true);
    block.run([&] { pull_orbit_back(block); });
}

/// The gradient of the gains of one axis: sums over the batch of conj(seen) grad.
struct GainGradient {
    Records seen, grad;
    int64_t count = 0, parts = 2;  ///< complex numbers; 0: not wanted
    double* out = nullptr;
    __device__ void store(int64_t e) const {
        const int64_t rows = seen.seen(), moved = 2 * seen.in;
        const int64_t q = e / (rows * moved), row = e / moved % rows, column = e % moved;
        Complex sum = {0, 0};
        for (int64_t b = 0; b < seen.batch; ++b) {
            const Complex v = seen.at(q, b, row), g = grad.at(q, b, rows + column);
            accumulate<Form::conjugate_left>(v.re, v.im, g, sum.re, sum.im);
        }
        out[parts * e] = sum.re;
        if (parts == 2) {
            out[2 * e + 1] = sum.im;
        }
    }
};
struct GainGradients {
    GainGradient axis[3];
};

/// Gradients of the weight (the first `weighs` blocks) and of all gains, sums over the batch.
template <typename T>
__global__ void __launch_bounds__(most_product_threads, 1) boundary_orbit_gradients_kernel(
    MixCall<T> mixing, int64_t weighs, GainGradients gains
) {
    const int64_t place = block_index();
    if (place < weighs) {
        const int columns = static_cast<int>(blockDim.x) / WeighCut::row_threads * thread_columns;
        weigh(mixing, place, columns);
        return;
    }
    int64_t e = (place - weighs) * static_cast<int64_t>(blockDim.x) + threadIdx.x;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
        const GainGradient& g = gains.axis[axis];
        if (e >= 0 && e < g.count) {
            g.store(e);
        }
        e -= g.count;
    }
}

}  // namespace physcon::cuda
