# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::condition_cross``: dense and obvious, float64 inside."""

from torch import Tensor

from physcon_ext.reference.results import Conditioned
from physcon_ext.reference.row_system import condition


def condition_cross(
    mean: Tensor,
    variance: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor | float,
    *,
    factor: bool = False,
) -> Conditioned:
    r"""Condition a Gaussian known by its marginal variance and its cross covariance with the rows.

    .. math:: m' = m + C^T A^{-1} (b - G m), \qquad C = G S, \quad A = C G^T + R

    Args:
        mean: ``(*batch, n)``.
        variance: Prior marginal variance, ``(*batch, n)``.
        cross: ``C``, ``(*batch, r, n)``.
        rows: ``G``, ``(r, n)`` shared or ``(*batch, r, n)``.
        target: ``b``, ``(*batch, r)``.
        noise: Variance per row, or a matrix ``(*batch, r, r)`` with one axis more than target.
        factor: Return ``V``.

    Returns:
        `Conditioned`, in the dtype of ``mean``; its covariance is empty.

    Notes:
        A row without noise whose variance ``(C G^T)_kk`` is rounding, at most
        ``16 max(r, 4) eps64 sum_j G_kj^2 variance_j``, counts as certain. The variance is the
        difference ``variance - colsum(V^2)``, at least zero.
    """
    return condition(
        mean, variance, cross, rows, target, noise, None, factor=factor, covariance=False
    )
