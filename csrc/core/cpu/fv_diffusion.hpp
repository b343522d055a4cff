// SPDX-License-Identifier: Apache-2.0
// Nonlinear diffusivities and the fluxes of diffusion through faces.
#pragma once

#include "../fv.hpp"

#include "elementary.hpp"
#include "fv_transport.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

/// k(u) and its primitive K(u) = int_0^u k.
class Coefficient {
  public:
    Coefficient(Diffusivity kind, const double* parameters)
        : kind_(kind),
          k_(kind == Diffusivity::none ? 0 : parameters[0]),
          threshold_(kind == Diffusivity::threshold ? parameters[1] : 0),
          power_(kind == Diffusivity::power ? parameters[0] : 1.0) {}

    Real value(Real u) const {
        const Real zero = {};
        switch (kind_) {
            case Diffusivity::power:
                return power_(u);
            case Diffusivity::threshold:
                return u >= threshold_ ? zero + k_ : zero;
            default:
                return zero + k_;
        }
    }
    Real primitive(Real u) const {
        const Real zero = {};
        switch (kind_) {
            case Diffusivity::power:
                return u * power_(u) / (power_.exponent + 1);
            case Diffusivity::threshold:
                return k_ * most(u - threshold_, zero);
            default:
                return k_ * u;
        }
    }
    double value(double u) const {
        return value(Real{} + u)[0];
    }
    double primitive(double u) const {
        return primitive(Real{} + u)[0];
    }
    double largest() const {
        return k_;
    }
    double threshold() const {
        return threshold_;
    }

  private:
    Diffusivity kind_;
    double k_, threshold_;
    Power power_;
};

/// out[i] += -k grad u through the face between cells i - 1 and i, i in [0, count). `c` holds K for
/// the integral average and k for the others.
template <FaceAverage average>
void diffusive_faces(
    const double* u, const double* c, int64_t stride, int64_t count, double spacing, double* out
) {
    const double inverse = 1 / spacing;
    sweep(count, [&](auto full, int64_t i, int lanes) {
        constexpr bool whole = decltype(full)::value;
        const Real drop = face_drop<average, Real>(
            load(c + i - stride), load(c + i), load(u + i - stride), load(u + i)
        );
        store_lanes<whole>(out + i, load_lanes<whole>(out + i, lanes) + drop * inverse, lanes);
    });
}

using DiffusiveFaces = void (*)(const double*, const double*, int64_t, int64_t, double, double*);

inline DiffusiveFaces diffusive_faces(FaceAverage average) {
    switch (average) {
        case FaceAverage::arithmetic:
            return diffusive_faces<FaceAverage::arithmetic>;
        case FaceAverage::harmonic:
            return diffusive_faces<FaceAverage::harmonic>;
        case FaceAverage::modified:
            return diffusive_faces<FaceAverage::modified>;
        default:
            return diffusive_faces<FaceAverage::integral>;
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
