# SPDX-License-Identifier: Apache-2.0
"""Answers of a spectral convolution at the ends of an axis, mode by mode, complex128 inside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.reference.spectral_conv import signed_wavenumbers


def end_response(
    weight: Tensor, axis: int, *, size: Sequence[int], period: Sequence[float]
) -> Tensor:
    """Sum the modes of the axis; arguments and result as `physcon_ext.ops.end_response`.

    Example:
        >>> mean = torch.tensor([[[[1.0, 0.0]]]])  # averages over the period
        >>> end_response(mean, 0, size=[4], period=[5.0]).flatten()
        tensor([0.2000, 0.2000, 0.2000], dtype=torch.float64)
    """
    d = weight.ndim - 3
    w = torch.complex(weight[..., 0].double(), weight[..., 1].double()).movedim(axis, 0)
    phases = end_phases(weight, axis, size, period)
    blocks = of_real_field(torch.tensordot(phases, w, dims=1), weight, axis, period)
    blocks = blocks.flatten(1, -3) if d > 1 else blocks.unsqueeze(1)
    return blocks.real if d == 1 else torch.stack((blocks.real, blocks.imag), -1)


def end_phases(weight: Tensor, axis: int, size: Sequence[int], period: Sequence[float]) -> Tensor:
    """``h_k``, ``h_k e^{i w_k (N - 1)}`` and its conjugate, ``(3, M)`` complex128."""
    last = axis == weight.ndim - 4
    k, length = _wavenumbers(weight, axis), period[axis]
    scale = torch.where(last & (k > 0) & (2 * k != length), 2.0, 1.0).double() / length
    # (N - 1) k is exact; reduced modulo the period before it is scaled.
    turns = torch.remainder(k * (size[axis] - 1), length) / length
    real, imag = scale * torch.cos(2 * math.pi * turns), scale * torch.sin(2 * math.pi * turns)
    return torch.complex(torch.stack((scale, real, real)), torch.stack((0 * imag, imag, -imag)))


def of_real_field(blocks: Tensor, weight: Tensor, axis: int, period: Sequence[float]) -> Tensor:
    """Average blocks ``(3, *modes, in, out)`` with the conjugates of their mirror modes.

    Where the mode of the other axes meets its own complex conjugate, that is at the mean and the
    Nyquist mode of the last axis, or everywhere if the last axis is the one in question. A mirror
    mode that is not retained counts as 0. The map is its own adjoint.
    """
    last = weight.ndim - 4
    mirror = torch.complex(blocks.real, -blocks.imag)
    others = [a for a in range(last + 1) if a != axis]
    for place, a in enumerate(others, 1):
        if a == last:
            continue
        k = _wavenumbers(weight, a)
        partner = torch.where(2 * k == -period[a], k, -k)
        kept = (partner[:, None] == k).any(1)
        index = torch.where(kept, torch.remainder(partner, len(k)), 0).long()
        shape = (-1, *(1,) * (blocks.ndim - 1 - place))
        mirror = mirror.index_select(place, index) * kept.double().reshape(shape)
    average = (blocks + mirror) / 2
    if axis == last:
        return average
    k = _wavenumbers(weight, last)
    own = (k == 0) | (2 * k == period[last])
    return torch.where(own[:, None, None], average, blocks)


def _wavenumbers(weight: Tensor, axis: int) -> Tensor:
    count = weight.shape[axis]
    if axis == weight.ndim - 4:
        return torch.arange(count, dtype=torch.float64, device=weight.device)
    return signed_wavenumbers(count, weight.device)
