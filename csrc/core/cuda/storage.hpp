// SPDX-License-Identifier: Apache-2.0
// 16-bit numbers in memory. Kernels read them as double and round through float: once where the
// value is a float already, as it is where the result would be stored in float. The convolutions
// read and write them as float, by one kernel for both types.
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

/// How the fields of a convolution lie in memory: in the type of the call, or, where that is float,
/// in 16 bits. Pointers to fields have the type of the call in any case.
enum class Storage { own, bfloat16, float16 };

PHYSCON_HOST_DEVICE inline float widened(std::uint16_t bits, Storage storage) {
    if (storage == Storage::bfloat16) {
        BFloat16 number;
        number.bits = bits;
        return static_cast<float>(static_cast<double>(number));
    }
    Float16 number;
    number.bits = bits;
    return static_cast<float>(static_cast<double>(number));
}
PHYSCON_HOST_DEVICE inline std::uint16_t narrowed(float value, Storage storage) {
    return storage == Storage::bfloat16 ? BFloat16(value).bits : Float16(value).bits;
}

/// A field of 16-bit numbers that looks like one of float.
class StoredField {
  public:
    struct Number {
        std::uint16_t* at;
        Storage storage;
        PHYSCON_HOST_DEVICE operator float() const {
            return widened(*at, storage);
        }
        PHYSCON_HOST_DEVICE void operator=(float value) const {
            *at = narrowed(value, storage);
        }
    };
    PHYSCON_HOST_DEVICE StoredField(const void* data, Storage storage)
        : data_(const_cast<std::uint16_t*>(static_cast<const std::uint16_t*>(data))),
          storage_(storage) {}
    PHYSCON_HOST_DEVICE Number operator[](std::int64_t at) const {
        return {data_ + at, storage_};
    }
    PHYSCON_HOST_DEVICE StoredField operator+(std::int64_t count) const {
        return {data_ + count, storage_};
    }
    PHYSCON_HOST_DEVICE const std::uint16_t* data() const {
        return data_;
    }

  private:
    std::uint16_t* data_;
    Storage storage_;
};

/// A number of a field whose storage is known when a kernel runs: where this costs nothing, or is
/// too rare for a kernel of its own.
template <typename T>
PHYSCON_HOST_DEVICE T number_of(const T* field, std::int64_t at, Storage storage) {
    if (storage == Storage::own) {
        return field[at];
    }
    const float number = StoredField(field, storage)[at];
    return static_cast<T>(number);
}
template <typename T>
PHYSCON_HOST_DEVICE void store_number(T* field, std::int64_t at, T value, Storage storage) {
    if (storage == Storage::own) {
        field[at] = value;
    } else {
        StoredField(field, storage)[at] = static_cast<float>(value);
    }
}

/// A field as a kernel reads and writes it, which is `stored` in 16 bits or not.
template <bool stored, typename T>
PHYSCON_HOST_DEVICE auto field_of(T* data, Storage storage) {
    if constexpr (stored) {
        return StoredField(data, storage);
    } else {
        return data;
    }
}

}  // namespace physcon::cuda
