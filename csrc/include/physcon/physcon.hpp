// SPDX-License-Identifier: Apache-2.0
/// Thin C++ over physcon.h: overloads by scalar type, exceptions, and results that own their
/// memory.
#pragma once

#include <physcon/physcon.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace physcon {

/// What a failed call throws; `status` is a physcon_status.
class Error : public std::runtime_error {
  public:
    Error(int status_code, const std::string& message)
        : std::runtime_error(message), status(status_code) {}
    int status;
};

namespace detail {

inline void throw_unless_ok(int status, const physcon_error& error) {
    if (status != PHYSCON_OK) {
        throw Error(status, error.message);
    }
}

/// Memory aligned as a workspace must be.
class AlignedBuffer {
  public:
    explicit AlignedBuffer(std::size_t size)
        : bytes_(size == 0 ? 0 : size + PHYSCON_WORKSPACE_ALIGNMENT), size_(size) {}
    void* data() {
        void* start = bytes_.data();
        std::size_t space = bytes_.size();
        return size_ == 0 ? nullptr : std::align(PHYSCON_WORKSPACE_ALIGNMENT, size_, start, space);
    }
    std::size_t size() const {
        return size_;
    }

  private:
    std::vector<unsigned char> bytes_;
    std::size_t size_;
};

}  // namespace detail

// ---- the C functions, by scalar type ------------------------------------------------------------

template <typename T>
struct CApi;

#define PHYSCON_DEFINE_CPP_API(T, suffix)                                                      \
    template <>                                                                                \
    struct CApi<T> {                                                                           \
        using Condition = physcon_condition_args_##suffix;                                     \
        using Disjoint = physcon_disjoint_args_##suffix;                                       \
        using Banded = physcon_banded_args_##suffix;                                           \
        static constexpr auto condition_workspace = &physcon_condition_workspace_##suffix;     \
        static constexpr auto condition_diagonal = &physcon_condition_diagonal_##suffix;       \
        static constexpr auto condition_cross = &physcon_condition_cross_##suffix;             \
        static constexpr auto condition_dense = &physcon_condition_dense_##suffix;             \
        static constexpr auto condition_disjoint = &physcon_condition_disjoint_##suffix;       \
        static constexpr auto banded_workspace = &physcon_condition_banded_workspace_##suffix; \
        static constexpr auto condition_banded = &physcon_condition_banded_##suffix;           \
    };
PHYSCON_DEFINE_CPP_API(double, f64)
PHYSCON_DEFINE_CPP_API(float, f32)
#undef PHYSCON_DEFINE_CPP_API

// ---- results that own their memory --------------------------------------------------------------

/// One Gaussian with independent components, on `mean.size()` points.
template <typename T>
struct DiagonalField {
    std::vector<T> mean;
    std::vector<T> variance;
};

/// A Gaussian conditioned on r rows.
template <typename T>
struct Posterior {
    std::vector<T> mean;              ///< (n)
    std::vector<T> variance;          ///< (n), marginal
    std::vector<T> factor;            ///< V (r, n): posterior = prior - V^T V; empty if not wanted
    std::vector<double> cholesky;     ///< (r, r), lower factor of A
    std::vector<double> multipliers;  ///< (r)
    std::vector<std::int32_t> info;   ///< (r), physcon_row_status
};

/// Conditions `field` on `rows` (r, n) u = `target` (r), observed with variances `noise` (r).
/// Throws Error when sizes do not fit.
template <typename T>
Posterior<T> condition_diagonal(
    const DiagonalField<T>& field,
    const std::vector<T>& rows,
    const std::vector<T>& target,
    const std::vector<T>& noise,
    bool want_factor = false
) {
    const std::size_t n = field.mean.size(), rank = target.size();
    if (field.variance.size() != n || rows.size() != rank * n || noise.size() != rank) {
        throw Error(
            PHYSCON_ERROR_ARGUMENT,
            "physcon::condition_diagonal: expected variance (n), rows (r, n) and noise (r) with n "
            "= " +
                std::to_string(n) + " and r = " + std::to_string(rank) + ", got " +
                std::to_string(field.variance.size()) + ", " + std::to_string(rows.size()) +
                " and " + std::to_string(noise.size()) + " elements"
        );
    }
    Posterior<T> out;
    out.mean.resize(n);
    out.variance.resize(n);
    out.factor.resize(want_factor ? rank * n : 0);
    out.cholesky.resize(rank * rank);
    out.multipliers.resize(rank);
    out.info.resize(rank);

    typename CApi<T>::Condition args{};
    args.batch = 1;
    args.n = static_cast<std::int64_t>(n);
    args.rank = static_cast<std::int64_t>(rank);
    args.mean = field.mean.data();
    args.variance = field.variance.data();
    args.rows = rows.data();
    args.target = target.data();
    args.noise = noise.data();
    args.mean_out = out.mean.data();
    args.variance_out = out.variance.data();
    args.factor_out = want_factor ? out.factor.data() : nullptr;
    args.cholesky_out = out.cholesky.data();
    args.multipliers_out = out.multipliers.data();
    args.info_out = out.info.data();

    detail::AlignedBuffer workspace(CApi<T>::condition_workspace(&args, nullptr));
    physcon_error error;
    const int status =
        CApi<T>::condition_diagonal(&args, nullptr, workspace.data(), workspace.size(), &error);
    detail::throw_unless_ok(status, error);
    return out;
}

}  // namespace physcon
