// SPDX-License-Identifier: Apache-2.0
// Forward conditioning for diagonal and cross priors: mean, variance and factor.
//
// Per item, by one team: (1) A and G m over tiles of points, or by a warp in registers where rows
// are few, (2) rank-sized algebra, (3) mean, variance and factor point by point, (4) the few
// variances that cancel, by the whole team, and (5) for double data or nearly dependent rows passes
// that correct alpha until G m' + R alpha = b to rounding. Few items: (1) by many blocks into
// partial sums, then (2) to (5) by many blocks, of which the last one to finish runs (5).
#pragma once

#include "condition_marginal.hpp"
#include "rank_system.cuh"

namespace physcon::cuda {

constexpr double joseph_leverage = 0.9;
constexpr int correction_limit = 6;

/// How a call is cut; the numbers never depend on anything but this and the sizes.
struct Plan {
    int threads = 256;      ///< of a block
    bool warps = false;     ///< one item per warp instead of one per block
    int splits = 1;         ///< blocks per item
    bool in_shared = true;  ///< rank-sized matrices in shared memory, or in the workspace
};

/// Points whose variance cancels; leverages add up to at most the rank.
__host__ __device__ constexpr int repair_capacity(int rank) {
    return rank + rank / 8 + 8;
}
/// Doubles of shared memory per team; `tiled` where the sums go over tiles of points.
__host__ __device__ constexpr int forward_doubles(
    int rank, int threads, bool in_shared, bool tiled
) {
    return (tiled ? product_memory(rank + 1, rank + 1, threads) : 0) +
           RankSystem::vector_doubles(rank) + repair_capacity(rank) + 2 + warp_size +
           (in_shared ? RankSystem::matrix_doubles(rank) : 0);
}

/// Sums of one item over the points [begin, end): A and, in the last column, G m.
template <typename T, bool diagonal, int tiles, typename Team>
__device__ void sum_rows(
    const Team& team,
    const ConditionArgs<T>& a,
    int64_t b,
    int64_t begin,
    int64_t end,
    double* memory,
    double* out
) {
    const int r = static_cast<int>(a.rank);
    const int64_t n = a.n;
    const T *g = a.rows.item(b), *m = a.mean.item(b);
    const T* c = diagonal ? a.variance.item(b) : a.cross.item(b);
    products<tiles>(
        team,
        r + 1,
        r + 1,
        diagonal,
        begin,
        end,
        memory,
        [=](int k, int64_t p, double& left, double& right) {
            if (k == r) {
                (diagonal ? left : right) = static_cast<double>(m[p]);
                return;
            }
            const auto weight = static_cast<double>(g[k * n + p]);
            left = diagonal ? weight * static_cast<double>(c[p]) : weight;
            right = diagonal ? weight : static_cast<double>(c[k * n + p]);
        },
        out
    );
}

/// The same of a whole item with a diagonal prior, by a warp: a lane sums the products of its
/// points in registers, for at most `rows` rows. Each row waits for memory once for four points.
template <typename T, int rows>
__device__ void sum_few_rows(
    const WarpTeam& team, const ConditionArgs<T>& a, int64_t b, double* out
) {
    constexpr int ahead = 4, products = rows * (rows + 1) / 2;
    const int r = static_cast<int>(a.rank);
    const int64_t n = a.n;
    const T *g = a.rows.item(b), *m = a.mean.item(b), *v = a.variance.item(b);
    double gram[products] = {}, means[rows] = {};
    for (int64_t start = team.rank(); start < n; start += ahead * warp_size) {
        double prior[ahead], mean[ahead];
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const int64_t p = start + i * warp_size, at = smaller(p, n - 1);
            prior[i] = p < n ? static_cast<double>(v[at]) : 0.0;
            mean[i] = p < n ? static_cast<double>(m[at]) : 0.0;
        }
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const int64_t at = smaller(start + i * warp_size, n - 1);
            double x[rows];
#pragma unroll
            for (int k = 0; k < rows; ++k) {
                x[k] = k < r ? static_cast<double>(g[k * n + at]) : 0.0;
            }
#pragma unroll
            for (int k = 0; k < rows; ++k) {
                const double weighted = x[k] * prior[i];
                means[k] += x[k] * mean[i];
#pragma unroll
                for (int j = 0; j <= k; ++j) {
                    gram[k * (k + 1) / 2 + j] += weighted * x[j];
                }
            }
        }
    }
    const bool writes = team.rank() == 0;
#pragma unroll
    for (int k = 0; k < rows; ++k) {
        if (k >= r) {
            break;
        }
        const double of_mean = warp_sum(means[k]);
        if (writes) {
            out[k * (r + 1) + r] = of_mean;
        }
#pragma unroll
        for (int j = 0; j <= k; ++j) {
            const double total = warp_sum(gram[k * (k + 1) / 2 + j]);
            if (writes) {
                out[k * (r + 1) + j] = out[j * (r + 1) + k] = total;
            }
        }
    }
    team.sync();
}

/// Blocks of 256 threads that a multiprocessor is to hold: what a thread keeps in registers allows.
constexpr int marginal_blocks(int tiles, bool is_warp, int rows) {
    return tiles > 1 || (is_warp && rows > 4) ? 1 : 2;
}

template <typename T, bool diagonal, typename Team>
struct Forward {
    const ConditionArgs<T>& a;
    const Team& team;
    const RankSystem& s;
    int64_t b;
    int r;
    int64_t n;
    const T *g, *m, *v, *source, *target, *noise;

    __device__ Forward(
        const ConditionArgs<T>& args, const Team& t, const RankSystem& system, int64_t item
    )
        : a(args),
          team(t),
          s(system),
          b(item),
          r(static_cast<int>(args.rank)),
          n(args.n),
          g(args.rows.item(item)),
          m(args.mean.item(item)),
          v(args.variance.item(item)),
          source(diagonal ? args.rows.item(item) : args.cross.item(item)),
          target(args.target.item(item)),
          noise(args.noise.item(item)) {}

    __device__ double noise_at(int i, int j) const {
        if (a.noise_is_matrix) {
            return static_cast<double>(noise[i * r + j]);
        }
        return i == j ? static_cast<double>(noise[i]) : 0.0;
    }

    /// From the sums to W, alpha and the status; false for an item that is not finite. `owner`
    /// writes the status.
    __device__ bool solve(bool owner, bool& wide) const {
        bool bad = false;
        for (int k = team.rank(); k < r; k += team.size()) {
            s.rhs[k] = static_cast<double>(target[k]) - s.gram(k, r);
            bad = bad || !finite(s.rhs[k]);
        }
        for (int e = team.rank(); e < r * r; e += team.size()) {
            const int i = e / r, j = e % r;
            s.gram(i, j) += noise_at(i, j);
            bad = bad || !finite(s.gram(i, j));
        }
        team.sync();
        wide = false;
        if (team.any(bad)) {
            return false;
        }
        for (int e = team.rank(); e < r * r; e += team.size()) {
            const int i = e / r, j = e % r;
            // A is symmetric up to the rounding of C; the refinement uses A itself.
            s.low[e] = j <= i ? 0.5 * (s.gram(i, j) + s.gram(j, i)) : 0.0;
            if (i == j) {
                s.diagonal[i] = s.low[e];
            }
        }
        for (int e = r * r + team.rank(); e < padded_rows(r) * r; e += team.size()) {
            s.inverse[e] = 0;
        }
        team.sync();
        if (!diagonal) {
            clear_certain_rows();
        }
        bool any_dropped;
        const double smallest = factor_dropping(team, s, any_dropped);
        wide = sizeof(T) != 8 && smallest < benign_pivot;
        int32_t* info = a.info_out + b * r;
        if (owner) {
            for (int k = team.rank(); k < r; k += team.size()) {
                info[k] = static_cast<int32_t>(RowStatus::used);
            }
        }
        if (any_dropped) {
            for (int k = 0; k < r; ++k) {
                double size = 0;
                for (int64_t p = team.rank(); p < n; p += team.size()) {
                    size += fabs(static_cast<double>(g[k * n + p]) * static_cast<double>(m[p]));
                }
                size = team.sum(size) + fabs(static_cast<double>(target[k]));
                if (team.rank() == 0) {
                    s.work[k] = size;
                }
            }
            team.sync();
            if (owner) {
                classify(team, s, epsilon<T>, info);
            }
        }
        for (int e = team.rank(); e < r * r; e += team.size()) {
            if (e % r > e / r) {
                s.inverse[e] = 0;  // the combinations have been used
            }
        }
        team.sync();
        solve_multipliers(team, s);
        return true;
    }

    /// A noise-free row whose variance under a correlated prior cancels to rounding is certain.
    __device__ void clear_certain_rows() const {
        for (int k = 0; k < r; ++k) {
            if (noise_at(k, k) != 0) {
                continue;
            }
            double size = 0;
            for (int64_t p = team.rank(); p < n; p += team.size()) {
                const auto weight = static_cast<double>(g[k * n + p]);
                size += weight * weight * static_cast<double>(v[p]);
            }
            size = team.sum(size);
            const double rounding = sizeof(T) == 8 ? pivot_rounding(r) : epsilon<T>;
            const bool certain = !(s.diagonal[k] > rounding * size);
            team.sync();
            for (int j = team.rank(); j < r && certain; j += team.size()) {
                s.low[larger(k, j) * r + smaller(k, j)] = 0;
            }
            if (certain && team.rank() == 0) {
                s.diagonal[k] = 0;
            }
            team.sync();
        }
    }

    __device__ void fill_nan(int64_t begin, int64_t end) const {
        const T nan = static_cast<T>(not_a_number());
        for (int64_t p = begin + team.rank(); p < end; p += team.size()) {
            a.mean_out[b * n + p] = nan;
            a.variance_out[b * n + p] = nan;
            for (int k = 0; k < r && a.factor_out != nullptr; ++k) {
                a.factor_out[(b * r + k) * n + p] = nan;
            }
        }
    }

    /// Mean, variance and factor of the points [begin, end); lists the variances that cancel. With
    /// a bound `rows` on the rank all that a thread reads of its points is under way at once, and
    /// where rows are fewest two points share what it reads of W.
    template <int rows>
    __device__ void apply(int64_t begin, int64_t end, int64_t* list, int* listed) const {
        constexpr int group = rows == 1 ? 1 : row_group;
        constexpr int points = 0 < rows && rows <= few_rows ? 2 : 1;
        for (int64_t p = begin + team.rank(); p < end; p += points * team.size()) {
            int64_t at[points];
            double prior[points], mean[points], x[points][larger(rows, 1)];
            double shift[points] = {}, squares[points] = {};
#pragma unroll
            for (int i = 0; i < points; ++i) {
                at[i] = smaller(p + i * team.size(), end - 1);
                prior[i] = static_cast<double>(v[at[i]]);
                mean[i] = static_cast<double>(m[at[i]]);
#pragma unroll
                for (int j = 0; j < rows; ++j) {
                    x[i][j] = j < r ? static_cast<double>(source[j * n + at[i]]) : 0.0;
                }
            }
            for (int first = 0; first < r; first += group) {
                double row[points][group] = {};
                const int stop = smaller(first + group, r);
                const bool last = stop == r;
                const auto add = [&](int i, int j, double value) {
#pragma unroll
                    for (int k = 0; k < group; ++k) {
                        row[i][k] += s.inverse[(first + k) * r + j] * value;
                    }
                    if (last) {
                        shift[i] += s.alpha[j] * value;
                    }
                };
                if constexpr (rows > 0) {
#pragma unroll
                    for (int j = 0; j < rows; ++j) {
                        if (j < stop) {
#pragma unroll
                            for (int i = 0; i < points; ++i) {
                                add(i, j, x[i][j]);
                            }
                        }
                    }
                } else {
                    for (int j = 0; j < stop; ++j) {
                        add(0, j, static_cast<double>(source[j * n + p]));
                    }
                }
#pragma unroll
                for (int i = 0; i < points; ++i) {
#pragma unroll
                    for (int k = 0; k < group; ++k) {
                        squares[i] += row[i][k] * row[i][k];
                        if (a.factor_out != nullptr && first + k < r && p + i * team.size() < end) {
                            a.factor_out[(b * r + first + k) * n + at[i]] =
                                static_cast<T>(diagonal ? row[i][k] * prior[i] : row[i][k]);
                        }
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < points; ++i) {
                if (p + i * team.size() < end) {
                    finish(at[i], prior[i], mean[i], shift[i], squares[i], list, listed);
                }
            }
        }
    }

    /// Mean and variance of a point, which is listed where its variance cancels.
    __device__ void finish(
        int64_t p,
        double prior,
        double mean,
        double shift,
        double squares,
        int64_t* list,
        int* listed
    ) const {
        a.mean_out[b * n + p] = static_cast<T>(mean + (diagonal ? prior * shift : shift));
        double left = diagonal ? prior * (1 - prior * squares) : prior - squares;
        if (left < (1 - joseph_leverage) * prior) {
            if (diagonal) {
                const int at = atomicAdd(listed, 1);  // the order of the list changes nothing
                if (at < repair_capacity(r)) {
                    list[at] = p;
                }
            } else {
                left = larger(left, 0.0);  // no square root of the prior is known
            }
        }
        a.variance_out[b * n + p] = static_cast<T>(left);
    }

    /// (e - G' K)' S (e - G' K) + K' R K for the listed points: no cancellation.
    __device__ void repair(const int64_t* list, int count) const {
        for (int i = 0; i < count; ++i) {
            const int64_t cell = list[i];
            for (int k = team.rank(); k < r; k += team.size()) {
                s.rhs[k] = static_cast<double>(v[cell]) * static_cast<double>(g[k * n + cell]);
            }
            team.sync();
            apply_inverse(team, s.inverse, r, s.rhs, s.work, s.other);
            double sum = 0;
            for (int64_t p = team.rank(); p < n; p += team.size()) {
                double weight = p == cell ? 1.0 : 0.0;
                for (int k = 0; k < r; ++k) {
                    weight -= s.other[k] * static_cast<double>(g[k * n + p]);
                }
                sum += weight * weight * static_cast<double>(v[p]);
            }
            for (int e = team.rank(); e < r * r; e += team.size()) {
                sum += s.other[e / r] * noise_at(e / r, e % r) * s.other[e % r];
            }
            sum = team.sum(sum);
            if (team.rank() == 0) {
                a.variance_out[b * n + cell] = static_cast<T>(sum);
            }
            team.sync();
        }
    }

    /// The mean in double precision: stored for double data, built anew for float data, where only
    /// nearly dependent rows ask for it. `diagonal` of the system holds the corrections of alpha.
    __device__ double current_mean(int64_t p) const {
        if constexpr (sizeof(T) == 8) {
            return a.mean_out[b * n + p];
        }
        double first = 0, second = 0;
        for (int k = 0; k < r; ++k) {
            const auto x = static_cast<double>(source[k * n + p]);
            first += s.alpha[k] * x;
            second += s.diagonal[k] * x;
        }
        const double scale = diagonal ? static_cast<double>(v[p]) : 1.0;
        return (static_cast<double>(m[p]) + scale * first) + scale * second;
    }

    /// Residual corrections of the whole item; alpha stays split into its first value and the rest.
    __device__ void correct() const {
        const int warps = team.size() / warp_size, warp = team.rank() / warp_size;
        for (int k = team.rank(); k < r; k += team.size()) {
            s.diagonal[k] = 0;
        }
        team.sync();
        for (int pass = 0; pass < correction_limit; ++pass) {
            bool needed = false;
            for (int k = warp; k < r; k += warps) {
                Compensated sum;
                double magnitude = 0;
                for (int64_t p = team.rank() % warp_size; p < n; p += warp_size) {
                    const double x = static_cast<double>(g[k * n + p]), y = current_mean(p);
                    sum.add_product(x, y);
                    magnitude += fabs(x * y);
                }
                sum = warp_sum(sum);
                magnitude = warp_sum(magnitude) + fabs(static_cast<double>(target[k]));
                double observed = 0;
                for (int j = a.noise_is_matrix ? 0 : k; j < (a.noise_is_matrix ? r : k + 1); ++j) {
                    observed += noise_at(k, j) * (s.alpha[j] + s.diagonal[j]);
                }
                sum.add(-static_cast<double>(target[k]));
                const double delta = -(sum.value() + observed);
                const double allowed = 2 * epsilon64 * (magnitude + fabs(observed));
                needed = needed || (!s.dropped(k) && fabs(delta) > allowed);
                if (team.rank() % warp_size == 0) {
                    s.rhs[k] = delta;
                }
            }
            team.sync();
            if (!team.any(needed)) {
                break;
            }
            apply_inverse(team, s.inverse, r, s.rhs, s.work, s.other);
            for (int k = team.rank(); k < r; k += team.size()) {
                s.diagonal[k] += s.other[k];
            }
            if constexpr (sizeof(T) == 8) {
                for (int64_t p = team.rank(); p < n; p += team.size()) {
                    double shift = 0;
                    for (int k = 0; k < r; ++k) {
                        shift += s.other[k] * static_cast<double>(source[k * n + p]);
                    }
                    a.mean_out[b * n + p] += diagonal ? v[p] * shift : shift;
                }
            }
            team.sync();
        }
        for (int64_t p = team.rank(); p < n && sizeof(T) != 8; p += team.size()) {
            a.mean_out[b * n + p] = static_cast<T>(current_mean(p));
        }
        team.sync();
        for (int k = team.rank(); k < r; k += team.size()) {
            s.alpha[k] += s.diagonal[k];
        }
        team.sync();
    }

    /// Cholesky factor and multipliers, as the backward call wants them.
    __device__ void save(bool item_finite) const {
        const double nan = not_a_number();
        for (int e = team.rank(); e < r * r; e += team.size()) {
            const double value = item_finite ? s.low[e] : nan;
            a.cholesky_out[b * r * r + e] = e % r <= e / r ? value : 0.0;
        }
        for (int k = team.rank(); k < r; k += team.size()) {
            a.multipliers_out[b * r + k] = item_finite ? s.alpha[k] : nan;
            if (!item_finite) {
                a.info_out[b * r + k] = static_cast<int32_t>(RowStatus::non_finite);
            }
        }
    }
};

/// Partial sums of a part of the points of one item. Grid: items times splits.
template <typename T, bool diagonal, int tiles>
__global__ void __launch_bounds__(256, 1) condition_partial_kernel(
    ConditionArgs<T> a, int splits, double* partial, unsigned* finished
) {
    const BlockTeam team{nullptr};
    const int64_t b = block_index() / splits;
    const int split = static_cast<int>(block_index() % splits);
    if (b >= a.batch) {
        return;
    }
    const int size = static_cast<int>(a.rank) + 1;
    const int64_t begin = a.n * split / splits, end = a.n * (split + 1) / splits;
    if (split == 0 && team.rank() == 0) {
        finished[b] = 0;
    }
    double* out = partial + (b * splits + split) * size * size;
    sum_rows<T, diagonal, tiles>(team, a, b, begin, end, shared_memory(), out);
}

/// Everything else; with `splits` > 1 from the partial sums, otherwise all in one launch. `rows`: a
/// bound on the rank where rows are few, or 0.
template <typename T, bool diagonal, int tiles, typename Team, int rows>
__global__ void
__launch_bounds__(256, marginal_blocks(tiles, Team::is_warp, rows)) condition_marginal_kernel(
    ConditionArgs<T> a,
    int splits,
    double* matrices,  // null: in shared memory
    const double* partial,
    unsigned* finished
) {
    const int r = static_cast<int>(a.rank);
    const int team_threads = Team::is_warp ? warp_size : static_cast<int>(blockDim.x);
    const int teams = static_cast<int>(blockDim.x) / team_threads;
    const int mine = static_cast<int>(threadIdx.x) / team_threads;
    const int64_t unit = block_index() * teams + mine;
    const int64_t b = unit / splits;
    const int split = static_cast<int>(unit % splits);
    if (b >= a.batch) {
        return;  // a whole warp: teams share no barrier
    }
    constexpr bool tiled = !(Team::is_warp && rows > 0);
    double* memory =
        shared_memory() + mine * forward_doubles(r, team_threads, matrices == nullptr, tiled);
    double* tile = memory;
    memory += tiled ? product_memory(r + 1, r + 1, team_threads) : 0;
    double* vectors = memory;
    memory += RankSystem::vector_doubles(r);
    int64_t* list = reinterpret_cast<int64_t*>(memory);
    memory += repair_capacity(r);
    int* listed = reinterpret_cast<int*>(memory);
    memory += 2;
    const Team team{memory};
    memory += warp_size;
    double* own = matrices == nullptr
                      ? memory
                      : matrices + unit * static_cast<int64_t>(RankSystem::matrix_doubles(r));
    const RankSystem system(r, own, vectors);
    const Forward<T, diagonal, Team> item(a, team, system, b);

    if (team.rank() == 0) {
        listed[0] = 0;
    }
    const int size = r + 1;
    if constexpr (!tiled) {
        sum_few_rows<T, rows>(team, a, b, system.sums);
    } else if (splits == 1) {
        sum_rows<T, diagonal, tiles>(team, a, b, 0, a.n, tile, system.sums);
    } else {
        for (int e = team.rank(); e < size * size; e += team.size()) {
            double total = 0;
            for (int i = 0; i < splits; ++i) {
                total += partial[(b * splits + i) * size * size + e];
            }
            system.sums[e] = total;
        }
        team.sync();
    }
    bool wide;
    const bool item_finite = item.solve(split == 0, wide);
    const int64_t begin = a.n * split / splits, end = a.n * (split + 1) / splits;
    if (item_finite) {
        item.template apply<rows>(begin, end, list, listed);
        team.sync();
        item.repair(list, smaller(listed[0], repair_capacity(r)));
    } else {
        item.fill_nan(begin, end);
    }
    if (splits > 1) {
        // The last block of the item finds every mean written.
        __threadfence();
        team.sync();
        if (team.rank() == 0) {
            listed[1] = atomicAdd(finished + b, 1u) + 1 == static_cast<unsigned>(splits);
        }
        team.sync();
        if (listed[1] == 0) {
            return;
        }
        __threadfence();
    } else {
        team.sync();
    }
    if (item_finite && (sizeof(T) == 8 || wide)) {
        item.correct();
    }
    item.save(item_finite);
}

}  // namespace physcon::cuda
