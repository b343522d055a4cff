# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::condition_diagonal``: dense and obvious, float64 inside."""

import torch
from torch import Tensor

from physcon_ext.reference.results import Conditioned
from physcon_ext.reference.row_system import condition


def condition_diagonal(
    mean: Tensor,
    variance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor | float,
    *,
    factor: bool = False,
    covariance: bool = False,
) -> Conditioned:
    r"""Condition ``N(mean, diag(variance))`` on ``target = rows u + N(0, noise)``.

    .. math:: m' = m + S G^T A^{-1} (b - G m), \qquad A = G S G^T + R

    Args:
        mean: ``(*batch, n)``.
        variance: Prior variance, ``(*batch, n)``, zeros allowed.
        rows: ``G``, ``(r, n)`` shared or ``(*batch, r, n)``.
        target: ``b``, ``(*batch, r)``.
        noise: Variance per row, or a matrix ``(*batch, r, r)`` with one axis more than target.
        factor: Return ``V``.
        covariance: Return the dense covariance.

    Returns:
        `Conditioned`, in the dtype of ``mean``.

    Notes:
        Cost: dense, ``n x n`` per item. This is the definition that the compiled op is tested
        against. Differentiable by autograd to any order; runs on any device.

    Example:
        >>> one = torch.ones(2)
        >>> condition_diagonal(torch.zeros(2), one, one[None], torch.tensor([2.0]), 0.0).mean
        tensor([1., 1.])
    """
    cross = rows.double() * variance.double()[..., None, :]
    return condition(
        mean,
        variance,
        cross,
        rows,
        target,
        noise,
        torch.diag_embed(variance),
        factor=factor,
        covariance=covariance,
    )
