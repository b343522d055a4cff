// SPDX-License-Identifier: Apache-2.0
// 16-bit numbers in memory. Kernels read them as double and round through float: once where the
// value is a float already, as it is where the result would be stored in float.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)
#define PHYSCON_HOST_DEVICE __host__ __device__
#else
#define PHYSCON_HOST_DEVICE
#endif

namespace physcon::cuda {

PHYSCON_HOST_DEVICE inline std::uint32_t bits_of(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
}
PHYSCON_HOST_DEVICE inline float float_of(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

constexpr std::uint32_t sign_bit = 0x80000000u, infinite_float = 0x7f800000u;

/// The upper half of a float.
struct BFloat16 {
    std::uint16_t bits;

    BFloat16() = default;
    PHYSCON_HOST_DEVICE explicit BFloat16(double value) {
        const std::uint32_t all = bits_of(static_cast<float>(value));
        const bool nan = (all & ~sign_bit) > infinite_float;
        const std::uint32_t half = 0x7fff + (all >> 16 & 1);  // to even
        bits = static_cast<std::uint16_t>(nan ? 0x7fc0 : (all + half) >> 16);
    }
    PHYSCON_HOST_DEVICE explicit operator double() const {
        return float_of(std::uint32_t{bits} << 16);
    }
};

/// Sign, 5 bits of exponent, 10 of the fraction.
struct Float16 {
    std::uint16_t bits;

    Float16() = default;
    PHYSCON_HOST_DEVICE explicit Float16(double value) {
        constexpr std::uint32_t smallest_normal = 113u << 23;  // 2^-14
        constexpr std::uint32_t too_large = 143u << 23;        // 2^16
        constexpr std::uint32_t exponents = 112u << 23;        // between the two biases
        const std::uint32_t all = bits_of(static_cast<float>(value));
        const std::uint32_t size = all & ~sign_bit;
        std::uint32_t found;
        if (size > infinite_float) {
            found = 0x7e00;
        } else if (size >= too_large) {
            found = 0x7c00;
        } else if (size < smallest_normal) {
            // The sum has the spacing of subnormal results, and is rounded by the addition.
            found = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
        } else {
            found = (size - exponents + 0xfff + (size >> 13 & 1)) >> 13;  // may carry to infinity
        }
        bits = static_cast<std::uint16_t>(found | (all & sign_bit) >> 16);
    }
    PHYSCON_HOST_DEVICE explicit operator double() const {
        constexpr float scale = 5.192296858534828e33f;  // 2^112
        const std::uint32_t size = (bits & 0x7fffu) << 13;
        const bool finite = (bits & 0x7c00u) != 0x7c00u;
        const float found = finite ? float_of(size) * scale : float_of(infinite_float | size);
        return (bits & 0x8000u) != 0 ? -found : found;
    }
};

/// Whether a type is for memory only; what is computed is then what float would give.
template <typename T>
constexpr bool is_stored = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

}  // namespace physcon::cuda
