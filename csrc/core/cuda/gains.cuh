// SPDX-License-Identifier: Apache-2.0
// What the gains of corrected convolutions are made from: answers of the weights at the ends of an
// axis, and the published elimination. All of it is double precision, one pass over the numbers.
#pragma once

#include "boundary_grid.cuh"

#ifndef PHYSCON_ISA_NAMESPACE
#define PHYSCON_ISA_NAMESPACE cuda
#endif
#include "../elimination.hpp"

namespace physcon::cuda {

constexpr int response_threads = 64;  // of a block, one per entry of the weight matrices
constexpr int factor_modes = 64;      // whose factors are in shared memory at a time

/// One axis of a convolution. A block works on a piece of the matrices of one q.
template <typename T>
struct ResponseCall {
    Normal normal;
    int64_t entries;                  ///< in times out
    int64_t pieces, parts;            ///< blocks per q; numbers per entry of an answer
    const Pair<T>* weight = nullptr;  ///< (modes, entries)
    double* response_out = nullptr;   ///< (D G A, others, entries, parts)
    const double* response_bar = nullptr;
    Pair<T>* weight_out = nullptr;
};

/// h_k, h_k cos t and h_k sin t, t = w_k (N - 1), of the modes from `first` on.
struct EndFactors {
    double* data;
    __device__ int fill(const Axis& axis, int64_t first) const {
        const auto count = static_cast<int>(smaller<int64_t>(factor_modes, axis.modes - first));
        __syncthreads();  // the factors before have been used
        for (int i = static_cast<int>(threadIdx.x); i < count; i += response_threads) {
            const double h = axis.weight(first + i);
            const Pair<double> phase = axis.phase(first + i, 2 * (axis.size - 1));
            data[3 * i] = h;
            data[3 * i + 1] = h * phase.re;
            data[3 * i + 2] = h * phase.im;
        }
        __syncthreads();
        return count;
    }
};

/// The blocks D, G and A of one entry.
struct EndBlocks {
    Complex same, across, back;
};

/// Of all retained modes of the axis, without regard to the field being real.
template <typename T>
__device__ EndBlocks
sum_modes(const ResponseCall<T>& c, const EndFactors& factors, int64_t q, int64_t entry) {
    Complex p = {0, 0}, r = {0, 0}, s = {0, 0};
    for (int64_t first = 0; first < c.normal.own.modes; first += factor_modes) {
        const int count = factors.fill(c.normal.own, first);
        for (int i = 0; i < count && entry < c.entries; ++i) {
            const Pair<T> w = c.weight[c.normal.mode(first + i, q) * c.entries + entry];
            const auto re = static_cast<double>(w.re), im = static_cast<double>(w.im);
            const double* f = factors.data + 3 * i;
            p.re += f[0] * re;
            p.im += f[0] * im;
            r.re += f[1] * re;
            r.im += f[1] * im;
            s.re += f[2] * re;
            s.im += f[2] * im;
        }
    }
    return {p, {r.re - s.im, r.im + s.re}, {r.re + s.im, r.im - s.re}};
}

__device__ inline void add_scaled(Complex& to, const Complex& value, double re, double im) {
    to.re += re * value.re;
    to.im += im * value.im;
}

__device__ inline void store_parts(double* to, const Complex& value, int64_t parts) {
    to[0] = value.re;
    if (parts == 2) {
        to[1] = value.im;
    }
}

template <typename T>
__global__ void __launch_bounds__(response_threads, 1) end_response_kernel(ResponseCall<T> c) {
    const EndFactors factors = {shared_memory()};
    const int64_t q = block_index() / c.pieces;
    if (q >= c.normal.others) {
        return;
    }
    const int64_t entry = block_index() % c.pieces * response_threads + threadIdx.x;
    const Mirror m = c.normal.mirror(q);
    // Where the field is real, the average with the conjugate of the mirror mode, which may be the
    // mode itself or be none.
    const bool itself = m.real_field && m.partner == q;
    const bool pair = m.real_field && m.partner >= 0 && !itself;
    EndBlocks found = {};
    for (int pass = 0; pass < (pair ? 2 : 1); ++pass) {
        const EndBlocks sums = sum_modes(c, factors, pass == 0 ? q : m.partner, entry);
        const double re = m.real_field && !itself ? 0.5 : 1;
        const double im = itself ? 0 : pass == 0 ? re : -re;
        add_scaled(found.same, sums.same, re, im);
        add_scaled(found.across, sums.across, re, im);
        add_scaled(found.back, sums.back, re, im);
    }
    if (entry >= c.entries) {
        return;
    }
    const int64_t block = c.normal.others * c.entries * c.parts;
    double* to = c.response_out + (q * c.entries + entry) * c.parts;
    store_parts(to, found.same, c.parts);
    store_parts(to + block, found.across, c.parts);
    store_parts(to + 2 * block, found.back, c.parts);
}

template <typename T>
__global__ void __launch_bounds__(response_threads, 1) end_response_adjoint_kernel(
    ResponseCall<T> c
) {
    const EndFactors factors = {shared_memory()};
    const int64_t q = block_index() / c.pieces;
    if (q >= c.normal.others) {
        return;
    }
    const int64_t entry = block_index() % c.pieces * response_threads + threadIdx.x;
    const bool works = entry < c.entries;
    const Mirror m = c.normal.mirror(q);
    const auto number = [&](int64_t row, int index) {
        if (!works || row < 0) {
            return Complex{0, 0};
        }
        const int64_t at = (index * c.normal.others + row) * c.entries + entry;
        const double* bar = c.response_bar + at * c.parts;
        return Complex{bar[0], c.parts == 2 ? bar[1] : 0.0};
    };
    Complex bar[3];
#pragma unroll
    for (int index = 0; index < 3; ++index) {
        bar[index] = number(q, index);
        if (m.real_field) {
            const Complex mirror = number(m.partner, index);
            bar[index] = {0.5 * (bar[index].re + mirror.re), 0.5 * (bar[index].im - mirror.im)};
        }
    }
    // Gradients of the sums with h, h cos and h sin.
    const Complex r = {bar[1].re + bar[2].re, bar[1].im + bar[2].im};
    const Complex s = {bar[1].im - bar[2].im, bar[2].re - bar[1].re};
    for (int64_t first = 0; first < c.normal.own.modes; first += factor_modes) {
        const int count = factors.fill(c.normal.own, first);
        for (int i = 0; i < count && works; ++i) {
            const double* f = factors.data + 3 * i;
            c.weight_out[c.normal.mode(first + i, q) * c.entries + entry] = {
                static_cast<T>(f[0] * bar[0].re + f[1] * r.re + f[2] * s.re),
                static_cast<T>(f[0] * bar[0].im + f[1] * r.im + f[2] * s.im)
            };
        }
    }
}

constexpr int gain_threads = 256;
constexpr int gain_warps = gain_threads / warp_size;
constexpr int step_sums = 12;             // three gradients of four multiples
constexpr int64_t most_step_blocks = 64;  // whose sums one block adds up
constexpr std::size_t steps_shared =
    sizeof(double) * gain_warps + sizeof(Steps);  // sums of warps, then the numbers

/// The numbers of the elimination, once per block.
__device__ inline const Steps& find_steps(const TwoStepGainArgs& a, const BlockTeam& team) {
    auto* steps = reinterpret_cast<Steps*>(team.scratch + gain_warps);
    const int64_t row = a.channels * a.parts, size = a.modes * a.channels * row;
    double answer[3];
#pragma unroll
    for (int b = 0; b < 3; ++b) {
        double sum = 0;
        for (int64_t i = team.rank(); i < a.channels; i += team.size()) {
            sum += a.response[b * size + i * row];
        }
        answer[b] = team.sum(sum);
    }
    if (team.rank() == 0) {
        *steps = Steps(a, answer[0], answer[1], answer[2]);
    }
    __syncthreads();
    return *steps;
}

__global__ void __launch_bounds__(gain_threads, 1) two_step_gain_kernel(TwoStepGainArgs a) {
    const Steps& steps = find_steps(a, {shared_memory()});
    const int64_t c = a.channels, row = c * a.parts;
    for (int64_t e = first_thread(); e < a.modes * 4 * c * row; e += all_threads()) {
        const int64_t index = e / row, j = e % row;
        const int64_t q = index / (4 * c), s = index / c % 4, i = index % c;
        const bool diagonal = j == i * a.parts;
        double* to = a.gain_out + index * 2 * row + j;
        const double across = a.response[((a.modes + q) * c + i) * row + j];
        to[0] = diagonal ? steps.seen[s] : 0;
        to[row] = steps.block[s] * across + (diagonal ? steps.own[s] : 0);
    }
}

/// Gradients of G through the second column and of the multiples, in sums per block; zeros
/// elsewhere. A warp takes an input channel of a mode.
__global__ void __launch_bounds__(gain_threads, 1) two_step_gain_adjoint_kernel(
    TwoStepGainArgs a, double* partial
) {
    const BlockTeam team = {shared_memory()};
    const Steps& steps = find_steps(a, team);
    const int64_t c = a.channels, row = c * a.parts, size = a.modes * c * row;
    double sum[step_sums] = {};  // of the identity in both columns, of G
    const int lane = team.rank() % warp_size;
    const int64_t warp = first_thread() / warp_size, warps = all_threads() / warp_size;
    for (int64_t line = warp; line < a.modes * c; line += warps) {
        const int64_t q = line / c, i = line % c;
        for (int64_t j = lane; j < row; j += warp_size) {
            const int64_t at = line * row + j;
            const double across = a.response[size + at];
            double total = 0;
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                const double* bar = a.gain_bar + ((q * 4 + s) * c + i) * 2 * row + j;
                if (j == i * a.parts) {
                    sum[s] += bar[0];
                    sum[4 + s] += bar[row];
                }
                sum[8 + s] += bar[row] * across;
                total += steps.block[s] * bar[row];
            }
            a.response_out[at] = 0;
            a.response_out[size + at] = total;
            a.response_out[2 * size + at] = 0;
        }
    }
#pragma unroll
    for (int s = 0; s < step_sums; ++s) {
        const double total = team.sum(sum[s]);
        if (team.rank() == 0) {
            partial[static_cast<int64_t>(blockIdx.x) * step_sums + s] = total;
        }
    }
}

/// What remains once all sums are known: the gradient of the three answers. One block.
__global__ void __launch_bounds__(gain_threads, 1) two_step_gain_answers_kernel(
    TwoStepGainArgs a, const double* partial, int64_t blocks
) {
    const BlockTeam team = {shared_memory()};
    const Steps& steps = find_steps(a, team);
    double of_seen[4] = {}, of_own[4] = {}, of_block[4] = {};
    for (int64_t b = 0; b < blocks; ++b) {
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            of_seen[s] += partial[b * step_sums + s];
            of_own[s] += partial[b * step_sums + 4 + s];
            of_block[s] += partial[b * step_sums + 8 + s];
        }
    }
    double answer[3];
    steps.pull_back(a, of_seen, of_own, of_block, answer);
    const int64_t row = a.channels * a.parts, size = a.modes * a.channels * row;
    for (int64_t i = team.rank(); i < a.channels; i += team.size()) {
#pragma unroll
        for (int b = 0; b < 3; ++b) {
            a.response_out[b * size + i * row] += answer[b];
        }
    }
}

}  // namespace physcon::cuda
