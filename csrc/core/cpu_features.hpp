// SPDX-License-Identifier: Apache-2.0
// Which of the compiled instruction sets this processor can run, and which one is used.
#pragma once

namespace physcon {

enum class Isa { portable, avx2, avx512 };

/// Name of an instruction set as written in PHYSCON_ISA: "portable", "avx2" or "avx512".
const char* isa_name(Isa isa) noexcept;

/// True when the kernels were compiled for `isa` and this processor and system can run them.
bool isa_available(Isa isa) noexcept;

/// The widest available instruction set.
Isa best_isa() noexcept;

/// The instruction set in use: the environment variable PHYSCON_ISA if it is set, else the best.
/// Decided once, on first use. Throws std::runtime_error when PHYSCON_ISA is unknown or cannot
/// run here.
Isa active_isa();

}  // namespace physcon
