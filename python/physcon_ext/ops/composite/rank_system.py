# SPDX-License-Identifier: Apache-2.0
"""Algebra of rank size in float64: factorisation with row dropping, inverse factor, row status.

The rules are those of the compiled core: a row whose pivot is at most the rounding of what the
pivot came from depends on the rows before it and is dropped. Loops run over rows, which are known
on the host; what depends on numbers is selected on the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from physcon_ext.reference.row_system import RowStatus


EPS64 = torch.finfo(torch.float64).eps
# Above this leverage of a row on a point, prior minus removed variance cancels.
JOSEPH_LEVERAGE = 0.9
# Smaller pivots, relative to the diagonal, are worth the coefficients of the dependence.
_SUSPICIOUS = 1e-4
_REFINEMENTS = 2


class RankSystem(NamedTuple):
    """A factored system of ``r`` rows.

    Attributes:
        inverse: ``L^-1``, rows and columns of dropped rows zero, ``(*batch, r, r)``.
        cholesky: ``L``, an infinite diagonal for a dropped row, ``(*batch, r, r)``.
        multipliers: ``A^-1 e``, ``(*batch, r)``.
        info: Row status, ``(*batch, r)`` int32.
        finite: Which items hold no NaN and no infinity, ``(*batch)``.
    """

    inverse: Tensor
    cholesky: Tensor
    multipliers: Tensor
    info: Tensor
    finite: Tensor

    def solve(self, right: Tensor) -> Tensor:
        """``A^-1`` times vectors ``(*batch, r)``."""
        return apply(self.inverse.mT, apply(self.inverse, right))


def apply(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix @ x`` for vectors ``(..., n)``."""
    return (matrix @ x[..., None])[..., 0]


def pivot_rounding(rank: int) -> float:
    """What rounding of a Gram matrix of this rank may add to a pivot, relative to its origin."""
    return 16.0 * max(rank, 4) * EPS64


def factor_rows(
    gram: Tensor, rhs: Tensor, magnitude: Tensor, eps: float, certain: Tensor | None = None
) -> RankSystem:
    """Factor ``A`` in row order, drop dependent rows, and solve for the multipliers.

    Args:
        gram: ``A = C G^T + R``, ``(*batch, r, r)``, symmetric up to rounding.
        rhs: ``e = b - G m``, ``(*batch, r)``.
        magnitude: ``|G| |m| + |b|``, the size of the sums behind ``rhs``, ``(*batch, r)``.
        eps: Rounding unit of the dtype of the data.
        certain: Rows that count as having no variance at all, ``(*batch, r)``, or None.
    """
    r = rhs.shape[-1]
    finite = gram.isfinite().flatten(-2).all(-1) & rhs.isfinite().all(-1)
    factored = (gram + gram.mT) / 2
    if certain is not None:
        factored = factored.masked_fill(certain[..., None] | certain[..., None, :], 0.0)
    diagonal = factored.diagonal(dim1=-2, dim2=-1)
    unit = diagonal.clamp(min=0).sqrt()
    schur = factored.clone()
    low, inverse = torch.zeros_like(gram), torch.zeros_like(gram)
    solution = torch.zeros_like(rhs)
    info = torch.zeros(rhs.shape, dtype=torch.int32, device=rhs.device)
    for k in range(r):
        row, remaining, scale = low[..., k, :], schur[..., k, k], diagonal[..., k]
        c = (row[..., None, :] @ inverse)[..., 0, :]  # how earlier rows combine to this one
        size = scale + torch.where(
            remaining < _SUSPICIOUS * scale, (c.square() * diagonal).sum(-1), 0.0
        )
        used = remaining > pivot_rounding(r) * size
        empty = ~(scale > 0)
        difference = rhs[..., k] - torch.where(empty, 0.0, (c * rhs).sum(-1))
        reach = magnitude[..., k] + torch.where(empty, 0.0, (c.abs() * magnitude).sum(-1))
        # The rounding of A moves the combination and with it the residual.
        moved = (unit[..., k] + (c.abs() * unit).sum(-1)) * (solution.abs() * unit).sum(-1)
        slack = 64 * eps * reach + torch.where(empty, 0.0, pivot_rounding(r) * moved)
        agrees = difference.abs() <= slack
        dropped = torch.where(
            empty,
            torch.where(agrees, int(RowStatus.SATISFIED), int(RowStatus.INFEASIBLE)),
            torch.where(agrees, int(RowStatus.REDUNDANT), int(RowStatus.INCONSISTENT)),
        )
        info[..., k] = torch.where(used, int(RowStatus.USED), dropped)
        root = torch.where(used, remaining, 1.0).sqrt()
        pivot = torch.where(used, 1 / root, 0.0)
        column = schur[..., :, k] * pivot[..., None]
        column[..., : k + 1] = 0
        schur -= column[..., :, None] * column[..., None, :]
        low[..., :, k] += column
        low[..., k, :] *= used[..., None]
        low[..., k, k] = root.masked_fill(~used, torch.inf)
        own = -c * pivot[..., None]
        own[..., k] = pivot
        inverse[..., k, :] = own
        solution += (own * rhs).sum(-1, keepdim=True) * own
    system = RankSystem(inverse, low, torch.zeros_like(rhs), info, finite)
    multipliers = system.solve(rhs)
    for _ in range(_REFINEMENTS):
        multipliers = multipliers + system.solve(rhs - apply(gram, multipliers))
    return system._replace(
        cholesky=torch.where(finite[..., None, None], low, torch.nan).tril(),
        multipliers=torch.where(finite[..., None], multipliers, torch.nan),
        info=info.masked_fill(~finite[..., None], int(RowStatus.NON_FINITE)),
    )


def inverse_factor(cholesky: Tensor) -> Tensor:
    """``L^-1`` of a factor with infinite pivots, whose rows and columns become zero."""
    r = cholesky.shape[-1]
    dropped = cholesky.diagonal(dim1=-2, dim2=-1).isinf()
    low = torch.where(torch.diag_embed(dropped), 1.0, cholesky)
    unit = torch.eye(r, dtype=low.dtype, device=low.device)
    inverse = torch.linalg.solve_triangular(low, unit, upper=False)
    return inverse.masked_fill(torch.diag_embed(dropped), 0.0)
