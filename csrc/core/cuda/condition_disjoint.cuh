// SPDX-License-Identifier: Apache-2.0
// Rows with disjoint support and a diagonal prior: a team per row of an item, after a copy of the
// points that no row holds.
#pragma once

#include "../condition.hpp"
#include "device.cuh"

namespace physcon::cuda {

constexpr double disjoint_joseph_leverage = 0.9;
constexpr int disjoint_correction_limit = 6;

/// Points outside every row keep what they have.
template <typename T>
__global__ void __launch_bounds__(256, 1) condition_copy_kernel(
    Strided<T> first, Strided<T> second, int64_t batch, int64_t n, T* first_out, T* second_out
) {
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t e = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; e < batch * n;
         e += step) {
        first_out[e] = first.item(e / n)[e % n];
        second_out[e] = second.item(e / n)[e % n];
    }
}

/// The team of a block and its row: grid items times rows (times teams of a warp).
template <typename Team>
__device__ int64_t row_of_team() {
    const int teams = Team::is_warp ? static_cast<int>(blockDim.x) / warp_size : 1;
    return block_index() * teams + (Team::is_warp ? static_cast<int>(threadIdx.x) / warp_size : 0);
}

template <typename T, typename Team>
__global__ void __launch_bounds__(256, 1) condition_disjoint_kernel(DisjointArgs<T> a) {
    const int64_t unit = row_of_team<Team>();
    if (unit >= a.batch * a.rank) {
        return;
    }
    const Team team{shared_memory()};
    const int64_t b = unit / a.rank, k = unit % a.rank, n = a.n;
    const int64_t begin = a.offsets[k], end = a.offsets[k + 1];
    const T *w = a.weights.item(b), *m = a.mean.item(b), *v = a.variance.item(b);
    T *mean_out = a.mean_out + b * n, *variance_out = a.variance_out + b * n;
    const double target = a.target.item(b)[k], noise = a.noise.item(b)[k];
    const int64_t* order = a.order;

    double gram = 0, product = 0, magnitude = 0;
    for (int64_t j = begin + team.rank(); j < end; j += team.size()) {
        const int64_t cell = order == nullptr ? j : order[j];
        const double x = w[j], y = x * static_cast<double>(m[cell]);
        gram += x * x * static_cast<double>(v[cell]);
        product += y;
        magnitude += fabs(y);
    }
    const double d = team.sum(gram) + noise, e = target - team.sum(product);
    magnitude = team.sum(magnitude) + fabs(target);
    RowStatus status = RowStatus::used;
    double root = sqrt(d), alpha = e / d, fill = 0;
    if (!finite(d) || !finite(e)) {
        status = RowStatus::non_finite;
        root = alpha = fill = not_a_number();
    } else if (!(d > 0)) {
        const bool satisfied = fabs(e) <= 64 * epsilon<T> * magnitude;
        status = satisfied ? RowStatus::satisfied : RowStatus::infeasible;
        root = infinity();
        alpha = 0;
    }
    const bool used = status == RowStatus::used;
    double rest = 0;  // of d without the point that carries nearly all of it
    for (int64_t j = begin + team.rank(); j < end; j += team.size()) {
        const int64_t cell = order == nullptr ? j : order[j];
        const double x = w[j], prior = v[cell], own = x * x * prior;
        rest += own / d > disjoint_joseph_leverage ? 0.0 : own;
    }
    rest = team.sum(rest) + noise;
    for (int64_t j = begin + team.rank(); j < end; j += team.size()) {
        const int64_t cell = order == nullptr ? j : order[j];
        const double x = w[j], prior = v[cell], leverage = x * x * prior / d;
        if (used) {
            const double left = leverage > disjoint_joseph_leverage ? rest / d : 1 - leverage;
            mean_out[cell] = static_cast<T>(static_cast<double>(m[cell]) + alpha * x * prior);
            variance_out[cell] = static_cast<T>(prior * left);
        } else if (status == RowStatus::non_finite) {
            mean_out[cell] = variance_out[cell] = static_cast<T>(fill);
        }
        if (a.factor_out != nullptr) {
            a.factor_out[b * a.support + j] = static_cast<T>(used ? x * prior / root : fill);
        }
    }
    for (int pass = 0; pass < disjoint_correction_limit && used && sizeof(T) == 8; ++pass) {
        Compensated sum;
        double size = 0;
        for (int64_t j = begin + team.rank(); j < end; j += team.size()) {
            const double x = w[j], y = mean_out[order == nullptr ? j : order[j]];
            sum.add_product(x, y);
            size += fabs(x * y);
        }
        // High and low parts are added apart: the high ones nearly cancel against the target.
        sum = warp_sum(sum);
        Compensated total;
        if (Team::is_warp) {
            total = sum;
        } else {
            team.sync();
            if (team.rank() % warp_size == 0) {
                team.scratch[team.rank() / warp_size] = sum.high;
                team.scratch[warp_size + team.rank() / warp_size] = sum.low;
            }
            team.sync();
            for (int i = 0; i < team.size() / warp_size; ++i) {
                total.add(team.scratch[i]);
                total.add(team.scratch[warp_size + i]);
            }
        }
        total.add(-target);
        total.add(noise * alpha);
        size = team.sum(size) + fabs(target) + fabs(noise * alpha);
        if (!(fabs(total.value()) > 2 * epsilon64 * size)) {
            break;
        }
        const double delta = -total.value() / d;
        alpha += delta;
        for (int64_t j = begin + team.rank(); j < end; j += team.size()) {
            const int64_t cell = order == nullptr ? j : order[j];
            mean_out[cell] +=
                static_cast<T>(delta * static_cast<double>(w[j]) * static_cast<double>(v[cell]));
        }
    }
    if (team.rank() == 0) {
        a.info_out[unit] = static_cast<int32_t>(status);
        a.cholesky_out[unit] = root;
        a.multipliers_out[unit] = alpha;
    }
}

template <typename T, typename Team>
__global__ void __launch_bounds__(256, 1) disjoint_adjoint_kernel(DisjointBackwardArgs<T> a) {
    const int64_t unit = row_of_team<Team>();
    if (unit >= a.batch * a.rank) {
        return;
    }
    const Team team{shared_memory()};
    const int64_t b = unit / a.rank, k = unit % a.rank, n = a.n;
    const int64_t begin = a.offsets[k], end = a.offsets[k + 1];
    const T *w = a.weights.item(b), *m = a.mean.item(b), *v = a.variance.item(b);
    const T *up = a.grad_mean.item(b), *uq = a.grad_variance.item(b);
    const T* uf = a.grad_factor.data == nullptr ? nullptr : a.grad_factor.item(b);
    const double inverse = 1 / a.cholesky[unit], alpha = a.multipliers[unit];
    double product = 0, squares = 0, mixed = 0;
    for (int64_t j = begin + team.rank(); j < end; j += team.size()) {
        const int64_t cell = a.order == nullptr ? j : a.order[j];
        const double c = static_cast<double>(w[j]) * static_cast<double>(v[cell]);
        product += c * static_cast<double>(up[cell]);
        squares += c * c * static_cast<double>(uq[cell]);
        mixed += uf == nullptr ? 0.0 : c * static_cast<double>(uf[j]);
    }
    product = team.sum(product);
    squares = team.sum(squares);
    mixed = team.sum(mixed);
    const double gain = product * inverse * inverse;
    const double adjoint =
        inverse * inverse * (squares * inverse * inverse - 0.5 * mixed * inverse) - gain * alpha;
    for (int64_t j = begin + team.rank(); j < end; j += team.size()) {
        const int64_t cell = a.order == nullptr ? j : a.order[j];
        const double weight = w[j], prior = v[cell], upstream = up[cell], q = uq[cell];
        const double f = uf == nullptr ? 0.0 : static_cast<double>(uf[j]);
        const double cross =
            alpha * upstream + adjoint * weight + inverse * (f - 2 * q * prior * inverse * weight);
        a.mean_out[b * n + cell] = static_cast<T>(upstream - gain * weight);
        a.variance_out[b * n + cell] = static_cast<T>(q + cross * weight);
        if (a.weights_out != nullptr) {
            a.weights_out[b * a.support + j] = static_cast<T>(
                prior * (cross + adjoint * weight) - gain * static_cast<double>(m[cell])
            );
        }
    }
    if (team.rank() == 0) {
        a.target_out[unit] = static_cast<T>(gain);
        a.noise_out[unit] = static_cast<T>(adjoint);
    }
}

}  // namespace physcon::cuda
