// SPDX-License-Identifier: Apache-2.0
// The convolution by the framework's Fourier transforms, for many wavenumbers of long axes: whole
// transforms there, truncation, mixing and padding in the core. And the choice between both ways.
#include <torch/csrc/stable/c/shim.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string>

#include "core/cpu_features.hpp"
#include "torch/spectral.hpp"

namespace physcon::binding {
namespace {

Tensor call_tensor(const char* op, StableIValue* stack) {
    TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(op, "", stack, TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
}
/// The axes of one transform of values (*batch, channels, N_1 .., N_d).
std::vector<int64_t> transformed_axes(const SpectralCall& call) {
    std::vector<int64_t> axes;
    for (std::size_t i = 0; i < call.size.size(); ++i) {
        axes.push_back(static_cast<int64_t>(call.batch.size() + 1 + i));
    }
    return axes;
}
constexpr int64_t unnormalised = 0;

/// (*batch, channels, P_1 .., P_d / 2 + 1), complex, of values (*batch, channels, N_1 .., N_d)
/// filled up with zeros.
Tensor whole_transform(const SpectralCall& call, const Tensor& values) {
    const int d = call.grid.axes;
    std::vector<int64_t> padding;
    bool padded = false;
    for (int axis = d - 1; axis >= 0; --axis) {
        const auto period = static_cast<int64_t>(call.grid.period[3 - d + axis]);
        padding.push_back(0);
        padding.push_back(period - call.size[axis]);
        padded = padded || padding.back() != 0;
    }
    const Tensor items =
        padded ? torch::stable::pad(values, {padding.data(), padding.size()}) : values;
    std::array<StableIValue, 4> transform = {
        torch::stable::detail::from(items),
        torch::stable::detail::from(transformed_axes(call)),
        torch::stable::detail::from(unnormalised),
        torch::stable::detail::from(true)
    };
    return packed(call_tensor("aten::_fft_r2c", transform.data()));
}

/// (*batch, channels, N_1 .., N_d) from items as above.
Tensor whole_inverse(const SpectralCall& call, const Tensor& items) {
    const auto last = static_cast<int64_t>(call.grid.period[2]);
    const std::vector<int64_t> axes = transformed_axes(call);
    std::array<StableIValue, 4> transform = {
        torch::stable::detail::from(items),
        torch::stable::detail::from(axes),
        torch::stable::detail::from(unnormalised),
        torch::stable::detail::from(last)
    };
    Tensor values = call_tensor("aten::_fft_c2r", transform.data());
    for (std::size_t i = 0; i < axes.size(); ++i) {
        if (values.size(axes[i]) != call.size[i]) {
            values = torch::stable::narrow(values, axes[i], 0, call.size[i]);
        }
    }
    return packed(values);
}

Shape items_shape(const SpectralCall& call, int64_t channels) {
    Shape shape = call.batch;
    shape.push_back(channels);
    for (int axis = 3 - call.grid.axes; axis < 3; ++axis) {
        shape.push_back(static_cast<int64_t>(call.grid.period[axis]));
    }
    shape.back() = shape.back() / 2 + 1;
    return shape;
}

template <typename T>
void exchange(const SpectralCall& call, SpectralExchangeArgs<T>& args, int64_t rows) {
    const std::shared_ptr<const double> phases = spectral_phases_of(call.grid);
    args.grid = call.grid;
    args.phases = phases.get();
    args.rows = rows;
    const Executor executor = torch_executor(call.work());
    Workspace workspace(spectral_exchange_workspace(args, executor));
    spectral_exchange(args, executor, workspace.data());
}

}  // namespace

template <typename T>
void fft_analysis(
    const SpectralCall& call, const Tensor& values, int64_t channels, bool weighted, T* spectrum
) {
    const Tensor items = whole_transform(call, values);
    SpectralExchangeArgs<T> args;
    args.weighted = weighted;
    args.items = static_cast<const T*>(items.const_data_ptr());
    args.spectrum_out = spectrum;
    exchange(call, args, call.items * channels);
}
template <typename T>
Tensor fft_synthesis(
    const SpectralCall& call, const T* spectrum, int64_t channels, bool weighted, const Tensor& like
) {
    constexpr ScalarType complex =
        sizeof(T) == sizeof(float) ? ScalarType::ComplexFloat : ScalarType::ComplexDouble;
    const Tensor items = allocate(like, items_shape(call, channels), complex);
    SpectralExchangeArgs<T> args;
    args.weighted = weighted;
    args.spectrum = spectrum;
    args.items_out = static_cast<T*>(items.mutable_data_ptr());
    exchange(call, args, call.items * channels);
    return whole_inverse(call, items);
}
template <typename T>
Tensor fft_one_channel(
    const SpectralCall& call, const Tensor& values, const Tensor& weight, bool adjoint, T* spectrum
) {
    const Tensor items = whole_transform(call, values);
    const bool in_place = call.grid.axes == 1;
    const Tensor mixed =
        in_place ? items : allocate(values, items_shape(call, 1), items.scalar_type());
    SpectralExchangeArgs<T> args;
    args.weighted = adjoint;
    args.conjugate = adjoint;
    args.items = static_cast<const T*>(items.const_data_ptr());
    args.spectrum_out = spectrum;
    args.items_out = static_cast<T*>(mixed.mutable_data_ptr());
    args.weight = weight.template const_data_ptr<T>();
    exchange(call, args, call.items);
    return whole_inverse(call, mixed);
}
template void fft_analysis(const SpectralCall&, const Tensor&, int64_t, bool, float*);
template void fft_analysis(const SpectralCall&, const Tensor&, int64_t, bool, double*);
template Tensor fft_synthesis(const SpectralCall&, const float*, int64_t, bool, const Tensor&);
template Tensor fft_synthesis(const SpectralCall&, const double*, int64_t, bool, const Tensor&);
template Tensor fft_one_channel(const SpectralCall&, const Tensor&, const Tensor&, bool, float*);
template Tensor fft_one_channel(const SpectralCall&, const Tensor&, const Tensor&, bool, double*);

namespace {

// The choice, by models of both ways. It knows nothing of the batch: bits must not depend on it.

/// Nanoseconds of one core with 512-bit vectors, fitted to some 600 grids per element type.
struct LineCosts {
    double split_point, split_point_mode, split_mode;  // sums in two steps
    double line, point, product, far_product;          // folded sums; far: beyond the cache
    double base, two, small_prime, middle_prime, large_prime, huge_prime;  // transforms, per point
    double odd, mode;
};
constexpr LineCosts single_costs = {
    0.363, 0.0120, 1.27, 324, 0.41, 0.0793, 0.0446, 1.67, 0.072, 0.385, 0.885, 4.8, 8.2, 2.3, 2.0
};
constexpr LineCosts double_costs = {
    0.421, 0.0269, 0, 425, 0.55, 0.1584, 0.1536, 1.01, 0.306, 0.845, 1.41, 7.4, 19.8, 2.0, 3.0
};

/// Vectors of fewer bytes slow the sums down more than the transforms, which have their own.
double isa_factor() {
    switch (active_isa()) {
        case Isa::avx512:
            return 1;
        case Isa::avx2:
            return 0.65;
        default:
            return 0.3;
    }
}

/// Points that remain after folding once (any period) or twice (even periods).
double folded_points(const SpectralGrid& grid, int axis) {
    const auto n = static_cast<double>(grid.size[axis]);
    const double p = grid.period[axis];
    return std::fmod(p, 2.0) == 0 ? std::min(n / 2, p / 4 + 1) : n / 2 + 1;
}

/// Analysis and synthesis of a line by sums over the kept wavenumbers.
double sums_cost(const SpectralGrid& grid, const LineCosts& c, std::size_t bytes) {
    const double p = grid.period[2];
    const auto m = static_cast<double>(grid.modes[2]);
    if (static_cast<int64_t>(p) % 16 == 0) {
        const double points = std::ceil(p / 256) * 256;
        return points * (c.split_point + c.split_point_mode * m) + c.split_mode * m;
    }
    const double products = folded_points(grid, 2) * m;
    const double near = static_cast<double>(std::size_t{1} << 19) / static_cast<double>(bytes);
    return c.line + c.point * static_cast<double>(grid.size[2]) + c.product * products +
           c.far_product * std::max(0.0, products - near);
}
/// The same by whole transforms: large prime factors are what makes them slow.
double transforms_cost(const SpectralGrid& grid, const LineCosts& c) {
    auto rest = static_cast<int64_t>(grid.period[2]);
    double per_point = c.base;
    for (int64_t prime = 2; prime <= 61; ++prime) {
        for (; rest % prime == 0; rest /= prime) {
            per_point += prime == 2    ? c.two
                         : prime <= 5  ? c.small_prime
                         : prime <= 13 ? c.middle_prime
                                       : c.large_prime;
        }
    }
    per_point += rest > 1 ? c.huge_prime : 0;
    const bool odd = static_cast<int64_t>(grid.period[2]) % 2 != 0;
    return grid.period[2] * per_point * (odd ? c.odd : 1) +
           c.mode * static_cast<double>(grid.modes[2]);
}

// Whole transforms lose little where they are chosen wrongly, sums may lose much.
constexpr double caution = 0.9;

bool line_fft_is_cheaper(const SpectralGrid& grid, std::size_t bytes) {
    const LineCosts& costs = bytes == sizeof(float) ? single_costs : double_costs;
    return sums_cost(grid, costs, bytes) > caution * isa_factor() * transforms_cost(grid, costs) &&
           grid.period[2] > 256;  // below, whole transforms never won
}

/// How long whole transforms of several axes take by what their lengths are made of: powers of two
/// least, small primes, odd ones.
double length_factor(int64_t n) {
    if ((n & (n - 1)) == 0) {
        return 0.9;
    }
    int64_t rest = n;
    bool few = true;
    for (const int64_t prime : {2, 3, 5, 7, 11, 13}) {
        while (rest % prime == 0) {
            rest /= prime;
            few = few && prime <= 5;
        }
    }
    if (rest > 1) {
        return 8;
    }
    return n % 2 != 0 ? 1.5 : few ? 1 : 2;
}

// Several axes: multiply-adds that cost as much as one step of a transform, of which there are
// points times log2(points).
constexpr double single_rate = 5, double_rate = 4.3;

bool fft_is_cheaper(const SpectralGrid& grid, std::size_t bytes) {
    if (grid.axes == 1) {
        return line_fft_is_cheaper(grid, bytes);
    }
    double work = 0, lines = 1, columns = 1, points = 1, factor = 0;
    for (int axis = 0; axis < 3; ++axis) {
        columns *= static_cast<double>(grid.size[axis]);
    }
    const double lanes = 64 / static_cast<double>(bytes);
    for (int axis = 3 - grid.axes; axis < 3; ++axis) {
        const double n = static_cast<double>(grid.size[axis]), p = grid.period[axis];
        const double m = static_cast<double>(grid.modes[axis]);
        const double folded = folded_points(grid, axis);
        columns /= n;
        work += axis == 2 ? lines * 2 * folded * m
                          : lines * (m + 1) * folded * std::ceil(columns / lanes) * lanes;
        lines *= m + 1;
        points *= p;
        factor = std::max(factor, length_factor(static_cast<int64_t>(p)));
    }
    const double rate = bytes == sizeof(float) ? single_rate : double_rate;
    return work > rate * isa_factor() * factor * points * std::log2(points + 1) && points > 256;
}

}  // namespace

bool prefers_fft(const SpectralGrid& grid, ScalarType type) {
    for (int axis = 3 - grid.axes; axis < 3; ++axis) {
        if (std::floor(grid.period[axis]) != grid.period[axis]) {
            return false;  // no discrete transform has such a period
        }
    }
    const char* forced = std::getenv("PHYSCON_SPECTRAL_PATH");
    if (forced != nullptr && *forced != 0) {
        const std::string path = forced;
        STD_TORCH_CHECK(
            path == "matrix" || path == "fft" || path == "auto",
            "physcon::spectral_conv: expected the environment variable PHYSCON_SPECTRAL_PATH to be "
            "matrix, fft or auto, got ",
            path
        );
        if (path != "auto") {
            return path == "fft";
        }
    }
    return fft_is_cheaper(grid, type == ScalarType::Double ? sizeof(double) : sizeof(float));
}

}  // namespace physcon::binding

namespace {

bool spectral_uses_fft(
    const std::vector<int64_t>& size,
    const std::vector<int64_t>& modes,
    const std::vector<double>& period,
    bool doubles
) {
    const auto d = size.size();
    STD_TORCH_CHECK(
        d >= 1 && d <= 3 && modes.size() == d && period.size() == d,
        "physcon::spectral_uses_fft: expected size, modes and period to have the same length, 1 to "
        "3, got ",
        d,
        ", ",
        modes.size(),
        " and ",
        period.size()
    );
    physcon::SpectralGrid grid;
    grid.axes = static_cast<int>(d);
    for (std::size_t axis = 0; axis < d; ++axis) {
        grid.size[3 - d + axis] = size[axis];
        grid.modes[3 - d + axis] = modes[axis];
        grid.period[3 - d + axis] = period[axis];
    }
    using physcon::binding::ScalarType;
    return physcon::binding::prefers_fft(grid, doubles ? ScalarType::Double : ScalarType::Float);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(physcon, CompositeExplicitAutograd, m) {
    m.impl("spectral_uses_fft", TORCH_BOX(&spectral_uses_fft));
}
