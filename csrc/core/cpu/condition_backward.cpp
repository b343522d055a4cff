// SPDX-License-Identifier: Apache-2.0
// Adjoint of conditioning for the diagonal and the cross form.
//
// Upstream p (mean), q (variance), Vb (factor). With W = L^-1, a = A^-1 C p, Phi = lower triangle
// with half diagonal:
//   Ab = W' [ W C diag(q) C' W' - sym Phi(Vb V') ] W - sym(a alpha')          (gradient of A, and
//   of R) mb = p - G' a,   bb = a cross:     Cb = alpha p' + Ab G + W' (Vb - 2 W C diag(q)),  Gb =
//   -a m' + Ab C,  gradient of the variance = q diagonal:  the same with C = G diag(s): sb = q +
//   colsum(Cb * G),  Gb = -a m' + Ab C + Cb diag(s)
// Dropped rows have zero rows and columns in W, so they receive zero gradients.
#include "gram.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "small.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

template <typename T>
class Backward {
  public:
    Backward(const ConditionBackwardArgs<T>& args, const Executor& executor, void* workspace)
        : a_(args),
          executor_(executor),
          n_(args.n),
          rank_(args.rank),
          chunks_(chunk_count(args.n)),
          diagonal_(args.cross.data == nullptr),
          sum_rows_(args.rows_shared && args.rows_out != nullptr && args.batch > 1),
          lean_(diagonal_ && args.rows_out == nullptr && args.grad_factor.data == nullptr),
          points_only_(lean_ && rank_ > 1),
          lanes_(rank_ >= 2 && rank_ <= lane_rank && args.grad_factor.data == nullptr),
          slots_(larger(executor.threads, 1)),
          by_item_(!sum_rows_ && (args.batch >= slots_ || chunks_ == 1)),
          group_(group_size()),
          arena_(workspace) {
        const int64_t pr = padded_rank(rank_);
        const int64_t square = rank_ * rank_;
        const bool factor = args.grad_factor.data != nullptr;
        const int64_t kept = sum_rows_ ? args.batch : by_item_ ? slots_ * group_ : 1;
        small_ = arena_.take<Small>(kept);
        scratch_ = arena_.take<Scratch>(slots_);
        for (int64_t i = 0; i < kept; ++i) {
            Small small;
            small.inverse = arena_.take<double>(square);
            small.adjoint = arena_.take<double>(square);
            small.a = arena_.take<double>(rank_);
            for (double*& matrix : small.packed) {
                matrix = points_only_ ? arena_.take<double>(pr * pr) : nullptr;
            }
            if (workspace != nullptr) {
                small_[i] = small;
            }
        }
        partial_ = arena_.take<double>((by_item_ ? slots_ : 1) * group_ * chunks_ * partial_size());
        for (int64_t i = 0; i < slots_; ++i) {
            Scratch s;
            s.lanes = arena_.take<double>(gram_lanes(rank_, true));
            s.factor_lanes = factor ? arena_.take<double>(gram_lanes(rank_, false)) : nullptr;
            s.products = arena_.take<double>(dot_lanes(rank_));
            s.square = arena_.take<double>(3 * square);
            s.systems = lanes_ ? arena_.take<double>(LaneAdjoint::doubles(rank_)) : nullptr;
            for (double*& matrix : s.packed) {
                matrix = points_only_ ? nullptr : arena_.take<double>(pr * pr);
            }
            for (double*& rows : s.points) {
                const bool used = !points_only_ || &rows == s.points;
                rows = used ? arena_.take<double>(pr * block) : nullptr;
            }
            s.sum = sum_rows_ ? arena_.take<double>(rank_ * block) : nullptr;
            if (workspace != nullptr) {
                scratch_[i] = s;
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
        const int64_t groups = (a_.batch + group_ - 1) / group_;
        if (by_item_) {
            run_indices(executor_, groups, [&](int64_t slot, int64_t g) {
                Scratch& s = scratch_[slot];
                const int64_t first = g * group_, count = smaller(group_, a_.batch - first);
                const Group group = {first, count, small_ + slot * group_, partial(slot * group_)};
                for (int64_t i = 0; i < count; ++i) {
                    for (int64_t c = 0; c < chunks_; ++c) {
                        reduce(s, group, i, c);
                    }
                }
                solve(s, group);
                for (int64_t i = 0; i < count; ++i) {
                    for (int64_t p = 0; p < n_; p += block) {
                        points(s, group.small[i], first + i, p);
                    }
                }
            });
            return;
        }
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t first = g * group_, count = smaller(group_, a_.batch - first);
            const Group group = {first, count, small_ + (sum_rows_ ? first : 0), partial(0)};
            for (int64_t i = 0; i < count; ++i) {
                run_indices(executor_, chunks_, [&](int64_t slot, int64_t c) {
                    reduce(scratch_[slot], group, i, c);
                });
            }
            solve(scratch_[0], group);
            if (sum_rows_) {
                continue;
            }
            run_indices(executor_, blocks(), [&](int64_t slot, int64_t i) {
                points(scratch_[slot], group.small[0], first, i * block);
            });
        }
        if (!sum_rows_) {
            return;
        }
        // The gradient of shared rows adds up over the batch, item after item, point by point.
        run_indices(executor_, blocks(), [&](int64_t slot, int64_t i) {
            Scratch& s = scratch_[slot];
            const int64_t p = i * block, count = smaller(block, n_ - p);
            for (int64_t j = 0; j < rank_ * block; ++j) {
                s.sum[j] = 0;
            }
            for (int64_t b = 0; b < a_.batch; ++b) {
                points(s, small_[b], b, p);
            }
            for (int64_t k = 0; k < rank_; ++k) {
                for (int64_t j = 0; j < count; ++j) {
                    a_.rows_out[k * n_ + p + j] = static_cast<T>(s.sum[k * block + j]);
                }
            }
        });
    }

  private:
    struct Small {
        double *inverse, *adjoint, *a;
        double* packed[2];  // both as points_only_ reads them
        bool wide;
    };
    struct Scratch {
        double *lanes, *factor_lanes, *products, *square, *systems;
        double* packed[3];
        double* points[5];
        double* sum;
    };
    /// Items handled together, for their small systems.
    struct Group {
        int64_t first, count;
        Small* small;
        double* partial;
    };
    int64_t group_size() const {
        const bool one = rank_ == 1 && all_in_cache(a_.batch, n_, 6, sizeof(T));
        if (!(lanes_ || one) || !(sum_rows_ || by_item_)) {
            return 1;
        }
        const int64_t threads = sum_rows_ ? 1 : slots_;
        return smaller(
            items_in_cache(n_, rank_ + 6, sizeof(T)), (a_.batch + threads - 1) / threads
        );
    }
    double* partial(int64_t member) const {
        return partial_ + member * chunks_ * partial_size();
    }
    // Per chunk: C diag(q) C', C p, Vb C'.
    int64_t partial_size() const {
        return 2 * rank_ * rank_ + rank_;
    }
    int64_t blocks() const {
        return (n_ + block - 1) / block;
    }
    const T* rows(int64_t b) const {
        return a_.rows.item(b);
    }
    const T* source(int64_t b) const {
        return diagonal_ ? rows(b) : a_.cross.item(b);
    }

    // ---- pass 1
    // ------------------------------------------------------------------------------------------------
    void reduce(Scratch& s, const Group& group, int64_t i, int64_t chunk) const {
        const int64_t b = group.first + i;
        double* partial = group.partial + (i * chunks_ + chunk) * partial_size();
        const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
        if (rank_ == 1) {
            if (lean_) {
                reduce_one<true>(b, begin, end, partial);
            } else {
                reduce_one<false>(b, begin, end, partial);
            }
            return;
        }
        const int64_t square = rank_ * rank_;
        clear(s.lanes, gram_lanes(rank_, true));
        clear(s.products, dot_lanes(rank_));
        if (s.factor_lanes != nullptr) {
            clear(s.factor_lanes, gram_lanes(rank_, false));
        }
        const Rows<T> rows = {source(b), n_, rank_};
        const T *p = a_.grad_mean.item(b), *q = a_.grad_variance.item(b), *v = a_.variance.item(b);
        for (int64_t at = begin; at < end; at += gram_run) {
            const int64_t count = smaller(gram_run, end - at);
            const Rows<T> c = rows.from(at);
            if (diagonal_) {  // the rows stand for C = G diag(s)
                double weight[gram_run], upstream[gram_run], prior[gram_run];
                for (int64_t i = 0; i < count; ++i) {
                    prior[i] = v[at + i];
                    upstream[i] = prior[i] * p[at + i];
                    weight[i] = prior[i] * prior[i] * q[at + i];
                }
                reduce_run(s, b, c, at, count, weight, upstream, prior);
            } else {
                reduce_run(s, b, c, at, count, q + at, p + at, static_cast<const T*>(nullptr));
            }
        }
        gram_finish(s.lanes, rank_, true, partial);
        dots_finish(s.products, rank_, partial + square);
        if (s.factor_lanes != nullptr) {
            gram_finish(s.factor_lanes, rank_, false, partial + square + rank_);
        }
    }

    template <typename W>
    PHYSCON_KERNEL void reduce_run(
        Scratch& s,
        int64_t b,
        const Rows<T>& c,
        int64_t at,
        int64_t count,
        const W* weight,
        const W* upstream,
        const W* prior
    ) const {
        const int64_t ahead =
            at + gram_run < n_ ? gram_run : (diagonal_ ? a_.rows : a_.cross).stride - at;
        add_gram(c, count, ahead, weight, upstream, s.lanes, s.products);
        if (s.factor_lanes == nullptr) {
            return;
        }
        const Rows<T> factor = {a_.grad_factor.item(b) + at, n_, rank_};
        if (diagonal_) {
            add_products<true>(factor, c, count, prior, s.factor_lanes);
        } else {
            add_products<false>(factor, c, count, prior, s.factor_lanes);
        }
    }
    static void clear(double* values, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            values[i] = 0;
        }
    }
    template <typename X>
    static void copy(const T* from, int64_t count, X* to) {
        for (int64_t i = 0; i < count; ++i) {
            to[i] = static_cast<X>(from[i]);
        }
        for (int64_t i = count; i < block; ++i) {
            to[i] = 0;
        }
    }

    /// widen(from[p .. p + width)), or zeros for an absent array.
    template <bool full>
    static Wide<T> wide(const T* from, int64_t p, int count) {
        if (from == nullptr) {
            return Wide<T>{};
        }
        return load_wide<full>(from + p, count);
    }
    const T* grad_factor(int64_t b) const {
        return a_.grad_factor.data == nullptr ? nullptr : a_.grad_factor.item(b);
    }

    /// `lean` as in points_one.
    template <bool lean>
    PHYSCON_KERNEL void reduce_one(int64_t b, int64_t begin, int64_t end, double* partial) const {
        const bool diagonal = lean || diagonal_;
        const T *g = source(b), *v = diagonal ? a_.variance.item(b) : nullptr;
        const T *up = a_.grad_mean.item(b), *uq = a_.grad_variance.item(b), *uv = grad_factor(b);
        Wide<T> squares = {}, product = {}, mixed = {};
        const auto add = [&](auto full, int64_t p, int count) {
            constexpr bool is_full = decltype(full)::value;
            Wide<T> c = wide<is_full>(g, p, count);
            const Wide<T> prior = wide<is_full>(v, p, count), pm = wide<is_full>(up, p, count);
            const Wide<T> q = wide<is_full>(uq, p, count);
            const Wide<T> f = wide<is_full>(lean ? nullptr : uv, p, count);
            for (int i = 0; i < Wide<T>::parts; ++i) {
                if (diagonal) {
                    c.part[i] *= prior.part[i];
                }
                squares.part[i] += q.part[i] * c.part[i] * c.part[i];
                product.part[i] += pm.part[i] * c.part[i];
                if constexpr (!lean) {
                    mixed.part[i] += f.part[i] * c.part[i];
                }
            }
        };
        int64_t p = begin;
        for (; p + width<T> <= end; p += width<T>) {
            add(std::true_type{}, p, width<T>);
        }
        if (p < end) {
            add(std::false_type{}, p, static_cast<int>(end - p));
        }
        const auto sum = [](const Wide<T>& w) {
            Vector<double> total = w.part[0];
            for (int i = 1; i < Wide<T>::parts; ++i) {
                total += w.part[i];
            }
            return sum_lanes(total);
        };
        partial[0] = sum(squares);
        partial[1] = sum(product);
        partial[2] = lean ? 0 : sum(mixed);
    }

    // ---- rank-sized algebra
    // ------------------------------------------------------------------------------------
    void solve(Scratch& s, const Group& group) const {
        for (int64_t i = 0; i < group.count; ++i) {
            double* sums = group.partial + i * chunks_ * partial_size();
            for (int64_t c = 1; c < chunks_; ++c) {
                for (int64_t j = 0; j < partial_size(); ++j) {
                    sums[j] += sums[c * partial_size() + j];
                }
            }
        }
        for (int64_t i = 0; i < group.count; i += lanes_ ? lane_items : 1) {
            if (lanes_) {
                solve_lanes(s, group, i, smaller(group.count - i, lane_items));
            } else {
                solve_alone(s, group, i);
            }
        }
        for (int64_t i = 0; i < group.count; ++i) {
            finish(s, group.small[i], group.first + i);
        }
    }

    /// One item per lane; items with nearly dependent rows are solved alone.
    void solve_lanes(Scratch& s, const Group& group, int64_t begin, int64_t count) const {
        const int64_t square = rank_ * rank_;
        LaneAdjoint system(s.systems, rank_);
        const auto put = [](Vector<double>* to, int64_t lane, const double* from, int64_t size) {
            double* values = reinterpret_cast<double*>(to) + lane;
            for (int64_t i = 0; i < size; ++i) {
                values[i * lane_items] = from[i];
            }
        };
        for (int64_t lane = 0; lane < lane_items; ++lane) {
            const int64_t i = begin + smaller(lane, count - 1), b = group.first + i;
            const double* sums = group.partial + i * chunks_ * partial_size();
            put(system.factor, lane, a_.cholesky + b * square, square);
            put(system.alpha, lane, a_.multipliers + b * rank_, rank_);
            put(system.sums, lane, sums, square);
            put(system.a, lane, sums + square, rank_);
        }
        system.solve(rank_);
        for (int64_t lane = 0; lane < count; ++lane) {
            Small& small = group.small[begin + lane];
            if (!(system.smallest[lane] >= suspicious_pivot)) {
                solve_alone(s, group, begin + lane);
                continue;
            }
            small.wide = sizeof(T) == 8 || system.smallest[lane] < benign_pivot;
            const auto get = [&](const Vector<double>* from, int64_t i) {
                return reinterpret_cast<const double*>(from)[i * lane_items + lane];
            };
            for (int64_t k = 0; k < rank_; ++k) {
                small.a[k] = get(system.a, k);
                for (int64_t j = 0; j <= k; ++j) {
                    const int64_t at = k * rank_ + j, mirror = j * rank_ + k;
                    small.inverse[mirror] = 0;
                    small.inverse[at] = get(system.inverse, at);
                    small.adjoint[at] = small.adjoint[mirror] = get(system.adjoint, at);
                }
            }
        }
    }

    void solve_alone(Scratch& s, const Group& group, int64_t i) const {
        const int64_t square = rank_ * rank_, b = group.first + i;
        Small& small = group.small[i];
        const double *l = a_.cholesky + b * square, *alpha = a_.multipliers + b * rank_;
        const double* sums = group.partial + i * chunks_ * partial_size();
        if (rank_ == 1) {
            const double w = 1 / l[0], inverse = w * w;  // 0 for a dropped row
            small.inverse[0] = w;
            small.a[0] = inverse * sums[1];
            small.adjoint[0] =
                inverse * (inverse * sums[0] - 0.5 * w * sums[2]) - small.a[0] * alpha[0];
            return;
        }
        double *work = s.square, *product = s.square + square;
        invert_lower(l, rank_, small.inverse);
        small.wide = sizeof(T) == 8 || smallest_pivot(l) < benign_pivot;
        for (int64_t k = 0; k < rank_; ++k) {
            small.a[k] = sums[square + k];
        }
        solve_lower(l, rank_, rank_, small.a);
        solve_upper(l, rank_, rank_, small.a);
        // work <- W (C diag(q) C') W' - sym Phi((Vb C') W')
        const double* w = small.inverse;
        double* transposed = s.square + 2 * square;  // W'
        for (int64_t k = 0; k < rank_; ++k) {
            for (int64_t j = 0; j < rank_; ++j) {
                transposed[j * rank_ + k] = w[k * rank_ + j];
            }
        }
        multiply_matrix(w, sums, rank_, product);
        multiply_matrix(product, transposed, rank_, work);
        if (s.factor_lanes != nullptr) {
            multiply_matrix(sums + square + rank_, transposed, rank_, product);
            for (int64_t i = 0; i < rank_; ++i) {
                for (int64_t j = 0; j < i; ++j) {
                    work[i * rank_ + j] -= 0.5 * product[i * rank_ + j];
                    work[j * rank_ + i] -= 0.5 * product[i * rank_ + j];
                }
                work[i * rank_ + i] -= 0.5 * product[i * rank_ + i];
            }
        }
        // adjoint <- W' work W - sym(a alpha')
        multiply_matrix(work, w, rank_, product);
        multiply_matrix(transposed, product, rank_, small.adjoint);
        for (int64_t i = 0; i < rank_; ++i) {
            for (int64_t j = 0; j <= i; ++j) {
                double& value = small.adjoint[i * rank_ + j];
                value = 0.5 * (value + small.adjoint[j * rank_ + i]) -
                        0.5 * (small.a[i] * alpha[j] + small.a[j] * alpha[i]);
                small.adjoint[j * rank_ + i] = value;
            }
        }
    }

    /// Gradients of target and noise, and what pass 2 reads.
    void finish(Scratch& s, Small& small, int64_t b) const {
        const int64_t square = rank_ * rank_;
        for (int64_t k = 0; k < rank_; ++k) {
            a_.target_out[b * rank_ + k] = static_cast<T>(small.a[k]);
        }
        for (int64_t i = 0; i < square; ++i) {
            a_.noise_out[b * square + i] = static_cast<T>(small.adjoint[i]);
        }
        if (points_only_) {
            if (small.wide) {
                pack_quadratic_forms<double>(s, small);
            } else {
                pack_quadratic_forms<T>(s, small);
            }
        }
    }

    double smallest_pivot(const double* l) const {
        double smallest = 1;
        for (int64_t k = 0; k < rank_; ++k) {
            const double pivot = l[k * rank_ + k] * l[k * rank_ + k];
            if (!(pivot < infinity)) {
                continue;
            }
            double scale = 0;
            for (int64_t j = 0; j <= k; ++j) {
                scale += l[k * rank_ + j] * l[k * rank_ + j];
            }
            smallest = smaller(smallest, pivot / scale);
        }
        return smallest;
    }

    // ---- pass 2
    // ------------------------------------------------------------------------------------------------
    void points(Scratch& s, const Small& small, int64_t b, int64_t p) const {
        const int64_t count = smaller(block, n_ - p);
        if (rank_ == 1) {
            if (lean_) {
                points_one<true>(s, small, b, p, p + count);
            } else {
                points_one<false>(s, small, b, p, p + count);
            }
        } else if (points_only_) {
            if (small.wide) {
                quadratic_forms<double>(s, small, b, p, p + count);
            } else {
                quadratic_forms<T>(s, small, b, p, p + count);
            }
        } else if (small.wide) {
            points_block<double>(s, small, b, p, count);
        } else {
            points_block<T>(s, small, b, p, count);
        }
    }

    /// `lean`: gradients of mean and variance for a diagonal prior, nothing else.
    template <bool lean>
    PHYSCON_KERNEL void points_one(
        Scratch& s, const Small& small, int64_t b, int64_t begin, int64_t end
    ) const {
        const bool diagonal = lean || diagonal_;
        const T *g = rows(b), *c = diagonal ? nullptr : a_.cross.item(b);
        const T *v = diagonal ? a_.variance.item(b) : nullptr, *m = a_.mean.item(b);
        const T *up = a_.grad_mean.item(b), *uq = a_.grad_variance.item(b), *uv = grad_factor(b);
        T *mean_out = a_.mean_out + b * n_, *variance_out = a_.variance_out + b * n_;
        T* cross_out = lean || a_.cross_out == nullptr ? nullptr : a_.cross_out + b * n_;
        T* rows_out = lean || a_.rows_out == nullptr || sum_rows_
                          ? nullptr
                          : a_.rows_out + (a_.rows_shared ? 0 : b * n_);
        const double inverse = small.inverse[0], adjoint = small.adjoint[0], a = small.a[0];
        const double alpha = a_.multipliers[b];
        const auto step = [&](auto full, int64_t p, int lanes) {
            constexpr bool is_full = decltype(full)::value;
            const Wide<T> w = wide<is_full>(g, p, lanes), prior = wide<is_full>(v, p, lanes);
            const Wide<T> cr = wide<is_full>(lean ? nullptr : c, p, lanes);
            const Wide<T> mm = wide<is_full>(lean ? nullptr : m, p, lanes);
            const Wide<T> pm = wide<is_full>(up, p, lanes), q = wide<is_full>(uq, p, lanes);
            const Wide<T> f = wide<is_full>(lean ? nullptr : uv, p, lanes);
            Wide<T> mean_bar, variance_bar, cross_bar, row_bar;
            for (int i = 0; i < Wide<T>::parts; ++i) {
                const Vector<double> x = inverse * (diagonal ? w.part[i] : cr.part[i]);
                const Vector<double> scaled = diagonal ? q.part[i] * prior.part[i] : q.part[i];
                const Vector<double> cb = alpha * pm.part[i] + adjoint * w.part[i] +
                                          inverse * (f.part[i] - 2 * scaled * x);
                mean_bar.part[i] = pm.part[i] - a * w.part[i];
                cross_bar.part[i] = cb;
                variance_bar.part[i] = diagonal ? q.part[i] + cb * w.part[i] : q.part[i];
                row_bar.part[i] = diagonal_
                                      ? prior.part[i] * (cb + adjoint * w.part[i]) - a * mm.part[i]
                                      : adjoint * cr.part[i] - a * mm.part[i];
            }
            store_narrow<is_full>(mean_out + p, mean_bar, lanes);
            store_narrow<is_full>(variance_out + p, variance_bar, lanes);
            if (cross_out != nullptr) {
                store_narrow<is_full>(cross_out + p, cross_bar, lanes);
            }
            if (rows_out != nullptr) {
                store_narrow<is_full>(rows_out + p, row_bar, lanes);
            }
            if (lean || s.sum == nullptr) {
                return;
            }
            for (int i = 0; i < Wide<T>::parts; ++i) {
                double* sum = s.sum + (p - begin) + i * width<double>;
                const int left = lanes - i * width<double>;
                if (left >= width<double>) {
                    store(sum, load(sum) + row_bar.part[i]);
                } else {
                    for (int j = 0; j < left; ++j) {
                        sum[j] += row_bar.part[i][j];
                    }
                }
            }
        };
        int64_t p = begin;
        for (; p + width<T> <= end; p += width<T>) {
            step(std::true_type{}, p, width<T>);
        }
        if (p < end) {
            step(std::false_type{}, p, static_cast<int>(end - p));
        }
    }

    /// L^-1, and the triangle whose product with g has g' Ab g as its product with g.
    template <typename X>
    void pack_quadratic_forms(Scratch& s, Small& small) const {
        for (int64_t i = 0; i < rank_; ++i) {
            for (int64_t j = 0; j < rank_; ++j) {
                const double value = small.adjoint[i * rank_ + j];
                s.square[i * rank_ + j] = j < i ? 2 * value : j == i ? value : 0;
            }
        }
        pack_matrix(small.inverse, rank_, reinterpret_cast<X*>(small.packed[0]));
        pack_matrix(s.square, rank_, reinterpret_cast<X*>(small.packed[1]));
    }

    /// Gradients of mean and variance alone need no vectors but two quadratic forms per point:
    /// mb = p - g . a,  sb = q + p (g . alpha) + g' Ab g - 2 q s |L^-1 g|^2.
    template <typename X>
    PHYSCON_KERNEL void quadratic_forms(
        Scratch& s, const Small& small, int64_t b, int64_t begin, int64_t end
    ) const {
        const X* inverse = reinterpret_cast<const X*>(small.packed[0]);
        const X* adjoint = reinterpret_cast<const X*>(small.packed[1]);
        const double *alpha = a_.multipliers + b * rank_, *a = small.a;
        const T* v = a_.variance.item(b);
        const T *up = a_.grad_mean.item(b), *uq = a_.grad_variance.item(b);
        T *mean_out = a_.mean_out + b * n_, *variance_out = a_.variance_out + b * n_;
        const Rows<T> g = nearby(
            Rows<T>{rows(b) + begin, n_, rank_}, end - begin, reinterpret_cast<T*>(s.points[0])
        );
        each_tile<X>(begin, end, [&](auto tag, auto full, int64_t p, int live) {
            constexpr int vectors = decltype(tag)::value;
            constexpr bool is_full = decltype(full)::value;
            using V = Vector<X>;
            const T* x = g.data + (p - begin);
            // One sweep per result: together they need more registers than there are.
            V lost[vectors] = {}, form[vectors] = {}, shift[vectors] = {}, gain[vectors] = {};
            V row[tile_rows][vectors];
            for (int64_t group = 0; group < tiles(rank_); ++group) {
                const X* four = inverse + group * tile_rows * padded_rank(rank_);
                multiply_lower<is_full>(four, group, rank_, x, g.stride, live, row);
                for (int r = 0; r < tile_rows; ++r) {
                    for (int j = 0; j < vectors; ++j) {
                        lost[j] += row[r][j] * row[r][j];
                    }
                }
            }
            for (int64_t group = 0; group < tiles(rank_); ++group) {
                const X* four = adjoint + group * tile_rows * padded_rank(rank_);
                multiply_lower<is_full>(four, group, rank_, x, g.stride, live, row);
                for (int r = 0; r < tile_rows; ++r) {  // rows behind the last are zero
                    const int64_t k = smaller(group * tile_rows + r, rank_ - 1);
                    for (int j = 0; j < vectors; ++j) {
                        const T* at = x + k * g.stride + j * width<X>;
                        form[j] += row[r][j] * load_as<X, is_full>(at, live);
                    }
                }
            }
            for (int64_t k = 0; k < rank_; ++k) {
                const X ak = static_cast<X>(a[k]), alphak = static_cast<X>(alpha[k]);
                for (int j = 0; j < vectors; ++j) {
                    const V gk = load_as<X, is_full>(x + k * g.stride + j * width<X>, live);
                    shift[j] += ak * gk;
                    gain[j] += alphak * gk;
                }
            }
            for (int j = 0; j < vectors; ++j) {
                const int64_t at = p + j * width<X>;
                const V pm = load_as<X, is_full>(up + at, live);
                const V q = load_as<X, is_full>(uq + at, live);
                const V prior = load_as<X, is_full>(v + at, live);
                store_as<is_full>(mean_out + at, pm - shift[j], live);
                const V sum = pm * gain[j] + form[j] - 2 * (q * prior) * lost[j];
                store_as<is_full>(variance_out + at, q + sum, live);
            }
        });
    }

    /// out (padded rank, block) = matrix x for packed points; only the columns that a triangle
    /// fills are read.
    enum class Shape { lower, upper, full };
    template <typename X>
    void apply(const X* packed, const X* x, Shape shape, X* out) const {
        const int64_t pr = padded_rank(rank_);
        for (int64_t i = 0; i < block; i += tile_vectors * width<X>) {
            for (int64_t group = 0; group < tiles(rank_); ++group) {
                const int64_t first = shape == Shape::upper ? group * tile_rows : 0;
                const int64_t last = shape == Shape::lower ? (group + 1) * tile_rows : pr;
                Vector<X> row[tile_rows][tile_vectors];
                multiply_tile(
                    packed + (group * pr + first) * tile_rows,
                    x + first * block + i,
                    block,
                    last - first,
                    row
                );
                for (int r = 0; r < tile_rows; ++r) {
                    for (int j = 0; j < tile_vectors; ++j) {
                        store(out + (group * tile_rows + r) * block + i + j * width<X>, row[r][j]);
                    }
                }
            }
        }
    }

    template <typename X>
    PHYSCON_KERNEL void points_block(
        Scratch& s, const Small& small, int64_t b, int64_t p, int64_t count
    ) const {
        X *inverse = reinterpret_cast<X*>(s.packed[0]),
          *transposed = reinterpret_cast<X*>(s.packed[1]);
        X* adjoint = reinterpret_cast<X*>(s.packed[2]);
        X *g = reinterpret_cast<X*>(s.points[0]), *c = reinterpret_cast<X*>(s.points[1]);
        X *x = reinterpret_cast<X*>(s.points[2]), *y = reinterpret_cast<X*>(s.points[3]);
        X* z = reinterpret_cast<X*>(s.points[4]);
        const bool want_rows = a_.rows_out != nullptr, full = want_rows || !diagonal_;
        const int64_t pr = padded_rank(rank_);
        const double *alpha = a_.multipliers + b * rank_, *a = small.a;

        if (p == 0 || s.sum != nullptr || !by_item_) {
            pack_small(s, small, inverse, transposed, adjoint, full);
        }
        for (int64_t k = 0; k < pr; ++k) {
            copy(rows(b) + k * n_ + p, k < rank_ ? count : 0, g + k * block);
            if (!diagonal_) {
                copy(a_.cross.item(b) + k * n_ + p, k < rank_ ? count : 0, c + k * block);
            }
        }
        const X* base = diagonal_ ? g : c;
        X upstream[block], weight[block], prior[block], value[block], lost[block] = {},
                                                                      mean_bar[block];
        copy(a_.grad_mean.item(b) + p, count, upstream);
        copy(a_.grad_variance.item(b) + p, count, weight);
        copy(a_.variance.item(b) + p, count, prior);
        if (want_rows) {
            copy(a_.mean.item(b) + p, count, value);
        }

        apply(inverse, base, Shape::lower, x);  // x = W g, or W c
        apply(adjoint, g, Shape::full, y);      // y = Ab g
        for (int64_t i = 0; i < block; ++i) {
            mean_bar[i] = upstream[i];
        }
        for (int64_t k = 0; k < rank_; ++k) {
            // One row at a time: mean gradient; variance gradient (diagonal) as g . (alpha p + Ab
            // g) - 2 q s |x|^2 + Vb . x
            const X ak = static_cast<X>(a[k]), alphak = static_cast<X>(alpha[k]);
            X* xk = x + k * block;
            const X *gk = g + k * block, *yk = y + k * block;
            X vb[block] = {};
            if (s.factor_lanes != nullptr) {
                copy(a_.grad_factor.item(b) + k * n_ + p, count, vb);
            }
            for (int64_t i = 0; i < block; ++i) {
                mean_bar[i] -= ak * gk[i];
                const X scaled = diagonal_ ? weight[i] * prior[i] : weight[i];
                const X row = xk[i];
                lost[i] +=
                    gk[i] * (alphak * upstream[i] + yk[i]) + row * (vb[i] - 2 * scaled * row);
                xk[i] = vb[i] - 2 * scaled * row;
            }
        }
        for (int64_t i = 0; i < count; ++i) {
            a_.mean_out[b * n_ + p + i] = static_cast<T>(mean_bar[i]);
        }
        for (int64_t i = 0; i < count; ++i) {
            a_.variance_out[b * n_ + p + i] =
                static_cast<T>(diagonal_ ? weight[i] + lost[i] : weight[i]);
        }
        if (!full) {
            return;
        }
        apply(transposed, x, Shape::upper, z);  // z = W' (Vb - 2 q x)
        if (!diagonal_ && want_rows) {
            apply(adjoint, c, Shape::full, x);  // x = Ab c
        }
        for (int64_t k = 0; k < rank_; ++k) {
            const X ak = static_cast<X>(a[k]), alphak = static_cast<X>(alpha[k]);
            const X *yk = y + k * block, *zk = z + k * block, *xk = x + k * block;
            X cross_bar[block], row_bar[block];
            for (int64_t i = 0; i < block; ++i) {
                cross_bar[i] = alphak * upstream[i] + yk[i] + zk[i];
            }
            if (a_.cross_out != nullptr) {
                T* out = a_.cross_out + (b * rank_ + k) * n_ + p;
                for (int64_t i = 0; i < count; ++i) {
                    out[i] = static_cast<T>(cross_bar[i]);
                }
            }
            if (!want_rows) {
                continue;
            }
            for (int64_t i = 0; i < block; ++i) {
                row_bar[i] =
                    (diagonal_ ? prior[i] * (cross_bar[i] + yk[i]) : xk[i]) - ak * value[i];
            }
            if (s.sum != nullptr) {
                for (int64_t i = 0; i < count; ++i) {
                    s.sum[k * block + i] += row_bar[i];
                }
            } else {
                T* out = a_.rows_out + ((a_.rows_shared ? 0 : b * rank_) + k) * n_ + p;
                for (int64_t i = 0; i < count; ++i) {
                    out[i] = static_cast<T>(row_bar[i]);
                }
            }
        }
    }

    template <typename X>
    void pack_small(
        Scratch& s, const Small& small, X* inverse, X* transposed, X* adjoint, bool full
    ) const {
        pack_matrix(small.inverse, rank_, inverse);
        pack_matrix(small.adjoint, rank_, adjoint);
        if (!full) {
            return;
        }
        for (int64_t i = 0; i < rank_; ++i) {
            for (int64_t j = 0; j < rank_; ++j) {
                s.square[i * rank_ + j] = small.inverse[j * rank_ + i];
            }
        }
        pack_matrix(s.square, rank_, transposed);
    }

    const ConditionBackwardArgs<T>& a_;
    const Executor& executor_;
    const int64_t n_, rank_, chunks_;
    const bool diagonal_, sum_rows_;
    const bool lean_;         // gradients of mean and variance for a diagonal prior, nothing else
    const bool points_only_;  // the same by quadratic forms
    const bool lanes_;        // systems of several items at once
    const int64_t slots_;
    const bool by_item_;   // each item by one thread
    const int64_t group_;  // items handled together
    Arena arena_;
    Small* small_ = nullptr;
    double* partial_ = nullptr;
    Scratch* scratch_ = nullptr;
};

}  // namespace

template <typename T>
std::size_t condition_backward_workspace(
    const ConditionBackwardArgs<T>& args, const Executor& executor
) {
    return Backward<T>(args, executor, nullptr).workspace_size();
}
template <typename T>
void condition_backward(
    const ConditionBackwardArgs<T>& args, const Executor& executor, void* workspace
) {
    Backward<T>(args, executor, workspace).run();
}

template std::size_t condition_backward_workspace(
    const ConditionBackwardArgs<float>&, const Executor&
);
template std::size_t condition_backward_workspace(
    const ConditionBackwardArgs<double>&, const Executor&
);
template void condition_backward(const ConditionBackwardArgs<float>&, const Executor&, void*);
template void condition_backward(const ConditionBackwardArgs<double>&, const Executor&, void*);

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
