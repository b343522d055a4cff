# SPDX-License-Identifier: Apache-2.0
"""Condition a Gaussian with a dense covariance on linear rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops import _formulas
from physcon_ext.ops._arguments import as_noise, broadcast, check_tensors
from physcon_ext.ops._autograd import (
    Operation,
    make_differentiable,
    register_autocast,
    register_vmap,
    sum_batch,
    transformed,
)
from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.ops.condition_diagonal import fake_rank_sized, fit, noise_gradient
from physcon_ext.reference.results import Conditioned


_NAME = "physcon::condition_dense"


@stored(_NAME)
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
    r"""Condition ``N(mean, S)`` with a dense ``S`` on ``target = rows u + N(0, noise)``.

    .. math::
        m' = m + S G^T A^{-1} (b - G m), \quad S' = S - V^T V, \quad
        A = G S G^T + R = L L^T, \quad V = L^{-1} G S

    Args:
        mean: ``m``, ``(*batch, n)``, any floating dtype.
        prior_covariance: ``S``, ``(*batch, n, n)``, symmetric positive semi-definite.
        rows: ``G``, ``(r, n)`` shared or ``(*batch, r, n)``.
        target: ``b``, ``(*batch, r)``.
        noise: ``R``: one variance, a variance per row, or an SPD matrix ``(*batch, r, r)``.
        factor: Return ``V``, ``(*batch, r, n)``; otherwise that output is empty.
        covariance: Return ``S'``, ``(*batch, n, n)``; otherwise that output is empty.

    Returns:
        `Conditioned`. ``S'`` is exactly symmetric when ``S`` is.

    Raises:
        TypeError: If an argument is not a floating tensor, or dtypes differ.
        ValueError: If shapes do not fit or no kernel exists for the device.

    Notes:
        Storage: a bfloat16 or float16 ``mean``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument. Inside ``torch.autocast`` the result is float32.
        Cost: two reads and one write of ``S``, ``4 n^2 r`` flops; never ``n^3``.
        Conservation and determinism: as `condition_diagonal`; gradients end in PyTorch matrix
        products, which are reproducible for a fixed number of threads.

    Example:
        >>> s = torch.tensor([[4.0, 2.0], [2.0, 4.0]])
        >>> g = torch.tensor([[1.0, 0.0]])
        >>> condition_dense(torch.zeros(2), s, g, torch.ones(1), 0.0).covariance
        tensor([[0., 0.],
                [0., 3.]])
    """
    noise = as_noise(_NAME, noise, target)
    mean, prior, rows, target, noise = check_tensors(
        _NAME,
        mean=mean,
        prior_covariance=prior_covariance,
        rows=rows,
        target=target,
        noise=noise,
    )
    mean, rows, target, noise = fit(_NAME, mean, rows, target, noise)
    n, r = mean.shape[-1], rows.shape[-2]
    mean, prior, target = broadcast(
        _NAME,
        mean=(mean, (n,), False),
        prior_covariance=(prior, (n, n), False),
        target=(target, (r,), False),
    )
    noise = noise.expand(*target.shape, *noise.shape[target.ndim :])
    m, v, f, dense, _, cholesky, multipliers, info = _apply(
        mean, prior, rows, target, noise, covariance
    )
    return Conditioned(m, v, f if factor else f[..., :0, :], dense, cholesky, multipliers, info)


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part: what a symmetric matrix sees of a gradient."""
    return (matrix + matrix.mT) / 2


def _adjoint(
    inputs: Sequence[Tensor],
    flags: tuple[Any, ...],
    outputs: Sequence[Tensor],
    upstream: Sequence[Tensor | None],
    needed: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    mean, prior, rows, target, noise = inputs
    _, _, factor, dense, cross, cholesky, multipliers, _ = outputs
    grad_mean, grad_variance, grad_factor, grad_covariance = upstream
    through = torch.zeros_like(factor) if grad_factor is None else grad_factor
    total = None
    if grad_covariance is not None and dense.shape[-2]:
        total = (grad_covariance + grad_covariance.mT).contiguous()
        through = through - factor @ total
    if grad_variance is not None:
        through = through - 2 * factor * grad_variance[..., None, :]
    zero = torch.zeros_like(mean)
    mean_bar, _, cross_bar, rows_bar, target_bar, noise_bar = (
        torch.ops.physcon.condition_cross_backward(
            zero if grad_mean is None else grad_mean,
            zero,
            through,
            mean,
            prior.diagonal(dim1=-2, dim2=-1),
            cross,
            rows,
            target,
            noise,
            cholesky,
            multipliers,
            needed[2],
        )
    )
    # C = G S and S' = S - V' V, S symmetric; the variance output is the diagonal of S'. The
    # symmetric part of G' C + Q is made in the one n x n array that holds Q + Q'.
    g = rows.expand_as(cross_bar)
    left, right = torch.cat([g, cross_bar], -2).mT, torch.cat([cross_bar, g], -2)
    if total is None:
        prior_bar = left @ (right / 2)
    elif transformed():  # the product in place has no rule for batches
        prior_bar = (total + left @ right) / 2
    else:
        count, (k, n) = math.prod(right.shape[:-2]), right.shape[-2:]
        total.view(count, n, n).baddbmm_(
            left.reshape(count, n, k), right.view(count, k, n), beta=0.5, alpha=0.5
        )
        prior_bar = total
    if grad_variance is not None:
        prior_bar = prior_bar + torch.diag_embed(grad_variance)
    if needed[2]:
        rows_bar = rows_bar + sum_batch(cross_bar @ prior, rows)
    return (
        mean_bar,
        prior_bar,
        rows_bar,
        target_bar,
        noise_gradient(noise_bar, noise, target),
    )


def _formula(
    inputs: Sequence[Tensor], flags: tuple[Any, ...], outputs: Sequence[Tensor]
) -> Callable[..., tuple[Tensor, ...]]:
    kept, dtype = _formulas.kept_rows(outputs[5]), inputs[0].dtype
    (covariance,) = flags

    def function(
        mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
    ) -> tuple[Tensor, ...]:
        s = symmetric(prior.double())
        m, v, f = _formulas.condition(
            mean, s.diagonal(dim1=-2, dim2=-1), rows.double() @ s, rows, target, noise, kept
        )
        dense = s - f.mT @ f if covariance else f[..., :0, :]
        return m.to(dtype), v.to(dtype), f.to(dtype), dense.to(dtype)

    return function


@register_fake(_NAME)
def _fake(
    mean: Tensor,
    prior_covariance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    covariance: bool,
) -> tuple[Tensor, ...]:
    batch, n, r = mean.shape[:-1], mean.shape[-1], rows.shape[-2]
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(*batch, r, n),
        mean.new_empty(*batch, n if covariance else 0, n),
        mean.new_empty(*batch, r, n),
        *fake_rank_sized(mean, r),
    )


_apply = make_differentiable(
    Operation(_NAME, tensors=5, differentiable=5, outputs=4, adjoint=_adjoint, formula=_formula)
)
register_autocast(_NAME)
register_vmap(_NAME, shared={2: 2})
