// SPDX-License-Identifier: Apache-2.0
// Passes over the points until G m' + R alpha = b to rounding: always for double data, and for
// float data whose rows are so nearly dependent that alpha cancels. The mean is double meanwhile.
#pragma once

#include "condition_forward.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

template <typename T>
template <typename Each>
void ConditionForward<T>::correct(State& s, int64_t b, Each&& each) const {
    if (!s.flags->finite || (sizeof(T) == 4 && !s.flags->wide)) {
        return;
    }
    if constexpr (sizeof(T) == 4) {
        each([&](State& t, int64_t c) { widen_mean(t, b, c); });
    }
    for (int i = 0; i < correction_limit; ++i) {
        each([&](State& t, int64_t c) { residual(t, b, c); });
        if (!correction(s, b)) {
            break;
        }
        each([&](State& t, int64_t c) { shift(t, b, c, s.vectors + 3 * rank_); });
    }
    if constexpr (sizeof(T) == 4) {
        each([&](State& t, int64_t c) { narrow_mean(t, b, c); });
    }
}

template <typename T>
double* ConditionForward<T>::wide_mean(State& s, int64_t b) const {
    if constexpr (sizeof(T) == 8) {
        return a_.mean_out + b * n_;
    } else {
        return s.wide_mean;
    }
}

template <typename T>
void ConditionForward<T>::widen_mean(State& s, int64_t b, int64_t chunk) const {
    const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
    for (int64_t p = begin; p < end; ++p) {
        s.wide_mean[p] = mean(b)[p];
    }
    shift(s, b, chunk, multipliers(b));
}

template <typename T>
void ConditionForward<T>::narrow_mean(State& s, int64_t b, int64_t chunk) const {
    const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
    for (int64_t p = begin; p < end; ++p) {
        a_.mean_out[b * n_ + p] = static_cast<T>(s.wide_mean[p]);
    }
}

/// A block of double precision, padded with zeros.
template <typename From>
inline void pack_row(const From* from, int64_t count, double* to) {
    for (int64_t i = 0; i < count; ++i) {
        to[i] = from[i];
    }
    for (int64_t i = count; i < block; ++i) {
        to[i] = 0;
    }
}

/// Compensated G m' and its magnitude over one chunk.
template <typename T>
void ConditionForward<T>::residual(State& s, int64_t b, int64_t chunk) const {
    const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
    double* partial = s.partial + chunk * partial_size();
    const double* m = wide_mean(s, b);
    for (int64_t k = 0; k < rank_; ++k) {
        CompensatedSum sum;
        Vector<double> magnitude = {};
        double row[block], value[block];
        for (int64_t p = begin; p < end; p += block) {
            const int64_t count = smaller(block, end - p);
            pack_row(rows(b) + k * n_ + p, count, row);
            pack_row(m + p, count, value);
            for (int64_t i = 0; i < block; i += width<double>) {
                const Vector<double> x = load(row + i), y = load(value + i);
                sum.add_product(x, y);
                magnitude += absolute<double>(x * y);
            }
        }
        DoubleDouble total;
        total.add(sum);
        partial[k] = total.high;
        partial[rank_ + k] = total.low;
        partial[2 * rank_ + k] = sum_lanes(magnitude);
    }
}

/// Adds A^-1 (b - G m' - R alpha) to alpha; false when every row already holds to rounding.
template <typename T>
bool ConditionForward<T>::correction(State& s, int64_t b) const {
    double *alpha = multipliers(b), *delta = s.vectors + 3 * rank_;
    const T* target = a_.target.item(b);
    bool needed = false;
    for (int64_t k = 0; k < rank_; ++k) {
        DoubleDouble sum;
        double magnitude = __builtin_fabs(static_cast<double>(target[k]));
        for (int64_t c = 0; c < chunks_; ++c) {
            const double* partial = s.partial + c * partial_size();
            sum.add(partial[k]);
            sum.add(partial[rank_ + k]);
            magnitude += partial[2 * rank_ + k];
        }
        const double observed = noise_times(b, k, alpha);
        sum.add(-static_cast<double>(target[k]));
        delta[k] = -(sum.value() + observed);
        const bool dropped = cholesky(b)[k * rank_ + k] == infinity;
        const double allowed = 2 * epsilon64 * (magnitude + __builtin_fabs(observed));
        needed = needed || (!dropped && __builtin_fabs(delta[k]) > allowed);
    }
    if (!needed) {
        return false;
    }
    solve_lower(cholesky(b), rank_, rank_, delta);
    solve_upper(cholesky(b), rank_, rank_, delta);
    for (int64_t k = 0; k < rank_; ++k) {
        alpha[k] += delta[k];
    }
    return true;
}

/// m' += C' delta over one chunk.
template <typename T>
void ConditionForward<T>::shift(State& s, int64_t b, int64_t chunk, const double* delta) const {
    const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
    double* out = wide_mean(s, b);
    const T *from = source(b), *v = variance(s, b);
    for (int64_t p = begin; p < end; p += block) {
        const int64_t count = smaller(block, end - p);
        double sum[block] = {};
        for (int64_t k = 0; k < rank_; ++k) {
            for (int64_t i = 0; i < count; ++i) {
                sum[i] += delta[k] * from[k * n_ + p + i];
            }
        }
        for (int64_t i = 0; i < count; ++i) {
            out[p + i] += lower_ ? sum[i] * v[p + i] : sum[i];
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
