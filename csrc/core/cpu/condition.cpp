// SPDX-License-Identifier: Apache-2.0
// Forward conditioning: workspace, and the order of the passes over items and chunks.
#include "condition_correction.hpp"
#include "condition_dense.hpp"
#include "condition_forward.hpp"
#include "condition_points.hpp"
#include "condition_sums.hpp"
#include "condition_systems.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

template <typename T>
ConditionForward<T>::ConditionForward(
    const ConditionArgs<T>& args, const Executor& executor, void* workspace
)
    : a_(args),
      executor_(executor),
      n_(args.n),
      rank_(args.rank),
      chunks_(chunk_count(args.n)),
      lower_(args.cross.data == nullptr && args.covariance.data == nullptr),
      by_item_(args.batch >= executor.threads || chunks_ == 1),
      slots_(
          by_item_ ? smaller<int64_t>(larger(executor.threads, 1), larger<int64_t>(args.batch, 1))
                   : larger(executor.threads, 1)
      ),
      pairwise_(
          sizeof(T) == 4 && lower_ && by_item_ && args.rows.stride == 0 &&
          args.batch >= tile_rows && rank_ >= 2 && rank_ <= pairwise_rank &&
          args.covariance_out == nullptr
      ),
      lanes_(lower_ && !args.noise_is_matrix && rank_ >= 2 && rank_ <= lane_rank),
      streamed_(
          a_.batch * n_ * n_ * static_cast<int64_t>(sizeof(T)) >= streamed_bytes &&
          n_ % width<T> == 0 && reinterpret_cast<std::uintptr_t>(a_.covariance_out) % 64 == 0
      ),
      group_(group_size()),
      arena_(workspace) {
    const int64_t pr = padded_rank(rank_);
    states_ = arena_.take<State>(slots_);
    for (int64_t s = 0; s < slots_; ++s) {
        State state = {};
        if (by_item_ || s == 0) {
            state.partial = arena_.take<double>(group_ * chunks_ * partial_size());
            state.gram = arena_.take<double>(rank_ * rank_);
            state.factored = arena_.take<double>(rank_ * rank_);
            state.inverse = arena_.take<double>(group_ * rank_ * rank_);
            state.vectors = arena_.take<double>((1 + factor_panel) * rank_);
            state.flags = arena_.take<Flags>(group_);
            state.wide_mean = sizeof(T) == 8 ? nullptr : arena_.take<double>(n_);
            state.diagonal = args.covariance.data == nullptr ? nullptr : arena_.take<T>(n_);
            state.left_packed = args.covariance.data == nullptr ? nullptr : arena_.take<T>(pr * n_);
        } else {  // one item at a time is shared by all slots
            const State& first = measured_;
            state.partial = first.partial, state.gram = first.gram, state.factored = first.factored;
            state.inverse = first.inverse, state.vectors = first.vectors, state.flags = first.flags;
            state.diagonal = first.diagonal, state.left_packed = first.left_packed;
            state.wide_mean = first.wide_mean;
        }
        state.lanes = arena_.take<double>(gram_lanes(rank_, lower_));
        state.dots = arena_.take<double>(dot_lanes(rank_));
        state.packed = arena_.take<double>(pr * pr);
        state.gain = arena_.take<double>(rank_);
        state.downdate = arena_.take<T>(downdate_scratch<T>(rank_));
        state.points = arena_.take<T>(rank_ >= copied_rank ? rank_ * copied_points : 0);
        if (pairwise_) {
            state.group.rows = arena_.take<double>(rank_ * gram_run);
            state.group.pairs = arena_.take<double>(pair_count() * gram_run);
            state.group.pair_lanes =
                arena_.take<double>(product_lanes(group_, pair_count(), false));
            state.group.row_lanes = arena_.take<double>(product_lanes(group_, rank_, false));
        }
        state.systems = lanes_ ? arena_.take<double>(LaneSystem::doubles(rank_)) : nullptr;
        if (s == 0) {
            measured_ = state;
        }
        if (workspace != nullptr) {
            states_[s] = state;
        }
    }
}

template <typename T>
void ConditionForward<T>::run() {
    if (a_.batch == 0) {
        return;
    }
    if (by_item_) {
        const int64_t groups = (a_.batch + group_ - 1) / group_;
        run_indices(executor_, groups, [&](int64_t slot, int64_t i) {
            items(states_[slot], i * group_, smaller(group_, a_.batch - i * group_));
        });
        return;
    }
    for (int64_t b = 0; b < a_.batch; ++b) {
        item_in_chunks(b);
    }
}

template <typename T>
void ConditionForward<T>::items(State& s, int64_t first, int64_t count) const {
    const auto each = [&](auto&& body) {
        for (int64_t i = 0; i < count; ++i) {
            State one = member(s, i);
            body(one, first + i);
        }
    };
    if (a_.covariance.data != nullptr) {
        each([&](State& one, int64_t b) {
            prepare_dense(one, b);
            for (int64_t panel = 0; panel * column_panel < n_; ++panel) {
                cross_panel(one, b, panel);
            }
        });
    }
    const auto over_chunks = [&](State& one) {
        return [&](auto&& body) {
            for (int64_t c = 0; c < chunks_; ++c) {
                body(one, c);
            }
        };
    };
    if (pairwise_) {
        over_chunks(s)([&](State& all, int64_t c) { gram_items(all, first, count, c); });
    } else {
        each([&](State& one, int64_t b) {
            over_chunks(one)([&](State& t, int64_t c) { gram(t, b, c); });
        });
    }
    for (int64_t i = 0; i < count; i += lane_items) {
        solve(s, first, i, smaller(count - i, lane_items));
    }
    for (int64_t c = 0; c < chunks_; ++c) {
        each([&](State& one, int64_t b) { apply(one, b, c); });
    }
    each([&](State& one, int64_t b) {
        correct(one, b, over_chunks(one));
        if (a_.covariance_out != nullptr) {
            for (int64_t part = 0; part < downdate_parts<T>(n_); ++part) {
                covariance_part(one, b, part);
            }
            covariance_diagonal(b);
        }
    });
}

template <typename T>
void ConditionForward<T>::item_in_chunks(int64_t b) const {
    const auto over = [&](int64_t count, auto&& body) {
        run_indices(executor_, count, [&](int64_t slot, int64_t i) { body(states_[slot], i); });
    };
    if (a_.covariance.data != nullptr) {
        prepare_dense(states_[0], b);
        over((n_ + column_panel - 1) / column_panel, [&](State& s, int64_t panel) {
            cross_panel(s, b, panel);
        });
    }
    over(chunks_, [&](State& s, int64_t c) { gram(s, b, c); });
    solve(states_[0], b, 0, 1);
    over(chunks_, [&](State& s, int64_t c) { apply(s, b, c); });
    correct(states_[0], b, [&](auto&& body) { over(chunks_, body); });
    if (a_.covariance_out != nullptr) {
        over(downdate_parts<T>(n_), [&](State& s, int64_t part) { covariance_part(s, b, part); });
        covariance_diagonal(b);
    }
}

template <typename T>
std::size_t condition_workspace(const ConditionArgs<T>& args, const Executor& executor) {
    return ConditionForward<T>(args, executor, nullptr).workspace_size();
}
template <typename T>
void condition(const ConditionArgs<T>& args, const Executor& executor, void* workspace) {
    ConditionForward<T>(args, executor, workspace).run();
}

template std::size_t condition_workspace(const ConditionArgs<float>&, const Executor&);
template std::size_t condition_workspace(const ConditionArgs<double>&, const Executor&);
template void condition(const ConditionArgs<float>&, const Executor&, void*);
template void condition(const ConditionArgs<double>&, const Executor&, void*);

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
