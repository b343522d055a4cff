// SPDX-License-Identifier: Apache-2.0
// Forward conditioning for diagonal, cross and dense priors.
//
// Per item: (1) A and G m in one pass over the points (condition_sums.hpp), (2) rank-sized algebra
// (condition_systems.hpp), (3) mean, variance and factor in a second pass (condition_points.hpp),
// and, for double data or nearly dependent rows, (4) passes that correct alpha until
// G m' + R alpha = b to rounding (condition_correction.hpp). For a diagonal prior C = G diag(s) is
// never kept.
#pragma once

#include "gram.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "product.hpp"
#include "small.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

// Rows shared by the batch are handled for this many items at once, up to this rank: beyond it the
// products of rows outgrow the cache.
inline constexpr int64_t shared_items = 32;
inline constexpr int64_t pairwise_rank = 16;
// Dense results of this size in all leave the caches before anyone reads them.
inline constexpr int64_t streamed_bytes = int64_t{8} << 20;
inline constexpr int correction_limit = 6;
inline constexpr int refinements =
    2;  // of alpha in the rank-sized system; the second serves ill-conditioned rows
// Above this leverage s_i g_i' A^-1 g_i, s_i (1 - leverage) cancels and the Joseph form is summed
// instead.
inline constexpr double joseph_leverage = 0.9;

template <typename T>
class ConditionForward {
  public:
    ConditionForward(const ConditionArgs<T>& args, const Executor& executor, void* workspace);

    std::size_t workspace_size() const {
        return arena_.used();
    }

    void run();

  private:
    struct Flags {
        bool wide;  // apply the inverse factor in double precision
        bool finite;
    };
    struct Group {
        double *rows, *pairs, *pair_lanes, *row_lanes;
    };
    struct State {
        Group group;  // rows shared by the batch only
        double *partial, *gram, *factored, *inverse, *vectors;
        Flags* flags;
        T *diagonal, *left_packed;                       // dense prior only
        double* wide_mean;                               // float data only
        double *lanes, *dots, *packed, *gain, *systems;  // scratch of one thread
        T *downdate, *points;
    };
    // Partial sums of a chunk: A, then G m; the correction passes reuse them for (high, low,
    // magnitude).
    int64_t partial_size() const {
        return rank_ * rank_ + 3 * rank_;
    }

    const T* rows(int64_t b) const {
        return a_.rows.item(b);
    }
    const T* mean(int64_t b) const {
        return a_.mean.item(b);
    }
    const T* variance(const State& s, int64_t b) const {
        return s.diagonal != nullptr ? s.diagonal : a_.variance.item(b);
    }
    /// C of a cross or dense prior.
    const T* cross(int64_t b) const {
        return a_.covariance.data != nullptr ? a_.cross_out + b * rank_ * n_ : a_.cross.item(b);
    }
    /// What V = L^-1 (this) needs besides a scaling by s for a diagonal prior: G, or C.
    const T* source(int64_t b) const {
        return lower_ ? rows(b) : cross(b);
    }
    double* cholesky(int64_t b) const {
        return a_.cholesky_out + b * rank_ * rank_;
    }
    double* multipliers(int64_t b) const {
        return a_.multipliers_out + b * rank_;
    }
    std::int32_t* info(int64_t b) const {
        return a_.info_out + b * rank_;
    }

    int64_t group_size() const {
        const bool one = rank_ == 1 && lower_ && all_in_cache(a_.batch, n_, 5, sizeof(T));
        if (!by_item_ || !(lanes_ || one) || a_.covariance_out != nullptr) {
            return 1;
        }
        const int64_t wanted = pairwise_ ? shared_items : items_in_cache(n_, rank_ + 4, sizeof(T));
        return smaller(wanted, (a_.batch + slots_ - 1) / slots_);
    }
    State member(State& s, int64_t i) const {
        State one = s;
        one.partial = s.partial + i * chunks_ * partial_size();
        one.inverse = s.inverse + i * rank_ * rank_;
        one.flags = s.flags + i;
        return one;
    }

    void items(State& s, int64_t first, int64_t count) const;
    void item_in_chunks(int64_t b) const;

    // Dense prior and dense result: condition_dense.hpp.
    void prepare_dense(State& s, int64_t b) const;
    void cross_panel(State& s, int64_t b, int64_t panel) const;
    void covariance_part(State& s, int64_t b, int64_t part) const;
    void covariance_diagonal(int64_t b) const;

    // Pass 1, A and G m of a chunk: condition_sums.hpp.
    void gram(State& s, int64_t b, int64_t chunk) const;
    void gram_one(State& s, int64_t b, int64_t begin, int64_t end, double* partial) const;
    void gram_items(State& s, int64_t first, int64_t count, int64_t chunk) const;
    void multiply_rows(const T* from, int64_t count, double* wide, double* pair) const;
    int64_t pair_count() const {
        return rank_ * (rank_ + 1) / 2;
    }
    static void clear(double* values, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            values[i] = 0;
        }
    }

    // Rank-sized algebra: condition_systems.hpp.
    void solve(State& s, int64_t first, int64_t begin, int64_t count) const;
    void solve_alone(State& s, int64_t b) const;
    void solve_lanes(State& s, int64_t first, int64_t begin, int64_t count) const;
    template <typename Rank>
    void solve_rank(State& s, int64_t b, Rank rank) const;
    bool solve_one(State& s, int64_t b) const;
    void add_chunks(const State& s, int64_t stride, double* gram, double* products) const;
    double noise_times(int64_t b, int64_t k, const double* alpha) const;
    void classify(State& s, int64_t b, const double* dependence) const;
    void clear_certain_rows(State& s, int64_t b) const;
    void mark_non_finite(int64_t b) const;

    // Pass 2, mean, variance and factor: condition_points.hpp.
    void apply(State& s, int64_t b, int64_t chunk) const;
    void fill_nan(int64_t b, int64_t begin, int64_t end) const;
    void apply_one(State& s, int64_t b, int64_t begin, int64_t end) const;
    template <typename X>
    void apply_blocks(State& s, int64_t b, int64_t begin, int64_t end) const;
    template <typename X, bool full, int vectors>
    void update_mean(State& s, int64_t b, int64_t p, int live, const Rows<T>& x) const;
    template <typename X>
    bool update_points(
        State& s, int64_t b, int64_t begin, int64_t end, const X* packed, const Rows<T>& x
    ) const;
    void repair_variance(State& s, int64_t b, int64_t begin, int64_t end) const;
    double* gain(State& s, int64_t b, int64_t p, double scale) const;
    double joseph_variance(State& s, int64_t b, int64_t cell) const;
    double subtracted_variance(State& s, int64_t b, int64_t cell) const;

    // Correction of alpha: condition_correction.hpp.
    template <typename Each>
    void correct(State& s, int64_t b, Each&& each) const;
    double* wide_mean(State& s, int64_t b) const;
    void widen_mean(State& s, int64_t b, int64_t chunk) const;
    void narrow_mean(State& s, int64_t b, int64_t chunk) const;
    void residual(State& s, int64_t b, int64_t chunk) const;
    bool correction(State& s, int64_t b) const;
    void shift(State& s, int64_t b, int64_t chunk, const double* delta) const;

    const ConditionArgs<T>& a_;
    const Executor& executor_;
    const int64_t n_, rank_, chunks_;
    const bool lower_;    // diagonal prior
    const bool by_item_;  // each item by one thread, or one item after another by all threads
    const int64_t slots_;
    const bool pairwise_;  // rows shared by the batch: the products of rows are made once
    const bool lanes_;     // systems of several items at once
    const bool streamed_;  // the dense result goes past the caches
    const int64_t group_;  // items handled together
    Arena arena_;
    State* states_ = nullptr;
    State measured_ = {};
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
