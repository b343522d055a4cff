# SPDX-License-Identifier: Apache-2.0
"""Corrected convolution and face rules as torch operations, float64 and complex128 inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops._boundary_formula import Correction, correction_of
from physcon_ext.ops._faces import assign_by_formula, pull_by_formula
from physcon_ext.ops.composite.spectral import as_complex, as_pairs


Tensors = tuple[Tensor, ...]


def assign_faces(u: Tensor, *rest: Any) -> Tensor:
    """End points of the last axes from data and stencils."""
    values, stencils, dims = rest[:3], rest[3:6], rest[6]
    return assign_by_formula(u.double(), values, stencils, dims).to(u.dtype)


def assign_faces_backward(grad: Tensor, *rest: Any) -> Tensors:
    """Its adjoint: gradients of the field and of the data."""
    values, stencils, dims, values_needed = rest[:3], rest[3:6], rest[6], rest[7]
    field, data = pull_by_formula(grad.double(), values, stencils, dims)
    return (
        field.to(grad.dtype),
        *(g.to(grad.dtype) if values_needed else grad.new_empty(0) for g in data),
    )


def boundary_spectral_conv(x: Tensor, weight: Tensor, *rest: Any) -> Tensors:
    """Output, spectrum of the input, record of the corrections."""
    return convolve(
        correction_of(x.shape[-len(rest[9]) :], weight, rest[:3], rest[9]), x, weight, *rest
    )


def convolve(call: Correction, x: Tensor, weight: Tensor, *rest: Any) -> Tensors:
    """The same by the transforms of a call."""
    gains, values, stencils = rest[:3], rest[3:6], rest[6:9]
    spectrum, *lines = call.transform(x)
    y, records = call.forward(spectrum, lines, weight, gains, values, stencils)
    batch = x.shape[: x.ndim - call.dims - 1]
    return y.to(x.dtype), as_pairs(spectrum, x.dtype), call.pack(records, batch, x)


def boundary_spectral_conv_backward(
    grad: Tensor, spectrum: Tensor, shifts: Tensor, weight: Tensor, *rest: Any
) -> Tensors:
    """Gradients of the input, the weight, the gains and the face data."""
    call = correction_of(grad.shape[-len(rest[9]) :], weight, rest[:3], rest[9])
    return convolve_backward(call, grad, spectrum, shifts, weight, *rest)


def convolve_backward(
    call: Correction, grad: Tensor, spectrum: Tensor, shifts: Tensor, weight: Tensor, *rest: Any
) -> Tensors:
    """The same by the transforms of a call."""
    gains, values, stencils = rest[:3], rest[3:6], rest[6:9]
    x_needed, weight_needed, gains_needed, values_needed = rest[10:]
    x_grad, weight_grad, gain_grads, value_grads = call.adjoint(
        grad, as_complex(spectrum), call.kept_lines(shifts), weight, gains, values, stencils
    )
    dtype, nothing = grad.dtype, grad.new_empty(0)
    empty = nothing.to(torch.float64)
    return (
        x_grad.to(dtype) if x_needed else nothing,
        weight_grad.to(dtype) if weight_needed else nothing.clone(),
        *(g if gains_needed else empty.clone() for g in gain_grads),
        *(g.to(dtype) if values_needed else nothing.clone() for g in value_grads),
    )
