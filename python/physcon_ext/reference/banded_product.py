# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::banded_product``: the dense posterior covariance times the vectors."""

import torch
from torch import Tensor

from physcon_ext.reference.condition_banded import band_rows
from physcon_ext.reference.condition_diagonal import condition_diagonal


def banded_product(variance: Tensor, stencil: Tensor, noise: Tensor | float, x: Tensor) -> Tensor:
    r"""Multiply vectors by the posterior covariance of ``condition_banded``.

    .. math:: y = \sqrt{s} (I + E^T R^{-1} E)^{-1} \sqrt{s}\, x, \qquad E = D \sqrt{s}

    Args:
        variance: Prior variance, ``(*batch, n)``.
        stencil: ``D``, ``(n - 2, 3)`` shared or ``(*batch, n - 2, 3)``.
        noise: Variance per row, ``> 0``, ``(*batch, n - 2)``.
        x: Vectors, ``(*batch, k, n)``.

    Returns:
        ``(*batch, k, n)``, in the dtype of ``x``.
    """
    target = torch.zeros(variance.shape[-1] - 2, dtype=variance.dtype, device=variance.device)
    posterior = condition_diagonal(
        torch.zeros_like(variance),
        variance,
        band_rows(stencil),
        target.expand(*variance.shape[:-1], -1),
        noise,
        covariance=True,
    )
    return x @ posterior.covariance.to(x.dtype)
