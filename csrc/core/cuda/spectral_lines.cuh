// SPDX-License-Identifier: Apache-2.0
// Transforms of one axis, a tile of lines and of wavenumbers or points per block.
//
// Analysis turns (lines, N) into (M, lines), synthesis the other way, so that the axes of a grid
// follow each other without a transposition: last axis first from points to modes, last from modes
// to points. The last axis is real and folded; the others are complex.
#pragma once

#include "../pointwise.hpp"
#include "activation.cuh"
#include "faces.cuh"
#include "spectral_tables.cuh"
#include "storage.hpp"

namespace physcon::cuda {

using AnalysisCut = Cut<8, 16, false, true>;
using SynthesisCut = Cut<8, 8, true, false>;
using SkipCut = Cut<8, 8, true, true>;
constexpr int64_t most_fused_width = 16;  // of a face rule that the last pass applies itself

/// Sums of a split transform, to be added in their order.
template <typename T>
struct Partial {
    const Pair<T>* data = nullptr;
    int64_t stride = 0;
    int count = 1;
    __device__ Pair<T> operator[](int64_t at) const {
        Pair<T> sum = data[at];
        for (int i = 1; i < count; ++i) {
            const Pair<T> next = data[i * stride + at];
            sum.re += next.re;
            sum.im += next.im;
        }
        return sum;
    }
};

template <typename T>
struct AnalysisCall {
    const T* in = nullptr;  ///< (lines, n), real or complex
    Storage storage = Storage::own;
    const Pair<T>* basis = nullptr;
    const T* weights = nullptr;  ///< of the wavenumbers, or null
    Pair<T>* out = nullptr;      ///< (splits, modes, lines)
    int64_t lines = 0, n = 0, modes = 0;
    int64_t line_tiles = 0, mode_tiles = 0;
    int64_t run = 0;             ///< folded points of a split
    FaceRule<T> rule;            ///< the input is pulled back through this rule
    T* face_gradient = nullptr;  ///< (lines, 2): the input at the ends, or null
};

/// The input at the ends of the lines of a tile, as far as it is wanted.
template <bool stored, typename T>
__device__ void store_ends(const AnalysisCall<T>& c, int64_t line0) {
    for (int row = static_cast<int>(threadIdx.x);
         row < AnalysisCut::tile_rows && c.face_gradient != nullptr;
         row += static_cast<int>(blockDim.x)) {
        const int64_t line = line0 + row;
        if (line < c.lines) {
            const auto in = field_of<stored>(c.in, c.storage);
            c.face_gradient[2 * line] = in[line * c.n];
            c.face_gradient[2 * line + 1] = in[(line + 1) * c.n - 1];
        }
    }
}

template <typename T, bool folded, Arithmetic arithmetic>
__global__ void __launch_bounds__(most_product_threads, 1) spectral_analysis_kernel(
    AnalysisCall<T> c
) {
    const int columns = static_cast<int>(blockDim.x) / AnalysisCut::row_threads * thread_columns;
    const int64_t line0 = blockIdx.x % c.line_tiles * AnalysisCut::tile_rows;
    const int64_t tile = blockIdx.x / c.line_tiles % c.mode_tiles;
    const int64_t split = blockIdx.x / (c.line_tiles * c.mode_tiles);
    const int64_t mode0 = tile * columns;
    const Fold fold(c.n);
    const int64_t points = folded ? fold.points : c.n;
    const auto left = [&](int64_t q, int row) -> Pair<T> {
        const int64_t line = smaller(line0 + row, c.lines - 1);
        if (!folded) {
            return reinterpret_cast<const Pair<T>*>(c.in)[line * c.n + q];
        }
        const T* x = c.in + line * c.n;
        const T up = pulled_back(x, c.n, fold.up + q, c.rule);
        const T down = pulled_back(x, c.n, fold.down - q, c.rule);
        const bool both = fold.up + q != fold.down - q;
        return {both ? up + down : up, both ? up - down : T(0)};
    };
    const auto right = [&](int64_t q, int column) -> Pair<T> {
        return c.basis[q * c.modes + smaller(mode0 + column, c.modes - 1)];
    };
    const auto store = [&](int row, int column, T first, T second) {
        const int64_t line = line0 + row, k = mode0 + column;
        if (line < c.lines && k < c.modes) {
            const T h = c.weights == nullptr ? T(1) : c.weights[k];
            c.out[(split * c.modes + k) * c.lines + line] = {h * first, h * second};
        }
    };
    constexpr Form form = folded ? Form::folded_analysis : Form::conjugate_right;
    pair_product<form, AnalysisCut, arithmetic>(
        reinterpret_cast<T*>(shared_memory()),
        split * c.run,
        smaller(points, (split + 1) * c.run),
        left,
        right,
        store
    );
    if (tile == 0 && split == 0) {
        store_ends<false>(c, line0);
    }
}

template <typename T>
struct SynthesisCall {
    const Pair<T>* spectrum = nullptr;  ///< (modes, lines)
    const Pair<T>* basis = nullptr;
    const T* weights = nullptr;
    T* out = nullptr;                ///< (lines, n), real or complex
    Storage storage = Storage::own;  ///< of real output, and of x
    int64_t lines = 0, n = 0, modes = 0;
    int64_t line_tiles = 0;
    int64_t channels = 1;  ///< a line is item * channels + channel
    FaceRule<T> rule;      ///< assigned to the ends of the output
    /// Added to the ends of the output: (items, ends_length) that begin with (2, channels).
    const double* ends = nullptr;
    int64_t ends_length = 0;
    /// What a Fourier layer adds to a line before the ends are assigned.
    int64_t in = 0;
    const T* x = nullptr;  ///< (items, in, n)
    MatrixView<T> skip;    ///< (channels, in)
    const T* bias = nullptr;
    bool activated = false;
    T* field = nullptr;  ///< what the activation saw, or null
};

/// Forms of a synthesis: an axis between two others, the last axis, and a line of a layer, whose
/// tiles hold channels of one item.
enum class Synthesised { complex, real, layer };

template <typename T, Synthesised kind, Arithmetic arithmetic, bool stored>
__global__ void __launch_bounds__(most_product_threads, 1) spectral_synthesis_kernel(
    SynthesisCall<T> c
) {
    constexpr bool layer = kind == Synthesised::layer, folded = kind != Synthesised::complex;
    static_assert(folded || !stored);
    const auto out = field_of<stored>(c.out, c.storage);
    const int column_threads = static_cast<int>(blockDim.x) / SynthesisCut::row_threads;
    const int columns = column_threads * thread_columns;
    const int64_t tile = blockIdx.x / c.line_tiles;
    int64_t line0 = blockIdx.x % c.line_tiles * SynthesisCut::tile_rows, lines = c.lines, item = 0;
    if (layer) {
        const int64_t tiles = c.line_tiles / (c.lines / c.channels);
        item = blockIdx.x % c.line_tiles / tiles;
        line0 = item * c.channels + blockIdx.x % tiles * SynthesisCut::tile_rows;
        lines = (item + 1) * c.channels;
    }
    const Fold fold(c.n);
    // Tiles are counted from the ends of the line: a face and what it depends on share a block.
    const int64_t point0 = (folded ? fold.points : c.n) - (tile + 1) * columns;
    T* memory = reinterpret_cast<T*>(shared_memory());
    T* edges = memory + product_bytes<SynthesisCut, T>(column_threads, arithmetic) / sizeof(T);
    const bool assigns = folded && tile == 0 && c.rule.stencil != nullptr;
    const auto left = [&](int64_t k, int row) -> Pair<T> {
        const Pair<T> z = c.spectrum[k * c.lines + smaller(line0 + row, lines - 1)];
        const T h = c.weights == nullptr ? T(1) : c.weights[k];
        return {h * z.re, h * z.im};
    };
    const auto right = [&](int64_t k, int column) -> Pair<T> {
        return c.basis[larger<int64_t>(0, point0 + column) * c.modes + k];
    };
    const auto finish = [&](int64_t at, T value, bool prescribed) {
        if (layer && c.field != nullptr) {
            c.field[at] = value;
        }
        out[at] = layer && c.activated && !prescribed ? gelu(value) : value;
    };
    const auto put = [&](int row, int64_t at, T value) {
        const int64_t line = line0 + row, last = c.n - 1 - at;
        if (c.ends != nullptr && (at == 0 || last == 0)) {
            const double* ends = c.ends + line / c.channels * c.ends_length + line % c.channels;
            value = static_cast<T>(
                static_cast<double>(value) + (at == 0 ? ends[0] : 0.0) +
                (last == 0 ? ends[c.channels] : 0.0)
            );
        }
        if (assigns && at < c.rule.width) {
            edges[row * 2 * c.rule.width + at] = value;
        }
        if (assigns && last < c.rule.width) {
            edges[(row * 2 + 1) * c.rule.width + last] = value;
        }
        if (!assigns || (at != 0 && last != 0)) {
            finish(line * c.n + at, value, false);
        }
    };
    const auto store = [&](int row, int column, T first, T second) {
        const int64_t line = line0 + row, point = point0 + column;
        if (line >= lines || point < 0) {
            return;
        }
        if (layer) {
            const T bias = c.bias == nullptr ? T(0) : c.bias[line % c.channels];
            put(row, fold.up + point, first + bias);
            if (fold.up + point != fold.down - point) {
                put(row, fold.down - point, second + bias);
            }
            return;
        }
        if (!folded) {
            reinterpret_cast<Pair<T>*>(c.out)[line * c.n + point] = {first, second};
            return;
        }
        put(row, fold.up + point, first - second);
        if (fold.up + point != fold.down - point) {
            put(row, fold.down - point, first + second);
        }
    };
    constexpr Form form = folded ? Form::folded_synthesis : Form::plain;
    if constexpr (layer) {
        Sums<SynthesisCut, T, arithmetic> sums;
        add_product<form, SynthesisCut>(memory, 0, c.modes, left, right, sums);
        // From even and odd parts to the two points, which the skip is added to.
        sums.each([](int, int, T& first, T& second) {
            const T even = first, odd = second;
            first = even - odd;
            second = even + odd;
        });
        const auto matrix = [&](int64_t i, int row) -> Pair<T> {
            const int64_t channel = smaller(line0 + row, lines - 1) - item * c.channels;
            const T s = c.skip.data[channel * c.skip.row + i * c.skip.column];
            return {s, s};
        };
        const auto points = [&](int64_t i, int column) -> Pair<T> {
            const int64_t point = larger<int64_t>(0, point0 + column);
            const auto x = field_of<stored>(c.x, c.storage) + (item * c.in + i) * c.n;
            return {x[fold.up + point], x[fold.down - point]};
        };
        const int64_t steps = c.skip.data == nullptr ? 0 : c.in;
        add_product<form, SkipCut>(memory, 0, steps, matrix, points, sums);
        sums.each(store);
    } else {
        pair_product<form, SynthesisCut, arithmetic>(memory, 0, c.modes, left, right, store);
    }
    if (!assigns) {
        return;
    }
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < 2 * SynthesisCut::tile_rows;
         e += static_cast<int>(blockDim.x)) {
        const int row = e / 2, end = e % 2;
        const int64_t line = line0 + row;
        if (line >= lines) {
            continue;
        }
        const T given = c.rule.values
                            [line / c.channels * c.rule.item + line % c.channels * c.rule.channel +
                             end * c.rule.end];
        const T* inwards = edges + e * c.rule.width;
        // A rule that does not count the end itself prescribes it.
        finish(
            line * c.n + (end == 0 ? 0 : c.n - 1),
            face_value(c.rule, end, given, [&](int64_t j) { return inwards[j]; }),
            c.rule.stencil[end * c.rule.width] == 0
        );
    }
}

}  // namespace physcon::cuda
