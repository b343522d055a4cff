// SPDX-License-Identifier: Apache-2.0
// What the bindings of spectral ops share: the grid of a call and the tables of a grid.
#pragma once

#include <memory>
#include <tuple>
#include <utility>

#include "core/spectral.hpp"
#include "torch/binding.hpp"

namespace physcon::binding {

/// The sizes of one call, checked: x (*batch, in, N_1 .. N_d), weight (M_1 .. M_d, in, out, 2). No
/// period means that of the points.
struct SpectralCall {
    const char* op;
    SpectralGrid grid;
    Shape batch, modes, size;  ///< leading axes of x, M_1 .. M_d, N_1 .. N_d
    int64_t items, in, out;
    int64_t mode_count, point_count;

    /// `channels` are those of x when it is the input, of its gradient otherwise.
    SpectralCall(
        const char* op,
        const Shape& batch,
        const Shape& size,
        const Tensor& weight,
        const std::vector<double>& period
    );
    /// Of a field (..., channels, N_1 .. N_d), `name` in errors, with `axes` trailing axes.
    SpectralCall(
        const char* op,
        const char* name,
        const Tensor& field,
        int64_t axes,
        const Tensor& weight,
        const std::vector<double>& period
    );
    /// Throws unless `t` has this shape and dtype.
    void check(const char* name, const Tensor& t, const Shape& shape, ScalarType type) const;
    /// Floating-point operations of one transform and one mixing, roughly.
    double work() const;
    /// (M_1 .. M_d, *batch, channels, 2)
    Shape spectrum_shape(int64_t channels) const;
    /// (*batch, channels, N_1 .. N_d)
    Shape value_shape(int64_t channels) const;

  private:
    SpectralCall(
        const char* op,
        const std::pair<Shape, Shape>& leading_and_sizes,
        const Tensor& weight,
        const std::vector<double>& period
    );
};

/// The tables of a grid, made once and kept for later calls; thread safe. The memory stays alive as
/// long as the pointer.
template <typename T>
std::shared_ptr<const T> spectral_tables_of(const SpectralGrid& grid);
/// The phases of a grid, for whole transforms; kept likewise.
std::shared_ptr<const double> spectral_phases_of(const SpectralGrid& grid);

/// Fills in what the arguments of all spectral kernels begin with, but for the tables.
template <typename T, typename Args>
void set_sizes(const SpectralCall& call, const Tensor& weight, Args& args) {
    args.grid = call.grid;
    args.batch = call.items;
    args.in = call.in;
    args.out = call.out;
    args.weight = weight.template const_data_ptr<T>();
}

/// Whether whole Fourier transforms of the framework beat sums over the kept wavenumbers. The
/// environment variable PHYSCON_SPECTRAL_PATH (matrix, fft, auto) overrides the measured choice.
bool prefers_fft(const SpectralGrid& grid, ScalarType type);

/// spectral_analysis and spectral_synthesis by whole transforms; same spectrum.
template <typename T>
void fft_analysis(
    const SpectralCall& call, const Tensor& values, int64_t channels, bool weighted, T* spectrum
);
template <typename T>
Tensor fft_synthesis(
    const SpectralCall& call, const T* spectrum, int64_t channels, bool weighted, const Tensor& like
);

/// The convolution of one channel, or its adjoint to `values`; and the spectrum, weighted for the
/// adjoint.
template <typename T>
Tensor fft_one_channel(
    const SpectralCall& call, const Tensor& values, const Tensor& weight, bool adjoint, T* spectrum
);

/// The ops of the same names.
std::tuple<Tensor, Tensor> spectral_conv(
    const Tensor& x, const Tensor& weight, const std::vector<double>& period
);
std::tuple<Tensor, Tensor> spectral_conv_backward(
    const Tensor& grad,
    const Tensor& spectrum,
    const Tensor& weight,
    const std::vector<int64_t>& size,
    const std::vector<double>& period,
    bool x_needed,
    bool weight_needed
);
std::tuple<Tensor, Tensor, Tensor> boundary_spectral_conv(
    const Tensor& x,
    const Tensor& weight,
    const Tensor& gain_0,
    const Tensor& gain_1,
    const Tensor& gain_2,
    const Tensor& values_0,
    const Tensor& values_1,
    const Tensor& values_2,
    const Tensor& stencil_0,
    const Tensor& stencil_1,
    const Tensor& stencil_2,
    const std::vector<double>& period
);
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>
boundary_spectral_conv_backward(
    const Tensor& grad,
    const Tensor& spectrum,
    const Tensor& shifts,
    const Tensor& weight,
    const Tensor& gain_0,
    const Tensor& gain_1,
    const Tensor& gain_2,
    const Tensor& values_0,
    const Tensor& values_1,
    const Tensor& values_2,
    const Tensor& stencil_0,
    const Tensor& stencil_1,
    const Tensor& stencil_2,
    const std::vector<double>& period,
    bool x_needed,
    bool weight_needed,
    bool gains_needed,
    bool values_needed
);

/// The forward ones with y in a dtype of its own: that of x, or where x has 16 bits float32.
std::tuple<Tensor, Tensor> spectral_conv_to(
    ScalarType result, const Tensor& x, const Tensor& weight, const std::vector<double>& period
);
std::tuple<Tensor, Tensor, Tensor> boundary_spectral_conv_to(
    ScalarType result,
    const Tensor& x,
    const Tensor& weight,
    const Tensor* const (&gains)[3],
    const Tensor* const (&values)[3],
    const Tensor* const (&stencils)[3],
    const std::vector<double>& period
);

/// The length of x along its last axes as a period, unless one is given.
inline std::vector<double> period_or_size(const std::vector<double>& period, const Shape& size) {
    return period.empty() ? std::vector<double>(size.begin(), size.end()) : period;
}

}  // namespace physcon::binding
