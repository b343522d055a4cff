// SPDX-License-Identifier: Apache-2.0
// Fluxes of transport through faces, and the stages of transport alone on a line.
#pragma once

// The formulas come last: they use the vectors.
#include "simd.hpp"

#include "../fv_stencil.hpp"

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

/// Flux over strength through a vector of faces; u points to the cell after the first one,
/// neighbours are `stride` apart. `backward`: the strength is negative.
template <Transport transport, Reconstruction scheme>
inline Real face_fluxes(const double* u, int64_t stride, bool backward) {
    return face_flux<transport, scheme, Real>(
        [&](int64_t k) { return load(u + k * stride); }, backward
    );
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
