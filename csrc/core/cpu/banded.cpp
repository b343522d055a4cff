// SPDX-License-Identifier: Apache-2.0
// Soft rows on three neighbouring cells with a diagonal prior, in O(n).
//
// Whitened unknowns u = m + sqrt(s) x make zero variances harmless: with E = D diag(sqrt(s)) and
// Lambda = I + E' R^-1 E, pentadiagonal, the posterior is x = Lambda^-1 E' R^-1 (t - D m), S' =
// sqrt(s) Lambda^-1 sqrt(s). Its diagonal comes from the selected inverse (Takahashi, Fagan and
// Chin 1973). Everything is in double precision.
#include "parallel.hpp"
#include "small.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// A value and its derivative along one direction.
struct Dual {
    double value = 0, slope = 0;
};
inline Dual operator+(Dual a, Dual b) {
    return {a.value + b.value, a.slope + b.slope};
}
inline Dual operator-(Dual a, Dual b) {
    return {a.value - b.value, a.slope - b.slope};
}
inline Dual operator-(Dual a) {
    return {-a.value, -a.slope};
}
inline Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.value * b.slope + a.slope * b.value};
}
inline Dual operator/(Dual a, Dual b) {
    const double value = a.value / b.value;
    return {value, (a.slope - value * b.slope) / b.value};
}
inline Dual root(Dual a) {
    const double value = __builtin_sqrt(a.value);
    return {value, 0.5 * a.slope / value};
}
inline double root(double a) {
    return __builtin_sqrt(a);
}

/// band (3, n) <- lower bands of Lambda.
template <typename T>
void assemble(const T* variance, const T* stencil, const T* noise, int64_t n, double* band) {
    for (int64_t j = 0; j < n; ++j) {
        band[j] = 1;
        band[n + j] = band[2 * n + j] = 0;
    }
    for (int64_t k = 0; k + 2 < n; ++k) {
        double e[3];
        for (int i = 0; i < 3; ++i) {
            e[i] = stencil[3 * k + i] * __builtin_sqrt(static_cast<double>(variance[k + i]));
        }
        const double precision = 1 / static_cast<double>(noise[k]);
        for (int i = 0; i < 3; ++i) {
            for (int j = i; j < 3; ++j) {
                band[(j - i) * n + k + i] += e[i] * e[j] * precision;
            }
        }
    }
}

/// band <- its Cholesky factor, in place.
template <typename Scalar>
void factor(Scalar* band, int64_t n) {
    Scalar *d = band, *l1 = band + n, *l2 = band + 2 * n;
    for (int64_t j = 0; j < n; ++j) {
        if (j >= 1) {
            d[j] = d[j] - l1[j - 1] * l1[j - 1];
        }
        if (j >= 2) {
            d[j] = d[j] - l2[j - 2] * l2[j - 2];
        }
        d[j] = root(d[j]);
        if (j + 1 < n) {
            if (j >= 1) {
                l1[j] = l1[j] - l2[j - 1] * l1[j - 1];
            }
            l1[j] = l1[j] / d[j];
        }
        if (j + 2 < n) {
            l2[j] = l2[j] / d[j];
        }
    }
}

/// x <- Lambda^-1 x.
inline void solve(const double* band, int64_t n, double* x) {
    const double *d = band, *l1 = band + n, *l2 = band + 2 * n;
    for (int64_t j = 0; j < n; ++j) {
        double value = x[j];
        if (j >= 1) {
            value -= l1[j - 1] * x[j - 1];
        }
        if (j >= 2) {
            value -= l2[j - 2] * x[j - 2];
        }
        x[j] = value / d[j];
    }
    for (int64_t j = n - 1; j >= 0; --j) {
        double value = x[j];
        if (j + 1 < n) {
            value -= l1[j] * x[j + 1];
        }
        if (j + 2 < n) {
            value -= l2[j] * x[j + 2];
        }
        x[j] = value / d[j];
    }
}

constexpr int64_t reach = 5;  // Lambda^-1 is wanted up to four cells off the diagonal

/// inverse[offset * n + j] <- (Lambda^-1)(j + offset, j), offset < reach, from the factor.
template <typename Scalar>
void selected_inverse(const Scalar* band, int64_t n, Scalar* inverse) {
    const auto at = [&](int64_t i, int64_t j) -> Scalar {
        if (i < j) {
            return inverse[(j - i) * n + i];
        }
        return inverse[(i - j) * n + j];
    };
    const Scalar *d = band, *l1 = band + n, *l2 = band + 2 * n;
    for (int64_t j = n - 1; j >= 0; --j) {
        for (int64_t offset = smaller<int64_t>(reach, n - j) - 1; offset >= 0; --offset) {
            Scalar sum = {};
            if (j + 1 < n) {
                sum = sum + l1[j] * at(j + 1, j + offset);
            }
            if (j + 2 < n) {
                sum = sum + l2[j] * at(j + 2, j + offset);
            }
            if (offset == 0) {
                sum = sum - Scalar{1} / d[j];
            }
            inverse[offset * n + j] = -sum / d[j];
        }
    }
}

template <typename T>
double row_product(const T* stencil, const double* x, int64_t k) {
    double sum = 0;
    for (int i = 0; i < 3; ++i) {
        sum += stencil[3 * k + i] * x[k + i];
    }
    return sum;
}

template <typename T>
void forward_item(const BandedArgs<T>& a, int64_t b, double* work) {
    const int64_t n = a.n, rows = n - 2;
    const T *m = a.mean.item(b), *v = a.variance.item(b), *stencil = a.stencil.item(b);
    const T *target = a.target.item(b), *noise = a.noise.item(b);
    T *mean_out = a.mean_out + b * n, *variance_out = a.variance_out + b * n;
    double *band = a.band_out + b * 3 * n, *alpha = a.multipliers_out + b * rows;
    double *x = work, *inverse = work + n;

    assemble(v, stencil, noise, n, band);
    factor(band, n);
    for (int64_t j = 0; j < n; ++j) {
        x[j] = 0;
    }
    for (int64_t k = 0; k < rows; ++k) {
        double residual = target[k];
        for (int i = 0; i < 3; ++i) {
            residual -= static_cast<double>(stencil[3 * k + i]) * m[k + i];
        }
        for (int i = 0; i < 3; ++i) {
            x[k + i] += stencil[3 * k + i] * residual / static_cast<double>(noise[k]);
        }
    }
    for (int64_t j = 0; j < n; ++j) {
        x[j] *= __builtin_sqrt(static_cast<double>(v[j]));
    }
    solve(band, n, x);
    bool all_finite = true;
    for (int64_t j = 0; j < n; ++j) {
        x[j] = m[j] + __builtin_sqrt(static_cast<double>(v[j])) * x[j];
        all_finite = all_finite && finite(x[j]) && finite(band[j]);
        mean_out[j] = static_cast<T>(x[j]);
    }
    selected_inverse(band, n, inverse);
    for (int64_t j = 0; j < n; ++j) {
        variance_out[j] = static_cast<T>(v[j] * inverse[j]);
    }
    for (int64_t k = 0; k < rows; ++k) {
        alpha[k] = (target[k] - row_product(stencil, x, k)) / noise[k];
    }
    a.info_out[b] = static_cast<std::int32_t>(all_finite ? RowStatus::used : RowStatus::non_finite);
    if (all_finite) {
        return;
    }
    for (int64_t j = 0; j < n; ++j) {
        mean_out[j] = variance_out[j] = static_cast<T>(__builtin_nan(""));
    }
}

/// With H = D' R^-1 D, Sigma' = S' and Omega = S' diag(q) S' (minus the derivative of S' along
/// diag(q)), both needed at most four cells off the diagonal:
///   a = R^-1 D S' p,  mb = p - D' a,  tb = a
///   sb = mb * D'alpha + q (1 - 2 s diag(H - H S' H)) + diag(H Omega H)
///   vb_k = d_k' Omega d_k / v_k^2 - a_k alpha_k
///   Db_ki = alpha_k s_i mb_i - a_k m'_i + (2 s_i / v_k) [ (D Omega H)_ki - (D S')_ki q_i ]
template <typename T>
void backward_item(const BandedBackwardArgs<T>& a, int64_t b, double* work) {
    const int64_t n = a.n, rows = n - 2;
    const T *p = a.grad_mean.item(b), *q = a.grad_variance.item(b), *v = a.variance.item(b);
    const T *stencil = a.stencil.item(b), *noise = a.noise.item(b),
            *posterior = a.mean_posterior.item(b);
    const double* alpha = a.multipliers + b * rows;
    double *x = work, *mean_bar = work + n, *pull = work + 2 * n, *h = work + 3 * n;
    double* lambda = work + 6 * n;
    Dual *band = reinterpret_cast<Dual*>(work + 9 * n), *inverse = band + 3 * n;

    assemble(v, stencil, noise, n, lambda);
    for (int64_t j = 0; j < 3 * n; ++j) {
        band[j] = {lambda[j], j < n ? static_cast<double>(v[j]) * q[j] : 0.0};
    }
    factor(band, n);
    selected_inverse(band, n, inverse);
    // H, banded like Lambda but without the square roots of the variance.
    for (int64_t j = 0; j < 3 * n; ++j) {
        h[j] = 0;
    }
    for (int64_t k = 0; k < rows; ++k) {
        for (int i = 0; i < 3; ++i) {
            for (int j = i; j < 3; ++j) {
                h[(j - i) * n + k + i] += static_cast<double>(stencil[3 * k + i]) *
                                          stencil[3 * k + j] / static_cast<double>(noise[k]);
            }
        }
    }
    const auto h_at = [&](int64_t i, int64_t j) {
        return i < j ? h[(j - i) * n + i] : h[(i - j) * n + j];
    };
    const auto scale = [&](int64_t i, int64_t j) {
        return __builtin_sqrt(static_cast<double>(v[i])) *
               __builtin_sqrt(static_cast<double>(v[j]));
    };
    const auto entry = [&](int64_t i, int64_t j) {
        return i < j ? inverse[(j - i) * n + i] : inverse[(i - j) * n + j];
    };
    const auto sigma = [&](int64_t i, int64_t j) { return scale(i, j) * entry(i, j).value; };
    const auto omega = [&](int64_t i, int64_t j) { return -scale(i, j) * entry(i, j).slope; };

    for (int64_t j = 0; j < n; ++j) {
        x[j] = __builtin_sqrt(static_cast<double>(v[j])) * p[j];
    }
    solve(a.band + b * 3 * n, n, x);
    for (int64_t j = 0; j < n; ++j) {
        x[j] *= __builtin_sqrt(static_cast<double>(v[j]));
        mean_bar[j] = p[j];
        pull[j] = 0;
    }
    for (int64_t k = 0; k < rows; ++k) {
        const double gain = row_product(stencil, x, k) / noise[k];
        a.target_out[b * rows + k] = static_cast<T>(gain);
        for (int i = 0; i < 3; ++i) {
            mean_bar[k + i] -= stencil[3 * k + i] * gain;
            pull[k + i] += stencil[3 * k + i] * alpha[k];
        }
    }
    for (int64_t i = 0; i < n; ++i) {
        const int64_t first = larger<int64_t>(i - 2, 0), last = smaller<int64_t>(i + 2, n - 1);
        double leverage = h_at(i, i), curvature = 0;
        for (int64_t j = first; j <= last; ++j) {
            for (int64_t l = first; l <= last; ++l) {
                leverage -= h_at(i, j) * sigma(j, l) * h_at(l, i);
                curvature += h_at(i, j) * omega(j, l) * h_at(l, i);
            }
        }
        a.mean_out[b * n + i] = static_cast<T>(mean_bar[i]);
        a.variance_out[b * n + i] =
            static_cast<T>(mean_bar[i] * pull[i] + q[i] * (1 - 2 * v[i] * leverage) + curvature);
    }
    for (int64_t k = 0; k < rows; ++k) {
        const double gain = row_product(stencil, x, k) / noise[k], v_k = noise[k];
        double quadratic = 0;
        for (int64_t i = k; i < k + 3; ++i) {
            const int64_t first = larger<int64_t>(i - 2, 0), last = smaller<int64_t>(i + 2, n - 1);
            double along = 0, mixed = 0;
            for (int64_t j = k; j < k + 3; ++j) {
                const double d = stencil[3 * k + j - k];
                along += d * sigma(j, i);
                quadratic += d * omega(j, i) * stencil[3 * k + i - k];
                for (int64_t l = first; l <= last; ++l) {
                    mixed += d * omega(j, l) * h_at(l, i);
                }
            }
            a.stencil_out[(b * rows + k) * 3 + i - k] = static_cast<T>(
                alpha[k] * v[i] * mean_bar[i] - gain * posterior[i] +
                2 * v[i] / v_k * (mixed - along * q[i])
            );
        }
        a.noise_out[b * rows + k] = static_cast<T>(quadratic / (v_k * v_k) - gain * alpha[k]);
    }
}

constexpr int64_t forward_doubles = 1 + reach;
constexpr int64_t product_doubles = 4;
constexpr int64_t backward_doubles = 9 + 2 * (3 + reach);

std::size_t slot_bytes(int64_t n, int64_t doubles, const Executor& executor) {
    Arena arena(nullptr);
    for (int slot = 0; slot < larger(executor.threads, 1); ++slot) {
        arena.take<double>(doubles * n);
    }
    return arena.used();
}
double* slot_memory(void* workspace, int64_t n, int64_t doubles, int64_t slot) {
    return static_cast<double*>(workspace) + slot * round_up(doubles * n * 8, 64) / 8;
}

}  // namespace

template <typename T>
std::size_t condition_banded_workspace(const BandedArgs<T>& args, const Executor& executor) {
    return slot_bytes(args.n, forward_doubles, executor);
}
template <typename T>
void condition_banded(const BandedArgs<T>& args, const Executor& executor, void* workspace) {
    run_indices(executor, args.batch, [&](int64_t slot, int64_t b) {
        forward_item(args, b, slot_memory(workspace, args.n, forward_doubles, slot));
    });
}
template <typename T>
std::size_t condition_banded_backward_workspace(
    const BandedBackwardArgs<T>& args, const Executor& executor
) {
    return slot_bytes(args.n, backward_doubles, executor);
}
template <typename T>
void condition_banded_backward(
    const BandedBackwardArgs<T>& args, const Executor& executor, void* workspace
) {
    run_indices(executor, args.batch, [&](int64_t slot, int64_t b) {
        backward_item(args, b, slot_memory(workspace, args.n, backward_doubles, slot));
    });
}
template <typename T>
std::size_t banded_product_workspace(const BandedProductArgs<T>& args, const Executor& executor) {
    return slot_bytes(args.n, product_doubles, executor);
}
template <typename T>
void banded_product(const BandedProductArgs<T>& args, const Executor& executor, void* workspace) {
    const int64_t n = args.n, count = args.batch * args.count;
    const int64_t slots = smaller<int64_t>(larger(executor.threads, 1), count);
    if (slots < 1) {
        return;
    }
    run_slots(executor, slots, [&](int64_t slot) {
        double *band = slot_memory(workspace, n, product_doubles, slot), *x = band + 3 * n;
        int64_t factored =
            -1;  // the vectors of an item follow each other: one factorisation per slot and item
        for (int64_t i = count * slot / slots; i < count * (slot + 1) / slots; ++i) {
            const int64_t b = i / args.count;
            const T *v = args.variance.item(b), *in = args.vectors.item(b) + (i % args.count) * n;
            if (b != factored) {
                assemble(v, args.stencil.item(b), args.noise.item(b), n, band);
                factor(band, n);
                factored = b;
            }
            for (int64_t j = 0; j < n; ++j) {
                x[j] = __builtin_sqrt(static_cast<double>(v[j])) * in[j];
            }
            solve(band, n, x);
            for (int64_t j = 0; j < n; ++j) {
                args.out[i * n + j] =
                    static_cast<T>(__builtin_sqrt(static_cast<double>(v[j])) * x[j]);
            }
        }
    });
}

#define PHYSCON_INSTANTIATE(T)                                                                     \
    template std::size_t condition_banded_workspace(const BandedArgs<T>&, const Executor&);        \
    template void condition_banded(const BandedArgs<T>&, const Executor&, void*);                  \
    template std::size_t condition_banded_backward_workspace(                                      \
        const BandedBackwardArgs<T>&, const Executor&                                              \
    );                                                                                             \
    template void condition_banded_backward(const BandedBackwardArgs<T>&, const Executor&, void*); \
    template std::size_t banded_product_workspace(const BandedProductArgs<T>&, const Executor&);   \
    template void banded_product(const BandedProductArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
