// SPDX-License-Identifier: Apache-2.0
// Truncated real Fourier transforms, mixing of channels mode by mode, and the convolution made of
// them: arguments and entry points of the torch-free core.
//
// On an axis of N points with period P >= N (in points, integer or not) the angles are taken about
// the centre c = (N - 1) / 2 of the axis:
//
//   X(k) = sum_n x_n e^{-i w_k (n - c)},                  w_k = 2 pi k / P       (analysis)
//   y_n  = sum_k h_k Re(Y(k) e^{+i w_k (n - c)}),  h_k = c_k / P                 (synthesis)
//
// with c_k = 1 for k = 0 and 2 k = P, 2 otherwise. Mixing is diagonal in k, so the phases of the
// centre cancel and the convolution equals a zero-padded transform of length P, truncation, mixing,
// inverse transform and cropping. With several axes the last one is one-sided, k = 0 .. M - 1; the
// others hold M = 2 m wavenumbers in the order 0 .. m - 1, -m .. -1, and h_k is the product of c_k
// / P of the last axis and 1 / P of the others.
//
// Layouts, all dense and row-major:
//   values    (rows, N_1 .. N_d)            real; rows = batch * channels, the channel fastest
//   spectrum  (M_1 .. M_d, rows, 2)         mode-major, real and imaginary part adjacent
//   weight    (M_1 .. M_d, in, out, 2)      Y(k)[b, o] = sum_i X(k)[b, i] W(k)[i, o]
// Mode (k_1 .. k_d) of row b * channels + c is therefore a complex number at
// spectrum[(mode * batch + b) * channels + c], and the spectrum of one mode a (batch, channels)
// matrix.
//
// Limits: 1 <= M <= floor(P / 2) + 1 on the last axis, 2 <= M <= P and even on the others, N <= P.
// No function allocates, throws or keeps state. Workspaces and tables come from the caller, 64-byte
// aligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "executor.hpp"

namespace physcon {

/// Unused axes come first and have size 1, one mode and period 1: axis 2 is always the last one.
struct SpectralGrid {
    std::int64_t size[3] = {1, 1, 1};   ///< N
    std::int64_t modes[3] = {1, 1, 1};  ///< M
    double period[3] = {1, 1, 1};       ///< P
    int axes = 1;                       ///< d
};

/// Cosines, sines and weights of a grid. They depend on nothing else but the element type and the
/// instruction set, and may be shared by any number of calls and threads.
template <typename T>
struct SpectralTablesArgs {
    SpectralGrid grid;
    T* tables = nullptr;
};
template <typename T>
std::size_t spectral_tables_size(const SpectralTablesArgs<T>& args, const Executor& executor);
template <typename T>
void spectral_tables(const SpectralTablesArgs<T>& args, const Executor& executor);

/// One direction: `spectral_analysis` reads `values` and writes `spectrum`, `spectral_synthesis`
/// the other way. Either applies h_k on request: the convolution uses plain analysis and weighted
/// synthesis, whose adjoints are plain synthesis and weighted analysis.
template <typename T>
struct SpectralTransformArgs {
    SpectralGrid grid;
    std::int64_t rows = 0;
    const T* tables = nullptr;
    bool weighted = false;
    const T* values = nullptr;    ///< analysis: (rows, N_1 .. N_d)
    T* values_out = nullptr;      ///< synthesis: the same
    const T* spectrum = nullptr;  ///< synthesis: (M_1 .. M_d, rows, 2)
    T* spectrum_out = nullptr;    ///< analysis: the same
};
template <typename T>
std::size_t spectral_analysis_workspace(
    const SpectralTransformArgs<T>& args, const Executor& executor
);
template <typename T>
void spectral_analysis(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
);
template <typename T>
std::size_t spectral_synthesis_workspace(
    const SpectralTransformArgs<T>& args, const Executor& executor
);
template <typename T>
void spectral_synthesis(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
);

/// e^{i w_k c} of the wavenumbers of each axis, in double precision for either element type.
struct SpectralPhasesArgs {
    SpectralGrid grid;
    double* phases = nullptr;  ///< (M_1 + M_2 + M_3, 2), unused axes too
};
void spectral_phases(const SpectralPhasesArgs& args, const Executor& executor);

/// Between the spectrum and whole Fourier transforms made elsewhere, (rows, P_1 .. P_{d-1},
/// P_d / 2 + 1, 2) with angles about the first point, for integer periods. `items` given: writes
/// the spectrum, times h_k if weighted. `spectrum` given: writes items whose unnormalised inverse
/// transform is the synthesis, zeros for the wavenumbers that are not kept. `items` and `weight`
/// given, for one channel: writes the spectrum and what mixing and the second direction make of it,
/// items_out; on a single axis that may be `items` itself.
template <typename T>
struct SpectralExchangeArgs {
    SpectralGrid grid;
    std::int64_t rows = 0;
    const double* phases = nullptr;
    bool weighted = false;
    const T* items = nullptr;
    T* spectrum_out = nullptr;
    const T* spectrum = nullptr;
    T* items_out = nullptr;
    const T* weight = nullptr;  ///< (M_1 .. M_d, 2)
    bool conjugate = false;     ///< of the weight: the adjoint
};
template <typename T>
std::size_t spectral_exchange_workspace(
    const SpectralExchangeArgs<T>& args, const Executor& executor
);
template <typename T>
void spectral_exchange(
    const SpectralExchangeArgs<T>& args, const Executor& executor, void* workspace
);

/// Mixing and its two adjoints; `modes` counts all modes. What is null is not computed.
template <typename T>
struct SpectralMixArgs {
    std::int64_t modes = 0, batch = 0, in = 0, out = 0;
    const T* weight = nullptr;     ///< (modes, in, out, 2)
    const T* input = nullptr;      ///< X (modes, batch, in, 2)
    const T* upstream = nullptr;   ///< gradient of Y (modes, batch, out, 2)
    T* output = nullptr;           ///< spectral_mix: Y = X W, (modes, batch, out, 2)
    T* input_gradient = nullptr;   ///< spectral_mix_adjoint: upstream W^H, (modes, batch, in, 2)
    T* weight_gradient = nullptr;  ///< spectral_mix_adjoint: X^H upstream, (modes, in, out, 2)
};
template <typename T>
std::size_t spectral_mix_workspace(const SpectralMixArgs<T>& args, const Executor& executor);
template <typename T>
void spectral_mix(const SpectralMixArgs<T>& args, const Executor& executor, void* workspace);
template <typename T>
void spectral_mix_adjoint(
    const SpectralMixArgs<T>& args, const Executor& executor, void* workspace
);

/// The whole convolution.
template <typename T>
struct SpectralConvArgs {
    SpectralGrid grid;
    std::int64_t batch = 0, in = 0, out = 0;
    const T* tables = nullptr;
    const T* x = nullptr;       ///< (batch, in, N_1 .. N_d)
    const T* weight = nullptr;  ///< (M_1 .. M_d, in, out, 2)
    T* y_out = nullptr;         ///< (batch, out, N_1 .. N_d)
    T* spectrum_out = nullptr;  ///< (M_1 .. M_d, batch, in, 2), kept for the adjoint
};
template <typename T>
std::size_t spectral_conv_workspace(const SpectralConvArgs<T>& args, const Executor& executor);
template <typename T>
void spectral_conv(const SpectralConvArgs<T>& args, const Executor& executor, void* workspace);

template <typename T>
struct SpectralConvBackwardArgs {
    SpectralGrid grid;
    std::int64_t batch = 0, in = 0, out = 0;
    const T* tables = nullptr;
    const T* grad = nullptr;      ///< gradient of y, (batch, out, N_1 .. N_d)
    const T* spectrum = nullptr;  ///< of x, as kept by the forward call
    const T* weight = nullptr;
    T* x_out = nullptr;       ///< (batch, in, N_1 .. N_d) or null
    T* weight_out = nullptr;  ///< (M_1 .. M_d, in, out, 2) or null
};
template <typename T>
std::size_t spectral_conv_backward_workspace(
    const SpectralConvBackwardArgs<T>& args, const Executor& executor
);
template <typename T>
void spectral_conv_backward(
    const SpectralConvBackwardArgs<T>& args, const Executor& executor, void* workspace
);

}  // namespace physcon
