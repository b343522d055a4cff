// SPDX-License-Identifier: Apache-2.0
// Systems of rank size: A alpha = e, the factor of A, and what became of each row.
#pragma once

#include "condition_forward.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// Items first + begin .. first + begin + count, which are members begin .. of the group.
template <typename T>
void ConditionForward<T>::solve(State& s, int64_t first, int64_t begin, int64_t count) const {
    if (lanes_) {
        solve_lanes(s, first, begin, count);
        return;
    }
    for (int64_t i = begin; i < begin + count; ++i) {
        State one = member(s, i);
        solve_alone(one, first + i);
    }
}

template <typename T>
void ConditionForward<T>::solve_alone(State& s, int64_t b) const {
    if (rank_ == 1 && lower_ && !a_.noise_is_matrix && solve_one(s, b)) {
        return;
    }
    with_rank(rank_, [&](auto rank) { solve_rank(s, b, rank); });
}

/// One item per lane; items with nearly dependent rows or non-finite sums are solved alone.
template <typename T>
void ConditionForward<T>::solve_lanes(State& s, int64_t first, int64_t begin, int64_t count) const {
    LaneSystem system(s.systems, rank_);
    double *a = reinterpret_cast<double*>(system.a), *e = reinterpret_cast<double*>(system.e);
    for (int64_t lane = 0; lane < lane_items; ++lane) {
        const int64_t i = begin + smaller(lane, count - 1), b = first + i;
        const T *target = a_.target.item(b), *noise = a_.noise.item(b);
        State one = member(s, i);
        add_chunks(one, lane_items, a + lane, e + lane);
        for (int64_t k = 0; k < rank_; ++k) {
            double& right = e[k * lane_items + lane];
            right = static_cast<double>(target[k]) - right;
            a[k * (rank_ + 1) * lane_items + lane] += noise[k];
        }
    }
    system.decompose(rank_);
    system.solve(rank_, refinements);
    const auto lane_of = [](const Vector<double>* v, int64_t lane) {
        return reinterpret_cast<const double*>(v)[lane];
    };
    for (int64_t lane = 0; lane < count; ++lane) {
        const int64_t b = first + begin + lane;
        State one = member(s, begin + lane);
        const double smallest = system.smallest[lane];
        bool regular = smallest >= suspicious_pivot;
        for (int64_t k = 0; k < rank_; ++k) {
            const double x = lane_of(system.x + k, lane);
            regular = regular && finite(x);
            multipliers(b)[k] = x;
            info(b)[k] = static_cast<std::int32_t>(RowStatus::used);
            for (int64_t j = 0; j < rank_; ++j) {
                const int64_t at = k * rank_ + j;
                cholesky(b)[at] = j <= k ? lane_of(system.factor + at, lane) : 0;
                one.inverse[at] = j <= k ? lane_of(system.inverse + at, lane) : 0;
            }
        }
        *one.flags = {sizeof(T) == 4 && smallest < benign_pivot, true};
        if (!regular) {
            solve_alone(one, b);
        }
    }
}

template <typename T>
template <typename Rank>
void ConditionForward<T>::solve_rank(State& s, int64_t b, Rank rank) const {
    double *rhs = s.vectors, *alpha = multipliers(b), *work = s.vectors + rank;
    const T *target = a_.target.item(b), *noise = a_.noise.item(b);
    add_chunks(s, 1, s.gram, rhs);
    bool all_finite = true;
    for (int64_t k = 0; k < rank; ++k) {
        rhs[k] = static_cast<double>(target[k]) - rhs[k];
        all_finite = all_finite && finite(rhs[k]);
        if (a_.noise_is_matrix) {
            for (int64_t j = 0; j < rank; ++j) {
                s.gram[k * rank + j] += noise[k * rank + j];
            }
        } else {
            s.gram[k * rank + k] += noise[k];
        }
    }
    Vector<double> not_finite = {};  // x - x is zero, or not a number
    each_vector<width<double>>(rank * rank, [&](auto full, int64_t i, int live) {
        const Vector<double> x = load_lanes<decltype(full)::value>(s.gram + i, live);
        not_finite += x - x;
    });
    all_finite = all_finite && sum_lanes(not_finite) == 0;
    s.flags->finite = all_finite;
    if (!all_finite) {
        mark_non_finite(b);
        return;
    }
    const bool symmetric = lower_ && !a_.noise_is_matrix;
    // Otherwise A is symmetric up to the rounding of C; the factor uses its symmetric part, the
    // refinement A itself.
    for (int64_t k = 0; k < rank; ++k) {
        const double* row = s.gram + k * rank;
        double* half = s.factored + k * rank;
        for (int64_t j = 0; j <= k; ++j) {
            half[j] = symmetric ? row[j] : 0.5 * (row[j] + s.gram[j * rank + k]);
        }
    }
    if (!lower_) {
        clear_certain_rows(s, b);
    }
    double* dependence = s.inverse;  // read by classify() before the inverse overwrites it
    const double smallest = factor_dropping(s.factored, rank, cholesky(b), dependence, work);
    s.flags->wide = sizeof(T) == 4 && smallest < benign_pivot;
    for (int64_t k = 0; k < rank; ++k) {
        info(b)[k] = static_cast<std::int32_t>(RowStatus::used);
    }
    classify(s, b, dependence);
    invert_lower(cholesky(b), rank, s.inverse);
    for (int64_t k = 0; k < rank; ++k) {
        alpha[k] = 0;
    }
    add_solution(s.inverse, rank, rhs, work, alpha);
    for (int pass = 0; pass < refinements; ++pass) {
        double* residual = s.vectors + 2 * rank;
        multiply_vector(s.gram, rank, alpha, residual);
        for (int64_t k = 0; k < rank; ++k) {
            residual[k] = rhs[k] - residual[k];
        }
        add_solution(s.inverse, rank, residual, work, alpha);
    }
}

/// A and G m of the item, chunk after chunk with compensation, into every stride-th place.
template <typename T>
void ConditionForward<T>::add_chunks(
    const State& s, int64_t stride, double* gram, double* products
) const {
    const auto put = [&](const double* from, int64_t count, double* to) {
        if (chunks_ == 1) {
            for (int64_t i = 0; i < count; ++i) {
                to[i * stride] = from[i];
            }
            return;
        }
        for (int64_t i = 0; i < count; ++i) {
            DoubleDouble sum;
            for (int64_t c = 0; c < chunks_; ++c) {
                sum.add(from[c * partial_size() + i]);
            }
            to[i * stride] = sum.value();
        }
    };
    put(s.partial, rank_ * rank_, gram);
    put(s.partial + rank_ * rank_, rank_, products);
}

/// Row k of R alpha.
template <typename T>
double ConditionForward<T>::noise_times(int64_t b, int64_t k, const double* alpha) const {
    const T* noise = a_.noise.item(b);
    if (!a_.noise_is_matrix) {
        return noise[k] * alpha[k];
    }
    double sum = 0;
    for (int64_t j = 0; j < rank_; ++j) {
        sum += noise[k * rank_ + j] * alpha[j];
    }
    return sum;
}

/// The common case of one row; false leaves everything unusual to the general code.
template <typename T>
bool ConditionForward<T>::solve_one(State& s, int64_t b) const {
    DoubleDouble gram, product;
    for (int64_t c = 0; c < chunks_; ++c) {
        gram.add(s.partial[c * partial_size()]);
        product.add(s.partial[c * partial_size() + 1]);
    }
    const double d = gram.value() + static_cast<double>(a_.noise.item(b)[0]);
    const double e = static_cast<double>(a_.target.item(b)[0]) - product.value();
    if (!finite(d) || !finite(e) || !(d > 0)) {
        return false;
    }
    const double root = __builtin_sqrt(d);
    cholesky(b)[0] = root;
    s.inverse[0] = 1 / root;
    multipliers(b)[0] = e / d;
    info(b)[0] = static_cast<std::int32_t>(RowStatus::used);
    *s.flags = {false, true};
    return true;
}

/// Tells dropped rows apart. A dropped row k equals sum_j c_j row_j of the kept rows before it.
template <typename T>
void ConditionForward<T>::classify(State& s, int64_t b, const double* dependence) const {
    bool any = false;
    for (int64_t k = 0; k < rank_; ++k) {
        any = any || cholesky(b)[k * rank_ + k] == infinity;
    }
    if (!any) {
        return;
    }
    double *rhs = s.vectors, *scale = s.vectors + rank_, *combination = s.vectors + 2 * rank_;
    for (int64_t k = 0; k < rank_; ++k) {
        const T *g = rows(b) + k * n_, *m = mean(b);
        scale[k] = __builtin_fabs(static_cast<double>(a_.target.item(b)[k]));
        for (int64_t p = 0; p < n_; ++p) {
            scale[k] += __builtin_fabs(static_cast<double>(g[p]) * m[p]);
        }
    }
    double* solution = s.vectors + 3 * rank_;
    for (int64_t k = 0; k < rank_; ++k) {
        if (cholesky(b)[k * rank_ + k] != infinity) {
            continue;
        }
        const double own = s.factored[k * rank_ + k];
        const bool empty = !(own > 0);
        const int64_t count = empty ? 0 : k;
        for (int64_t j = 0; j < count; ++j) {
            combination[j] = dependence[k * rank_ + j];
            solution[j] = rhs[j];
        }
        solve_upper(cholesky(b), rank_, count, combination);
        solve_lower(cholesky(b), rank_, count, solution);
        solve_upper(cholesky(b), rank_, count, solution);
        double difference = rhs[k], size = scale[k], coefficients = __builtin_sqrt(own),
               multipliers_size = 0;
        for (int64_t j = 0; j < count; ++j) {
            const double unit = __builtin_sqrt(s.factored[j * rank_ + j]);
            difference -= combination[j] * rhs[j];
            size += __builtin_fabs(combination[j]) * scale[j];
            coefficients += __builtin_fabs(combination[j]) * unit;
            multipliers_size += __builtin_fabs(solution[j]) * unit;
        }
        // The sums round, and the rounding of A moves the combination and with it the residual.
        const double tolerance =
            64 * epsilon<T> * size +
            (empty ? 0 : pivot_rounding(rank_) * coefficients * multipliers_size);
        const bool consistent = __builtin_fabs(difference) <= tolerance;
        const RowStatus status =
            empty ? (consistent ? RowStatus::satisfied : RowStatus::infeasible)
                  : (consistent ? RowStatus::redundant : RowStatus::inconsistent);
        info(b)[k] = static_cast<std::int32_t>(status);
    }
}

/// A noise-free row whose variance under a correlated prior cancels to rounding is certain:
/// A_kk counts as zero.
template <typename T>
void ConditionForward<T>::clear_certain_rows(State& s, int64_t b) const {
    const T *v = variance(s, b), *noise = a_.noise.item(b);
    for (int64_t k = 0; k < rank_; ++k) {
        if (noise[a_.noise_is_matrix ? k * rank_ + k : k] != 0) {
            continue;
        }
        const T* g = rows(b) + k * n_;
        double size = 0;
        for (int64_t p = 0; p < n_; ++p) {
            size += static_cast<double>(g[p]) * g[p] * v[p];
        }
        // C itself is rounded to T, so that is how exactly A_kk is known.
        const double rounding = sizeof(T) == 8 ? pivot_rounding(rank_) : epsilon<T>;
        if (s.factored[k * rank_ + k] > rounding * size) {
            continue;
        }
        for (int64_t j = 0; j < rank_; ++j) {
            s.factored[k * rank_ + j] = s.factored[j * rank_ + k] = 0;
        }
    }
}

template <typename T>
void ConditionForward<T>::mark_non_finite(int64_t b) const {
    const double nan = __builtin_nan("");
    for (int64_t k = 0; k < rank_; ++k) {
        info(b)[k] = static_cast<std::int32_t>(RowStatus::non_finite);
        multipliers(b)[k] = nan;
        for (int64_t j = 0; j < rank_; ++j) {
            cholesky(b)[k * rank_ + j] = j <= k ? nan : 0;
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
