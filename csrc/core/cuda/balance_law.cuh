// SPDX-License-Identifier: Apache-2.0
// Finite-volume steps: a block takes one item through all its steps in a single launch. Stages are
// three passes with a barrier between them: ghost cells and coefficients, fluxes through the faces
// and what follows from them face by face, cells. The formulas are those of the CPU.
#pragma once

#include "device.cuh"

#ifndef PHYSCON_ISA_NAMESPACE
#define PHYSCON_ISA_NAMESPACE cuda
#endif

namespace physcon::cuda {
template <typename T>
__device__ inline T absolute(T x) {
    return fabs(x);
}
}  // namespace physcon::cuda

#include "../fv_stencil.hpp"

namespace physcon::cuda {

constexpr int balance_threads = 256;
constexpr int64_t ghost_cells = 3;  // beyond an edge, which WENO5 reads
constexpr int newton_limit = 60;
constexpr int scratch_doubles = 3 * warp_size;

/// Where the arrays of an item are. Cells (row, i) sit at origin + row * pitch + i. Fluxes of the
/// inner axis come first, then those of the outer one, then the amplitudes of the sources: all that
/// changes cells.
struct BalanceLayout {
    int64_t rows, n, pitch, cells, origin, inner, faces, values;
    __host__ __device__ explicit BalanceLayout(const BalanceLawArgs& a)
        : rows(a.rows),
          n(a.n),
          pitch(a.n + 2 * ghost_cells),
          cells((a.rows + (a.planar ? 2 * ghost_cells : 0)) * (a.n + 2 * ghost_cells)),
          origin((a.planar ? ghost_cells * (a.n + 2 * ghost_cells) : 0) + ghost_cells),
          inner(a.rows * (a.n + 1)),
          faces(a.rows * (a.n + 1) + (a.planar ? (a.rows + 1) * a.n : 0)),
          values(faces + a.terms) {}
};
__host__ __device__ inline bool is_implicit(const BalanceLawArgs& a) {
    return a.integrator == Integrator::backward_euler || a.integrator == Integrator::tr_bdf2;
}
constexpr int64_t newton_arrays = 11;
/// Doubles of memory for one item.
__host__ __device__ inline int64_t balance_doubles(const BalanceLawArgs& a) {
    const BalanceLayout l(a);
    return l.cells * (a.integrator == Integrator::verlet ? 6 : 4) +
           l.values * (a.integrator == Integrator::rkl2 ? 6 : 4) +
           (is_implicit(a) ? newton_arrays * a.n : 0);
}

/// max(x, 0)^exponent for exponent > 0; 0 where x is subnormal.
__device__ inline double positive_power(double x, double exponent) {
    if (!(x > 2.3e-308)) {
        return 0;
    }
    if (exponent >= 1 && exponent <= 64 &&
        exponent == static_cast<double>(static_cast<int>(exponent))) {
        double result = 1, square = x;
        for (int bits = static_cast<int>(exponent); bits > 0; bits >>= 1) {
            if ((bits & 1) != 0) {
                result *= square;
            }
            square *= square;
        }
        return result > 2.3e-308 ? result : 0.0;
    }
    const double result = pow(x, exponent);
    return result > 2.3e-308 ? result : 0.0;
}

/// k(u) and its primitive K(u) = int_0^u k.
struct DeviceCoefficient {
    Diffusivity kind;
    double first, second;
    __device__ double value(double u) const {
        if (kind == Diffusivity::power) {
            return positive_power(u, first);
        }
        return kind == Diffusivity::threshold && !(u >= second) ? 0.0 : first;
    }
    __device__ double primitive(double u) const {
        if (kind == Diffusivity::power) {
            return u * positive_power(u, first) / (first + 1);
        }
        return first * (kind == Diffusivity::threshold ? most(u - second, 0.0) : u);
    }
};

/// The largest of the values of all threads, in every thread; NaN counts as nothing.
__device__ inline void block_largest(const BlockTeam& team, double (&value)[3]) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        for (int step = warp_size / 2; step > 0; step /= 2) {
            value[i] = larger(value[i], __shfl_xor_sync(all_lanes, value[i], step));
        }
    }
    team.sync();  // the previous values have been read
    if (team.rank() % warp_size == 0) {
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            team.scratch[i * warp_size + team.rank() / warp_size] = value[i];
        }
    }
    team.sync();
    for (int warp = 0; warp < team.size() / warp_size; ++warp) {
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            value[i] = larger(value[i], team.scratch[i * warp_size + warp]);
        }
    }
}

class BalanceMarch {
  public:
    __device__ BalanceMarch(
        const BalanceLawArgs& args, const BlockTeam& t, int64_t place, double* memory
    )
        : a(args),
          team(t),
          item(place),
          l(args),
          k{args.diffusivity,
            args.diffusivity == Diffusivity::none ? 0.0 : args.diffusion.item(item)[0],
            args.diffusivity == Diffusivity::threshold ? args.diffusion.item(item)[1] : 0.0},
          integral(args.average == FaceAverage::integral || args.average == FaceAverage::shock) {
        double* next = memory;
        const auto take = [&](int64_t count) {
            double* piece = next;
            next += count;
            return piece;
        };
        u = take(l.cells) + l.origin;
        low = take(l.cells) + l.origin;
        v = take(l.cells) + l.origin;
        coefficient = take(l.cells) + l.origin;
        const bool verlet = a.integrator == Integrator::verlet;
        w = verlet ? take(l.cells) + l.origin : nullptr;
        w_low = verlet ? take(l.cells) + l.origin : nullptr;
        now = take(l.values);
        rate = take(l.values);
        sum = take(l.values);
        rest = take(l.values);
        older = a.integrator == Integrator::rkl2 ? take(l.values) : nullptr;
        first = a.integrator == Integrator::rkl2 ? take(l.values) : nullptr;
        bands = next;
    }

    __device__ void run(bool readable) {
        dt = a.dt[item];
        read();
        const int64_t steps = readable ? a.steps[item] : 0;
        for (int64_t step = 0; step < steps; ++step) {
            advance(step);
        }
        write(readable);
    }

  private:
    static constexpr double bdf_node() {
        return 0.29289321881345247560;  // 1 - sqrt(1/2)
    }
    static constexpr double bdf_weight() {
        return 0.35355339059327376220;  // sqrt(1/8)
    }

    /// body(cell, place): every cell of the item by its position in rows * n and in the arrays.
    template <typename Body>
    __device__ void each_cell(const Body& body) const {
        for (int64_t c = team.rank(); c < l.rows * l.n; c += team.size()) {
            body(c, c / l.n * l.pitch + c % l.n);
        }
    }
    template <typename Body>
    __device__ void each_value(const Body& body) const {
        for (int64_t f = team.rank(); f < l.values; f += team.size()) {
            body(f);
        }
    }

    __device__ void read() {
        const int64_t size = l.rows * l.n;
        const double* state = a.state.item(item);
        each_cell([&](int64_t c, int64_t at) {
            u[at] = state[c];
            low[at] = state[size + c];
            if (w != nullptr) {
                w[at] = state[2 * size + c];
                w_low[at] = state[3 * size + c];
            }
        });
        each_value([&](int64_t f) { sum[f] = rest[f] = 0; });
    }
    /// A thread stores what it has written itself.
    __device__ void write(bool readable) {
        const double nan = not_a_number();
        const int64_t size = l.rows * l.n, b = item;
        double* out = a.state_out + b * a.fields() * 2 * size;
        each_cell([&](int64_t c, int64_t at) {
            out[c] = readable ? u[at] : nan;
            out[size + c] = readable ? low[at] : nan;
            if (w != nullptr) {
                out[2 * size + c] = readable ? w[at] : nan;
                out[3 * size + c] = readable ? w_low[at] : nan;
            }
        });
        each_value([&](int64_t f) {
            const double value = readable ? sum[f] : nan;
            if (f < l.inner) {
                a.inner_flux_out[b * l.inner + f] = value;
            } else if (f < l.faces) {
                a.outer_flux_out[b * (l.faces - l.inner) + f - l.inner] = value;
            } else {
                a.source_out[b * a.terms + f - l.faces] = value + rest[f];
            }
        });
        if (team.rank() == 0) {
            a.info_out[b] = readable ? failures : -1;
        }
    }

    // Edges. Places: inner low, inner high, outer low, outer high.

    __device__ double edge_data(int place, int64_t step, int64_t stage, int64_t j) const {
        const Edge& e = a.edges[place];
        return has_data(e) ? e.at(item, step, stage, j) : 0.0;
    }
    __device__ void fill_ghosts(double* x, int64_t step, int64_t stage) const {
        const bool diffusive = a.diffusivity != Diffusivity::none;
        const int64_t lines = 2 * l.rows, all = lines + (a.planar ? 2 * l.n : 0);
        for (int64_t line = team.rank(); line < all; line += team.size()) {
            const bool outer = line >= lines, high = line % 2 == 1;
            const int place = (outer ? 2 : 0) + (high ? 1 : 0);
            const int64_t j = (outer ? line - lines : line) / 2;
            const int64_t stride = outer ? l.pitch : 1, count = outer ? l.rows : l.n;
            double* base = x + (outer ? j : j * l.pitch);
            double* cell = high ? base + (count - 1) * stride : base;
            const double* opposite = high ? base : base + (count - 1) * stride;
            const int64_t inward = high ? -stride : stride;
            const Edge& e = a.edges[place];
            const double h = outer ? a.outer_spacing : a.inner_spacing;
            const double g = edge_data(place, step, stage, j);
            const double face = edge_value(e, g, cell[0], cell[inward], h);
            for (int64_t i = 1; i <= ghost_cells; ++i) {
                cell[-i * inward] = ghost_value(
                    e.kind,
                    diffusive,
                    face,
                    cell[0],
                    cell[(i - 1) * inward],
                    opposite[-(i - 1) * inward]
                );
            }
        }
    }

    // Fluxes.

    template <Transport transport>
    __device__ double transported(const double* cells, int64_t stride, bool backward) const {
        const auto cell = [=](int64_t i) { return cells[i * stride]; };
        switch (a.reconstruction) {
            case Reconstruction::minmod:
                return face_flux<transport, Reconstruction::minmod, double>(cell, backward);
            case Reconstruction::van_leer:
                return face_flux<transport, Reconstruction::van_leer, double>(cell, backward);
            case Reconstruction::mc:
                return face_flux<transport, Reconstruction::mc, double>(cell, backward);
            case Reconstruction::weno5:
                return face_flux<transport, Reconstruction::weno5, double>(cell, backward);
            default:
                return face_flux<transport, Reconstruction::godunov, double>(cell, backward);
        }
    }
    __device__ double drop(double left, double right, double u_left, double u_right) const {
        switch (a.average) {
            case FaceAverage::arithmetic:
                return face_drop<FaceAverage::arithmetic>(left, right, u_left, u_right);
            case FaceAverage::harmonic:
                return face_drop<FaceAverage::harmonic>(left, right, u_left, u_right);
            case FaceAverage::modified:
                return face_drop<FaceAverage::modified>(left, right, u_left, u_right);
            default:
                return face_drop<FaceAverage::integral>(left, right, u_left, u_right);
        }
    }

    /// Flux through face i of line j: between cells i - 1 and i of it.
    __device__ double flux(
        const double* x, bool outer, int64_t j, int64_t i, int64_t step, int64_t stage
    ) const {
        const bool diffusive = a.diffusivity != Diffusivity::none;
        const int64_t stride = outer ? l.pitch : 1, count = outer ? l.rows : l.n;
        const int64_t line = outer ? j : j * l.pitch, at = line + i * stride;
        const double h = outer ? a.outer_spacing : a.inner_spacing, inverse = 1 / h;
        double speed = 0, result = 0;
        if (a.transport != Transport::none) {
            speed = a.speed.item(item)[outer ? 1 : 0];
            const double factor = strength(a.transport, speed);
            result = a.transport == Transport::burgers
                         ? transported<Transport::burgers>(x + at, stride, factor < 0)
                         : transported<Transport::linear>(x + at, stride, factor < 0);
            result *= factor;
        }
        if (i > 0 && i < count) {
            if (diffusive) {
                const int64_t before = at - stride;
                result += inverse * drop(coefficient[before], coefficient[at], x[before], x[at]);
            }
            return result;
        }
        const bool high = i == count;
        const int place = (outer ? 2 : 0) + (high ? 1 : 0);
        const Edge& e = a.edges[place];
        if (e.kind == EdgeKind::flux) {
            return edge_data(place, step, stage, j);
        }
        if (!diffusive || e.kind == EdgeKind::outflow) {
            return result;
        }
        if (e.kind == EdgeKind::periodic) {
            const int64_t left = line + (count - 1) * stride;
            return result + inverse * drop(coefficient[left], coefficient[line], x[left], x[line]);
        }
        const int64_t cell = high ? at - stride : at, inward = high ? -stride : stride;
        const double g = edge_data(place, step, stage, j), u0 = x[cell], u1 = x[cell + inward];
        const double value = edge_value(e, g, u0, u1, h);
        // With diffusion the value on the face is known, and so is what it transports.
        return known_transport(a.transport, speed, value) +
               (high ? 1.0 : -1.0) * outward_diffusion(k, e, g, value, u0, u1, h);
    }

    /// now <- fluxes and amplitudes of the cells x. Begins with a barrier; a thread has written the
    /// values that each_value gives it.
    __device__ void rates(double* x, int64_t step, int64_t stage) {
        team.sync();
        if (a.transport != Transport::none) {
            fill_ghosts(x, step, stage);
        }
        if (a.diffusivity != Diffusivity::none) {
            each_cell([&](int64_t, int64_t at) {
                coefficient[at] = integral ? k.primitive(x[at]) : k.value(x[at]);
            });
        }
        const bool shock = a.average == FaceAverage::shock;
        double theta = 0;
        const double g = shock ? edge_data(0, step, stage, 0) : 0.0;
        const bool fixed = a.edges[0].kind == EdgeKind::value;
        if (shock) {  // every thread looks for the front, which rarely moves
            for (; front < l.n; ++front) {
                theta = front == 0 ? first_front_share(k.second, fixed, g, x[0])
                                   : front_share(k.second, x[front - 1], x[front]);
                if (theta < 1) {
                    break;
                }
            }
        }
        team.sync();
        each_value([&](int64_t f) {
            if (f >= l.faces) {
                now[f] = a.amplitudes.at(item, step, stage, f - l.faces);
                return;
            }
            const bool outer = f >= l.inner;
            const int64_t j = outer ? (f - l.inner) % l.n : f / (l.n + 1);
            const int64_t i = outer ? (f - l.inner) / l.n : f % (l.n + 1);
            double value = flux(x, outer, j, i, step, stage);
            // Behind the front nothing flows; at it, a line from the last centre to the threshold.
            if (shock && front < l.n && i >= front) {
                if (i > front) {
                    value = 0;
                } else if (front > 0) {
                    value = k.first * (x[front - 1] - k.second) / ((0.5 + theta) * a.inner_spacing);
                } else if (fixed) {
                    value = first_front_flux(k.first, k.second, g, theta, a.inner_spacing, dt);
                }
            }
            now[f] = value;
        });
    }

    /// Time derivative of cell c for the rates r.
    __device__ double change(const double* r, int64_t c) const {
        const int64_t row = c / l.n, i = c % l.n;
        const double* face = r + row * (l.n + 1) + i;
        double result = (face[0] - face[1]) / a.inner_spacing;
        if (a.planar) {
            const double* across = r + l.inner + c;
            result += (across[0] - across[l.n]) / a.outer_spacing;
        }
        const double* shape = a.terms == 0 ? nullptr : a.shapes.item(item) + c;
        for (int64_t t = 0; t < a.terms; ++t) {
            result += r[l.faces + t] * shape[t * l.rows * l.n];
        }
        return result;
    }

    // Steps.

    __device__ void advance(int64_t step) {
        const bool verlet = a.integrator == Integrator::verlet;
        bool newton = a.integrator == Integrator::backward_euler;
        int64_t stage = 0;
        double implicit_part = dt;  // c of v = target + c M(v)
        int iteration = 0;
        double* x = newton ? v : u;
        if (newton) {
            team.sync();
            each_cell([&](int64_t c, int64_t at) { v[at] = bands[c] = u[at]; });
        }
        if (verlet && step > 0) {  // the rates at the end of a step begin the next one
            kick();
            drift();
            stage = 1;
        }
        while (true) {
            rates(x, step, stage);
            if (newton) {
                if (!newton_done(implicit_part, step, stage, iteration)) {
                    ++iteration;
                    continue;
                }
                newton = false;
                iteration = 0;
            }
            if (verlet) {
                each_value([&](int64_t f) { rate[f] = now[f]; });
                kick();
                if (stage == 1) {
                    return;
                }
                drift();
                stage = 1;
                continue;
            }
            const bool last = stage + 1 == a.stages;
            blend(stage, last);
            team.sync();
            if (last) {
                each_cell([&](int64_t c, int64_t at) {
                    add_exactly(u[at], low[at], dt * change(rate, c));
                });
                return;
            }
            const bool implicit = a.integrator == Integrator::tr_bdf2;
            double scale = dt;
            if (implicit && stage == 0) {
                scale = bdf_node() * dt;
            } else if (a.integrator == Integrator::ssprk3 && stage == 1) {
                scale = 0.25 * dt;
            }
            each_cell([&](int64_t c, int64_t at) {
                v[at] = u[at] + scale * change(rate, c);
                if (implicit) {
                    bands[c] = v[at];
                }
            });
            x = v;
            newton = implicit;
            implicit_part = bdf_node() * dt;
            ++stage;
        }
    }

    /// rate <- what the stage makes of it and of `now`; the last one adds it to the integrals.
    __device__ void blend(int64_t stage, bool last) {
        double from = 0, by = 1, second = 0, own = 0;
        const bool legendre = a.integrator == Integrator::rkl2;
        if (a.integrator == Integrator::ssprk2 && stage == 1) {
            from = by = 0.5;
        } else if (a.integrator == Integrator::ssprk3) {
            from = stage == 0 ? 0 : stage == 1 ? 1 : 1.0 / 6;
            by = stage == 2 ? 2.0 / 3 : 1;
        } else if (a.integrator == Integrator::tr_bdf2 && stage > 0) {
            from = stage == 1 ? bdf_weight() : 1;
            by = stage == 1 ? bdf_weight() : bdf_node();
        } else if (legendre) {
            // R_j = mu R_{j-1} + nu R_{j-2} + m M(Y_{j-1}) + c M(Y_0), j = stage + 1.
            const auto b = [](int64_t index) {
                const double y = static_cast<double>(index < 2 ? 2 : index);
                return (y * y + y - 2) / (2 * y * (y + 1));
            };
            const double s = static_cast<double>(a.stages), width = 4.0 / (s * s + s - 2);
            const int64_t j = stage + 1;
            const double y = static_cast<double>(j);
            if (stage == 0) {
                by = b(1) * width;
            } else {
                from = (2 * y - 1) / y * b(j) / b(j - 1);
                second = -(y - 1) / y * b(j) / b(j - 2);
                by = from * width;
                own = -(1 - b(j - 1)) * by;
            }
        }
        each_value([&](int64_t f) {
            double value = by * now[f];
            if (from != 0) {
                value += from * rate[f];
            }
            if (legendre) {
                if (stage == 0) {
                    first[f] = now[f];
                    older[f] = 0;
                } else {
                    value += second * older[f] + own * first[f];
                    older[f] = rate[f];
                }
            }
            rate[f] = value;
            if (last) {
                add_exactly(sum[f], rest[f], dt * value);
            }
        });
    }

    /// Half a step of the velocity, and of the integrals. Begins with a barrier.
    __device__ void kick() {
        team.sync();
        each_value([&](int64_t f) { add_exactly(sum[f], rest[f], 0.5 * dt * rate[f]); });
        each_cell([&](int64_t c, int64_t at) {
            add_exactly(w[at], w_low[at], 0.5 * dt * change(rate, c));
        });
    }
    __device__ void drift() {
        each_cell([&](int64_t, int64_t at) { add_exactly(u[at], low[at], dt * w[at]); });
    }

    // Implicit stages: v = r + c M(v) by Newton's method on the tridiagonal system (one dimension,
    // diffusion alone, integral average), solved by parallel cyclic reduction. bands[0..n) holds r.

    /// Whether v is the solution; otherwise v has moved on.
    __device__ bool newton_done(double c, int64_t step, int64_t stage, int iteration) {
        const double h = a.inner_spacing, ratio = c / (h * h);
        const int64_t n = l.n;
        const bool periodic = a.edges[0].kind == EdgeKind::periodic;
        double *below = bands + n, *diagonal = below + n, *above = diagonal + n;
        double *right = above + n, *corner = right + n, *spare = corner + n;
        team.sync();
        double largest[3] = {0, 0, 0};
        for (int64_t i = team.rank(); i < n; i += team.size()) {
            const double residual = bands[i] - v[i] + c * change(now, i);
            right[i] = residual;
            corner[i] = 0;
            largest[0] = larger(largest[0], fabs(residual));
            largest[1] = larger(largest[1], fabs(v[i]));
            largest[2] = larger(largest[2], ratio * k.value(v[i]));
        }
        block_largest(team, largest);
        // The residual of the exact solution is the rounding of its fluxes.
        const double target = 2e-15 * largest[1] * (1 + 4 * largest[2]);
        if (!(largest[0] > target)) {
            return true;
        }
        if (iteration == newton_limit) {
            failures += largest[0] > 1e4 * target ? 1 : 0;
            return true;
        }
        for (int64_t i = team.rank(); i < n; i += team.size()) {
            const bool left = i > 0 || periodic, following = i + 1 < n || periodic;
            const double own = ratio * k.value(v[i]);
            diagonal[i] = 1 + (left ? own : 0.0) + (following ? own : 0.0);
            below[i] = left ? -ratio * k.value(v[i > 0 ? i - 1 : n - 1]) : 0.0;
            above[i] = following ? -ratio * k.value(v[i + 1 < n ? i + 1 : 0]) : 0.0;
            if (!periodic && i == 0) {
                edge_slopes(0, step, stage, v[0], v[1], ratio, diagonal[0], above[0]);
            }
            if (!periodic && i == n - 1) {
                edge_slopes(1, step, stage, v[i], v[i - 1], ratio, diagonal[i], below[i]);
            }
        }
        team.sync();
        // The corners of a ring are a change of rank one (Sherman and Morrison 1950).
        const double gamma = -diagonal[0], low_corner = above[n - 1], high_corner = below[0];
        team.sync();
        if (periodic && team.rank() == 0) {
            diagonal[0] -= gamma;
            diagonal[n - 1] -= low_corner * high_corner / gamma;
            above[n - 1] = below[0] = 0;
            corner[0] = gamma;
            corner[n - 1] = low_corner;
        }
        team.sync();
        double* from = below;  // five arrays: below, diagonal, above, right, corner
        double* to = spare;
        for (int64_t reach = 1; reach < n; reach *= 2) {
            for (int64_t i = team.rank(); i < n; i += team.size()) {
                reduce(from, to, i, reach);
            }
            team.sync();
            double* const swap = from;
            from = to;
            to = swap;
        }
        const double *pivot = from + n, *x = from + 3 * n, *y = from + 4 * n;
        const double slope = periodic ? high_corner / gamma : 0.0;
        const double x0 = x[0] / pivot[0], xm = x[n - 1] / pivot[n - 1];
        const double y0 = y[0] / pivot[0], ym = y[n - 1] / pivot[n - 1];
        const double factor = (x0 + slope * xm) / (1 + y0 + slope * ym);
        for (int64_t i = team.rank(); i < n; i += team.size()) {
            v[i] += (x[i] - (periodic ? factor * y[i] : 0.0)) / pivot[i];
        }
        return false;
    }
    /// Row i without its neighbours at distance `reach` (Hockney and Jesshope 1981).
    __device__ void reduce(const double* from, double* to, int64_t i, int64_t reach) const {
        const int64_t n = l.n;
        const double *below = from, *diagonal = from + n, *above = from + 2 * n;
        const double *right = from + 3 * n, *corner = from + 4 * n;
        double b = diagonal[i], x = right[i], y = corner[i], lower = 0, upper = 0;
        if (i >= reach) {
            const int64_t j = i - reach;
            const double share = below[i] / diagonal[j];
            b -= share * above[j];
            x -= share * right[j];
            y -= share * corner[j];
            lower = -share * below[j];
        }
        if (i + reach < n) {
            const int64_t j = i + reach;
            const double share = above[i] / diagonal[j];
            b -= share * below[j];
            x -= share * right[j];
            y -= share * corner[j];
            upper = -share * above[j];
        }
        to[i] = lower;
        to[n + i] = b;
        to[2 * n + i] = upper;
        to[3 * n + i] = x;
        to[4 * n + i] = y;
    }
    /// Adds the derivatives of the outward edge flux, times c/h, to the row of the edge cell.
    __device__ void edge_slopes(
        int place,
        int64_t step,
        int64_t stage,
        double u0,
        double u1,
        double ratio,
        double& diagonal,
        double& next
    ) const {
        const Edge& e = a.edges[place];
        if (e.kind == EdgeKind::value) {
            diagonal += 3.5 * ratio * k.value(u0);
            next -= 0.5 * ratio * k.value(u1);
        } else if (e.kind == EdgeKind::mixed) {
            const double h = a.inner_spacing;
            const double value = edge_value(e, edge_data(place, step, stage, 0), u0, u1, h);
            // d flux/dw = a k/b; dw/du0, dw/du1 = 3.5, -0.5 times b/h over a + 3 b/h.
            const double slope = ratio * k.value(value) * e.a / (e.a + 3 * e.b / h);
            diagonal += 3.5 * slope;
            next -= 0.5 * slope;
        }
    }

    const BalanceLawArgs& a;
    const BlockTeam& team;
    const int64_t item;
    const BalanceLayout l;
    const DeviceCoefficient k;
    const bool integral;  ///< fluxes are differences of the primitive of k
    double *u, *low, *v, *coefficient, *w, *w_low;
    double *now, *rate, *sum, *rest, *older, *first, *bands;
    double dt = 0;
    int64_t front = 0;
    int failures = 0;
};

/// An item per block. Memory: in shared memory, or in the workspace. An item that would read past
/// the end of its tables comes back as NaN with info -1.
template <bool in_shared>
__global__ void __launch_bounds__(balance_threads, 1) balance_law_kernel(
    const __grid_constant__ BalanceLawArgs a, int64_t table_steps, double* workspace
) {
    const int64_t item = block_index();
    if (item >= a.batch) {
        return;
    }
    const BlockTeam team{shared_memory()};
    double* memory =
        in_shared ? shared_memory() + scratch_doubles : workspace + item * balance_doubles(a);
    BalanceMarch march(a, team, item, memory);
    march.run(a.steps[item] <= table_steps);
}

}  // namespace physcon::cuda
