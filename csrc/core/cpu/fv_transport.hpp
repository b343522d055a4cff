// SPDX-License-Identifier: Apache-2.0
// Fluxes of transport through faces, and the stages of transport alone on a line.
//
// Reconstruction: van Leer 1979 (limited slopes), Borges et al. 2008 (WENO-Z).
#pragma once

#include "../fv.hpp"

#include "simd.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

using Real = Vector<double>;

/// Calls body(full, i, lanes) for vectors that cover [0, count).
struct Whole {
    static constexpr bool value = true;
};
struct Part {
    static constexpr bool value = false;
};
template <typename Body>
inline void sweep(int64_t count, Body&& body) {
    int64_t i = 0;
    for (; i + width<double> <= count; i += width<double>) {
        body(Whole{}, i, width<double>);
    }
    if (i < count) {
        body(Part{}, i, static_cast<int>(count - i));
    }
}

inline Real least(Real a, Real b) {
    return a < b ? a : b;
}
inline Real most(Real a, Real b) {
    return a > b ? a : b;
}

/// high + low += change, the rounding error of the sum kept in low.
inline void add_exactly(Real& high, Real& low, Real change) {
    const Real y = change + low, sum = high + y, back = sum - high;
    low = (high - (sum - back)) + (y - back);
    high = sum;
}

/// The value at the face between v2 and v3 from the side of v2, from averages v0..v4 of cells in
/// the order of the face; the outer two are read by WENO5 only.
template <Reconstruction scheme>
inline Real reconstruct(Real v0, Real v1, Real v2, Real v3, Real v4) {
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
            slope = sign * least(2 * size, 0.5 * absolute<double>(a + b));
        } else {
            const Real sum = a + b;
            slope = 2 * product / (product > 0 ? sum : zero + 1.0);
        }
        return product > 0 ? v2 + 0.5 * slope : v2;
    }
}

/// Flux over strength (see below) through a vector of faces; u points to the cell after the first
/// one, neighbours are `stride` apart. `backward`: the strength is negative.
template <Transport transport, Reconstruction scheme>
inline Real face_fluxes(const double* u, int64_t stride, bool backward) {
    const auto cell = [&](int64_t k) { return load(u + k * stride); };
    if constexpr (transport == Transport::linear) {
        const int64_t way = backward ? -1 : 1, up = backward ? 0 : -1;
        if constexpr (scheme == Reconstruction::weno5) {
            return reconstruct<scheme>(
                cell(up - 2 * way), cell(up - way), cell(up), cell(up + way), cell(up + 2 * way)
            );
        } else {
            const Real v = cell(up);
            return reconstruct<scheme>(v, cell(up - way), v, cell(up + way), v);
        }
    } else {
        // Exact Riemann solution of the convex flux u^2/2, max(left, 0)^2 or min(right, 0)^2,
        // whichever is larger; a negative strength mirrors the axis.
        const Real zero = {};
        if constexpr (scheme == Reconstruction::godunov) {
            const Real left = cell(backward ? 0 : -1), right = cell(backward ? -1 : 0);
            const Real size = most(most(left, -right), zero);
            return size * size;
        } else {
            const Real b = cell(-1), c = cell(0);
            Real left, right;
            if constexpr (scheme == Reconstruction::weno5) {
                const Real a = cell(-2), d = cell(1);
                left = reconstruct<scheme>(cell(-3), a, b, c, d);
                right = reconstruct<scheme>(cell(2), d, c, b, a);
            } else {
                left = reconstruct<scheme>(b, cell(-2), b, c, b);
                right = reconstruct<scheme>(c, cell(1), c, b, c);
            }
            const Real size =
                backward ? most(most(right, -left), zero) : most(most(left, -right), zero);
            return size * size;
        }
    }
}

/// What the fluxes of face_fluxes are to be multiplied by: a of f = a u, a/2 of f = a u^2/2.
inline double strength(Transport transport, double speed) {
    return transport == Transport::burgers ? 0.5 * speed : speed;
}

/// out[i] = flux through the face between cells i - 1 and i.
template <Transport transport, Reconstruction scheme>
void transport_faces(const double* u, int64_t stride, int64_t count, double speed, double* out) {
    const double factor = strength(transport, speed);
    sweep(count, [&](auto full, int64_t i, int lanes) {
        const Real flux = factor * face_fluxes<transport, scheme>(u + i, stride, factor < 0);
        store_lanes<decltype(full)::value>(out + i, flux, lanes);
    });
}

using TransportFaces = void (*)(const double*, int64_t, int64_t, double, double*);

/// One stage of transport alone on a line of n cells, in one pass. Fluxes F are those of
/// face_fluxes for the cells w, ghosts filled, and rates R = a G + b F, both over the strength.
struct LineStage {
    const double* w;
    const double* start;  ///< out = start - ratio * (differences of R, or of the sums)
    double ratio;
    double* out;
    double a, b;    ///< b is 1 in the first stages
    double* rates;  ///< G; replaced by R in the first stages
    double* sums;   ///< integrals through the faces since `start`; += R in the last stage
    bool backward;
};

/// first: out = start - ratio (R right - R left). last: the same with the sums, R added to them.
/// whole: last with a = 0 and b = 1, and `out` may be w where the scheme is godunov.
enum class StagePlace { first, last, whole };

template <Transport transport, Reconstruction scheme, StagePlace place>
void line_stage(const LineStage& s, int64_t n) {
    // Locals: what is stored below might otherwise change the struct, as far as the compiler knows.
    const double *w = s.w, *start = s.start;
    double *rates = s.rates, *sums = s.sums, *out = s.out;
    const double a = s.a, b = s.b, ratio = s.ratio;
    const bool backward = s.backward, blended = a != 0;
    // What the cells change by through a vector of faces.
    const auto passed = [=](int64_t face) {
        Real r = face_fluxes<transport, scheme>(w + face, 1, backward);
        if constexpr (place == StagePlace::whole) {
            return r + load(sums + face);
        }
        if constexpr (place == StagePlace::last) {
            return load(sums + face) + (a * load(rates + face) + b * r);
        }
        return blended ? r + a * load(rates + face) : r;
    };
    double* const to = place == StagePlace::first ? rates : sums;
    // The first face, copied to all lanes: only the last one is used.
    Real before = Real{} + passed(0)[0];
    to[0] = before[0];
    sweep(n, [=, &before](auto full, int64_t i, int lanes) {
        constexpr bool complete = decltype(full)::value;
        const Real right = passed(i + 1), left = shifted_in(before, right);
        before = right;
        store_lanes<complete>(to + i + 1, right, lanes);
        store_lanes<complete>(out + i, load(start + i) + ratio * (left - right), lanes);
    });
}

/// The loops of one kind of transport and one scheme.
struct TransportLoops {
    TransportFaces faces;
    void (*first)(const LineStage&, int64_t);
    void (*last)(const LineStage&, int64_t);
    void (*whole)(const LineStage&, int64_t);
};
template <Transport transport, Reconstruction scheme>
TransportLoops transport_loops() {
    return {
        transport_faces<transport, scheme>,
        line_stage<transport, scheme, StagePlace::first>,
        line_stage<transport, scheme, StagePlace::last>,
        line_stage<transport, scheme, StagePlace::whole>
    };
}
template <Transport transport>
TransportLoops transport_loops(Reconstruction scheme) {
    switch (scheme) {
        case Reconstruction::minmod:
            return transport_loops<transport, Reconstruction::minmod>();
        case Reconstruction::van_leer:
            return transport_loops<transport, Reconstruction::van_leer>();
        case Reconstruction::mc:
            return transport_loops<transport, Reconstruction::mc>();
        case Reconstruction::weno5:
            return transport_loops<transport, Reconstruction::weno5>();
        default:
            return transport_loops<transport, Reconstruction::godunov>();
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
