// SPDX-License-Identifier: Apache-2.0
// Vectors of the instruction set that the including file is compiled for. Everything lives in the
// namespace of that instruction set, and nothing from the standard library is instantiated, so that
// the linker can never replace a baseline function by a copy that needs wider registers.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef PHYSCON_ISA_NAMESPACE
#error "PHYSCON_ISA_NAMESPACE must name the instruction set of this translation unit"
#endif

// Keeps the loops of one kernel together: inlined into their callers, gcc spills the tiles.
#define PHYSCON_KERNEL [[gnu::noinline]]

namespace physcon::PHYSCON_ISA_NAMESPACE {

using std::int32_t;
using std::int64_t;

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

template <typename T>
struct VectorType {
    typedef T type __attribute__((vector_size(vector_bytes)));
};
template <typename T>
using Vector = typename VectorType<T>::type;
template <typename T>
inline constexpr int width = vector_bytes / static_cast<int>(sizeof(T));

typedef float HalfVector __attribute__((vector_size(vector_bytes / 2)));

/// Half a vector of floats as doubles, and back. gcc splits __builtin_convertvector of
/// 512 bits; the masked forms, with every lane, only spare its warning about the others.
inline Vector<double> widen(HalfVector v) {
#if defined(__AVX512F__)
    return (Vector<double>)_mm512_maskz_cvtps_pd(0xff, (__m256)v);
#else
    return __builtin_convertvector(v, Vector<double>);
#endif
}
inline HalfVector narrow(Vector<double> v) {
#if defined(__AVX512F__)
    return (HalfVector)_mm512_maskz_cvtpd_ps(0xff, (__m512d)v);
#else
    return __builtin_convertvector(v, HalfVector);
#endif
}

template <typename T>
inline T smaller(T a, T b) {
    return b < a ? b : a;
}
template <typename T>
inline T larger(T a, T b) {
    return a < b ? b : a;
}
inline int64_t round_up(int64_t value, int64_t step) {
    return (value + step - 1) / step * step;
}

template <typename T>
inline Vector<T> load(const T* p) {
    Vector<T> v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}
template <typename T>
inline void store(T* p, Vector<T> v) {
    __builtin_memcpy(p, &v, sizeof(v));
}

/// Past the caches, which have no room for it; the address is that of a whole vector.
template <typename T>
inline void stream(T* p, Vector<T> v) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#else
    store(p, v);
#endif
}
/// Orders streamed vectors before whatever follows.
inline void finish_streams() {
#if defined(__AVX512F__) || defined(__AVX2__)
    _mm_sfence();
#endif
}

/// Asks for a cache line that will be read soon; any address is allowed.
inline void prefetch(const void* p) {
    __builtin_prefetch(p, 0, 2);
}

/// The same for a line that will be overwritten.
inline void prefetch_to_write(const void* p) {
    __builtin_prefetch(p, 1, 3);
}

/// The first `count` lanes from memory, zeros after them; touches no other byte.
template <typename T>
inline Vector<T> load_partial(const T* p, int count) {
#if defined(__AVX512F__)
    const auto mask = (1u << count) - 1u;
    if constexpr (sizeof(T) == 4) {
        return (Vector<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p);
    } else {
        return (Vector<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p);
    }
#else
    Vector<T> v = {};
    for (int i = 0; i < count; ++i) {
        v[i] = p[i];
    }
    return v;
#endif
}
template <typename T>
inline void store_partial(T* p, Vector<T> v, int count) {
#if defined(__AVX512F__)
    const auto mask = (1u << count) - 1u;
    if constexpr (sizeof(T) == 4) {
        _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), (__m512)v);
    } else {
        _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v);
    }
#else
    for (int i = 0; i < count; ++i) {
        p[i] = v[i];
    }
#endif
}
template <bool full, typename T>
inline Vector<T> load_lanes(const T* p, int count) {
    if constexpr (full) {
        return load(p);
    }
    return load_partial(p, count);
}
template <bool full, typename T>
inline void store_lanes(T* p, Vector<T> v, int count) {
    if constexpr (full) {
        store(p, v);
    } else {
        store_partial(p, v, count);
    }
}

/// One vector of X from memory of the same or of a narrower type, widened on the way.
template <typename X, bool full, typename T>
inline Vector<X> load_as(const T* p, int count) {
    if constexpr (sizeof(X) == sizeof(T)) {
        return load_lanes<full>(p, count);
    } else {
        HalfVector half = {};
        if constexpr (full) {
            __builtin_memcpy(&half, p, sizeof(half));
        } else {
#if defined(__AVX512F__)
            half = (HalfVector)_mm256_maskz_loadu_ps(static_cast<__mmask8>((1u << count) - 1u), p);
#else
            for (int i = 0; i < count; ++i) {
                half[i] = p[i];
            }
#endif
        }
        return widen(half);
    }
}

/// One vector of T in double precision: two vectors for float, one for double.
template <typename T>
struct Wide {
    static constexpr int parts = static_cast<int>(sizeof(double) / sizeof(T));
    Vector<double> part[parts];
};
/// Widens straight from memory: half a vector of floats at a time, no shuffles.
template <bool full, typename T>
inline Wide<T> load_wide(const T* p, int count) {
    Wide<T> w;
    if constexpr (sizeof(T) == 8) {
        w.part[0] = load_lanes<full>(p, count);
        return w;
    } else {
        for (int i = 0; i < Wide<T>::parts; ++i) {
            HalfVector half = {};
            if (full) {
                __builtin_memcpy(&half, p + i * width<double>, sizeof(half));
            } else {
#if defined(__AVX512F__)
                const auto mask = ((1u << count) - 1u) >> (i * width<double>);
                half = (HalfVector)_mm256_maskz_loadu_ps(
                    static_cast<__mmask8>(mask), p + i * width<double>
                );
#else
                for (int j = i * width<double>; j < count && j < (i + 1) * width<double>; ++j) {
                    half[j - i * width<double>] = p[j];
                }
#endif
            }
            w.part[i] = widen(half);
        }
        return w;
    }
}
template <typename T>
inline Wide<T> load_wide(const T* p) {
    return load_wide<true>(p, width<T>);
}
/// The reverse of load_as: rounded to the type of the memory.
template <bool full, typename T, typename V>
inline void store_as(T* p, V v, int count) {
    if constexpr (std::is_same_v<V, Vector<T>>) {
        store_lanes<full>(p, v, count);
    } else {
        const HalfVector half = narrow(v);
        if constexpr (full) {
            __builtin_memcpy(p, &half, sizeof(half));
        } else {
#if defined(__AVX512F__)
            _mm256_mask_storeu_ps(p, static_cast<__mmask8>((1u << count) - 1u), (__m256)half);
#else
            for (int i = 0; i < count; ++i) {
                p[i] = half[i];
            }
#endif
        }
    }
}
template <bool full, typename T>
inline void store_narrow(T* p, const Wide<T>& w, int count) {
    for (int i = 0; i < Wide<T>::parts; ++i) {
        const int left = count - i * width<double>;
        if (full || left > 0) {
            store_as<full>(p + i * width<double>, w.part[i], smaller(left, width<double>));
        }
    }
}

/// The last lane of `before`, then all lanes of `v` but its last.
inline Vector<double> shifted_in(Vector<double> before, Vector<double> v) {
#if defined(__AVX512F__)
    return (Vector<double>)_mm512_maskz_alignr_epi64(0xff, (__m512i)v, (__m512i)before, 7);
#elif defined(__AVX2__)
    const __m256d middle = _mm256_permute2f128_pd((__m256d)before, (__m256d)v, 0x21);
    return (Vector<double>)_mm256_shuffle_pd(middle, (__m256d)v, 0x5);
#else
    Vector<double> result = before;
    for (int i = 0; i < width<double>; ++i) {
        result[i] = i == 0 ? before[width<double> - 1] : v[i - 1];
    }
    return result;
#endif
}

template <typename T>
inline Vector<T> absolute(Vector<T> v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        return (Vector<T>)_mm512_abs_ps((__m512)v);
    } else {
        return (Vector<T>)_mm512_abs_pd((__m512d)v);
    }
#else
    return v < 0 ? -v : v;
#endif
}
inline Vector<double> square_root(Vector<double> v) {
#if defined(__AVX512F__)
    return (Vector<double>)_mm512_maskz_sqrt_pd(0xff, (__m512d)v);
#elif defined(__AVX2__)
    return (Vector<double>)_mm256_sqrt_pd((__m256d)v);
#else
    for (int i = 0; i < width<double>; ++i) {
        v[i] = __builtin_sqrt(v[i]);
    }
    return v;
#endif
}
/// Lanes added pairwise.
inline double sum_lanes(Vector<double> v) {
    double lane[width<double>];
    __builtin_memcpy(lane, &v, sizeof(v));
    for (int half = width<double> / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) {
            lane[i] += lane[i + half];
        }
    }
    return lane[0];
}

/// Sums of neighbouring groups of `half` lanes of a and b, as one vector.
template <int half, typename V, int... lane>
inline V fold(V a, V b, std::integer_sequence<int, lane...>) {
    return __builtin_shufflevector(a, b, (lane / half * 2 * half + lane % half)...) +
           __builtin_shufflevector(a, b, (lane / half * 2 * half + half + lane % half)...);
}
template <int half>
inline void fold_all(Vector<double> (&v)[width<double>]) {
    if constexpr (half > 0) {
        for (int i = 0; i < half; ++i) {
            v[i] = fold<half>(
                v[2 * i], v[2 * i + 1], std::make_integer_sequence<int, width<double>>{}
            );
        }
        fold_all<half / 2>(v);
    }
}
/// sum_lanes of width<double> vectors that lie one after the other.
inline Vector<double> sum_vectors(const double* vectors) {
    Vector<double> v[width<double>];
    for (int i = 0; i < width<double>; ++i) {
        v[i] = load(vectors + i * width<double>);
    }
    fold_all<width<double> / 2>(v);
    return v[0];
}

/// `v` as rounded to memory precision: stops the compiler from fusing the product behind it into a
/// later sum.
inline Vector<double> rounded(Vector<double> v) {
#if defined(__x86_64__)
    __asm__("" : "+v"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}

/// a * b - product, without rounding: the exact error of the rounded product.
inline Vector<double> product_error(Vector<double> a, Vector<double> b, Vector<double> product) {
#if defined(__AVX512F__)
    return (Vector<double>)_mm512_fmsub_pd((__m512d)a, (__m512d)b, (__m512d)product);
#elif defined(__AVX2__)
    return (Vector<double>)_mm256_fmsub_pd((__m256d)a, (__m256d)b, (__m256d)product);
#elif defined(__aarch64__)
    return (Vector<double>)vfmaq_f64(
        vnegq_f64((float64x2_t)product), (float64x2_t)a, (float64x2_t)b
    );
#else
    // Veltkamp splitting: no fused multiply-add in the baseline instruction set.
    const double splitter = 134217729.0;
    const Vector<double> ta = splitter * a, tb = splitter * b;
    const Vector<double> ah = ta - (ta - a), bh = tb - (tb - b);
    const Vector<double> al = a - ah, bl = b - bh;
    return ((ah * bh - product) + ah * bl + al * bh) + al * bl;
#endif
}

/// Compensated sums and dot products (Ogita, Rump and Oishi 2005): as accurate as twice the working
/// precision.
struct CompensatedSum {
    Vector<double> high = {}, low = {};
    void add(Vector<double> value) {
        const Vector<double> sum = high + value;
        const Vector<double> back = sum - high;
        low += (high - (sum - back)) + (value - back);
        high = sum;
    }
    void add_product(Vector<double> a, Vector<double> b) {
        const Vector<double> product = rounded(a * b);
        low += product_error(a, b, product);
        add(product);
    }
};

/// Scalar compensated accumulation of high + low pairs, in a fixed order.
struct DoubleDouble {
    double high = 0, low = 0;
    void add(double value) {
        const double sum = high + value;
        const double back = sum - high;
        low += (high - (sum - back)) + (value - back);
        high = sum;
    }
    void add(const CompensatedSum& lanes) {
        for (int i = 0; i < width<double>; ++i) {
            add(lanes.high[i]);
            add(lanes.low[i]);
        }
    }
    double value() const {
        return high + low;
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
