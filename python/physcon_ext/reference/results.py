# SPDX-License-Identifier: Apache-2.0
"""What the reference operations return: the same fields, in the same order, as the compiled ops."""

from typing import NamedTuple

from torch import Tensor


class Conditioned(NamedTuple):
    """A Gaussian conditioned on ``r`` rows; ``n`` cells, leading batch axes everywhere.

    Attributes:
        mean: Posterior mean, ``(*batch, n)``.
        variance: Posterior marginal variance, ``(*batch, n)``.
        factor: ``V``, posterior = prior - ``V^T V``, ``(*batch, r, n)``; ``(*batch, 0, n)`` if
            not asked.
        covariance: Posterior covariance, ``(*batch, n, n)``; ``(*batch, 0, n)`` if not asked.
        cholesky: Lower factor of ``A``, ``(*batch, r, r)`` float64 (``(*batch, r)`` for disjoint
            rows). A dropped row has an infinite diagonal and zeros elsewhere.
        multipliers: ``A^-1 (b - G mean)``, ``(*batch, r)`` float64, zero for dropped rows.
        info: Row status, ``(*batch, r)`` int32, see `RowStatus` in ``row_system``.
    """

    mean: Tensor
    variance: Tensor
    factor: Tensor
    covariance: Tensor
    cholesky: Tensor
    multipliers: Tensor
    info: Tensor


class ConditionedBanded(NamedTuple):
    """A diagonal Gaussian conditioned on three-cell rows.

    Attributes:
        mean: Posterior mean, ``(*batch, n)``.
        variance: Posterior marginal variance, ``(*batch, n)``.
        band: Lower Cholesky bands of ``I + E^T R^-1 E``, ``E = D diag(sqrt(variance))``:
            ``band[..., d, j] = L[j + d, j]``, ``(*batch, 3, n)`` float64.
        multipliers: ``(*batch, n - 2)`` float64.
        info: 0, or 5 for a non-finite item, ``(*batch, 1)`` int32.
    """

    mean: Tensor
    variance: Tensor
    band: Tensor
    multipliers: Tensor
    info: Tensor
