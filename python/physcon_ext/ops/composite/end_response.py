# SPDX-License-Identifier: Apache-2.0
"""Answers at the ends of an axis as torch operations, and their adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from physcon_ext import reference
from physcon_ext.ops.composite.spectral import conjugate
from physcon_ext.reference.end_response import end_phases, of_real_field


def end_response(weight: Tensor, axis: int, size: list[int], period: list[float]) -> Tensor:
    """Blocks D, G and A."""
    return reference.end_response(weight, axis, size=size, period=period)


def end_response_backward(
    grad: Tensor, weight: Tensor, axis: int, size: list[int], period: list[float]
) -> Tensor:
    """Gradient of the weight."""
    d = weight.ndim - 3
    modes = weight.shape[:d]
    if d == 1:
        blocks = torch.complex(grad[:, 0], torch.zeros_like(grad[:, 0]))
    else:
        blocks = torch.complex(grad[..., 0], grad[..., 1])
    blocks = blocks.reshape(3, *modes[:axis], *modes[axis + 1 :], *weight.shape[-3:-1])
    folded = of_real_field(blocks, weight, axis, period)
    phases = conjugate(end_phases(weight, axis, size, period))
    found = torch.tensordot(phases.mT, folded, dims=1).movedim(0, axis)
    return torch.stack((found.real, found.imag), -1).to(weight.dtype)
