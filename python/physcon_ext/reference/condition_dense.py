# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::condition_dense``: dense and obvious, float64 inside."""

from torch import Tensor

from physcon_ext.reference.results import Conditioned
from physcon_ext.reference.row_system import condition


def condition_dense(
    mean: Tensor,
    prior_covariance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor | float,
    *,
    factor: bool = False,
    covariance: bool = True,
) -> Conditioned:
    r"""Condition ``N(mean, prior_covariance)`` on ``target = rows u + N(0, noise)``.

    .. math:: S' = (I - K G) S (I - K G)^T + K R K^T, \qquad K = S G^T A^{-1}

    Args:
        mean: ``(*batch, n)``.
        prior_covariance: ``S``, ``(*batch, n, n)``, symmetric positive semi-definite; its
            symmetric part is taken.
        rows: ``G``, ``(r, n)`` shared or ``(*batch, r, n)``.
        target: ``b``, ``(*batch, r)``.
        noise: Variance per row, or a matrix ``(*batch, r, r)`` with one axis more than target.
        factor: Return ``V``.
        covariance: Return the dense covariance.

    Returns:
        `Conditioned`, in the dtype of ``mean``.
    """
    sigma = (prior_covariance.double() + prior_covariance.double().mT) / 2
    return condition(
        mean,
        sigma.diagonal(dim1=-2, dim2=-1),
        rows.double() @ sigma,
        rows,
        target,
        noise,
        sigma,
        factor=factor,
        covariance=covariance,
    )
