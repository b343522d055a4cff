// SPDX-License-Identifier: Apache-2.0
// Mixing of channels: one complex matrix product per mode, real and imaginary parts adjacent.
//
// A product of complex numbers takes three products of real ones (Gauss): with p = Re a Re b,
// q = Im a Im b and s = (Re a + Im a) (Re b + Im b),
//
//   a b = (p - q) + i (s - p - q),
//
// and a conjugate changes signs. p and q are summed side by side, b as it lies in memory times the
// two parts of a; s is summed for two vectors of b at once. Either part of a result is as accurate,
// relative to the moduli of the factors, as with four products.
//
// What is left of the columns, less than two vectors, takes four: Re(a) b + Im(a) (i b), both
// summed apart, the factor i (a swap of neighbours and a sign) applied once, to the sum.
#include "shuffle.hpp"
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

constexpr int most_rows = 4;  // of a tile: 16 registers hold its sums and three vectors of b

/// Which factor is conjugated.
enum class Conjugate { none, left, right };

/// Strides in real numbers; columns are counted in real numbers too.
template <typename T>
struct ComplexProduct {
    const T* left;  ///< (rows, steps) by its strides
    const T* both;  ///< `sum_parts` of `left`, by half its strides
    int64_t left_row, left_step;
    const T* right;  ///< (steps, columns)
    int64_t right_step;
    T* out;  ///< (rows, columns)
    int64_t out_row;
    int64_t rows, steps, columns;
    const T* ahead;  ///< what the next product reads, as much as `right`, is asked for meanwhile
    T* sums;  ///< null, or (rows, 2, columns in whole vectors): the sums of a product in parts
    bool begins, ends;  ///< the first part, the last part
};

/// Sums of both parts, of their difference if `which` is the left factor.
template <Conjugate which, typename T>
void sum_parts(const T* left, int64_t count, T* both) {
    for (int64_t i = 0; i < count; ++i) {
        both[i] = which == Conjugate::left ? left[2 * i] - left[2 * i + 1]
                                           : left[2 * i] + left[2 * i + 1];
    }
}

/// Two vectors of columns with three products.
template <Conjugate which, int rows, typename T>
inline void pair_tile(const ComplexProduct<T>& p, int64_t row, int64_t column) {
    Vector<T> first[rows] = {}, second[rows] = {}, sum[rows] = {};
    const T* left = p.left + row * p.left_row;
    const T* both = p.both + row * p.left_row / 2;
    const T* right = p.right + column;
    const T* ahead = p.ahead + column * p.steps;
    const int64_t sums_row = round_up(p.columns, width<T>);
    T* sums = p.sums != nullptr ? p.sums + 2 * row * sums_row + column : nullptr;
    const auto each_sum = [&](auto&& body) {
        for (int r = 0; r < rows; ++r) {
            T* at = sums + 2 * r * sums_row;
            body(at, first[r]);
            body(at + width<T>, second[r]);
            body(at + sums_row, sum[r]);
        }
    };
    if (sums != nullptr && !p.begins) {
        each_sum([](const T* at, Vector<T>& value) { value = load(at); });
    }
    const int64_t both_row = p.left_row / 2, both_step = p.left_step / 2;
    for (int64_t k = 0; k < p.steps; ++k) {
        prefetch(ahead);
        prefetch(ahead + width<T>);
        const Vector<T> b = load(right), c = load(right + width<T>);
        const Vector<T> real = even_lanes<T>(b, c), imaginary = odd_lanes<T>(b, c);
        const Vector<T> d = which == Conjugate::right ? real - imaginary : real + imaginary;
        for (int r = 0; r < rows; ++r) {
            const Vector<T> pair = repeat_pair(left + r * p.left_row);
            first[r] += pair * b;
            second[r] += pair * c;
            sum[r] += both[r * both_row] * d;
        }
        left += p.left_step;
        both += both_step;
        right += p.right_step;
        ahead += 2 * width<T>;
    }
    if (sums != nullptr && !p.ends) {
        each_sum([](T* at, const Vector<T>& value) { store(at, value); });
        return;
    }
    for (int r = 0; r < rows; ++r) {
        const Vector<T> real = even_lanes<T>(first[r], second[r]);
        const Vector<T> imaginary = odd_lanes<T>(first[r], second[r]);
        Vector<T> re, im;
        if (which == Conjugate::none) {
            re = real - imaginary;
            im = sum[r] - (real + imaginary);
        } else {
            re = real + imaginary;
            im = sum[r] - (real - imaginary);
        }
        T* to = p.out + (row + r) * p.out_row + column;
        store(to, join_low<T>(re, im));
        store(to + width<T>, join_high<T>(re, im));
    }
}

/// At most one vector of columns with four products.
template <Conjugate which, int rows, bool full, typename T>
inline void product_tile(const ComplexProduct<T>& p, int64_t row, int64_t column) {
    Vector<T> real[rows] = {}, imaginary[rows] = {};
    const int count = full ? width<T> : static_cast<int>(p.columns - column);
    const T* left = p.left + row * p.left_row;
    const T* right = p.right + column;
    const T* ahead = p.ahead + column * p.steps;
    const int64_t sums_row = round_up(p.columns, width<T>);
    T* sums = p.sums != nullptr ? p.sums + 2 * row * sums_row + column : nullptr;
    const auto each_sum = [&](auto&& body) {
        for (int r = 0; r < rows; ++r) {
            body(sums + 2 * r * sums_row, real[r]);
            body(sums + (2 * r + 1) * sums_row, imaginary[r]);
        }
    };
    if (sums != nullptr && !p.begins) {
        each_sum([](const T* at, Vector<T>& sum) { sum = load(at); });
    }
    for (int64_t k = 0; k < p.steps; ++k, left += p.left_step, right += p.right_step) {
        prefetch(ahead);
        ahead += width<T>;
        const Vector<T> b = load_lanes<full>(right, count);
        for (int r = 0; r < rows; ++r) {
            real[r] += left[r * p.left_row] * b;
            imaginary[r] += left[r * p.left_row + 1] * b;
        }
    }
    if (sums != nullptr && !p.ends) {
        each_sum([](T* at, const Vector<T>& sum) { store(at, sum); });
        return;
    }
    // Signs of the real and imaginary part of either sum.
    const Vector<T> signs = alternating_signs<T>();
    for (int r = 0; r < rows; ++r) {
        const Vector<T> swapped = swap_pairs<T>(imaginary[r]);
        Vector<T> sum;
        if (which == Conjugate::none) {
            sum = real[r] + signs * swapped;
        } else if (which == Conjugate::left) {
            sum = real[r] - signs * swapped;
        } else {
            sum = swapped - signs * real[r];
        }
        store_lanes<full>(p.out + (row + r) * p.out_row + column, sum, count);
    }
}

/// Calls body(pair, full, column) for the columns: pairs of vectors, whole vectors, the rest.
template <typename T, typename Body>
inline void for_strips(const ComplexProduct<T>& p, Body&& body) {
    int64_t column = 0;
    for (; column + 2 * width<T> <= p.columns; column += 2 * width<T>) {
        body(std::true_type{}, std::true_type{}, column);
    }
    for (; column + width<T> <= p.columns; column += width<T>) {
        body(std::false_type{}, std::true_type{}, column);
    }
    if (column < p.columns) {
        body(std::false_type{}, std::false_type{}, column);
    }
}

/// A strip of `right` serves all rows while it is in cache; the product of a conjugate is larger
/// than its factors and is written in the order of memory.
template <Conjugate which, typename T>
void complex_product(const ComplexProduct<T>& p) {
    const auto tile = [&](auto rows, int64_t row, auto pair, auto full, int64_t column) {
        if constexpr (decltype(pair)::value) {
            pair_tile<which, decltype(rows)::value>(p, row, column);
        } else {
            product_tile<which, decltype(rows)::value, decltype(full)::value>(p, row, column);
        }
    };
    if constexpr (which == Conjugate::left) {
        for_tiles<most_rows>(p.rows, [&](auto rows, int64_t row) {
            for_strips(p, [&](auto pair, auto full, int64_t column) {
                tile(rows, row, pair, full, column);
            });
        });
    } else {
        for_strips(p, [&](auto pair, auto full, int64_t column) {
            for_tiles<most_rows>(p.rows, [&](auto rows, int64_t row) {
                tile(rows, row, pair, full, column);
            });
        });
    }
}

/// Calls body(full, at, count) for the vectors of [begin, end), the last one perhaps in part.
template <typename T, typename Body>
inline void for_vectors(int64_t begin, int64_t end, Body&& body) {
    for (; begin + width<T> <= end; begin += width<T>) {
        body(std::true_type{}, begin, width<T>);
    }
    if (begin < end) {
        body(std::false_type{}, begin, static_cast<int>(end - begin));
    }
}

/// Few rows and a matrix beyond the second-level cache: all of the matrix is read once, in the
/// order of memory, as many steps at a time as keep the sums cheap. No sum changes.
constexpr int64_t few_rows = 4;
constexpr int64_t large_matrix = 1 << 20, part_of_matrix = 128 << 10;  // bytes

template <typename T>
bool in_parts(int64_t rows, int64_t steps, int64_t columns) {
    return rows <= few_rows && steps * columns * static_cast<int64_t>(sizeof(T)) >= large_matrix;
}
template <Conjugate which, typename T>
void product_in_parts(ComplexProduct<T> p) {
    const int64_t steps = p.steps, row_bytes = p.columns * static_cast<int64_t>(sizeof(T));
    const int64_t most = larger<int64_t>(part_of_matrix / row_bytes, 4);
    p.begins = true;
    for (int64_t k = 0; k < steps; k += p.steps) {
        p.steps = smaller(most, steps - k);
        p.ends = k + p.steps == steps;
        p.ahead = p.right + p.steps * p.right_step;
        complex_product<which>(p);
        p.left += p.steps * p.left_step;
        p.both += p.steps * p.left_step / 2;
        p.right += p.steps * p.right_step;
        p.begins = false;
    }
}

/// A single channel: the one weight of each mode, or its conjugate, times the row of the batch. A
/// batch of one is a row over the modes.
template <Conjugate which, typename T>
void scale_rows(
    const Executor& executor, int64_t modes, int64_t batch, const T* weight, const T* rows, T* out
) {
    const Vector<T> signs =
        which == Conjugate::none ? alternating_signs<T>() : -alternating_signs<T>();
    const auto scale = [&](auto full, Vector<T> re, Vector<T> im, int64_t at, int count) {
        const Vector<T> row = load_lanes<full>(rows + at, count);
        store_lanes<full>(out + at, re * row + signs * im * swap_pairs<T>(row), count);
    };
    constexpr int64_t modes_at_once = 512;
    run_indices(executor, (modes + modes_at_once - 1) / modes_at_once, [&](int64_t, int64_t run) {
        const int64_t first = run * modes_at_once, stop = smaller(first + modes_at_once, modes);
        if (batch == 1) {
            for_vectors<T>(2 * first, 2 * stop, [&](auto full, int64_t at, int count) {
                const Vector<T> w = load_lanes<full>(weight + at, count);
                scale(full, first_of_pairs<T>(w), second_of_pairs<T>(w), at, count);
            });
            return;
        }
        for (int64_t k = first; k < stop; ++k) {
            const Vector<T> re = Vector<T>{} + weight[2 * k], im = Vector<T>{} + weight[2 * k + 1];
            for_vectors<T>(2 * k * batch, 2 * (k + 1) * batch, [&](auto full, int64_t at, int n) {
                prefetch(rows + at + 2 * batch);  // rows are too short for the processor to foresee
                scale(full, re, im, at, n);
            });
        }
    });
}

/// w' of one mode: (out, in) from (in, out), in squares that are turned in registers.
template <typename T>
void transpose_weight(const T* w, int64_t in, int64_t out, T* to) {
    constexpr int side = width<T> / 2;
    const int64_t whole_in = in / side * side, whole_out = out / side * side;
    for (int64_t i = 0; i < whole_in; i += side) {
        for (int64_t o = 0; o < whole_out; o += side) {
            Vector<T> square[side];
            for (int r = 0; r < side; ++r) {
                square[r] = load(w + 2 * ((i + r) * out + o));
            }
            transpose<2, T>(square);
            for (int r = 0; r < side; ++r) {
                store(to + 2 * ((o + r) * in + i), square[r]);
            }
        }
    }
    for (int64_t i = 0; i < in; ++i) {
        for (int64_t o = i < whole_in ? whole_out : 0; o < out; ++o) {
            to[2 * (o * in + i)] = w[2 * (i * out + o)];
            to[2 * (o * in + i) + 1] = w[2 * (i * out + o) + 1];
        }
    }
}

template <typename T>
void subtract(const WeightTerm<T>& less, int64_t mode, int64_t count, T* gradient) {
    const Vector<T> f = repeat_pair(less.factors + 4 * mode);
    const Vector<T> g = repeat_pair(less.factors + 4 * mode + 2);
    const auto block = [&](auto full_tag, int64_t i) {
        constexpr bool full = decltype(full_tag)::value;
        const int live = full ? width<T> : static_cast<int>(count - i);
        const Vector<T> a = load_lanes<full>(less.first + i, live);
        const Vector<T> b = load_lanes<full>(less.second + i, live);
        const Vector<T> from = load_lanes<full>(gradient + i, live);
        store_lanes<full>(gradient + i, from - f * a - g * b, live);
    };
    int64_t i = 0;
    for (; i + width<T> <= count; i += width<T>) {
        block(std::true_type{}, i);
    }
    if (i < count) {
        block(std::false_type{}, i);
    }
}

}  // namespace

template <typename T>
std::size_t mix(const SpectralMixArgs<T>& a, const Executor& executor, void* workspace) {
    Arena arena(workspace);
    const bool parts = in_parts<T>(a.batch, a.in, 2 * a.out);
    const int64_t sums_size = parts ? 2 * a.batch * round_up(2 * a.out, width<T>) : 0;
    const int64_t slots = larger(executor.threads, 1), rows = a.batch * a.in;
    T* sums = arena.take<T>(slots * sums_size);
    T* both = arena.take<T>(slots * rows);
    if (workspace == nullptr) {
        return larger<std::size_t>(arena.used(), 1);  // a null pointer would ask again
    }
    if (a.in == 1 && a.out == 1) {
        scale_rows<Conjugate::none>(executor, a.modes, a.batch, a.weight, a.input, a.output);
        return arena.used();
    }
    run_indices(executor, a.modes, [&](int64_t slot, int64_t k) {
        ComplexProduct<T> p = {};
        p.left = a.input + 2 * k * rows;
        p.both = both + slot * rows;
        sum_parts<Conjugate::none>(p.left, rows, both + slot * rows);
        p.left_row = 2 * a.in;
        p.left_step = 2;
        p.right = a.weight + 2 * k * a.in * a.out;
        p.right_step = p.columns = p.out_row = 2 * a.out;
        p.out = a.output + 2 * k * a.batch * a.out;
        p.rows = a.batch;
        p.steps = a.in;
        if (parts) {
            p.sums = sums + slot * sums_size;
            product_in_parts<Conjugate::none>(p);
            return;
        }
        p.ahead = p.right + 2 * a.in * a.out;
        complex_product<Conjugate::none>(p);
    });
    return arena.used();
}

template <typename T>
std::size_t mix_adjoint(
    const SpectralMixArgs<T>& a,
    const Executor& executor,
    void* workspace,
    const WeightTerm<T>* less
) {
    Arena arena(workspace);
    const int64_t slots = larger(executor.threads, 1), most = a.batch * larger(a.in, a.out);
    T* turned = arena.take<T>(slots * 2 * a.in * a.out);
    T* sums = arena.take<T>(slots * most);
    if (workspace == nullptr) {
        return arena.used();
    }
    const bool single = a.in == 1 && a.out == 1;
    if (single && a.input_gradient != nullptr) {
        scale_rows<Conjugate::left>(
            executor, a.modes, a.batch, a.weight, a.upstream, a.input_gradient
        );
    }
    if (single && a.batch == 1 && a.weight_gradient != nullptr) {
        scale_rows<Conjugate::left>(executor, a.modes, 1, a.input, a.upstream, a.weight_gradient);
    }
    if (single && (a.batch == 1 || a.weight_gradient == nullptr)) {
        return arena.used();
    }
    run_indices(executor, a.modes, [&](int64_t slot, int64_t k) {
        const T* upstream = a.upstream + 2 * k * a.batch * a.out;
        T* both = sums + slot * most;
        ComplexProduct<T> p = {};
        p.both = both;
        if (!single && a.input_gradient != nullptr) {
            T* across = turned + slot * 2 * a.in * a.out;
            transpose_weight(a.weight + 2 * k * a.in * a.out, a.in, a.out, across);
            p.left = upstream;
            sum_parts<Conjugate::right>(upstream, a.batch * a.out, both);
            p.left_row = 2 * a.out;
            p.left_step = 2;
            p.right = across;
            p.right_step = p.columns = p.out_row = 2 * a.in;
            p.out = a.input_gradient + 2 * k * a.batch * a.in;
            p.rows = a.batch;
            p.steps = a.out;
            p.ahead = a.weight + 2 * (k + 1) * a.in * a.out;
            complex_product<Conjugate::right>(p);
        }
        if (a.weight_gradient != nullptr) {
            p.left = a.input + 2 * k * a.batch * a.in;
            sum_parts<Conjugate::left>(p.left, a.batch * a.in, both);
            p.left_row = 2;
            p.left_step = 2 * a.in;
            p.right = upstream;
            p.right_step = p.columns = p.out_row = 2 * a.out;
            p.out = a.weight_gradient + 2 * k * a.in * a.out;
            p.rows = a.in;
            p.steps = a.batch;
            p.ahead = upstream + 2 * a.batch * a.out;
            complex_product<Conjugate::left>(p);
            if (less != nullptr) {
                subtract(*less, k, 2 * a.in * a.out, p.out);
            }
        }
    });
    return arena.used();
}

template <typename T>
std::size_t spectral_mix_workspace(const SpectralMixArgs<T>& args, const Executor& executor) {
    return larger(mix(args, executor, nullptr), mix_adjoint(args, executor, nullptr));
}
template <typename T>
void spectral_mix(const SpectralMixArgs<T>& args, const Executor& executor, void* workspace) {
    mix(args, executor, workspace);
}
template <typename T>
void spectral_mix_adjoint(
    const SpectralMixArgs<T>& args, const Executor& executor, void* workspace
) {
    mix_adjoint(args, executor, workspace);
}

#define PHYSCON_INSTANTIATE(T)                                                               \
    template std::size_t mix(const SpectralMixArgs<T>&, const Executor&, void*);             \
    template std::size_t mix_adjoint(                                                        \
        const SpectralMixArgs<T>&, const Executor&, void*, const WeightTerm<T>*              \
    );                                                                                       \
    template std::size_t spectral_mix_workspace(const SpectralMixArgs<T>&, const Executor&); \
    template void spectral_mix(const SpectralMixArgs<T>&, const Executor&, void*);           \
    template void spectral_mix_adjoint(const SpectralMixArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
