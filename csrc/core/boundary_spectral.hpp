// SPDX-License-Identifier: Apache-2.0
// Spectral convolution with corrected end points: arguments and entry points.
//
// With e_k = exp(i w_k (N - 1) / 2) of axis a and q the modes of the other axes, the axis is
// corrected by two point sources at its ends, chosen from what the convolution does there:
//
//   y_0(q) = S sum_k h_k conj(e_k) Y(k, q),  y_N(q) = S sum_k h_k e_k Y(k, q),   Y = X W
//   [d_0 d_N](q) = [a_0 a_N y_0 y_N](q) gain(q)
//   X(k, q) += d_0(q) e_k + d_N(q) conj(e_k)
//
// h_k is the weight of k in the synthesis, a_0 and a_N are the transforms of the end lines of the
// input along the other axes, and S takes the real part of the field where the synthesis drops the
// imaginary one: the average of q with the conjugate of -q where both end in the same real number,
// a missing -q counting as zero. Axes are corrected in order, each seeing the input as the axes
// before it left it. Everything between X and d is double precision.
#pragma once

#include "faces.hpp"
#include "spectral.hpp"

namespace physcon {

/// What a convolution answers at the ends of one axis to unit sources there, from its weights
/// alone: per mode q of the other axes the blocks D (at the end of the source), G (at the last
/// point, for a source at the first) and A (the reverse),
///
///   D = S sum_k h_k W(k, q),   G = S sum_k h_k e_k^2 W(k, q),   A = S sum_k h_k conj(e_k^2) W(k,
///   q).
///
/// The adjoint takes the gradient of the blocks to that of the weights.
template <typename T>
struct EndResponseArgs {
    SpectralGrid grid;
    int axis = 2;  ///< in the numbering of the grid
    std::int64_t in = 0, out = 0;
    const T* weight = nullptr;             ///< (M_1 .. M_d, in, out, 2)
    double* response_out = nullptr;        ///< (D G A, modes of the other axes, in, out, parts):
                                           ///< parts = 1 with a single axis, else 2
    const double* response_bar = nullptr;  ///< adjoint: the gradient of the same
    T* weight_out = nullptr;               ///< adjoint: the gradient of the weights
};
template <typename T>
std::size_t end_response_workspace(const EndResponseArgs<T>& args, const Executor& executor);
template <typename T>
void end_response(const EndResponseArgs<T>& args, const Executor& executor, void* workspace);
template <typename T>
void end_response_adjoint(
    const EndResponseArgs<T>& args, const Executor& executor, void* workspace
);

/// Gains of the regularised block elimination, from the weights: with S = [[D, G], [A, D]] and
/// lambda^2 = ridge^2 |S|^2 / rank,
///
///   gain = [[D, 0], [0, D], [-1, 0], [0, -1]] (S^H S + lambda^2)^-1 S^H,
///
/// so that the ends of the output depend on the ends of the input only, up to the ridge; for one
/// end S = D.
template <typename T>
struct CorrectionGainArgs {
    SpectralGrid grid;
    int axis = 2;  ///< in the numbering of the grid
    std::int64_t in = 0, out = 0;
    bool ends[2] = {true, true};  ///< which are corrected
    double ridge = 0.1;           ///< > 0
    const T* weight = nullptr;    ///< (M_1 .. M_d, in, out, 2)
    double* gain_out = nullptr;   ///< (modes of the other axes, 2 (in + out), 2 in, parts)
};
template <typename T>
std::size_t correction_gain_workspace(const CorrectionGainArgs<T>& args, const Executor& executor);
template <typename T>
void correction_gain(const CorrectionGainArgs<T>& args, const Executor& executor, void* workspace);

/// Gains of the published elimination, both ends, from the answers of `end_response` with in = out:
/// with K_00, K_N0, K_0N the answers of channel 0 to a source in all channels (mode 0, real part),
/// K = K_00, rho = K_0N / K and k = K_00 - K_N0 rho, small ones replaced by the tolerance,
///
///   d_0 = a_0 - (y_0 - rho y_N + K_0N a_N) / k,  d_N = a_N - (y_N + d_0 G) / K + slip (..)
///
/// where the slip adds (d_0 + a_0 - a_N) to d_N. One end alone has d = a - y / K. The adjoint, for
/// both ends, takes the gradient of the gains to that of the answers; a replaced number has the
/// derivative 0.
struct TwoStepGainArgs {
    std::int64_t modes = 0, channels = 0, parts = 1;  ///< modes of the other axes
    bool ends[2] = {true, true};                      ///< which are corrected
    double tolerance = 0;
    bool modulus = true;  ///< small means a small modulus; else negative numbers are small too
    double slip = 0;
    const double* response = nullptr;  ///< (D G A, modes, channels, channels, parts)
    double* gain_out = nullptr;        ///< (modes, 4 channels, 2 channels, parts)
    const double* gain_bar = nullptr;  ///< adjoint: the gradient of the gains
    double* response_out = nullptr;    ///< adjoint: the gradient of the response
};
void two_step_gain(const TwoStepGainArgs& args, const Executor& executor);
void two_step_gain_adjoint(const TwoStepGainArgs& args, const Executor& executor);

/// Gains per axis: (modes of the other axes, 2 (in + out), 2 in, parts); null: not corrected.
/// parts = 2 is complex, 1 real; with a single axis imaginary parts are not read.
struct BoundaryGains {
    const double* data[3] = {nullptr, nullptr, nullptr};
    std::int64_t parts[3] = {2, 2, 2};
};

template <typename T>
struct BoundarySpectralConvArgs {
    SpectralGrid grid;
    std::int64_t batch = 0, in = 0, out = 0;
    const T* tables = nullptr;  ///< of `spectral_tables`
    const T* x = nullptr;       ///< (batch, in, N_1 .. N_d)
    const T* weight = nullptr;  ///< (M_1 .. M_d, in, out, 2)
    BoundaryGains gains;
    FaceRule<T> rule[3];        ///< assigned to y at the end
    T* y_out = nullptr;         ///< (batch, out, N_1 .. N_d)
    T* spectrum_out = nullptr;  ///< (M_1 .. M_d, batch, in, 2): X before any correction
    /// Of every corrected axis in order: (modes of the other axes, batch, 2 (in + out) + 2 in),
    /// [a_0 a_N y_0 y_N d_0 d_N], complex, or real with a single axis.
    double* shifts_out = nullptr;
};
template <typename T>
std::size_t boundary_spectral_conv_workspace(
    const BoundarySpectralConvArgs<T>& args, const Executor& executor
);
template <typename T>
void boundary_spectral_conv(
    const BoundarySpectralConvArgs<T>& args, const Executor& executor, void* workspace
);

template <typename T>
struct BoundarySpectralConvBackwardArgs {
    SpectralGrid grid;
    std::int64_t batch = 0, in = 0, out = 0;
    const T* tables = nullptr;
    const T* grad = nullptr;         ///< gradient of y
    const T* spectrum = nullptr;     ///< kept by the forward call
    const double* shifts = nullptr;  ///< kept by the forward call
    const T* weight = nullptr;
    BoundaryGains gains;
    FaceRule<T> rule[3];                                ///< `values` is not read
    T* x_out = nullptr;                                 ///< (batch, in, N_1 .. N_d) or null
    T* weight_out = nullptr;                            ///< (M_1 .. M_d, in, out, 2) or null
    double* gain_out[3] = {nullptr, nullptr, nullptr};  ///< as the gains, or null
    FaceGradient<T> face_gradient[3];
};
template <typename T>
std::size_t boundary_spectral_conv_backward_workspace(
    const BoundarySpectralConvBackwardArgs<T>& args, const Executor& executor
);
template <typename T>
void boundary_spectral_conv_backward(
    const BoundarySpectralConvBackwardArgs<T>& args, const Executor& executor, void* workspace
);

}  // namespace physcon
