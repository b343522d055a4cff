// SPDX-License-Identifier: Apache-2.0
// Soft rows on three neighbouring points with a diagonal prior: with E = D diag(sqrt(s)) and
// Lambda = I + E' R^-1 E the posterior is sqrt(s) Lambda^-1 sqrt(s). A team takes an item from its
// rows to its results in one launch.
#pragma once

#include "../condition.hpp"
#include "banded_solve.cuh"

namespace physcon::cuda {

constexpr int banded_reach = 5;  // Lambda^-1 is wanted up to four points off the diagonal

/// The rows of one item.
template <typename T>
struct BandedRows {
    const T *variance, *stencil, *noise;
    int64_t n;

    __device__ double root(int64_t j) const {
        return sqrt(static_cast<double>(variance[j]));
    }
    __device__ double weight(int64_t k, int i) const {
        return stencil[3 * k + i];
    }
    __device__ bool is_row(int64_t k) const {
        return k >= 0 && k + 2 < n;
    }
    /// (D x)_k.
    __device__ double row(int64_t k, const double* x) const {
        return weight(k, 0) * x[k] + weight(k, 1) * x[k + 1] + weight(k, 2) * x[k + 2];
    }
    /// (D' y)_j for a function y of the row.
    template <typename Values>
    __device__ double spread(int64_t j, const Values& y) const {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            if (is_row(j - i)) {
                sum += weight(j - i, i) * y(j - i);
            }
        }
        return sum;
    }
    /// Lower band `band` of D' R^-1 D at point j.
    __device__ double square(int band, int64_t j) const {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            if (i + band < 3 && is_row(j - i)) {
                sum +=
                    weight(j - i, i) * weight(j - i, i + band) / static_cast<double>(noise[j - i]);
            }
        }
        return sum;
    }
    /// The same of Lambda.
    __device__ double precision(int band, int64_t j) const {
        if (band == 0) {
            return 1 + square(0, j) * static_cast<double>(variance[j]);
        }
        return j + band < n ? square(band, j) * root(j) * root(j + band) : 0.0;
    }
};

/// The team of a block, and where its memory is.
template <typename Team, typename Scalar>
__device__ Team banded_team(double*& memory) {
    const int size = Team::is_warp ? warp_size : static_cast<int>(blockDim.x);
    const int mine = static_cast<int>(threadIdx.x) / size;
    double* scratch = shared_memory() + mine * banded_memory<Scalar>(size);
    memory = scratch + warp_size;
    return Team{scratch};
}
template <typename Team>
__device__ int64_t first_unit() {
    const int teams = Team::is_warp ? static_cast<int>(blockDim.x) / warp_size : 1;
    return static_cast<int64_t>(blockIdx.x) * teams +
           (Team::is_warp ? static_cast<int>(threadIdx.x) / warp_size : 0);
}

constexpr int banded_forward_doubles = 2;  // per point and team, beside the bands that leave
template <typename T, typename Team>
__global__ void __launch_bounds__(256, 1) condition_banded_kernel(
    BandedArgs<T> a, int64_t slots, double* workspace
) {
    double* memory;
    const Team team = banded_team<Team, double>(memory);
    const int64_t slot = first_unit<Team>(), n = a.n, rows = n - 2;
    if (slot >= slots) {
        return;
    }
    double *x = workspace + slot * banded_forward_doubles * n, *inverse = x + n;
    for (int64_t b = slot; b < a.batch; b += slots) {
        const T *m = a.mean.item(b), *target = a.target.item(b);
        const BandedRows<T> d = {a.variance.item(b), a.stencil.item(b), a.noise.item(b), n};
        T *mean_out = a.mean_out + b * n, *variance_out = a.variance_out + b * n;
        const Bands<double> bands = {a.band_out + b * 3 * n, x, n};
        const auto missing = [&](int64_t k) {
            double sum = target[k];
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                sum -= d.weight(k, i) * static_cast<double>(m[k + i]);
            }
            return sum / static_cast<double>(d.noise[k]);
        };
        for (int64_t j = team.rank(); j < n; j += team.size()) {
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                bands.at(i, j) = d.precision(i, j);
            }
            x[j] = d.root(j) * d.spread(j, missing);
        }
        team.sync();
        solve_banded<1>(team, bands, inverse, memory);
        bool bad = false;
        for (int64_t j = team.rank(); j < n; j += team.size()) {
            x[j] = static_cast<double>(m[j]) + d.root(j) * x[j];
            bad = bad || !finite(x[j]) || !finite(bands.at(0, j));
        }
        team.sync();
        bad = team.any(bad);
        const double fill = not_a_number();
        for (int64_t j = team.rank(); j < n; j += team.size()) {
            const double left = static_cast<double>(d.variance[j]) * inverse[j];
            mean_out[j] = static_cast<T>(bad ? fill : x[j]);
            variance_out[j] = static_cast<T>(bad ? fill : left);
        }
        for (int64_t k = team.rank(); k < rows; k += team.size()) {
            a.multipliers_out[b * rows + k] =
                (static_cast<double>(target[k]) - d.row(k, x)) / static_cast<double>(d.noise[k]);
        }
        if (team.rank() == 0) {
            a.info_out[b] = static_cast<int32_t>(bad ? RowStatus::non_finite : RowStatus::used);
        }
        team.sync();  // the next item overwrites the workspace
    }
}

/// An entry of column j of the inverse from those of the two rows below its diagonal.
__device__ inline Dual distant(const Bands<Dual>& m, Dual one, Dual two, int64_t j) {
    return -((m.at(1, j) * one + m.at(2, j) * two) / m.at(0, j));
}

/// Sigma' and Omega of the posterior, up to four points off the diagonal, and H = D' R^-1 D. With
/// upstream p of the mean and q of the variance:
///   g = R^-1 D S' p,  mb = p - D' g,  tb = g
///   sb = mb * D'alpha + q (1 - 2 s diag(H - H S' H)) + diag(H Omega H)
///   vb_k = d_k' Omega d_k / v_k^2 - g_k alpha_k
///   Db_ki = alpha_k s_i mb_i - g_k m'_i + (2 s_i / v_k) [ (D Omega H)_ki - (D S')_ki q_i ]
constexpr int banded_backward_doubles = 2 * 3 + 2 * banded_reach + 3 + 2;
template <typename T, typename Team>
__global__ void __launch_bounds__(256, 1) banded_adjoint_kernel(
    BandedBackwardArgs<T> a, int64_t slots, double* workspace
) {
    double* memory;
    const Team team = banded_team<Team, Dual>(memory);
    const int64_t slot = first_unit<Team>(), n = a.n, rows = n - 2;
    if (slot >= slots) {
        return;
    }
    auto* lower = reinterpret_cast<Dual*>(workspace + slot * banded_backward_doubles * n);
    Dual* inverse = lower + 3 * n;
    auto* h = reinterpret_cast<double*>(inverse + banded_reach * n);
    double *x = h + 3 * n, *gain = x + n;
    const Bands<Dual> bands = {lower, x, n};
    for (int64_t b = slot; b < a.batch; b += slots) {
        const T *p = a.grad_mean.item(b), *q = a.grad_variance.item(b);
        const T* posterior = a.mean_posterior.item(b);
        const BandedRows<T> d = {a.variance.item(b), a.stencil.item(b), a.noise.item(b), n};
        const double* alpha = a.multipliers + b * rows;
        for (int64_t j = team.rank(); j < n; j += team.size()) {
            const double prior = d.variance[j];
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                const double slope = i == 0 ? prior * static_cast<double>(q[j]) : 0.0;
                bands.at(i, j) = {d.precision(i, j), slope};
                h[i * n + j] = j + i < n ? d.square(i, j) : 0.0;
            }
            x[j] = d.root(j) * static_cast<double>(p[j]);
        }
        team.sync();
        solve_banded<3>(team, bands, inverse, memory);
        // Three and four points off the diagonal follow from the nearer entries, point by point.
        for (int64_t j = team.rank(); j < n; j += team.size()) {
            Dual third, fourth;
            if (j + 3 < n) {
                third = distant(bands, inverse[2 * n + j + 1], inverse[n + j + 2], j);
            }
            if (j + 4 < n) {
                const Dual next = distant(bands, inverse[2 * n + j + 2], inverse[n + j + 3], j + 1);
                fourth = distant(bands, next, inverse[2 * n + j + 2], j);
            }
            inverse[3 * n + j] = third;
            inverse[4 * n + j] = fourth;
            x[j] *= d.root(j);
        }
        team.sync();
        for (int64_t k = team.rank(); k < rows; k += team.size()) {
            gain[k] = d.row(k, x) / static_cast<double>(d.noise[k]);
            a.target_out[b * rows + k] = static_cast<T>(gain[k]);
        }
        team.sync();
        const auto h_at = [&](int64_t i, int64_t j) {
            return i < j ? h[(j - i) * n + i] : h[(i - j) * n + j];
        };
        const auto entry = [&](int64_t i, int64_t j) {
            const Dual e = i < j ? inverse[(j - i) * n + i] : inverse[(i - j) * n + j];
            const double scale = d.root(i) * d.root(j);
            return Dual(scale * e.value, -(scale * e.slope));  // of Sigma' and of Omega
        };
        const auto mean_bar = [&](int64_t j) {
            return static_cast<double>(p[j]) - d.spread(j, [&](int64_t k) { return gain[k]; });
        };
        for (int64_t i = team.rank(); i < n; i += team.size()) {
            const int64_t first = larger<int64_t>(i - 2, 0), last = smaller<int64_t>(i + 2, n - 1);
            double leverage = h[i], curvature = 0;
            for (int64_t j = first; j <= last; ++j) {
                for (int64_t l = first; l <= last; ++l) {
                    const double scale = h_at(i, j) * h_at(l, i);
                    const Dual e = entry(j, l);
                    leverage -= scale * e.value;
                    curvature += scale * e.slope;
                }
            }
            const double bar = mean_bar(i), prior = d.variance[i], up = q[i];
            const double pull = d.spread(i, [&](int64_t k) { return alpha[k]; });
            a.mean_out[b * n + i] = static_cast<T>(bar);
            a.variance_out[b * n + i] =
                static_cast<T>(bar * pull + up * (1 - 2 * prior * leverage) + curvature);
        }
        for (int64_t k = team.rank(); k < rows; k += team.size()) {
            const double v_k = d.noise[k];
            double quadratic = 0;
            for (int64_t i = k; i < k + 3; ++i) {
                const int64_t first = larger<int64_t>(i - 2, 0);
                const int64_t last = smaller<int64_t>(i + 2, n - 1);
                double along = 0, mixed = 0;
                for (int64_t j = k; j < k + 3; ++j) {
                    const double weight = d.weight(k, static_cast<int>(j - k));
                    const Dual e = entry(j, i);
                    along += weight * e.value;
                    quadratic += weight * e.slope * d.weight(k, static_cast<int>(i - k));
                    for (int64_t l = first; l <= last; ++l) {
                        mixed += weight * entry(j, l).slope * h_at(l, i);
                    }
                }
                const double prior = d.variance[i];
                a.stencil_out[(b * rows + k) * 3 + i - k] = static_cast<T>(
                    alpha[k] * prior * mean_bar(i) - gain[k] * static_cast<double>(posterior[i]) +
                    2 * prior / v_k * (mixed - along * static_cast<double>(q[i]))
                );
            }
            a.noise_out[b * rows + k] =
                static_cast<T>(quadratic / (v_k * v_k) - gain[k] * alpha[k]);
        }
        team.sync();  // the next item overwrites the workspace
    }
}

/// A team per vector. The factor is made anew for each: it costs less than to read it.
constexpr int banded_product_doubles = 4;
template <typename T, typename Team>
__global__ void __launch_bounds__(256, 1) banded_product_kernel(
    BandedProductArgs<T> a, int64_t slots, double* workspace
) {
    double* memory;
    const Team team = banded_team<Team, double>(memory);
    const int64_t slot = first_unit<Team>(), n = a.n;
    if (slot >= slots) {
        return;
    }
    double *x = workspace + slot * banded_product_doubles * n, *lower = x + n;
    for (int64_t unit = slot; unit < a.batch * a.count; unit += slots) {
        const int64_t b = unit / a.count;
        const BandedRows<T> d = {a.variance.item(b), a.stencil.item(b), a.noise.item(b), n};
        const T* in = a.vectors.item(b) + unit % a.count * n;
        const Bands<double> bands = {lower, x, n};
        for (int64_t j = team.rank(); j < n; j += team.size()) {
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                bands.at(i, j) = d.precision(i, j);
            }
            x[j] = d.root(j) * static_cast<double>(in[j]);
        }
        team.sync();
        solve_banded<0>(team, bands, static_cast<double*>(nullptr), memory);
        for (int64_t j = team.rank(); j < n; j += team.size()) {
            a.out[unit * n + j] = static_cast<T>(d.root(j) * x[j]);
        }
        team.sync();  // the next vector overwrites the workspace
    }
}

}  // namespace physcon::cuda
