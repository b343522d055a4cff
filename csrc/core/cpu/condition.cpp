// SPDX-License-Identifier: Apache-2.0
// Forward conditioning for diagonal, cross and dense priors.
//
// Per item: (1) A and G m in one pass over the points, (2) rank-sized algebra, (3) mean, variance
// and factor in a second pass, and, for double data or nearly dependent rows, (4) passes that
// correct alpha until G m' + R alpha = b to rounding. For a diagonal prior C = G diag(s) is never
// kept.
#include "gram.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "product.hpp"
#include "small.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

// Rows shared by the batch are handled for this many items at once, up to this rank: beyond it the
// products of rows outgrow the cache.
constexpr int64_t shared_items = 32;
constexpr int64_t pairwise_rank = 16;
constexpr int correction_limit = 6;
constexpr int refinements =
    2;  // of alpha in the rank-sized system; the second serves ill-conditioned rows
// Above this leverage s_i g_i' A^-1 g_i, s_i (1 - leverage) cancels and the Joseph form is summed
// instead.
constexpr double joseph_leverage = 0.9;

template <typename T>
class Forward {
  public:
    Forward(const ConditionArgs<T>& args, const Executor& executor, void* workspace)
        : a_(args),
          executor_(executor),
          n_(args.n),
          rank_(args.rank),
          chunks_(chunk_count(args.n)),
          lower_(args.cross.data == nullptr && args.covariance.data == nullptr),
          by_item_(args.batch >= executor.threads || chunks_ == 1),
          slots_(
              by_item_
                  ? smaller<int64_t>(larger(executor.threads, 1), larger<int64_t>(args.batch, 1))
                  : larger(executor.threads, 1)
          ),
          pairwise_(
              sizeof(T) == 4 && lower_ && by_item_ && args.rows.stride == 0 &&
              args.batch >= tile_rows && rank_ >= 2 && rank_ <= pairwise_rank &&
              args.covariance_out == nullptr
          ),
          lanes_(lower_ && !args.noise_is_matrix && rank_ >= 2 && rank_ <= lane_rank),
          group_(group_size()),
          arena_(workspace) {
        const int64_t pr = padded_rank(rank_);
        states_ = arena_.take<State>(slots_);
        for (int64_t s = 0; s < slots_; ++s) {
            State state = {};
            if (by_item_ || s == 0) {
                state.partial = arena_.take<double>(group_ * chunks_ * partial_size());
                state.gram = arena_.take<double>(rank_ * rank_);
                state.factored = arena_.take<double>(rank_ * rank_);
                state.inverse = arena_.take<double>(group_ * rank_ * rank_);
                state.vectors = arena_.take<double>(4 * rank_);
                state.flags = arena_.take<Flags>(group_);
                state.wide_mean = sizeof(T) == 8 ? nullptr : arena_.take<double>(n_);
                state.diagonal = args.covariance.data == nullptr ? nullptr : arena_.take<T>(n_);
                state.left_packed =
                    args.covariance.data == nullptr ? nullptr : arena_.take<T>(pr * n_);
            } else {  // one item at a time is shared by all slots
                const State& first = measured_;
                state.partial = first.partial, state.gram = first.gram,
                state.factored = first.factored;
                state.inverse = first.inverse, state.vectors = first.vectors,
                state.flags = first.flags;
                state.diagonal = first.diagonal, state.left_packed = first.left_packed;
                state.wide_mean = first.wide_mean;
            }
            state.lanes = arena_.take<double>(gram_lanes(rank_, lower_));
            state.dots = arena_.take<double>(dot_lanes(rank_));
            state.packed = arena_.take<double>(pr * pr);
            state.gain = arena_.take<double>(rank_);
            state.four = arena_.take<T>(tile_rows * rank_);
            state.points = arena_.take<T>(rank_ >= copied_rank ? rank_ * copied_points : 0);
            if (pairwise_) {
                state.group.rows = arena_.take<double>(rank_ * gram_run);
                state.group.pairs = arena_.take<double>(pair_count() * gram_run);
                state.group.pair_lanes =
                    arena_.take<double>(product_lanes(group_, pair_count(), false));
                state.group.row_lanes = arena_.take<double>(product_lanes(group_, rank_, false));
            }
            state.systems = lanes_ ? arena_.take<double>(LaneSystem::doubles(rank_)) : nullptr;
            if (s == 0) {
                measured_ = state;
            }
            if (workspace != nullptr) {
                states_[s] = state;
            }
        }
    }

    std::size_t workspace_size() const {
        return arena_.used();
    }

    void run() {
        if (a_.batch == 0) {
            return;
        }
        if (by_item_) {
            const int64_t groups = (a_.batch + group_ - 1) / group_;
            run_indices(executor_, groups, [&](int64_t slot, int64_t i) {
                items(states_[slot], i * group_, smaller(group_, a_.batch - i * group_));
            });
            return;
        }
        for (int64_t b = 0; b < a_.batch; ++b) {
            item_in_chunks(b);
        }
    }

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
        T *four, *points;
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
        if (!by_item_ || !lanes_ || a_.covariance_out != nullptr) {
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

    void items(State& s, int64_t first, int64_t count) const {
        const auto each = [&](auto&& body) {
            for (int64_t i = 0; i < count; ++i) {
                State one = member(s, i);
                body(one, first + i);
            }
        };
        if (a_.covariance.data != nullptr) {
            each([&](State& one, int64_t b) {
                prepare_dense(one, b);
                for (int64_t panel = 0; panel * column_panel < n_; ++panel) {
                    cross_panel(one, b, panel);
                }
            });
        }
        const auto over_chunks = [&](State& one) {
            return [&](auto&& body) {
                for (int64_t c = 0; c < chunks_; ++c) {
                    body(one, c);
                }
            };
        };
        if (pairwise_) {
            over_chunks(s)([&](State& all, int64_t c) { gram_items(all, first, count, c); });
        } else {
            each([&](State& one, int64_t b) {
                over_chunks(one)([&](State& t, int64_t c) { gram(t, b, c); });
            });
        }
        for (int64_t i = 0; i < count; i += lane_items) {
            solve(s, first, i, smaller(count - i, lane_items));
        }
        for (int64_t c = 0; c < chunks_; ++c) {
            each([&](State& one, int64_t b) { apply(one, b, c); });
        }
        each([&](State& one, int64_t b) {
            correct(one, b, over_chunks(one));
            if (a_.covariance_out != nullptr) {
                for (int64_t i = 0; i < n_; i += tile_rows) {
                    covariance_rows(one, b, i);
                }
            }
        });
    }

    void item_in_chunks(int64_t b) const {
        const auto over = [&](int64_t count, auto&& body) {
            run_indices(executor_, count, [&](int64_t slot, int64_t i) { body(states_[slot], i); });
        };
        if (a_.covariance.data != nullptr) {
            prepare_dense(states_[0], b);
            over((n_ + column_panel - 1) / column_panel, [&](State& s, int64_t panel) {
                cross_panel(s, b, panel);
            });
        }
        over(chunks_, [&](State& s, int64_t c) { gram(s, b, c); });
        solve(states_[0], b, 0, 1);
        over(chunks_, [&](State& s, int64_t c) { apply(s, b, c); });
        correct(states_[0], b, [&](auto&& body) { over(chunks_, body); });
        if (a_.covariance_out != nullptr) {
            over((n_ + tile_rows - 1) / tile_rows, [&](State& s, int64_t i) {
                covariance_rows(s, b, i * tile_rows);
            });
        }
    }

    // ---- rows shared by the batch
    // A = sum_i s_i g_i g_i': the products of rows are made once for a group of items. In float
    // data every product of two weights and a variance is exact before it is added, and it is added
    // in the same order, so an item gets the bits that it gets alone.
    int64_t pair_count() const {
        return rank_ * (rank_ + 1) / 2;
    }

    PHYSCON_KERNEL void gram_items(State& s, int64_t first, int64_t count, int64_t chunk) const {
        const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
        const Group& g = s.group;
        const T* none = nullptr;
        clear(g.pair_lanes, product_lanes(group_, pair_count(), false));
        clear(g.row_lanes, product_lanes(group_, rank_, false));
        const Rows<T> weights = {a_.variance.item(first), a_.variance.stride, count};
        const Rows<T> values = {mean(first), a_.mean.stride, count};
        const Rows<double> wide = {g.rows, gram_run, rank_};
        const Rows<double> pairs = {g.pairs, gram_run, pair_count()};
        for (int64_t p = begin; p < end; p += gram_run) {
            const int64_t size = smaller(gram_run, end - p);
            multiply_rows(rows(first) + p, size, g.rows, g.pairs);
            add_products<false>(weights.from(p), pairs, size, none, g.pair_lanes);
            add_products<false>(values.from(p), wide, size, none, g.row_lanes);
        }
        const int64_t pair_tiles = tiles(pair_count()), row_tiles = tiles(rank_);
        double sums[tile_rows][padded_rank(pairwise_rank * (pairwise_rank + 1) / 2)];
        for (int64_t tile = 0; tile < tiles(count); ++tile) {
            const int64_t here = smaller<int64_t>(tile_rows, count - tile * tile_rows);
            double* partial = s.partial + (tile * tile_rows * chunks_ + chunk) * partial_size();
            const int64_t step = chunks_ * partial_size();
            product_sums(g.pair_lanes + tile * pair_tiles * tile_lanes, pair_tiles, sums);
            for (int64_t i = 0; i < here; ++i) {
                for (int64_t k = 0, pair = 0; k < rank_; ++k) {
                    for (int64_t j = 0; j <= k; ++j, ++pair) {
                        partial[i * step + k * rank_ + j] = partial[i * step + j * rank_ + k] =
                            sums[i][pair];
                    }
                }
            }
            product_sums(g.row_lanes + tile * row_tiles * tile_lanes, row_tiles, sums);
            for (int64_t i = 0; i < here; ++i) {
                for (int64_t k = 0; k < rank_; ++k) {
                    partial[i * step + rank_ * rank_ + k] = sums[i][k];
                }
            }
        }
    }

    /// One run of the rows in double precision, and the products of each two of them.
    void multiply_rows(const T* from, int64_t count, double* wide, double* pair) const {
        for (int64_t k = 0; k < rank_; ++k) {
            double* row = wide + k * gram_run;
            for (int64_t i = 0; i < count; ++i) {
                row[i] = from[k * n_ + i];
            }
            for (int64_t j = 0; j <= k; ++j, pair += gram_run) {
                const double* other = wide + j * gram_run;
                for (int64_t i = 0; i < count; ++i) {
                    pair[i] = row[i] * other[i];
                }
            }
        }
    }

    static void clear(double* values, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            values[i] = 0;
        }
    }

    // ---- dense prior
    // -------------------------------------------------------------------------------------------
    void prepare_dense(State& s, int64_t b) const {
        const T* covariance = a_.covariance.item(b);
        for (int64_t i = 0; i < n_; ++i) {
            s.diagonal[i] = covariance[i * (n_ + 1)];
        }
        pack_rows(rows(b), rank_, n_, s.left_packed);
    }
    void cross_panel(State& s, int64_t b, int64_t panel) const {
        multiply_panel(
            s.left_packed, a_.covariance.item(b), rank_, n_, panel, a_.cross_out + b * rank_ * n_
        );
    }
    void covariance_rows(State& s, int64_t b, int64_t i) const {
        const T* base = a_.covariance.data == nullptr ? nullptr : a_.covariance.item(b);
        const T* factor = a_.factor_out + b * rank_ * n_;
        T* out = a_.covariance_out + b * n_ * n_;
        downdate_rows(base, factor, factor, rank_, n_, i, s.four, out);
        for (int64_t k = i; k < smaller<int64_t>(i + tile_rows, n_); ++k) {
            out[k * (n_ + 1)] = a_.variance_out[b * n_ + k];
        }
    }

    // ---- pass 1: A and G m
    // -------------------------------------------------------------------------------------
    PHYSCON_KERNEL void gram(State& s, int64_t b, int64_t chunk) const {
        double* partial = s.partial + chunk * partial_size();
        const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
        if (rank_ == 1) {
            gram_one(s, b, begin, end, partial);
            return;
        }
        clear(s.lanes, gram_lanes(rank_, lower_));
        clear(s.dots, dot_lanes(rank_));
        const Rows<T> all = {rows(b), n_, rank_}, priors = {source(b), n_, rank_};
        for (int64_t p = begin; p < end; p += gram_run) {
            const int64_t count = smaller(gram_run, end - p);
            if (lower_) {
                const T *v = variance(s, b) + p, *m = mean(b) + p;
                add_gram(all.from(p), count, v, m, s.lanes, s.dots);
            } else {
                add_dots(all.from(p), count, mean(b) + p, s.dots);
                const T* none = nullptr;
                add_products<false>(all.from(p), priors.from(p), count, none, s.lanes);
            }
        }
        gram_finish(s.lanes, rank_, lower_, partial);
        dots_finish(s.dots, rank_, partial + rank_ * rank_);
    }
    template <typename From>
    static void pack_row(const From* from, int64_t count, double* to) {
        for (int64_t i = 0; i < count; ++i) {
            to[i] = from[i];
        }
        for (int64_t i = count; i < block; ++i) {
            to[i] = 0;
        }
    }

    PHYSCON_KERNEL void gram_one(
        State& s, int64_t b, int64_t begin, int64_t end, double* partial
    ) const {
        const T *g = rows(b), *c = lower_ ? variance(s, b) : cross(b), *m = mean(b);
        Vector<double> total = {}, product = {};
        const auto add =
            [&](auto full, int64_t p, int count, Vector<double>& sum, Vector<double>& dot) {
                constexpr bool is_full = decltype(full)::value;
                const Wide<T> w = load_wide<is_full>(g + p, count);
                const Wide<T> x = load_wide<is_full>(c + p, count);
                const Wide<T> y = load_wide<is_full>(m + p, count);
                for (int i = 0; i < Wide<T>::parts; ++i) {
                    sum += w.part[i] * (lower_ ? w.part[i] * x.part[i] : x.part[i]);
                    dot += w.part[i] * y.part[i];
                }
            };
        for (int64_t start = begin; start < end;
             start += block) {  // short chains: two levels of summation
            const int64_t stop = smaller(start + block, end);
            Vector<double> sum = {}, dot = {};
            int64_t p = start;
            for (; p + width<T> <= stop; p += width<T>) {
                add(std::true_type{}, p, width<T>, sum, dot);
            }
            if (p < stop) {
                add(std::false_type{}, p, static_cast<int>(stop - p), sum, dot);
            }
            total += sum;
            product += dot;
        }
        partial[0] = sum_lanes(total);
        partial[1] = sum_lanes(product);
    }

    // ---- rank-sized algebra
    // ------------------------------------------------------------------------------------
    /// Items first + begin .. first + begin + count, which are members begin .. of the group.
    void solve(State& s, int64_t first, int64_t begin, int64_t count) const {
        if (lanes_) {
            solve_lanes(s, first, begin, count);
            return;
        }
        for (int64_t i = begin; i < begin + count; ++i) {
            State one = member(s, i);
            solve_alone(one, first + i);
        }
    }
    void solve_alone(State& s, int64_t b) const {
        if (rank_ == 1 && lower_ && !a_.noise_is_matrix && solve_one(s, b)) {
            return;
        }
        with_rank(rank_, [&](auto rank) { solve_rank(s, b, rank); });
    }

    /// One item per lane; items with nearly dependent rows or non-finite sums are solved alone.
    void solve_lanes(State& s, int64_t first, int64_t begin, int64_t count) const {
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

    template <typename Rank>
    void solve_rank(State& s, int64_t b, Rank rank) const {
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
        for (int64_t i = 0; i < rank * rank; ++i) {
            all_finite = all_finite && finite(s.gram[i]);
        }
        s.flags->finite = all_finite;
        if (!all_finite) {
            mark_non_finite(b);
            return;
        }
        // A is symmetric up to the rounding of C; the factor uses its symmetric part, the
        // refinement A itself.
        for (int64_t k = 0; k < rank; ++k) {
            for (int64_t j = 0; j <= k; ++j) {
                s.factored[k * rank + j] = 0.5 * (s.gram[k * rank + j] + s.gram[j * rank + k]);
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
            for (int64_t k = 0; k < rank; ++k) {
                double value = rhs[k];
                for (int64_t j = 0; j < rank; ++j) {
                    value -= s.gram[k * rank + j] * alpha[j];
                }
                residual[k] = value;
            }
            add_solution(s.inverse, rank, residual, work, alpha);
        }
    }

    /// A and G m of the item, chunk after chunk with compensation, into every stride-th place.
    void add_chunks(const State& s, int64_t stride, double* gram, double* products) const {
        const int64_t square = rank_ * rank_;
        for (int64_t i = 0; i < square + rank_; ++i) {
            double& out = i < square ? gram[i * stride] : products[(i - square) * stride];
            if (chunks_ == 1) {
                out = s.partial[i];
                continue;
            }
            DoubleDouble sum;
            for (int64_t c = 0; c < chunks_; ++c) {
                sum.add(s.partial[c * partial_size() + i]);
            }
            out = sum.value();
        }
    }

    /// Row k of R alpha.
    double noise_times(int64_t b, int64_t k, const double* alpha) const {
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
    bool solve_one(State& s, int64_t b) const {
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
    void classify(State& s, int64_t b, const double* dependence) const {
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
    void clear_certain_rows(State& s, int64_t b) const {
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

    void mark_non_finite(int64_t b) const {
        const double nan = __builtin_nan("");
        for (int64_t k = 0; k < rank_; ++k) {
            info(b)[k] = static_cast<std::int32_t>(RowStatus::non_finite);
            multipliers(b)[k] = nan;
            for (int64_t j = 0; j < rank_; ++j) {
                cholesky(b)[k * rank_ + j] = j <= k ? nan : 0;
            }
        }
    }

    // ---- pass 2: mean, variance, factor
    // ------------------------------------------------------------------------
    void apply(State& s, int64_t b, int64_t chunk) const {
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

    void fill_nan(int64_t b, int64_t begin, int64_t end) const {
        const T nan = static_cast<T>(__builtin_nan(""));
        for (int64_t p = begin; p < end; ++p) {
            a_.mean_out[b * n_ + p] = nan;
            a_.variance_out[b * n_ + p] = nan;
            for (int64_t k = 0; k < rank_ && a_.factor_out != nullptr; ++k) {
                a_.factor_out[(b * rank_ + k) * n_ + p] = nan;
            }
        }
    }

    PHYSCON_KERNEL void apply_one(State& s, int64_t b, int64_t begin, int64_t end) const {
        const T *g = rows(b), *c = lower_ ? g : cross(b), *v = variance(s, b), *m = mean(b);
        T *mean_out = a_.mean_out + b * n_, *variance_out = a_.variance_out + b * n_;
        T* factor = a_.factor_out == nullptr ? nullptr : a_.factor_out + b * n_;
        const double alpha = multipliers(b)[0], root = s.inverse[0];
        // Scaled before it is squared: rows of any unit stay in the range of T.
        const T scale = static_cast<T>(root), kept = static_cast<T>(1 - joseph_leverage);
        Vector<T> cancels = {};
        const auto step = [&](auto full, int64_t p, int count) {
            constexpr bool is_full = decltype(full)::value;
            const Wide<T> x = load_wide<is_full>(c + p, count),
                          w = load_wide<is_full>(v + p, count);
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

    template <typename X>
    void apply_blocks(State& s, int64_t b, int64_t begin, int64_t end) const {
        X* packed = reinterpret_cast<X*>(s.packed);
        pack_matrix(s.inverse, rank_, packed);
        const Rows<T> all = {source(b), n_, rank_};
        const int64_t step = pass_points(rank_);
        for (int64_t p = begin; p < end; p += step) {
            const int64_t stop = smaller(p + step, end);
            const Rows<T> x = nearby(all.from(p), stop - p, s.points);
            update_mean(s, b, p, stop, x);
            if (update_variance(s, b, p, stop, packed, x)) {
                repair_variance(s, b, p, stop);
            }
        }
    }

    PHYSCON_KERNEL void update_mean(
        State& s, int64_t b, int64_t begin, int64_t end, const Rows<T>& x
    ) const {
        const double* alpha = multipliers(b);
        const T *m = mean(b), *v = variance(s, b);
        T* out = a_.mean_out + b * n_;
        each_tile<double>(begin, end, [&](auto tag, auto full, int64_t p, int live) {
            constexpr int vectors = decltype(tag)::value;
            constexpr bool is_full = decltype(full)::value;
            Vector<double> sum[vectors] = {};
            combine_rows<is_full>(x.from(p - begin), alpha, live, sum);
            for (int j = 0; j < vectors; ++j) {
                const int64_t at = p + j * width<double>;
                if (lower_) {
                    sum[j] *= load_as<double, is_full>(v + at, live);
                }
                store_as<is_full>(out + at, load_as<double, is_full>(m + at, live) + sum[j], live);
            }
        });
    }

    /// True when a cell lost more than 90 % of its variance, where the subtraction cancels.
    template <typename X>
    PHYSCON_KERNEL bool update_variance(
        State& s, int64_t b, int64_t begin, int64_t end, const X* packed, const Rows<T>& x
    ) const {
        const T* v = variance(s, b);
        T* out = a_.variance_out + b * n_;
        T* factor = a_.factor_out == nullptr ? nullptr : a_.factor_out + b * rank_ * n_;
        Vector<X> cancels = {};
        each_tile<X>(begin, end, [&](auto tag, auto full, int64_t p, int live) {
            constexpr int vectors = decltype(tag)::value;
            constexpr bool is_full = decltype(full)::value;
            Vector<X> prior[vectors], square[vectors] = {};
            for (int j = 0; j < vectors; ++j) {
                prior[j] = load_as<X, is_full>(v + p + j * width<X>, live);
            }
            for (int64_t group = 0; group < tiles(rank_); ++group) {
                Vector<X> row[tile_rows][vectors];
                const X* four = packed + group * tile_rows * padded_rank(rank_);
                multiply_lower<is_full>(
                    four, group, rank_, x.data + (p - begin), x.stride, live, row
                );
                for (int r = 0; r < tile_rows; ++r) {
                    for (int j = 0; j < vectors; ++j) {
                        square[j] += row[r][j] * row[r][j];
                    }
                }
                for (int64_t r = group * tile_rows;
                     factor != nullptr && r < smaller((group + 1) * tile_rows, rank_);
                     ++r) {
                    for (int j = 0; j < vectors; ++j) {
                        const Vector<X> value = row[r % tile_rows][j];
                        store_as<is_full>(
                            factor + r * n_ + p + j * width<X>,
                            lower_ ? value * prior[j] : value,
                            live
                        );
                    }
                }
            }
            for (int j = 0; j < vectors; ++j) {
                const Vector<X> left =
                    lower_ ? prior[j] * (1 - prior[j] * square[j]) : prior[j] - square[j];
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
    void repair_variance(State& s, int64_t b, int64_t begin, int64_t end) const {
        const T* v = variance(s, b);
        T* out = a_.variance_out + b * n_;
        for (int64_t p = begin; p < end; ++p) {
            if (out[p] < static_cast<T>(1 - joseph_leverage) * v[p]) {
                out[p] = static_cast<T>(
                    lower_ ? joseph_variance(s, b, p) : subtracted_variance(s, b, p)
                );
            }
        }
    }

    /// L^-1 C_i for one cell..
    double* gain(State& s, int64_t b, int64_t p, double scale) const {
        double* k = s.gain;
        for (int64_t j = 0; j < rank_; ++j) {
            k[j] = scale * static_cast<double>(source(b)[j * n_ + p]);
        }
        solve_lower(cholesky(b), rank_, rank_, k);
        return k;
    }

    /// (e_i - G' K_i)' S (e_i - G' K_i) + K_i R K_i': a sum of non-negative terms, stationary at
    /// the exact gain.
    double joseph_variance(State& s, int64_t b, int64_t cell) const {
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
                const double r = a_.noise_is_matrix
                                     ? static_cast<double>(noise[i * rank_ + j])
                                     : (i == j ? static_cast<double>(noise[i]) : 0.0);
                tail += k[i] * r * k[j];
            }
        }
        return sum_lanes(sum) + tail;
    }

    /// General prior: no square root is known, so subtract in double precision; rounding below zero
    /// becomes zero.
    double subtracted_variance(State& s, int64_t b, int64_t cell) const {
        const double* k = gain(s, b, cell, 1);
        double left = variance(s, b)[cell];
        for (int64_t j = 0; j < rank_; ++j) {
            left -= k[j] * k[j];
        }
        return larger(left, 0.0);
    }

    // ---- correction
    // -------------------------------------------------------------------------------- Passes over
    // the points until G m' + R alpha = b to rounding: always for double data, and for float data
    // whose rows are so nearly dependent that alpha cancels. The mean is double meanwhile.
    template <typename Each>
    void correct(State& s, int64_t b, Each&& each) const {
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
    double* wide_mean(State& s, int64_t b) const {
        if constexpr (sizeof(T) == 8) {
            return a_.mean_out + b * n_;
        } else {
            return s.wide_mean;
        }
    }
    void widen_mean(State& s, int64_t b, int64_t chunk) const {
        const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
        for (int64_t p = begin; p < end; ++p) {
            s.wide_mean[p] = mean(b)[p];
        }
        shift(s, b, chunk, multipliers(b));
    }
    void narrow_mean(State& s, int64_t b, int64_t chunk) const {
        const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
        for (int64_t p = begin; p < end; ++p) {
            a_.mean_out[b * n_ + p] = static_cast<T>(s.wide_mean[p]);
        }
    }

    /// Compensated G m' and its magnitude over one chunk.
    void residual(State& s, int64_t b, int64_t chunk) const {
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
    bool correction(State& s, int64_t b) const {
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
    void shift(State& s, int64_t b, int64_t chunk, const double* delta) const {
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

    const ConditionArgs<T>& a_;
    const Executor& executor_;
    const int64_t n_, rank_, chunks_;
    const bool lower_;    // diagonal prior
    const bool by_item_;  // each item by one thread, or one item after another by all threads
    const int64_t slots_;
    const bool pairwise_;  // rows shared by the batch: the products of rows are made once
    const bool lanes_;     // systems of several items at once
    const int64_t group_;  // items handled together
    Arena arena_;
    State* states_ = nullptr;
    State measured_ = {};
};

}  // namespace

template <typename T>
std::size_t condition_workspace(const ConditionArgs<T>& args, const Executor& executor) {
    return Forward<T>(args, executor, nullptr).workspace_size();
}
template <typename T>
void condition(const ConditionArgs<T>& args, const Executor& executor, void* workspace) {
    Forward<T>(args, executor, workspace).run();
}

template std::size_t condition_workspace(const ConditionArgs<float>&, const Executor&);
template std::size_t condition_workspace(const ConditionArgs<double>&, const Executor&);
template void condition(const ConditionArgs<float>&, const Executor&, void*);
template void condition(const ConditionArgs<double>&, const Executor&, void*);

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
