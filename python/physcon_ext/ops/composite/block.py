# SPDX-License-Identifier: Apache-2.0
"""`fno_block` as torch operations, float64 and complex128 inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Ways:
    """The convolutions that a block is made of, and the dtype of its other arithmetic."""

    convolve: Callable[..., Tensors]
    convolve_backward: Callable[..., Tensors]
    correct: Callable[..., Tensors]
    correct_backward: Callable[..., Tensors]
    dtype: torch.dtype


_MATRICES = Ways(
    spectral_conv,
    spectral_conv_backward,
    boundary_spectral_conv,
    boundary_spectral_conv_backward,
    torch.float64,
)


def _empty(like: Tensor) -> list[Tensor]:
    """Face arguments of three axes that have none."""
    data, rows = like.new_empty(0), like.new_empty(0, dtype=torch.float64)
    return [data] * 3 + [rows] * 3


def fno_block(*arguments: Any) -> Tensors:
    """Output, what the activation saw, spectrum of the input, record of the corrections."""
    return block(_MATRICES, *arguments)


def block(ways: Ways, x: Tensor, weight: Tensor, *rest: Any) -> Tensors:
    """The same by given convolutions."""
    (skip, bias), gains, values, stencils = rest[:2], rest[2:5], rest[5:8], rest[8:11]
    period, activated, keep = rest[11:]
    d, dtype = weight.ndim - 3, ways.dtype
    shifts = x.new_empty(0, dtype=torch.float64)
    if any(gain.numel() for gain in gains):
        periods = periods_of(x.shape[-d:], period)
        u, spectrum, shifts = ways.correct(x, weight, *gains, *_empty(x), periods)
    else:
        u, spectrum = ways.convolve(x, weight, period)
    u = u.to(dtype)
    if skip.numel():
        product = torch.einsum("...ip,io->...op", x.to(dtype).flatten(-d), skip.to(dtype))
        u = u + product.reshape(u.shape)
    if bias.numel():
        u = u + bias.to(dtype).reshape(-1, *(1,) * d)
    if any(stencil.numel() for stencil in stencils):
        u = assign_by_formula(u.double(), values, stencils, d)
    u = u.to(x.dtype)
    if not activated:
        return u, x.new_empty(0), spectrum, shifts
    # The tail of the distribution keeps its relative accuracy.
    y = torch.where(prescribed(stencils, u.shape[-d:]), u, u * torch.special.ndtr(u))
    return y, u if keep else x.new_empty(0), spectrum, shifts


def fno_block_backward(*arguments: Any) -> Tensors:
    """Gradients of the input, the weight, the matrix, the bias, the gains and the face data."""
    return block_backward(_MATRICES, *arguments)


def block_backward(
    ways: Ways, grad: Tensor, field: Tensor, spectrum: Tensor, shifts: Tensor, *rest: Any
) -> Tensors:
    """The same by given convolutions."""
    inputs, (x, weight, skip, bias) = rest[:13], rest[:4]
    gains, values, stencils = rest[4:7], rest[7:10], rest[10:13]
    period, activated, *needed = rest[13:]
    d, dtype = weight.ndim - 3, grad.dtype
    slope = grad.to(ways.dtype)
    if activated:
        if field.numel() == 0:
            field = block(ways, *inputs, period, False, False)[0]
        u = field.to(ways.dtype)
        density = torch.exp(-u * u / 2) / math.sqrt(2 * math.pi)
        derivative = torch.special.ndtr(u) + u * density
        slope = torch.where(prescribed(stencils, u.shape[-d:]), slope, slope * derivative)
    slope, data = pull_by_formula(slope, values, stencils, d)
    found: list[Tensor] = [t.new_empty(0) for t in inputs[:10]]
    if needed[0] or needed[1]:
        if any(gain.numel() for gain in gains):
            periods = periods_of(x.shape[-d:], period)
            flags = (needed[0], needed[1], needed[4], False)
            pulled = ways.correct_backward(
                slope.to(dtype), spectrum, shifts, weight, *gains, *_empty(x), periods, *flags
            )
            found[:2], found[4:7] = pulled[:2], pulled[2:5]
        else:
            found[:2] = ways.convolve_backward(
                slope.to(dtype), spectrum, weight, list(x.shape[-d:]), period, *needed[:2]
            )
    points = slope.flatten(-d)
    if needed[0] and skip.numel():
        product = torch.einsum("...op,io->...ip", points, skip.to(points.dtype)).reshape(x.shape)
        found[0] = (found[0] + product).to(dtype)
    if needed[2] and skip.numel():
        found[2] = torch.einsum("...ip,...op->io", x.to(points.dtype).flatten(-d), points).to(dtype)
    if needed[3] and bias.numel():
        found[3] = torch.einsum("...op->o", points).to(dtype)
    if needed[5]:
        found[7:10] = [g.to(dtype) for g in data]
    return tuple(found)
