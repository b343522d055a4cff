// SPDX-License-Identifier: Apache-2.0
// Lid-driven cavity: central fluxes of momentum on a staggered grid (Harlow and Welch 1965), SSP
// Runge-Kutta of order 3, every stage projected onto fields without divergence (Chorin 1968).
//
// The projection solves L phi = div u, L the five-point Laplacian with insulated walls: cosine
// transform along y as a product with its matrix, split into even and odd modes, and one
// tridiagonal system along x for every mode. Its residual is rounding, and so is the divergence.
#include "../fv.hpp"

#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

using Real = Vector<double>;

/// c (rows, columns) = a (rows, inner) b (inner, columns); columns a multiple of two vectors, rows
/// of a and c `pitch` apart, those of b `columns`.
void multiply(
    const double* a,
    const double* b,
    double* c,
    int64_t rows,
    int64_t inner,
    int64_t columns,
    int64_t a_pitch,
    int64_t c_pitch
) {
    constexpr int64_t height = 4;
    for (int64_t r = 0; r < rows; r += height) {
        // The last block repeats rows of the one before: results do not change.
        const int64_t first = smaller(r, larger<int64_t>(rows - height, 0));
        for (int64_t k = 0; k < columns; k += 2 * width<double>) {
            Real sum[height][2] = {};
            for (int64_t j = 0; j < inner; ++j) {
                const Real low = load(b + j * columns + k);
                const Real high = load(b + j * columns + k + width<double>);
                for (int64_t i = 0; i < height; ++i) {
                    const double factor = a[(first + i) * a_pitch + j];
                    sum[i][0] += factor * low;
                    sum[i][1] += factor * high;
                }
            }
            for (int64_t i = 0; i < height; ++i) {
                store(c + (first + i) * c_pitch + k, sum[i][0]);
                store(c + (first + i) * c_pitch + k + width<double>, sum[i][1]);
            }
        }
    }
}

/// Solves L phi = d with homogeneous Neumann ends; phi is fixed up to a constant.
class Poisson {
  public:
    Poisson(int64_t n, Arena& arena)
        : n_(n), half_(n / 2), columns_(round_up(n / 2, 2 * width<double>)), pitch_(2 * columns_) {
        for (int parity = 0; parity < 2; ++parity) {
            forward_[parity] = arena.take<double>(half_ * columns_);
            backward_[parity] = arena.take<double>(half_ * columns_);
        }
        pivots_ = arena.take<double>(n_ * pitch_);
        folded_ = arena.take<double>(n_ * pitch_);
        modes_ = arena.take<double>(n_ * pitch_);
    }
    void prepare() {
        const double pi = 3.14159265358979323846, size = static_cast<double>(n_);
        for (int parity = 0; parity < 2; ++parity) {
            for (int64_t i = 0; i < half_ * columns_; ++i) {
                forward_[parity][i] = backward_[parity][i] = 0;
            }
            for (int64_t m = 0; m < half_; ++m) {
                const double k = static_cast<double>(2 * m + parity);
                const double norm = k == 0 ? 1 / size : 2 / size;
                for (int64_t j = 0; j < half_; ++j) {
                    const double value =
                        __builtin_cos(pi * k * (static_cast<double>(j) + 0.5) / size);
                    forward_[parity][j * columns_ + m] = value;
                    backward_[parity][m * columns_ + j] = norm * value;
                }
            }
        }
        // Elimination of h^2 L for each mode: off-diagonals 1, diagonal -2 + mu (-1 + mu at ends).
        for (int64_t column = 0; column < pitch_; ++column) {
            const int parity = column < columns_ ? 0 : 1;
            const int64_t m = column - parity * columns_;
            const bool used = m < half_;
            const double k = used ? static_cast<double>(2 * m + parity) : 1;
            const double root = 2 * __builtin_sin(0.5 * pi * k / size), mu = -root * root;
            double pivot = 0;
            for (int64_t i = 0; i < n_; ++i) {
                const double diagonal = (i == 0 || i == n_ - 1 ? -1.0 : -2.0) + mu;
                // The constant mode is pinned: phi = 0 in its first row.
                pivot = i == 0 && k == 0 ? 0 : 1 / (diagonal - pivot);
                pivots_[i * pitch_ + column] = used ? pivot : 0;
            }
        }
    }
    /// phi <- solution of h^2 L phi = d, both (n, n).
    void solve(const double* d, double* phi) {
        for (int64_t i = 0; i < n_; ++i) {
            const double* row = d + i * n_;
            double *even = folded_ + i * pitch_, *odd = even + columns_;
            for (int64_t j = 0; j < half_; ++j) {
                even[j] = row[j] + row[n_ - 1 - j];
                odd[j] = row[j] - row[n_ - 1 - j];
            }
        }
        for (int parity = 0; parity < 2; ++parity) {
            const int64_t at = parity * columns_;
            multiply(
                folded_ + at, forward_[parity], modes_ + at, n_, half_, columns_, pitch_, pitch_
            );
        }
        for (int64_t k = 0; k < pitch_; k += width<double>) {
            Real before = {};
            for (int64_t i = 0; i < n_; ++i) {
                double* place = modes_ + i * pitch_ + k;
                before = (load(place) - before) * load(pivots_ + i * pitch_ + k);
                store(place, before);
            }
            for (int64_t i = n_ - 2; i >= 0; --i) {
                double* place = modes_ + i * pitch_ + k;
                before = load(place) - load(pivots_ + i * pitch_ + k) * before;
                store(place, before);
            }
        }
        for (int parity = 0; parity < 2; ++parity) {
            const int64_t at = parity * columns_;
            multiply(
                modes_ + at, backward_[parity], folded_ + at, n_, half_, columns_, pitch_, pitch_
            );
        }
        for (int64_t i = 0; i < n_; ++i) {
            double* row = phi + i * n_;
            const double *even = folded_ + i * pitch_, *odd = even + columns_;
            for (int64_t j = 0; j < half_; ++j) {
                row[j] = even[j] + odd[j];
                row[n_ - 1 - j] = even[j] - odd[j];
            }
        }
    }

  private:
    int64_t n_, half_, columns_, pitch_;
    double *forward_[2], *backward_[2], *pivots_, *folded_, *modes_;
};

/// Momentum fluxes without pressure: of u along x and v along y in cells, the others on vertices.
struct Momentum {
    double *uu, *uv, *vu, *vv;
};

class Flow {
  public:
    Flow(const CavityArgs& args, Arena& arena)
        : a_(args), n_(args.n), m_(args.n + 1), poisson_(args.n, arena) {
        const auto momentum = [&] {
            return Momentum{
                arena.take<double>(n_ * n_),
                arena.take<double>(m_ * m_),
                arena.take<double>(m_ * m_),
                arena.take<double>(n_ * n_)
            };
        };
        for (Momentum& x : rates_) {
            x = momentum();
        }
        sum_ = momentum();
        u_ = arena.take<double>(n_ * m_);
        v_ = arena.take<double>(n_ * m_);
        u_stage_ = arena.take<double>(n_ * m_);
        v_stage_ = arena.take<double>(n_ * m_);
        divergence_ = arena.take<double>(n_ * n_);
        phi_ = arena.take<double>(n_ * n_);
        pressure_ = arena.take<double>(n_ * n_);
    }

    void run(int64_t b) {
        nu_ = a_.viscosity[b];
        lid_ = a_.lid[b];
        dt_ = a_.dt[b];
        poisson_.prepare();
        for (int64_t i = 0; i < n_ * m_; ++i) {
            u_[i] = a_.u.item(b)[i];
            v_[i] = a_.v.item(b)[i];
        }
        clear(sum_);
        clear(rates_[0]);
        clear(rates_[1]);
        for (int64_t i = 0; i < n_ * n_; ++i) {
            pressure_[i] = 0;
        }
        for (int64_t step = 0; step < a_.steps[b]; ++step) {
            advance();
        }
        const int64_t cells = n_ * n_, vertices = m_ * m_;
        copy(u_, a_.u_out + b * n_ * m_, n_ * m_);
        copy(v_, a_.v_out + b * n_ * m_, n_ * m_);
        copy(pressure_, a_.pressure_out + b * cells, cells);
        copy(sum_.uu, a_.uu_out + b * cells, cells);
        copy(sum_.uv, a_.uv_out + b * vertices, vertices);
        copy(sum_.vu, a_.vu_out + b * vertices, vertices);
        copy(sum_.vv, a_.vv_out + b * cells, cells);
    }

  private:
    static void copy(const double* from, double* to, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            to[i] = from[i];
        }
    }
    void clear(Momentum& x) const {
        for (int64_t i = 0; i < n_ * n_; ++i) {
            x.uu[i] = x.vv[i] = 0;
        }
        for (int64_t i = 0; i < m_ * m_; ++i) {
            x.uv[i] = x.vu[i] = 0;
        }
    }

    /// Fluxes of the velocity (u, v). Slopes at walls: parabola through the wall and two points.
    void fluxes(const double* u, const double* v, Momentum& out) const {
        const double size = static_cast<double>(n_), rate = nu_ * size;  // nu / h
        for (int64_t i = 0; i < n_; ++i) {
            const double* __restrict left = u + i * n_, * __restrict right = left + n_;
            const double* __restrict column = v + i * m_;
            double* __restrict uu = out.uu + i * n_, * __restrict vv = out.vv + i * n_;
            for (int64_t j = 0; j < n_; ++j) {
                const double x = 0.5 * (left[j] + right[j]), y = 0.5 * (column[j] + column[j + 1]);
                uu[j] = x * x - rate * (right[j] - left[j]);
                vv[j] = y * y - rate * (column[j + 1] - column[j]);
            }
        }
        for (int64_t i = 1; i < n_; ++i) {
            const double* __restrict here = u + i * n_;
            const double* __restrict before = v + (i - 1) * m_, * __restrict after = before + m_;
            double* __restrict uv = out.uv + i * m_, * __restrict vu = out.vu + i * m_;
            for (int64_t j = 1; j < n_; ++j) {
                const double product = 0.25 * (here[j - 1] + here[j]) * (before[j] + after[j]);
                uv[j] = product - rate * (here[j] - here[j - 1]);
                vu[j] = product - rate * (after[j] - before[j]);
            }
            uv[0] = -rate * (9 * here[0] - here[1]) / 3;
            uv[n_] = -rate * (8 * lid_ - 9 * here[n_ - 1] + here[n_ - 2]) / 3;
        }
        const double *first = v, *last = v + (n_ - 1) * m_;
        for (int64_t j = 1; j < n_; ++j) {
            out.vu[j] = -rate * (9 * first[j] - first[j + m_]) / 3;
            out.vu[n_ * m_ + j] = rate * (9 * last[j] - last[j - m_]) / 3;
        }
    }
    /// (u, v) = (u_, v_) - scale / h * differences of the fluxes; walls stay.
    void apply(double scale, const Momentum& f, double* u, double* v) const {
        const double ratio = scale * static_cast<double>(n_);
        for (int64_t i = 0; i <= n_; ++i) {
            const bool wall = i == 0 || i == n_;
            for (int64_t j = 0; j < n_; ++j) {
                const int64_t at = i * n_ + j, vertex = i * m_ + j;
                u[at] = wall ? 0.0
                             : u_[at] - ratio * (f.uu[at] - f.uu[at - n_] + f.uv[vertex + 1] -
                                                 f.uv[vertex]);
            }
        }
        for (int64_t i = 0; i < n_; ++i) {
            v[i * m_] = v[i * m_ + n_] = 0;
            for (int64_t j = 1; j < n_; ++j) {
                const int64_t at = i * m_ + j, cell = i * n_ + j;
                v[at] = v_[at] - ratio * (f.vu[at + m_] - f.vu[at] + f.vv[cell] - f.vv[cell - 1]);
            }
        }
    }
    /// Removes the divergence of (u, v): u -= differences of phi, h^2 L phi = h^2 div u / h.
    void project(double* u, double* v) {
        for (int64_t i = 0; i < n_; ++i) {
            for (int64_t j = 0; j < n_; ++j) {
                const int64_t at = i * n_ + j, column = i * m_ + j;
                divergence_[at] = u[at + n_] - u[at] + v[column + 1] - v[column];
            }
        }
        poisson_.solve(divergence_, phi_);
        for (int64_t i = 1; i < n_; ++i) {
            for (int64_t j = 0; j < n_; ++j) {
                u[i * n_ + j] -= phi_[i * n_ + j] - phi_[(i - 1) * n_ + j];
            }
        }
        for (int64_t i = 0; i < n_; ++i) {
            for (int64_t j = 1; j < n_; ++j) {
                v[i * m_ + j] -= phi_[i * n_ + j] - phi_[i * n_ + j - 1];
            }
        }
    }
    void blend(double a, Momentum& out, double b, const Momentum& in) const {
        for (int64_t i = 0; i < n_ * n_; ++i) {
            out.uu[i] = a * out.uu[i] + b * in.uu[i];
            out.vv[i] = a * out.vv[i] + b * in.vv[i];
        }
        for (int64_t i = 0; i < m_ * m_; ++i) {
            out.uv[i] = a * out.uv[i] + b * in.uv[i];
            out.vu[i] = a * out.vu[i] + b * in.vu[i];
        }
    }
    void advance() {
        Momentum &g = rates_[0], &f = rates_[1];
        fluxes(u_, v_, g);
        apply(dt_, g, u_stage_, v_stage_);
        project(u_stage_, v_stage_);
        fluxes(u_stage_, v_stage_, f);
        blend(1, g, 1, f);
        apply(0.25 * dt_, g, u_stage_, v_stage_);
        project(u_stage_, v_stage_);
        fluxes(u_stage_, v_stage_, f);
        blend(1.0 / 6, g, 2.0 / 3, f);
        apply(dt_, g, u_, v_);
        project(u_, v_);
        blend(1, sum_, dt_, g);
        // u loses dt/h times the differences of the pressure: phi = p dt / h.
        const double h = 1 / static_cast<double>(n_);
        for (int64_t i = 0; i < n_ * n_; ++i) {
            pressure_[i] += h * phi_[i];
        }
    }

    const CavityArgs& a_;
    int64_t n_, m_;
    Poisson poisson_;
    Momentum rates_[2], sum_;
    double *u_, *v_, *u_stage_, *v_stage_, *divergence_, *phi_, *pressure_;
    double nu_ = 0, lid_ = 0, dt_ = 0;
};

}  // namespace

std::size_t cavity_workspace(const CavityArgs& args, const Executor& executor) {
    Arena arena(nullptr);
    Flow flow(args, arena);
    const int64_t slots = larger<int64_t>(1, smaller<int64_t>(executor.threads, args.batch));
    return arena.used() * static_cast<std::size_t>(slots);
}

void cavity(const CavityArgs& args, const Executor& executor, void* workspace) {
    Arena measure(nullptr);
    Flow unused(args, measure);
    run_indices(executor, args.batch, [&](int64_t slot, int64_t b) {
        Arena arena(
            static_cast<char*>(workspace) + static_cast<std::size_t>(slot) * measure.used()
        );
        Flow flow(args, arena);
        flow.run(b);
    });
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
