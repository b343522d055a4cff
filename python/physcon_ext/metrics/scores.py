# SPDX-License-Identifier: Apache-2.0
"""Proper scores of a predicted distribution."""

import math

import torch
from torch import Tensor

from physcon_ext.covariance.base import LOG_2PI
from physcon_ext.metrics.common import checked, finish, mean_over_points


def nll(
    mean: Tensor,
    variance: Tensor,
    truth: Tensor,
    *,
    weights: Tensor | None = None,
    reduce: bool = True,
) -> Tensor:
    r"""Negative log likelihood per point, :math:`-\log N(u_i; m_i, v_i)`, mean over points.

    Args:
        mean: ``(..., n)``.
        variance: Marginal variance, ``(..., n)``. A point with variance 0 scores ``inf``, or
            ``-inf`` where mean and truth agree.
        truth: ``(..., n)``.
        weights: Cell volumes for a weighted mean over points.
        reduce: Return the mean over items; else one value per item.
    """
    m, v, u = checked("nll", mean=mean, variance=variance, truth=truth)
    certain = v == 0
    safe = torch.where(certain, 1.0, v)
    value = 0.5 * ((u - m).square() / safe + safe.log() + LOG_2PI)
    limit = torch.where(u == m, -torch.inf, torch.inf)
    return finish(mean_over_points(torch.where(certain, limit, value), weights), reduce, mean)


def log_likelihood(
    mean: Tensor,
    variance: Tensor,
    truth: Tensor,
    *,
    weights: Tensor | None = None,
    reduce: bool = True,
) -> Tensor:
    """Marginal log likelihood per point: ``-nll``."""
    return -nll(mean, variance, truth, weights=weights, reduce=reduce)


def crps_gaussian(
    mean: Tensor,
    variance: Tensor,
    truth: Tensor,
    *,
    weights: Tensor | None = None,
    reduce: bool = True,
) -> Tensor:
    r"""Continuous ranked probability score of Gaussian marginals, mean over points.

    .. math:: \sigma [z (2 \Phi(z) - 1) + 2 \varphi(z) - 1 / \sqrt\pi], \qquad z = (u - m) / \sigma

    with the limit :math:`|u - m|` at :math:`\sigma = 0`. Arguments as in `nll`.
    """
    m, v, u = checked("crps_gaussian", mean=mean, variance=variance, truth=truth)
    certain = v == 0
    sd = torch.where(certain, 1.0, v).sqrt()
    z = (u - m) / sd
    density = torch.exp(-0.5 * z.square()) * math.sqrt(2 / math.pi)  # 2 phi(z)
    value = sd * (z * torch.erf(z / math.sqrt(2)) + density - 1 / math.sqrt(math.pi))
    value = torch.where(certain, (u - m).abs(), value)
    return finish(mean_over_points(value, weights), reduce, mean)


def crps_ensemble(
    samples: Tensor,
    truth: Tensor,
    *,
    fair: bool = True,
    weights: Tensor | None = None,
    reduce: bool = True,
) -> Tensor:
    r"""Continuous ranked probability score of an ensemble, mean over points.

    .. math:: \frac1M \sum_m |x_m - u| - \frac1{2 M (M - 1)} \sum_{m,l} |x_m - x_l|

    Args:
        samples: ``(M, ..., n)``, as `GaussianField.sample` returns them.
        truth: ``(..., n)``.
        fair: Divide by ``M (M - 1)``, unbiased for a finite ensemble; else by ``M^2``.
        weights: Cell volumes for a weighted mean over points.
        reduce: Return the mean over items; else one value per item.

    Notes:
        Sorted, O(M log M). One member scores its absolute error.
    """
    x, u = checked("crps_ensemble", samples=samples, truth=truth)
    count = x.shape[0]
    ordered = x.sort(dim=0).values
    rank = torch.arange(1 - count, count, 2, dtype=x.dtype, device=x.device)
    rank = rank.reshape(-1, *(1,) * (x.ndim - 1))
    pairs = count * max(count - 1, 1) if fair else count**2
    value = (x - u).abs().mean(0) - (rank * ordered).sum(0) / pairs
    return finish(mean_over_points(value, weights), reduce, samples)


def energy_score(
    samples: Tensor,
    truth: Tensor,
    *,
    fair: bool = True,
    weights: Tensor | None = None,
    reduce: bool = True,
) -> Tensor:
    r"""Energy score, the multivariate CRPS over all points of an item.

    .. math:: \frac1M \sum_m \|x_m - u\| - \frac1{2 M (M - 1)} \sum_{m,l} \|x_m - x_l\|

    Args:
        samples: ``(M, ..., n)``.
        truth: ``(..., n)``.
        fair: Unbiased pairs, as in `crps_ensemble`.
        weights: Cell volumes ``v`` of the norm :math:`\sqrt{\sum v_i x_i^2}`.
        reduce: Return the mean over items; else one value per item.

    Notes:
        All pairs, O(M^2 n).
    """
    x, u = checked("energy_score", samples=samples, truth=truth)
    if weights is not None:
        root = weights.double().sqrt()
        x, u = x * root, u * root
    count = x.shape[0]
    members = x.movedim(0, -2)
    distance = torch.linalg.vector_norm(members - u[..., None, :], dim=-1).mean(-1)
    spread = torch.cdist(members, members, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = count * max(count - 1, 1) if fair else count**2
    return finish(distance - spread.sum((-2, -1)) / (2 * pairs), reduce, samples)
