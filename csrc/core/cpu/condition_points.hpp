// SPDX-License-Identifier: Apache-2.0
// Second pass of conditioning: mean, variance and factor from alpha and the factor of A.
#pragma once

#include "condition_forward.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

template <typename T>
void ConditionForward<T>::apply(State& s, int64_t b, int64_t chunk) const {
    const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
    if (!s.flags->finite) {
        fill_nan(b, begin, end);
    } else if (rank_ == 1) {
        apply_one(s, b, begin, end);
    } else if (s.flags->wide) {
        apply_blocks<double>(s, b, begin, end);
    } else {
        apply_blocks<T>(s, b, begin, end);
    }
}

template <typename T>
void ConditionForward<T>::fill_nan(int64_t b, int64_t begin, int64_t end) const {
    const T nan = static_cast<T>(__builtin_nan(""));
    for (int64_t p = begin; p < end; ++p) {
        a_.mean_out[b * n_ + p] = nan;
        a_.variance_out[b * n_ + p] = nan;
        for (int64_t k = 0; k < rank_ && a_.factor_out != nullptr; ++k) {
            a_.factor_out[(b * rank_ + k) * n_ + p] = nan;
        }
    }
}

template <typename T>
PHYSCON_KERNEL void ConditionForward<T>::apply_one(
    State& s, int64_t b, int64_t begin, int64_t end
) const {
    const T *g = rows(b), *c = lower_ ? g : cross(b), *v = variance(s, b), *m = mean(b);
    T *mean_out = a_.mean_out + b * n_, *variance_out = a_.variance_out + b * n_;
    T* factor = a_.factor_out == nullptr ? nullptr : a_.factor_out + b * n_;
    const double alpha = multipliers(b)[0], root = s.inverse[0];
    // Scaled before it is squared: rows of any unit stay in the range of T.
    const T scale = static_cast<T>(root), kept = static_cast<T>(1 - joseph_leverage);
    Vector<T> cancels = {};
    const auto step = [&](auto full, int64_t p, int count) {
        constexpr bool is_full = decltype(full)::value;
        const Wide<T> x = load_wide<is_full>(c + p, count), w = load_wide<is_full>(v + p, count);
        Wide<T> y = load_wide<is_full>(m + p, count), row;
        for (int i = 0; i < Wide<T>::parts; ++i) {
            const Vector<double> weighted = lower_ ? x.part[i] * w.part[i] : x.part[i];
            y.part[i] += alpha * weighted;
            row.part[i] = root * weighted;
        }
        store_narrow<is_full>(mean_out + p, y, count);
        if (factor != nullptr) {
            store_narrow<is_full>(factor + p, row, count);
        }
        const Vector<T> prior = load_lanes<is_full>(v + p, count),
                        source = load_lanes<is_full>(c + p, count);
        const Vector<T> scaled = source * scale, removed = scaled * scaled;
        const Vector<T> result = lower_ ? prior - prior * (prior * removed) : prior - removed;
        store_lanes<is_full>(variance_out + p, result, count);
        cancels = result < kept * prior ? Vector<T>{} + 1 : cancels;
    };
    int64_t p = begin;
    for (; p + width<T> <= end; p += width<T>) {
        step(std::true_type{}, p, width<T>);
    }
    if (p < end) {
        step(std::false_type{}, p, static_cast<int>(end - p));
    }
    bool any = false;
    for (int i = 0; i < width<T>; ++i) {
        any = any || cancels[i] != 0;
    }
    if (any) {
        repair_variance(s, b, begin, end);
    }
}

template <typename T>
template <typename X>
void ConditionForward<T>::apply_blocks(State& s, int64_t b, int64_t begin, int64_t end) const {
    X* packed = reinterpret_cast<X*>(s.packed);
    pack_matrix(s.inverse, rank_, packed);
    const Rows<T> all = {source(b), n_, rank_};
    const int64_t step = pass_points(rank_);
    for (int64_t p = begin; p < end; p += step) {
        const int64_t stop = smaller(p + step, end);
        const Rows<T> x = nearby(all.from(p), stop - p, s.points);
        if (update_points(s, b, p, stop, packed, x)) {
            repair_variance(s, b, p, stop);
        }
    }
}

/// The mean of `vectors` vectors of X: always in double precision. Converting the rows costs
/// nothing beside the arithmetic of the variance of the same points.
template <typename T>
template <typename X, bool full, int vectors>
inline void ConditionForward<T>::update_mean(
    State& s, int64_t b, int64_t p, int live, const Rows<T>& x
) const {
    constexpr int parts = vectors * (width<X> / width<double>);
    const double* alpha = multipliers(b);
    const T *m = mean(b) + p, *v = variance(s, b) + p;
    T* out = a_.mean_out + b * n_ + p;
    const auto left = [&](int j) {
        return full ? width<double> : larger(smaller(live - j * width<double>, width<double>), 0);
    };
    Vector<double> sum[parts] = {};
    for (int64_t k = 0; k < rank_; ++k) {
        for (int j = 0; j < parts; ++j) {
            const T* at = x.data + k * x.stride + j * width<double>;
            if (j % Wide<T>::parts == 0) {
                prefetch(at + gram_run);
            }
            sum[j] += alpha[k] * load_as<double, full>(at, left(j));
        }
    }
    unrolled<parts>([&](auto j) {
        const int64_t at = j * width<double>;
        if (lower_) {
            sum[j] *= load_as<double, full>(v + at, left(j));
        }
        store_as<full>(out + at, load_as<double, full>(m + at, left(j)) + sum[j], left(j));
    });
}

/// Mean, variance and factor. True when a cell lost more than 90 % of its variance, where the
/// subtraction cancels.
template <typename T>
template <typename X>
PHYSCON_KERNEL bool ConditionForward<T>::update_points(
    State& s, int64_t b, int64_t begin, int64_t end, const X* packed, const Rows<T>& x
) const {
    const T* v = variance(s, b);
    T* out = a_.variance_out + b * n_;
    T* factor = a_.factor_out == nullptr ? nullptr : a_.factor_out + b * rank_ * n_;
    const bool lower = lower_;
    Vector<X> cancels = {};
    each_tile<X>(begin, end, [&](auto tag, auto full, int64_t p, int live) {
        constexpr int vectors = decltype(tag)::value;
        constexpr bool is_full = decltype(full)::value;
        update_mean<X, is_full, vectors>(s, b, p, live, x.from(p - begin));
        Vector<X> prior[vectors], square[vectors] = {};
        for (int j = 0; j < vectors; ++j) {
            prior[j] = load_as<X, is_full>(v + p + j * width<X>, live);
        }
        for (int64_t group = 0; group < tiles(rank_); ++group) {
            Vector<X> row[tile_rows][vectors];
            const X* four = packed + group * tile_rows * padded_rank(rank_);
            multiply_lower<is_full>(four, group, rank_, x.data + (p - begin), x.stride, live, row);
            for (int r = 0; r < tile_rows; ++r) {
                for (int j = 0; j < vectors; ++j) {
                    square[j] += row[r][j] * row[r][j];
                }
            }
            if (factor == nullptr) {
                continue;
            }
            const int64_t rows = smaller<int64_t>(rank_ - group * tile_rows, tile_rows);
            T* to = factor + group * tile_rows * n_ + p;
            unrolled<tile_rows>([&](auto r) {
                if (r >= rows) {
                    return;
                }
                unrolled<vectors>([&](auto j) {
                    const Vector<X> value = lower ? row[r][j] * prior[j] : row[r][j];
                    store_as<is_full>(to + r * n_ + j * width<X>, value, live);
                });
            });
        }
        for (int j = 0; j < vectors; ++j) {
            const Vector<X> left =
                lower ? prior[j] * (1 - prior[j] * square[j]) : prior[j] - square[j];
            const Vector<X> kept = static_cast<X>(1 - joseph_leverage) * prior[j];
            cancels = left < kept ? Vector<X>{} + 1 : cancels;
            store_as<is_full>(out + p + j * width<X>, left, live);
        }
    });
    bool any = false;
    for (int i = 0; i < width<X>; ++i) {
        any = any || cancels[i] != 0;
    }
    return any;
}

/// Recomputes, in double precision and without cancellation, the cells that the rows nearly
/// determine. At most rank / 0.9 cells of an item have so high a leverage, so this costs no
/// more than the Gram matrix.
template <typename T>
void ConditionForward<T>::repair_variance(State& s, int64_t b, int64_t begin, int64_t end) const {
    const T* v = variance(s, b);
    T* out = a_.variance_out + b * n_;
    for (int64_t p = begin; p < end; ++p) {
        if (out[p] < static_cast<T>(1 - joseph_leverage) * v[p]) {
            out[p] =
                static_cast<T>(lower_ ? joseph_variance(s, b, p) : subtracted_variance(s, b, p));
        }
    }
}

/// L^-1 C_i for one cell..
template <typename T>
double* ConditionForward<T>::gain(State& s, int64_t b, int64_t p, double scale) const {
    double* k = s.gain;
    for (int64_t j = 0; j < rank_; ++j) {
        k[j] = scale * static_cast<double>(source(b)[j * n_ + p]);
    }
    solve_lower(cholesky(b), rank_, rank_, k);
    return k;
}

/// (e_i - G' K_i)' S (e_i - G' K_i) + K_i R K_i': a sum of non-negative terms, stationary at
/// the exact gain.
template <typename T>
double ConditionForward<T>::joseph_variance(State& s, int64_t b, int64_t cell) const {
    const T *v = variance(s, b), *g = rows(b), *noise = a_.noise.item(b);
    double* k = gain(s, b, cell, v[cell]);
    solve_upper(cholesky(b), rank_, rank_, k);
    Vector<double> sum = {};
    double tail = 0;
    for (int64_t p = 0; p < n_; p += width<double>) {
        const int64_t count = smaller<int64_t>(width<double>, n_ - p);
        Vector<double> weight = {}, prior = {};
        for (int64_t j = 0; j < rank_; ++j) {
            Vector<double> row = {};
            for (int64_t i = 0; i < count; ++i) {
                row[i] = g[j * n_ + p + i];
            }
            weight -= k[j] * row;
        }
        for (int64_t i = 0; i < count; ++i) {
            prior[i] = v[p + i];
        }
        if (cell >= p && cell < p + count) {
            weight[cell - p] += 1;
        }
        sum += weight * weight * prior;
    }
    for (int64_t i = 0; i < rank_; ++i) {
        for (int64_t j = 0; j < rank_; ++j) {
            const double r = a_.noise_is_matrix ? static_cast<double>(noise[i * rank_ + j])
                                                : (i == j ? static_cast<double>(noise[i]) : 0.0);
            tail += k[i] * r * k[j];
        }
    }
    return sum_lanes(sum) + tail;
}

/// General prior: no square root is known, so subtract in double precision; rounding below zero
/// becomes zero.
template <typename T>
double ConditionForward<T>::subtracted_variance(State& s, int64_t b, int64_t cell) const {
    const double* k = gain(s, b, cell, 1);
    double left = variance(s, b)[cell];
    for (int64_t j = 0; j < rank_; ++j) {
        left -= k[j] * k[j];
    }
    return larger(left, 0.0);
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
