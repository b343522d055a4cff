// SPDX-License-Identifier: Apache-2.0
// Powers of vectors of doubles, from the series of log and exp.
#pragma once

#include "simd.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

typedef int64_t VectorBits __attribute__((vector_size(vector_bytes)));

/// log(x) for normal x > 0, to about one unit in the last place of max(1, |log x|).
inline Vector<double> logarithm(Vector<double> x) {
    // x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m - 1)/(m + 1), s^2 <
    // 0.03.
    const int64_t half_root = 0x3fe6a09e667f3bcd;  // sqrt(1/2)
    const VectorBits shifted = (VectorBits)x - half_root;
    const VectorBits exponent = shifted >> 52;
    const Vector<double> m = (Vector<double>)((VectorBits)x - (exponent << 52));
    // Small integers become doubles by way of the digits of 1.5 * 2^52.
    const Vector<double> big = Vector<double>{} + 6755399441055744.0;
    const Vector<double> e = (Vector<double>)((VectorBits)big + exponent) - big;
    const Vector<double> s = (m - 1) / (m + 1), z = s * s;
    Vector<double> p = z * (1.0 / 21) + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    const double high = 0x1.62e42fee00000p-1, low = 0x1.a39ef35793c76p-33;  // ln 2
    return e * high + (2 * s + (2 * s * z * p + e * low));
}

/// exp(x); 0 below -708, so that no result is subnormal, and infinity above 709.
inline Vector<double> exponential(Vector<double> x) {
    const Vector<double> big = Vector<double>{} + 6755399441055744.0;
    const Vector<double> limited =
        x < -708.0 ? Vector<double>{} - 708.0 : (x > 709.0 ? Vector<double>{} + 709.0 : x);
    const Vector<double> shifted = limited * 1.4426950408889634 + big;
    const Vector<double> k = shifted - big;
    const double high = 0x1.62e42fee00000p-1, low = 0x1.a39ef35793c76p-33;
    const Vector<double> r = (limited - k * high) - k * low;
    Vector<double> p = r * (1.0 / 6227020800) + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // The low bits of `shifted` hold k: adding k * 2^52 to the bits of p multiplies it by 2^k.
    const Vector<double> scaled = (Vector<double>)((VectorBits)p + ((VectorBits)shifted << 52));
    const Vector<double> none = {};
    return x < -708.0 ? none : (x > 709.0 ? none + __builtin_inf() : scaled);
}

/// max(x, 0)^exponent for exponent > 0; 0 where x is subnormal.
struct Power {
    double exponent;
    int64_t whole;  ///< the exponent if it is a small integer, otherwise 0

    explicit Power(double m) : exponent(m), whole(0) {
        if (m >= 1 && m <= 64 && m == static_cast<double>(static_cast<int64_t>(m))) {
            whole = static_cast<int64_t>(m);
        }
    }
    Vector<double> operator()(Vector<double> x) const {
        const Vector<double> none = {};
        const Vector<double> base = x > 2.3e-308 ? x : none + 1.0;
        Vector<double> result = none + 1.0;
        if (whole > 0) {
            Vector<double> square = base;
            for (int64_t bits = whole; bits > 0; bits >>= 1) {
                if (bits & 1) {
                    result *= square;
                }
                square *= square;
            }
            result = result > 2.3e-308 ? result : none;
        } else {
            result = exponential(exponent * logarithm(base));
        }
        return x > 2.3e-308 ? result : none;
    }
    double operator()(double x) const {
        return (*this)(Vector<double>{} + x)[0];
    }
};

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
