/* SPDX-License-Identifier: Apache-2.0 */
/** Conservative finite volumes on a uniform grid of one or two dimensions, in plain C.
 *
 *    u_t + div f(u) = div(k(u) grad u) + sum_s amplitude_s(t) shape_s(x)
 *
 *  A call takes every item of a batch through its own number of equal steps. Cells change by fluxes
 *  alone, and the fluxes returned, integrated over the call, are the ones that changed them. The
 *  inner axis is the contiguous one; the outer axis exists in two dimensions only. Fluxes count
 *  along the axes. Steps are taken as given: forward Euler and the SSP methods are stable and
 *  monotone up to dt * (sum over axes of |f'| / h + 2 k / h^2) = 1 (limited slopes: 1/2).
 *
 *  Everything else (memory, executors, errors) is as in physcon.h.
 */
#ifndef PHYSCON_BALANCE_LAW_H
#define PHYSCON_BALANCE_LAW_H

#include <physcon/physcon.h>

#ifdef __cplusplus
extern "C" {
#endif

/** f: nothing, a u, or a u^2 / 2, with a factor a per axis. */
typedef enum physcon_transport {
    PHYSCON_TRANSPORT_NONE = 0,
    PHYSCON_TRANSPORT_LINEAR = 1,
    PHYSCON_TRANSPORT_BURGERS = 2
} physcon_transport;

/** Values at faces from cell averages: upwind, limited slopes, WENO of fifth order. */
typedef enum physcon_reconstruction {
    PHYSCON_RECONSTRUCTION_GODUNOV = 0,
    PHYSCON_RECONSTRUCTION_MINMOD = 1,
    PHYSCON_RECONSTRUCTION_VAN_LEER = 2,
    PHYSCON_RECONSTRUCTION_MC = 3,
    PHYSCON_RECONSTRUCTION_WENO5 = 4
} physcon_reconstruction;

/** k(u): nothing, k, u^m, or k where u >= threshold and else 0. */
typedef enum physcon_diffusivity {
    PHYSCON_DIFFUSIVITY_NONE = 0,
    PHYSCON_DIFFUSIVITY_CONSTANT = 1,
    PHYSCON_DIFFUSIVITY_POWER = 2,
    PHYSCON_DIFFUSIVITY_THRESHOLD = 3
} physcon_diffusivity;

/** How k at a face comes from its cells. Integral: the flux is the difference of the primitive of
 *  k. Shock: follows one front of a threshold, moving up the inner axis into empty cells, with
 *  forward Euler in one dimension. */
typedef enum physcon_face_average {
    PHYSCON_FACE_AVERAGE_INTEGRAL = 0,
    PHYSCON_FACE_AVERAGE_ARITHMETIC = 1,
    PHYSCON_FACE_AVERAGE_HARMONIC = 2,
    PHYSCON_FACE_AVERAGE_MODIFIED = 3,
    PHYSCON_FACE_AVERAGE_SHOCK = 4
} physcon_face_average;

/** Time stepping. The implicit ones (4, 5) take diffusion alone in one dimension with the integral
 *  average; VERLET solves u_tt = div(k grad u). */
typedef enum physcon_integrator {
    PHYSCON_INTEGRATOR_EULER = 0,
    PHYSCON_INTEGRATOR_SSPRK2 = 1,
    PHYSCON_INTEGRATOR_SSPRK3 = 2,
    PHYSCON_INTEGRATOR_RKL2 = 3,
    PHYSCON_INTEGRATOR_BACKWARD_EULER = 4,
    PHYSCON_INTEGRATOR_TR_BDF2 = 5,
    PHYSCON_INTEGRATOR_VERLET = 6
} physcon_integrator;

/** What holds at an edge: it continues at the opposite one; u = g; a u + b du/dn = g along the
 *  outward normal, where there is diffusion; nothing comes back; the flux along the axis is g. */
typedef enum physcon_edge_kind {
    PHYSCON_EDGE_PERIODIC = 0,
    PHYSCON_EDGE_VALUE = 1,
    PHYSCON_EDGE_MIXED = 2,
    PHYSCON_EDGE_OUTFLOW = 3,
    PHYSCON_EDGE_FLUX = 4
} physcon_edge_kind;

/** A number for every item, step, evaluation within a step and place, read at
 *  data[item * item_stride + step * step_stride + stage * stage_stride + place * place_stride];
 *  strides of 0 repeat it. */
typedef struct physcon_table_f64 {
    const double* data;
    int64_t item_stride;
    int64_t step_stride;
    int64_t stage_stride;
    int64_t place_stride;
} physcon_table_f64;

/** One edge. */
typedef struct physcon_edge_f64 {
    /** A physcon_edge_kind. */
    int32_t kind;
    /** Weights of the value and of the outward slope; PHYSCON_EDGE_MIXED alone. */
    double a;
    double b;
    /** g, a place being a cell along the edge; not read for periodic and outflow. */
    physcon_table_f64 value;
} physcon_edge_f64;

/** A balance law, its data and its steps. */
typedef struct physcon_balance_law_args_f64 {
    /** Number of independent items, >= 0; nothing is done for 0. */
    int64_t batch;
    /** Cells along the outer axis: 1 in one dimension, else >= 4. */
    int64_t rows;
    /** Cells along the inner axis, >= 4. */
    int64_t n;
    /** Cell widths, > 0; the second in two dimensions only. */
    double inner_spacing;
    double outer_spacing;
    /** A physcon_transport, _reconstruction, _diffusivity, _face_average and _integrator. */
    int32_t transport;
    int32_t reconstruction;
    int32_t diffusivity;
    int32_t average;
    int32_t integrator;
    /** Evaluations in one step: 1 EULER and BACKWARD_EULER, 2 SSPRK2 and VERLET, 3 SSPRK3 and
     *  TR_BDF2, any odd number >= 3 for RKL2. */
    int64_t stages;
    /** Factors a of the transport, (2) per item: inner, outer axis; NULL without transport. */
    const double* speed;
    int64_t speed_stride;
    /** (2) per item: k; or the exponent m; or k and the threshold; NULL without diffusion. */
    const double* diffusion;
    int64_t diffusion_stride;
    /** Inner low, inner high, outer low, outer high; the last two in two dimensions only. */
    physcon_edge_f64 edges[4];
    /** Source terms, 0 to 8: cell averages (terms, rows, n) per item, and amplitudes, a place being
     *  a term. */
    int64_t terms;
    const double* shapes;
    int64_t shapes_stride;
    physcon_table_f64 amplitudes;
    /** Length of a step, (batch), and number of steps, (batch), >= 0. */
    const double* dt;
    const int64_t* steps;
    /** Cell averages and their rounding rests, (fields, 2, rows, n) per item; 0 rests are right at
     *  the start. One field, for VERLET two: u and u_t. */
    const double* state;
    int64_t state_stride;
    /** The same after the steps, (batch, fields, 2, rows, n), required. */
    double* state_out;
    /** Fluxes through faces, integrated over the call: (batch, rows, n + 1), required. */
    double* inner_flux_out;
    /** (batch, rows + 1, n), required in two dimensions, else NULL. */
    double* outer_flux_out;
    /** Amplitudes integrated over the call, (batch, terms); NULL without sources. */
    double* source_out;
    /** Steps whose nonlinear solve did not converge, (batch), required. */
    int32_t* info_out;
} physcon_balance_law_args_f64;

/** Bytes of workspace; `executor` as in the call. */
PHYSCON_API size_t physcon_balance_law_workspace_f64(
    const physcon_balance_law_args_f64* args, const physcon_executor* executor
);
/** Takes the steps. */
PHYSCON_API int physcon_balance_law_f64(
    const physcon_balance_law_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);

#ifdef __cplusplus
}
#endif

#endif
