# SPDX-License-Identifier: Apache-2.0
"""Is the predicted uncertainty as large as the errors, and where the errors are?"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from physcon_ext.metrics.common import (
    check_level,
    check_one_of,
    checked,
    finish,
)


Levels = Literal["central", "quantile"]
Method = Literal["pearson", "spearman"]


def coverage(
    mean: Tensor, variance: Tensor, truth: Tensor, *, level: float = 0.95, reduce: bool = True
) -> Tensor:
    """Share of points whose truth lies inside the central interval of the level."""
    check_level("coverage", level)
    m, v, u = checked("coverage", mean=mean, variance=variance, truth=truth)
    inside = (u - m).abs() <= _half_width(level) * v.sqrt()
    return finish(inside.double().mean(-1), reduce, mean)


def interval_width(variance: Tensor, *, level: float = 0.95, reduce: bool = True) -> Tensor:
    """Mean width of the central interval of the level, ``2 * 1.96 * sd`` at 0.95 (PIW)."""
    check_level("interval_width", level)
    (v,) = checked("interval_width", variance=variance)
    return finish((2 * _half_width(level) * v.sqrt()).mean(-1), reduce, variance)


def rmsce(
    mean: Tensor,
    variance: Tensor,
    truth: Tensor,
    *,
    levels: Levels = "central",
    interior: bool = True,
) -> Tensor:
    r"""Root mean squared calibration error over the levels :math:`p_j = j / 10`.

    .. math:: \sqrt{\operatorname{mean}_j (\hat p_j - p_j)^2}

    Args:
        mean: ``(..., n)``.
        variance: ``(..., n)``.
        truth: ``(..., n)``.
        levels: ``"central"``: the share of the points of an item inside the central interval
            of probability p, then the mean over items. ``"quantile"``: the share of the items at
            a point that lie below the quantile p, then the mean over points
            (operator-probconserv).
        interior: Leave out the levels 0 and 1, whose error is 0 by definition. Published values
            of the quantile form keep them, which lowers the value by ``sqrt(9 / 11)``.

    Returns:
        One number.
    """
    check_one_of("rmsce", "levels", levels, get_args(Levels))
    m, v, u = checked("rmsce", expand=True, mean=mean, variance=variance, truth=truth)
    p = torch.arange(1, 10, dtype=m.dtype, device=m.device) / 10
    # Probability at or below the truth; at zero variance it jumps from 0 to 1.
    sd = torch.where(v > 0, v, 1.0).sqrt()
    below = 0.5 * (1 + torch.erf((u - m) / (sd * math.sqrt(2))))
    below = torch.where(v > 0, below, torch.where(u == m, 0.5, (u > m).double()))
    place = (2 * below - 1).abs() if levels == "central" else below
    inside = (place[..., None] <= p + 1e-12).double()
    if levels == "central":
        share = inside.mean(-2)
    else:
        share = inside.flatten(0, -3).mean(0) if inside.ndim > 2 else inside
    error = (share - p).square().sum(-1) / (9 if interior else 11)
    return finish(error.sqrt(), True, mean)


def n_merci(mean: Tensor, variance: Tensor, truth: Tensor, *, quantile: float = 0.95) -> Tensor:
    r"""Normalised mean rescaled confidence interval (arXiv 1908.07253); 0 is best.

    .. math:: \frac{\operatorname{mean}_b \lambda s_b - \operatorname{mean}_b e_b}
                   {\max_b e_b - \operatorname{mean}_b e_b}

    with :math:`e_b = \sum_i |m_i - u_i|` and :math:`s_b = \sqrt{\sum_i v_i}` of an item and
    :math:`\lambda` the quantile of :math:`e_b / s_b` over items.

    Args:
        mean: ``(..., n)``, at least two items.
        variance: ``(..., n)``.
        truth: ``(..., n)``.
        quantile: Level of :math:`\lambda`.

    Returns:
        One number; NaN if all items have the same error.
    """
    check_level("n_merci", quantile)
    m, v, u = checked("n_merci", expand=True, mean=mean, variance=variance, truth=truth)
    if m.ndim < 2 or m[..., 0].numel() < 2:
        raise ValueError(f"n_merci: expected at least two items, got shape {tuple(m.shape)}")
    error, spread = (m - u).abs().sum(-1).flatten(), v.sum(-1).sqrt().flatten()
    scale = torch.quantile(error / spread, quantile)
    value = (scale * spread.mean() - error.mean()) / (error.max() - error.mean())
    return finish(value, True, mean)


def variance_error_correlation(
    mean: Tensor,
    variance: Tensor,
    truth: Tensor,
    *,
    method: Method = "pearson",
    reduce: bool = True,
) -> Tensor:
    """Correlation over the points of an item between predicted uncertainty and error.

    ``"pearson"`` of variance and squared error, or ``"spearman"`` (ranks, ties share their mean
    rank, no gradient) of standard deviation and absolute error. NaN if either is constant.
    """
    check_one_of("variance_error_correlation", "method", method, get_args(Method))
    m, v, u = checked(
        "variance_error_correlation", expand=True, mean=mean, variance=variance, truth=truth
    )
    a, b = v, (m - u).square()
    if method == "spearman":
        a, b = _mean_ranks(a), _mean_ranks(b)
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    value = (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return finish(value, reduce, mean)


def _half_width(level: float) -> float:
    """Return z with the standard normal probability of ``|x| <= z`` equal to the level."""
    return math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))


def _mean_ranks(x: Tensor) -> Tensor:
    ordered = x.sort(dim=-1).values.contiguous()
    low = torch.searchsorted(ordered, x.contiguous(), right=False)
    high = torch.searchsorted(ordered, x.contiguous(), right=True)
    return (low + high + 1).double() / 2
