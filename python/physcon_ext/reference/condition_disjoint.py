# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::condition_disjoint``: the same rows written as a dense matrix."""

import torch
from torch import Tensor

from physcon_ext.reference.condition_diagonal import condition_diagonal
from physcon_ext.reference.results import Conditioned


def condition_disjoint(
    mean: Tensor,
    variance: Tensor,
    weights: Tensor,
    order: Tensor,
    offsets: Tensor,
    target: Tensor,
    noise: Tensor | float,
) -> Conditioned:
    r"""Condition a diagonal Gaussian on rows of which no two share a cell.

    .. math:: d_k = R_k + \sum_j w_j^2 s_j, \qquad m'_i = m_i + w_i s_i e_{k(i)} / d_{k(i)}

    Args:
        mean: ``(*batch, n)``.
        variance: ``(*batch, n)``.
        weights: Weights of the listed cells, ``(p,)`` shared or ``(*batch, p)``.
        order: Row ``k`` owns the cells ``order[offsets[k] : offsets[k + 1]]``, ``(p,)`` int64. An
            empty tensor means ``0, 1, ..., p - 1``.
        offsets: ``(r + 1,)`` int64, ascending from 0 to ``p``.
        target: ``(*batch, r)``.
        noise: Variance per row, ``(*batch, r)``.

    Returns:
        `Conditioned`, with ``cholesky`` the square roots of ``d``, ``(*batch, r)``, and
        ``factor`` the non-zero entries of ``V`` in the order of ``weights``, ``(*batch, p)``.
    """
    count, r = weights.shape[-1], target.shape[-1]
    cells = order if order.numel() else torch.arange(count, device=weights.device)
    owner = torch.repeat_interleave(torch.arange(r, device=weights.device), offsets.diff())
    place = torch.zeros(r, count, mean.shape[-1], dtype=weights.dtype, device=weights.device)
    place[owner, torch.arange(count, device=weights.device), cells] = 1
    rows = torch.einsum("...p,rpn->...rn", weights, place)
    dense = condition_diagonal(mean, variance, rows, target, noise, factor=True)
    return dense._replace(
        factor=dense.factor[..., owner, cells],
        cholesky=dense.cholesky.diagonal(dim1=-2, dim2=-1),
    )
