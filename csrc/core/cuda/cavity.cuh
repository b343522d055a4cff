// SPDX-License-Identifier: Apache-2.0
// Lid-driven cavity: a block takes one flow through all its steps in a single launch. The method is
// that of the CPU: central fluxes on a staggered grid (Harlow and Welch 1965), SSP Runge-Kutta of
// order 3, every stage projected (Chorin 1968) by a cosine transform along y, even and odd modes
// apart, and one tridiagonal system along x for every mode. Passes over the points with a barrier
// between them; no thread reads what another writes in the same pass.
#pragma once

#include "../fv.hpp"
#include "device.cuh"

namespace physcon::cuda {

constexpr int cavity_threads = 384;  // as many as leave each the registers it wants
constexpr int cavity_rows = 4;       // rows of a product that a thread sums at once

/// Doubles of the two arrays that the projection passes to and fro, per flow.
__host__ __device__ constexpr int64_t cavity_exchange(int64_t n) {
    return 2 * n * n;
}
/// Doubles of the others: transforms, pivots, rates in cells and on vertices, stages, potential.
__host__ __device__ constexpr int64_t cavity_doubles(int64_t n) {
    return 4 * n * n + 2 * (n + 1) * (n + 1) + 2 * n * (n + 1);
}

class CavityFlow {
  public:
    __device__ CavityFlow(
        const CavityArgs& args, const BlockTeam& block, int64_t item, double* memory, double* pair
    )
        : team(block),
          n(args.n),
          m(args.n + 1),
          half(args.n / 2),
          nu(args.viscosity[item]),
          lid(args.lid[item]),
          dt(args.dt[item]),
          steps(args.steps[item]),
          u(args.u_out + item * n * m),
          v(args.v_out + item * n * m),
          pressure(args.pressure_out + item * n * n),
          sum_uu(args.uu_out + item * n * n),
          sum_uv(args.uv_out + item * m * m),
          sum_vu(args.vu_out + item * m * m),
          sum_vv(args.vv_out + item * n * n),
          folded(pair),
          modes(pair + n * n) {
        const auto take = [&](int64_t count) {
            double* piece = memory;
            memory += count;
            return piece;
        };
        forward = take(n * half);
        backward = take(n * half);
        pivots = take(n * n);
        uu = take(n * n);
        vv = take(n * n);
        uv = take(m * m);
        vu = take(m * m);
        u_stage = take(n * m);
        v_stage = take(n * m);
        phi = modes;  // which the projection has read by the time it writes the potential
        const double *u_in = args.u.item(item), *v_in = args.v.item(item);
        each(n * m, [&](int64_t i) {
            u[i] = u_in[i];
            v[i] = v_in[i];
        });
        each(n * n, [&](int64_t i) { pressure[i] = sum_uu[i] = sum_vv[i] = 0; });
        each(m * m, [&](int64_t i) { sum_uv[i] = sum_vu[i] = 0; });
        prepare();
        team.sync();
    }

    __device__ void run() {
        for (int64_t step = 0; step < steps; ++step) {
            // Rates g of the step: g1, then g1 + g2, then (g1 + g2 + 4 g3) / 6.
            rates(u, v, 0, 1);
            stage(dt, u_stage, v_stage);
            rates(u_stage, v_stage, 1, 1);
            stage(0.25 * dt, u_stage, v_stage);
            rates(u_stage, v_stage, 1.0 / 6, 2.0 / 3);
            stage(dt, u, v);
            const double h = 1 / static_cast<double>(n);
            each(n * n, [&](int64_t i) {
                sum_uu[i] += dt * uu[i];
                sum_vv[i] += dt * vv[i];
                // u loses dt/h times the differences of the pressure: phi = p dt / h.
                pressure[i] += h * phi[i];
            });
            each(m * m, [&](int64_t i) {
                sum_uv[i] += dt * uv[i];
                sum_vu[i] += dt * vu[i];
            });
            team.sync();
        }
    }

  private:
    template <typename Body>
    __device__ void each(int64_t count, const Body& body) const {
        for (int64_t i = team.rank(); i < count; i += team.size()) {
            body(i);
        }
    }

    /// Transforms of even and of odd modes, and the elimination of h^2 L for each mode: off the
    /// diagonal 1, on it -2 + mu (-1 + mu at the ends).
    __device__ void prepare() {
        const double size = static_cast<double>(n);
        each(n * half, [&](int64_t e) {
            const int64_t parity = e / (half * half), j = e / half % half, k = e % half;
            const double mode = static_cast<double>(2 * k + parity);
            const double value = cospi(mode * (static_cast<double>(j) + 0.5) / size);
            forward[e] = value;
            backward[(parity * half + k) * half + j] = (mode == 0 ? 1 : 2) / size * value;
        });
        each(n, [&](int64_t column) {
            const int64_t parity = column / half;
            const double mode = static_cast<double>(2 * (column % half) + parity);
            const double root = 2 * sinpi(0.5 * mode / size), mu = -root * root;
            double pivot = 0;
            for (int64_t i = 0; i < n; ++i) {
                const double diagonal = (i == 0 || i == n - 1 ? -1.0 : -2.0) + mu;
                // The constant mode is pinned: phi = 0 in its first row.
                pivot = i == 0 && mode == 0 ? 0 : 1 / (diagonal - pivot);
                pivots[i * n + column] = pivot;
            }
        });
    }

    /// rates <- old * rates + scale * fluxes of (x, y), without pressure: of u along x and of v
    /// along y in cells, the others on vertices. Slopes at walls: parabola through the wall and two
    /// points.
    __device__ void rates(const double* x, const double* y, double old, double scale) {
        const double rate = nu * static_cast<double>(n);  // nu / h
        const auto blend = [&](double& place, double value) {
            place = old == 0 ? scale * value : old * place + scale * value;
        };
        each(n * n, [&](int64_t e) {
            const int64_t i = e / n, j = e % n, at = i * m + j;
            const double left = x[e], right = x[e + n], low = y[at], high = y[at + 1];
            const double a = 0.5 * (left + right), b = 0.5 * (low + high);
            blend(uu[e], a * a - rate * (right - left));
            blend(vv[e], b * b - rate * (high - low));
        });
        each(m * m, [&](int64_t e) {
            const int64_t i = e / m, j = e % m;
            const double* here = x + i * n;
            double of_u = 0, of_v = 0;
            if (i > 0 && i < n) {
                if (j == 0) {
                    of_u = -rate * (9 * here[0] - here[1]) / 3;
                } else if (j == n) {
                    of_u = -rate * (8 * lid - 9 * here[n - 1] + here[n - 2]) / 3;
                } else {
                    const double before = y[(i - 1) * m + j], after = y[i * m + j];
                    const double product = 0.25 * (here[j - 1] + here[j]) * (before + after);
                    of_u = product - rate * (here[j] - here[j - 1]);
                    of_v = product - rate * (after - before);
                }
            } else if (j > 0 && j < n) {
                const double wall = i == 0 ? -rate : rate;
                const double *near = y + (i == 0 ? 0 : n - 1) * m,
                             *next = i == 0 ? near + m : near - m;
                of_v = wall * (9 * near[j] - next[j]) / 3;
            }
            blend(uv[e], of_u);
            blend(vu[e], of_v);
        });
        team.sync();
    }

    /// (x, y) <- projection of (u, v) - scale / h * differences of the rates.
    __device__ void stage(double scale, double* x, double* y) {
        const double ratio = scale * static_cast<double>(n);
        each(n * m, [&](int64_t e) {
            const int64_t i = e / n, j = e % n, vertex = i * m + j;
            const bool wall = i == 0 || i == n;
            x[e] = wall ? 0.0 : u[e] - ratio * (uu[e] - uu[e - n] + uv[vertex + 1] - uv[vertex]);
        });
        each(n * m, [&](int64_t e) {
            const int64_t i = e / m, j = e % m, cell = i * n + j;
            const bool wall = j == 0 || j == n;
            y[e] = wall ? 0.0 : v[e] - ratio * (vu[e + m] - vu[e] + vv[cell] - vv[cell - 1]);
        });
        team.sync();
        const auto divergence = [&](int64_t i, int64_t j) {
            const int64_t at = i * n + j, column = i * m + j;
            return x[at + n] - x[at] + y[column + 1] - y[column];
        };
        each(n * half, [&](int64_t e) {
            const int64_t i = e / half, j = e % half;
            const double low = divergence(i, j), high = divergence(i, n - 1 - j);
            folded[i * n + j] = low + high;
            folded[i * n + half + j] = low - high;
        });
        team.sync();
        multiply(folded, forward, modes);
        team.sync();
        each(n, [&](int64_t column) {
            double before = 0;
            for (int64_t i = 0; i < n; ++i) {
                double& place = modes[i * n + column];
                before = place = (place - before) * pivots[i * n + column];
            }
            for (int64_t i = n - 2; i >= 0; --i) {
                double& place = modes[i * n + column];
                before = place = place - pivots[i * n + column] * before;
            }
        });
        team.sync();
        multiply(modes, backward, folded);
        team.sync();
        each(n * half, [&](int64_t e) {
            const int64_t i = e / half, j = e % half;
            const double even = folded[i * n + j], odd = folded[i * n + half + j];
            phi[i * n + j] = even + odd;
            phi[i * n + n - 1 - j] = even - odd;
        });
        team.sync();
        each(n * m, [&](int64_t e) {
            if (e >= n && e < n * n) {
                x[e] -= phi[e] - phi[e - n];
            }
            const int64_t i = e / m, j = e % m, cell = i * n + j;
            if (j > 0 && j < n) {
                y[e] -= phi[cell] - phi[cell - 1];
            }
        });
        team.sync();
    }

    /// out = in times a matrix for each parity; rows of in and out hold both halves.
    __device__ void multiply(const double* in, const double* matrix, double* out) const {
        const int64_t groups = (n + cavity_rows - 1) / cavity_rows;
        each(groups * n, [&](int64_t e) {
            const int64_t first = e / n * cavity_rows, column = e % n;
            const int64_t parity = column / half;
            const double* right = matrix + parity * half * half + column % half;
            const double* left[cavity_rows];
            double sum[cavity_rows] = {};
#pragma unroll
            for (int i = 0; i < cavity_rows; ++i) {
                left[i] = in + smaller(first + i, n - 1) * n + parity * half;
            }
            for (int64_t j = 0; j < half; ++j) {
                const double factor = right[j * half];
#pragma unroll
                for (int i = 0; i < cavity_rows; ++i) {
                    sum[i] += left[i][j] * factor;
                }
            }
#pragma unroll
            for (int i = 0; i < cavity_rows; ++i) {
                if (first + i < n) {
                    out[(first + i) * n + column] = sum[i];
                }
            }
        });
    }

    const BlockTeam& team;
    int64_t n, m, half;
    double nu, lid, dt;
    int64_t steps;
    double *u, *v, *pressure, *sum_uu, *sum_uv, *sum_vu, *sum_vv;
    double *folded, *modes, *phi;
    double *forward, *backward, *pivots, *uu, *vv, *uv, *vu, *u_stage, *v_stage;
};

/// A flow per block, one after the other. The exchange is in shared memory or in the workspace.
template <bool in_shared>
__global__ void __launch_bounds__(cavity_threads, 1) cavity_kernel(
    const __grid_constant__ CavityArgs a, double* workspace
) {
    double* shared = shared_memory();
    const BlockTeam team{shared};
    const int64_t mine = cavity_doubles(a.n) + (in_shared ? 0 : cavity_exchange(a.n));
    double* memory = workspace + blockIdx.x * mine;
    double* pair = in_shared ? shared : memory + cavity_doubles(a.n);
    for (int64_t item = blockIdx.x; item < a.batch; item += gridDim.x) {
        CavityFlow flow(a, team, item, memory, pair);
        flow.run();
        team.sync();  // the next flow overwrites the workspace
    }
}

}  // namespace physcon::cuda
