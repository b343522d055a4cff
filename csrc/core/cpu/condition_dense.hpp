// SPDX-License-Identifier: Apache-2.0
// Dense prior and dense result: C = G S, S' = S - V' V.
#pragma once

#include "condition_forward.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

template <typename T>
void ConditionForward<T>::prepare_dense(State& s, int64_t b) const {
    const T* covariance = a_.covariance.item(b);
    for (int64_t i = 0; i < n_; ++i) {
        s.diagonal[i] = covariance[i * (n_ + 1)];
    }
    pack_rows(rows(b), rank_, n_, s.left_packed);
}

template <typename T>
void ConditionForward<T>::cross_panel(State& s, int64_t b, int64_t panel) const {
    multiply_panel(
        s.left_packed, a_.covariance.item(b), rank_, n_, panel, a_.cross_out + b * rank_ * n_
    );
}

template <typename T>
void ConditionForward<T>::covariance_rows(State& s, int64_t b, int64_t i) const {
    const T* base = a_.covariance.data == nullptr ? nullptr : a_.covariance.item(b);
    const T* factor = a_.factor_out + b * rank_ * n_;
    T* out = a_.covariance_out + b * n_ * n_;
    downdate_rows(base, factor, factor, rank_, n_, i, s.four, out);
    for (int64_t k = i; k < smaller<int64_t>(i + tile_rows, n_); ++k) {
        out[k * (n_ + 1)] = a_.variance_out[b * n_ + k];
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
