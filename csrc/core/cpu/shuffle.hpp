// SPDX-License-Identifier: Apache-2.0
// Rearranged lanes, and vectors at the ends of arrays.
#pragma once

#include <utility>

#include "simd.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

template <typename T, std::size_t... i>
inline Vector<T> reverse(Vector<T> v, std::index_sequence<i...>) {
    return __builtin_shufflevector(v, v, (width<T> - 1 - static_cast<int>(i))...);
}
template <typename T>
inline Vector<T> reverse(Vector<T> v) {
    return reverse<T>(v, std::make_index_sequence<width<T>>{});
}
/// a_0 b_0 a_1 b_1 .. in units of `unit` lanes, from lane `first` of both on.
template <int first, int unit, typename T, std::size_t... i>
inline Vector<T> interleave(Vector<T> a, Vector<T> b, std::index_sequence<i...>) {
    return __builtin_shufflevector(
        a,
        b,
        (first + static_cast<int>(i) / (2 * unit) * unit + static_cast<int>(i) % unit +
         (static_cast<int>(i) / unit % 2 == 0 ? 0 : width<T>))...
    );
}
template <int first, int unit, typename T>
inline Vector<T> interleave(Vector<T> a, Vector<T> b) {
    return interleave<first, unit, T>(a, b, std::make_index_sequence<width<T>>{});
}
template <typename T>
inline void store_pairs(T* to, Vector<T> a, Vector<T> b) {
    store(to, interleave<0, 1, T>(a, b));
    store(to + width<T>, interleave<width<T> / 2, 1, T>(a, b));
}
/// The reverse: units `first`, first + 2, .. of both.
template <int first, int unit, typename T, std::size_t... i>
inline Vector<T> every_other(Vector<T> a, Vector<T> b, std::index_sequence<i...>) {
    return __builtin_shufflevector(
        a, b, (static_cast<int>(i) / unit * 2 * unit + first * unit + static_cast<int>(i) % unit)...
    );
}
template <int first, int unit, typename T>
inline Vector<T> every_other(Vector<T> a, Vector<T> b) {
    return every_other<first, unit, T>(a, b, std::make_index_sequence<width<T>>{});
}
/// Units of `count` vectors, a power of two, one after the other: of the first of each, the second
/// of each, .. in log2(count) perfect shuffles.
template <int unit, typename T, int count>
inline void interleave_all(Vector<T> (&v)[count]) {
    for (int step = 1; step < count; step *= 2) {
        Vector<T> next[count];
#pragma GCC unroll 8
        for (int i = 0; i < count / 2; ++i) {
            next[2 * i] = interleave<0, unit, T>(v[i], v[i + count / 2]);
            next[2 * i + 1] = interleave<width<T> / 2, unit, T>(v[i], v[i + count / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) {
            v[i] = next[i];
        }
    }
}
/// The reverse.
template <int unit, typename T, int count>
inline void separate_all(Vector<T> (&v)[count]) {
    for (int step = 1; step < count; step *= 2) {
        Vector<T> next[count];
#pragma GCC unroll 8
        for (int i = 0; i < count / 2; ++i) {
            next[i] = every_other<0, unit, T>(v[2 * i], v[2 * i + 1]);
            next[i + count / 2] = every_other<1, unit, T>(v[2 * i], v[2 * i + 1]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) {
            v[i] = next[i];
        }
    }
}
/// A square of units, one vector per row, turned.
template <int unit, typename T>
inline void transpose(Vector<T> (&rows)[width<T> / unit]) {
    interleave_all<unit, T>(rows);
}

/// Two neighbours p[0], p[1] repeated over all lanes.
inline Vector<float> repeat_pair(const float* p) {
    double both;
    __builtin_memcpy(&both, p, sizeof(both));
#if defined(__AVX512F__)
    return (Vector<float>)_mm512_set1_pd(both);
#elif defined(__AVX2__)
    return (Vector<float>)_mm256_set1_pd(both);
#else
    Vector<double> v;
    for (int i = 0; i < width<double>; ++i) {
        v[i] = both;
    }
    return (Vector<float>)v;
#endif
}
inline Vector<double> repeat_pair(const double* p) {
#if defined(__AVX512F__)
    return (Vector<double>)_mm512_maskz_broadcast_f64x2(0xff, _mm_loadu_pd(p));
#elif defined(__AVX2__)
    return (Vector<double>)_mm256_broadcast_pd((const __m128d*)p);
#else
    return load(p);
#endif
}

/// Elements [start, start + width) of an array of n, zeros where there are none.
template <typename T>
inline Vector<T> load_window(const T* p, int64_t start, int64_t n) {
    if (start >= 0 && start + width<T> <= n) {
        return load(p + start);
    }
    const int64_t first = smaller(larger<int64_t>(-start, 0), int64_t{width<T>});
    const int64_t last = larger(smaller<int64_t>(n - start, width<T>), first);
#if defined(__AVX512F__)
    const unsigned mask = ((1u << last) - 1u) & ~((1u << first) - 1u);
    if constexpr (sizeof(T) == 4) {
        return (Vector<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p + start);
    } else {
        return (Vector<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p + start);
    }
#else
    T lanes[width<T>] = {};
    for (int64_t i = first; i < last; ++i) {
        lanes[i] = p[start + i];
    }
    return load(lanes);
#endif
}
/// Lanes go to [start, start + width); only those inside [low, high) are stored.
template <typename T>
inline void store_window(T* p, int64_t start, int64_t low, int64_t high, Vector<T> v) {
    if (start >= low && start + width<T> <= high) {
        store(p + start, v);
        return;
    }
    const int64_t first = smaller(larger<int64_t>(low - start, 0), int64_t{width<T>});
    const int64_t last = larger(smaller<int64_t>(high - start, width<T>), first);
#if defined(__AVX512F__)
    const unsigned mask = ((1u << last) - 1u) & ~((1u << first) - 1u);
    if constexpr (sizeof(T) == 4) {
        _mm512_mask_storeu_ps(p + start, static_cast<__mmask16>(mask), (__m512)v);
    } else {
        _mm512_mask_storeu_pd(p + start, static_cast<__mmask8>(mask), (__m512d)v);
    }
#else
    T lanes[width<T>];
    store(lanes, v);
    for (int64_t i = first; i < last; ++i) {
        p[start + i] = lanes[i];
    }
#endif
}

/// b a d c from a b c d: the other part of each complex number.
template <typename T, std::size_t... i>
inline Vector<T> swap_pairs(Vector<T> v, std::index_sequence<i...>) {
    return __builtin_shufflevector(v, v, (static_cast<int>(i) ^ 1)...);
}
template <typename T>
inline Vector<T> swap_pairs(Vector<T> v) {
    return swap_pairs<T>(v, std::make_index_sequence<width<T>>{});
}
/// Lanes of a and b in units of 16 bytes: the even ones of both, the odd ones, and back.
template <int odd, typename T, std::size_t... i>
inline Vector<T> every_other_lane(Vector<T> a, Vector<T> b, std::index_sequence<i...>) {
    constexpr int unit = 16 / static_cast<int>(sizeof(T)), half = unit / 2;
    return __builtin_shufflevector(
        a,
        b,
        (static_cast<int>(i) / unit * unit + static_cast<int>(i) % half * 2 + odd +
         (static_cast<int>(i) % unit < half ? 0 : width<T>))...
    );
}
template <int first, typename T, std::size_t... i>
inline Vector<T> join_lanes(Vector<T> a, Vector<T> b, std::index_sequence<i...>) {
    constexpr int unit = 16 / static_cast<int>(sizeof(T)), half = unit / 2;
    return __builtin_shufflevector(
        a,
        b,
        (static_cast<int>(i) / unit * unit + first * half + static_cast<int>(i) % unit / 2 +
         (static_cast<int>(i) % 2 == 0 ? 0 : width<T>))...
    );
}
template <typename T>
inline Vector<T> even_lanes(Vector<T> a, Vector<T> b) {
    return every_other_lane<0, T>(a, b, std::make_index_sequence<width<T>>{});
}
template <typename T>
inline Vector<T> odd_lanes(Vector<T> a, Vector<T> b) {
    return every_other_lane<1, T>(a, b, std::make_index_sequence<width<T>>{});
}
/// a = join_low(even, odd), b = join_high(even, odd) for the even and odd lanes of a and b.
template <typename T>
inline Vector<T> join_low(Vector<T> even, Vector<T> odd) {
    return join_lanes<0, T>(even, odd, std::make_index_sequence<width<T>>{});
}
template <typename T>
inline Vector<T> join_high(Vector<T> even, Vector<T> odd) {
    return join_lanes<1, T>(even, odd, std::make_index_sequence<width<T>>{});
}
/// a a c c from a b c d.
template <typename T, std::size_t... i>
inline Vector<T> first_of_pairs(Vector<T> v, std::index_sequence<i...>) {
    return __builtin_shufflevector(v, v, (static_cast<int>(i) & ~1)...);
}
template <typename T>
inline Vector<T> first_of_pairs(Vector<T> v) {
    return first_of_pairs<T>(v, std::make_index_sequence<width<T>>{});
}
/// b b d d from a b c d.
template <typename T, std::size_t... i>
inline Vector<T> second_of_pairs(Vector<T> v, std::index_sequence<i...>) {
    return __builtin_shufflevector(v, v, (static_cast<int>(i) | 1)...);
}
template <typename T>
inline Vector<T> second_of_pairs(Vector<T> v) {
    return second_of_pairs<T>(v, std::make_index_sequence<width<T>>{});
}
/// -1, +1, -1, ..
template <typename T>
inline Vector<T> alternating_signs() {
    Vector<T> v = {};
    for (int i = 0; i < width<T>; ++i) {
        v[i] = static_cast<T>(i % 2 == 0 ? -1 : 1);
    }
    return v;
}

/// Calls body(std::integral_constant<int, count>, first), count <= most known at run time only.
template <int most, typename Body>
inline void call_tile(int64_t count, int64_t first, Body& body) {
    if (count == most) {
        body(std::integral_constant<int, most>{}, first);
    } else if constexpr (most > 1) {
        call_tile<most - 1>(count, first, body);
    }
}
/// Cuts [0, count) into as few tiles of at most `most` as possible, of nearly equal size.
template <int most, typename Body>
inline void for_tiles(int64_t count, Body&& body) {
    const int64_t tiles = (count + most - 1) / most;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t first = count * tile / tiles;
        call_tile<most>(count * (tile + 1) / tiles - first, first, body);
    }
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
