// SPDX-License-Identifier: Apache-2.0
// The stage between the transforms of the corrected convolution, and its adjoint.
//
// At the ends of an axis a mode is e^{-i w c} and e^{+i w c}: with P = sum h cos(w c) Y and
// R = sum h sin(w c) Y the end values are P - i R and P + i R, and sources g_0, g_N at the ends
// radiate (g_0 + g_N) cos(w c) + i (g_0 - g_N) sin(w c). Either pair of sums is formed as sum and
// difference of the ends, so that nothing cancels where the ends are neighbours on the circle.
#include "../boundary_spectral.hpp"

#include "faces.hpp"
#include "normal.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

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
/// weighted by h_k if `weighted`; the plain sums are the adjoint of `radiate`.
template <typename T>
void evaluate(
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
        const auto block = [&](auto full_tag, int64_t i) {
            constexpr bool full = decltype(full_tag)::value;
            const int count = full ? width<T> : static_cast<int>(length - i);
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
        };
        int64_t i = 0;
        for (; i + width<T> <= length; i += width<T>) {
            block(std::true_type{}, i);
        }
        if (i < length) {
            block(std::false_type{}, i);
        }
    });
}

/// out = base + (what sources of the strength `ends` radiate), weighted by h_k if `weighted`.
/// Overwrites `ends` by g_0 + g_N and i (g_0 - g_N). `base` null: zero.
template <typename T>
void radiate(
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
            const auto block = [&](auto full_tag, int64_t i) {
                constexpr bool full = decltype(full_tag)::value;
                const int count = full ? width<T> : static_cast<int>(length - i);
                Wide<T> sum = {};
                if (from != nullptr) {
                    sum = load_wide<full>(from + i, count);
                }
                for (int w = 0; w < Wide<T>::parts; ++w) {
                    const int64_t at = i + w * width<double>;
                    const int left = full ? width<double> : static_cast<int>(length - at);
                    if (left > 0) {
                        const int lanes = smaller(left, width<double>);
                        sum.part[w] += c * load_lanes<full>(even + at, lanes) +
                                       s * load_lanes<full>(odd + at, lanes);
                    }
                }
                store_narrow<full>(to + i, sum, count);
            };
            int64_t i = 0;
            for (; i + width<T> <= length; i += width<T>) {
                block(std::true_type{}, i);
            }
            if (i < length) {
                block(std::false_type{}, i);
            }
        }
    });
}

// ---- transforms of the end lines along the other axes
// --------------------------------------------

/// cos and sin of w_k (n - c), (modes, points), of one axis.
struct LineBasis {
    int64_t modes, points;
    double *cosine, *sine;
    LineBasis(Arena& arena, const SpectralGrid& grid, int axis)
        : modes(grid.modes[axis]),
          points(grid.size[axis]),
          cosine(arena.take<double>(modes * points)),
          sine(arena.take<double>(modes * points)) {}
    void fill(const SpectralGrid& grid, int axis, const Executor& executor) const {
        run_indices(executor, modes, [&](int64_t, int64_t k) {
            const int64_t wave = Normal::wavenumber(grid, axis, k);
            for (int64_t n = 0; 2 * n < points; ++n) {
                const int64_t turns = (wave < 0 ? -wave : wave) * (points - 1 - 2 * n);
                const CosineSine value = cosine_sine(static_cast<double>(turns), grid.period[axis]);
                const double s = wave < 0 ? -value.sine : value.sine;
                const int64_t left = k * points + n, right = k * points + points - 1 - n;
                cosine[left] = cosine[right] = value.cosine;
                sine[left] = -s;
                sine[right] = s;
            }
        });
    }
};

/// out (blocks, to, lanes) <- in (blocks, from, lanes) along the middle axis, complex numbers in
/// pairs: points to modes with e^{-i w (n - c)}, or modes to points with its conjugate.
void transform_lines(
    const LineBasis& basis,
    bool to_modes,
    int64_t blocks,
    int64_t lanes,
    const double* in,
    double* out,
    const Executor& executor
) {
    const int64_t from = to_modes ? basis.points : basis.modes,
                  to = to_modes ? basis.modes : basis.points;
    const int64_t step = to_modes ? 1 : basis.points, row = to_modes ? basis.points : 1;
    const double sign = to_modes ? 1 : -1;
    run_indices(executor, blocks * to, [&](int64_t, int64_t index) {
        const double* source = in + index / to * from * lanes;
        double* target = out + index * lanes;
        const double* cosine = basis.cosine + index % to * row;
        const double* sine = basis.sine + index % to * row;
        const auto block = [&](auto full_tag, int64_t i) {
            constexpr bool full = decltype(full_tag)::value;
            const int count = full ? width<double> : static_cast<int>(lanes - i);
            Vector<double> p = {}, r = {};
            for (int64_t n = 0; n < from; ++n) {
                const Vector<double> v = load_lanes<full>(source + n * lanes + i, count);
                p += cosine[n * step] * v;
                r += sine[n * step] * v;
            }
            double even[width<double>], odd[width<double>];
            __builtin_memcpy(even, &p, sizeof(p));
            __builtin_memcpy(odd, &r, sizeof(r));
            for (int j = 0; j + 1 < count; j += 2) {
                target[i + j] = even[j] + sign * odd[j + 1];
                target[i + j + 1] = even[j + 1] - sign * odd[j];
            }
        };
        int64_t i = 0;
        for (; i + width<double> <= lanes; i += width<double>) {
            block(std::true_type{}, i);
        }
        if (i < lanes) {
            block(std::false_type{}, i);
        }
    });
}

/// The end lines of a field (batch, channels, sizes) along one axis, and their transforms.
template <typename T>
struct EndLines {
    const SpectralGrid& grid;
    const Normal normal;
    int64_t batch, channels, count[2], modes[2], stride[3];
    LineBasis basis[2];
    double* buffer[2];

    EndLines(Arena& arena, const SpectralGrid& g, int axis, int64_t b, int64_t c)
        : grid(g),
          normal(g, axis),
          batch(b),
          channels(c),
          count{g.size[normal.first()], g.size[normal.second()]},
          modes{g.modes[normal.first()], g.modes[normal.second()]},
          stride{g.size[1] * g.size[2], g.size[2], 1},
          basis{LineBasis(arena, g, normal.first()), LineBasis(arena, g, normal.second())} {
        const int64_t most = larger(count[0], modes[0]) * larger(count[1], modes[1]);
        for (double*& piece : buffer) {
            piece = g.axes == 1 ? nullptr : arena.take<double>(most * lanes());
        }
    }
    int64_t lanes() const {
        return 4 * batch * channels;
    }
    void fill(const Executor& executor) const {
        if (grid.axes > 1) {
            basis[0].fill(grid, normal.first(), executor);
            basis[1].fill(grid, normal.second(), executor);
        }
    }
    /// Calls body(position in the field, position among the lines) for every point of both ends.
    template <typename Body>
    void visit(const Executor& executor, Body&& body) const {
        const int64_t points = grid.size[0] * grid.size[1] * grid.size[2];
        const int64_t far = (grid.size[normal.axis] - 1) * stride[normal.axis];
        run_indices(executor, batch * channels, [&](int64_t, int64_t row) {
            const int64_t b = row / channels, c = row % channels;
            for (int64_t i = 0; i < count[0]; ++i) {
                for (int64_t j = 0; j < count[1]; ++j) {
                    const int64_t from =
                        row * points + i * stride[normal.first()] + j * stride[normal.second()];
                    const int64_t to = 2 * (((i * count[1] + j) * batch + b) * 2 * channels + c);
                    body(from, to);
                    body(from + far, to + 2 * channels);
                }
            }
        });
    }
    /// ends (others, batch, 2, channels, 2) <- transforms of the end lines of `field`.
    void analyse(const T* field, double* ends, const Executor& executor) const {
        double* lines = grid.axes == 1 ? ends : buffer[0];
        visit(executor, [&](int64_t from, int64_t to) {
            lines[to] = static_cast<double>(field[from]);
            lines[to + 1] = 0;
        });
        if (grid.axes > 1) {
            transform_lines(basis[1], true, count[0], lanes(), buffer[0], buffer[1], executor);
            transform_lines(basis[0], true, 1, modes[1] * lanes(), buffer[1], ends, executor);
        }
    }
    /// field += the adjoint of `analyse` applied to `ends`.
    void add_adjoint(const double* ends, T* field, const Executor& executor) const {
        const double* lines = grid.axes == 1 ? ends : buffer[0];
        if (grid.axes > 1) {
            transform_lines(basis[0], false, 1, modes[1] * lanes(), ends, buffer[1], executor);
            transform_lines(basis[1], false, count[0], lanes(), buffer[1], buffer[0], executor);
        }
        visit(executor, [&](int64_t to, int64_t from) {
            field[to] = static_cast<T>(static_cast<double>(field[to]) + lines[from]);
        });
    }
};

// ---- products with the gains, in double precision
// ------------------------------------------------
//
// A product of complex numbers is one of real numbers with twice the rows: Re(a) b and Im(a) b are
// formed apart, and i is applied to the second at the end.

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

void multiply(const GainProduct& p) {
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

void multiply(const GainDots& p) {
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
    /// Between (others, batch, count, 2) and `count` numbers per record from `at` on.
    void put(const double* ends, int64_t count, int64_t at, const Executor& executor) const {
        run_indices(executor, normal.others * batch, [&](int64_t, int64_t row) {
            double* to = data + row * length() + at;
            const double* from = ends + row * 2 * count;
            if (parts == 2) {
                __builtin_memcpy(to, from, static_cast<std::size_t>(2 * count) * sizeof(double));
                return;
            }
            for (int64_t i = 0; i < count; ++i) {
                to[i] = from[2 * i];
            }
        });
    }
    void get(double* ends, int64_t count, int64_t at, const Executor& executor) const {
        run_indices(executor, normal.others * batch, [&](int64_t, int64_t row) {
            const double* from = data + row * length() + at;
            double* to = ends + row * 2 * count;
            if (parts == 2) {
                __builtin_memcpy(to, from, static_cast<std::size_t>(2 * count) * sizeof(double));
                return;
            }
            for (int64_t i = 0; i < count; ++i) {
                to[2 * i] = from[i];
                to[2 * i + 1] = 0;
            }
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

// ---- the op
// --------------------------------------------------------------------------------------

/// A corrected axis: its place, its memory, what it saw.
template <typename T>
struct Correction {
    Normal normal;
    Phases phases;
    EndLines<T> lines;
    Records records;
    Gains gains;

    Correction(
        Arena& arena,
        const SpectralGrid& grid,
        int axis,
        int64_t batch,
        int64_t in,
        int64_t out,
        const BoundaryGains& g,
        double* shifts,
        const Executor& executor
    )
        : normal(grid, axis),
          phases(arena, normal),
          lines(arena, grid, axis, batch, in),
          records(normal, batch, in, out, shifts),
          gains(arena, records, g, executor) {}
    Correction(const Correction&) = delete;  // parts refer to `normal`
    Correction& operator=(const Correction&) = delete;
    void fill(const Executor& executor) const {
        phases.fill(normal);
        lines.fill(executor);
        gains.fill(executor);
    }
};

template <typename T>
SpectralTransformArgs<T> transform(
    const SpectralGrid& grid, const T* tables, int64_t rows, bool weighted
) {
    SpectralTransformArgs<T> t;
    t.grid = grid;
    t.tables = tables;
    t.rows = rows;
    t.weighted = weighted;
    return t;
}

template <typename T, typename Args>
SpectralMixArgs<T> mixing(const Args& args) {
    SpectralMixArgs<T> m;
    m.modes = mode_count(args.grid);
    m.batch = args.batch;
    m.in = args.in;
    m.out = args.out;
    m.weight = args.weight;
    return m;
}

int corrected_axes(const BoundaryGains& gains) {
    int count = 0;
    for (const double* gain : gains.data) {
        count += gain != nullptr ? 1 : 0;
    }
    return count;
}

/// Doubles of the largest (others, batch, 2 ends, channels, 2) of any axis.
int64_t ends_size(const SpectralGrid& grid, int64_t batch, int64_t channels) {
    int64_t most = 0;
    for (int axis = 3 - grid.axes; axis < 3; ++axis) {
        most = larger(most, Normal(grid, axis).others);
    }
    return most * batch * 4 * channels;
}

template <typename T>
std::size_t forward(
    const BoundarySpectralConvArgs<T>& a, const Executor& executor, void* workspace
) {
    Arena arena(workspace);
    const int64_t modes = mode_count(a.grid), numbers = 2 * modes * a.batch;
    const int corrected = corrected_axes(a.gains);
    T* shifted = arena.take<T>(corrected > 0 ? numbers * a.in : 0);
    T* shift = arena.take<T>(corrected > 1 ? numbers * a.in : 0);
    T* mixed = arena.take<T>(numbers * a.out);
    double* ends = arena.take<double>(ends_size(a.grid, a.batch, larger(a.in, a.out)));

    auto analysis = transform(a.grid, a.tables, a.batch * a.in, false);
    analysis.values = a.x;
    analysis.spectrum_out = a.spectrum_out;
    auto mix_args = mixing<T>(a);
    mix_args.input = a.spectrum_out;
    mix_args.output = mixed;
    auto synthesis = transform(a.grid, a.tables, a.batch * a.out, true);
    synthesis.spectrum = mixed;
    synthesis.values_out = a.y_out;
    const std::size_t stage = larger(
        larger(analyse<T>(analysis, executor, nullptr), mix<T>(mix_args, executor, nullptr)),
        synthesise<T>(synthesis, executor, nullptr)
    );
    void* scratch = arena.take<char>(static_cast<int64_t>(stage));
    if (workspace != nullptr) {
        analyse(analysis, executor, scratch);
    }
    double* shifts = a.shifts_out;
    int done = 0;
    for (int axis = 0; axis < 3; ++axis) {
        if (a.gains.data[axis] == nullptr) {
            continue;
        }
        const Correction<T> c(arena, a.grid, axis, a.batch, a.in, a.out, a.gains, shifts, executor);
        const Records& r = c.records;
        if (workspace == nullptr) {
            continue;
        }
        c.fill(executor);
        const Spectrum<const T> before = {mix_args.input, a.batch, a.in};
        c.lines.analyse(a.x, ends, executor);
        r.put(ends, 2 * a.in, 0, executor);
        if (done > 0) {
            evaluate<T>({shift, a.batch, a.in}, c.normal, c.phases, true, ends, executor);
            take_real_field(ends, c.normal, true, a.batch * 4 * a.in, executor);
            // The lines of the input plus what earlier axes put there.
            run_indices(executor, c.normal.others * a.batch, [&](int64_t, int64_t row) {
                double* to = r.data + row * r.length();
                for (int64_t i = 0; i < 4 * a.in; ++i) {
                    to[i] += ends[row * 4 * a.in + i];
                }
            });
        }
        mix(mix_args, executor, scratch);
        evaluate<T>({mixed, a.batch, a.out}, c.normal, c.phases, true, ends, executor);
        take_real_field(ends, c.normal, true, a.batch * 4 * a.out, executor);
        r.put(ends, 2 * a.out, r.outputs(), executor);
        c.gains.apply(r, executor);
        r.get(ends, 2 * a.in, r.shifts(), executor);
        radiate<T>(ends, c.normal, c.phases, false, before, {shifted, a.batch, a.in}, executor);
        ++done;
        if (done < corrected) {
            r.get(ends, 2 * a.in, r.shifts(), executor);
            const Spectrum<const T> sum = {done > 1 ? shift : nullptr, a.batch, a.in};
            radiate<T>(ends, c.normal, c.phases, false, sum, {shift, a.batch, a.in}, executor);
        }
        mix_args.input = shifted;
        shifts += r.size();
    }
    if (workspace != nullptr) {
        mix(mix_args, executor, scratch);
        synthesise(synthesis, executor, scratch);
        AssignFacesArgs<T> faces;
        faces.items = a.batch;
        faces.channels = a.out;
        faces.input = faces.output = a.y_out;
        bool any = false;
        for (int axis = 0; axis < 3; ++axis) {
            faces.size[axis] = a.grid.size[axis];
            faces.rule[axis] = a.rule[axis];
            any = any || a.rule[axis].stencil != nullptr;
        }
        if (any) {
            store_faces(faces, executor);
        }
    }
    return arena.used();
}

/// The adjoint. With the mixings t = 1 .. n + 1 of n corrected axes, the gradients g_t of their
/// outputs and the shifts U_j of the axes,
///
///   dL/dW = X^H (g_1 + .. + g_{n+1}) + sum_j U_j^H (g_{j+1} + .. + g_{n+1}),
///
/// so going back over the axes needs one running sum of the g_t.
template <typename T>
class Backward {
  public:
    Backward(
        const BoundarySpectralConvBackwardArgs<T>& a, const Executor& executor, void* workspace
    )
        : a_(a),
          executor_(executor),
          arena_(workspace),
          measuring_(workspace == nullptr),
          modes_(mode_count(a.grid)),
          stack_(corrected_axes(a.gains) + 1),
          line_(arena_, Normal(a.grid, 2)) {
        for (const FaceRule<T>& rule : a.rule) {
            faces_ = faces_ || rule.stencil != nullptr;
        }
        const int64_t numbers = 2 * modes_ * a.batch;
        interior_ = arena_.take<T>(faces_ ? a.batch * a.out * point_count(a.grid) : 0);
        left_ = arena_.take<T>(stack_ > 1 ? stack_ * numbers * a.in : 0);
        right_ = arena_.take<T>(stack_ > 1 ? stack_ * numbers * a.out : 0);
        upstream_ = arena_.take<T>(numbers * a.out);
        pulled_ = arena_.take<T>(numbers * a.in);
        through_ = arena_.take<T>(stack_ > 2 ? numbers * a.in : 0);
        ends_ = arena_.take<double>(ends_size(a.grid, a.batch, larger(a.in, a.out)));

        analysis_ = transform(a.grid, a.tables, a.batch * a.out, true);
        analysis_.values = a.grad;
        analysis_.spectrum_out = upstream_;
        pull_ = mixing<T>(a);
        pull_.upstream = upstream_;
        pull_.input_gradient = pulled_;
        weigh_ = mixing<T>(a);
        weigh_.batch = stack_ * a.batch;
        weigh_.input = stack_ > 1 ? left_ : a.spectrum;
        weigh_.upstream = stack_ > 1 ? right_ : upstream_;
        weigh_.weight_gradient = a.weight_out;
        synthesis_ = transform(a.grid, a.tables, a.batch * a.in, false);
        synthesis_.spectrum = pulled_;
        synthesis_.values_out = a.x_out;
        const std::size_t mixings = larger(
            mix_adjoint<T>(pull_, executor, nullptr), mix_adjoint<T>(weigh_, executor, nullptr)
        );
        const std::size_t transforms = larger(
            analyse<T>(analysis_, executor, nullptr), synthesise<T>(synthesis_, executor, nullptr)
        );
        scratch_ = arena_.take<char>(static_cast<int64_t>(larger(mixings, transforms)));
    }

    std::size_t run() {
        if (!measuring_) {
            if (faces_) {
                pull_faces();
            } else {
                analyse(analysis_, executor_, scratch_);
            }
        }
        const double* behind = a_.shifts;
        for (int axis = 0; axis < 3; ++axis) {
            if (a_.gains.data[axis] != nullptr) {
                const Normal normal(a_.grid, axis);
                behind += Records(normal, a_.batch, a_.in, a_.out, nullptr).size();
            }
        }
        pull_axes(2, stack_ - 1, behind);
        return arena_.used();
    }

  private:
    /// The transform of the gradient with the faces pulled back.
    void pull_faces() {
        if (a_.grid.axes == 1 && pull_ends()) {
            return;
        }
        AssignFacesBackwardArgs<T> f;
        f.items = a_.batch;
        f.channels = a_.out;
        f.grad = a_.grad;
        f.output = interior_;
        for (int axis = 0; axis < 3; ++axis) {
            f.size[axis] = a_.grid.size[axis];
            f.rule[axis] = a_.rule[axis];
            f.gradient[axis] = a_.face_gradient[axis];
        }
        pull_back_faces(f, executor_);
        auto whole = analysis_;
        whole.values = interior_;
        analyse(whole, executor_, scratch_);
    }

    /// On a line the rule moves the gradient of each end to a few points: the change is added to
    /// the transform, and the gradient itself is read where it is. Not where an end is not finite,
    /// which the rule would have removed.
    bool pull_ends() {
        const FaceRule<T>& rule = a_.rule[2];
        const int64_t rows = a_.batch * a_.out, points = a_.grid.size[2];
        double total = 0;
        for (int64_t row = 0; row < rows; ++row) {
            const T* grad = a_.grad + row * points;
            total += static_cast<double>(grad[0] - grad[0]) +
                     static_cast<double>(grad[points - 1] - grad[points - 1]);
        }
        if (!(total == 0)) {
            return false;
        }
        if (a_.face_gradient[2].values != nullptr) {
            AssignFacesBackwardArgs<T> f;
            f.items = a_.batch;
            f.channels = a_.out;
            f.gradient[2] = a_.face_gradient[2];
            f.rule[2] = rule;
            run_indices(executor_, rows, [&](int64_t, int64_t row) {
                f.gradient[2].values[2 * row] = a_.grad[row * points];
                f.gradient[2].values[2 * row + 1] = a_.grad[(row + 1) * points - 1];
            });
            sum_face_gradients(f, executor_);
        }
        analyse(analysis_, executor_, scratch_);
        const Normal normal(a_.grid, 2);
        const Spectrum<T> upstream = {upstream_, a_.batch, a_.out};
        for (int64_t j = 0; j < rule.width; ++j) {
            // Moves s_j g to point j, and takes g away from where it was.
            const double first = rule.stencil[j] - (j == 0 ? 1 : 0),
                         last = rule.stencil[rule.width + j] - (j == 0 ? 1 : 0);
            if (first == 0 && last == 0) {
                continue;
            }
            run_indices(executor_, rows, [&](int64_t, int64_t row) {
                const int64_t b = row / a_.out, c = row % a_.out;
                double* to = ends_ + 2 * (2 * b * a_.out + c);
                to[0] = first * static_cast<double>(a_.grad[row * points]);
                to[2 * a_.out] = last * static_cast<double>(a_.grad[(row + 1) * points - 1]);
                to[1] = to[2 * a_.out + 1] = 0;
            });
            line_.fill(normal, j);
            radiate<T>(
                ends_, normal, line_, true, {upstream_, a_.batch, a_.out}, upstream, executor_
            );
        }
        return true;
    }

    /// Back through `axis` and those before it, then through the transforms. `slot` counts the
    /// corrected axes that remain, `behind` is where the records of the next one end.
    void pull_axes(int axis, int64_t slot, const double* behind) {
        if (axis < 0) {
            finish();
            return;
        }
        if (a_.gains.data[axis] == nullptr) {
            pull_axes(axis - 1, slot, behind);
            return;
        }
        const Correction<T> c(
            arena_, a_.grid, axis, a_.batch, a_.in, a_.out, a_.gains, nullptr, executor_
        );
        Records seen = c.records, grad = c.records;
        grad.data = arena_.take<double>(grad.size());
        double* line_ends = arena_.take<double>(ends_size(a_.grid, a_.batch, a_.in));
        if (!measuring_) {
            // The records are read only; one type serves both directions.
            seen.data = const_cast<double*>(behind) - seen.size();
            behind = seen.data;
            c.fill(executor_);
            pull_axis(c, seen, grad, slot, line_ends);
        }
        pull_axes(axis - 1, slot - 1, behind);
        if (!measuring_ && a_.x_out != nullptr) {
            c.lines.add_adjoint(line_ends, a_.x_out, executor_);
        }
    }

    void pull_axis(
        const Correction<T>& c,
        const Records& seen,
        const Records& grad,
        int64_t slot,
        double* line_ends
    ) {
        const Normal& normal = c.normal;
        const Spectrum<T> shift = {left_, a_.batch, a_.in, stack_, slot};
        const Spectrum<T> upstream = {upstream_, a_.batch, a_.out};
        const Spectrum<T> through = {through_, a_.batch, a_.in};
        const auto constant = [](const Spectrum<T>& s) {
            return Spectrum<const T>{s.data, s.batch, s.channels, s.stack, s.slot};
        };
        seen.get(ends_, 2 * a_.in, seen.shifts(), executor_);
        radiate<T>(ends_, normal, c.phases, false, {nullptr, a_.batch, a_.in}, shift, executor_);
        stack_rows(upstream_, right_, a_.out, slot);

        mix_adjoint(pull_, executor_, scratch_);
        evaluate<T>({pulled_, a_.batch, a_.in}, normal, c.phases, false, ends_, executor_);
        grad.put(ends_, 2 * a_.in, grad.shifts(), executor_);
        if (slot < stack_ - 1) {  // later axes saw the shifts of this one in their end lines
            evaluate<T>(constant(through), normal, c.phases, false, ends_, executor_);
            grad.put(ends_, 2 * a_.in, 0, executor_);
            run_indices(executor_, normal.others * a_.batch, [&](int64_t, int64_t row) {
                double* record = grad.data + row * grad.length();
                for (int64_t i = 0; i < grad.moved(); ++i) {
                    record[grad.shifts() + i] += record[i];
                }
            });
        }
        if (a_.gain_out[normal.axis] != nullptr) {
            c.gains.gradient(seen, grad, a_.gain_out[normal.axis], executor_);
        }
        c.gains.apply_adjoint(grad, executor_);
        grad.get(ends_, 2 * a_.out, grad.outputs(), executor_);
        take_real_field(ends_, normal, true, a_.batch * 4 * a_.out, executor_);
        radiate<T>(ends_, normal, c.phases, true, constant(upstream), upstream, executor_);
        grad.get(line_ends, 2 * a_.in, 0, executor_);
        if (slot > 1) {
            grad.get(ends_, 2 * a_.in, 0, executor_);
            take_real_field(ends_, normal, true, a_.batch * 4 * a_.in, executor_);
            const bool first = slot == stack_ - 1;
            radiate<T>(
                ends_,
                normal,
                c.phases,
                true,
                {first ? nullptr : through_, a_.batch, a_.in},
                through,
                executor_
            );
        }
    }

    void finish() {
        if (measuring_) {
            return;
        }
        if (a_.weight_out != nullptr) {
            if (stack_ > 1) {
                stack_rows(a_.spectrum, left_, a_.in, 0);
                stack_rows(upstream_, right_, a_.out, 0);
            }
            mix_adjoint(weigh_, executor_, scratch_);
        }
        if (a_.x_out != nullptr) {
            mix_adjoint(pull_, executor_, scratch_);
            synthesise(synthesis_, executor_, scratch_);
        }
    }

    void stack_rows(const T* from, T* to, int64_t channels, int64_t slot) const {
        run_indices(executor_, modes_, [&](int64_t, int64_t mode) {
            const int64_t length = 2 * a_.batch * channels;
            __builtin_memcpy(
                to + (mode * stack_ + slot) * length,
                from + mode * length,
                static_cast<std::size_t>(length) * sizeof(T)
            );
        });
    }

    const BoundarySpectralConvBackwardArgs<T>& a_;
    const Executor& executor_;
    Arena arena_;
    bool measuring_, faces_ = false;
    int64_t modes_, stack_;
    Phases line_;
    T *interior_, *left_, *right_, *upstream_, *pulled_, *through_;
    double* ends_;
    void* scratch_;
    SpectralTransformArgs<T> analysis_, synthesis_;
    SpectralMixArgs<T> pull_, weigh_;
};

}  // namespace

template <typename T>
std::size_t boundary_spectral_conv_workspace(
    const BoundarySpectralConvArgs<T>& args, const Executor& executor
) {
    return forward(args, executor, nullptr);
}
template <typename T>
void boundary_spectral_conv(
    const BoundarySpectralConvArgs<T>& args, const Executor& executor, void* workspace
) {
    forward(args, executor, workspace);
}
template <typename T>
std::size_t boundary_spectral_conv_backward_workspace(
    const BoundarySpectralConvBackwardArgs<T>& args, const Executor& executor
) {
    return Backward<T>(args, executor, nullptr).run();
}
template <typename T>
void boundary_spectral_conv_backward(
    const BoundarySpectralConvBackwardArgs<T>& args, const Executor& executor, void* workspace
) {
    Backward<T>(args, executor, workspace).run();
}

#define PHYSCON_INSTANTIATE(T)                                             \
    template std::size_t boundary_spectral_conv_workspace(                 \
        const BoundarySpectralConvArgs<T>&, const Executor&                \
    );                                                                     \
    template void boundary_spectral_conv(                                  \
        const BoundarySpectralConvArgs<T>&, const Executor&, void*         \
    );                                                                     \
    template std::size_t boundary_spectral_conv_backward_workspace(        \
        const BoundarySpectralConvBackwardArgs<T>&, const Executor&        \
    );                                                                     \
    template void boundary_spectral_conv_backward(                         \
        const BoundarySpectralConvBackwardArgs<T>&, const Executor&, void* \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
