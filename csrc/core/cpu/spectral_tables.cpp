// SPDX-License-Identifier: Apache-2.0
// Tables of the transforms: every angle is reduced exactly and every entry rounded once.
#include "spectral_short.hpp"
#include "spectral_split.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

CosineSine cosine_sine(double j, double period) {
    // Angle pi r / P with r in [0, 2 P); all differences below are exact or between neighbours.
    double r = __builtin_fmod(j, 2 * period);
    double cosine_sign = 1, sine_sign = 1;
    if (r > period) {
        r = 2 * period - r;
        sine_sign = -1;
    }
    if (r > period / 2) {
        r = period - r;
        cosine_sign = -1;
    }
    constexpr double pi = 3.14159265358979323846;
    const bool swapped = r > period / 4;
    const double angle = pi * (swapped ? period / 2 - r : r) / period;
    const double c = __builtin_cos(angle), s = __builtin_sin(angle);
    return {cosine_sign * (swapped ? s : c), sine_sign * (swapped ? c : s)};
}

template <typename T>
SpectralTables<T> find_tables(const SpectralGrid& grid, void* base) {
    Arena arena(base);
    SpectralTables<T> t = {};
    const int64_t m = grid.modes[2], points = fold_axis(grid.size[2], grid.period[2]).points;
    t.weights = arena.take<T>(m);
    t.analysis = arena.take<T>(round_up(m, width<T>) * points * 2);
    t.synthesis = arena.take<T>(round_up(points, width<T>) * m * 2);
    if (is_split<T>(grid)) {
        t.split = arena.take<T>(m * 2 * round_up(split_step(grid), width<T>));
    }
    if (is_short<T>(grid)) {
        t.short_analysis = arena.take<T>(grid.size[2] * round_up(2 * m, width<T>));
        t.short_synthesis = arena.take<T>(m * 2 * round_up(grid.size[2], width<T>));
    }
    for (int axis = 3 - grid.axes; axis < 2; ++axis) {
        const int64_t count =
            (grid.modes[axis] / 2 + 1) * fold_axis(grid.size[axis], grid.period[axis]).points;
        t.cosine[axis] = arena.take<T>(count);
        t.sine[axis] = arena.take<T>(count);
        t.half_cosine[axis] = arena.take<T>(count);
        t.half_sine[axis] = arena.take<T>(count);
    }
    t.bytes = arena.used();
    return t;
}

namespace {

/// Whether point q is its own mirror image.
bool is_own_mirror(const Fold& fold, int64_t q) {
    return fold.up + q == fold.down - q || (fold.paired && fold.up + q == fold.top - q);
}

}  // namespace

template <typename T>
bool is_split(const SpectralGrid& grid) {
    const auto period = static_cast<int64_t>(grid.period[2]);
    if (grid.axes != 1 || static_cast<double>(period) != grid.period[2] || period % radix != 0) {
        return false;
    }
    return 4 * period / radix >= 3 * int64_t{width<T>};
}

template <typename T>
bool is_short(const SpectralGrid& grid) {
    const bool few = grid.modes[2] <= short_lines<T>;
    const int64_t most = few ? short_points_few : short_points;
    return grid.axes == 1 && grid.size[2] <= most && !is_split<T>(grid);
}

namespace {

/// Of the angle w_k (q - c) of the last axis.
CosineSine about_centre(const SpectralGrid& grid, int64_t k, int64_t q) {
    const int64_t twice = 2 * q - (grid.size[2] - 1);
    const auto turns = static_cast<double>(k * (twice < 0 ? -twice : twice));
    CosineSine value = cosine_sine(turns, grid.period[2]);
    value.sine = twice < 0 ? -value.sine : value.sine;
    return value;
}

template <typename T>
void fill_split(const SpectralGrid& grid, const Executor& executor, T* split) {
    const int64_t step = split_step(grid), lanes = width<T>;
    const int64_t padded = round_up(step, lanes);
    run_indices(executor, grid.modes[2], [&](int64_t, int64_t k) {
        for (int64_t q = 0; q < padded; ++q) {
            const CosineSine value = q < step ? about_centre(grid, k, q) : CosineSine{0, 0};
            T* to = split + (k * padded + q / lanes * lanes) * 2 + q % lanes;
            to[0] = static_cast<T>(value.cosine);
            to[lanes] = static_cast<T>(value.sine);
        }
    });
}

template <typename T>
void fill_short(const SpectralGrid& grid, T* analysis, T* synthesis) {
    const int64_t modes = round_up(2 * grid.modes[2], width<T>);
    const int64_t points = round_up(grid.size[2], width<T>);
    for (int64_t q = 0; q < points; ++q) {
        for (int64_t k = 0; 2 * k < modes; ++k) {
            CosineSine value = {0, 0};
            if (q < grid.size[2] && k < grid.modes[2]) {
                value = about_centre(grid, k, q);
            }
            const T cosine = static_cast<T>(value.cosine), minus = static_cast<T>(-value.sine);
            if (q < grid.size[2]) {
                analysis[q * modes + 2 * k] = cosine;
                analysis[q * modes + 2 * k + 1] = minus;
            }
            if (k < grid.modes[2]) {
                synthesis[2 * k * points + q] = cosine;
                synthesis[(2 * k + 1) * points + q] = minus;
            }
        }
    }
}

}  // namespace

template <typename T>
std::size_t spectral_tables_size(const SpectralTablesArgs<T>& args, const Executor&) {
    return find_tables<T>(args.grid, nullptr).bytes;
}

template <typename T>
void spectral_tables(const SpectralTablesArgs<T>& args, const Executor& executor) {
    const SpectralGrid& grid = args.grid;
    const SpectralTables<T> t = find_tables<T>(grid, args.tables);
    for (int axis = 3 - grid.axes; axis < 3; ++axis) {
        const Fold fold = fold_axis(grid.size[axis], grid.period[axis]);
        const bool last = axis == 2;
        const int64_t wavenumbers = last ? grid.modes[2] : grid.modes[axis] / 2 + 1;
        const int64_t lanes = width<T>;
        const int64_t padded = last ? round_up(wavenumbers, lanes) : wavenumbers;
        const int64_t padded_points = last ? round_up(fold.points, lanes) : fold.points;
        const int64_t even = 1 - fold.n % 2;
        run_indices(executor, padded, [&](int64_t, int64_t k) {
            for (int64_t q = 0; q < padded_points; ++q) {
                const bool exists = k < wavenumbers && q < fold.points;
                CosineSine value = {0, 0};
                if (exists) {
                    const auto turns = static_cast<double>(k) * static_cast<double>(2 * q + even);
                    value = cosine_sine(turns, grid.period[axis]);
                }
                const double half = is_own_mirror(fold, q) ? 0.5 : 1;
                if (!last) {
                    const int64_t at = k * fold.points + q;
                    t.cosine[axis][at] = static_cast<T>(value.cosine);
                    t.sine[axis][at] = static_cast<T>(value.sine);
                    t.half_cosine[axis][at] = static_cast<T>(half * value.cosine);
                    t.half_sine[axis][at] = static_cast<T>(half * value.sine);
                    continue;
                }
                if (q < fold.points) {
                    T* a = t.analysis + (k / lanes * fold.points + q) * 2 * lanes + k % lanes;
                    a[0] = static_cast<T>(half * value.cosine);
                    a[lanes] = static_cast<T>(half * value.sine);
                }
                if (k < wavenumbers) {
                    T* s = t.synthesis + (q / lanes * wavenumbers + k) * 2 * lanes + q % lanes;
                    s[0] = static_cast<T>(value.cosine);
                    s[lanes] = static_cast<T>(value.sine);
                }
            }
        });
    }
    if (is_split<T>(grid)) {
        fill_split(grid, executor, t.split);
    }
    if (is_short<T>(grid)) {
        fill_short(grid, t.short_analysis, t.short_synthesis);
    }
    const double others = grid.period[0] * grid.period[1];
    for (int64_t k = 0; k < grid.modes[2]; ++k) {
        const bool single = k == 0 || 2 * static_cast<double>(k) == grid.period[2];
        t.weights[k] = static_cast<T>((single ? 1 : 2) / (others * grid.period[2]));
    }
}

#define PHYSCON_INSTANTIATE(T)                                                                   \
    template bool is_short<T>(const SpectralGrid&);                                              \
    template bool is_split<T>(const SpectralGrid&);                                              \
    template SpectralTables<T> find_tables<T>(const SpectralGrid&, void*);                       \
    template std::size_t spectral_tables_size<T>(const SpectralTablesArgs<T>&, const Executor&); \
    template void spectral_tables<T>(const SpectralTablesArgs<T>&, const Executor&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
