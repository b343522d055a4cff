# SPDX-License-Identifier: Apache-2.0
"""`fno_block` as torch operations, float64 and complex128 inside."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops._faces import assign_by_formula, prescribed, pull_by_formula
from physcon_ext.ops.composite.boundary import (
    boundary_spectral_conv,
    boundary_spectral_conv_backward,
)
from physcon_ext.ops.composite.spectral import periods_of, spectral_conv, spectral_conv_backward


Tensors = tuple[Tensor, ...]


def _empty(like: Tensor) -> list[Tensor]:
    """Face arguments of three axes that have none."""
    data, rows = like.new_empty(0), like.new_empty(0, dtype=torch.float64)
    return [data] * 3 + [rows] * 3


def fno_block(x: Tensor, weight: Tensor, *rest: Any) -> Tensors:
    """Output, what the activation saw, spectrum of the input, record of the corrections."""
    (skip, bias), gains, values, stencils = rest[:2], rest[2:5], rest[5:8], rest[8:11]
    period, activated, keep = rest[11:]
    d = weight.ndim - 3
    shifts = x.new_empty(0, dtype=torch.float64)
    if any(gain.numel() for gain in gains):
        periods = periods_of(x.shape[-d:], period)
        u, spectrum, shifts = boundary_spectral_conv(x, weight, *gains, *_empty(x), periods)
    else:
        u, spectrum = spectral_conv(x, weight, period)
    u = u.double()
    if skip.numel():
        product = torch.einsum("...ip,io->...op", x.double().flatten(-d), skip.double())
        u = u + product.reshape(u.shape)
    if bias.numel():
        u = u + bias.double().reshape(-1, *(1,) * d)
    u = assign_by_formula(u, values, stencils, d).to(x.dtype)
    if not activated:
        return u, x.new_empty(0), spectrum, shifts
    y = torch.where(prescribed(stencils, u.shape[-d:]), u, torch.nn.functional.gelu(u))
    return y, u if keep else x.new_empty(0), spectrum, shifts


def fno_block_backward(
    grad: Tensor, field: Tensor, spectrum: Tensor, shifts: Tensor, *rest: Any
) -> Tensors:
    """Gradients of the input, the weight, the matrix, the bias, the gains and the face data."""
    inputs, (x, weight, skip, bias) = rest[:13], rest[:4]
    gains, values, stencils = rest[4:7], rest[7:10], rest[10:13]
    period, activated, *needed = rest[13:]
    d, dtype = weight.ndim - 3, grad.dtype
    slope = grad.double()
    if activated:
        if field.numel() == 0:
            field = fno_block(*inputs, period, False, False)[0]
        u = field.double()
        density = torch.exp(-u * u / 2) / math.sqrt(2 * math.pi)
        derivative = torch.special.ndtr(u) + u * density
        slope = torch.where(prescribed(stencils, u.shape[-d:]), slope, slope * derivative)
    slope, data = pull_by_formula(slope, values, stencils, d)
    found: list[Tensor] = [t.new_empty(0) for t in inputs[:10]]
    if needed[0] or needed[1]:
        if any(gain.numel() for gain in gains):
            periods = periods_of(x.shape[-d:], period)
            flags = (needed[0], needed[1], needed[4], False)
            pulled = boundary_spectral_conv_backward(
                slope.to(dtype), spectrum, shifts, weight, *gains, *_empty(x), periods, *flags
            )
            found[:2], found[4:7] = pulled[:2], pulled[2:5]
        else:
            found[:2] = spectral_conv_backward(
                slope.to(dtype), spectrum, weight, list(x.shape[-d:]), period, *needed[:2]
            )
    points = slope.flatten(-d)
    if needed[0] and skip.numel():
        product = torch.einsum("...op,io->...ip", points, skip.double()).reshape(x.shape)
        found[0] = (found[0] + product).to(dtype)
    if needed[2] and skip.numel():
        found[2] = torch.einsum("...ip,...op->io", x.double().flatten(-d), points).to(dtype)
    if needed[3] and bias.numel():
        found[3] = torch.einsum("...op->o", points).to(dtype)
    if needed[5]:
        found[7:10] = [g.to(dtype) for g in data]
    return tuple(found)
