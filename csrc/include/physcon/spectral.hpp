// SPDX-License-Identifier: Apache-2.0
/// Thin C++ over spectral.h: a convolution that owns its weights, tables and gains, and the
/// pointwise map that a Fourier layer adds to it.
#pragma once

#include <physcon/spectral.h>
#include <physcon/physcon.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace physcon {

// ---- the C functions, by scalar type ------------------------------------------------------------

template <typename T>
struct SpectralCApi;

#define PHYSCON_DEFINE_SPECTRAL_CPP_API(T, suffix)                                              \
    template <>                                                                                 \
    struct SpectralCApi<T> {                                                                    \
        using Conv = physcon_spectral_conv_args_##suffix;                                       \
        using Faces = physcon_assign_faces_args_##suffix;                                       \
        using Face = physcon_face_##suffix;                                                     \
        using Gain = physcon_correction_gain_args_##suffix;                                     \
        using Published = physcon_published_gain_args_##suffix;                                 \
        using Pointwise = physcon_pointwise_args_##suffix;                                      \
        static constexpr auto tables_size = &physcon_spectral_tables_size_##suffix;             \
        static constexpr auto tables = &physcon_spectral_tables_##suffix;                       \
        static constexpr auto conv_workspace = &physcon_spectral_conv_workspace_##suffix;       \
        static constexpr auto conv = &physcon_spectral_conv_##suffix;                           \
        static constexpr auto assign_faces = &physcon_assign_faces_##suffix;                    \
        static constexpr auto gain_workspace = &physcon_correction_gain_workspace_##suffix;     \
        static constexpr auto gain = &physcon_correction_gain_##suffix;                         \
        static constexpr auto published_workspace = &physcon_published_gain_workspace_##suffix; \
        static constexpr auto published = &physcon_published_gain_##suffix;                     \
        static constexpr auto pointwise_workspace = &physcon_pointwise_workspace_##suffix;      \
        static constexpr auto pointwise = &physcon_pointwise_##suffix;                          \
    };
PHYSCON_DEFINE_SPECTRAL_CPP_API(double, f64)
PHYSCON_DEFINE_SPECTRAL_CPP_API(float, f32)
#undef PHYSCON_DEFINE_SPECTRAL_CPP_API

// ---- a layer that owns its memory ---------------------------------------------------------------

/// A spectral convolution on one grid, corrected along the axes that `correct` was called for.
template <typename T>
class SpectralConvolution {
  public:
    using Face = typename SpectralCApi<T>::Face;
    using Faces = std::array<Face, 3>;  ///< by axis; a face set to zero leaves its axis alone

    /// `weight` (M_1 .. M_d, in, out, 2). Throws Error when sizes do not fit.
    SpectralConvolution(
        const physcon_spectral_grid& grid, std::int64_t in, std::int64_t out, std::vector<T> weight
    )
        : grid_(grid),
          in_(in),
          out_(out),
          weight_(std::move(weight)),
          memory_(SpectralCApi<T>::tables_size(&grid)),
          tables_(memory_.data()) {
        physcon_error error;
        const int status = SpectralCApi<T>::tables(&grid_, tables_, memory_.size(), &error);
        detail::throw_unless_ok(status, error);
        if (in < 1 || out < 1 || weight_.size() != modes() * count_of(in) * count_of(out) * 2) {
            throw Error(
                PHYSCON_ERROR_ARGUMENT,
                "physcon::SpectralConvolution: expected weight (modes, in, out, 2) with " +
                    std::to_string(modes()) + " modes, in = " + std::to_string(in) + " and out = " +
                    std::to_string(out) + ", got " + std::to_string(weight_.size()) + " elements"
            );
        }
    }

    SpectralConvolution(const SpectralConvolution&) = delete;
    SpectralConvolution& operator=(const SpectralConvolution&) = delete;
    SpectralConvolution(SpectralConvolution&&) = default;
    SpectralConvolution& operator=(SpectralConvolution&&) = default;

    /// Makes the gains of an axis from the weights: its ends will depend on the ends of the input
    /// only. See physcon_correction_gain_args_f64.
    void correct(int axis, double ridge = 0.1, bool first = true, bool last = true) {
        typename SpectralCApi<T>::Gain args{};
        args.grid = grid_;
        args.axis = axis;
        args.in = in_;
        args.out = out_;
        args.first = first ? 1 : 0;
        args.last = last ? 1 : 0;
        args.ridge = ridge;
        make_gain(args, SpectralCApi<T>::gain_workspace, SpectralCApi<T>::gain);
    }

    /// The same by the scalar pivots of the published program; `in` and `out` must be equal. See
    /// physcon_published_gain_args_f64.
    void correct_as_published(
        int axis,
        double tolerance,
        bool modulus = true,
        double slip = 0,
        bool first = true,
        bool last = true
    ) {
        if (in_ != out_) {
            throw Error(
                PHYSCON_ERROR_ARGUMENT,
                "physcon::SpectralConvolution: expected as many channels out as in, got " +
                    std::to_string(out_) + " and " + std::to_string(in_)
            );
        }
        typename SpectralCApi<T>::Published args{};
        args.grid = grid_;
        args.axis = axis;
        args.channels = in_;
        args.first = first ? 1 : 0;
        args.last = last ? 1 : 0;
        args.tolerance = tolerance;
        args.modulus = modulus ? 1 : 0;
        args.slip = slip;
        make_gain(args, SpectralCApi<T>::published_workspace, SpectralCApi<T>::published);
    }

    /// y (batch, out, N_1 .. N_d) of x (batch, in, N_1 .. N_d), its faces assigned at the end.
    std::vector<T> operator()(
        const std::vector<T>& x, const Faces& faces = {}, const physcon_executor* executor = nullptr
    ) const {
        const std::size_t item = count_of(in_) * points();
        if (x.size() % item != 0) {
            throw Error(
                PHYSCON_ERROR_ARGUMENT,
                "physcon::SpectralConvolution: expected x (batch, in, points), a multiple of " +
                    std::to_string(item) + " elements, got " + std::to_string(x.size())
            );
        }
        std::vector<T> y(x.size() / item * count_of(out_) * points());
        typename SpectralCApi<T>::Conv args{};
        args.grid = grid_;
        args.batch = static_cast<std::int64_t>(x.size() / item);
        args.in = in_;
        args.out = out_;
        args.tables = tables_;
        args.x = x.data();
        args.weight = weight_.data();
        for (std::size_t axis = 0; axis < 3; ++axis) {
            args.gain[axis] = gain_[axis].empty() ? nullptr : gain_[axis].data();
            args.face[axis] = faces[axis];
        }
        args.y_out = y.data();
        detail::AlignedBuffer workspace(SpectralCApi<T>::conv_workspace(&args, executor));
        physcon_error error;
        const int status =
            SpectralCApi<T>::conv(&args, executor, workspace.data(), workspace.size(), &error);
        detail::throw_unless_ok(status, error);
        return y;
    }

  private:
    template <typename Args, typename Workspace, typename Make>
    void make_gain(Args& args, const Workspace& bytes, const Make& make) {
        args.weight = weight_.data();
        std::vector<double> gain;
        if (args.axis >= 0 && args.axis < grid_.axes) {
            const std::size_t parts = grid_.axes == 1 ? 1 : 2;
            gain.resize(
                modes() / count_of(grid_.modes[args.axis]) * 4 * count_of(in_ + out_) *
                count_of(in_) * parts
            );
            args.gain_out = gain.data();
        }
        detail::AlignedBuffer workspace(bytes(&args, nullptr));
        physcon_error error;
        const int status = make(&args, nullptr, workspace.data(), workspace.size(), &error);
        detail::throw_unless_ok(status, error);
        gain_[static_cast<std::size_t>(args.axis)] = std::move(gain);
    }
    static std::size_t count_of(std::int64_t count) {
        return static_cast<std::size_t>(count);
    }
    std::size_t product(const std::int64_t (&counts)[3]) const {
        std::size_t total = 1;
        for (int axis = 0; axis < grid_.axes; ++axis) {
            total *= count_of(counts[axis]);
        }
        return total;
    }
    std::size_t modes() const {
        return product(grid_.modes);
    }
    std::size_t points() const {
        return product(grid_.size);
    }

    physcon_spectral_grid grid_;
    std::int64_t in_, out_;
    std::vector<T> weight_;
    detail::AlignedBuffer memory_;
    void* tables_;  ///< inside `memory_`, also after a move
    std::array<std::vector<double>, 3> gain_;
};

/// What a Fourier layer adds to its convolution: a linear map of the channels, a bias, faces, GELU.
/// Alone it lifts and projects.
template <typename T>
class Pointwise {
  public:
    using Face = typename SpectralCApi<T>::Face;
    using Faces = std::array<Face, 3>;

    /// `skip` (in, out), `bias` (out) or empty. Throws Error when sizes do not fit.
    Pointwise(
        std::int64_t in,
        std::int64_t out,
        std::vector<T> skip,
        std::vector<T> bias,
        bool activated = true
    )
        : in_(in),
          out_(out),
          skip_(std::move(skip)),
          bias_(std::move(bias)),
          activated_(activated) {
        const auto wanted = static_cast<std::size_t>(in) * static_cast<std::size_t>(out);
        if (in < 1 || out < 1 || skip_.size() != wanted ||
            !(bias_.empty() || bias_.size() == static_cast<std::size_t>(out))) {
            throw Error(
                PHYSCON_ERROR_ARGUMENT,
                "physcon::Pointwise: expected skip (in, out) and bias (out) or empty with in = " +
                    std::to_string(in) + " and out = " + std::to_string(out) + ", got " +
                    std::to_string(skip_.size()) + " and " + std::to_string(bias_.size()) +
                    " elements"
            );
        }
    }

    /// y (batch, out, size) = gelu(z + x skip + bias) of x (batch, in, size) and the convolution z
    /// (batch, out, size), zeros if empty; 1 to 3 sizes. Points whose faces prescribe them keep the
    /// bits of their values.
    std::vector<T> operator()(
        const std::vector<std::int64_t>& size,
        const std::vector<T>& x,
        std::vector<T> z = {},
        const Faces& faces = {},
        const physcon_executor* executor = nullptr
    ) const {
        typename SpectralCApi<T>::Pointwise args{};
        args.axes = static_cast<std::int32_t>(size.size());
        std::int64_t points = 1;
        for (std::size_t axis = 0; axis < size.size() && axis < 3; ++axis) {
            args.size[axis] = size[axis];
            args.face[axis] = faces[axis];
            points *= size[axis];
        }
        args.batch = points < 1 ? 0 : static_cast<std::int64_t>(x.size()) / (in_ * points);
        const auto items = static_cast<std::size_t>(args.batch);
        const auto item = static_cast<std::size_t>(points < 1 ? 0 : points);
        const std::size_t all = items * static_cast<std::size_t>(out_) * item;
        if (x.size() != items * static_cast<std::size_t>(in_) * item ||
            !(z.empty() || z.size() == all)) {
            throw Error(
                PHYSCON_ERROR_ARGUMENT,
                "physcon::Pointwise: expected x (batch, in, size) and z (batch, out, size) or "
                "empty with in = " +
                    std::to_string(in_) + ", out = " + std::to_string(out_) + " and " +
                    std::to_string(points) + " points, got " + std::to_string(x.size()) + " and " +
                    std::to_string(z.size()) + " elements"
            );
        }
        z.resize(all);
        args.in = in_;
        args.out = out_;
        args.x = x.data();
        args.skip = skip_.data();
        args.bias = bias_.empty() ? nullptr : bias_.data();
        args.activated = activated_ ? 1 : 0;
        args.y = z.data();
        detail::AlignedBuffer workspace(SpectralCApi<T>::pointwise_workspace(&args, executor));
        physcon_error error;
        const int status =
            SpectralCApi<T>::pointwise(&args, executor, workspace.data(), workspace.size(), &error);
        detail::throw_unless_ok(status, error);
        return z;
    }

  private:
    std::int64_t in_, out_;
    std::vector<T> skip_, bias_;
    bool activated_;
};

}  // namespace physcon
