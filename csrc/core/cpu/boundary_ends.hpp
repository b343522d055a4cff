// SPDX-License-Identifier: Apache-2.0
// Spectra at the ends of an axis: their values there, and sources there.
//
// At the ends of an axis a mode is e^{-i w c} and e^{+i w c}: with P = sum h cos(w c) Y and
// R = sum h sin(w c) Y the end values are P - i R and P + i R, and sources g_0, g_N at the ends
// radiate (g_0 + g_N) cos(w c) + i (g_0 - g_N) sin(w c). Either pair of sums is formed as sum and
// difference of the ends, so that nothing cancels where the ends are neighbours on the circle.
#pragma once

#include "../boundary_spectral.hpp"

#include "normal.hpp"
#include "shuffle.hpp"
#include "tile.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// Rows of complex channels per mode, `stack` blocks of `batch` rows deep.
template <typename T>
struct Spectrum {
    T* data;
    int64_t batch, channels;
    int64_t stack = 1, slot = 0;
    T* row(int64_t mode, int64_t b) const {
        return data + 2 * ((mode * stack + slot) * batch + b) * channels;
    }
};

/// ends (others, batch, 2 ends, channels, 2): the values of a spectrum at both ends of an axis,
/// weighted by h_k if `weighted`; the plain sums are the adjoint of `radiate_ends`.
template <typename T>
void evaluate_ends(
    const Spectrum<const T>& spectrum,
    const Normal& normal,
    const Phases& phases,
    bool weighted,
    double* ends,
    const Executor& executor
) {
    const int64_t length = 2 * spectrum.channels, rows = normal.others * spectrum.batch;
    run_indices(executor, rows, [&](int64_t, int64_t row) {
        const int64_t q = row / spectrum.batch, b = row % spectrum.batch;
        double* first = ends + 2 * row * length;
        double* last = first + length;
        const int64_t step = 2 * normal.inner * spectrum.stack * spectrum.batch * spectrum.channels;
        const T* from = spectrum.row(normal.mode(0, q), b);
        each_vector<width<T>>(length, [&](auto full_tag, int64_t i, int count) {
            constexpr bool full = decltype(full_tag)::value;
            Wide<T> p = {}, r = {};
            for (int64_t k = 0; k < normal.modes; ++k) {
                const Wide<T> v = load_wide<full>(from + k * step + i, count);
                const double h = weighted ? phases.weight[k] : 1;
                const double c = h * phases.cosine[k], s = h * phases.sine[k];
                for (int w = 0; w < Wide<T>::parts; ++w) {
                    p.part[w] += c * v.part[w];
                    r.part[w] += s * v.part[w];
                }
            }
            double even[width<T>], odd[width<T>];
            __builtin_memcpy(even, &p, sizeof(p));
            __builtin_memcpy(odd, &r, sizeof(r));
            for (int j = 0; j + 1 < count; j += 2) {
                first[i + j] = even[j] + odd[j + 1];
                first[i + j + 1] = even[j + 1] - odd[j];
                last[i + j] = even[j] - odd[j + 1];
                last[i + j + 1] = even[j + 1] + odd[j];
            }
        });
    });
}

/// to = from + source(full, at, lanes), in double precision; `from` null: zero.
template <typename T, typename Source>
inline void add_to_row(const T* from, T* to, int64_t length, const Source& source) {
    each_vector<width<T>>(length, [&](auto full_tag, int64_t i, int count) {
        constexpr bool full = decltype(full_tag)::value;
        Wide<T> sum = {};
        if (from != nullptr) {
            sum = load_wide<full>(from + i, count);
        }
        for (int w = 0; w < Wide<T>::parts; ++w) {
            const int64_t at = i + w * width<double>;
            const int left = full ? width<double> : static_cast<int>(length - at);
            if (left > 0) {
                sum.part[w] += source(full_tag, at, smaller(left, width<double>));
            }
        }
        store_narrow<full>(to + i, sum, count);
    });
}

/// out = base + (what sources of the strength `ends` radiate), weighted by h_k if `weighted`.
/// Overwrites `ends` by g_0 + g_N and i (g_0 - g_N). `base` null: zero.
template <typename T>
void radiate_ends(
    double* ends,
    const Normal& normal,
    const Phases& phases,
    bool weighted,
    const Spectrum<const T>& base,
    const Spectrum<T>& out,
    const Executor& executor
) {
    const int64_t length = 2 * out.channels, rows = normal.others * out.batch;
    run_indices(executor, rows, [&](int64_t, int64_t row) {
        const int64_t q = row / out.batch, b = row % out.batch;
        double* even = ends + 2 * row * length;
        double* odd = even + length;
        for (int64_t i = 0; i < length; i += 2) {
            const double re = even[i] - odd[i], im = even[i + 1] - odd[i + 1];
            even[i] += odd[i];
            even[i + 1] += odd[i + 1];
            odd[i] = -im;
            odd[i + 1] = re;
        }
        for (int64_t k = 0; k < normal.modes; ++k) {
            const int64_t mode = normal.mode(k, q);
            const double h = weighted ? phases.weight[k] : 1;
            const double c = h * phases.cosine[k], s = h * phases.sine[k];
            T* to = out.row(mode, b);
            const T* from = base.data == nullptr ? nullptr : base.row(mode, b);
            add_to_row(from, to, length, [&](auto full, int64_t at, int lanes) {
                return c * load_lanes<full.value>(even + at, lanes) +
                       s * load_lanes<full.value>(odd + at, lanes);
            });
        }
    });
}

// On a line the ends are real, g_0 = sum h (cos Re Y + sin Im Y), g_N = sum h (cos Re Y - sin Im
// Y): one factor per part of a complex number, (cos, sin, cos, sin, ..).

/// (cos, sin) of mode k, weighted by h_k if `weighted`, over all lanes.
inline Vector<double> turn(const Phases& phases, int64_t k, bool weighted) {
    const double h = weighted ? phases.weight[k] : 1;
    const double pair[2] = {h * phases.cosine[k], h * phases.sine[k]};
    return repeat_pair(pair);
}

/// `evaluate_ends` on a line: ends (batch, 2 ends, channels), items `pitch` apart.
template <typename T>
void evaluate_line(
    const Spectrum<const T>& spectrum,
    const Phases& phases,
    int64_t modes,
    bool weighted,
    double* ends,
    int64_t pitch,
    const Executor& executor
) {
    const int64_t channels = spectrum.channels, length = 2 * channels;
    const int64_t step = length * spectrum.batch * spectrum.stack;
    run_indices(executor, spectrum.batch, [&](int64_t, int64_t b) {
        const T* from = spectrum.row(0, b);
        double* first = ends + b * pitch;
        double* last = first + channels;
        const auto block = [&](auto vectors_tag, auto full_tag, int64_t i) {
            constexpr int vectors = decltype(vectors_tag)::value;
            constexpr bool full = decltype(full_tag)::value;
            const int count = full ? width<T> : static_cast<int>(length - i);
            Wide<T> sum[vectors] = {};
            for (int64_t k = 0; k < modes; ++k) {
                const Vector<double> factor = turn(phases, k, weighted);
                for (int v = 0; v < vectors; ++v) {
                    const Wide<T> value =
                        load_wide<full>(from + k * step + i + v * width<T>, count);
                    for (int w = 0; w < Wide<T>::parts; ++w) {
                        sum[v].part[w] += factor * value.part[w];
                    }
                }
            }
            double lanes[vectors * width<T>];
            __builtin_memcpy(lanes, sum, sizeof(sum));
            for (int j = 0; j + 1 < (full ? vectors * width<T> : count); j += 2) {
                first[(i + j) / 2] = lanes[j] + lanes[j + 1];
                last[(i + j) / 2] = lanes[j] - lanes[j + 1];
            }
        };
        constexpr int most = 4;
        int64_t i = 0;
        for (; i + most * width<T> <= length; i += most * width<T>) {
            block(std::integral_constant<int, most>{}, std::true_type{}, i);
        }
        for (; i + width<T> <= length; i += width<T>) {
            block(std::integral_constant<int, 1>{}, std::true_type{}, i);
        }
        if (i < length) {
            block(std::integral_constant<int, 1>{}, std::false_type{}, i);
        }
    });
}

/// `radiate_ends` on a line, from `ends` as above; `work` holds 2 channels per item.
template <typename T>
void radiate_line(
    const double* ends,
    int64_t pitch,
    const Phases& phases,
    int64_t modes,
    bool weighted,
    const Spectrum<const T>& base,
    const Spectrum<T>& out,
    double* work,
    const Executor& executor
) {
    const int64_t channels = out.channels, length = 2 * channels;
    run_indices(executor, out.batch, [&](int64_t, int64_t b) {
        const double* first = ends + b * pitch;
        const double* last = first + channels;
        double* strength = work + b * length;
        for (int64_t c = 0; c < channels; ++c) {
            strength[2 * c] = first[c] + last[c];
            strength[2 * c + 1] = first[c] - last[c];
        }
        for (int64_t k = 0; k < modes; ++k) {
            const Vector<double> factor = turn(phases, k, weighted);
            T* to = out.row(k, b);
            const T* from = base.data == nullptr ? nullptr : base.row(k, b);
            add_to_row(from, to, length, [&](auto full, int64_t at, int lanes) {
                return factor * load_lanes<full.value>(strength + at, lanes);
            });
        }
    });
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
