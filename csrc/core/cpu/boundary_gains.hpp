// SPDX-License-Identifier: Apache-2.0
// What the ends of an axis saw, and its products with the gains, in double precision.
//
// A product of complex numbers is one of real numbers with twice the rows: Re(a) b and Im(a) b are
// formed apart, and i is applied to the second at the end.
#pragma once

#include "../boundary_spectral.hpp"
#include "normal.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

constexpr int gain_rows = 4, gain_vectors = 2;

/// out (rows, columns) = left (rows, steps) right (steps, columns); strides in numbers.
struct GainProduct {
    const double* left;
    int64_t left_row, left_step;
    const double* right;
    int64_t right_step;
    double* out;
    int64_t out_row;
    int64_t rows, steps, columns;
};

template <int rows, int vectors, bool full>
inline void gain_tile(const GainProduct& p, int64_t row, int64_t column) {
    const int count = full ? width<double> : static_cast<int>(p.columns - column);
    Vector<double> sum[rows][vectors] = {};
    for (int64_t k = 0; k < p.steps; ++k) {
        Vector<double> b[vectors];
        for (int v = 0; v < vectors; ++v) {
            b[v] = load_lanes<full>(p.right + k * p.right_step + column + v * width<double>, count);
        }
        for (int r = 0; r < rows; ++r) {
            const double a = p.left[(row + r) * p.left_row + k * p.left_step];
            for (int v = 0; v < vectors; ++v) {
                sum[r][v] += a * b[v];
            }
        }
    }
    for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v) {
            store_lanes<full>(
                p.out + (row + r) * p.out_row + column + v * width<double>, sum[r][v], count
            );
        }
    }
}

template <int vectors, bool full>
inline void gain_columns(const GainProduct& p, int64_t column) {
    int64_t row = 0;
    for (; row + gain_rows <= p.rows; row += gain_rows) {
        gain_tile<gain_rows, vectors, full>(p, row, column);
    }
    for (; row < p.rows; ++row) {
        gain_tile<1, vectors, full>(p, row, column);
    }
}

inline void multiply(const GainProduct& p) {
    int64_t column = 0;
    for (; column + gain_vectors * width<double> <= p.columns;
         column += gain_vectors * width<double>) {
        gain_columns<gain_vectors, true>(p, column);
    }
    for (; column + width<double> <= p.columns; column += width<double>) {
        gain_columns<1, true>(p, column);
    }
    if (column < p.columns) {
        gain_columns<1, false>(p, column);
    }
}

/// out (rows, targets) = left (rows, steps) right (targets, steps)': dot products of rows.
struct GainDots {
    const double* left;
    int64_t left_row;
    const double* right;
    int64_t right_row;
    double* out;
    int64_t out_row, out_step;
    int64_t rows, targets, steps;
};

template <int rows, int targets>
inline void dot_tile(const GainDots& p, int64_t row, int64_t target) {
    Vector<double> sum[rows][targets] = {};
    const auto step = [&](auto full_tag, int64_t k) {
        constexpr bool full = decltype(full_tag)::value;
        const int count = full ? width<double> : static_cast<int>(p.steps - k);
        Vector<double> b[targets];
        for (int t = 0; t < targets; ++t) {
            b[t] = load_lanes<full>(p.right + (target + t) * p.right_row + k, count);
        }
        for (int r = 0; r < rows; ++r) {
            const Vector<double> a = load_lanes<full>(p.left + (row + r) * p.left_row + k, count);
            for (int t = 0; t < targets; ++t) {
                sum[r][t] += a * b[t];
            }
        }
    };
    int64_t k = 0;
    for (; k + width<double> <= p.steps; k += width<double>) {
        step(std::true_type{}, k);
    }
    if (k < p.steps) {
        step(std::false_type{}, k);
    }
    for (int r = 0; r < rows; ++r) {
        for (int t = 0; t < targets; ++t) {
            p.out[(row + r) * p.out_row + (target + t) * p.out_step] = sum_lanes(sum[r][t]);
        }
    }
}

inline void multiply(const GainDots& p) {
    int64_t target = 0;
    for (; target + gain_rows <= p.targets; target += gain_rows) {
        int64_t row = 0;
        for (; row + gain_rows <= p.rows; row += gain_rows) {
            dot_tile<gain_rows, gain_rows>(p, row, target);
        }
        for (; row < p.rows; ++row) {
            dot_tile<1, gain_rows>(p, row, target);
        }
    }
    for (; target < p.targets; ++target) {
        for (int64_t row = 0; row < p.rows; ++row) {
            dot_tile<1, 1>(p, row, target);
        }
    }
}

/// i z, or -i z if `conjugate`, of complex numbers in pairs, added to `out`.
inline void add_rotated(const double* z, bool conjugate, int64_t count, double* out) {
    const double sign = conjugate ? -1 : 1;
    for (int64_t i = 0; i < count; i += 2) {
        out[i] -= sign * z[i + 1];
        out[i + 1] += sign * z[i];
    }
}

/// What the ends of one axis saw and what was done about it, per mode q of the others and item:
/// [a_0 a_N | y_0 y_N | d_0 d_N]; numbers are real with a single axis, else complex.
struct Records {
    const Normal& normal;
    int64_t batch, in, out, parts;
    double* data;

    Records(const Normal& n, int64_t b, int64_t i, int64_t o, double* d)
        : normal(n), batch(b), in(i), out(o), parts(n.grid.axes == 1 ? 1 : 2), data(d) {}
    int64_t seen() const {
        return 2 * (in + out) * parts;
    }
    int64_t moved() const {
        return 2 * in * parts;
    }
    int64_t length() const {
        return seen() + moved();
    }
    int64_t size() const {
        return normal.others * batch * length();
    }
    int64_t outputs() const {  ///< where y_0 begins
        return 2 * in * parts;
    }
    int64_t shifts() const {  ///< where d_0 begins
        return seen();
    }
    /// Between complex numbers (others, batch, count) and those of the records from `at` on.
    void put(const double* ends, int64_t count, int64_t at, const Executor& executor) const {
        run_indices(executor, normal.others * batch, [&](int64_t, int64_t row) {
            __builtin_memcpy(
                data + row * length() + at,
                ends + row * 2 * count,
                static_cast<std::size_t>(2 * count) * sizeof(double)
            );
        });
    }
    void get(double* ends, int64_t count, int64_t at, const Executor& executor) const {
        run_indices(executor, normal.others * batch, [&](int64_t, int64_t row) {
            __builtin_memcpy(
                ends + row * 2 * count,
                data + row * length() + at,
                static_cast<std::size_t>(2 * count) * sizeof(double)
            );
        });
    }
};

/// The gains of one axis, and memory to bring them into the form of a product.
struct Gains {
    const double* data;
    int64_t given;          ///< parts of a gain as given
    int64_t rows, columns;  ///< 2 (in + out), 2 in
    int64_t parts;          ///< 1: real products
    int64_t room;           ///< doubles of `product` per slot
    double *packed, *product;

    Gains(Arena& arena, const Records& r, const BoundaryGains& gains, const Executor& executor)
        : data(gains.data[r.normal.axis]),
          given(gains.parts[r.normal.axis]),
          rows(2 * (r.in + r.out)),
          columns(2 * r.in),
          parts(r.parts),
          room(larger(r.batch, rows) * columns * parts) {
        const int64_t slots = larger(executor.threads, 1);
        packed = arena.take<double>((parts == 1 ? 1 : slots) * rows * columns * parts);
        product = arena.take<double>(slots * room);
    }

    /// With a single axis the real parts, once for all; with more a mode at a time in `matrix`.
    void fill(const Executor& executor) const {
        if (parts == 1 && given == 2) {
            run_indices(executor, rows, [&](int64_t, int64_t i) {
                for (int64_t j = 0; j < columns; ++j) {
                    packed[i * columns + j] = data[2 * (i * columns + j)];
                }
            });
        }
    }
    const double* matrix(int64_t q, int64_t slot) const {
        const int64_t count = rows * columns;
        const double* from = data + q * count * given;
        if (parts == given) {
            return from;
        }
        if (parts == 1) {
            return packed;
        }
        double* to = packed + slot * count * parts;
        for (int64_t i = 0; i < count; ++i) {
            to[2 * i] = from[i];
            to[2 * i + 1] = 0;
        }
        return to;
    }

    /// Calls body(slot, q, first row, rows): modes, or pieces of the batch of a single one.
    template <typename Body>
    static void cut(const Records& r, int64_t count, const Executor& executor, Body&& body) {
        constexpr int64_t piece = 4 * gain_rows;
        const int64_t blocks = r.normal.others == 1 ? (count + piece - 1) / piece : 1;
        run_indices(executor, r.normal.others * blocks, [&](int64_t slot, int64_t index) {
            const int64_t block = index % blocks, tiles = (count + gain_rows - 1) / gain_rows;
            const int64_t begin = tiles * block / blocks * gain_rows,
                          end = smaller(count, tiles * (block + 1) / blocks * gain_rows);
            body(slot, index / blocks, begin, end - begin);
        });
    }

    /// [d_0 d_N] = [a_0 a_N y_0 y_N] gain.
    void apply(const Records& r, const Executor& executor) const {
        cut(r, r.batch, executor, [&](int64_t slot, int64_t q, int64_t first, int64_t count) {
            double* record = r.data + (q * r.batch + first) * r.length();
            GainProduct p = {};
            p.left = record;
            p.left_row = p.out_row = r.length();
            p.left_step = parts;
            p.right = matrix(q, slot);
            p.columns = p.right_step = columns * parts;
            p.out = record + r.shifts();
            p.rows = count;
            p.steps = rows;
            multiply(p);
            if (parts == 2) {
                p.left += 1;
                p.out = product + slot * room;
                p.out_row = p.columns;
                multiply(p);
                for (int64_t b = 0; b < count; ++b) {
                    double* to = record + b * r.length() + r.shifts();
                    add_rotated(p.out + b * p.out_row, false, p.columns, to);
                }
            }
        });
    }

    /// The adjoint: the gradient of what was seen from that of the shifts, [d_0 d_N] gain^H.
    void apply_adjoint(const Records& r, const Executor& executor) const {
        cut(r, r.batch, executor, [&](int64_t slot, int64_t q, int64_t first, int64_t count) {
            double* record = r.data + (q * r.batch + first) * r.length();
            GainDots p = {};
            p.left = record + r.shifts();
            p.left_row = p.out_row = r.length();
            p.right = matrix(q, slot);
            p.right_row = p.steps = columns * parts;
            p.out = record;
            p.out_step = parts;
            p.rows = count;
            p.targets = rows;
            multiply(p);
            if (parts == 2) {
                double* turned = product + slot * room;  // -i d, so that its dots are imaginary
                for (int64_t b = 0; b < count; ++b) {
                    const double* from = p.left + b * p.left_row;
                    for (int64_t i = 0; i < p.steps; i += 2) {
                        turned[b * p.steps + i] = from[i + 1];
                        turned[b * p.steps + i + 1] = -from[i];
                    }
                }
                p.left = turned;
                p.left_row = p.steps;
                p.out += 1;
                multiply(p);
            }
        });
    }

    /// The gradient of the gains, the sum over the batch of seen^H grad in its order.
    void gradient(
        const Records& seen, const Records& grad, double* out, const Executor& executor
    ) const {
        cut(seen, rows, executor, [&](int64_t slot, int64_t q, int64_t first, int64_t count) {
            double* to = out + (q * rows + first) * columns * given;
            double* sum = product + slot * room;
            GainProduct p = {};
            p.left = seen.data + q * seen.batch * seen.length() + first * parts;
            p.left_row = parts;
            p.left_step = seen.length();
            p.right = grad.data + q * grad.batch * grad.length() + grad.shifts();
            p.right_step = grad.length();
            p.columns = p.out_row = columns * parts;
            p.rows = count;
            p.steps = seen.batch;
            p.out = given == parts ? to : sum;
            multiply(p);
            if (parts == 2) {
                double* real = p.out;
                p.left += 1;
                p.out = packed + slot * rows * columns * parts;
                multiply(p);
                add_rotated(p.out, true, count * p.columns, real);
            }
            for (int64_t i = 0; i < count * columns && given != parts; ++i) {
                if (given == 1) {
                    to[i] = sum[2 * i];
                } else {
                    to[2 * i] = sum[i];
                    to[2 * i + 1] = 0;
                }
            }
        });
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
