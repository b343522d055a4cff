// SPDX-License-Identifier: Apache-2.0
// Positive definite systems with two bands on either side, by parts.
//
// The Cholesky factor is a recurrence along the points. A team cuts the points of an item into one
// part per thread (Wang 1981): a thread eliminates the inside of its part, which leaves a form in
// the two points that begin it and the two that begin the next one; forms of neighbours merge by
// eliminating the two points between them, in a scan. What comes in from the left starts the factor
// of a part. Back through the points solution and inverse are affine in what follows them, so they
// are a scan from the right over parts, and then each thread goes back through its own. How an item
// is cut depends on n alone, and so do its bits.
#pragma once

#include "device.cuh"

namespace physcon::cuda {

/// A value and its derivative along one direction.
struct Dual {
    double value, slope;
    __device__ Dual(double v = 0, double s = 0) : value(v), slope(s) {}
};
__device__ inline Dual operator+(Dual a, Dual b) {
    return {a.value + b.value, a.slope + b.slope};
}
__device__ inline Dual operator-(Dual a, Dual b) {
    return {a.value - b.value, a.slope - b.slope};
}
__device__ inline Dual operator-(Dual a) {
    return {-a.value, -a.slope};
}
__device__ inline Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.value * b.slope + a.slope * b.value};
}
__device__ inline Dual operator/(Dual a, Dual b) {
    const double value = a.value / b.value;
    return {value, (a.slope - value * b.slope) / b.value};
}
__device__ inline Dual root_of(Dual a) {
    const double value = sqrt(a.value);
    return {value, 0.5 * a.slope / value};
}
__device__ inline double root_of(double a) {
    return sqrt(a);
}
__device__ inline double value_of(double a) {
    return a;
}
__device__ inline double value_of(Dual a) {
    return a.value;
}

/// (a b; b c), symmetric.
template <typename Scalar>
struct Pair {
    Scalar a, b, c;
};

/// m = L diag(pivot, rest) L', L = (1 0; ratio 1): products with m^-1 that do not cancel.
template <typename Scalar>
struct PairFactor {
    Scalar over_pivot, over_rest, ratio;
    __device__ explicit PairFactor(const Pair<Scalar>& m)
        : over_pivot(Scalar(1.0) / m.a), ratio(m.b * over_pivot) {
        over_rest = Scalar(1.0) / (m.c - ratio * m.b);
    }
    __device__ Scalar product(Scalar x0, Scalar x1, Scalar y0, Scalar y1) const {
        return x0 * y0 * over_pivot + (x1 - ratio * x0) * (y1 - ratio * y0) * over_rest;
    }
    /// The same for values alone.
    __device__ PairFactor<double> values() const {
        return PairFactor<double>(value_of(over_pivot), value_of(over_rest), value_of(ratio));
    }
    __device__ PairFactor(Scalar p, Scalar r, Scalar q) : over_pivot(p), over_rest(r), ratio(q) {}
};

/// What is left of a part: 1/2 (x y)' (p q; q' r) (x y) - (f g)' (x y), where x are the two points
/// that begin it, with their own terms, and y the two that begin the next, without theirs.
template <typename Scalar>
struct Form {
    Pair<Scalar> p, r;
    Scalar q00, q01, q10, q11;
    double f0, f1, g0, g1;

    static constexpr int doubles = 4 + 10 * static_cast<int>(sizeof(Scalar) / sizeof(double));

    template <typename Visit>
    __device__ void each(const Visit& visit) {
        visit(p.a), visit(p.b), visit(p.c), visit(r.a), visit(r.b), visit(r.c);
        visit(q00), visit(q01), visit(q10), visit(q11);
        visit(f0), visit(f1), visit(g0), visit(g1);
    }
};

/// How two points follow from the two that begin the next part: x = k y + c, and for the inverse
/// k Y k' + q.
template <typename Scalar>
struct Step {
    Scalar k00, k01, k10, k11;
    Pair<Scalar> q;
    double c0, c1;

    template <typename Visit>
    __device__ void each(const Visit& visit) {
        visit(k00), visit(k01), visit(k10), visit(k11);
        visit(q.a), visit(q.b), visit(q.c);
        visit(c0), visit(c1);
    }
};

/// Entries of an element in shared memory, `stride` apart: no two threads of a warp in one bank.
struct Column {
    double* at;
    int stride;

    template <typename Element>
    __device__ void store(Element x) const {
        double* place = at;
        x.each([&](auto& entry) {
            for (int i = 0; i < parts(entry); ++i, place += stride) {
                *place = part(entry, i);
            }
        });
    }
    template <typename Element>
    __device__ Element load() const {
        Element x;
        const double* place = at;
        x.each([&](auto& entry) {
            for (int i = 0; i < parts(entry); ++i, place += stride) {
                part(entry, i) = *place;
            }
        });
        return x;
    }
    /// That of the thread `by` further on.
    __device__ Column neighbour(int by) const {
        return {at + by, stride};
    }

  private:
    __device__ static constexpr int parts(const double&) {
        return 1;
    }
    __device__ static constexpr int parts(const Dual&) {
        return 2;
    }
    __device__ static double& part(double& x, int) {
        return x;
    }
    __device__ static double& part(Dual& x, int i) {
        return i == 0 ? x.value : x.slope;
    }
};

/// Two neighbours as one: the points between them are eliminated.
template <typename Scalar>
__device__ Form<Scalar> merged(const Form<Scalar>& left, const Form<Scalar>& right) {
    const PairFactor<Scalar> m(
        Pair<Scalar>{left.r.a + right.p.a, left.r.b + right.p.b, left.r.c + right.p.c}
    );
    const PairFactor<double> v = m.values();
    const double h0 = left.g0 + right.f0, h1 = left.g1 + right.f1;
    // Rows of left.q and columns of right.q are vectors over the points between.
    const Scalar u0 = left.q00, u1 = left.q01, w0 = left.q10, w1 = left.q11;
    const Scalar s0 = right.q00, s1 = right.q10, t0 = right.q01, t1 = right.q11;
    Form<Scalar> x;
    x.p = {
        left.p.a - m.product(u0, u1, u0, u1),
        left.p.b - m.product(w0, w1, u0, u1),
        left.p.c - m.product(w0, w1, w0, w1)
    };
    x.r = {
        right.r.a - m.product(s0, s1, s0, s1),
        right.r.b - m.product(t0, t1, s0, s1),
        right.r.c - m.product(t0, t1, t0, t1)
    };
    x.q00 = -m.product(u0, u1, s0, s1);
    x.q01 = -m.product(u0, u1, t0, t1);
    x.q10 = -m.product(w0, w1, s0, s1);
    x.q11 = -m.product(w0, w1, t0, t1);
    x.f0 = left.f0 - v.product(value_of(u0), value_of(u1), h0, h1);
    x.f1 = left.f1 - v.product(value_of(w0), value_of(w1), h0, h1);
    x.g0 = right.g0 - v.product(value_of(s0), value_of(s1), h0, h1);
    x.g1 = right.g1 - v.product(value_of(t0), value_of(t1), h0, h1);
    return x;
}

/// Lower bands of a matrix (n, n), point j of band i at data[i * n + j], and a right-hand side.
template <typename Scalar>
struct Bands {
    Scalar* data;
    double* x;
    int64_t n;
    __device__ Scalar& at(int band, int64_t j) const {
        return data[band * n + j];
    }
};

/// The points [begin, end) without what lies before: everything but the ends is eliminated. Points
/// past the last one are coupled to nothing.
template <typename Scalar>
__device__ Form<Scalar> reduced(const Bands<Scalar>& m, int64_t begin, int64_t end) {
    const auto entry = [&](int band, int64_t j) { return j < end ? m.at(band, j) : Scalar(0.0); };
    const auto given = [&](int64_t j) { return j < end ? m.x[j] : 0.0; };
    const bool single = begin + 1 == end;  // the last point of all
    Form<Scalar> x;
    x.p = {m.at(0, begin), m.at(1, begin), single ? Scalar(1.0) : m.at(0, begin + 1)};
    x.f0 = given(begin), x.f1 = given(begin + 1);
    // Couplings of the first two points (rows) to the points k and k + 1.
    x.q00 = m.at(2, begin), x.q01 = Scalar(0.0);
    x.q10 = entry(1, begin + 1), x.q11 = entry(2, begin + 1);
    int64_t k = begin + 2;
    x.r = {entry(0, k), entry(1, k), entry(0, k + 1)};
    x.g0 = given(k), x.g1 = given(k + 1);
    for (; k < end; ++k) {
        const Scalar inverse = Scalar(1.0) / x.r.a, second = m.at(2, k);
        const Scalar left0 = x.q00 * inverse, left1 = x.q10 * inverse;
        const Scalar one = x.r.b * inverse, two = second * inverse;
        x.p.a = x.p.a - left0 * x.q00;
        x.p.b = x.p.b - left0 * x.q10;
        x.p.c = x.p.c - left1 * x.q10;
        x.f0 -= value_of(left0) * x.g0;
        x.f1 -= value_of(left1) * x.g0;
        const double moved = x.g1 - value_of(one) * x.g0;
        x.g1 = given(k + 2) - value_of(two) * x.g0;
        x.g0 = moved;
        const Scalar next0 = x.q01 - x.q00 * one, next1 = x.q11 - x.q10 * one;
        x.q01 = -(x.q00 * two);
        x.q11 = -(x.q10 * two);
        x.q00 = next0;
        x.q10 = next1;
        x.r = {x.r.c - one * x.r.b, entry(1, k + 1) - one * second, entry(0, k + 2) - two * second};
    }
    return x;
}

/// What the points before a pair add to its terms.
template <typename Scalar>
struct Incoming {
    Pair<Scalar> matrix;
    double x0, x1;
};
template <typename Scalar>
__device__ Incoming<Scalar> from_left(const Form<Scalar>& x) {
    const PairFactor<Scalar> m(x.p);
    const PairFactor<double> v = m.values();
    const double s0 = value_of(x.q00), s1 = value_of(x.q10);
    const double t0 = value_of(x.q01), t1 = value_of(x.q11);
    return {
        {x.r.a - m.product(x.q00, x.q10, x.q00, x.q10),
         x.r.b - m.product(x.q01, x.q11, x.q00, x.q10),
         x.r.c - m.product(x.q01, x.q11, x.q01, x.q11)},
        x.g0 - v.product(s0, s1, x.f0, x.f1),
        x.g1 - v.product(t0, t1, x.f0, x.f1)
    };
}

/// First `left`, nearer to the begin, then `right`.
template <typename Scalar>
__device__ Step<Scalar> merged(const Step<Scalar>& left, const Step<Scalar>& right) {
    const Scalar a0 = left.k00, a1 = left.k01, b0 = left.k10, b1 = left.k11;
    const Pair<Scalar>& q = right.q;
    const Scalar u0 = a0 * q.a + a1 * q.b, u1 = a0 * q.b + a1 * q.c;
    const Scalar w0 = b0 * q.a + b1 * q.b, w1 = b0 * q.b + b1 * q.c;
    Step<Scalar> x;
    x.k00 = a0 * right.k00 + a1 * right.k10;
    x.k01 = a0 * right.k01 + a1 * right.k11;
    x.k10 = b0 * right.k00 + b1 * right.k10;
    x.k11 = b0 * right.k01 + b1 * right.k11;
    x.q = {
        left.q.a + u0 * a0 + u1 * a1, left.q.b + w0 * a0 + w1 * a1, left.q.c + w0 * b0 + w1 * b1
    };
    x.c0 = left.c0 + value_of(a0) * right.c0 + value_of(a1) * right.c1;
    x.c1 = left.c1 + value_of(b0) * right.c0 + value_of(b1) * right.c1;
    return x;
}

/// Cholesky bands of the points [begin, end), and their right-hand sides solved with the factor.
template <typename Scalar>
__device__ void factor_part(
    const Bands<Scalar>& m, int64_t begin, int64_t end, const Incoming<Scalar>& left
) {
    Scalar a = m.at(0, begin) + left.matrix.a, b = m.at(1, begin) + left.matrix.b;
    Scalar c = left.matrix.c;
    double x = m.x[begin] + left.x0, next = left.x1;
    for (int64_t j = begin; j < end; ++j) {
        const bool more = j + 1 < end;
        const Scalar diagonal = root_of(a);
        const Scalar one = b / diagonal, two = m.at(2, j) / diagonal;
        const double y = x / value_of(diagonal);
        m.at(0, j) = diagonal;
        m.at(1, j) = one;
        m.at(2, j) = two;
        m.x[j] = y;
        if (more) {
            a = m.at(0, j + 1) + c - one * one;
            b = m.at(1, j + 1) - one * two;
            c = -(two * two);
            x = m.x[j + 1] + next - value_of(one) * y;
            next = -(value_of(two) * y);
        }
    }
}

/// Back through the points [begin, end), of which the factor is known, from the two after them;
/// visit(j, x, self, near, far) gets the solution and the inverse at (j, j), (j + 1, j), (j + 2,
/// j).
template <typename Scalar, typename Visit>
__device__ Step<Scalar> unwound(
    const Bands<Scalar>& m,
    int64_t begin,
    int64_t end,
    const Step<Scalar>& after,
    const Visit& visit
) {
    Step<Scalar> s = after;
    for (int64_t j = end - 1; j >= begin; --j) {
        const Scalar over = Scalar(1.0) / m.at(0, j);
        const Scalar one = m.at(1, j) * over, two = m.at(2, j) * over;
        const double x = m.x[j] * value_of(over) - value_of(one) * s.c0 - value_of(two) * s.c1;
        const Scalar near = -(one * s.q.a + two * s.q.b), far = -(one * s.q.b + two * s.q.c);
        const Scalar self = over * over - one * near - two * far;
        const Scalar k0 = -(one * s.k00 + two * s.k10), k1 = -(one * s.k01 + two * s.k11);
        visit(j, x, self, near, far);
        s = {k0, k1, s.k00, s.k01, {self, near, s.q.a}, x, s.c0};
    }
    return s;
}

/// Doubles of shared memory for a team.
template <typename Scalar>
__host__ __device__ constexpr int banded_memory(int threads) {
    return threads * Form<Scalar>::doubles + warp_size;
}

/// m.data <- the Cholesky bands of the matrix, m.x <- the solution, inverse (bands, n) <- the first
/// `bands` of the inverse: none, one or three. Ends with a barrier.
template <int bands, typename Scalar, typename Team>
__device__ void solve_banded(
    const Team& team, const Bands<Scalar>& m, Scalar* inverse, double* memory
) {
    const int stride = team.size(), rank = team.rank();
    const int64_t n = m.n;
    const int64_t part = larger<int64_t>(2, (n + stride - 1) / stride);
    const int parts = static_cast<int>((n + part - 1) / part);
    const int64_t begin = smaller(n, rank * part), end = smaller(n, begin + part);
    const Column own = {memory + rank, stride};
    const bool works = rank < parts;
    Form<Scalar> form = {};
    if (works) {
        form = reduced(m, begin, end);
        own.store(form);
    }
    for (int step = 1; step < parts; step *= 2) {
        team.sync();
        const bool merges = works && rank >= step;
        if (merges) {
            form = merged(own.neighbour(-step).load<Form<Scalar>>(), form);
        }
        team.sync();
        if (merges) {
            own.store(form);
        }
    }
    team.sync();
    Incoming<Scalar> left = {};
    if (works && rank > 0) {
        left = from_left(own.neighbour(-1).load<Form<Scalar>>());
    }
    team.sync();
    Step<Scalar> way = {};
    if (works) {
        factor_part(m, begin, end, left);
        way.k00 = way.k11 = Scalar(1.0);
        way = unwound(m, begin, end, way, [](int64_t, double, Scalar, Scalar, Scalar) {});
        own.store(way);
    }
    for (int step = 1; step < parts; step *= 2) {
        team.sync();
        const bool merges = works && rank + step < parts;
        if (merges) {
            way = merged(way, own.neighbour(step).load<Step<Scalar>>());
        }
        team.sync();
        if (merges) {
            own.store(way);
        }
    }
    team.sync();
    if (works) {
        Step<Scalar> after = {};  // past the last point: coupled to nothing
        if (rank + 1 < parts) {
            after = own.neighbour(1).load<Step<Scalar>>();
        }
        unwound(
            m, begin, end, after, [&](int64_t j, double x, Scalar self, Scalar near, Scalar far) {
                m.x[j] = x;
                if (bands > 0) {
                    inverse[j] = self;
                }
                if (bands > 1) {
                    inverse[n + j] = near;
                    inverse[2 * n + j] = far;
                }
            }
        );
    }
    team.sync();
}

}  // namespace physcon::cuda
