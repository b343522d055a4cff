// SPDX-License-Identifier: Apache-2.0
// Single-precision products on the matrix units, which take operands of 10 bits after the point.
//
// A number is a high part, rounded to such an operand, plus a low part, its rounded rest: together
// x to within 2^-22 |x|. The products low high + high low + high high leave out the smallest of
// four, which is no larger. The unit adds eight products and a float32 sum, and may cut each off at
// 2^-24 of the largest and the result at its last bit: so each sixteen start from zero, the small
// products first, and are added to the running sum with a rounding to nearest. A sum of n products
// x y errs by at most
//     (12 + 20 + 1 + n / 16) 2^-24 sum |x y|,
// one of fused multiply-adds, set aside every 128 products, by
//     (min(n, 128) + n / 128) 2^-24 sum |x y|:
// for 18 <= n <= 4096 the first is no more than twice the second.
#pragma once

#include "device.cuh"

namespace physcon::cuda {

/// How products of single precision are formed.
enum class Arithmetic {
    fused,  ///< multiply-adds of the number type
    split,  ///< three matrix products of high and low parts: the accuracy of single precision
    tf32,   ///< one matrix product of rounded operands, relative error 2^-10
};
__host__ __device__ constexpr bool on_matrix_units(Arithmetic a) {
    return a != Arithmetic::fused;
}

#if defined(__CUDACC__)
/// x with 10 bits after the point, to nearest, ties away from zero.
__device__ inline unsigned to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
/// sum (16, 8) += a (16, 8) b (8, 8), spread over the lanes of a warp. With g = lane / 4 and
/// t = lane % 4 a lane holds a at (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), b at (t, g),
/// (t + 4, g), and the sum at (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
__device__ inline void multiply_tf32(
    float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]
) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

constexpr int matrix_rows = 16, matrix_columns = 8, matrix_steps = 8;  // of an instruction
constexpr int quad = 4;                                                // lanes that share a row
constexpr int matrix_group = 2 * matrix_steps;  // steps that are summed on their own
constexpr int64_t longest_matrix_sum = 4096;    // in products

/// What a lane holds of an operand; `low` only where numbers are split.
template <int count, Arithmetic arithmetic>
struct Operand {
    unsigned high[count], low[count];

    __device__ void set(int i, float x) {
        high[i] = to_tf32(x);
        if constexpr (arithmetic == Arithmetic::split) {
            low[i] = to_tf32(x - __uint_as_float(high[i]));
        }
    }
};

/// sum += a[0] b[0] + a[1] b[1].
template <Arithmetic arithmetic>
__device__ inline void multiply(
    float (&sum)[4], const Operand<4, arithmetic> (&a)[2], const Operand<2, arithmetic> (&b)[2]
) {
    float part[4] = {};
    if constexpr (arithmetic == Arithmetic::split) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            multiply_tf32(part, a[k].low, b[k].high);
            multiply_tf32(part, a[k].high, b[k].low);
        }
    }
#pragma unroll
    for (int k = 0; k < 2; ++k) {
        multiply_tf32(part, a[k].high, b[k].high);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        sum[i] += part[i];
    }
}

}  // namespace physcon::cuda
