// SPDX-License-Identifier: Apache-2.0
// Formulas of the finite-volume stencils, the same text for the vectors of the CPU and for the
// single numbers of a CUDA thread. The including file supplies absolute<double>().
//
// Reconstruction: van Leer 1979 (limited slopes), Borges et al. 2008 (WENO-Z).
#pragma once

#include "fv.hpp"

#if defined(__CUDACC__)
#define PHYSCON_STENCIL __device__ __forceinline__
#else
#define PHYSCON_STENCIL inline
#endif

namespace physcon::PHYSCON_ISA_NAMESPACE {

PHYSCON_STENCIL double square_root(double x) {
#if defined(__CUDACC__)
    return sqrt(x);
#else
    return __builtin_sqrt(x);
#endif
}
template <typename Real>
PHYSCON_STENCIL Real least(Real a, Real b) {
    return a < b ? a : b;
}
template <typename Real>
PHYSCON_STENCIL Real most(Real a, Real b) {
    return a > b ? a : b;
}

/// high + low += change, the rounding error of the sum kept in low.
template <typename Real>
PHYSCON_STENCIL void add_exactly(Real& high, Real& low, Real change) {
    const Real y = change + low, sum = high + y, back = sum - high;
    low = (high - (sum - back)) + (y - back);
    high = sum;
}

/// The value at the face between v2 and v3 from the side of v2, from averages v0..v4 of cells in
/// the order of the face; the outer two are read by WENO5 only.
template <Reconstruction scheme, typename Real>
PHYSCON_STENCIL Real reconstruct(Real v0, Real v1, Real v2, Real v3, Real v4) {
    const Real zero = {};
    if constexpr (scheme == Reconstruction::godunov) {
        return v2;
    } else if constexpr (scheme == Reconstruction::weno5) {
        const Real c0 = v0 - 2 * v1 + v2, c1 = v1 - 2 * v2 + v3, c2 = v2 - 2 * v3 + v4;
        const Real g0 = v0 - 4 * v1 + 3 * v2, g1 = v1 - v3, g2 = 3 * v2 - 4 * v3 + v4;
        const Real tiny = zero + 1e-40;
        const Real s0 = (13.0 / 12) * c0 * c0 + 0.25 * g0 * g0 + tiny;
        const Real s1 = (13.0 / 12) * c1 * c1 + 0.25 * g1 * g1 + tiny;
        const Real s2 = (13.0 / 12) * c2 * c2 + 0.25 * g2 * g2 + tiny;
        // Weights d (1 + (tau/s)^2), times all three s^2: a single division remains.
        const Real tau = (s0 - s2) * (s0 - s2), q0 = s0 * s0, q1 = s1 * s1, q2 = s2 * s2;
        const Real w0 = (q0 + tau) * (q1 * q2), w1 = 6 * ((q1 + tau) * (q0 * q2)),
                   w2 = 3 * ((q2 + tau) * (q0 * q1));
        const Real p0 = 2 * v0 - 7 * v1 + 11 * v2, p1 = 5 * v2 - v1 + 2 * v3,
                   p2 = 2 * v2 + 5 * v3 - v4;
        return (w0 * p0 + w1 * p1 + w2 * p2) / (6 * (w0 + w1 + w2));
    } else {
        const Real a = v2 - v1, b = v3 - v2, product = a * b;
        const Real sign = b < 0 ? zero - 1.0 : zero + 1.0;
        Real slope;
        if constexpr (scheme == Reconstruction::minmod) {
            slope = sign * least(absolute<double>(a), absolute<double>(b));
        } else if constexpr (scheme == Reconstruction::mc) {
            const Real size = least(absolute<double>(a), absolute<double>(b));
            slope = sign * least<Real>(2 * size, 0.5 * absolute<double>(a + b));
        } else {
            const Real sum = a + b;
            slope = 2 * product / (product > 0 ? sum : zero + 1.0);
        }
        return product > 0 ? v2 + 0.5 * slope : v2;
    }
}

/// Flux over strength (see below) through the face between cell(-1) and cell(0). `backward`: the
/// strength is negative.
template <Transport transport, Reconstruction scheme, typename Real, typename Cell>
PHYSCON_STENCIL Real face_flux(const Cell& cell, bool backward) {
    if constexpr (transport == Transport::linear) {
        const int64_t way = backward ? -1 : 1, up = backward ? 0 : -1;
        if constexpr (scheme == Reconstruction::weno5) {
            return reconstruct<scheme, Real>(
                cell(up - 2 * way), cell(up - way), cell(up), cell(up + way), cell(up + 2 * way)
            );
        } else {
            const Real v = cell(up);
            return reconstruct<scheme, Real>(v, cell(up - way), v, cell(up + way), v);
        }
    } else {
        // Exact Riemann solution of the convex flux u^2/2, max(left, 0)^2 or min(right, 0)^2,
        // whichever is larger; a negative strength mirrors the axis.
        const Real zero = {};
        if constexpr (scheme == Reconstruction::godunov) {
            const Real left = cell(backward ? 0 : -1), right = cell(backward ? -1 : 0);
            const Real size = most<Real>(most<Real>(left, -right), zero);
            return size * size;
        } else {
            const Real b = cell(-1), c = cell(0);
            Real left, right;
            if constexpr (scheme == Reconstruction::weno5) {
                const Real a = cell(-2), d = cell(1);
                left = reconstruct<scheme, Real>(cell(-3), a, b, c, d);
                right = reconstruct<scheme, Real>(cell(2), d, c, b, a);
            } else {
                left = reconstruct<scheme, Real>(b, cell(-2), b, c, b);
                right = reconstruct<scheme, Real>(c, cell(1), c, b, c);
            }
            const Real size = backward ? most<Real>(most<Real>(right, -left), zero)
                                       : most<Real>(most<Real>(left, -right), zero);
            return size * size;
        }
    }
}

/// What the fluxes of face_flux are to be multiplied by: a of f = a u, a/2 of f = a u^2/2.
PHYSCON_STENCIL double strength(Transport transport, double speed) {
    return transport == Transport::burgers ? 0.5 * speed : speed;
}

/// Diffusive flux between two cells times their distance. `left` and `right` hold K of the cells
/// for the integral average and k for the others.
template <FaceAverage average, typename Real>
PHYSCON_STENCIL Real face_drop(Real left, Real right, Real u_left, Real u_right) {
    if constexpr (average == FaceAverage::integral) {
        return left - right;
    } else {
        const Real zero = {}, sum = left + right;
        Real k = 0.5 * sum;
        if constexpr (average != FaceAverage::arithmetic) {
            const Real harmonic = sum > 0 ? 2 * left * right / (sum > 0 ? sum : zero + 1.0) : zero;
            if constexpr (average == FaceAverage::harmonic) {
                k = harmonic;
            } else {
                k = least(left, right) < 0.25 * most(left, right) ? k : harmonic;
            }
        }
        return k * (u_left - u_right);
    }
}

/// Value on the face of an edge from its condition and the two cells next to it: a parabola with
/// the face value w and the averages u0, u1 has the outward slope (6 w - 7 u0 + u1)/(2h).
PHYSCON_STENCIL double edge_value(const Edge& e, double g, double u0, double u1, double h) {
    switch (e.kind) {
        case EdgeKind::value:
            return g;
        case EdgeKind::mixed:
            return (g + e.b * (7 * u0 - u1) / (2 * h)) / (e.a + 3 * e.b / h);
        default:
            return u0;
    }
}
/// Diffusive flux out of the domain. A given slope is used as it is: no flux at an insulated edge,
/// whatever k does there.
template <typename Coefficient>
PHYSCON_STENCIL double outward_diffusion(
    const Coefficient& k, const Edge& e, double g, double w, double u0, double u1, double h
) {
    if (e.kind == EdgeKind::value) {
        return -(6 * k.primitive(w) - 7 * k.primitive(u0) + k.primitive(u1)) / (2 * h);
    }
    if (e.kind == EdgeKind::mixed) {
        return -k.value(w) * (g - e.a * w) / e.b;
    }
    return 0;
}
/// Whether an edge reads its data.
PHYSCON_STENCIL bool has_data(const Edge& e) {
    return e.kind == EdgeKind::value || e.kind == EdgeKind::mixed || e.kind == EdgeKind::flux;
}
/// Ghost cell number k = 1, 2, 3 beyond an edge with face value w: `first` is the cell at the edge,
/// `mirrored` the k-th cell inwards from it on, `opposite` the k-th from the other end.
PHYSCON_STENCIL double ghost_value(
    EdgeKind kind, bool diffusive, double w, double first, double mirrored, double opposite
) {
    if (kind == EdgeKind::periodic) {
        return opposite;
    }
    if (kind == EdgeKind::outflow || kind == EdgeKind::flux) {
        return first;
    }
    return diffusive ? 2 * w - mirrored : w;  // without diffusion: what flows in
}
/// Flux of transport through a face on which the value is known.
PHYSCON_STENCIL double known_transport(Transport transport, double speed, double w) {
    return transport == Transport::none     ? 0
           : transport == Transport::linear ? speed * w
                                            : 0.5 * speed * w * w;
}

/// Share theta of a cell behind the front of a threshold u_star: the positive root of
/// (before + u*) theta^2 + (u* - 2 u) theta - u = 0, `before` the average of the cell behind it.
PHYSCON_STENCIL double front_share(double u_star, double before, double u) {
    const double sum = before + u_star, linear = 2 * u - u_star;
    return (linear + square_root(linear * linear + 4 * sum * u)) / (2 * sum);
}
/// The same in the first cell, next to an edge with value g or with anything else.
PHYSCON_STENCIL double first_front_share(double u_star, bool fixed, double g, double u) {
    return fixed ? 2 * u / (g + u_star) : (u >= u_star ? 1.0 : u / u_star);
}
/// Mean flux through a fixed edge during dt while the front is in the first cell:
/// d(theta^2)/dt = 4 k (g - u*) / ((g + u*) h^2), solved exactly, starts from nothing.
PHYSCON_STENCIL double first_front_flux(
    double k, double u_star, double g, double theta, double h, double dt
) {
    const double rise = 4 * k * most(g - u_star, 0.0) / ((g + u_star) * h * h);
    const double grown = square_root(theta * theta + rise * dt);
    return (grown - theta) * 0.5 * (g + u_star) * h / dt;
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
