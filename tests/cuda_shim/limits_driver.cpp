// SPDX-License-Identifier: Apache-2.0
// The launches that entry points would make for sizes no memory holds. Arrays are addresses that
// nothing follows. A line per call: its name, the blocks of each launch, and the error if any.
#include <cstdio>
#include <string>

#include "core/cuda/kernels.hpp"
#include "core/cuda/pointwise_entry.hpp"
#include "core/cuda/spectral_entry.hpp"
#include "simt.hpp"

namespace {

using namespace physcon;
using namespace physcon::cuda;
using std::int64_t;

const Device device{nullptr, 132};

template <typename T>
T* somewhere() {
    return reinterpret_cast<T*>(std::uintptr_t{1} << 40);
}
template <typename T>
Strided<T> strided(int64_t stride) {
    return {somewhere<const T>(), stride};
}

void tell(const char* name, const char* error) {
    std::printf("%s", name);
    for (const int64_t count : simt::blocks()) {
        std::printf(" %lld", static_cast<long long>(count));
    }
    std::printf("%s%s\n", error == nullptr ? "" : " ! ", error == nullptr ? "" : error);
}

enum class Prior { diagonal, cross, dense };

void conditioning(const char* name, Prior prior, int64_t batch, int64_t n, int64_t rank) {
    ConditionArgs<float> a;
    a.batch = batch, a.n = n, a.rank = rank;
    a.mean = strided<float>(n);
    a.variance = strided<float>(n);
    a.rows = strided<float>(0);
    a.target = strided<float>(rank);
    a.noise = strided<float>(rank);
    a.mean_out = a.variance_out = a.factor_out = somewhere<float>();
    a.covariance_out = prior == Prior::cross || n > (1 << 23) ? nullptr : somewhere<float>();
    if (prior == Prior::cross) {
        a.cross = strided<float>(rank * n);
    }
    if (prior == Prior::dense) {
        a.covariance = strided<float>(n * n);
        a.cross_out = somewhere<float>();
    }
    a.cholesky_out = a.multipliers_out = somewhere<double>();
    a.info_out = somewhere<std::int32_t>();
    tell(name, condition(a, device, somewhere<void>()));
}

void adjoint(const char* name, int64_t batch, int64_t n, int64_t rank, bool shared) {
    ConditionBackwardArgs<float> a;
    a.batch = batch, a.n = n, a.rank = rank;
    a.rows_shared = shared;
    a.grad_mean = a.grad_variance = a.mean = a.variance = strided<float>(n);
    a.rows = strided<float>(shared ? 0 : rank * n);
    a.cholesky = a.multipliers = somewhere<const double>();
    a.mean_out = a.variance_out = a.rows_out = somewhere<float>();
    a.target_out = a.noise_out = somewhere<float>();
    tell(name, condition_backward(a, device, somewhere<void>()));
}

template <typename Args>
Args disjoint(int64_t batch, int64_t n, int64_t rank) {
    Args a;
    a.batch = batch, a.n = n, a.rank = rank, a.support = n;
    a.mean = a.variance = strided<float>(n);
    a.weights = strided<float>(0);
    a.offsets = somewhere<const int64_t>();
    a.mean_out = a.variance_out = somewhere<float>();
    return a;
}

template <typename Args>
Args banded(int64_t batch, int64_t n) {
    Args a;
    a.batch = batch, a.n = n;
    a.variance = strided<float>(n);
    a.stencil = strided<float>(0);
    a.noise = strided<float>(n - 2);
    return a;
}
template <typename Args>
void run_banded(
    const char* name,
    const Args& a,
    std::size_t (*bytes)(const Args&, const Device&),
    const char* (*call)(const Args&, const Device&, void*)
) {
    tell(name, bytes(a, device) < std::size_t{2} << 30 ? call(a, device, somewhere<void>()) : "?");
}
void banded_update(const char* name, int64_t items, int64_t n) {
    run_banded<BandedArgs<float>>(
        name,
        banded<BandedArgs<float>>(items, n),
        condition_banded_workspace<float>,
        condition_banded<float>
    );
}
void banded_adjoint(const char* name, int64_t items, int64_t n) {
    run_banded<BandedBackwardArgs<float>>(
        name,
        banded<BandedBackwardArgs<float>>(items, n),
        condition_banded_backward_workspace<float>,
        condition_banded_backward<float>
    );
}

SpectralGrid grid(int axes, int64_t size, int64_t modes) {
    SpectralGrid g;
    g.axes = axes;
    for (int axis = 3 - axes; axis < 3; ++axis) {
        g.size[axis] = size;
        g.modes[axis] = modes;
        g.period[axis] = static_cast<double>(size);
    }
    return g;
}

void convolution(const char* name, const SpectralGrid& g, int64_t batch, int64_t channels) {
    SpectralConvArgs<float> a;
    a.grid = g;
    a.batch = batch, a.in = a.out = channels;
    a.x = a.weight = a.tables = somewhere<const float>();
    a.y_out = a.spectrum_out = somewhere<float>();
    tell(name, spectral_conv(a, device, somewhere<void>()));
    SpectralConvBackwardArgs<float> b;
    b.grid = g;
    b.batch = batch, b.in = b.out = channels;
    b.grad = b.spectrum = b.weight = b.tables = somewhere<const float>();
    b.x_out = b.weight_out = somewhere<float>();
    tell(
        (std::string(name) + "_backward").c_str(),
        spectral_conv_backward(b, device, somewhere<void>())
    );
}

void corrected(const char* name, int64_t batch) {
    BoundarySpectralConvArgs<float> a;
    a.grid = grid(1, 16, 8);
    a.batch = batch, a.in = a.out = 1;
    a.x = a.weight = a.tables = somewhere<const float>();
    a.gains.data[2] = somewhere<const double>();
    a.gains.parts[2] = 1;
    a.y_out = a.spectrum_out = somewhere<float>();
    a.shifts_out = somewhere<double>();
    tell(name, boundary_spectral_conv(a, device, somewhere<void>()));
}

void faces(const char* name, int64_t items) {
    AssignFacesBackwardArgs<float> a;
    a.items = items, a.channels = 1;
    a.size[2] = 3;
    a.grad = somewhere<const float>();
    a.output = somewhere<float>();
    a.rule[2].stencil = somewhere<const double>();
    a.rule[2].width = 1;
    a.gradient[2].values = a.gradient[2].summed = somewhere<float>();
    const int64_t extent[5] = {items, 1, 2, 1, 1};
    for (int i = 0; i < 5; ++i) {
        a.gradient[2].extent[i] = extent[i];
    }
    tell(name, assign_faces_backward(a, device));
}

void layer(const char* name, int64_t items, int64_t points) {
    PointwiseArgs<float> a;
    a.items = items, a.in = a.out = 1;
    a.size[2] = points;
    a.x = somewhere<const float>();
    a.skip = {somewhere<const float>(), 1, 1};
    a.field = a.output = somewhere<float>();
    a.activated = true;
    tell(name, pointwise(a, device, somewhere<void>()));
    PointwiseBackwardArgs<float> b;
    b.items = items, b.in = b.out = 1;
    b.size[2] = points;
    b.x = b.grad = b.field = somewhere<const float>();
    b.field_out = b.skip_out = b.bias_out = somewhere<float>();
    b.activated = true;
    tell(
        (std::string(name) + "_backward").c_str(), pointwise_backward(b, device, somewhere<void>())
    );
}

void gains(const char* name, int64_t in, int64_t out, int64_t others) {
    EndResponseArgs<float> a;
    a.grid = grid(2, 4, 3);
    a.grid.modes[1] = others;
    a.in = in, a.out = out;
    tell(name, end_response(a, device));
    tell(name, end_response_adjoint(a, device));
    TwoStepGainArgs b;
    b.modes = others, b.channels = in, b.parts = 2;
    tell(name, two_step_gain(b, device));
    tell(name, two_step_gain_adjoint(b, device, somewhere<void>()));
}

}  // namespace

int main() {
    simt::options().dry = true;
    const int64_t many = int64_t{3} << 30;
    conditioning("diagonal", Prior::diagonal, many, 1, 1);
    conditioning("cross", Prior::cross, many, 1, 1);
    conditioning("dense", Prior::dense, many, 1, 1);
    conditioning("diagonal_block", Prior::diagonal, many, 300, 9);
    conditioning("dense_wide", Prior::dense, 3, int64_t{1} << 22, 33);
    conditioning("diagonal_long", Prior::diagonal, 1, many, 2);
    adjoint("adjoint", many, 1, 1, false);
    adjoint("adjoint_block", many, 300, 5, false);
    adjoint("adjoint_shared", many, 300, 5, true);
    adjoint("adjoint_long", 1, many, 2, true);
    tell("disjoint", condition_disjoint(disjoint<DisjointArgs<float>>(many, 1, 1), device));
    tell("disjoint_rows", condition_disjoint(disjoint<DisjointArgs<float>>(many, 9000, 4), device));
    tell(
        "disjoint_backward",
        condition_disjoint_backward(disjoint<DisjointBackwardArgs<float>>(many, 9000, 4), device)
    );
    banded_update("banded", many, 3);
    banded_adjoint("banded_backward", many, 3);
    BandedProductArgs<float> product = banded<BandedProductArgs<float>>(many, 3);
    product.count = 5;
    run_banded<BandedProductArgs<float>>(
        "banded_product", product, banded_product_workspace<float>, banded_product<float>
    );
    BalanceLawArgs law;
    law.batch = many, law.rows = 1, law.n = 4;
    tell("balance_law", balance_law(law, 1, device, somewhere<void>()));
    CavityArgs flow;
    flow.batch = many, flow.n = 8;
    tell("cavity", cavity(flow, device, somewhere<void>()));
    convolution("conv", grid(1, 4, 3), many, 1);
    convolution("conv_modes", grid(2, int64_t{1} << 16, int64_t{1} << 15), 1, 2);
    convolution("conv_beyond", grid(1, 4, 3), many << 10, 1);
    corrected("corrected", many);
    corrected("corrected_beyond", many << 10);
    faces("faces_backward", many);
    layer("layer", many, 1);
    gains("gains", int64_t{1} << 17, int64_t{1} << 16, 25);
    layer("layer_long", 2, many);
    for (const Prior prior : {Prior::diagonal, Prior::cross, Prior::dense}) {
        conditioning("empty", prior, 0, 9, 2);
    }
    adjoint("empty", 0, 9, 2, false);
    tell("empty", condition_disjoint(disjoint<DisjointArgs<float>>(0, 9, 2), device));
    tell(
        "empty", condition_disjoint_backward(disjoint<DisjointBackwardArgs<float>>(0, 9, 2), device)
    );
    banded_update("empty", 0, 9);
    law.batch = flow.batch = 0;
    tell("empty", balance_law(law, 1, device, somewhere<void>()));
    tell("empty", cavity(flow, device, somewhere<void>()));
    convolution("empty_conv", grid(1, 9, 3), 0, 2);
    corrected("empty", 0);
    faces("empty", 0);
    layer("empty_layer", 0, 9);
    gains("empty_gains", 0, 0, 2);
    // Sizes about those where something leaves shared memory, with the least of it.
    simt::options().major = 8;
    for (const int64_t rank : {1, 8, 16, 35, 36, 37, 47, 48, 49, 64, 128}) {
        for (const Prior prior : {Prior::diagonal, Prior::cross, Prior::dense}) {
            conditioning("small_shared", prior, 7, 300, rank);
        }
        adjoint("small_shared", 7, 300, rank, false);
    }
    banded_adjoint("small_shared", 7, 3000);
    law.batch = flow.batch = 7;
    for (const int64_t n : {64, 78, 80, 100, 128}) {
        flow.n = n;
        tell("small_shared", cavity(flow, device, somewhere<void>()));
        law.n = 10 * n;
        tell("small_shared", balance_law(law, 1, device, somewhere<void>()));
    }
    return 0;
}
