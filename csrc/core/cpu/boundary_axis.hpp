// SPDX-License-Identifier: Apache-2.0
// A corrected axis, and the stages around it.
#pragma once

#include "boundary_ends.hpp"
#include "boundary_gains.hpp"
#include "boundary_lines.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// A corrected axis: its place, its memory, what it saw.
template <typename T>
struct Correction {
    Normal normal;
    Phases phases;
    EndLines<T> lines;
    Records records;
    Gains gains;

    Correction(
        Arena& arena,
        const SpectralGrid& grid,
        int axis,
        int64_t batch,
        int64_t in,
        int64_t out,
        const BoundaryGains& g,
        double* shifts,
        const Executor& executor
    )
        : normal(grid, axis),
          phases(arena, normal),
          lines(arena, grid, axis, batch, in),
          records(normal, batch, in, out, shifts),
          gains(arena, records, g, executor) {}
    Correction(const Correction&) = delete;  // parts refer to `normal`
    Correction& operator=(const Correction&) = delete;
    void fill(const Executor& executor) const {
        phases.fill(normal);
        lines.fill(executor);
        gains.fill(executor);
    }
    bool on_line() const {
        return records.parts == 1;
    }
    /// Values of a spectrum at the ends, into `r` from `at` on. `weighted`: of the real field that
    /// the spectrum stands for. `ends` is scratch, here and below.
    void evaluate(
        const Spectrum<const T>& spectrum,
        bool weighted,
        const Records& r,
        int64_t at,
        double* ends,
        const Executor& executor
    ) const {
        if (on_line()) {
            double* to = r.data + at;
            evaluate_line(spectrum, phases, normal.modes, weighted, to, r.length(), executor);
            return;
        }
        evaluate_ends(spectrum, normal, phases, weighted, ends, executor);
        if (weighted) {
            take_real_field(ends, normal, true, r.batch * 4 * spectrum.channels, executor);
        }
        r.put(ends, 2 * spectrum.channels, at, executor);
    }
    /// out = base + what the sources in `r` from `at` on radiate; the adjoint of `evaluate`.
    void radiate(
        const Records& r,
        int64_t at,
        bool weighted,
        const Spectrum<const T>& base,
        const Spectrum<T>& out,
        double* ends,
        const Executor& executor
    ) const {
        if (on_line()) {
            const double* from = r.data + at;
            radiate_line(
                from, r.length(), phases, normal.modes, weighted, base, out, ends, executor
            );
            return;
        }
        r.get(ends, 2 * out.channels, at, executor);
        if (weighted) {
            take_real_field(ends, normal, true, r.batch * 4 * out.channels, executor);
        }
        radiate_ends(ends, normal, phases, weighted, base, out, executor);
    }
};

template <typename T>
SpectralTransformArgs<T> transform(
    const SpectralGrid& grid, const T* tables, int64_t rows, bool weighted
) {
    SpectralTransformArgs<T> t;
    t.grid = grid;
    t.tables = tables;
    t.rows = rows;
    t.weighted = weighted;
    return t;
}

template <typename T, typename Args>
SpectralMixArgs<T> mixing(const Args& args) {
    SpectralMixArgs<T> m;
    m.modes = mode_count(args.grid);
    m.batch = args.batch;
    m.in = args.in;
    m.out = args.out;
    m.weight = args.weight;
    return m;
}

inline int corrected_axes(const BoundaryGains& gains) {
    int count = 0;
    for (const double* gain : gains.data) {
        count += gain != nullptr ? 1 : 0;
    }
    return count;
}

/// Doubles of the largest (others, batch, 2 ends, channels, 2) of any axis.
inline int64_t ends_size(const SpectralGrid& grid, int64_t batch, int64_t channels) {
    int64_t most = 0;
    for (int axis = 3 - grid.axes; axis < 3; ++axis) {
        most = larger(most, Normal(grid, axis).others);
    }
    return most * batch * 4 * channels;
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
