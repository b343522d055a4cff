// SPDX-License-Identifier: Apache-2.0
// Mixing of channels, one complex product per mode, and its two adjoints. Sums of a split
// transform are added where they are first read.
#pragma once

#include "spectral_lines.cuh"

namespace physcon::cuda {

using MixCut = Cut<4, 8, false, true>;
using PullCut = Cut<4, 8, false, false>;
using WeighCut = Cut<4, 8, true, true>;

template <typename T>
struct MixCall {
    int64_t modes = 0, batch = 0, in = 0, out = 0;
    const Pair<T>* weight = nullptr;  ///< (modes, in, out)
    Partial<T> input;                 ///< X (modes, batch, in)
    Pair<T>* input_out = nullptr;     ///< the sum of `input`, or null
    Pair<T>* output = nullptr;        ///< X W (modes, batch, out)
    Partial<T> upstream;              ///< gradient of the output
    Pair<T>* input_gradient = nullptr;
    Pair<T>* weight_gradient = nullptr;
    /// More rows of input and upstream per mode, for the gradient of the weight alone.
    int64_t more_rows = 0;
    const Pair<T>* more_input = nullptr;
    const Pair<T>* more_upstream = nullptr;
};

/// Tiles of a (rows, columns) product.
struct Tiles {
    int64_t down, across;
    __host__ __device__ Tiles(int64_t rows, int64_t columns, int tile_rows, int tile_columns)
        : down((rows + tile_rows - 1) / tile_rows),
          across((columns + tile_columns - 1) / tile_columns) {}
    __host__ __device__ int64_t count() const {
        return down * across;
    }
};

template <typename T>
__global__ void __launch_bounds__(most_product_threads, 1) spectral_mix_kernel(MixCall<T> c) {
    const int columns = static_cast<int>(blockDim.x) / MixCut::row_threads * thread_columns;
    const Tiles tiles(c.batch, c.out, MixCut::tile_rows, columns);
    const int64_t place = block_index(), mode = place / tiles.count();
    if (mode >= c.modes) {
        return;
    }
    const int64_t row0 = place / tiles.across % tiles.down * MixCut::tile_rows;
    const int64_t column0 = place % tiles.across * columns;
    const auto left = [&](int64_t i, int row) -> Pair<T> {
        return c.input[(mode * c.batch + smaller(row0 + row, c.batch - 1)) * c.in + i];
    };
    const auto right = [&](int64_t i, int column) -> Pair<T> {
        return c.weight[(mode * c.in + i) * c.out + smaller(column0 + column, c.out - 1)];
    };
    const auto store = [&](int row, int column, T re, T im) {
        if (row0 + row < c.batch && column0 + column < c.out) {
            c.output[(mode * c.batch + row0 + row) * c.out + column0 + column] = {re, im};
        }
    };
    T* memory = reinterpret_cast<T*>(shared_memory());
    pair_product<Form::plain, MixCut>(memory, 0, c.in, left, right, store);
    if (c.input_out != nullptr && column0 == 0) {
        const int64_t first = (mode * c.batch + row0) * c.in;
        const int64_t count = smaller<int64_t>(MixCut::tile_rows, c.batch - row0) * c.in;
        for (int64_t e = threadIdx.x; e < count; e += blockDim.x) {
            c.input_out[first + e] = c.input[first + e];
        }
    }
}

/// Gradient of the input, upstream W^H, tile `tile` of all.
template <typename T>
__device__ void pull_through_weight(const MixCall<T>& c, int64_t tile, int columns) {
    const Tiles tiles(c.batch, c.in, PullCut::tile_rows, columns);
    const int64_t mode = tile / tiles.count();
    const int64_t row0 = tile / tiles.across % tiles.down * PullCut::tile_rows;
    const int64_t column0 = tile % tiles.across * columns;
    const auto left = [&](int64_t o, int row) -> Pair<T> {
        return c.upstream[(mode * c.batch + smaller(row0 + row, c.batch - 1)) * c.out + o];
    };
    const auto right = [&](int64_t o, int column) -> Pair<T> {
        return c.weight[(mode * c.in + smaller(column0 + column, c.in - 1)) * c.out + o];
    };
    const auto store = [&](int row, int column, T re, T im) {
        if (row0 + row < c.batch && column0 + column < c.in) {
            c.input_gradient[(mode * c.batch + row0 + row) * c.in + column0 + column] = {re, im};
        }
    };
    T* memory = reinterpret_cast<T*>(shared_memory());
    pair_product<Form::conjugate_right, PullCut>(memory, 0, c.out, left, right, store);
}

/// Gradient of the weight, X^H upstream, summed over the batch in its order.
template <typename T>
__device__ void weigh(const MixCall<T>& c, int64_t tile, int columns) {
    const Tiles tiles(c.in, c.out, WeighCut::tile_rows, columns);
    const int64_t mode = tile / tiles.count();
    const int64_t row0 = tile / tiles.across % tiles.down * WeighCut::tile_rows;
    const int64_t column0 = tile % tiles.across * columns;
    const auto left = [&](int64_t b, int row) -> Pair<T> {
        const int64_t i = smaller(row0 + row, c.in - 1);
        const bool own = b < c.batch;
        const int64_t at = own ? mode * c.batch + b : mode * c.more_rows + b - c.batch;
        return own ? c.input[at * c.in + i] : c.more_input[at * c.in + i];
    };
    const auto right = [&](int64_t b, int column) -> Pair<T> {
        const int64_t o = smaller(column0 + column, c.out - 1);
        const bool own = b < c.batch;
        const int64_t at = own ? mode * c.batch + b : mode * c.more_rows + b - c.batch;
        return own ? c.upstream[at * c.out + o] : c.more_upstream[at * c.out + o];
    };
    const auto store = [&](int row, int column, T re, T im) {
        if (row0 + row < c.in && column0 + column < c.out) {
            c.weight_gradient[(mode * c.in + row0 + row) * c.out + column0 + column] = {re, im};
        }
    };
    T* memory = reinterpret_cast<T*>(shared_memory());
    pair_product<Form::conjugate_left, WeighCut>(
        memory, 0, c.batch + c.more_rows, left, right, store
    );
}

/// Both gradients in one launch: the first `pulls` blocks make that of the input.
template <typename T>
__global__ void __launch_bounds__(most_product_threads, 1) spectral_mix_gradient_kernel(
    MixCall<T> c, int64_t pulls, int64_t weighs
) {
    const int columns = static_cast<int>(blockDim.x) / MixCut::row_threads * thread_columns;
    const int64_t place = block_index();
    if (place < pulls) {
        pull_through_weight(c, place, columns);
    } else if (place < pulls + weighs) {
        weigh(c, place - pulls, columns);
    }
}

}  // namespace physcon::cuda
