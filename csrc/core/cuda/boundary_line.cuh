// SPDX-License-Identifier: Apache-2.0
// A single axis corrected at both ends: everything between the transforms in one launch.
//
// A cluster serves a few items. Its blocks share the modes of Y = X W, then the channels of the end
// values, then the columns of the gains, then the modes again, and meet in between. What they tell
// each other goes through device memory. End values and shifts are double precision:
//
//   y_0, y_N = sum_k h_k Re(Y_k e_k^*), sum_k h_k Re(Y_k e_k),  [d_0 d_N] = [a_0 a_N y_0 y_N] gain
//   Y'_k = (X_k + d_0 e_k + d_N e_k^*) W_k
//
// The adjoint goes the same way back: gradients of the shifts from upstream W^H, through the gains,
// and what returns to the end values joins the upstream.
#pragma once

#include "../boundary_spectral.hpp"
#include "cluster.cuh"
#include "spectral_mix.cuh"
#include "storage.hpp"

namespace physcon::cuda {

constexpr int most_line_threads = 512;
constexpr int line_items = 4;   // of a cluster
constexpr int line_lanes = 64;  // sums side by side

template <typename T>
struct LineCall {
    int64_t batch = 0, in = 0, out = 0, modes = 0, n = 0;
    int parts = 1;
    double period = 1;
    const Pair<double>* phase = nullptr;  ///< (modes): e_k
    const Pair<T>* weight = nullptr;      ///< (modes, in, out)
    const double* gain = nullptr;         ///< (2 (in + out), 2 in, gain_parts)
    int64_t gain_parts = 1;
    const T* x = nullptr;            ///< (batch, in, n), forward
    Storage storage = Storage::own;  ///< of x
    Partial<T> given;                ///< transform of the input, or of the upstream gradient
    Pair<T>* given_out = nullptr;    ///< its sum
    Pair<T>* mixed = nullptr;        ///< Y, then Y'; adjoint: gradient of X', then of X
    double* record = nullptr;        ///< (batch, length): what the ends saw, and the shifts
    const double* seen = nullptr;    ///< adjoint: the record of the forward call
    Pair<T>* corrected = nullptr;    ///< adjoint: upstream with what came back through the ends
    Pair<T>* shift = nullptr;        ///< adjoint: what the shifts added to X, or null
    __host__ __device__ int64_t length() const {
        return 2 * (in + out) + 2 * in;
    }
    __device__ double weight_of(int64_t k) const {
        return (k > 0 && 2 * static_cast<double>(k) != period ? 2 : 1) / period;
    }
};

/// sum[u][g] of `units` sums over `steps` terms for every item: term(unit, step, sum) adds one,
/// finish(unit, item, total) takes the result. The steps of a sum are shared by the threads that
/// are left over, and their parts added in order.
template <typename Sum, typename Term, typename Finish>
__device__ void sliced_sums(
    Sum* memory, int64_t units, int64_t steps, const Term& term, const Finish& finish
) {
    const int thread = static_cast<int>(threadIdx.x);
    int lanes = line_lanes;
    while (lanes > 16 && lanes / 2 >= units) {
        lanes /= 2;
    }
    const int threads = static_cast<int>(blockDim.x);
    const int slices = threads / lanes, lane = thread % lanes, slice = thread / lanes;
    const int64_t begin = steps * slice / slices, end = steps * (slice + 1) / slices;
    for (int64_t first = 0; first < units; first += lanes) {
        Sum sum[line_items] = {};
        for (int64_t step = begin; step < end && first + lane < units; ++step) {
            term(first + lane, step, sum);
        }
        __syncthreads();  // earlier parts have been added
#pragma unroll
        for (int g = 0; g < line_items; ++g) {
            memory[(slice * line_items + g) * lanes + lane] = sum[g];
        }
        __syncthreads();
        for (int e = thread; e < line_items * lanes; e += threads) {
            const int g = e / lanes, unit = e % lanes;
            if (first + unit >= units) {
                continue;
            }
            Sum total = {};
            for (int i = 0; i < slices; ++i) {
                total += memory[(i * line_items + g) * lanes + unit];
            }
            finish(first + unit, g, total);
        }
    }
}

/// Shared memory: sums, then the rows of one mode.
template <typename T>
__host__ __device__ constexpr std::size_t line_sum_bytes() {
    return sizeof(Pair<double>) * most_line_threads * line_items;
}
template <typename T>
std::size_t line_bytes(int64_t channels) {
    return line_sum_bytes<T>() + sizeof(Pair<T>) * static_cast<std::size_t>(line_items * channels);
}

/// Threads of a block: fewer channels leave less to share.
inline int line_threads(int64_t channels) {
    int threads = 64;
    while (threads < most_line_threads && threads < 8 * channels) {
        threads *= 2;
    }
    return threads;
}

/// The items of a cluster and its memory.
template <typename T>
struct LineBlock {
    const LineCall<T>& c;
    Cluster cluster;
    int64_t first;
    int count;
    void* sums;
    Pair<T>* rows;  ///< (line_items, channels) of one mode

    __device__ explicit LineBlock(const LineCall<T>& call)
        : c(call),
          cluster(call.parts),
          first(blockIdx.x / static_cast<unsigned>(call.parts) * int64_t{line_items}),
          count(static_cast<int>(smaller<int64_t>(line_items, call.batch - first))),
          sums(shared_memory()),
          rows(
              reinterpret_cast<Pair<T>*>(
                  reinterpret_cast<char*>(shared_memory()) + line_sum_bytes<T>()
              )
          ) {}
    __device__ double* record(int g) const {
        return c.record + (first + g) * c.length();
    }
    /// What sources of strength d_0, d_N add to mode k.
    __device__ static Pair<double> source(const Pair<double>& phase, double d0, double dn) {
        return {phase.re * (d0 + dn), phase.im * (d0 - dn)};
    }
    /// Calls body(k, h_k, e_k) for the modes of this block.
    template <typename Body>
    __device__ void own_modes(const Body& body) const {
        for (int64_t k = cluster.rank; k < c.modes; k += cluster.parts) {
            body(k, c.weight_of(k), c.phase[k]);
        }
    }
    /// rows <- load(item, channel), zeros for items that do not exist.
    template <typename Load>
    __device__ void fill_rows(int64_t channels, const Load& load) const {
        __syncthreads();  // the previous rows have been used
        for (int64_t e = threadIdx.x; e < line_items * channels; e += blockDim.x) {
            const int g = static_cast<int>(e / channels);
            rows[e] = g < count ? load(first + g, e % channels) : Pair<T>{0, 0};
        }
        __syncthreads();
    }
    /// mixed(k) = rows W(k).
    __device__ void mix(int64_t k) const {
        const Pair<T>* w = c.weight + k * c.in * c.out;
        sliced_sums(
            static_cast<Pair<T>*>(sums),
            c.out,
            c.in,
            [&](int64_t o, int64_t i, Pair<T>* sum) {
                const Pair<T> z = w[i * c.out + o];
#pragma unroll
                for (int g = 0; g < line_items; ++g) {
                    const Pair<T> r = rows[g * c.in + i];
                    accumulate<Form::plain>(r.re, r.im, z, sum[g].re, sum[g].im);
                }
            },
            [&](int64_t o, int g, const Pair<T>& total) {
                if (g < count) {
                    c.mixed[(k * c.batch + first + g) * c.out + o] = total;
                }
            }
        );
    }
    /// mixed(k) = rows W(k)^H: a warp per channel of the input, so that weights are read in order.
    __device__ void pull(int64_t k) const {
        const int warps = static_cast<int>(blockDim.x) / warp_size;
        const int warp = static_cast<int>(threadIdx.x) / warp_size;
        const int lane = static_cast<int>(threadIdx.x) % warp_size;
        for (int64_t i = warp; i < c.in; i += warps) {
            const Pair<T>* w = c.weight + (k * c.in + i) * c.out;
            Pair<T> sum[line_items] = {};
            for (int64_t o = lane; o < c.out; o += warp_size) {
                const Pair<T> z = w[o];
#pragma unroll
                for (int g = 0; g < line_items; ++g) {
                    const Pair<T> r = rows[g * c.out + o];
                    accumulate<Form::conjugate_right>(r.re, r.im, z, sum[g].re, sum[g].im);
                }
            }
            for (int step = warp_size / 2; step > 0; step /= 2) {
#pragma unroll
                for (int g = 0; g < line_items; ++g) {
                    sum[g].re += __shfl_xor_sync(all_lanes, sum[g].re, step);
                    sum[g].im += __shfl_xor_sync(all_lanes, sum[g].im, step);
                }
            }
#pragma unroll
            for (int g = 0; g < line_items; ++g) {
                if (lane == 0 && g < count) {
                    c.mixed[(k * c.batch + first + g) * c.in + i] = sum[g];
                }
            }
        }
    }
    /// record[at ..) <- values of `mixed` at both ends, sums with h_k if `weighted`.
    __device__ void end_values(int64_t channels, bool weighted, int64_t at) const {
        const int64_t begin = channels * cluster.rank / cluster.parts;
        const int64_t end = channels * (cluster.rank + 1) / cluster.parts;
        sliced_sums(
            static_cast<Pair<double>*>(sums),
            end - begin,
            c.modes,
            [&](int64_t unit, int64_t k, Pair<double>* sum) {
                const Pair<double> phase = c.phase[k];
                const double h = weighted ? c.weight_of(k) : 1;
#pragma unroll
                for (int g = 0; g < line_items; ++g) {
                    if (g < count) {
                        const Pair<T> y =
                            c.mixed[(k * c.batch + first + g) * channels + begin + unit];
                        sum[g].re += h * phase.re * static_cast<double>(y.re);
                        sum[g].im += h * phase.im * static_cast<double>(y.im);
                    }
                }
            },
            [&](int64_t unit, int g, const Pair<double>& total) {
                if (g < count) {
                    double* to = record(g) + at + begin + unit;
                    to[0] = total.re + total.im;
                    to[channels] = total.re - total.im;
                }
            }
        );
    }
};

template <typename T>
__global__ void __launch_bounds__(most_line_threads, 1) boundary_line_kernel(LineCall<T> c) {
    const LineBlock<T> block(c);
    const Cluster& cluster = block.cluster;
    const int64_t seen = 2 * (c.in + c.out);
    if (cluster.rank == 0) {
        for (int64_t e = threadIdx.x; e < block.count * c.in; e += blockDim.x) {
            const int g = static_cast<int>(e / c.in);
            const int64_t i = e % c.in;
            const int64_t first = ((block.first + g) * c.in + i) * c.n;
            block.record(g)[i] = number_of(c.x, first, c.storage);
            block.record(g)[c.in + i] = number_of(c.x, first + c.n - 1, c.storage);
        }
    }
    block.own_modes([&](int64_t k, double, const Pair<double>&) {
        block.fill_rows(c.in, [&](int64_t b, int64_t i) {
            const int64_t at = (k * c.batch + b) * c.in + i;
            const Pair<T> z = c.given[at];
            c.given_out[at] = z;
            return z;
        });
        block.mix(k);
    });
    cluster.sync();
    block.end_values(c.out, true, 2 * c.in);
    cluster.sync();
    const int64_t begin = 2 * c.in * cluster.rank / cluster.parts;
    const int64_t end = 2 * c.in * (cluster.rank + 1) / cluster.parts;
    sliced_sums(
        static_cast<double*>(block.sums),
        end - begin,
        seen,
        [&](int64_t unit, int64_t row, double* sum) {
            const double z = c.gain[(row * 2 * c.in + begin + unit) * c.gain_parts];
#pragma unroll
            for (int g = 0; g < line_items; ++g) {
                sum[g] += g < block.count ? block.record(g)[row] * z : 0.0;
            }
        },
        [&](int64_t unit, int g, double total) {
            if (g < block.count) {
                block.record(g)[seen + begin + unit] = total;
            }
        }
    );
    cluster.sync();
    block.own_modes([&](int64_t k, double, const Pair<double>& phase) {
        block.fill_rows(c.in, [&](int64_t b, int64_t i) -> Pair<T> {
            const Pair<T> z = c.given_out[(k * c.batch + b) * c.in + i];
            const double* d = c.record + b * c.length() + seen + i;
            const Pair<double> s = block.source(phase, d[0], d[c.in]);
            return {
                static_cast<T>(static_cast<double>(z.re) + s.re),
                static_cast<T>(static_cast<double>(z.im) + s.im)
            };
        });
        block.mix(k);
    });
}

template <typename T>
__global__ void __launch_bounds__(most_line_threads, 1) boundary_line_adjoint_kernel(
    LineCall<T> c
) {
    const LineBlock<T> block(c);
    const Cluster& cluster = block.cluster;
    const int64_t seen = 2 * (c.in + c.out), moved = 2 * c.in;
    block.own_modes([&](int64_t k, double, const Pair<double>& phase) {
        for (int64_t e = threadIdx.x; c.shift != nullptr && e < block.count * c.in;
             e += blockDim.x) {
            const int64_t b = block.first + e / c.in, i = e % c.in;
            const double* d = c.seen + b * c.length() + seen + i;
            const Pair<double> s = block.source(phase, d[0], d[c.in]);
            c.shift[(k * c.batch + b) * c.in + i] = {static_cast<T>(s.re), static_cast<T>(s.im)};
        }
        block.fill_rows(c.out, [&](int64_t b, int64_t o) {
            const int64_t at = (k * c.batch + b) * c.out + o;
            const Pair<T> z = c.given[at];
            c.given_out[at] = z;
            return z;
        });
        block.pull(k);
    });
    cluster.sync();
    block.end_values(c.in, false, seen);
    cluster.sync();
    const int warp = static_cast<int>(threadIdx.x) / warp_size;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const int warps = static_cast<int>(blockDim.x) / warp_size;
    for (int64_t row = cluster.rank * warps + warp; row < seen; row += warps * cluster.parts) {
        double sum[line_items] = {};
        for (int64_t j = lane; j < moved; j += warp_size) {
            const double z = c.gain[(row * moved + j) * c.gain_parts];
#pragma unroll
            for (int g = 0; g < line_items; ++g) {
                sum[g] += g < block.count ? block.record(g)[seen + j] * z : 0.0;
            }
        }
#pragma unroll
        for (int g = 0; g < line_items; ++g) {
            sum[g] = warp_sum(sum[g]);
            if (lane == 0 && g < block.count) {
                block.record(g)[row] = sum[g];
            }
        }
    }
    cluster.sync();
    block.own_modes([&](int64_t k, double h, const Pair<double>& phase) {
        block.fill_rows(c.out, [&](int64_t b, int64_t o) -> Pair<T> {
            const int64_t at = (k * c.batch + b) * c.out + o;
            const Pair<T> z = c.given_out[at];
            const double* back = c.record + b * c.length() + moved + o;
            const Pair<double> s = block.source(phase, h * back[0], h * back[c.out]);
            const Pair<T> sum = {
                static_cast<T>(static_cast<double>(z.re) + s.re),
                static_cast<T>(static_cast<double>(z.im) + s.im)
            };
            c.corrected[at] = sum;
            return sum;
        });
        block.pull(k);
    });
}

/// Gradients of the weight (the first `weighs` blocks) and of the gain, sums over the batch.
template <typename T>
__global__ void __launch_bounds__(most_product_threads, 1) boundary_line_gradients_kernel(
    MixCall<T> mixing, LineCall<T> c, int64_t weighs, double* gain_out
) {
    if (blockIdx.x < weighs) {
        const int columns = static_cast<int>(blockDim.x) / MixCut::row_threads * thread_columns;
        weigh(mixing, blockIdx.x, columns);
        return;
    }
    const int64_t seen = 2 * (c.in + c.out), moved = 2 * c.in;
    const int64_t e = (blockIdx.x - weighs) * static_cast<int64_t>(blockDim.x) + threadIdx.x;
    if (e >= seen * moved) {
        return;
    }
    double sum = 0;
    for (int64_t b = 0; b < c.batch; ++b) {
        sum += c.seen[b * c.length() + e / moved] * c.record[b * c.length() + seen + e % moved];
    }
    gain_out[e * c.gain_parts] = sum;
    if (c.gain_parts == 2) {
        gain_out[2 * e + 1] = 0;
    }
}

}  // namespace physcon::cuda
