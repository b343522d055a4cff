// SPDX-License-Identifier: Apache-2.0
// Mixing of channels: one complex matrix product per mode, real and imaginary parts adjacent.
//
// A product a b of complex numbers is Re(a) b + Im(a) (i b). Both terms are summed apart as vectors
// of b as it lies in memory, and the factor i (a swap of neighbours and a sign) is applied once, to
// the sum.
#include "shuffle.hpp"
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int most_rows = 6;  // 32 registers: 6 x 2 vectors of two sums each
#else
constexpr int most_rows = 3;
#endif
constexpr int most_vectors = 2;

/// Which factor is conjugated.
enum class Conjugate { none, left, right };

/// Strides in real numbers; columns are counted in real numbers too.
template <typename T>
struct ComplexProduct {
    const T* left;  ///< (rows, steps) by its strides
    int64_t left_row, left_step;
    const T* right;  ///< (steps, columns)
    int64_t right_step;
    T* out;  ///< (rows, columns)
    int64_t out_row;
    int64_t rows, steps, columns;
    const T* ahead;  ///< what the next product reads, as much as `right`, is asked for meanwhile
};

template <Conjugate which, int rows, int vectors, bool full, typename T>
inline void product_tile(const ComplexProduct<T>& p, int64_t row, int64_t column) {
    Vector<T> real[rows][vectors] = {}, imaginary[rows][vectors] = {};
    const int count = full ? width<T> : static_cast<int>(p.columns - column);
    const T* left = p.left + row * p.left_row;
    const T* right = p.right + column;
    const T* ahead = p.ahead + column * p.steps;
    for (int64_t k = 0; k < p.steps; ++k, left += p.left_step, right += p.right_step) {
        Vector<T> b[vectors];
        for (int v = 0; v < vectors; ++v, ahead += width<T>) {
            prefetch(ahead);
            b[v] = load_lanes<full>(right + v * width<T>, count);
        }
        for (int r = 0; r < rows; ++r) {
            const T re = left[r * p.left_row], im = left[r * p.left_row + 1];
            for (int v = 0; v < vectors; ++v) {
                real[r][v] += re * b[v];
                imaginary[r][v] += im * b[v];
            }
        }
    }
    // Signs of the real and imaginary part of either sum.
    const Vector<T> signs = alternating_signs<T>();
    for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v) {
            const Vector<T> swapped = swap_pairs<T>(imaginary[r][v]);
            Vector<T> sum;
            if (which == Conjugate::none) {
                sum = real[r][v] + signs * swapped;
            } else if (which == Conjugate::left) {
                sum = real[r][v] - signs * swapped;
            } else {
                sum = swapped - signs * real[r][v];
            }
            T* to = p.out + (row + r) * p.out_row + column + v * width<T>;
            store_lanes<full>(to, sum, count);
        }
    }
}

/// Calls body(vectors, full, column) for the columns: whole tiles, whole vectors, the rest.
template <typename T, typename Body>
inline void for_strips(const ComplexProduct<T>& p, Body&& body) {
    using Most = std::integral_constant<int, most_vectors>;
    using One = std::integral_constant<int, 1>;
    int64_t column = 0;
    for (; column + most_vectors * width<T> <= p.columns; column += most_vectors * width<T>) {
        body(Most{}, std::true_type{}, column);
    }
    for (; column + width<T> <= p.columns; column += width<T>) {
        body(One{}, std::true_type{}, column);
    }
    if (column < p.columns) {
        body(One{}, std::false_type{}, column);
    }
}

/// A strip of `right` serves all rows while it is in cache; the product of a conjugate is larger
/// than its factors and is written in the order of memory.
template <Conjugate which, typename T>
void complex_product(const ComplexProduct<T>& p) {
    const auto tile = [&](auto rows, int64_t row, auto vectors, auto full, int64_t column) {
        product_tile<which, decltype(rows)::value, decltype(vectors)::value, decltype(full)::value>(
            p, row, column
        );
    };
    if constexpr (which == Conjugate::left) {
        for_tiles<most_rows>(p.rows, [&](auto rows, int64_t row) {
            for_strips(p, [&](auto vectors, auto full, int64_t column) {
                tile(rows, row, vectors, full, column);
            });
        });
    } else {
        for_strips(p, [&](auto vectors, auto full, int64_t column) {
            for_tiles<most_rows>(p.rows, [&](auto rows, int64_t row) {
                tile(rows, row, vectors, full, column);
            });
        });
    }
}

/// A single channel: the one weight times a row of the batch.
template <Conjugate which, typename T>
void scale_row(const T* weight, const T* row, int64_t batch, T* out) {
    ComplexProduct<T> p = {};
    p.left = weight;
    p.right = row;
    p.out = out;
    p.columns = 2 * batch;
    p.ahead = row + p.columns;
    p.rows = p.steps = 1;
    complex_product<which>(p);
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

}  // namespace

template <typename T>
std::size_t mix(const SpectralMixArgs<T>& a, const Executor& executor, void* workspace) {
    if (workspace == nullptr) {
        return 1;  // nothing is needed; a null pointer would ask again
    }
    run_indices(executor, a.modes, [&](int64_t, int64_t k) {
        ComplexProduct<T> p = {};
        if (a.in == 1 && a.out == 1) {
            scale_row<Conjugate::none>(
                a.weight + 2 * k, a.input + 2 * k * a.batch, a.batch, a.output + 2 * k * a.batch
            );
            return;
        }
        p.left = a.input + 2 * k * a.batch * a.in;
        p.left_row = 2 * a.in;
        p.left_step = 2;
        p.right = a.weight + 2 * k * a.in * a.out;
        p.right_step = p.columns = p.out_row = 2 * a.out;
        p.out = a.output + 2 * k * a.batch * a.out;
        p.rows = a.batch;
        p.steps = a.in;
        p.ahead = p.right + 2 * a.in * a.out;
        complex_product<Conjugate::none>(p);
    });
    return 1;
}

template <typename T>
std::size_t mix_adjoint(const SpectralMixArgs<T>& a, const Executor& executor, void* workspace) {
    Arena arena(workspace);
    const int64_t slots = larger(executor.threads, 1);
    T* turned = arena.take<T>(slots * 2 * a.in * a.out);
    if (workspace == nullptr) {
        return arena.used();
    }
    run_indices(executor, a.modes, [&](int64_t slot, int64_t k) {
        const T* upstream = a.upstream + 2 * k * a.batch * a.out;
        ComplexProduct<T> p = {};
        if (a.input_gradient != nullptr && a.in == 1 && a.out == 1) {
            T* to = a.input_gradient + 2 * k * a.batch;
            scale_row<Conjugate::left>(a.weight + 2 * k, upstream, a.batch, to);
        } else if (a.input_gradient != nullptr) {
            T* across = turned + slot * 2 * a.in * a.out;
            transpose_weight(a.weight + 2 * k * a.in * a.out, a.in, a.out, across);
            p.left = upstream;
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
            p.left_row = 2;
            p.left_step = 2 * a.in;
            p.right = upstream;
            p.right_step = p.columns = p.out_row = 2 * a.out;
            p.out = a.weight_gradient + 2 * k * a.in * a.out;
            p.rows = a.in;
            p.steps = a.batch;
            p.ahead = upstream + 2 * a.batch * a.out;
            complex_product<Conjugate::left>(p);
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
    template std::size_t mix_adjoint(const SpectralMixArgs<T>&, const Executor&, void*);     \
    template std::size_t spectral_mix_workspace(const SpectralMixArgs<T>&, const Executor&); \
    template void spectral_mix(const SpectralMixArgs<T>&, const Executor&, void*);           \
    template void spectral_mix_adjoint(const SpectralMixArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
