/* SPDX-License-Identifier: Apache-2.0 */
/** Spectral convolutions with exact boundary conditions, applied in plain C.
 *
 *    X(k) = sum_n x_n e^{-i w_k n},  Y(k) = X(k) W(k),  y_n = Re sum_k h_k Y(k) e^{i w_k n}
 *
 *  with w_k = 2 pi k / P and h_k the weights of the inverse of a real transform: the layer of a
 *  Fourier neural operator on any number of points N <= P. Along corrected axes the ends of x are
 *  first shifted so that the ends of y depend on nothing but the ends of x; `gain` says how, and
 *  physcon_correction_gain_* makes it from the weights, once per weights and grid. Faces are then
 *  assigned: u_face = value + sum_j stencil_j u^(j), u^(j) being the value j points inwards.
 *
 *  Everything else (memory, executors, errors) is as in physcon.h. Arrays are dense and row-major.
 */
#ifndef PHYSCON_SPECTRAL_H
#define PHYSCON_SPECTRAL_H

#include <physcon/physcon.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A grid, its periods and the wavenumbers that are kept; entries beyond `axes` are not read. */
typedef struct physcon_spectral_grid {
    /** 1, 2 or 3. */
    int32_t axes;
    /** Points N per axis, >= 1. */
    int64_t size[3];
    /** Wavenumbers M per axis. The last axis keeps 0 .. M - 1 with M <= floor(P / 2) + 1, the
     *  others 0 .. m - 1, -m .. -1 with M = 2 m <= P. */
    int64_t modes[3];
    /** Period P >= N per axis in points, integer or not; P = N is the plain Fourier layer. */
    double period[3];
} physcon_spectral_grid;

/* ---- double ------------------------------------------------------------------------------- */

/** What is assigned to both end faces of one axis; set to zero: the axis is left alone. */
typedef struct physcon_face_f64 {
    /** (2, width): weights of the old end value and of the points inwards, first end, last end; a
     * row of zeros stores the bits of the value. NULL: the axis is left alone. */
    const double* stencil;
    /** Points of a stencil, 1 <= width < points of the axis. */
    int64_t width;
    /** The values, and how far apart they are along items, channels, ends and the other axes in
     * their order, in elements; 0 repeats them. */
    const double* values;
    int64_t item_stride;
    int64_t channel_stride;
    int64_t end_stride;
    int64_t tangent_stride[2];
} physcon_face_f64;

/** A convolution, its correction and its faces. */
typedef struct physcon_spectral_conv_args_f64 {
    physcon_spectral_grid grid;
    /** Number of fields, >= 0, and channels in and out, >= 1. */
    int64_t batch;
    int64_t in;
    int64_t out;
    /** Of physcon_spectral_tables_f64 for this grid. */
    const void* tables;
    /** (batch, in, N_1 .. N_d) */
    const double* x;
    /** (M_1 .. M_d, in, out, 2): one matrix per mode, real and imaginary part last. */
    const double* weight;
    /** Per axis (Q, 2 (in + out), 2 in, 2), Q the modes of the other axes in their order, or NULL:
     * not corrected. With one axis gains are real, and the last size is absent. A corrected axis
     * has at least 2 points. */
    const double* gain[3];
    physcon_face_f64 face[3];
    /** (batch, out, N_1 .. N_d); must not overlap x. */
    double* y_out;
} physcon_spectral_conv_args_f64;

/** Assignment of faces alone. */
typedef struct physcon_assign_faces_args_f64 {
    /** 1, 2 or 3. */
    int32_t axes;
    int64_t size[3];
    int64_t batch;
    int64_t channels;
    physcon_face_f64 face[3];
    /** (batch, channels, size) */
    const double* u;
    /** The same shape; may be u itself. */
    double* u_out;
} physcon_assign_faces_args_f64;

/** What a Fourier layer adds to its convolution: u = y + sum_i x_i skip_io + bias_o, faces of u,
 * and gelu(u) wherever no face prescribes the value (a stencil that counts its own old value does
 * not). Without activation or faces it is the linear map of the channels that lifts and projects.
 */
typedef struct physcon_pointwise_args_f64 {
    /** 1, 2 or 3. */
    int32_t axes;
    int64_t size[3];
    /** Number of fields, >= 0, and channels in and out, >= 1. */
    int64_t batch;
    int64_t in;
    int64_t out;
    /** (batch, in, size); not read without `skip`. */
    const double* x;
    /** (in, out), or NULL: nothing is added. */
    const double* skip;
    /** (out), or NULL. */
    const double* bias;
    /** Whether u passes through gelu(u) = u Phi(u), Phi the normal distribution. */
    int32_t activated;
    physcon_face_f64 face[3];
    /** (batch, out, size): the convolution, or zeros, when called; the result afterwards. Must not
     * overlap x. */
    double* y;
} physcon_pointwise_args_f64;

/** The gains of one axis, from the weights. */
typedef struct physcon_correction_gain_args_f64 {
    physcon_spectral_grid grid;
    /** 0 <= axis < grid.axes. */
    int32_t axis;
    int64_t in;
    int64_t out;
    /** Whether the first and the last end are corrected; at least one is. */
    int32_t first;
    int32_t last;
    /** Regularisation of the elimination relative to the size of the system, >= 0; 0.1 is usual.
     * With 0 the elimination is exact, and that of least squares where in and out differ. */
    double ridge;
    /** (M_1 .. M_d, in, out, 2) */
    const double* weight;
    /** (Q, 2 (in + out), 2 in, 2); with one axis (2 (in + out), 2 in). */
    double* gain_out;
} physcon_correction_gain_args_f64;

/** The gains of one axis as the program published with the method makes them: one scalar pivot for
 * all channels, the first end before the last. With K_00, K_N0 and K_0N what channel 0 answers at
 * the ends to sources at the ends in all channels, and D, G, A the whole answers,
 *
 *    d_0 = a_0 - (y_0 - r y_N + K_0N a_N) / k,  d_N = a_N - (y_N + d_0 G) / K_00 + slip (..),
 *    r = K_0N / K_00,  k = K_00 - K_N0 r
 *
 * where the slip adds d_0 + a_0 - a_N. One end alone has d = a - y / K_00. */
typedef struct physcon_published_gain_args_f64 {
    physcon_spectral_grid grid;
    /** 0 <= axis < grid.axes. */
    int32_t axis;
    /** In and out, >= 1. */
    int64_t channels;
    /** Whether the first and the last end are corrected; at least one is. */
    int32_t first;
    int32_t last;
    /** Pivots below it are replaced by it, >= 0: 1e-7 with one axis, 1e-4 with more. */
    double tolerance;
    /** Whether the modulus is compared, or, as with two axes, every negative pivot counts too. */
    int32_t modulus;
    /** 0, or 2 for the index slip of the program with several axes. */
    double slip;
    /** (M_1 .. M_d, channels, channels, 2) */
    const double* weight;
    /** (Q, 4 channels, 2 channels, 2); with one axis (4 channels, 2 channels). */
    double* gain_out;
} physcon_published_gain_args_f64;

/** Bytes of the tables of a grid; 0 if the grid is wrong. */
PHYSCON_API size_t physcon_spectral_tables_size_f64(const physcon_spectral_grid* grid);
/** Makes the tables of a grid, aligned as a workspace. They serve any number of calls and threads.
 */
PHYSCON_API int physcon_spectral_tables_f64(
    const physcon_spectral_grid* grid, void* tables, size_t size, physcon_error* error
);
/** Bytes of workspace for the convolution; `executor` as in the call. */
PHYSCON_API size_t physcon_spectral_conv_workspace_f64(
    const physcon_spectral_conv_args_f64* args, const physcon_executor* executor
);
/** Convolves, corrects and assigns. */
PHYSCON_API int physcon_spectral_conv_f64(
    const physcon_spectral_conv_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Assigns faces, axis after axis; later axes own the corners. */
PHYSCON_API int physcon_assign_faces_f64(
    const physcon_assign_faces_args_f64* args,
    const physcon_executor* executor,
    physcon_error* error
);
/** Bytes of workspace for a pointwise call; `executor` as in the call. */
PHYSCON_API size_t physcon_pointwise_workspace_f64(
    const physcon_pointwise_args_f64* args, const physcon_executor* executor
);
/** Adds the linear map and the bias, assigns faces, activates. */
PHYSCON_API int physcon_pointwise_f64(
    const physcon_pointwise_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Bytes of workspace for the gains; `executor` as in the call. */
PHYSCON_API size_t physcon_correction_gain_workspace_f64(
    const physcon_correction_gain_args_f64* args, const physcon_executor* executor
);
/** Makes the gains of one axis. */
PHYSCON_API int physcon_correction_gain_f64(
    const physcon_correction_gain_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);

/** Bytes of workspace for the published gains; `executor` as in the call. */
PHYSCON_API size_t physcon_published_gain_workspace_f64(
    const physcon_published_gain_args_f64* args, const physcon_executor* executor
);
/** Makes the published gains of one axis. */
PHYSCON_API int physcon_published_gain_f64(
    const physcon_published_gain_args_f64* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);

/* ---- float: the fields mean the same ------------------------------------------------------ */

/** What is assigned to both end faces of one axis; set to zero: the axis is left alone. */
typedef struct physcon_face_f32 {
    const double* stencil;
    int64_t width;
    const float* values;
    int64_t item_stride;
    int64_t channel_stride;
    int64_t end_stride;
    int64_t tangent_stride[2];
} physcon_face_f32;

/** A convolution, its correction and its faces. */
typedef struct physcon_spectral_conv_args_f32 {
    physcon_spectral_grid grid;
    int64_t batch;
    int64_t in;
    int64_t out;
    const void* tables;
    const float* x;
    const float* weight;
    const double* gain[3];
    physcon_face_f32 face[3];
    float* y_out;
} physcon_spectral_conv_args_f32;

/** Assignment of faces alone. */
typedef struct physcon_assign_faces_args_f32 {
    int32_t axes;
    int64_t size[3];
    int64_t batch;
    int64_t channels;
    physcon_face_f32 face[3];
    const float* u;
    float* u_out;
} physcon_assign_faces_args_f32;

/** What a Fourier layer adds to its convolution. */
typedef struct physcon_pointwise_args_f32 {
    int32_t axes;
    int64_t size[3];
    int64_t batch;
    int64_t in;
    int64_t out;
    const float* x;
    const float* skip;
    const float* bias;
    int32_t activated;
    physcon_face_f32 face[3];
    float* y;
} physcon_pointwise_args_f32;

/** The gains of one axis, from the weights. */
typedef struct physcon_correction_gain_args_f32 {
    physcon_spectral_grid grid;
    int32_t axis;
    int64_t in;
    int64_t out;
    int32_t first;
    int32_t last;
    double ridge;
    const float* weight;
    double* gain_out;
} physcon_correction_gain_args_f32;

/** The gains of one axis as the published program makes them. */
typedef struct physcon_published_gain_args_f32 {
    physcon_spectral_grid grid;
    int32_t axis;
    int64_t channels;
    int32_t first;
    int32_t last;
    double tolerance;
    int32_t modulus;
    double slip;
    const float* weight;
    double* gain_out;
} physcon_published_gain_args_f32;

/** Bytes of the tables of a grid; 0 if the grid is wrong. */
PHYSCON_API size_t physcon_spectral_tables_size_f32(const physcon_spectral_grid* grid);
/** Makes the tables of a grid, aligned as a workspace. They serve any number of calls and threads.
 */
PHYSCON_API int physcon_spectral_tables_f32(
    const physcon_spectral_grid* grid, void* tables, size_t size, physcon_error* error
);
/** Bytes of workspace for the convolution; `executor` as in the call. */
PHYSCON_API size_t physcon_spectral_conv_workspace_f32(
    const physcon_spectral_conv_args_f32* args, const physcon_executor* executor
);
/** Convolves, corrects and assigns. */
PHYSCON_API int physcon_spectral_conv_f32(
    const physcon_spectral_conv_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Assigns faces, axis after axis; later axes own the corners. */
PHYSCON_API int physcon_assign_faces_f32(
    const physcon_assign_faces_args_f32* args,
    const physcon_executor* executor,
    physcon_error* error
);
/** Bytes of workspace for a pointwise call; `executor` as in the call. */
PHYSCON_API size_t physcon_pointwise_workspace_f32(
    const physcon_pointwise_args_f32* args, const physcon_executor* executor
);
/** Adds the linear map and the bias, assigns faces, activates. */
PHYSCON_API int physcon_pointwise_f32(
    const physcon_pointwise_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Bytes of workspace for the gains; `executor` as in the call. */
PHYSCON_API size_t physcon_correction_gain_workspace_f32(
    const physcon_correction_gain_args_f32* args, const physcon_executor* executor
);
/** Makes the gains of one axis. */
PHYSCON_API int physcon_correction_gain_f32(
    const physcon_correction_gain_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);
/** Bytes of workspace for the published gains; `executor` as in the call. */
PHYSCON_API size_t physcon_published_gain_workspace_f32(
    const physcon_published_gain_args_f32* args, const physcon_executor* executor
);
/** Makes the published gains of one axis. */
PHYSCON_API int physcon_published_gain_f32(
    const physcon_published_gain_args_f32* args,
    const physcon_executor* executor,
    void* workspace,
    size_t workspace_size,
    physcon_error* error
);

#ifdef __cplusplus
}
#endif

#endif
