// SPDX-License-Identifier: Apache-2.0
// First pass of conditioning: A = G S G' and G m, chunk after chunk of the points.
#pragma once

#include "condition_forward.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

template <typename T>
PHYSCON_KERNEL void ConditionForward<T>::gram(State& s, int64_t b, int64_t chunk) const {
    double* partial = s.partial + chunk * partial_size();
    const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
    if (rank_ == 1) {
        gram_one(s, b, begin, end, partial);
        return;
    }
    clear(s.lanes, gram_lanes(rank_, lower_));
    clear(s.dots, dot_lanes(rank_));
    const Rows<T> all = {rows(b), n_, rank_}, priors = {source(b), n_, rank_};
    for (int64_t p = begin; p < end; p += gram_run) {
        const int64_t count = smaller(gram_run, end - p);
        if (lower_) {
            const T *v = variance(s, b) + p, *m = mean(b) + p;
            // The next points of the same rows, or the first ones of the next item.
            const int64_t ahead = p + gram_run < n_ ? gram_run : a_.rows.stride - p;
            add_gram(all.from(p), count, ahead, v, m, s.lanes, s.dots);
        } else {
            add_dots(all.from(p), count, mean(b) + p, s.dots);
            const T* none = nullptr;
            add_products<false>(all.from(p), priors.from(p), count, none, s.lanes);
        }
    }
    gram_finish(s.lanes, rank_, lower_, partial);
    dots_finish(s.dots, rank_, partial + rank_ * rank_);
}

template <typename T>
PHYSCON_KERNEL void ConditionForward<T>::gram_one(
    State& s, int64_t b, int64_t begin, int64_t end, double* partial
) const {
    const T *g = rows(b), *c = lower_ ? variance(s, b) : cross(b), *m = mean(b);
    Vector<double> total = {}, product = {};
    const auto add = [&](auto full, int64_t p, int count, Wide<T>& sum, Wide<T>& dot) {
        constexpr bool is_full = decltype(full)::value;
        const Wide<T> w = load_wide<is_full>(g + p, count);
        const Wide<T> x = load_wide<is_full>(c + p, count);
        const Wide<T> y = load_wide<is_full>(m + p, count);
        for (int i = 0; i < Wide<T>::parts; ++i) {
            sum.part[i] += w.part[i] * (lower_ ? w.part[i] * x.part[i] : x.part[i]);
            dot.part[i] += w.part[i] * y.part[i];
        }
    };
    for (int64_t start = begin; start < end;
         start += block) {  // short chains: two levels of summation
        const int64_t stop = smaller(start + block, end);
        Wide<T> sum = {}, dot = {};
        int64_t p = start;
        for (; p + width<T> <= stop; p += width<T>) {
            add(std::true_type{}, p, width<T>, sum, dot);
        }
        if (p < stop) {
            add(std::false_type{}, p, static_cast<int>(stop - p), sum, dot);
        }
        for (int i = 0; i < Wide<T>::parts; ++i) {
            total += sum.part[i];
            product += dot.part[i];
        }
    }
    partial[0] = sum_lanes(total);
    partial[1] = sum_lanes(product);
}

// ---- rows shared by the batch
// A = sum_i s_i g_i g_i': the products of rows are made once for a group of items. In float
// data every product of two weights and a variance is exact before it is added, and it is added
// in the same order, so an item gets the bits that it gets alone.
template <typename T>
PHYSCON_KERNEL void ConditionForward<T>::gram_items(
    State& s, int64_t first, int64_t count, int64_t chunk
) const {
    const int64_t begin = chunk * chunk_points, end = smaller(begin + chunk_points, n_);
    const Group& g = s.group;
    const T* none = nullptr;
    clear(g.pair_lanes, product_lanes(group_, pair_count(), false));
    clear(g.row_lanes, product_lanes(group_, rank_, false));
    const Rows<T> weights = {a_.variance.item(first), a_.variance.stride, count};
    const Rows<T> values = {mean(first), a_.mean.stride, count};
    const Rows<double> wide = {g.rows, gram_run, rank_};
    const Rows<double> pairs = {g.pairs, gram_run, pair_count()};
    for (int64_t p = begin; p < end; p += gram_run) {
        const int64_t size = smaller(gram_run, end - p);
        multiply_rows(rows(first) + p, size, g.rows, g.pairs);
        add_products<false>(weights.from(p), pairs, size, none, g.pair_lanes);
        add_products<false>(values.from(p), wide, size, none, g.row_lanes);
    }
    const int64_t pair_tiles = tiles(pair_count()), row_tiles = tiles(rank_);
    double sums[tile_rows][padded_rank(pairwise_rank * (pairwise_rank + 1) / 2)];
    for (int64_t tile = 0; tile < tiles(count); ++tile) {
        const int64_t here = smaller<int64_t>(tile_rows, count - tile * tile_rows);
        double* partial = s.partial + (tile * tile_rows * chunks_ + chunk) * partial_size();
        const int64_t step = chunks_ * partial_size();
        product_sums(g.pair_lanes + tile * pair_tiles * tile_lanes, pair_tiles, sums);
        for (int64_t i = 0; i < here; ++i) {
            for (int64_t k = 0, pair = 0; k < rank_; ++k) {
                for (int64_t j = 0; j <= k; ++j, ++pair) {
                    partial[i * step + k * rank_ + j] = partial[i * step + j * rank_ + k] =
                        sums[i][pair];
                }
            }
        }
        product_sums(g.row_lanes + tile * row_tiles * tile_lanes, row_tiles, sums);
        for (int64_t i = 0; i < here; ++i) {
            for (int64_t k = 0; k < rank_; ++k) {
                partial[i * step + rank_ * rank_ + k] = sums[i][k];
            }
        }
    }
}

/// One run of the rows in double precision, and the products of each two of them.
template <typename T>
void ConditionForward<T>::multiply_rows(
    const T* from, int64_t count, double* wide, double* pair
) const {
    for (int64_t k = 0; k < rank_; ++k) {
        double* row = wide + k * gram_run;
        for (int64_t i = 0; i < count; ++i) {
            row[i] = from[k * n_ + i];
        }
        for (int64_t j = 0; j <= k; ++j, pair += gram_run) {
            const double* other = wide + j * gram_run;
            for (int64_t i = 0; i < count; ++i) {
                pair[i] = row[i] * other[i];
            }
        }
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
