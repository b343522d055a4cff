// SPDX-License-Identifier: Apache-2.0
// Rows with disjoint support and a diagonal prior: A is diagonal, each row is a closed form on its
// own cells.
#include "parallel.hpp"
#include "small.hpp"
#include "tile.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

constexpr int correction_limit = 6;
constexpr double joseph_leverage = 0.9;

/// One row's cells, `block` at a time, in double precision and padded with zeros.
template <typename T>
struct Cells {
    const int64_t* order;
    int64_t begin, end;

    int64_t index(int64_t j) const {
        return order == nullptr ? j : order[j];
    }
    /// A field of the item, gathered for list positions [j, j + block).
    void field(const T* values, int64_t j, double* out) const {
        const int64_t count = smaller(block, end - j);
        for (int64_t i = 0; i < count; ++i) {
            out[i] = values[index(j + i)];
        }
        for (int64_t i = count; i < block; ++i) {
            out[i] = 0;
        }
    }
    /// The weights themselves are stored in list order.
    void listed(const T* values, int64_t j, double* out) const {
        const int64_t count = smaller(block, end - j);
        for (int64_t i = 0; i < count; ++i) {
            out[i] = values[j + i];
        }
        for (int64_t i = count; i < block; ++i) {
            out[i] = 0;
        }
    }
};

template <typename T>
struct RowForward {
    const DisjointArgs<T>& a;
    int64_t b, k;
    Cells<T> cells;
    const T *w, *m, *v;
    T *mean_out, *variance_out;

    RowForward(const DisjointArgs<T>& args, int64_t item, int64_t row)
        : a(args),
          b(item),
          k(row),
          cells{args.order, args.offsets[row], args.offsets[row + 1]},
          w(args.weights.item(item)),
          m(args.mean.item(item)),
          v(args.variance.item(item)),
          mean_out(args.mean_out + item * args.n),
          variance_out(args.variance_out + item * args.n) {}

    void run() const {
        const double target = a.target.item(b)[k], noise = a.noise.item(b)[k];
        Vector<double> gram = {}, product = {}, magnitude = {};
        double wb[block], mb[block], vb[block];
        for (int64_t j = cells.begin; j < cells.end; j += block) {
            read(j, wb, mb, vb);
            Vector<double> g = {}, p = {}, s = {};
            for (int64_t i = 0; i < block; i += width<double>) {
                const Vector<double> x = load(wb + i), y = x * load(mb + i);
                g += x * x * load(vb + i);
                p += y;
                s += absolute<double>(y);
            }
            gram += g, product += p, magnitude += s;
        }
        const double d = sum_lanes(gram) + noise, e = target - sum_lanes(product);
        const double scale = sum_lanes(magnitude) + __builtin_fabs(target);
        if (!finite(d) || !finite(e)) {
            return reject(RowStatus::non_finite, __builtin_nan(""), __builtin_nan(""));
        }
        if (!(d > 0)) {
            const bool satisfied = __builtin_fabs(e) <= 64 * epsilon<T> * scale;
            return reject(satisfied ? RowStatus::satisfied : RowStatus::infeasible, infinity, 0);
        }
        double alpha = e / d;
        update(d, alpha);
        if constexpr (sizeof(T) == 8) {
            for (int i = 0; i < correction_limit; ++i) {
                const double delta = residual(target, noise * alpha) / d;
                if (delta == 0) {
                    break;
                }
                alpha += delta;
                shift(delta);
            }
        }
        finish(RowStatus::used, __builtin_sqrt(d), alpha);
    }

  private:
    void read(int64_t j, double* wb, double* mb, double* vb) const {
        cells.listed(w, j, wb);
        cells.field(m, j, mb);
        cells.field(v, j, vb);
    }
    void finish(RowStatus status, double root, double alpha) const {
        a.info_out[b * a.rank + k] = static_cast<std::int32_t>(status);
        a.cholesky_out[b * a.rank + k] = root;
        a.multipliers_out[b * a.rank + k] = alpha;
    }
    void reject(RowStatus status, double root, double alpha) const {
        finish(status, root, alpha);
        for (int64_t j = cells.begin; j < cells.end; ++j) {
            if (a.factor_out != nullptr) {
                a.factor_out[b * a.support + j] = static_cast<T>(alpha);
            }
            if (status != RowStatus::non_finite) {
                continue;
            }
            mean_out[cells.index(j)] = static_cast<T>(alpha);
            variance_out[cells.index(j)] = static_cast<T>(alpha);
        }
    }
    void update(double d, double alpha) const {
        const double root = 1 / __builtin_sqrt(d);
        double wb[block], mb[block], vb[block];
        for (int64_t j = cells.begin; j < cells.end; j += block) {
            read(j, wb, mb, vb);
            const int64_t count = smaller(block, cells.end - j);
            for (int64_t i = 0; i < count; ++i) {
                const int64_t cell = cells.index(j + i);
                const double factor = root * wb[i] * vb[i], leverage = factor * root * wb[i];
                mean_out[cell] = static_cast<T>(mb[i] + alpha * wb[i] * vb[i]);
                variance_out[cell] = static_cast<T>(
                    leverage > joseph_leverage ? joseph_variance(j + i, wb[i] * vb[i] / d)
                                               : vb[i] * (1 - leverage)
                );
                if (a.factor_out != nullptr) {
                    a.factor_out[b * a.support + j + i] = static_cast<T>(factor);
                }
            }
        }
    }
    /// sum_j (delta_ij - K w_j)^2 s_j + K^2 noise: no cancellation where the row nearly determines
    /// cell i.
    double joseph_variance(int64_t position, double gain) const {
        double sum = gain * gain * static_cast<double>(a.noise.item(b)[k]);
        for (int64_t j = cells.begin; j < cells.end; ++j) {
            const double weight = (j == position ? 1.0 : 0.0) - gain * static_cast<double>(w[j]);
            sum += weight * weight * static_cast<double>(v[cells.index(j)]);
        }
        return sum;
    }
    /// b - w m' - noise alpha by compensated summation; 0 when it is rounding.
    double residual(double target, double observed) const {
        CompensatedSum sum;
        Vector<double> magnitude = {};
        double wb[block], mb[block];
        for (int64_t j = cells.begin; j < cells.end; j += block) {
            cells.listed(w, j, wb);
            cells.field(mean_out, j, mb);
            for (int64_t i = 0; i < block; i += width<double>) {
                const Vector<double> x = load(wb + i), y = load(mb + i);
                sum.add_product(x, y);
                magnitude += absolute<double>(x * y);
            }
        }
        DoubleDouble total;
        total.add(sum);
        total.add(-target);
        total.add(observed);
        const double scale =
            sum_lanes(magnitude) + __builtin_fabs(target) + __builtin_fabs(observed);
        return __builtin_fabs(total.value()) > 2 * epsilon64 * scale ? -total.value() : 0;
    }
    void shift(double delta) const {
        for (int64_t j = cells.begin; j < cells.end; ++j) {
            const int64_t cell = cells.index(j);
            mean_out[cell] +=
                static_cast<T>(delta * static_cast<double>(w[j]) * static_cast<double>(v[cell]));
        }
    }
};

template <typename T>
struct RowBackward {
    const DisjointBackwardArgs<T>& a;

    void run(int64_t b, int64_t k) const {
        const Cells<T> cells{a.order, a.offsets[k], a.offsets[k + 1]};
        const T *w = a.weights.item(b), *v = a.variance.item(b), *m = a.mean.item(b);
        const T *up = a.grad_mean.item(b), *uq = a.grad_variance.item(b);
        const T* uf = a.grad_factor.data == nullptr ? nullptr : a.grad_factor.item(b);
        const double inverse = 1 / a.cholesky[b * a.rank + k],
                     alpha = a.multipliers[b * a.rank + k];
        double product = 0, squares = 0, mixed = 0;
        for (int64_t j = cells.begin; j < cells.end; ++j) {
            const int64_t cell = cells.index(j);
            const double c = static_cast<double>(w[j]) * v[cell];
            product += c * up[cell];
            squares += c * c * uq[cell];
            if (uf != nullptr) {
                mixed += c * uf[j];
            }
        }
        const double gain = product * inverse * inverse;  // a
        const double adjoint =
            inverse * inverse * (squares * inverse * inverse - 0.5 * mixed * inverse) -
            gain * alpha;
        for (int64_t j = cells.begin; j < cells.end; ++j) {
            const int64_t cell = cells.index(j);
            const double weight = w[j], prior = v[cell], q = uq[cell],
                         f = uf == nullptr ? 0.0 : uf[j];
            const double cross = alpha * up[cell] + adjoint * weight +
                                 inverse * (f - 2 * q * prior * inverse * weight);
            a.mean_out[b * a.n + cell] = static_cast<T>(up[cell] - gain * weight);
            a.variance_out[b * a.n + cell] = static_cast<T>(q + cross * weight);
            if (a.weights_out == nullptr) {
                continue;
            }
            a.weights_out[b * a.support + j] = static_cast<T>(
                prior * (cross + adjoint * weight) - gain * static_cast<double>(m[cell])
            );
        }
        a.target_out[b * a.rank + k] = static_cast<T>(gain);
        a.noise_out[b * a.rank + k] = static_cast<T>(adjoint);
    }
};

/// Cells outside every row keep what they have.
template <typename T>
void copy_items(const Executor& executor, int64_t batch, int64_t n, const Strided<T>& from, T* to) {
    const int64_t chunks = chunk_count(n);
    run_indices(executor, batch * chunks, [&](int64_t, int64_t i) {
        const int64_t b = i / chunks, begin = (i % chunks) * chunk_points,
                      end = smaller(begin + chunk_points, n);
        for (int64_t p = begin; p < end; ++p) {
            to[b * n + p] = from.item(b)[p];
        }
    });
}

}  // namespace

template <typename T>
void condition_disjoint(const DisjointArgs<T>& args, const Executor& executor) {
    copy_items(executor, args.batch, args.n, args.mean, args.mean_out);
    copy_items(executor, args.batch, args.n, args.variance, args.variance_out);
    run_indices(executor, args.batch * args.rank, [&](int64_t, int64_t i) {
        RowForward<T>(args, i / args.rank, i % args.rank).run();
    });
}
template <typename T>
void condition_disjoint_backward(const DisjointBackwardArgs<T>& args, const Executor& executor) {
    copy_items(executor, args.batch, args.n, args.grad_mean, args.mean_out);
    copy_items(executor, args.batch, args.n, args.grad_variance, args.variance_out);
    run_indices(executor, args.batch * args.rank, [&](int64_t, int64_t i) {
        RowBackward<T>{args}.run(i / args.rank, i % args.rank);
    });
}

template void condition_disjoint(const DisjointArgs<float>&, const Executor&);
template void condition_disjoint(const DisjointArgs<double>&, const Executor&);
template void condition_disjoint_backward(const DisjointBackwardArgs<float>&, const Executor&);
template void condition_disjoint_backward(const DisjointBackwardArgs<double>&, const Executor&);

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
