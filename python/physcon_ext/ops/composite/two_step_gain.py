# SPDX-License-Identifier: Apache-2.0
"""Gains of the published elimination as torch operations, and their adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from physcon_ext import reference


def two_step_gain(response: Tensor, tolerance: float, modulus: bool, slip: float) -> Tensor:
    """Gains of both steps."""
    return reference.two_step_gain(response, tolerance=tolerance, modulus=modulus, slip=slip)


def two_step_gain_backward(
    grad: Tensor, response: Tensor, tolerance: float, modulus: bool, slip: float
) -> Tensor:
    """Gradient of the blocks: three sums over the gains, then scalars."""
    c, parts = response.shape[3], grad.shape[-1]
    column = response[:, 0, :, 0]
    k00, kn0, k0n = (column if column.ndim == 2 else column[..., 0]).sum(-1).unbind()

    def small(value: Tensor) -> Tensor:
        return (value.abs() if modulus else value) < tolerance

    def limit(value: Tensor) -> Tensor:
        return torch.where(small(value), torch.full_like(value, tolerance), value)

    last = limit(k00)
    rho = k0n / last
    difference = k00 - kn0 * rho
    pivot = limit(difference)
    seen = torch.stack([torch.ones_like(k00), -k0n / pivot, -1 / pivot, rho / pivot])

    pieces = grad.reshape(-1, 4, c, 2, c, parts)
    of_seen, of_own = pieces[..., 0].diagonal(dim1=2, dim2=4).sum((0, -1)).mT
    upon = pieces[:, :, :, 1]  # (Q, 4, C, C, parts)
    of_block = (upon * response[1].reshape(-1, 1, c, c, parts)).sum((0, 2, 3, 4))
    of_seen = of_seen + slip * of_own - of_block / last
    of_last = ((of_block * seen).sum() + of_own[3]) / last**2
    of_pivot = (of_seen[1] * k0n + of_seen[2] - of_seen[3] * rho) / pivot**2
    of_difference = torch.where(small(difference), torch.zeros_like(of_pivot), of_pivot)
    of_rho = of_seen[3] / pivot - of_difference * kn0
    of_last = of_last - of_rho * rho / last
    of_k00 = torch.where(small(k00), torch.zeros_like(of_last), of_last) + of_difference
    of_k0n = of_rho / last - of_seen[1] / pivot

    across = ((-seen / last)[:, None, None, None] * upon).sum(1)
    nothing = torch.zeros_like(across)
    direct = torch.stack([nothing, across, nothing]).reshape(response.shape)
    found = torch.stack([of_k00, -of_difference * rho, of_k0n])
    first = torch.zeros_like(response[0])
    (first if first.ndim == 3 else first[..., 0])[0, :, 0] = 1.0
    return direct + found.reshape(-1, *(1,) * first.ndim) * first
