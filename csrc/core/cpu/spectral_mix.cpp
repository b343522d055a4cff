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
    T* sums;  ///< null, or (rows, 2, columns in whole vectors): both sums of a product in parts
    bool begins, ends;  ///< the first part, the last part
};

template <Conjugate which, int rows, int vectors, bool full, typename T>
inline void product_tile(const ComplexProduct<T>& p, int64_t row, int64_t column) {
    Vector<T> real[rows][vectors] = {}, imaginary[rows][vectors] = {};
    const int count = full ? width<T> : static_cast<int>(p.columns - column);
    const T* left = p.left + row * p.left_row;
    const T* right = p.right + column;
    const T* ahead = p.ahead + column * p.steps;
    const int64_t sums_row = round_up(p.columns, width<T>);
    T* sums = p.sums != nullptr ? p.sums + 2 * row * sums_row + column : nullptr;
    const auto each_sum = [&](auto&& body) {
        for (int r = 0; r < rows; ++r) {
            for (int v = 0; v < vectors; ++v) {
                T* at = sums + 2 * r * sums_row + v * width<T>;
                body(at, real[r][v]);
                body(at + sums_row, imaginary[r][v]);
            }
        }
    };
    if (sums != nullptr && !p.begins) {
        each_sum([](const T* at, Vector<T>& sum) { sum = load(at); });
    }
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
    if (sums != nullptr && !p.ends) {
        each_sum([](T* at, const Vector<T>& sum) { store(at, sum); });
        return;
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
        p.right += p.steps * p.right_step;
        p.begins = false;
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
    Arena arena(workspace);
    const bool parts = in_parts<T>(a.batch, a.in, 2 * a.out);
    const int64_t sums_size = parts ? 2 * a.batch * round_up(2 * a.out, width<T>) : 0;
    T* sums = arena.take<T>(larger(executor.threads, 1) * sums_size);
    if (workspace == nullptr) {
        return larger<std::size_t>(arena.used(), 1);  // a null pointer would ask again
    }
    run_indices(executor, a.modes, [&](int64_t slot, int64_t k) {
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
