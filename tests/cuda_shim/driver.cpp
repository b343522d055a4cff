// SPDX-License-Identifier: Apache-2.0
// Reads problems from the standard input, runs the CUDA entry points on the CPU, and writes what
// they return. Every array is a heap block of exactly its size; outputs start as NaN.
//
// A problem: 16 numbers (below), then the arrays of the op, each as a byte count and its bytes. An
// answer: the numbers of barriers and of launches, an error text, the output arrays, alike.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "core/cuda/condition_adjoint.cuh"
#include "core/cuda/condition_marginal.cuh"
#include "core/cuda/condition_marginal.hpp"

namespace {

using namespace physcon;
using namespace physcon::cuda;
using simt::Arrays;
using simt::read_all;

struct Header {
    std::int64_t op, type, batch, n, rank, support, noise_is_matrix, rows_shared;
    std::int64_t threads, warps, splits, in_shared, slots, seed, skip, multiprocessors;
};

template <typename T>
const char* forward(const Header& h, Arrays& arrays) {
    ConditionArgs<T> a;
    a.batch = h.batch, a.n = h.n, a.rank = h.rank;
    const std::int64_t rn = h.rank * h.n;
    a.mean = {arrays.input<T>(), h.n};
    a.variance = {arrays.input<T>(), h.n};
    a.cross = {arrays.input<T>(), rn};
    a.covariance = {arrays.input<T>(), h.n * h.n};
    a.rows = {arrays.input<T>(), h.rows_shared != 0 ? 0 : rn};
    a.target = {arrays.input<T>(), h.rank};
    a.noise_is_matrix = h.noise_is_matrix != 0;
    a.noise = {arrays.input<T>(), a.noise_is_matrix ? h.rank * h.rank : h.rank};
    const bool dense = a.covariance.data != nullptr;
    a.mean_out = arrays.output<T>(h.batch * h.n);
    a.variance_out = arrays.output<T>(h.batch * h.n);
    a.factor_out = arrays.output<T>(h.batch * rn);
    const bool whole = a.cross.data == nullptr && !is_stored<T>;
    a.covariance_out = arrays.output<T>(whole ? h.batch * h.n * h.n : 0);
    a.cross_out = arrays.output<T>(dense ? h.batch * rn : 0);
    a.cholesky_out = arrays.output<double>(h.batch * h.rank * h.rank);
    a.multipliers_out = arrays.output<double>(h.batch * h.rank);
    a.info_out = arrays.output<std::int32_t>(h.batch * h.rank);
    Plan plan = marginal_plan(a, static_cast<int>(h.multiprocessors));
    if (h.threads > 0) {
        plan = {
            static_cast<int>(h.threads), h.warps != 0, static_cast<int>(h.splits), h.in_shared != 0
        };
    }
    Arena measure(nullptr);
    condition_planned(a, plan, nullptr, measure);
    Arena arena(arrays.scratch(measure.used()));
    return condition_planned(a, plan, nullptr, arena);
}

template <typename T>
const char* backward(const Header& h, Arrays& arrays) {
    ConditionBackwardArgs<T> a;
    a.batch = h.batch, a.n = h.n, a.rank = h.rank;
    const std::int64_t rn = h.rank * h.n;
    a.grad_mean = {arrays.input<T>(), h.n};
    a.grad_variance = {arrays.input<T>(), h.n};
    a.grad_factor = {arrays.input<T>(), rn};
    a.mean = {arrays.input<T>(), h.n};
    a.variance = {arrays.input<T>(), h.n};
    a.cross = {arrays.input<T>(), rn};
    a.rows = {arrays.input<T>(), h.rows_shared != 0 ? 0 : rn};
    a.rows_shared = h.rows_shared != 0;
    a.cholesky = arrays.input<double>();
    a.multipliers = arrays.input<double>();
    a.mean_out = arrays.output<T>(h.batch * h.n);
    a.variance_out = arrays.output<T>(h.batch * h.n);
    a.cross_out = arrays.output<T>(a.cross.data == nullptr ? 0 : h.batch * rn);
    a.rows_out = arrays.output<T>(a.rows_shared ? rn : h.batch * rn);
    a.target_out = arrays.output<T>(h.batch * h.rank);
    a.noise_out = arrays.output<T>(h.batch * h.rank * h.rank);
    BackwardPlan plan = adjoint_plan(a, static_cast<int>(h.multiprocessors));
    if (h.threads > 0) {
        plan = {
            static_cast<int>(h.threads),
            h.warps != 0,
            static_cast<int>(h.splits),
            a.rows_shared ? h.slots : h.batch,
            h.in_shared != 0
        };
    }
    Arena measure(nullptr);
    condition_adjoint(a, plan, nullptr, measure);
    Arena arena(arrays.scratch(measure.used()));
    return condition_adjoint(a, plan, nullptr, arena);
}

template <typename T>
const char* disjoint(const Header& h, Arrays& arrays) {
    DisjointArgs<T> a;
    a.batch = h.batch, a.n = h.n, a.rank = h.rank, a.support = h.support;
    a.mean = {arrays.input<T>(), h.n};
    a.variance = {arrays.input<T>(), h.n};
    a.weights = {arrays.input<T>(), h.rows_shared != 0 ? 0 : h.support};
    a.target = {arrays.input<T>(), h.rank};
    a.noise = {arrays.input<T>(), h.rank};
    a.order = arrays.input<std::int64_t>();
    a.offsets = arrays.input<std::int64_t>();
    a.mean_out = arrays.output<T>(h.batch * h.n);
    a.variance_out = arrays.output<T>(h.batch * h.n);
    a.factor_out = arrays.output<T>(h.batch * h.support);
    a.cholesky_out = arrays.output<double>(h.batch * h.rank);
    a.multipliers_out = arrays.output<double>(h.batch * h.rank);
    a.info_out = arrays.output<std::int32_t>(h.batch * h.rank);
    return condition_disjoint(a, Device{nullptr, static_cast<int>(h.multiprocessors)});
}

template <typename T>
const char* disjoint_backward(const Header& h, Arrays& arrays) {
    DisjointBackwardArgs<T> a;
    a.batch = h.batch, a.n = h.n, a.rank = h.rank, a.support = h.support;
    a.grad_mean = {arrays.input<T>(), h.n};
    a.grad_variance = {arrays.input<T>(), h.n};
    a.grad_factor = {arrays.input<T>(), h.support};
    a.mean = {arrays.input<T>(), h.n};
    a.variance = {arrays.input<T>(), h.n};
    a.weights = {arrays.input<T>(), h.rows_shared != 0 ? 0 : h.support};
    a.order = arrays.input<std::int64_t>();
    a.offsets = arrays.input<std::int64_t>();
    a.cholesky = arrays.input<double>();
    a.multipliers = arrays.input<double>();
    a.mean_out = arrays.output<T>(h.batch * h.n);
    a.variance_out = arrays.output<T>(h.batch * h.n);
    a.weights_out = arrays.output<T>(h.batch * h.support);
    a.target_out = arrays.output<T>(h.batch * h.rank);
    a.noise_out = arrays.output<T>(h.batch * h.rank);
    return condition_disjoint_backward(a, Device{nullptr, static_cast<int>(h.multiprocessors)});
}

template <typename T>
const char* banded(const Header& h, Arrays& arrays) {
    BandedArgs<T> a;
    a.batch = h.batch, a.n = h.n;
    const std::int64_t rows = h.n - 2;
    a.mean = {arrays.input<T>(), h.n};
    a.variance = {arrays.input<T>(), h.n};
    a.stencil = {arrays.input<T>(), h.rows_shared != 0 ? 0 : 3 * rows};
    a.target = {arrays.input<T>(), rows};
    a.noise = {arrays.input<T>(), rows};
    a.mean_out = arrays.output<T>(h.batch * h.n);
    a.variance_out = arrays.output<T>(h.batch * h.n);
    a.band_out = arrays.output<double>(h.batch * 3 * h.n);
    a.multipliers_out = arrays.output<double>(h.batch * rows);
    a.info_out = arrays.output<std::int32_t>(h.batch);
    const Device device{nullptr, static_cast<int>(h.multiprocessors)};
    return condition_banded(a, device, arrays.scratch(condition_banded_workspace(a, device)));
}

template <typename T>
const char* banded_backward(const Header& h, Arrays& arrays) {
    BandedBackwardArgs<T> a;
    a.batch = h.batch, a.n = h.n;
    const std::int64_t rows = h.n - 2;
    a.grad_mean = {arrays.input<T>(), h.n};
    a.grad_variance = {arrays.input<T>(), h.n};
    a.variance = {arrays.input<T>(), h.n};
    a.stencil = {arrays.input<T>(), h.rows_shared != 0 ? 0 : 3 * rows};
    a.noise = {arrays.input<T>(), rows};
    a.mean_posterior = {arrays.input<T>(), h.n};
    a.band = arrays.input<double>();
    a.multipliers = arrays.input<double>();
    a.mean_out = arrays.output<T>(h.batch * h.n);
    a.variance_out = arrays.output<T>(h.batch * h.n);
    a.stencil_out = arrays.output<T>(h.batch * rows * 3);
    a.target_out = arrays.output<T>(h.batch * rows);
    a.noise_out = arrays.output<T>(h.batch * rows);
    const Device device{nullptr, static_cast<int>(h.multiprocessors)};
    void* workspace = arrays.scratch(condition_banded_backward_workspace(a, device));
    return condition_banded_backward(a, device, workspace);
}

template <typename T>
const char* product_with_banded(const Header& h, Arrays& arrays) {
    BandedProductArgs<T> a;
    a.batch = h.batch, a.n = h.n, a.count = h.rank;
    const std::int64_t rows = h.n - 2;
    a.variance = {arrays.input<T>(), h.n};
    a.stencil = {arrays.input<T>(), h.rows_shared != 0 ? 0 : 3 * rows};
    a.noise = {arrays.input<T>(), rows};
    a.vectors = {arrays.input<T>(), h.rank * h.n};
    a.out = arrays.output<T>(h.batch * h.rank * h.n);
    const Device device{nullptr, static_cast<int>(h.multiprocessors)};
    return banded_product(a, device, arrays.scratch(banded_product_workspace(a, device)));
}

/// Ops that know 16-bit numbers.
template <typename T>
const char* run_stored(const Header& h, Arrays& arrays) {
    return h.op == 0 ? forward<T>(h, arrays) : backward<T>(h, arrays);
}

template <typename T>
const char* run(const Header& h, Arrays& arrays) {
    switch (h.op) {
        case 0:
            return forward<T>(h, arrays);
        case 1:
            return backward<T>(h, arrays);
        case 2:
            return disjoint<T>(h, arrays);
        case 3:
            return disjoint_backward<T>(h, arrays);
        case 4:
            return banded<T>(h, arrays);
        case 5:
            return banded_backward<T>(h, arrays);
        case 6:
            return product_with_banded<T>(h, arrays);
        default:
            return "unknown op";
    }
}

}  // namespace

int main() {
    return simt::serve<Header>([](const Header& h, Arrays& arrays) {
        switch (h.type) {
            case 0:
                return run<float>(h, arrays);
            case 1:
                return run<double>(h, arrays);
            case 2:
                return run_stored<BFloat16>(h, arrays);
            default:
                return run_stored<Float16>(h, arrays);
        }
    });
}
