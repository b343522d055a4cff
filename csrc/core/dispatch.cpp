// SPDX-License-Identifier: Apache-2.0
// Picks the instruction set at run time: the public entry points forward to the copy compiled for
// it.
#include "boundary_spectral.hpp"
#include "condition.hpp"
#include "cpu_features.hpp"
#include "faces.hpp"
#include "fv.hpp"
#include "pointwise.hpp"
#include "spectral.hpp"

namespace physcon {

// Every entry point, as (return type, name, argument struct, further parameters, further
// arguments).
#define PHYSCON_ENTRY_POINTS(X)                                                                   \
    X(std::size_t, condition_workspace, ConditionArgs, (), ())                                    \
    X(void, condition, ConditionArgs, (, void* workspace), (, workspace))                         \
    X(std::size_t, condition_backward_workspace, ConditionBackwardArgs, (), ())                   \
    X(void, condition_backward, ConditionBackwardArgs, (, void* workspace), (, workspace))        \
    X(void, condition_disjoint, DisjointArgs, (), ())                                             \
    X(void, condition_disjoint_backward, DisjointBackwardArgs, (), ())                            \
    X(std::size_t, condition_banded_workspace, BandedArgs, (), ())                                \
    X(void, condition_banded, BandedArgs, (, void* workspace), (, workspace))                     \
    X(std::size_t, condition_banded_backward_workspace, BandedBackwardArgs, (), ())               \
    X(void, condition_banded_backward, BandedBackwardArgs, (, void* workspace), (, workspace))    \
    X(std::size_t, banded_product_workspace, BandedProductArgs, (), ())                           \
    X(void, banded_product, BandedProductArgs, (, void* workspace), (, workspace))                \
    X(std::size_t, spectral_tables_size, SpectralTablesArgs, (), ())                              \
    X(void, spectral_tables, SpectralTablesArgs, (), ())                                          \
    X(std::size_t, spectral_analysis_workspace, SpectralTransformArgs, (), ())                    \
    X(void, spectral_analysis, SpectralTransformArgs, (, void* workspace), (, workspace))         \
    X(std::size_t, spectral_synthesis_workspace, SpectralTransformArgs, (), ())                   \
    X(void, spectral_synthesis, SpectralTransformArgs, (, void* workspace), (, workspace))        \
    X(std::size_t, spectral_exchange_workspace, SpectralExchangeArgs, (), ())                     \
    X(void, spectral_exchange, SpectralExchangeArgs, (, void* workspace), (, workspace))          \
    X(std::size_t, spectral_mix_workspace, SpectralMixArgs, (), ())                               \
    X(void, spectral_mix, SpectralMixArgs, (, void* workspace), (, workspace))                    \
    X(void, spectral_mix_adjoint, SpectralMixArgs, (, void* workspace), (, workspace))            \
    X(std::size_t, spectral_conv_workspace, SpectralConvArgs, (), ())                             \
    X(void, spectral_conv, SpectralConvArgs, (, void* workspace), (, workspace))                  \
    X(std::size_t, spectral_conv_backward_workspace, SpectralConvBackwardArgs, (), ())            \
    X(void, spectral_conv_backward, SpectralConvBackwardArgs, (, void* workspace), (, workspace)) \
    X(void, assign_faces, AssignFacesArgs, (), ())                                                \
    X(void, assign_faces_backward, AssignFacesBackwardArgs, (), ())                               \
    X(std::size_t, end_response_workspace, EndResponseArgs, (), ())                               \
    X(void, end_response, EndResponseArgs, (, void* workspace), (, workspace))                    \
    X(void, end_response_adjoint, EndResponseArgs, (, void* workspace), (, workspace))            \
    X(std::size_t, correction_gain_workspace, CorrectionGainArgs, (), ())                         \
    X(void, correction_gain, CorrectionGainArgs, (, void* workspace), (, workspace))              \
    X(std::size_t, boundary_spectral_conv_workspace, BoundarySpectralConvArgs, (), ())            \
    X(void, boundary_spectral_conv, BoundarySpectralConvArgs, (, void* workspace), (, workspace)) \
    X(std::size_t,                                                                                \
      boundary_spectral_conv_backward_workspace,                                                  \
      BoundarySpectralConvBackwardArgs,                                                           \
      (),                                                                                         \
      ())                                                                                         \
    X(void,                                                                                       \
      boundary_spectral_conv_backward,                                                            \
      BoundarySpectralConvBackwardArgs,                                                           \
      (, void* workspace),                                                                        \
      (, workspace))                                                                              \
    X(std::size_t, pointwise_workspace, PointwiseArgs, (), ())                                    \
    X(void, pointwise, PointwiseArgs, (, void* workspace), (, workspace))                         \
    X(std::size_t, pointwise_backward_workspace, PointwiseBackwardArgs, (), ())                   \
    X(void, pointwise_backward, PointwiseBackwardArgs, (, void* workspace), (, workspace))

#define PHYSCON_UNWRAP(...) __VA_ARGS__
#define PHYSCON_DECLARE(result, name, Args, parameters, arguments) \
    template <typename T>                                          \
    result name(const Args<T>& args, const Executor& executor PHYSCON_UNWRAP parameters);

namespace portable {
PHYSCON_ENTRY_POINTS(PHYSCON_DECLARE)
}
#if defined(PHYSCON_HAVE_AVX2)
namespace avx2 {
PHYSCON_ENTRY_POINTS(PHYSCON_DECLARE)
}
#define PHYSCON_TRY_AVX2(call)     \
    if (active_isa() == Isa::avx2) \
        return avx2::call;
#else
#define PHYSCON_TRY_AVX2(call)
#endif
#if defined(PHYSCON_HAVE_AVX512)
namespace avx512 {
PHYSCON_ENTRY_POINTS(PHYSCON_DECLARE)
}
#define PHYSCON_TRY_AVX512(call)     \
    if (active_isa() == Isa::avx512) \
        return avx512::call;
#else
#define PHYSCON_TRY_AVX512(call)
#endif

#define PHYSCON_DEFINE(result, name, Args, parameters, arguments)                          \
    template <typename T>                                                                  \
    result name(const Args<T>& args, const Executor& executor PHYSCON_UNWRAP parameters) { \
        PHYSCON_TRY_AVX512(name(args, executor PHYSCON_UNWRAP arguments))                  \
        PHYSCON_TRY_AVX2(name(args, executor PHYSCON_UNWRAP arguments))                    \
        return portable::name(args, executor PHYSCON_UNWRAP arguments);                    \
    }                                                                                      \
    template result name(const Args<float>&, const Executor& PHYSCON_UNWRAP parameters);   \
    template result name(const Args<double>&, const Executor& PHYSCON_UNWRAP parameters);
PHYSCON_ENTRY_POINTS(PHYSCON_DEFINE)

// The solvers, the published gains and the phases are in double precision only.
#define PHYSCON_SOLVERS(X)                                                   \
    X(std::size_t, balance_law_workspace, BalanceLawArgs, (), ())            \
    X(void, balance_law, BalanceLawArgs, (, void* workspace), (, workspace)) \
    X(std::size_t, cavity_workspace, CavityArgs, (), ())                     \
    X(void, cavity, CavityArgs, (, void* workspace), (, workspace))          \
    X(void, spectral_phases, SpectralPhasesArgs, (), ())                     \
    X(void, two_step_gain, TwoStepGainArgs, (), ())                          \
    X(void, two_step_gain_adjoint, TwoStepGainArgs, (), ())

#define PHYSCON_DECLARE_SOLVER(result, name, Args, parameters, arguments) \
    result name(const Args& args, const Executor& executor PHYSCON_UNWRAP parameters);
namespace portable {
PHYSCON_SOLVERS(PHYSCON_DECLARE_SOLVER)
}
#if defined(PHYSCON_HAVE_AVX2)
namespace avx2 {
PHYSCON_SOLVERS(PHYSCON_DECLARE_SOLVER)
}
#endif
#if defined(PHYSCON_HAVE_AVX512)
namespace avx512 {
PHYSCON_SOLVERS(PHYSCON_DECLARE_SOLVER)
}
#endif

#define PHYSCON_DEFINE_SOLVER(result, name, Args, parameters, arguments)                \
    result name(const Args& args, const Executor& executor PHYSCON_UNWRAP parameters) { \
        PHYSCON_TRY_AVX512(name(args, executor PHYSCON_UNWRAP arguments))               \
        PHYSCON_TRY_AVX2(name(args, executor PHYSCON_UNWRAP arguments))                 \
        return portable::name(args, executor PHYSCON_UNWRAP arguments);                 \
    }
PHYSCON_SOLVERS(PHYSCON_DEFINE_SOLVER)

}  // namespace physcon
