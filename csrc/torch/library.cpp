// SPDX-License-Identifier: Apache-2.0
// Every schema of the package. Shapes and meanings: python/physcon_ext/ops.
#include <torch/csrc/stable/library.h>

namespace {

/// Ops with CUDA kernels: `physcon` names what users call, `physcon_cuda` the kernels alone.
template <typename Library>
void define_conditioning(Library& m) {
    // Diagonal prior -> mean, variance, factor, covariance, cholesky, multipliers, info.
    m.def(
        "condition_diagonal(Tensor mean, Tensor variance, Tensor rows, Tensor target, Tensor "
        "noise, bool factor, "
        "bool covariance) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Its adjoint -> gradients of mean, variance, rows, target, noise.
    m.def(
        "condition_diagonal_backward(Tensor grad_mean, Tensor grad_variance, Tensor? grad_factor, "
        "Tensor mean, "
        "Tensor variance, Tensor rows, Tensor target, Tensor noise, Tensor cholesky, Tensor "
        "multipliers, "
        "bool rows_needed) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Any prior, given by its variance and G S -> mean, variance, factor, cholesky, multipliers,
    // info.
    m.def(
        "condition_cross(Tensor mean, Tensor variance, Tensor cross, Tensor rows, Tensor target, "
        "Tensor noise, "
        "bool factor) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Its adjoint -> gradients of mean, variance, cross, rows, target, noise.
    m.def(
        "condition_cross_backward(Tensor grad_mean, Tensor grad_variance, Tensor? grad_factor, "
        "Tensor mean, "
        "Tensor variance, Tensor cross, Tensor rows, Tensor target, Tensor noise, Tensor cholesky, "
        "Tensor multipliers, bool rows_needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Dense prior -> mean, variance, factor, covariance, cross, cholesky, multipliers, info. Its
    // adjoint is condition_cross_backward and matrix products.
    m.def(
        "condition_dense(Tensor mean, Tensor prior_covariance, Tensor rows, Tensor target, Tensor "
        "noise, "
        "bool covariance) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Rows with disjoint support, diagonal prior -> mean, variance, factor, cholesky, multipliers,
    // info.
    m.def(
        "condition_disjoint(Tensor mean, Tensor variance, Tensor weights, Tensor target, Tensor "
        "noise, "
        "Tensor order, Tensor offsets) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Its adjoint -> gradients of mean, variance, weights, target, noise.
    m.def(
        "condition_disjoint_backward(Tensor grad_mean, Tensor grad_variance, Tensor? grad_factor, "
        "Tensor mean, "
        "Tensor variance, Tensor weights, Tensor order, Tensor offsets, Tensor target, Tensor "
        "noise, "
        "Tensor cholesky, Tensor multipliers) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
}

template <typename Library>
void define_convolutions(Library& m) {
    // Truncated transform, channel mixing mode by mode, inverse -> y, truncated spectrum of x.
    m.def("spectral_conv(Tensor x, Tensor weight, float[] period) -> (Tensor, Tensor)");
    // Its adjoint -> gradients of x, weight.
    m.def(
        "spectral_conv_backward(Tensor grad, Tensor spectrum, Tensor weight, int[] size, float[] "
        "period, bool x_needed, bool weight_needed) -> (Tensor, Tensor)"
    );
    // End points of the last axes: data plus a stencil of the points inwards, axis after axis.
    m.def(
        "assign_faces(Tensor u, Tensor values_0, Tensor values_1, Tensor values_2, Tensor "
        "stencil_0, Tensor stencil_1, Tensor stencil_2, int dims) -> Tensor"
    );
    // Its adjoint -> gradients of u, values_0, values_1, values_2.
    m.def(
        "assign_faces_backward(Tensor grad, Tensor values_0, Tensor values_1, Tensor values_2, "
        "Tensor stencil_0, Tensor stencil_1, Tensor stencil_2, int dims, bool values_needed) "
        "-> (Tensor, Tensor, Tensor, Tensor)"
    );
    // spectral_conv with sources at the ends of the axes that have gains, then assign_faces -> y,
    // spectrum of x, record of the corrections.
    m.def(
        "boundary_spectral_conv(Tensor x, Tensor weight, Tensor gain_0, Tensor gain_1, Tensor "
        "gain_2, Tensor values_0, Tensor values_1, Tensor values_2, Tensor stencil_0, Tensor "
        "stencil_1, Tensor stencil_2, float[] period) -> (Tensor, Tensor, Tensor)"
    );
    // Its adjoint -> gradients of x, weight, the gains and the values.
    m.def(
        "boundary_spectral_conv_backward(Tensor grad, Tensor spectrum, Tensor shifts, Tensor "
        "weight, Tensor gain_0, Tensor gain_1, Tensor gain_2, Tensor values_0, Tensor values_1, "
        "Tensor values_2, Tensor stencil_0, Tensor stencil_1, Tensor stencil_2, float[] period, "
        "bool x_needed, bool weight_needed, bool gains_needed, bool values_needed) -> (Tensor, "
        "Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Fourier layer: convolution (corrected where there are gains), skip, bias, faces, gelu -> y,
    // what the activation saw, spectrum of x, record of the corrections; the second and the last
    // may be empty.
    m.def(
        "fno_block(Tensor x, Tensor weight, Tensor skip, Tensor bias, Tensor gain_0, Tensor "
        "gain_1, Tensor gain_2, Tensor values_0, Tensor values_1, Tensor values_2, Tensor "
        "stencil_0, Tensor stencil_1, Tensor stencil_2, float[] period, bool activated, bool keep) "
        "-> (Tensor, Tensor, Tensor, Tensor)"
    );
    // Its adjoint -> gradients of x, weight, skip, bias, the gains and the values; an empty field
    // is computed anew.
    m.def(
        "fno_block_backward(Tensor grad, Tensor field, Tensor spectrum, Tensor shifts, Tensor x, "
        "Tensor weight, Tensor skip, Tensor bias, Tensor gain_0, Tensor gain_1, Tensor gain_2, "
        "Tensor values_0, Tensor values_1, Tensor values_2, Tensor stencil_0, Tensor stencil_1, "
        "Tensor stencil_2, float[] period, bool activated, bool x_needed, bool weight_needed, bool "
        "skip_needed, bool bias_needed, bool gains_needed, bool values_needed) -> (Tensor, Tensor, "
        "Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
}

template <typename Library>
void define_banded(Library& m) {
    // Soft rows on three neighbouring cells, diagonal prior -> mean, variance, band, multipliers,
    // info.
    m.def(
        "condition_banded(Tensor mean, Tensor variance, Tensor stencil, Tensor target, Tensor "
        "noise) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Its adjoint -> gradients of mean, variance, stencil, target, noise.
    m.def(
        "condition_banded_backward(Tensor grad_mean, Tensor grad_variance, Tensor mean, Tensor "
        "variance, "
        "Tensor stencil, Tensor target, Tensor noise, Tensor mean_posterior, Tensor band, Tensor "
        "multipliers) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Posterior covariance of condition_banded times k vectors; symmetric, so it is its own adjoint
    // in x.
    m.def("banded_product(Tensor variance, Tensor stencil, Tensor noise, Tensor x) -> Tensor");
}

template <typename Library>
void define_gains(Library& m) {
    // What spectral_conv answers at the ends of an axis to sources there -> blocks D, G, A.
    m.def("end_response(Tensor weight, int axis, int[] size, float[] period) -> Tensor");
    // Its adjoint -> gradient of the weight, which is read for its shape and dtype only.
    m.def(
        "end_response_backward(Tensor grad, Tensor weight, int axis, int[] size, float[] period) "
        "-> Tensor"
    );
    // Gains of the published elimination from the blocks.
    m.def("two_step_gain(Tensor response, float tolerance, bool modulus, float slip) -> Tensor");
    // Its adjoint -> gradient of the blocks.
    m.def(
        "two_step_gain_backward(Tensor grad, Tensor response, float tolerance, bool modulus, float "
        "slip) -> Tensor"
    );
}

template <typename Library>
void define_finite_volumes(Library& m) {
    // Finite volumes: a number of steps -> state, inner and outer flux integrals, source integrals,
    // info.
    m.def(
        "balance_law(Tensor state, Tensor spacing, Tensor speed, Tensor diffusion, Tensor "
        "inner_low, Tensor inner_high, Tensor outer_low, Tensor outer_high, Tensor edge_weights, "
        "Tensor shapes, Tensor amplitudes, Tensor dt, Tensor steps, Tensor choices, int stages) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
    // Lid-driven cavity: a number of steps -> u, v, then integrals: pressure, momentum fluxes.
    m.def(
        "cavity(Tensor u, Tensor v, Tensor lid, Tensor viscosity, Tensor dt, Tensor steps) -> "
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    );
}

}  // namespace

STABLE_TORCH_LIBRARY(physcon_cuda, m) {
    define_conditioning(m);
    define_banded(m);
    define_convolutions(m);
    define_gains(m);
    define_finite_volumes(m);
    // Whether transforms of this thread may round their operands from now on -> whether they might.
    m.def("allow_tf32(bool allowed) -> bool");
}

STABLE_TORCH_LIBRARY(physcon, m) {
    define_conditioning(m);
    define_banded(m);
    define_convolutions(m);
    define_gains(m);
    define_finite_volumes(m);
    // Whether spectral_conv would use whole Fourier transforms of the framework on this grid.
    m.def("spectral_uses_fft(int[] size, int[] modes, float[] period, bool doubles=False) -> bool");
}
