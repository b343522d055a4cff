// SPDX-License-Identifier: Apache-2.0
// Conservative finite volumes on a uniform grid of one or two dimensions:
//
//   u_t + div f(u) = div(k(u) grad u) + sum_s amplitude_s(t) shape_s(x)
//
// A call takes every item of a batch through its own number of equal steps. The inner axis is the
// contiguous one; the outer axis exists in two dimensions only. Fluxes count along the axes.
// Cells change by fluxes alone, and the fluxes returned are the ones that changed them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "condition.hpp"
#include "executor.hpp"

namespace physcon {

enum class Transport : std::int32_t { none, linear, burgers };
enum class Reconstruction : std::int32_t { godunov, minmod, van_leer, mc, weno5 };
enum class Diffusivity : std::int32_t { none, constant, power, threshold };
enum class FaceAverage : std::int32_t { integral, arithmetic, harmonic, modified, shock };
enum class Integrator : std::int32_t {
    euler,
    ssprk2,
    ssprk3,
    rkl2,
    backward_euler,
    tr_bdf2,
    verlet,  ///< u_tt = div(k grad u): the velocity u_t is the conserved field
};
enum class EdgeKind : std::int32_t { periodic, value, mixed, outflow, flux };

/// One edge: `value` u = g, `mixed` a u + b du/dn = g (outward), `flux` F = g along the axis.
struct Edge {
    EdgeKind kind = EdgeKind::periodic;
    double a = 0, b = 0;
    const double* data = nullptr;                           ///< g; unused for periodic and outflow
    std::int64_t item = 0, step = 0, stage = 0, along = 0;  ///< strides of g in elements
    constexpr double at(std::int64_t i, std::int64_t n, std::int64_t s, std::int64_t j) const {
        return data[i * item + n * step + s * stage + j * along];
    }
};

inline constexpr std::int64_t most_source_terms = 8;

struct BalanceLawArgs {
    std::int64_t batch = 0;
    std::int64_t rows = 1, n = 0;  ///< cells along the outer and the inner axis, each >= 4
    bool planar = false;           ///< two dimensions; otherwise rows == 1
    double inner_spacing = 1, outer_spacing = 1;
    Transport transport = Transport::none;
    Reconstruction reconstruction = Reconstruction::godunov;
    Strided<double> speed;  ///< (2) inner, outer: speeds of linear transport, factors of u^2/2
    Diffusivity diffusivity = Diffusivity::none;
    FaceAverage average = FaceAverage::integral;
    Strided<double> diffusion;  ///< (2): k; or exponent m; or (k_max, threshold)
    Edge edges[4];              ///< inner low, inner high, outer low, outer high
    std::int64_t terms = 0;     ///< <= most_source_terms
    Strided<double> shapes;     ///< (terms, rows, n)
    Edge amplitudes;            ///< only data and strides; `along` counts terms
    Integrator integrator = Integrator::euler;
    std::int64_t stages = 1;              ///< evaluations in one step; free for rkl2 only
    const double* dt = nullptr;           ///< (batch)
    const std::int64_t* steps = nullptr;  ///< (batch)
    /// (fields, 2, rows, n): value and its rounding rest; field 1 is the velocity of `verlet`.
    Strided<double> state;
    double* state_out = nullptr;       ///< (batch, fields, 2, rows, n)
    double* inner_flux_out = nullptr;  ///< (batch, rows, n + 1), integrated over the call
    double* outer_flux_out = nullptr;  ///< (batch, rows + 1, n) or null
    double* source_out = nullptr;      ///< (batch, terms), amplitudes integrated over the call
    std::int32_t* info_out = nullptr;  ///< (batch): steps whose nonlinear solve did not converge
    constexpr std::int64_t fields() const {
        return integrator == Integrator::verlet ? 2 : 1;
    }
};

/// What does not go together, as a sentence for messages; null where everything does.
inline const char* balance_law_complaint(const BalanceLawArgs& a) {
    const bool implicit =
        a.integrator == Integrator::backward_euler || a.integrator == Integrator::tr_bdf2;
    constexpr std::int64_t fixed[] = {1, 2, 3, 0, 1, 3, 2};
    const std::int64_t stages = fixed[static_cast<int>(a.integrator)];
    if (stages != 0 ? a.stages != stages : a.stages < 3 || a.stages % 2 == 0) {
        return "expected stages to be those of the integrator (rkl2: an odd number >= 3)";
    }
    if (a.planar ? a.rows < 4 : a.rows != 1) {
        return "expected rows to be 1 or at least 4";
    }
    if (implicit && (a.planar || a.transport != Transport::none ||
                     a.diffusivity == Diffusivity::none || a.average != FaceAverage::integral)) {
        return "expected implicit steps for diffusion alone in one dimension with the integral "
               "average";
    }
    if (a.average == FaceAverage::shock &&
        (a.planar || a.transport != Transport::none || a.diffusivity != Diffusivity::threshold ||
         a.integrator != Integrator::euler)) {
        return "expected the shock average for a threshold alone in one dimension with euler steps";
    }
    if (a.integrator == Integrator::verlet &&
        (a.transport != Transport::none || a.diffusivity == Diffusivity::none)) {
        return "expected verlet steps without transport";
    }
    return nullptr;
}

std::size_t balance_law_workspace(const BalanceLawArgs& args, const Executor& executor);
void balance_law(const BalanceLawArgs& args, const Executor& executor, void* workspace);

/// Flow of an incompressible fluid in the unit square, lid at the upper y edge moving along x. On a
/// staggered n x n grid: u (n + 1, n) and v (n, n + 1) on faces, pressure (n, n) in cells.
struct CavityArgs {
    std::int64_t batch = 0, n = 0;        ///< n even, >= 8
    const double* lid = nullptr;          ///< (batch)
    const double* viscosity = nullptr;    ///< (batch)
    const double* dt = nullptr;           ///< (batch)
    const std::int64_t* steps = nullptr;  ///< (batch)
    Strided<double> u, v;
    double* u_out = nullptr;  ///< (batch, n + 1, n)
    double* v_out = nullptr;  ///< (batch, n, n + 1)
    /// Integrals over the call: pressure (batch, n, n); momentum fluxes without pressure: of u
    /// along x (batch, n, n) in cells and along y (batch, n + 1, n + 1) on vertices, of v along x
    /// on vertices and along y in cells.
    double *pressure_out = nullptr, *uu_out = nullptr, *uv_out = nullptr, *vu_out = nullptr,
           *vv_out = nullptr;
};

std::size_t cavity_workspace(const CavityArgs& args, const Executor& executor);
void cavity(const CavityArgs& args, const Executor& executor, void* workspace);

}  // namespace physcon
