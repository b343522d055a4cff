// SPDX-License-Identifier: Apache-2.0
// Adjoint of conditioning for diagonal and cross priors; the formulas stand in
// core/cpu/condition_backward.cpp. Per item, by one team: (1) C diag(q) C', C p and Vb C' over
// tiles of points, (2) rank-sized algebra, (3) one point per thread. A team may take several items,
// whose gradients of shared rows it adds up; a second launch adds up the teams in their order.
#pragma once

#include "rank_system.cuh"

namespace physcon::cuda {

struct BackwardPlan {
    int threads = 256;
    bool warps = false;
    int splits = 1;     ///< blocks per item
    int64_t slots = 0;  ///< teams that take items in turn; the batch when nothing is added up
    bool in_shared = true;
};

/// Rank-sized memory of one item.
struct AdjointSystem {
    int rank;
    double *sums, *mixed, *inverse, *adjoint, *covariance, *scratch, *a, *alpha, *work;

    static __host__ __device__ constexpr int matrix_doubles(int rank) {
        return (rank + 1) * (rank + 1) + 5 * rank * rank;
    }
    static __host__ __device__ constexpr int vector_doubles(int rank) {
        return 3 * rank;
    }
    __device__ AdjointSystem(int r, double* matrices, double* vectors) : rank(r) {
        sums = matrices;
        mixed = sums + (r + 1) * (r + 1);
        inverse = mixed + r * r;
        adjoint = inverse + r * r;
        covariance = adjoint + r * r;
        scratch = covariance + r * r;
        a = vectors;
        alpha = a + r;
        work = alpha + r;
    }
};

__host__ __device__ constexpr int backward_doubles(int rank, int threads, bool in_shared) {
    return product_memory(rank + 1, rank + 1, threads) + AdjointSystem::vector_doubles(rank) +
           (in_shared ? AdjointSystem::matrix_doubles(rank) : 0);
}
/// Blocks of 256 threads that a multiprocessor is to hold: what a thread keeps in registers allows.
constexpr int adjoint_blocks(int tiles, bool diagonal, std::size_t bytes) {
    return tiles == 1 && diagonal && bytes < sizeof(double) ? 2 : 1;
}
/// Sums of one item: C diag(q) C' with C p in the last row, then Vb C'.
__host__ __device__ constexpr int backward_sums(int rank) {
    return (rank + 1) * (rank + 1) + rank * rank;
}

template <typename T, bool diagonal, int tiles, typename Team>
__device__ void sum_upstream(
    const Team& team,
    const ConditionBackwardArgs<T>& a,
    int64_t b,
    int64_t begin,
    int64_t end,
    double* memory,
    double* sums,
    double* mixed
) {
    const int r = static_cast<int>(a.rank);
    const int64_t n = a.n;
    const T *c = diagonal ? a.rows.item(b) : a.cross.item(b), *v = a.variance.item(b);
    const T *up = a.grad_mean.item(b), *uq = a.grad_variance.item(b);
    products<tiles>(
        team,
        r + 1,
        r + 1,
        true,
        begin,
        end,
        memory,
        [=](int k, int64_t p, double& left, double& right) {
            if (k == r) {
                left = static_cast<double>(up[p]);
                return;
            }
            const double base = static_cast<double>(c[k * n + p]);
            const double x = diagonal ? base * static_cast<double>(v[p]) : base;
            left = x * static_cast<double>(uq[p]);
            right = x;
        },
        sums
    );
    if (a.grad_factor.data == nullptr) {
        return;
    }
    const T* uf = a.grad_factor.item(b);
    products<tiles>(
        team,
        r,
        r,
        false,
        begin,
        end,
        memory,
        [=](int k, int64_t p, double& left, double& right) {
            const double base = static_cast<double>(c[k * n + p]);
            left = static_cast<double>(uf[k * n + p]);
            right = diagonal ? base * static_cast<double>(v[p]) : base;
        },
        mixed
    );
}

/// From the sums to a, the gradient of A, W and A^-1.
template <typename T, typename Team>
__device__ void solve_adjoint(
    const Team& team, const ConditionBackwardArgs<T>& args, int64_t b, const AdjointSystem& s
) {
    const int r = s.rank;
    const double *l = args.cholesky + b * r * r, *alpha = args.multipliers + b * r;
    const double* w = s.inverse;
    for (int j = team.rank(); j < r; j += team.size()) {  // a column of W needs no other
        for (int k = 0; k < r; ++k) {
            double value = k == j ? 1.0 : 0.0;
            for (int i = j; i < k; ++i) {
                value -= l[k * r + i] * s.inverse[i * r + j];
            }
            s.inverse[k * r + j] = k < j ? 0.0 : value / l[k * r + k];
        }
        s.alpha[j] = alpha[j];
        s.a[j] = s.sums[r * (r + 1) + j];
    }
    team.sync();
    apply_inverse(team, w, r, s.a, s.work, s.a);
    for (int e = team.rank(); e < r * r; e += team.size()) {  // scratch <- W (C diag(q) C')
        const int i = e / r, j = e % r;
        double sum = 0, product = 0;
        for (int k = 0; k <= i; ++k) {
            sum += w[i * r + k] * s.sums[k * (r + 1) + j];
        }
        for (int k = larger(i, j); k < r; ++k) {
            product += w[k * r + i] * w[k * r + j];
        }
        s.scratch[e] = sum;
        s.covariance[e] = product;
    }
    team.sync();
    for (int e = team.rank(); e < r * r; e += team.size()) {  // sums <- scratch W' - sym Phi(Vb V')
        const int i = e / r, j = e % r, row = larger(i, j), column = smaller(i, j);
        double sum = 0, product = 0;
        for (int k = 0; k <= j; ++k) {
            sum += s.scratch[i * r + k] * w[j * r + k];
        }
        for (int k = 0; k <= column && args.grad_factor.data != nullptr; ++k) {
            product += s.mixed[row * r + k] * w[column * r + k];
        }
        s.sums[e] = sum - 0.5 * product;
    }
    team.sync();
    for (int e = team.rank(); e < r * r; e += team.size()) {
        const int i = e / r, j = e % r;
        double sum = 0;
        for (int k = j; k < r; ++k) {
            sum += s.sums[i * r + k] * w[k * r + j];
        }
        s.scratch[e] = sum;
    }
    team.sync();
    for (int e = team.rank(); e < r * r; e += team.size()) {
        const int i = e / r, j = e % r;
        double sum = 0, mirrored = 0;
        for (int k = i; k < r; ++k) {
            sum += w[k * r + i] * s.scratch[k * r + j];
        }
        for (int k = j; k < r; ++k) {
            mirrored += w[k * r + j] * s.scratch[k * r + i];
        }
        s.adjoint[e] = 0.5 * (sum + mirrored) - 0.5 * (s.a[i] * s.alpha[j] + s.a[j] * s.alpha[i]);
    }
    team.sync();
}

template <typename T, bool diagonal, typename Team>
__device__ void point_gradients(
    const Team& team,
    const ConditionBackwardArgs<T>& args,
    int64_t b,
    const AdjointSystem& s,
    int64_t begin,
    int64_t end,
    double* rows_sum  // (rank, n), or null
) {
    const int r = s.rank;
    const int64_t n = args.n;
    const T *g = args.rows.item(b), *c = diagonal ? nullptr : args.cross.item(b);
    const T *m = args.mean.item(b), *v = args.variance.item(b);
    const T *up = args.grad_mean.item(b), *uq = args.grad_variance.item(b);
    const T* uf = args.grad_factor.data == nullptr ? nullptr : args.grad_factor.item(b);
    T* rows_out = args.rows_out == nullptr || rows_sum != nullptr
                      ? nullptr
                      : args.rows_out + (args.rows_shared ? 0 : b * r * n);
    for (int64_t p = begin + team.rank(); p < end; p += team.size()) {
        const auto upstream = static_cast<double>(up[p]), q = static_cast<double>(uq[p]);
        const double prior = diagonal ? static_cast<double>(v[p]) : 1.0;
        double mean_bar = upstream, variance_bar = q;
        for (int first = 0; first < r; first += row_group) {
            double y[row_group] = {}, z[row_group] = {}, h[row_group] = {}, own[row_group] = {};
            for (int j = 0; j < r; ++j) {
                const auto x = static_cast<double>(g[j * n + p]);
                const double base = diagonal ? x : static_cast<double>(c[j * n + p]);
                const double f = uf == nullptr ? 0.0 : static_cast<double>(uf[j * n + p]);
#pragma unroll
                for (int i = 0; i < row_group; ++i) {
                    const int k = smaller(first + i, r - 1);
                    y[i] += s.adjoint[k * r + j] * x;
                    h[i] += s.covariance[k * r + j] * base;
                    if (!diagonal) {
                        own[i] += s.adjoint[k * r + j] * base;
                    }
                    if (uf != nullptr) {
                        z[i] += s.inverse[j * r + k] * f;
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < row_group; ++i) {
                const int k = first + i;
                if (k >= r) {
                    continue;
                }
                const auto x = static_cast<double>(g[k * n + p]);
                const double cross = s.alpha[k] * upstream + y[i] + z[i] - 2 * q * prior * h[i];
                mean_bar -= s.a[k] * x;
                if (diagonal) {
                    variance_bar += cross * x;
                }
                if (args.cross_out != nullptr) {
                    args.cross_out[(b * r + k) * n + p] = static_cast<T>(cross);
                }
                if (rows_out == nullptr && rows_sum == nullptr) {
                    continue;
                }
                const double row = (diagonal ? prior * (cross + y[i]) : own[i]) -
                                   s.a[k] * static_cast<double>(m[p]);
                if (rows_sum != nullptr) {
                    rows_sum[k * n + p] += row;
                } else {
                    rows_out[k * n + p] = static_cast<T>(row);
                }
            }
        }
        args.mean_out[b * n + p] = static_cast<T>(mean_bar);
        args.variance_out[b * n + p] = static_cast<T>(variance_bar);
    }
}

/// Partial sums of a part of the points of one item. Grid: items times splits.
template <typename T, bool diagonal, int tiles>
__global__ void __launch_bounds__(256, 1) adjoint_partial_kernel(
    ConditionBackwardArgs<T> a, int splits, double* partial
) {
    const BlockTeam team{nullptr};
    const int r = static_cast<int>(a.rank);
    const int64_t b = block_index() / splits;
    const int split = static_cast<int>(block_index() % splits);
    if (b >= a.batch) {
        return;
    }
    double* out = partial + (b * splits + split) * backward_sums(r);
    sum_upstream<T, diagonal, tiles>(
        team,
        a,
        b,
        a.n * split / splits,
        a.n * (split + 1) / splits,
        shared_memory(),
        out,
        out + (r + 1) * (r + 1)
    );
}

/// Everything else. Grid: slots times splits; a slot takes the items slot, slot + slots, ...
template <typename T, bool diagonal, int tiles, typename Team>
__global__ void __launch_bounds__(256, adjoint_blocks(tiles, diagonal, sizeof(T))) adjoint_kernel(
    ConditionBackwardArgs<T> a,
    int splits,
    int64_t slots,
    double* matrices,  // null: in shared memory
    const double* partial,
    double* rows_partial  // (slots, rank, n), or null
) {
    const int r = static_cast<int>(a.rank);
    const int team_threads = Team::is_warp ? warp_size : static_cast<int>(blockDim.x);
    const int teams = static_cast<int>(blockDim.x) / team_threads;
    const int mine = static_cast<int>(threadIdx.x) / team_threads;
    const int64_t unit = block_index() * teams + mine;
    const int64_t slot = unit / splits;
    const int split = static_cast<int>(unit % splits);
    if (slot >= slots) {
        return;  // a whole warp: teams share no barrier
    }
    double* memory =
        shared_memory() + mine * backward_doubles(r, team_threads, matrices == nullptr);
    double* vectors = memory + product_memory(r + 1, r + 1, team_threads);
    double* own = matrices == nullptr
                      ? vectors + AdjointSystem::vector_doubles(r)
                      : matrices + unit * static_cast<int64_t>(AdjointSystem::matrix_doubles(r));
    const Team team{nullptr};
    const AdjointSystem s(r, own, vectors);
    const int64_t begin = a.n * split / splits, end = a.n * (split + 1) / splits;
    double* rows_sum = rows_partial == nullptr ? nullptr : rows_partial + slot * r * a.n;
    for (int64_t p = begin + team.rank(); p < end && rows_sum != nullptr; p += team.size()) {
        for (int k = 0; k < r; ++k) {
            rows_sum[k * a.n + p] = 0;  // by the thread that adds to it
        }
    }
    for (int64_t b = slot; b < a.batch; b += slots) {
        team.sync();  // the system of the previous item has been used
        if (splits == 1) {
            sum_upstream<T, diagonal, tiles>(team, a, b, 0, a.n, memory, s.sums, s.mixed);
        } else {
            for (int e = team.rank(); e < backward_sums(r); e += team.size()) {
                double total = 0;
                for (int i = 0; i < splits; ++i) {
                    total += partial[(b * splits + i) * backward_sums(r) + e];
                }
                s.sums[e] = total;  // `mixed` follows `sums`
            }
            team.sync();
        }
        solve_adjoint(team, a, b, s);
        for (int e = team.rank(); e < r * r && split == 0; e += team.size()) {
            a.noise_out[b * r * r + e] = static_cast<T>(s.adjoint[e]);
            if (e < r) {
                a.target_out[b * r + e] = static_cast<T>(s.a[e]);
            }
        }
        point_gradients<T, diagonal>(team, a, b, s, begin, end, rows_sum);
    }
}

/// rows_out <- the sum over the slots, in their order.
template <typename T>
__global__ void __launch_bounds__(256, 1) adjoint_rows_kernel(
    const double* rows_partial, int64_t slots, int64_t size, T* rows_out
) {
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t e = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; e < size;
         e += step) {
        double sum = 0;
        for (int64_t i = 0; i < slots; ++i) {
            sum += rows_partial[i * size + e];
        }
        rows_out[e] = static_cast<T>(sum);
    }
}

}  // namespace physcon::cuda
