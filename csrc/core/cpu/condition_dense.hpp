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
void ConditionForward<T>::covariance_part(State& s, int64_t b, int64_t part) const {
    const T* base = a_.covariance.data == nullptr ? nullptr : a_.covariance.item(b);
    const T* factor = a_.factor_out + b * rank_ * n_;
    T* out = a_.covariance_out + b * n_ * n_;
    downdate_part(base, factor, rank_, n_, part, streamed_, s.downdate, out);
}

/// The diagonal of S' is the variance, which does not suffer from cancellation.
template <typename T>
void ConditionForward<T>::covariance_diagonal(int64_t b) const {
    T* out = a_.covariance_out + b * n_ * n_;
    for (int64_t k = 0; k < n_; ++k) {
        out[k * (n_ + 1)] = a_.variance_out[b * n_ + k];
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
