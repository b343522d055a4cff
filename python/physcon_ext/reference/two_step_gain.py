# SPDX-License-Identifier: Apache-2.0
"""Gains of the published elimination: one scalar pivot for all channels, left end first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def two_step_gain(
    response: Tensor, *, tolerance: float = 0.0, modulus: bool = True, slip: float = 0.0
) -> Tensor:
    """Write the two steps out; arguments and result as `physcon_ext.ops.two_step_gain`.

    Example:
        >>> answers = torch.tensor([2.0, 1.0, 1.0]).double().reshape(3, 1, 1, 1)
        >>> two_step_gain(answers)[0, :, :, 0]  # [a_0 a_N y_0 y_N] to [d_0 d_N]
        tensor([[ 1.0000, -0.5000],
                [-0.6667,  1.3333],
                [-0.6667,  0.3333],
                [ 0.3333, -0.6667]], dtype=torch.float64)
    """

    def limit(value: Tensor) -> Tensor:
        small = (value.abs() if modulus else value) < tolerance
        return torch.where(small, torch.full_like(value, tolerance), value)

    return gain_of_steps(response, limit, slip)


def gain_of_steps(response: Tensor, limit: Callable[[Tensor], Tensor], slip: float) -> Tensor:
    """Return the gains of both steps, pivots replaced by what ``limit`` makes of them."""
    column = response[:, 0, :, 0]
    k00, kn0, k0n = (column if column.ndim == 2 else column[..., 0]).sum(-1).unbind()
    last = limit(k00)
    rho = k0n / last
    pivot = limit(k00 - kn0 * rho)
    one, zero = torch.ones_like(k00), torch.zeros_like(k00)
    seen = torch.stack([one, -k0n / pivot, -one / pivot, rho / pivot])
    own = torch.stack([zero, one, zero, -one / last])
    own = own + slip * (seen + torch.stack([one, -one, zero, zero]))
    c, block = response.shape[2], response[1]
    if response.ndim == 4:
        block = block.unsqueeze(-1)
    eye = torch.zeros_like(block) + torch.eye(c, dtype=block.dtype, device=block.device)[..., None]
    if response.ndim == 5:
        eye = torch.stack((eye[..., 0], torch.zeros_like(eye[..., 0])), -1)
    columns = [
        torch.stack([a * eye + b * block for a, b in zip(of_eye, of_block, strict=True)], 1)
        for of_eye, of_block in ((seen, torch.zeros_like(seen)), (own, -seen / last))
    ]
    return torch.stack(columns, 3).flatten(1, 2).flatten(2, 3)
