// SPDX-License-Identifier: Apache-2.0
// The convolution: analysis, mixing, synthesis; backwards the adjoints in reverse order.
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

template <typename T>
SpectralTransformArgs<T> transform(
    const SpectralGrid& grid, const T* tables, int64_t rows, bool weighted
) {
    SpectralTransformArgs<T> t;
    t.grid = grid;
    t.rows = rows;
    t.tables = tables;
    t.weighted = weighted;
    return t;
}

template <typename T>
std::size_t forward(const SpectralConvArgs<T>& a, const Executor& executor, void* workspace) {
    Arena arena(workspace);
    SpectralMixArgs<T> mixing;
    mixing.modes = mode_count(a.grid);
    mixing.batch = a.batch;
    mixing.in = a.in;
    mixing.out = a.out;
    mixing.weight = a.weight;
    mixing.input = a.spectrum_out;
    mixing.output = arena.take<T>(2 * mixing.modes * a.batch * a.out);
    auto analysis = transform(a.grid, a.tables, a.batch * a.in, false);
    analysis.values = a.x;
    analysis.spectrum_out = a.spectrum_out;
    auto synthesis = transform(a.grid, a.tables, a.batch * a.out, true);
    synthesis.spectrum = mixing.output;
    synthesis.values_out = a.y_out;
    const std::size_t stage = larger(
        larger(analyse<T>(analysis, executor, nullptr), mix<T>(mixing, executor, nullptr)),
        synthesise<T>(synthesis, executor, nullptr)
    );
    char* scratch = arena.take<char>(static_cast<int64_t>(stage));
    if (workspace != nullptr) {
        analyse(analysis, executor, scratch);
        mix(mixing, executor, scratch);
        synthesise(synthesis, executor, scratch);
    }
    return arena.used();
}

template <typename T>
std::size_t backward(
    const SpectralConvBackwardArgs<T>& a, const Executor& executor, void* workspace
) {
    Arena arena(workspace);
    SpectralMixArgs<T> mixing;
    mixing.modes = mode_count(a.grid);
    mixing.batch = a.batch;
    mixing.in = a.in;
    mixing.out = a.out;
    mixing.weight = a.weight;
    mixing.input = a.spectrum;
    T* upstream = arena.take<T>(2 * mixing.modes * a.batch * a.out);
    mixing.upstream = upstream;
    mixing.weight_gradient = a.weight_out;
    if (a.x_out != nullptr) {
        mixing.input_gradient = arena.take<T>(2 * mixing.modes * a.batch * a.in);
    }
    auto analysis = transform(a.grid, a.tables, a.batch * a.out, true);
    analysis.values = a.grad;
    analysis.spectrum_out = upstream;
    auto synthesis = transform(a.grid, a.tables, a.batch * a.in, false);
    synthesis.spectrum = mixing.input_gradient;
    synthesis.values_out = a.x_out;
    const std::size_t stage = larger(
        larger(analyse<T>(analysis, executor, nullptr), mix_adjoint<T>(mixing, executor, nullptr)),
        synthesise<T>(synthesis, executor, nullptr)
    );
    char* scratch = arena.take<char>(static_cast<int64_t>(stage));
    if (workspace != nullptr) {
        analyse(analysis, executor, scratch);
        mix_adjoint(mixing, executor, scratch);
        if (a.x_out != nullptr) {
            synthesise(synthesis, executor, scratch);
        }
    }
    return arena.used();
}

}  // namespace

template <typename T>
std::size_t spectral_conv_workspace(const SpectralConvArgs<T>& args, const Executor& executor) {
    return forward(args, executor, nullptr);
}
template <typename T>
void spectral_conv(const SpectralConvArgs<T>& args, const Executor& executor, void* workspace) {
    forward(args, executor, workspace);
}
template <typename T>
std::size_t spectral_conv_backward_workspace(
    const SpectralConvBackwardArgs<T>& args, const Executor& executor
) {
    return backward(args, executor, nullptr);
}
template <typename T>
void spectral_conv_backward(
    const SpectralConvBackwardArgs<T>& args, const Executor& executor, void* workspace
) {
    backward(args, executor, workspace);
}

#define PHYSCON_INSTANTIATE(T)                                                                 \
    template std::size_t spectral_conv_workspace(const SpectralConvArgs<T>&, const Executor&); \
    template void spectral_conv(const SpectralConvArgs<T>&, const Executor&, void*);           \
    template std::size_t spectral_conv_backward_workspace(                                     \
        const SpectralConvBackwardArgs<T>&, const Executor&                                    \
    );                                                                                         \
    template void spectral_conv_backward(                                                      \
        const SpectralConvBackwardArgs<T>&, const Executor&, void*                             \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
