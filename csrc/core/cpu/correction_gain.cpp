// SPDX-License-Identifier: Apache-2.0
// Gains of the block elimination, one system per mode of the other axes. A complex number a + i b
// is the real matrix [[a, b], [-b, a]], acting on rows: products, adjoints and inverses carry over.
#include "end_response.hpp"
#include "normal.hpp"
#include "small.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// The blocks of one mode and the ends that are corrected.
struct EndSystem {
    const double* block[3];   ///< D, G, A
    int64_t in, out, parts;   ///< numbers per entry of a block
    int64_t count, which[2];  ///< corrected ends

    int64_t rows() const {
        return count * in * parts;
    }
    int64_t columns() const {
        return count * out * parts;
    }
    /// to (rows, columns) <- S, or its transpose.
    void fill(double* to, bool transposed) const {
        const int64_t row_step = transposed ? 1 : columns(), step = transposed ? rows() : 1;
        for (int64_t e = 0; e < count; ++e) {
            for (int64_t f = 0; f < count; ++f) {
                const double* from = block[e == f ? 0 : which[e] == 0 ? 1 : 2];
                for (int64_t i = 0; i < in; ++i) {
                    for (int64_t o = 0; o < out; ++o) {
                        const double* z = from + (i * out + o) * parts;
                        double* at =
                            to + (e * in + i) * parts * row_step + (f * out + o) * parts * step;
                        at[0] = z[0];
                        if (parts == 2) {
                            at[step] = z[1];
                            at[row_step] = -z[1];
                            at[row_step + step] = z[0];
                        }
                    }
                }
            }
        }
    }
};

/// Memory for the system of one mode.
struct EndSolver {
    int64_t most, least;  ///< of the rows and columns of S
    double *tall, *wide;  ///< S or S', (most, least), and its transpose: later the solution
    double *gram, *cholesky, *dependence, *column, *inverse;  ///< inverse: S^+ (columns, rows)

    EndSolver(Arena& arena, int64_t rows, int64_t columns)
        : most(larger(rows, columns)),
          least(smaller(rows, columns)),
          tall(arena.take<double>(most * least)),
          wide(arena.take<double>(most * least)),
          gram(arena.take<double>(least * least)),
          cholesky(arena.take<double>(least * least)),
          dependence(arena.take<double>(least * least)),
          column(arena.take<double>(least)),
          inverse(arena.take<double>(most * least)) {}

    /// inverse <- (S' S + lambda^2)^-1 S' = S' (S S' + lambda^2)^-1, by the smaller of the two. The
    /// factor of the smaller one comes first, and turns the rows of `wide` on the way.
    void solve(const EndSystem& system, double ridge) const {
        const bool is_tall = system.rows() >= system.columns();
        system.fill(tall, !is_tall);
        system.fill(wide, is_tall);
        if (ridge == 0) {
            orthogonalise();
        } else {
            factor_regularised(ridge);
        }
        for (int64_t k = least - 1; k >= 0; --k) {
            scale(inverse_pivot(cholesky, least, k), wide + k * most);
            for (int64_t j = 0; j < k; ++j) {
                subtract(cholesky[k * least + j], wide + k * most, wide + j * most);
            }
        }
        for (int64_t i = 0; i < least; ++i) {
            for (int64_t j = 0; j < most; ++j) {
                inverse[is_tall ? i * most + j : j * least + i] = wide[i * most + j];
            }
        }
    }

  private:
    /// Cholesky factor L of the Gram matrix and lambda^2; wide <- L^-1 wide.
    void factor_regularised(double ridge) const {
        for (int64_t i = 0; i < least * least; ++i) {
            gram[i] = 0;
        }
        double size = 0;
        for (int64_t row = 0; row < most; ++row) {
            const double* u = tall + row * least;
            for (int64_t i = 0; i < least; ++i) {
                size += u[i] * u[i];
                for (int64_t j = 0; j <= i; ++j) {
                    gram[i * least + j] += u[i] * u[j];
                }
            }
        }
        for (int64_t i = 0; i < least; ++i) {
            gram[i * least + i] += ridge * ridge * size / static_cast<double>(least);
        }
        // Rows that vanish, those of weights that are all zero, get the solution 0.
        factor_dropping(gram, least, cholesky, dependence, column);
        for (int64_t k = 0; k < least; ++k) {
            for (int64_t j = 0; j < k; ++j) {
                subtract(cholesky[k * least + j], wide + j * most, wide + k * most);
            }
            scale(inverse_pivot(cholesky, least, k), wide + k * most);
        }
    }

    /// The same without lambda, whose Gram matrix would square the condition: orthonormal rows by
    /// Gram-Schmidt, twice. A row that depends on those before it gets the solution 0.
    void orthogonalise() const {
        for (int64_t k = 0; k < least; ++k) {
            double *row = wide + k * most, *factor = cholesky + k * least;
            const double size = norm(row);
            for (int64_t j = 0; j < least; ++j) {
                factor[j] = 0;
            }
            for (int pass = 0; pass < 2; ++pass) {
                for (int64_t j = 0; j < k; ++j) {
                    double along = 0;
                    for (int64_t i = 0; i < most; ++i) {
                        along += wide[j * most + i] * row[i];
                    }
                    subtract(along, wide + j * most, row);
                    factor[j] += along;
                }
            }
            const double left = norm(row);
            const bool depends = left <= static_cast<double>(most) * epsilon64 * size;
            factor[k] = depends ? infinity : left;
            scale(inverse_pivot(cholesky, least, k), row);
        }
    }
    double norm(const double* row) const {
        double sum = 0;
        for (int64_t i = 0; i < most; ++i) {
            sum += row[i] * row[i];
        }
        return __builtin_sqrt(sum);
    }
    void subtract(double factor, const double* from, double* to) const {
        for (int64_t j = 0; j < most; ++j) {
            to[j] -= factor * from[j];
        }
    }
    void scale(double factor, double* to) const {
        for (int64_t j = 0; j < most; ++j) {
            to[j] *= factor;
        }
    }
};

/// gain (2 (in + out), 2 in) of one mode.
void assemble(const EndSystem& system, const double* inverse, double* gain) {
    const int64_t in = system.in, out = system.out, parts = system.parts, rows = system.rows();
    const int64_t width = 2 * in * parts;
    for (int64_t i = 0; i < 2 * (in + out) * width; ++i) {
        gain[i] = 0;
    }
    // Columns of an end that is not corrected stay 0.
    const auto place = [&](int64_t end) { return system.which[end] * in * parts; };
    for (int64_t e = 0; e < system.count; ++e) {
        double* seen = gain + system.which[e] * in * width;
        double* answered = gain + (2 * in + system.which[e] * out) * width;
        for (int64_t o = 0; o < out; ++o) {
            for (int64_t f = 0; f < system.count; ++f) {
                // The first row of a complex number holds its two parts.
                const double* own = inverse + (e * out + o) * parts * rows + f * in * parts;
                for (int64_t j = 0; j < in * parts; ++j) {
                    answered[o * width + place(f) + j] = -own[j];
                }
                for (int64_t i = 0; i < in; ++i) {
                    for (int64_t part = 0; part < parts; ++part) {
                        const double d = system.block[0][(i * out + o) * parts + part];
                        const double* row = own + part * rows;
                        double* to = seen + i * width + place(f);
                        for (int64_t j = 0; j < in * parts; ++j) {
                            to[j] += d * row[j];
                        }
                    }
                }
            }
        }
    }
}

template <typename T>
std::size_t gains_of(const CorrectionGainArgs<T>& a, const Executor& executor, void* workspace) {
    Arena arena(workspace);
    const int64_t others = Normal(a.grid, a.axis).others, parts = a.grid.axes == 1 ? 1 : 2;
    const int64_t block = others * a.in * a.out * parts, slots = larger(executor.threads, 1);
    EndResponseArgs<T> response;
    response.grid = a.grid;
    response.axis = a.axis;
    response.in = a.in;
    response.out = a.out;
    response.weight = a.weight;
    response.response_out = arena.take<double>(3 * block);
    char* scratch = arena.take<char>(static_cast<int64_t>(respond(response, executor, nullptr)));
    EndSystem system = {};
    system.in = a.in;
    system.out = a.out;
    system.parts = parts;
    for (int64_t end = 0; end < 2; ++end) {
        if (a.ends[end]) {
            system.which[system.count++] = end;
        }
    }
    Arena one(nullptr);
    const EndSolver measured(one, system.rows(), system.columns());
    char* memory = arena.take<char>(slots * static_cast<int64_t>(one.used()));
    if (workspace == nullptr) {
        return arena.used();
    }
    respond(response, executor, scratch);
    run_indices(executor, others, [&](int64_t slot, int64_t q) {
        Arena own(memory + slot * static_cast<int64_t>(one.used()));
        const EndSolver solver(own, system.rows(), system.columns());
        EndSystem mine = system;
        for (int64_t b = 0; b < 3; ++b) {
            mine.block[b] = response.response_out + b * block + q * a.in * a.out * parts;
        }
        solver.solve(mine, a.ridge);
        assemble(mine, solver.inverse, a.gain_out + q * 4 * (a.in + a.out) * a.in * parts);
    });
    return arena.used();
}

}  // namespace

template <typename T>
std::size_t correction_gain_workspace(const CorrectionGainArgs<T>& args, const Executor& executor) {
    return gains_of(args, executor, nullptr);
}
template <typename T>
void correction_gain(const CorrectionGainArgs<T>& args, const Executor& executor, void* workspace) {
    gains_of(args, executor, workspace);
}

#define PHYSCON_INSTANTIATE(T)                                                                     \
    template std::size_t correction_gain_workspace(const CorrectionGainArgs<T>&, const Executor&); \
    template void correction_gain(const CorrectionGainArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
