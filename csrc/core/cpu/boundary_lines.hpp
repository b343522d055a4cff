// SPDX-License-Identifier: Apache-2.0
// The end lines of a field along one axis, and their transforms along the others.
#pragma once

#include "normal.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// cos and sin of w_k (n - c), (modes, points), of one axis.
struct LineBasis {
    int64_t modes, points;
    double *cosine, *sine;
    LineBasis(Arena& arena, const SpectralGrid& grid, int axis)
        : modes(grid.modes[axis]),
          points(grid.size[axis]),
          cosine(arena.take<double>(modes * points)),
          sine(arena.take<double>(modes * points)) {}
    void fill(const SpectralGrid& grid, int axis, const Executor& executor) const {
        run_indices(executor, modes, [&](int64_t, int64_t k) {
            const int64_t wave = Normal::wavenumber(grid, axis, k);
            for (int64_t n = 0; 2 * n < points; ++n) {
                const int64_t turns = (wave < 0 ? -wave : wave) * (points - 1 - 2 * n);
                const CosineSine value = cosine_sine(static_cast<double>(turns), grid.period[axis]);
                const double s = wave < 0 ? -value.sine : value.sine;
                const int64_t left = k * points + n, right = k * points + points - 1 - n;
                cosine[left] = cosine[right] = value.cosine;
                sine[left] = -s;
                sine[right] = s;
            }
        });
    }
};

/// out (blocks, to, lanes) <- in (blocks, from, lanes) along the middle axis, complex numbers in
/// pairs: points to modes with e^{-i w (n - c)}, or modes to points with its conjugate.
inline void transform_lines(
    const LineBasis& basis,
    bool to_modes,
    int64_t blocks,
    int64_t lanes,
    const double* in,
    double* out,
    const Executor& executor
) {
    const int64_t from = to_modes ? basis.points : basis.modes,
                  to = to_modes ? basis.modes : basis.points;
    const int64_t step = to_modes ? 1 : basis.points, row = to_modes ? basis.points : 1;
    const double sign = to_modes ? 1 : -1;
    run_indices(executor, blocks * to, [&](int64_t, int64_t index) {
        const double* source = in + index / to * from * lanes;
        double* target = out + index * lanes;
        const double* cosine = basis.cosine + index % to * row;
        const double* sine = basis.sine + index % to * row;
        const auto block = [&](auto full_tag, int64_t i) {
            constexpr bool full = decltype(full_tag)::value;
            const int count = full ? width<double> : static_cast<int>(lanes - i);
            Vector<double> p = {}, r = {};
            for (int64_t n = 0; n < from; ++n) {
                const Vector<double> v = load_lanes<full>(source + n * lanes + i, count);
                p += cosine[n * step] * v;
                r += sine[n * step] * v;
            }
            double even[width<double>], odd[width<double>];
            __builtin_memcpy(even, &p, sizeof(p));
            __builtin_memcpy(odd, &r, sizeof(r));
            for (int j = 0; j + 1 < count; j += 2) {
                target[i + j] = even[j] + sign * odd[j + 1];
                target[i + j + 1] = even[j + 1] - sign * odd[j];
            }
        };
        int64_t i = 0;
        for (; i + width<double> <= lanes; i += width<double>) {
            block(std::true_type{}, i);
        }
        if (i < lanes) {
            block(std::false_type{}, i);
        }
    });
}

/// The end lines of a field (batch, channels, sizes) along one axis, and their transforms.
template <typename T>
struct EndLines {
    const SpectralGrid& grid;
    const Normal normal;
    int64_t batch, channels, count[2], modes[2], stride[3];
    LineBasis basis[2];
    double* buffer[2];

    EndLines(Arena& arena, const SpectralGrid& g, int axis, int64_t b, int64_t c)
        : grid(g),
          normal(g, axis),
          batch(b),
          channels(c),
          count{g.size[normal.first()], g.size[normal.second()]},
          modes{g.modes[normal.first()], g.modes[normal.second()]},
          stride{g.size[1] * g.size[2], g.size[2], 1},
          basis{LineBasis(arena, g, normal.first()), LineBasis(arena, g, normal.second())} {
        const int64_t most = larger(count[0], modes[0]) * larger(count[1], modes[1]);
        for (double*& piece : buffer) {
            piece = g.axes == 1 ? nullptr : arena.take<double>(most * lanes());
        }
    }
    int64_t lanes() const {
        return 4 * batch * channels;
    }
    void fill(const Executor& executor) const {
        if (grid.axes > 1) {
            basis[0].fill(grid, normal.first(), executor);
            basis[1].fill(grid, normal.second(), executor);
        }
    }
    /// Calls body(position in the field, position among the lines) for every point of both ends.
    template <typename Body>
    void visit(const Executor& executor, Body&& body) const {
        const int64_t points = grid.size[0] * grid.size[1] * grid.size[2];
        const int64_t far = (grid.size[normal.axis] - 1) * stride[normal.axis];
        run_indices(executor, batch * channels, [&](int64_t, int64_t row) {
            const int64_t b = row / channels, c = row % channels;
            for (int64_t i = 0; i < count[0]; ++i) {
                for (int64_t j = 0; j < count[1]; ++j) {
                    const int64_t from =
                        row * points + i * stride[normal.first()] + j * stride[normal.second()];
                    const int64_t to = 2 * (((i * count[1] + j) * batch + b) * 2 * channels + c);
                    body(from, to);
                    body(from + far, to + 2 * channels);
                }
            }
        });
    }
    /// ends (others, batch, 2, channels, 2) <- transforms of the end lines of `field`.
    void analyse(const T* field, double* ends, const Executor& executor) const {
        visit(executor, [&](int64_t from, int64_t to) {
            buffer[0][to] = static_cast<double>(field[from]);
            buffer[0][to + 1] = 0;
        });
        transform_lines(basis[1], true, count[0], lanes(), buffer[0], buffer[1], executor);
        transform_lines(basis[0], true, 1, modes[1] * lanes(), buffer[1], ends, executor);
    }
    /// field += the adjoint of `analyse` applied to `ends`.
    void add_adjoint(const double* ends, T* field, const Executor& executor) const {
        transform_lines(basis[0], false, 1, modes[1] * lanes(), ends, buffer[1], executor);
        transform_lines(basis[1], false, count[0], lanes(), buffer[1], buffer[0], executor);
        visit(executor, [&](int64_t to, int64_t from) {
            field[to] = static_cast<T>(static_cast<double>(field[to]) + buffer[0][from]);
        });
    }
    /// On a line: calls body(position of the first point, of the last, item, channel).
    template <typename Body>
    void visit_line(const Executor& executor, Body&& body) const {
        const int64_t points = grid.size[normal.axis];
        run_indices(executor, batch, [&](int64_t, int64_t b) {
            for (int64_t c = 0; c < channels; ++c) {
                const int64_t first = (b * channels + c) * points;
                body(first, first + points - 1, b, c);
            }
        });
    }
    /// On a line: ends (batch, 2, channels), items `pitch` apart, <- the end points of `field`.
    void read_line(const T* field, double* ends, int64_t pitch, const Executor& executor) const {
        visit_line(executor, [&](int64_t first, int64_t last, int64_t b, int64_t c) {
            ends[b * pitch + c] = static_cast<double>(field[first]);
            ends[b * pitch + channels + c] = static_cast<double>(field[last]);
        });
    }
    /// The adjoint of `read_line`, added to `field`.
    void add_line(const double* ends, int64_t pitch, T* field, const Executor& executor) const {
        visit_line(executor, [&](int64_t first, int64_t last, int64_t b, int64_t c) {
            const double* end = ends + b * pitch + c;
            field[first] = static_cast<T>(static_cast<double>(field[first]) + end[0]);
            field[last] = static_cast<T>(static_cast<double>(field[last]) + end[channels]);
        });
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
