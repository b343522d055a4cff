# SPDX-License-Identifier: Apache-2.0
"""Conditioning by differentiable tensor operations, linear in the number of points where possible.

Only derivatives of derivatives and forward mode use these; values come from the compiled ops.
Rows that the op dropped are masked, so they stay dropped.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kept_rows(cholesky: Tensor) -> Tensor:
    """Which rows an op used: a dropped row has an infinite pivot. ``(*batch, r)``, 0 or 1."""
    return cholesky.diagonal(dim1=-2, dim2=-1).isfinite().double()


def condition(
    mean: Tensor,
    variance: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, marginal variance and factor in float64; ``noise`` per row or a matrix."""
    mean, variance, target = mean.double(), variance.double(), target.double()
    mask = kept[..., None]
    g, c = rows.double() * mask, cross.double() * mask
    r = noise.double() if noise.ndim > target.ndim else torch.diag_embed(noise.double())
    a = c @ g.mT + r * mask * mask.mT
    low = torch.linalg.cholesky((a + a.mT) / 2 + torch.diag_embed(1 - kept))
    e = target * kept - (g @ mean[..., None])[..., 0]
    alpha = torch.cholesky_solve(e[..., None], low)
    v = torch.linalg.solve_triangular(low, c, upper=False)
    return mean + (c.mT @ alpha)[..., 0], variance - (v * v).sum(-2), v


def condition_disjoint(
    mean: Tensor,
    variance: Tensor,
    weights: Tensor,
    order: Tensor,
    offsets: Tensor,
    target: Tensor,
    noise: Tensor,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for rows with disjoint support; the factor in list order."""
    count = weights.shape[-1]
    cells = order if order.numel() else torch.arange(count, device=weights.device)
    owner = torch.repeat_interleave(
        torch.arange(target.shape[-1], device=weights.device), offsets.diff(), output_size=count
    )
    mean, variance = mean.double(), variance.double()
    w, s, m = weights.double(), variance[..., cells], mean[..., cells]
    zero = torch.zeros_like(target, dtype=torch.float64)
    d = (noise.double() + zero.index_add(-1, owner, w * w * s)) * kept + (1 - kept)
    e = (target.double() - zero.index_add(-1, owner, w * m)) * kept
    use = kept[..., owner]
    moved = mean.index_add(-1, cells, use * w * s * (e / d)[..., owner])
    v = use * w * s / d.sqrt()[..., owner]
    return moved, variance.index_add(-1, cells, -v * v), v


def condition_banded(
    mean: Tensor, variance: Tensor, stencil: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for three-cell rows, through the dense ``n x n`` system."""
    n = mean.shape[-1]
    rows = sum(
        torch.nn.functional.pad(torch.diag_embed(stencil[..., i].double()), (i, 2 - i))
        for i in range(3)
    )
    assert isinstance(rows, Tensor) and rows.shape[-1] == n
    cross = rows * variance.double()[..., None, :]
    kept = torch.ones_like(target, dtype=torch.float64)
    return condition(mean, variance, cross, rows, target, noise, kept)[:2]
