// SPDX-License-Identifier: Apache-2.0
// Transforms of whole planes and volumes, one per block: a field is read once and its truncated
// spectrum written, or the other way, and what lies between stays in shared memory.
//
// A plane (rows, points) goes chunk by chunk of its rows through the product of the last axis into
// a panel (rows, modes) of complex numbers, which the other axis then transforms. A volume does so
// plane after plane and keeps the results for its first axis. The axes but the last are folded as
// well: with wavenumbers k and -k together,
//
//   X(+-k) = sum_q (p(c + t) + p(c - t)) cos -+ i (p(c + t) - p(c - t)) sin,
//
// where real and imaginary part of p are lines of their own; a fourth of the products of the
// complex form. The last axis has the arithmetic of a line; these sums are short.
//
// With N points and M modes in all, device memory sees A (1 + 2 M / N) for a direction, A being the
// bytes of the field. Axis by axis the spectra between the axes were written and read again: with
// M_2 modes of N_2 points on the last axis another 4 M_2 / N_2 of A, 0.38 A for 128 x 128 points
// and 12 modes, 0.5 A for 256 x 256 and 32.
#pragma once

#include "plane_ends.cuh"
#include "spectral_stream.cuh"
#include "tickets.cuh"

namespace physcon::cuda {

// As many threads below each other as the cuts of the last axis have, but fewer rows: these axes
// have few lines.
using PanelAnalysisCut = Cut<2, AnalysisCut::row_threads, true, true>;
using PanelSynthesisCut = Cut<2, SynthesisCut::row_threads, true, false>;

template <typename T>
struct PlaneCall : PlaneEnds<T> {
    int64_t rows = 0;
    const Pair<T>* basis[3] = {};
    const T* weights = nullptr;  ///< of the wavenumbers of the last axis, or null
    const T* in = nullptr;       ///< (rows, N_0, N_1, N_2)
    T* out = nullptr;
    Storage storage = Storage::own;  ///< of `in` or `out`
    /// As `out`, where that has 16 bits and its faces are assigned or added to: holds what these
    /// are computed from, the points that `reach` from an end, before they were rounded.
    T* wide = nullptr;
    int64_t reach[3] = {0, 0, 0};
    const Pair<T>* spectrum = nullptr;  ///< (M_0, M_1, M_2, rows)
    Pair<T>* spectrum_out = nullptr;
    Tickets tickets = {};  ///< of a later launch, cleared by an analysis
    /// Whether a point of an axis reaches one of its ends.
    __device__ bool reaches(int axis, int64_t at) const {
        return at < reach[axis] || this->grid.size[axis] - 1 - at < reach[axis];
    }
};

/// One of the axes whose wavenumbers have signs. Its bases hold the points of one half only once.
template <typename T>
struct SignedAxis {
    Fold fold;
    int64_t modes, half;  ///< wavenumbers 0 .. half - 1, -half .. -1
    const Pair<T>* table;
    __device__ SignedAxis(const PlaneCall<T>& c, int axis)
        : fold(c.grid.size[axis]),
          modes(c.grid.modes[axis]),
          half(modes / 2),
          table(c.basis[axis]) {}
    /// cos and sin for the modulus `a` of a wavenumber at point q beyond the centre.
    __device__ Pair<T> basis(int64_t q, int64_t a) const {
        const Pair<T> z = table[(fold.up + q) * modes + a];
        return {z.re, a == half ? -z.im : z.im};
    }
};

/// Lines of complex numbers in shared memory, `point` numbers apart, to their modes:
/// put(k, line, value).
template <typename T, typename Put>
__device__ void analyse_panel(
    T* memory, const SignedAxis<T>& axis, const Pair<T>* panel, int64_t lines, const Put& put
) {
    constexpr int tile_rows = PanelAnalysisCut::tile_rows;
    const int threads = static_cast<int>(blockDim.x);
    const int columns = threads / PanelAnalysisCut::row_threads * thread_columns;
    const auto* values = reinterpret_cast<const T*>(panel);
    auto* halves = reinterpret_cast<Pair<T>*>(memory);  // (tile_rows, columns): even and odd sums
    for (int64_t row0 = 0; row0 < 2 * lines; row0 += tile_rows) {
        for (int64_t a0 = 0; a0 <= axis.half; a0 += columns) {
            const auto left = [&](int64_t q, int row) -> Pair<T> {
                const int64_t line = row0 + row;
                if (line >= 2 * lines) {
                    return {0, 0};
                }
                const T up = values[(axis.fold.up + q) * 2 * lines + line];
                if (axis.fold.up + q == axis.fold.down - q) {
                    return {up, 0};
                }
                const T down = values[(axis.fold.down - q) * 2 * lines + line];
                return {up + down, up - down};
            };
            const auto right = [&](int64_t q, int column) -> Pair<T> {
                return a0 + column <= axis.half ? axis.basis(q, a0 + column) : Pair<T>{0, 0};
            };
            __syncthreads();  // the panel is complete, the memory free
            Sums<PanelAnalysisCut, T> sums;
            add_product<Form::folded_synthesis, PanelAnalysisCut>(
                memory, 0, axis.fold.points, left, right, sums
            );
            __syncthreads();
            sums.each([&](int row, int column, T& even, T& odd) {
                halves[row * columns + column] = {even, odd};
            });
            __syncthreads();
            for (int e = static_cast<int>(threadIdx.x); e < tile_rows / 2 * columns; e += threads) {
                const int pair = e / columns, column = e % columns;
                const int64_t line = row0 / 2 + pair, a = a0 + column;
                if (line >= lines || a > axis.half) {
                    continue;
                }
                const Pair<T> re = halves[2 * pair * columns + column];
                const Pair<T> im = halves[(2 * pair + 1) * columns + column];
                if (a < axis.half) {
                    put(a, line, Pair<T>{re.re + im.im, im.re - re.im});
                }
                if (a > 0) {
                    put(axis.modes - a, line, Pair<T>{re.re - im.im, im.re + re.im});
                }
            }
        }
    }
}

/// Modes mode(k, line) to lines of complex numbers in shared memory.
template <typename T, typename Mode>
__device__ void synthesise_panel(
    T* memory, const SignedAxis<T>& axis, int64_t lines, const Mode& mode, Pair<T>* panel
) {
    constexpr int tile_rows = PanelSynthesisCut::tile_rows;
    const int columns =
        static_cast<int>(blockDim.x) / PanelSynthesisCut::row_threads * thread_columns;
    auto* values = reinterpret_cast<T*>(panel);
    for (int64_t row0 = 0; row0 < 2 * lines; row0 += tile_rows) {
        for (int64_t q0 = 0; q0 < axis.fold.points; q0 += columns) {
            // Y(k) e^{it} + Y(-k) e^{-it} = (Y(k) + Y(-k)) cos t + i (Y(k) - Y(-k)) sin t
            const auto left = [&](int64_t a, int row) -> Pair<T> {
                const int64_t line = (row0 + row) / 2;
                if (line >= lines) {
                    return {0, 0};
                }
                const Pair<T> up = a < axis.half ? mode(a, line) : Pair<T>{0, 0};
                const Pair<T> down = a > 0 ? mode(axis.modes - a, line) : Pair<T>{0, 0};
                return row % 2 == 0 ? Pair<T>{up.re + down.re, down.im - up.im}
                                    : Pair<T>{up.im + down.im, up.re - down.re};
            };
            const auto right = [&](int64_t a, int column) -> Pair<T> {
                return q0 + column < axis.fold.points ? axis.basis(q0 + column, a) : Pair<T>{0, 0};
            };
            const auto store = [&](int row, int column, T even, T odd) {
                const int64_t line = row0 + row, q = q0 + column;
                if (line >= 2 * lines || q >= axis.fold.points) {
                    return;
                }
                values[(axis.fold.up + q) * 2 * lines + line] = even + odd;
                if (axis.fold.up + q != axis.fold.down - q) {
                    values[(axis.fold.down - q) * 2 * lines + line] = even - odd;
                }
            };
            pair_product<Form::folded_synthesis, PanelSynthesisCut>(
                memory, 0, axis.half + 1, left, right, store
            );
        }
    }
}

/// Shared memory of a block: the product, the panel of a plane, the panel of a volume.
template <typename T>
struct PlaneMemory {
    T* product;
    Pair<T>*panel, *stack;
    __device__ PlaneMemory(const SpectralGrid& grid, std::size_t product_size)
        : product(reinterpret_cast<T*>(shared_memory())),
          panel(reinterpret_cast<Pair<T>*>(product + product_size / sizeof(T))),
          stack(panel + grid.size[1] * grid.modes[2]) {}
};
/// Numbers of both panels.
inline int64_t panel_numbers(const SpectralGrid& grid) {
    const int64_t stack = grid.axes == 3 ? grid.size[0] * grid.modes[1] * grid.modes[2] : 0;
    return grid.size[1] * grid.modes[2] + stack;
}

/// What a kernel makes of the field of its block besides its transform.
enum class PlaneInput {
    plain,
    faces,   ///< pulled back through the face rules
    stored,  ///< in 16 bits
    stored_faces,
};

/// Whether the points of the last axis arrive while others are multiplied.
template <typename T>
constexpr bool streams(PlaneInput input) {
    return sizeof(T) == 4 && (input == PlaneInput::plain || input == PlaneInput::stored);
}
/// Where a field begins, as arguments of kernels say it.
template <typename T>
__device__ inline const T* address_of(const T* field) {
    return field;
}
template <typename T>
__device__ inline const T* address_of(const StoredField& field) {
    return reinterpret_cast<const T*>(field.data());
}
/// Bytes of shared memory for the product of an analysis.
template <typename T>
__host__ __device__ constexpr std::size_t plane_product_bytes(
    PlaneInput input, int across, Arithmetic arithmetic
) {
    return streams<T>(input) ? stream_bytes(across)
                             : product_bytes<AnalysisCut, T>(across, arithmetic);
}

template <typename T, bool volume, PlaneInput input, Arithmetic arithmetic>
__global__ void __launch_bounds__(most_product_threads, 1) spectral_plane_analysis_kernel(
    PlaneCall<T> c
) {
    const int across = static_cast<int>(blockDim.x) / AnalysisCut::row_threads;
    const int columns = across * thread_columns;
    const PlaneMemory<T> memory(c.grid, plane_product_bytes<T>(input, across, arithmetic));
    const int64_t row = blockIdx.x, rows = c.grid.size[1], n = c.grid.size[2];
    const int64_t modes = c.grid.modes[2], lines = c.grid.modes[1] * modes;
    if (row == 0) {
        c.tickets.clear();
    }
    const Fold fold(n);
    const auto put = [&](int64_t mode, const Pair<T>& value) {
        const T h = c.weights == nullptr ? T(1) : c.weights[mode % modes];
        c.spectrum_out[mode * c.rows + row] = {h * value.re, h * value.im};
    };
    const SignedAxis<T> second(c, 1);
    constexpr bool stored = input == PlaneInput::stored || input == PlaneInput::stored_faces;
    constexpr bool faces = input == PlaneInput::faces || input == PlaneInput::stored_faces;
    const auto in = field_of<stored>(c.in, c.storage) + row * c.grid.size[0] * rows * n;
    for (int64_t plane = 0; plane < c.grid.size[0]; ++plane) {
        for (int64_t i0 = 0; i0 < rows; i0 += AnalysisCut::tile_rows) {
            for (int64_t k0 = 0; k0 < modes; k0 += columns) {
                const auto store = [&](int i, int column, T re, T im) {
                    if (i0 + i < rows && k0 + column < modes) {
                        memory.panel[(i0 + i) * modes + k0 + column] = {re, im};
                    }
                };
                if constexpr (streams<T>(input)) {
                    const auto first = in + plane * rows * n;
                    AnalysisCall<T> call;
                    call.in = address_of<T>(first);
                    call.storage = c.storage;
                    call.basis = c.basis[2];
                    call.lines = rows;
                    call.n = n;
                    call.modes = modes;
                    __syncthreads();  // the memory is free
                    stream_product<arithmetic, stored>(
                        memory.product, call, {i0, k0, 0, fold.points, columns}, store
                    );
                } else {
                    const auto left = [&](int64_t q, int i) -> Pair<T> {
                        const int64_t line = smaller(i0 + i, rows - 1);
                        const int64_t ends[2] = {fold.up + q, fold.down - q};
                        const bool both = ends[0] != ends[1];
                        T up, down = 0;
                        if constexpr (faces) {
                            up = 0;
#pragma unroll 1  // one copy of the rules in registers
                            for (int side = 0; side < (both ? 2 : 1); ++side) {
                                const int64_t point = side == 0 ? ends[0] : ends[1];
                                const T value =
                                    before_faces(c.grid.size, c.rule, in, plane, line, point);
                                up = side == 0 ? value : up;
                                down = side == 0 ? down : value;
                            }
                        } else {
                            const T* x = in + (plane * rows + line) * n;
                            up = x[ends[0]];
                            down = x[ends[1]];
                        }
                        return {both ? up + down : up, both ? up - down : T(0)};
                    };
                    const auto right = [&](int64_t q, int column) -> Pair<T> {
                        return c.basis[2][q * modes + smaller(k0 + column, modes - 1)];
                    };
                    pair_product<Form::folded_analysis, AnalysisCut, arithmetic>(
                        memory.product, 0, fold.points, left, right, store
                    );
                }
            }
        }
        analyse_panel(
            memory.product,
            second,
            memory.panel,
            modes,
            [&](int64_t k, int64_t line, const Pair<T>& value) {
                if (volume) {
                    memory.stack[plane * lines + k * modes + line] = value;
                } else {
                    put(k * modes + line, value);
                }
            }
        );
    }
    if (volume) {
        analyse_panel(
            memory.product,
            SignedAxis<T>(c, 0),
            memory.stack,
            lines,
            [&](int64_t k, int64_t line, const Pair<T>& value) { put(k * lines + line, value); }
        );
    }
    if constexpr (faces) {
        store_face_gradients(c, row, in);
    }
    record_ends(reinterpret_cast<Complex*>(shared_memory()), c, row, in);
}

/// `stored`: the field in 16 bits.
template <typename T, bool volume, Arithmetic arithmetic, bool stored>
__global__ void __launch_bounds__(most_product_threads, 1) spectral_plane_synthesis_kernel(
    PlaneCall<T> c
) {
    const int across = static_cast<int>(blockDim.x) / SynthesisCut::row_threads;
    const int columns = across * thread_columns;
    const PlaneMemory<T> memory(c.grid, product_bytes<SynthesisCut, T>(across, arithmetic));
    const int64_t row = blockIdx.x, rows = c.grid.size[1], n = c.grid.size[2];
    const int64_t modes = c.grid.modes[2], lines = c.grid.modes[1] * modes;
    const Fold fold(n);
    const auto given = [&](int64_t mode) -> Pair<T> {
        const T h = c.weights == nullptr ? T(1) : c.weights[mode % modes];
        const Pair<T> z = c.spectrum[mode * c.rows + row];
        return {h * z.re, h * z.im};
    };
    if (volume) {
        synthesise_panel(
            memory.product,
            SignedAxis<T>(c, 0),
            lines,
            [&](int64_t k, int64_t line) { return given(k * lines + line); },
            memory.stack
        );
    }
    const SignedAxis<T> second(c, 1);
    const int64_t first = row * c.grid.size[0] * rows * n;
    const auto out = field_of<stored>(c.out, c.storage) + first;
    for (int64_t plane = 0; plane < c.grid.size[0]; ++plane) {
        __syncthreads();  // the stack is complete, the panel has been used
        synthesise_panel(
            memory.product,
            second,
            modes,
            [&](int64_t k, int64_t line) {
                const int64_t mode = k * modes + line;
                return volume ? memory.stack[plane * lines + mode] : given(mode);
            },
            memory.panel
        );
        __syncthreads();
        for (int64_t i0 = 0; i0 < rows; i0 += SynthesisCut::tile_rows) {
            for (int64_t q0 = 0; q0 < fold.points; q0 += columns) {
                const auto left = [&](int64_t k, int i) -> Pair<T> {
                    return memory.panel[smaller(i0 + i, rows - 1) * modes + k];
                };
                const auto right = [&](int64_t k, int column) -> Pair<T> {
                    return c.basis[2][smaller(q0 + column, fold.points - 1) * modes + k];
                };
                const auto store = [&](int i, int column, T even, T odd) {
                    const int64_t q = q0 + column;
                    if (i0 + i >= rows || q >= fold.points) {
                        return;
                    }
                    const int64_t line = (plane * rows + i0 + i) * n;
                    const auto y = out + line;
                    const int64_t up = fold.up + q, down = fold.down - q;
                    y[up] = even - odd;
                    if (up != down) {
                        y[down] = even + odd;
                    }
                    if constexpr (stored) {
                        if (c.wide != nullptr &&
                            (c.reaches(0, plane) || c.reaches(1, i0 + i) || c.reaches(2, up))) {
                            T* unrounded = c.wide + first + line;
                            unrounded[down] = even + odd;
                            unrounded[up] = even - odd;
                        }
                    }
                };
                pair_product<Form::folded_synthesis, SynthesisCut, arithmetic>(
                    memory.product, 0, modes, left, right, store
                );
            }
        }
    }
    T* field = (stored ? c.wide : c.out) + first;
    const auto also = [&](int64_t at, T value) {
        if constexpr (stored) {
            out[at] = value;
        }
    };
    assign_plane_faces(c, row, field, also);
    add_ends(reinterpret_cast<Complex*>(shared_memory()), c, row, field, also);
}

}  // namespace physcon::cuda
