// SPDX-License-Identifier: Apache-2.0
// The Gaussian error linear unit x Phi(x) and its derivative, Phi the normal distribution function.
//
// With t = |x|, everything comes from the tail Phi(-t) = e^{-t^2 / 2} Q(t), whose factor Q falls
// smoothly from 1/2 like 1 / (sqrt(2 pi) t):
//
//   x Phi(x) = max(x, 0) - t e^{-t^2 / 2} Q(t)
//   d/dx x Phi(x) = D for x < 0, 1 - D otherwise,    D = e^{-t^2 / 2} (Q(t) - t / sqrt(2 pi))
//
// Neither cancels: the relative error of the value is a few units in the last place for negative x
// too, down to the smallest normal number, below which it is zero. (t + 4) Q(t) is a polynomial in
// w = (t - 4) / (t + 4), interpolated at Chebyshev nodes of 0 <= t <= 13.2 (degree 9, relative
// error 1.2e-8) and of 0 <= t <= 37.7 (degree 22, 3.5e-17).
#pragma once

#include "elementary.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

typedef std::int32_t FloatBits __attribute__((vector_size(vector_bytes)));

/// v * v - square, without rounding.
inline Vector<double> square_error(Vector<double> v, Vector<double> square) {
    return product_error(v, v, square);
}
inline Vector<float> square_error(Vector<float> v, Vector<float> square) {
#if defined(__AVX512F__)
    return (Vector<float>)_mm512_fmsub_ps((__m512)v, (__m512)v, (__m512)square);
#elif defined(__AVX2__)
    return (Vector<float>)_mm256_fmsub_ps((__m256)v, (__m256)v, (__m256)square);
#elif defined(__aarch64__)
    return (Vector<float>)vfmaq_f32(vnegq_f32((float32x4_t)square), (float32x4_t)v, (float32x4_t)v);
#else
    // Halves of 12 bits, whose products are exact.
    const Vector<float> high = (Vector<float>)((FloatBits)v & ~0xfff), low = v - high;
    return ((high * high - square) + 2 * high * low) + low * low;
#endif
}

template <typename T, int count>
inline Vector<T> polynomial(Vector<T> x, const T (&c)[count]) {
    Vector<T> sum = Vector<T>{} + c[count - 1];
#pragma GCC unroll 32
    for (int i = count - 2; i >= 0; --i) {
        sum = sum * x + c[i];
    }
    return sum;
}

/// e^{-t^2 / 2} for 0 <= t <= 13.2 or 37.6.
inline Vector<float> gaussian(Vector<float> t) {
    static constexpr float series[] = {
        1.0f, 1.0f, 0.5f, 0.1666641451f, 0.04166635164f, 0.008375210201f, 0.00139412131f
    };
    const Vector<float> square = t * t, error = square_error(t, square);
    // Small integers become floats by way of the digits of 1.5 * 2^23.
    const Vector<float> big = Vector<float>{} + 12582912.0f;
    const Vector<float> shifted = square * -0.72134752044448170368f + big, k = shifted - big;
    // ln 2 = 355 / 512 - 2.12e-4; k times the first part is exact.
    const Vector<float> r =
        ((square * -0.5f - k * 0.693359375f) + k * 2.12194440054690583e-4f) - 0.5f * error;
    return (Vector<float>)((FloatBits)polynomial(r, series) + ((FloatBits)shifted << 23));
}
inline Vector<double> gaussian(Vector<double> t) {
    const Vector<double> square = t * t, e = exponential(-0.5 * square);
    return e - 0.5 * square_error(t, square) * e;
}

/// (t + 4) Q(t) from w = (t - 4) / (t + 4).
inline Vector<float> scaled_tail(Vector<float> w) {
    static constexpr float series[] = {
        0.7552851378f,
        -0.607896638f,
        0.3871367096f,
        -0.1865221341f,
        0.06040685694f,
        -0.007533030278f,
        -0.003530255001f,
        0.001578611748f,
        0.0002131890379f,
        -0.0001151794757f
    };
    return polynomial(w, series);
}
inline Vector<double> scaled_tail(Vector<double> w) {
    static constexpr double series[] = {
        0.755285130415751482,     -0.607896641971891756,   0.387137400742218271,
        -0.186521857959694808,    0.0603965748907301617,   -0.00754018896556145206,
        -0.00347969236284029225,  0.00163081844124276596,  0.000133344259876998646,
        -0.000231094811459889555, -1.90789904542265821e-6, 0.0000351441393258252715,
        7.15112789176635983e-7,   -5.91873782794706776e-6, -6.25340226107043871e-7,
        1.01945129207166625e-6,   2.6389746266048703e-7,   -1.53777666422862089e-7,
        -7.64476127669280825e-8,  1.4210966127840914e-8,   1.38586458714322789e-8,
        1.9054838690700548e-10,   -9.1847714516788792e-10
    };
    return polynomial(w, series);
}

/// The parts of value and derivative at x.
template <typename T>
struct Gelu {
    Vector<T> x, t, density, factor;  ///< |x| up to where the tail counts, e^{-t^2 / 2}, Q(t)

    explicit Gelu(Vector<T> at) : x(at) {
        const T limit = sizeof(T) == 4 ? T(13.2) : T(37.6);
        const Vector<T> distance = absolute<T>(x);
        t = distance < limit ? distance : Vector<T>{} + limit;
        density = distance < limit ? gaussian(t) : Vector<T>{};
        const Vector<T> s = 1 / (t + 4);
        factor = s * scaled_tail(1 - 8 * s);
    }
    Vector<T> value() const {
        const Vector<T> positive = x < 0 ? Vector<T>{} : x;  // NaN stays
        return positive - (t * factor) * density;
    }
    Vector<T> derivative() const {
        const Vector<T> tail = density * (factor - t * T(0.39894228040143267794));
        return x < 0 ? tail : (x == x ? 1 - tail : x);
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
