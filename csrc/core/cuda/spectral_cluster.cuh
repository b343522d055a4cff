// SPDX-License-Identifier: Apache-2.0
// A convolution on a line in one launch: a cluster of blocks takes an item through analysis, mixing
// and synthesis.
//
// What a block owns. With 8 blocks, floats, and per item either N/8 points of all channels or C/8
// channels of all points, in KB for (C, N, m) = (64, 1024, 16), (64, 500, 16), (64, 8192, 16):
//
//                                        points               channels
//   shared memory for x, per block       33, 17, 264          32, 16, 256
//   basis read, all blocks               64, 32, 512          512, 256, 4096
//   weights read, all blocks             512                  512
//   from other blocks                    56 + 56              56
//   x from other blocks for a matrix     0                    1792, 875, 14336
//     over all channels of a point
//   barriers of the cluster              3                    2
//
// Points win: the basis is read once instead of by every block, and what a Fourier layer adds finds
// its points in the block; the sums that cross blocks are small. The points are counted folded, the
// last block has the ends of the line. Parts of sums are added in the order of the blocks, so that
// an item has the same bits in any batch.
#pragma once

#include "activation.cuh"
#include "cluster.cuh"
#include "faces.cuh"
#include "spectral_cluster_plan.cuh"

namespace physcon::cuda {

constexpr int most_cluster_threads = 256;
constexpr int cell = 4;  // a thread holds 4 x 4 pairs of sums

__host__ __device__ constexpr int whole_cells(int64_t count) {
    return static_cast<int>((count + cell - 1) / cell * cell);
}

/// What lies where in the shared memory of a block; pairs of T unless said otherwise. Rows and
/// columns are filled up with zeros to whole cells.
template <typename T>
struct ClusterLayout {
    int in, out, modes;        ///< whole cells
    int x_pitch, basis_pitch;  ///< of a point; neighbours lie in other banks
    int tiles, groups;         ///< cells of the spectrum, and threads that share one
    int own;                   ///< modes of a block
    int answers;               ///< of the gains, by one block
    /// Places, in bytes.
    int64_t x, basis, skip, parts, given, mixed, scratch, edges, ends, told, answer, bytes;

    __host__ __device__ ClusterLayout(const ClusterCall<T>& c, int threads)
        : in(whole_cells(c.in)),
          out(whole_cells(c.out)),
          modes(whole_cells(c.modes)),
          x_pitch(in + 2),
          basis_pitch(modes + 2),
          tiles(in / cell * (modes / cell)),
          groups(larger(1, smaller(threads / tiles, c.share))),
          own(static_cast<int>((c.modes + c.parts - 1) / c.parts)),
          answers((c.answers + c.parts - 1) / c.parts) {
        bytes = 0;
        x = take<Pair<T>>(int64_t{c.share} * x_pitch);
        basis = take<Pair<T>>(int64_t{c.share} * basis_pitch);
        skip = take<T>(c.skip.data == nullptr ? 0 : in * out);
        // Parts of the spectrum of x; later the whole spectrum of y.
        parts = take<Pair<T>>(int64_t{modes} * larger(groups * in, out));
        given = take<Pair<T>>(own * c.in);
        mixed = take<Pair<T>>(own * c.out);
        scratch = take<Pair<double>>(threads);
        edges = take<T>(c.rule.stencil == nullptr ? 0 : 2 * c.out * c.rule.width);
        const bool corrects = c.gain != nullptr;
        ends = take<Pair<double>>(corrects ? c.out : 0);
        told = take<double>(corrects ? c.seen_length() : 0);
        answer = take<double>(corrects ? answers : 0);
    }

  private:
    template <typename V>
    __host__ __device__ int64_t take(int64_t count) {
        const int64_t at = bytes;
        bytes += (count * static_cast<int64_t>(sizeof(V)) + 15) / 16 * 16;
        return at;
    }
};

/// `count` numbers that lie side by side, read 16 bytes at a time.
template <int count, typename V>
struct Side {
    static constexpr int run = larger<int>(1, 16 / static_cast<int>(sizeof(V)));
    struct alignas(16) Word {
        V value[run];
    };
    Word word[count / run];
    __device__ explicit Side(const V* from) {
#pragma unroll
        for (int i = 0; i < count / run; ++i) {
            word[i] = reinterpret_cast<const Word*>(from)[i];
        }
    }
    __device__ const V& operator[](int i) const {
        return word[i / run].value[i % run];
    }
};

/// `stored`: x and y in 16 bits.
template <typename T, bool adjoint, bool stored>
struct ClusterBlock {
    const ClusterCall<T>& c;
    const ClusterLayout<T> layout;
    Cluster cluster;
    int64_t item;
    Fold fold;
    int64_t first;  ///< folded point of the first one of this block; negative ones do not exist
    int thread, threads;

    __device__ explicit ClusterBlock(const ClusterCall<T>& call)
        : c(call),
          layout(call, static_cast<int>(blockDim.x)),
          cluster(call.parts),
          item(blockIdx.x / static_cast<unsigned>(call.parts)),
          fold(call.n),
          first(fold.points - static_cast<int64_t>(call.parts - cluster.rank) * call.share),
          thread(static_cast<int>(threadIdx.x)),
          threads(static_cast<int>(blockDim.x)) {}

    template <typename V>
    __device__ V* at(int64_t place) const {
        return reinterpret_cast<V*>(reinterpret_cast<char*>(shared_memory()) + place);
    }

    __device__ auto line_of(int64_t channel) const {
        return field_of<stored>(c.x, c.storage) + (item * c.in + channel) * c.n;
    }

    /// The values at both points of every folded point, and the basis there.
    __device__ void load() const {
        auto* values = at<Pair<T>>(layout.x);
        fetch_together(
            layout.in * c.share,
            [&](int e) -> Pair<T> {
                const int q = e % c.share, i = e / c.share;
                const auto line = line_of(smaller<int64_t>(i, c.in - 1));
                const int64_t point = larger<int64_t>(0, first + q);
                const int64_t up = fold.up + point, down = fold.down - point;
                Pair<T> z;
                if (adjoint) {
                    const auto value = [&](int64_t at) -> T { return line[at]; };
                    z.re = pulled_back(c.n, up, c.rule, value);
                    z.im = pulled_back(c.n, down, c.rule, value);
                } else {
                    z = {line[up], line[down]};
                }
                const bool exists = first + q >= 0 && i < c.in;
                return {exists ? z.re : T(0), exists && up != down ? z.im : T(0)};
            },
            [&](int e, const Pair<T>& z) { values[e % c.share * layout.x_pitch + e / c.share] = z; }
        );
        if (adjoint && c.face_gradient != nullptr && cluster.rank == cluster.parts - 1) {
            for (int e = thread; e < 2 * static_cast<int>(c.in); e += threads) {
                c.face_gradient[2 * item * c.in + e] = line_of(e / 2)[e % 2 == 0 ? 0 : c.n - 1];
            }
        }
        auto* basis = at<Pair<T>>(layout.basis);
        fetch_together(
            c.share * layout.modes,
            [&](int e) -> Pair<T> {
                const int q = e / layout.modes, k = e % layout.modes;
                const int64_t point = larger<int64_t>(0, first + q);
                const Pair<T> z = c.basis[point * c.modes + smaller<int64_t>(k, c.modes - 1)];
                const bool exists = first + q >= 0 && k < c.modes;
                return {exists ? z.re : T(0), exists ? z.im : T(0)};
            },
            [&](int e, const Pair<T>& z) {
                basis[e / layout.modes * layout.basis_pitch + e % layout.modes] = z;
            }
        );
        auto* skip = at<T>(layout.skip);
        fetch_together(
            c.skip.data == nullptr ? 0 : layout.in * layout.out,
            [&](int e) -> T {
                const int64_t i = e / layout.out, o = e % layout.out;
                const T number =
                    c.skip.data
                        [smaller(o, c.out - 1) * c.skip.row + smaller(i, c.in - 1) * c.skip.column];
                return i < c.in && o < c.out ? number : T(0);
            },
            [&](int e, T number) { skip[e] = number; }
        );
        __syncthreads();
    }

    /// The part of the spectrum that the points of this block make, in `parts`.
    __device__ void analyse() const {
        const auto* values = at<Pair<T>>(layout.x);
        const auto* basis = at<Pair<T>>(layout.basis);
        auto* parts = at<Pair<T>>(layout.parts);
        const int rows = layout.in / cell;
        for (int e = thread; e < layout.tiles * layout.groups; e += threads) {
            const int group = e / layout.tiles, tile = e % layout.tiles;
            const int i = tile % rows * cell, k = tile / rows * cell;
            const int end = c.share * (group + 1) / layout.groups;
            T re[cell][cell] = {}, im[cell][cell] = {};
#pragma unroll 2
            for (int q = c.share * group / layout.groups; q < end; ++q) {
                const Side<cell, Pair<T>> z(values + q * layout.x_pitch + i);
                const Side<cell, Pair<T>> w(basis + q * layout.basis_pitch + k);
#pragma unroll
                for (int r = 0; r < cell; ++r) {
                    const T s = z[r].re + z[r].im, d = z[r].re - z[r].im;
#pragma unroll
                    for (int j = 0; j < cell; ++j) {
                        accumulate<Form::folded_analysis>(s, d, w[j], re[r][j], im[r][j]);
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < cell; ++j) {
#pragma unroll
                for (int r = 0; r < cell; ++r) {
                    parts[(group * layout.modes + k + j) * layout.in + i + r] = {
                        re[r][j], im[r][j]
                    };
                }
            }
        }
        __syncthreads();
        for (int e = thread; e < layout.modes * layout.in && layout.groups > 1; e += threads) {
            Pair<T> sum = parts[e];
            for (int group = 1; group < layout.groups; ++group) {
                sum += parts[group * layout.modes * layout.in + e];
            }
            parts[e] = sum;
        }
    }

    /// Mode j of this block, and how many there are.
    __device__ int64_t mode(int j) const {
        return cluster.rank + static_cast<int64_t>(j) * cluster.parts;
    }
    __device__ int own_modes() const {
        const auto left = static_cast<int>(c.modes) - cluster.rank + cluster.parts - 1;
        return left / cluster.parts;
    }

    /// The spectrum at the modes of this block, from the parts of all blocks.
    __device__ void take_modes() const {
        const auto* parts = at<Pair<T>>(layout.parts);
        auto* given = at<Pair<T>>(layout.given);
        const int in = static_cast<int>(c.in);
        for (int e = thread; e < own_modes() * in; e += threads) {
            const int64_t k = mode(e / in);
            const int i = e % in;
            Pair<T> sum = {0, 0};
#pragma unroll 8
            for (int p = 0; p < cluster.parts; ++p) {
                sum += cluster.of(parts[k * layout.in + i], p);
            }
            const T h = adjoint ? c.weights[k] : T(1);
            sum = {h * sum.re, h * sum.im};
            given[e] = sum;
            c.spectrum[(k * c.batch + item) * c.in + i] = sum;
        }
        __syncthreads();
    }

    /// sum over `steps` of term(unit, step, sum) for every unit, into finish(unit, sum): threads
    /// that are left over share the steps of a sum, and their parts are added in order. There are
    /// several rounds only where no sum is shared.
    template <typename Sum, typename Term, typename Finish>
    __device__ void shared_sums(
        int units, int steps, const Term& term, const Finish& finish
    ) const {
        auto* scratch = at<Sum>(layout.scratch);
        int lanes = warp_size;
        while (lanes < threads && lanes < units) {
            lanes *= 2;
        }
        const int slices = threads / lanes, lane = thread % lanes, slice = thread / lanes;
        const int begin = steps * slice / slices, end = steps * (slice + 1) / slices;
        for (int start = 0; start < units; start += lanes) {
            Sum sum = {};
            const int unit = start + lane;
            if (unit < units) {
#pragma unroll 8
                for (int step = begin; step < end; ++step) {
                    term(unit, step, sum);
                }
            }
            scratch[thread] = sum;
            __syncthreads();
            if (slice == 0 && unit < units) {
                for (int i = 1; i < slices; ++i) {
                    sum += scratch[i * lanes + lane];
                }
                finish(unit, sum);
            }
        }
    }

    /// mixed = given W, or given W^H, at the modes of this block.
    __device__ void mix() const {
        if (adjoint) {
            pull();
            return;
        }
        const auto* given = at<Pair<T>>(layout.given);
        auto* mixed = at<Pair<T>>(layout.mixed);
        const int in = static_cast<int>(c.in), out = static_cast<int>(c.out);
        shared_sums<Pair<T>>(
            own_modes() * out,
            in,
            [&](int unit, int i, Pair<T>& sum) {
                const int j = unit / out, o = unit % out;
                const Pair<T> z = c.weight[(mode(j) * c.in + i) * c.out + o];
                const Pair<T> r = given[j * in + i];
                accumulate<Form::plain>(r.re, r.im, z, sum.re, sum.im);
            },
            [&](int unit, const Pair<T>& sum) { mixed[unit] = sum; }
        );
    }
    /// A warp reads rows of weights in order.
    __device__ void pull() const {
        constexpr int rows = 4;  // of weights that a warp reads at once
        const auto* given = at<Pair<T>>(layout.given);
        auto* mixed = at<Pair<T>>(layout.mixed);
        const int in = static_cast<int>(c.in), out = static_cast<int>(c.out);
        const int lane = thread % warp_size, units = own_modes() * out;
        for (int start = thread / warp_size * rows; start < units;
             start += threads / warp_size * rows) {
            Pair<T> sum[rows] = {};
            for (int i = lane; i < in; i += warp_size) {
#pragma unroll
                for (int r = 0; r < rows; ++r) {
                    const int unit = smaller(start + r, units - 1), j = unit / out;
                    const Pair<T> z = c.weight[(mode(j) * c.out + unit % out) * c.in + i];
                    const Pair<T> g = given[j * in + i];
                    accumulate<Form::conjugate_right>(g.re, g.im, z, sum[r].re, sum[r].im);
                }
            }
            for (int step = warp_size / 2; step > 0; step /= 2) {
#pragma unroll
                for (int r = 0; r < rows; ++r) {
                    sum[r].re += __shfl_xor_sync(all_lanes, sum[r].re, step);
                    sum[r].im += __shfl_xor_sync(all_lanes, sum[r].im, step);
                }
            }
#pragma unroll
            for (int r = 0; r < rows; ++r) {
                if (lane == r && start + r < units) {
                    mixed[start + r] = sum[r];
                }
            }
        }
    }

    __device__ double weight_of(int64_t k) const {
        return (k > 0 && 2 * static_cast<double>(k) != c.period ? 2 : 1) / c.period;
    }
    /// What sources of strength d_0, d_N add to mode k.
    __device__ Pair<double> source(int64_t k, double d0, double dn) const {
        const Pair<double> phase = c.phase[k];
        return {phase.re * (d0 + dn), phase.im * (d0 - dn)};
    }
    __device__ double answer_of(int e) const {
        const auto* answer = at<double>(layout.answer);
        return cluster.of(answer[e % layout.answers], e / layout.answers);
    }

    /// Adds to `given` what comes back through the gains.
    __device__ void correct() const {
        const int in = static_cast<int>(c.in), out = static_cast<int>(c.out);
        const int seen = c.seen_length(), moved = 2 * (adjoint ? out : in);
        double* record = c.record + item * (seen + moved);
        __syncthreads();
        end_parts();
        cluster.sync();
        auto* told = at<double>(layout.told);
        const int length = adjoint ? moved : seen;
        for (int e = thread; e < length; e += threads) {
            told[e] = adjoint || e >= 2 * in ? end_value(adjoint ? e : e - 2 * in) : input_end(e);
            if (cluster.rank == 0) {
                record[adjoint ? seen + e : e] = told[e];
            }
        }
        __syncthreads();
        const int begin = smaller(c.answers, cluster.rank * layout.answers);
        const int count = smaller(c.answers - begin, layout.answers);
        if (adjoint) {
            pull_through_gains(begin, count, moved, record);
        } else {
            auto* answer = at<double>(layout.answer);
            shared_sums<double>(
                count,
                seen,
                [&](int unit, int row, double& sum) {
                    const int64_t place = static_cast<int64_t>(row) * moved + begin + unit;
                    sum += told[row] * c.gain[place * c.gain_parts];
                },
                [&](int unit, double sum) {
                    answer[unit] = sum;
                    record[seen + begin + unit] = sum;
                }
            );
        }
        cluster.sync();
        auto* given = at<Pair<T>>(layout.given);
        const int from = adjoint ? moved : 0;
        for (int e = thread; e < own_modes() * in; e += threads) {
            const int64_t k = mode(e / in);
            const int i = e % in;
            const double h = adjoint ? weight_of(k) : 1;
            const Pair<double> s = source(k, h * answer_of(from + i), h * answer_of(from + in + i));
            const Pair<T> z = {
                static_cast<T>(static_cast<double>(given[e].re) + s.re),
                static_cast<T>(static_cast<double>(given[e].im) + s.im)
            };
            given[e] = z;
            if (adjoint) {
                c.corrected[(k * c.batch + item) * c.in + i] = z;
            }
        }
        for (int e = thread; adjoint && c.shift != nullptr && e < own_modes() * out; e += threads) {
            const int64_t k = mode(e / out);
            const int o = e % out;
            const double* d = c.seen + item * (seen + moved) + seen;
            const Pair<double> s = source(k, d[o], d[out + o]);
            c.shift[(k * c.batch + item) * c.out + o] = {
                static_cast<T>(s.re), static_cast<T>(s.im)
            };
        }
        __syncthreads();
    }
    /// Cosine and sine sums at the last point, over the modes of this block.
    __device__ void end_parts() const {
        const auto* mixed = at<Pair<T>>(layout.mixed);
        auto* ends = at<Pair<double>>(layout.ends);
        const int out = static_cast<int>(c.out);
        for (int o = thread; o < out; o += threads) {
            Pair<double> sum = {0, 0};
            for (int j = 0; j < own_modes(); ++j) {
                const Pair<double> phase = c.phase[mode(j)];
                const double h = adjoint ? 1 : weight_of(mode(j));
                sum.re += h * phase.re * static_cast<double>(mixed[j * out + o].re);
                sum.im += h * phase.im * static_cast<double>(mixed[j * out + o].im);
            }
            ends[o] = sum;
        }
    }
    /// `mixed` at the first end, all channels, then at the last.
    __device__ double end_value(int e) const {
        const auto* ends = at<Pair<double>>(layout.ends);
        const int out = static_cast<int>(c.out);
        Pair<double> sum = {0, 0};
        for (int p = 0; p < cluster.parts; ++p) {
            sum += cluster.of(ends[e % out], p);
        }
        return e < out ? sum.re + sum.im : sum.re - sum.im;
    }
    /// x at the first end, all channels, then at the last.
    __device__ double input_end(int e) const {
        const int in = static_cast<int>(c.in);
        const T value = line_of(e % in)[e < in ? 0 : c.n - 1];
        return static_cast<double>(value);
    }
    /// A warp takes a row of gains.
    __device__ void pull_through_gains(int begin, int count, int moved, double* record) const {
        const auto* told = at<double>(layout.told);
        auto* answer = at<double>(layout.answer);
        const int lane = thread % warp_size;
        for (int row = thread / warp_size; row < count; row += threads / warp_size) {
            double sum = 0;
            for (int j = lane; j < moved; j += warp_size) {
                const int64_t place = static_cast<int64_t>(begin + row) * moved + j;
                sum += told[j] * c.gain[place * c.gain_parts];
            }
            sum = warp_sum(sum);
            if (lane == 0) {
                answer[row] = sum;
                record[begin + row] = sum;
            }
        }
    }

    /// The whole spectrum of y, from all blocks, over `parts`.
    __device__ void gather() const {
        const auto* mixed = at<Pair<T>>(layout.mixed);
        auto* spectrum = at<Pair<T>>(layout.parts);
        fetch_together(
            layout.modes * layout.out,
            [&](int e) -> Pair<T> {
                const int k = smaller(e / layout.out, static_cast<int>(c.modes) - 1);
                const int o = smaller(e % layout.out, static_cast<int>(c.out) - 1);
                const int place = k / cluster.parts * static_cast<int>(c.out) + o;
                const Pair<T> y = cluster.of(mixed[place], k % cluster.parts);
                const bool exists = e / layout.out == k && e % layout.out == o;
                const T h = adjoint ? T(1) : c.weights[k];
                return {exists ? h * y.re : T(0), exists ? h * y.im : T(0)};
            },
            [&](int e, const Pair<T>& z) { spectrum[e] = z; }
        );
        __syncthreads();
    }

    __device__ bool assigns() const {
        return !adjoint && c.rule.stencil != nullptr && cluster.rank == cluster.parts - 1;
    }

    /// The points of this block from the spectrum.
    __device__ void synthesise() const {
        const auto* basis = at<Pair<T>>(layout.basis);
        const auto* spectrum = at<Pair<T>>(layout.parts);
        const auto* values = at<Pair<T>>(layout.x);
        const auto* skip = at<T>(layout.skip);
        const int columns = c.share / cell;
        for (int tile = thread; tile < layout.out / cell * columns; tile += threads) {
            const int column = tile % columns, o = tile / columns * cell;
            T even[cell][cell] = {}, odd[cell][cell] = {};
            for (int k = 0; k < layout.modes; k += 2) {
                const Side<cell, Pair<T>> z0(spectrum + k * layout.out + o);
                const Side<cell, Pair<T>> z1(spectrum + (k + 1) * layout.out + o);
#pragma unroll
                for (int j = 0; j < cell; ++j) {
                    const Side<2, Pair<T>> w(
                        basis + (column + j * columns) * layout.basis_pitch + k
                    );
#pragma unroll
                    for (int r = 0; r < cell; ++r) {
                        accumulate<Form::folded_synthesis>(
                            z0[r].re, z0[r].im, w[0], even[r][j], odd[r][j]
                        );
                        accumulate<Form::folded_synthesis>(
                            z1[r].re, z1[r].im, w[1], even[r][j], odd[r][j]
                        );
                    }
                }
            }
            // From even and odd parts to the two points.
#pragma unroll
            for (int r = 0; r < cell; ++r) {
#pragma unroll
                for (int j = 0; j < cell; ++j) {
                    const T sum = even[r][j], difference = odd[r][j];
                    even[r][j] = sum - difference;
                    odd[r][j] = sum + difference;
                }
            }
            for (int i = 0; c.skip.data != nullptr && i < layout.in; i += 2) {
                const Side<cell, T> s0(skip + i * layout.out + o);
                const Side<cell, T> s1(skip + (i + 1) * layout.out + o);
#pragma unroll
                for (int j = 0; j < cell; ++j) {
                    const Side<2, Pair<T>> z(values + (column + j * columns) * layout.x_pitch + i);
#pragma unroll
                    for (int r = 0; r < cell; ++r) {
                        even[r][j] += s0[r] * z[0].re;
                        odd[r][j] += s0[r] * z[0].im;
                        even[r][j] += s1[r] * z[1].re;
                        odd[r][j] += s1[r] * z[1].im;
                    }
                }
            }
#pragma unroll
            for (int r = 0; r < cell; ++r) {
#pragma unroll
                for (int j = 0; j < cell; ++j) {
                    const int64_t point = first + column + j * columns;
                    if (o + r < c.out && point >= 0) {
                        const int64_t up = fold.up + point, down = fold.down - point;
                        put(o + r, up, even[r][j]);
                        if (up != down) {
                            put(o + r, down, odd[r][j]);
                        }
                    }
                }
            }
        }
        if (assigns()) {
            __syncthreads();
            assign();
        }
    }
    /// A point of y; what a face rule needs is set aside.
    __device__ void put(int o, int64_t point, T value) const {
        const int64_t last = c.n - 1 - point;
        if (c.bias != nullptr) {
            value += c.bias[o];
        }
        if (adjoint && c.gain != nullptr && (point == 0 || last == 0)) {
            const int out = static_cast<int>(c.out);
            value = static_cast<T>(
                static_cast<double>(value) + (point == 0 ? answer_of(o) : 0.0) +
                (last == 0 ? answer_of(out + o) : 0.0)
            );
        }
        if (assigns()) {
            T* edges = at<T>(layout.edges) + o * 2 * c.rule.width;
            if (point < c.rule.width) {
                edges[point] = value;
            }
            if (last < c.rule.width) {
                edges[c.rule.width + last] = value;
            }
            if (point == 0 || last == 0) {
                return;
            }
        }
        finish((item * c.out + o) * c.n + point, value, false);
    }
    __device__ void finish(int64_t place, T value, bool prescribed) const {
        if (c.field != nullptr) {
            c.field[place] = value;
        }
        const auto y = field_of<stored>(c.y, c.storage);
        y[place] = c.activated && !prescribed ? gelu(value) : value;
    }
    __device__ void assign() const {
        for (int e = thread; e < 2 * static_cast<int>(c.out); e += threads) {
            const int o = e / 2, end = e % 2;
            const T given =
                c.rule.values[item * c.rule.item + o * c.rule.channel + end * c.rule.end];
            const T* inwards = at<T>(layout.edges) + e * c.rule.width;
            // A rule that does not count the end itself prescribes it.
            finish(
                (item * c.out + o) * c.n + (end == 0 ? 0 : c.n - 1),
                face_value(c.rule, end, given, [&](int64_t j) { return inwards[j]; }),
                c.rule.stencil[end * c.rule.width] == 0
            );
        }
    }
};

template <typename T, bool adjoint, bool stored>
__global__ void __launch_bounds__(
    most_cluster_threads, sizeof(T) == 4 ? 2 : 1
) spectral_cluster_kernel(ClusterCall<T> c) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    const ClusterBlock<T, adjoint, stored> block(c);
    block.load();
    block.analyse();
    block.cluster.sync();
    block.take_modes();
    block.mix();
    if (c.gain != nullptr) {
        block.correct();
        block.mix();
    }
    block.cluster.sync();
    block.gather();
    block.synthesise();
    block.cluster.leave();
#endif
}

}  // namespace physcon::cuda
