// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_features.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace physcon {
namespace {

constexpr Isa all_isas[] = {Isa::portable, Isa::avx2, Isa::avx512};

// __builtin_cpu_supports also asks the operating system whether it saves the wide registers.
bool processor_has_avx2() noexcept {
#if defined(PHYSCON_HAVE_AVX2)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

bool processor_has_avx512() noexcept {
#if defined(PHYSCON_HAVE_AVX512)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

Isa choose() {
    const char* wanted = std::getenv("PHYSCON_ISA");
    if (wanted == nullptr || wanted[0] == '\0') {
        return best_isa();
    }
    std::string available;
    for (Isa isa : all_isas) {
        if (!isa_available(isa)) {
            continue;
        }
        if (std::string(wanted) == isa_name(isa)) {
            return isa;
        }
        available += available.empty() ? isa_name(isa) : std::string(", ") + isa_name(isa);
    }
    throw std::runtime_error(
        "physcon: expected the environment variable PHYSCON_ISA to be one of " + available +
        " (what this build and this processor can run), got " + wanted
    );
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
    switch (isa) {
        case Isa::avx512:
            return "avx512";
        case Isa::avx2:
            return "avx2";
        case Isa::portable:
            break;
    }
    return "portable";
}

bool isa_available(Isa isa) noexcept {
    switch (isa) {
        case Isa::avx512:
            return processor_has_avx512();
        case Isa::avx2:
            return processor_has_avx2();
        case Isa::portable:
            break;
    }
    return true;
}

Isa best_isa() noexcept {
    Isa best = Isa::portable;
    for (Isa isa : all_isas) {
        if (isa_available(isa)) {
            best = isa;
        }
    }
    return best;
}

Isa active_isa() {
    static const Isa isa = choose();
    return isa;
}

}  // namespace physcon
