// SPDX-License-Identifier: Apache-2.0
// Analysis of the last axis in single precision, whose points arrive while others are multiplied.
//
// A stage is 16 folded points: of the lines of a tile on both sides of the centre, in rows of 20
// numbers, and of its wavenumbers. There are two: copies fill one while the other is used. Rows and
// their runs of four start at 16 bytes. What a warp reads at once lies in different banks: eight
// neighbouring rows begin at eight different multiples of four (20 g mod 32), where a lane reads
// four numbers of a row, or four lanes one each.
#pragma once

#include "async.cuh"
#include "spectral_lines.cuh"

namespace physcon::cuda {

constexpr int stage_points = 16, stage_pitch = stage_points + 4;

/// The memory of a stage: x above and below the centre, the latter in the order of memory, and
/// the basis.
struct Stage {
    static constexpr int side = AnalysisCut::tile_rows * stage_pitch;
    float *above, *below;
    Pair<float>* basis;

    __device__ explicit Stage(float* memory)
        : above(memory),
          below(memory + side),
          basis(reinterpret_cast<Pair<float>*>(memory + 2 * side)) {}
    __host__ __device__ static constexpr int basis_pitch(int columns) {
        return columns + 4;
    }
    __host__ __device__ static constexpr int numbers(int columns) {
        return 2 * side + 2 * stage_points * basis_pitch(columns);
    }
    /// Where a line of the tile lies. Multiply-adds take eight lines a thread, and what
    /// neighbouring threads read must lie in neighbouring rows.
    template <Arithmetic arithmetic>
    __device__ static int row(int line) {
        constexpr int rows = AnalysisCut::rows, threads = AnalysisCut::row_threads;
        return on_matrix_units(arithmetic) ? line : line % rows * threads + line / rows;
    }
};
/// Bytes of shared memory for a block with this many threads side by side.
constexpr std::size_t stream_bytes(int column_threads) {
    return 2 * sizeof(float) *
           static_cast<std::size_t>(Stage::numbers(column_threads * thread_columns));
}

/// What a block transforms.
struct StreamTile {
    int64_t line0, mode0, begin, end;  ///< folded points of its split
    int columns;
};

/// Four 16-bit numbers, read at once.
struct alignas(8) StoredRun {
    std::uint16_t bits[4];
};

/// Starts to fill a stage with the points from `first` on; what does not exist is zero. 16-bit
/// numbers become floats on the way, which copies cannot do: they are there at once.
template <Arithmetic arithmetic, bool stored>
__device__ void fetch(
    const AnalysisCall<float>& c, const StreamTile& tile, int64_t first, const Stage& stage
) {
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const Fold fold(c.n);
    const auto in = field_of<stored>(c.in, c.storage);
    // Ends that a face rule pulls its gradient back to are computed, not copied.
    const bool ruled =
        c.rule.stencil != nullptr && first + stage_points > fold.points - c.rule.width;
    // Half a line of a multiple of four points: every run of four is aligned on both sides.
    const bool aligned = c.n % 8 == 0 && reinterpret_cast<std::uintptr_t>(c.in) % 16 == 0;
    if (aligned && !ruled && first + stage_points <= fold.points) {
        constexpr int runs = stage_points / 4;
        for (int e = thread; e < 2 * runs * AnalysisCut::tile_rows; e += threads) {
            const int at = e % runs * 4, line = e / (2 * runs);
            const bool below = e / runs % 2 != 0, exists = tile.line0 + line < c.lines;
            const int64_t point =
                below ? fold.down - first - (stage_points - 1) + at : fold.up + first + at;
            float* to = (below ? stage.below : stage.above) + at;
            to += Stage::row<arithmetic>(line) * stage_pitch;
            const auto from = in + (exists ? (tile.line0 + line) * c.n + point : 0);
            if constexpr (stored) {
                const StoredRun run = *reinterpret_cast<const StoredRun*>(from.data());
                Run<float, 4> values;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    values.value[i] = exists ? widened(run.bits[i], c.storage) : 0.f;
                }
                *reinterpret_cast<Run<float, 4>*>(to) = values;
            } else {
                copy_async<16>(to, from, exists);
            }
        }
    } else {
        for (int e = thread; e < 2 * stage_points * AnalysisCut::tile_rows; e += threads) {
            const int step = e % stage_points, line = e / (2 * stage_points);
            const bool below = e / stage_points % 2 != 0;
            const int64_t q = first + step, point = below ? fold.down - q : fold.up + q;
            // The point in the centre of an odd line is its own partner.
            const bool exists =
                tile.line0 + line < c.lines && q < tile.end && !(below && point == fold.up + q);
            const auto x = in + (exists ? (tile.line0 + line) * c.n : 0);
            float* to = below ? stage.below + stage_points - 1 - step : stage.above + step;
            to += Stage::row<arithmetic>(line) * stage_pitch;
            if constexpr (stored) {
                const auto value = [&](int64_t i) -> float { return x[i]; };
                *to = exists ? pulled_back(c.n, point, c.rule, value) : 0.f;
            } else if (ruled) {
                *to = exists ? pulled_back(x, c.n, point, c.rule) : 0.f;
            } else {
                copy_async<4>(to, exists ? x + point : x, exists);
            }
        }
    }
    for (int e = thread; e < stage_points * tile.columns; e += threads) {
        const int step = e / tile.columns, column = e % tile.columns;
        const int64_t q = first + step, k = tile.mode0 + column;
        const bool exists = q < tile.end && k < c.modes;
        copy_async<sizeof(Pair<float>)>(
            stage.basis + step * Stage::basis_pitch(tile.columns) + column,
            exists ? c.basis + q * c.modes + k : c.basis,
            exists
        );
    }
}

/// Adds the products of a stage.
template <Arithmetic arithmetic>
__device__ void add_stage(
    const Stage& stage, int columns, Sums<AnalysisCut, float, arithmetic>& sums
) {
    constexpr Form form = Form::folded_analysis;
    const int pitch = Stage::basis_pitch(columns);
    if constexpr (on_matrix_units(arithmetic)) {
        static_assert(stage_points == matrix_group);
        const auto above = [&](int step, int row) { return stage.above[row * stage_pitch + step]; };
        const auto below = [&](int step, int row) {
            return stage.below[row * stage_pitch + stage_points - 1 - step];
        };
        multiply_pairs<form>(
            [&](int step, int row) { return above(step, row) + below(step, row); },
            [&](int step, int row) { return above(step, row) - below(step, row); },
            [&](int step, int column) { return stage.basis[step * pitch + column].re; },
            [&](int step, int column) { return stage.basis[step * pitch + column].im; },
            sums
        );
    } else {
        constexpr int rows = AnalysisCut::rows, run = 4;
        const int column_threads = columns / thread_columns;
        const int across = static_cast<int>(threadIdx.x) % column_threads;
        const int down = static_cast<int>(threadIdx.x) / column_threads * rows;
#pragma unroll 1
        for (int p = 0; p < stage_points; p += run) {
            Pair<float> z[run][thread_columns];
#pragma unroll
            for (int i = 0; i < run; ++i) {
#pragma unroll
                for (int j = 0; j < thread_columns; ++j) {
                    z[i][j] = stage.basis[(p + i) * pitch + across + j * column_threads];
                }
            }
#pragma unroll
            for (int r = 0; r < rows; ++r) {
                const int row = Stage::row<arithmetic>(down + r) * stage_pitch;
                const auto x = *reinterpret_cast<const Run<float, run>*>(stage.above + row + p);
                const auto y = *reinterpret_cast<const Run<float, run>*>(
                    stage.below + row + stage_points - run - p
                );
#pragma unroll
                for (int i = 0; i < run; ++i) {
                    const float a = x.value[i], b = y.value[run - 1 - i];
#pragma unroll
                    for (int j = 0; j < thread_columns; ++j) {
                        accumulate<form>(
                            a + b, a - b, z[i][j], sums.first[r][j], sums.second[r][j]
                        );
                    }
                }
            }
        }
    }
}

/// Calls store(row, column, first, second) for every entry of a tile. The memory is free before.
template <Arithmetic arithmetic, bool stored, typename Store>
__device__ void stream_product(
    float* memory, const AnalysisCall<float>& c, const StreamTile& tile, const Store& store
) {
    constexpr bool aside = !on_matrix_units(arithmetic);
    Sums<AnalysisCut, float, arithmetic> sums, parts;
    int terms = 0;
    int64_t stage = 0;
    const auto place = [&](int64_t i) {
        return Stage(memory + i % 2 * Stage::numbers(tile.columns));
    };
    fetch<arithmetic, stored>(c, tile, tile.begin, place(0));
    for (int64_t first = tile.begin; first < tile.end; first += stage_points, ++stage) {
        wait_for_copies();
        __syncthreads();  // this stage is there, and the one before has been used
        if (first + stage_points < tile.end) {
            fetch<arithmetic, stored>(c, tile, first + stage_points, place(stage + 1));
        }
        add_stage<arithmetic>(place(stage), tile.columns, aside ? parts : sums);
        terms += stage_points;
        if (aside && terms >= most_terms) {
            terms = 0;
            sums.take(parts);
        }
    }
    if (aside) {
        sums.take(parts);
    }
    sums.each(store);
}

template <Arithmetic arithmetic, bool stored>
__global__ void __launch_bounds__(most_product_threads, 1) spectral_stream_kernel(
    AnalysisCall<float> c
) {
    const int columns = static_cast<int>(blockDim.x) / AnalysisCut::row_threads * thread_columns;
    const int64_t mode_tile = block_index() / c.line_tiles % c.mode_tiles;
    const int64_t split = block_index() / (c.line_tiles * c.mode_tiles);
    const Fold fold(c.n);
    const StreamTile tile = {
        block_index() % c.line_tiles * AnalysisCut::tile_rows,
        mode_tile * columns,
        split * c.run,
        smaller(fold.points, (split + 1) * c.run),
        columns
    };
    const auto store = [&](int row, int column, float first, float second) {
        const int64_t line = tile.line0 + row, k = tile.mode0 + column;
        if (line < c.lines && k < c.modes) {
            const float h = c.weights == nullptr ? 1.f : c.weights[k];
            c.out[(split * c.modes + k) * c.lines + line] = {h * first, h * second};
        }
    };
    auto* memory = reinterpret_cast<float*>(shared_memory());
    stream_product<arithmetic, stored>(memory, c, tile, store);
    if (mode_tile == 0 && split == 0) {
        store_ends<stored>(c, tile.line0);
    }
}

}  // namespace physcon::cuda
