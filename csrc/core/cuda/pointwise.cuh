// SPDX-License-Identifier: Apache-2.0
// What a Fourier layer adds to its convolution, and the adjoint: products with a small matrix over
// all points, two points per pair of numbers.
#pragma once

#include "../pointwise.hpp"
#include "activation.cuh"
#include "faces.cuh"
#include "spectral_product.cuh"

namespace physcon::cuda {

using PointCut = Cut<8, 8, true, true>;
using PointGradientCut = Cut<4, 8, false, false>;

/// Faces whose rule does not count their own value keep what they were assigned.
template <typename T>
struct Prescribed {
    int64_t size[3];
    FaceRule<T> rule[3];
    __device__ bool operator()(int64_t point) const {
        const int64_t at[3] = {
            point / (size[1] * size[2]), point / size[2] % size[1], point % size[2]
        };
        bool any = false;
#pragma unroll
        for (int axis = 0; axis < 3; ++axis) {
            const FaceRule<T>& r = rule[axis];
            if (r.stencil != nullptr) {
                any = any || (at[axis] == 0 && r.stencil[0] == 0) ||
                      (at[axis] == size[axis] - 1 && r.stencil[r.width] == 0);
            }
        }
        return any;
    }
};

template <typename T>
struct PointCall {
    int64_t items = 0, in = 0, out = 0, points = 0;
    const T* x = nullptr;                                   ///< (items, in, points)
    Storage storage = Storage::own, result = Storage::own;  ///< of `x` and `output`
    MatrixView<T> skip;                                     ///< (out, in)
    const T* bias = nullptr;
    const T* convolution = nullptr;  ///< (items, out, points); may be `output`
    T* field = nullptr;              ///< u, or null
    T* output = nullptr;             ///< gelu(u) or u
    bool activated = false;
    int64_t row_tiles = 0, point_tiles = 0;
};

/// `stored`: `output` in 16 bits, perhaps `x`.
template <typename T, bool stored>
__global__ void __launch_bounds__(most_product_threads, 1) pointwise_kernel(PointCall<T> c) {
    const int columns = static_cast<int>(blockDim.x) / PointCut::row_threads * thread_columns;
    const int64_t place = block_index(), item = place / (c.point_tiles * c.row_tiles);
    if (item >= c.items) {
        return;
    }
    const int64_t point0 = place % c.point_tiles * 2 * columns;
    const int64_t row0 = place / c.point_tiles % c.row_tiles * PointCut::tile_rows;
    const auto output = field_of<stored>(c.output, c.result);
    const auto number = [&](int64_t at) {
        return stored ? number_of(c.x, at, c.storage) : c.x[at];
    };
    const auto left = [&](int64_t i, int row) -> Pair<T> {
        const int64_t o = row0 + row;
        const T s = o < c.out ? c.skip.data[o * c.skip.row + i * c.skip.column] : T(0);
        return {s, s};
    };
    const auto right = [&](int64_t i, int column) -> Pair<T> {
        const int64_t p = point0 + column, q = p + columns;
        const int64_t line = (item * c.in + i) * c.points;
        return {p < c.points ? number(line + p) : T(0), q < c.points ? number(line + q) : T(0)};
    };
    const auto put = [&](int64_t o, int64_t p, T product) {
        if (o >= c.out || p >= c.points) {
            return;
        }
        const int64_t at = (item * c.out + o) * c.points + p;
        const T u = c.convolution[at] + product + (c.bias == nullptr ? T(0) : c.bias[o]);
        if (c.field != nullptr) {
            c.field[at] = u;
        }
        output[at] = c.activated ? gelu(u) : u;
    };
    const auto store = [&](int row, int column, T first, T second) {
        put(row0 + row, point0 + column, first);
        put(row0 + row, point0 + column + columns, second);
    };
    T* memory = reinterpret_cast<T*>(shared_memory());
    const int64_t steps = c.skip.data == nullptr ? 0 : c.in;
    pair_product<Form::folded_synthesis, PointCut>(memory, 0, steps, left, right, store);
}

/// The faces of one axis of u, and their activation.
template <typename T>
__global__ void __launch_bounds__(face_threads, 1) pointwise_faces_kernel(
    FaceAxis a,
    int axis,
    Prescribed<T> prescribed,
    bool activated,
    T* field,
    T* output,
    Storage result
) {
    const FaceRule<T> rule = axis == 0   ? prescribed.rule[0]
                             : axis == 1 ? prescribed.rule[1]
                                         : prescribed.rule[2];
    for (int64_t e = first_thread(); e < 2 * a.lines(); e += all_threads()) {
        const int64_t line = e / 2;
        const int end = static_cast<int>(e % 2);
        const int64_t at = a.begin(line) + (end == 0 ? 0 : (a.points - 1) * a.step);
        const int64_t inwards = end == 0 ? a.step : -a.step;
        const T u = face_value(rule, end, a.value(rule, line, end), [&](int64_t j) {
            return field[at + j * inwards];
        });
        field[at] = u;
        const T y = activated && !prescribed(at % a.plane) ? gelu(u) : u;
        store_number(output, at, y, result);
    }
}

/// Gradient of u from that of gelu(u).
template <typename T>
__global__ void __launch_bounds__(face_threads, 1) pointwise_slope_kernel(
    int64_t count,
    int64_t points,
    Prescribed<T> prescribed,
    const T* grad,
    Storage storage,
    const T* field,
    T* out
) {
    for (int64_t e = first_thread(); e < count; e += all_threads()) {
        const T g = number_of(grad, e, storage);
        out[e] = prescribed(e % points) ? g : g * gelu_slope(field[e]);
    }
}

template <typename T>
struct PointGradientCall {
    int64_t items = 0, in = 0, out = 0, points = 0;
    const T* x = nullptr;  ///< (items, in, points)
    Storage storage = Storage::own;
    const T* grad = nullptr;  ///< (items, out, points)
    T* parts = nullptr;       ///< (splits, in + 1, out); the last row is for the bias
    int64_t row_tiles = 0, column_tiles = 0, run = 0;
};

/// Products of x, and of ones, with the gradient: a part of the points of all items per block.
/// `stored`: x in 16 bits.
template <typename T, bool stored>
__global__ void __launch_bounds__(most_product_threads, 1) pointwise_gradient_kernel(
    PointGradientCall<T> c
) {
    const int columns =
        static_cast<int>(blockDim.x) / PointGradientCut::row_threads * thread_columns;
    const int64_t row0 = blockIdx.x % c.row_tiles * PointGradientCut::tile_rows;
    const int64_t column0 = blockIdx.x / c.row_tiles % c.column_tiles * columns;
    const int64_t split = blockIdx.x / (c.row_tiles * c.column_tiles);
    // Two points of a line per step, half a line apart.
    const int64_t half = (c.points + 1) / 2, all = c.items * half;
    const auto two = [&](const auto& line, int64_t p) -> Pair<T> {
        return {line[p], p + half < c.points ? static_cast<T>(line[p + half]) : T(0)};
    };
    const auto x = field_of<stored>(c.x, c.storage);
    const auto left = [&](int64_t step, int row) -> Pair<T> {
        const int64_t i = row0 + row;
        if (i >= c.in) {
            return i == c.in ? Pair<T>{1, 1} : Pair<T>{0, 0};
        }
        return two(x + (step / half * c.in + i) * c.points, step % half);
    };
    const auto right = [&](int64_t step, int column) -> Pair<T> {
        const int64_t o = column0 + column;
        return o < c.out ? two(c.grad + (step / half * c.out + o) * c.points, step % half)
                         : Pair<T>{0, 0};
    };
    const auto store = [&](int row, int column, T first, T second) {
        const int64_t i = row0 + row, o = column0 + column;
        if (i <= c.in && o < c.out) {
            c.parts[(split * (c.in + 1) + i) * c.out + o] = first + second;
        }
    };
    T* memory = reinterpret_cast<T*>(shared_memory());
    pair_product<Form::folded_synthesis, PointGradientCut>(
        memory, split * c.run, smaller(all, (split + 1) * c.run), left, right, store
    );
}

/// The parts in their order; `skip_out` (in, out) and `bias_out` (out) may be null.
template <typename T>
__global__ void __launch_bounds__(face_threads, 1) pointwise_sum_kernel(
    int64_t splits, int64_t in, int64_t out, const T* parts, T* skip_out, T* bias_out
) {
    const int64_t size = (in + 1) * out;
    for (int64_t e = first_thread(); e < size; e += all_threads()) {
        double sum = 0;
        for (int64_t s = 0; s < splits; ++s) {
            sum += static_cast<double>(parts[s * size + e]);
        }
        if (e >= in * out && bias_out != nullptr) {
            bias_out[e - in * out] = static_cast<T>(sum);
        }
        if (e < in * out && skip_out != nullptr) {
            skip_out[e] = static_cast<T>(sum);
        }
    }
}

}  // namespace physcon::cuda
