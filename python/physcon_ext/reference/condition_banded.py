# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::condition_banded``: the same rows written as a dense matrix."""

import torch
from torch import Tensor

from physcon_ext.reference.condition_diagonal import condition_diagonal
from physcon_ext.reference.results import ConditionedBanded


def band_rows(stencil: Tensor) -> Tensor:
    """Return the dense rows of a stencil, ``(..., n - 2, 3)`` to ``(..., n - 2, n)``."""
    count = stencil.shape[-2]
    k = torch.arange(count, device=stencil.device)
    place = torch.zeros(count, 3, count + 2, dtype=stencil.dtype, device=stencil.device)
    for j in range(3):
        place[k, j, k + j] = 1
    return torch.einsum("...kj,kjn->...kn", stencil, place)


def condition_banded(
    mean: Tensor, variance: Tensor, stencil: Tensor, target: Tensor, noise: Tensor | float
) -> ConditionedBanded:
    r"""Condition a diagonal Gaussian on rows over three neighbouring cells.

    .. math:: b_k = \sum_{j=0}^{2} D_{kj} u_{k+j} + N(0, R_k), \qquad k = 0 \dots n - 3

    Args:
        mean: ``(*batch, n)``, ``n >= 3``.
        variance: ``(*batch, n)``, zeros allowed.
        stencil: ``D``, ``(n - 2, 3)`` shared or ``(*batch, n - 2, 3)``.
        target: ``(*batch, n - 2)``.
        noise: Variance per row, ``> 0``, ``(*batch, n - 2)``.

    Returns:
        `ConditionedBanded`.
    """
    rows = band_rows(stencil)
    dense = condition_diagonal(mean, variance, rows, target, noise)
    finite = (dense.info != 5).all(-1)
    band = _band(rows, variance, torch.as_tensor(noise, dtype=torch.float64), finite)
    info = torch.where(finite, 0, 5).to(torch.int32)[..., None]
    return ConditionedBanded(dense.mean, dense.variance, band, dense.multipliers, info)


@torch.no_grad()
def _band(rows: Tensor, variance: Tensor, noise: Tensor, finite: Tensor) -> Tensor:
    """Return the lower Cholesky bands of ``I + E^T R^-1 E``, NaN where an item is not finite."""
    e = rows.double() * variance.double().sqrt()[..., None, :]
    if noise.ndim == 0:
        noise = noise.expand(rows.shape[-2])
    unit = torch.eye(variance.shape[-1], dtype=torch.float64, device=variance.device)
    precision = unit + e.mT @ (e / noise.double()[..., None])
    precision = torch.where(finite[..., None, None], precision, unit)
    low = torch.linalg.cholesky(precision)
    bands = [torch.nn.functional.pad(low.diagonal(-d, dim1=-2, dim2=-1), (0, d)) for d in range(3)]
    return torch.where(finite[..., None, None], torch.stack(bands, -2), torch.nan)
