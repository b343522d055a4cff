# SPDX-License-Identifier: Apache-2.0
"""Condition any Gaussian on linear rows, given its variance and its covariance with the rows."""

from __future__ import annotations

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
)
from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.ops.condition_diagonal import fake_rank_sized, fake_rows, fit, noise_gradient
from physcon_ext.reference.results import Conditioned


_NAME = "physcon::condition_cross"
_BACKWARD = "physcon::condition_cross_backward"


@stored(_NAME)
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
    r"""Condition ``N(mean, S)`` on ``target = rows u + N(0, noise)``, given ``diag S`` and ``G S``.

    .. math::
        m' = m + C^T A^{-1} (b - G m), \quad s' = s - \mathrm{colsum}(V \circ V), \quad
        C = G S, \quad A = G C^T + R = L L^T, \quad V = L^{-1} C

    Args:
        mean: ``m``, ``(*batch, n)``, any floating dtype.
        variance: Marginal prior variance ``diag S``, ``(*batch, n)``, ``>= 0``.
        cross: ``C = G S``, ``(*batch, r, n)``. The rows of a low-rank prior ``D + F^T F`` cost
            ``O(n q r)``: ``rows * d + (rows @ F.mT) @ F``.
        rows: ``G``, ``(r, n)`` shared or ``(*batch, r, n)``.
        target: ``b``, ``(*batch, r)``.
        noise: ``R``: one variance, a variance per row, or an SPD matrix ``(*batch, r, r)``.
        factor: Return ``V`` as well, ``(*batch, r, n)``.

    Returns:
        `Conditioned`; ``covariance`` is empty.

    Raises:
        TypeError: If an argument is not a floating tensor, or dtypes differ.
        ValueError: If shapes do not fit or no kernel exists for the device.

    Notes:
        Storage: a bfloat16 or float16 ``mean``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument. Inside ``torch.autocast`` the result is float32.
        Conservation and determinism: as `condition_diagonal`.
        A variance that the rows determine completely is 0 up to ``16 r eps`` of the prior one;
        rounding below zero is returned as 0, since no square root of ``S`` is known here.

    Example:
        >>> s = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
        >>> g = torch.tensor([[1.0, 0.0]])
        >>> condition_cross(torch.zeros(2), s.diagonal(), g @ s, g, torch.ones(1), 0.0).mean
        tensor([1.0000, 0.5000])
    """
    noise = as_noise(_NAME, noise, target)
    mean, variance, cross, rows, target, noise = check_tensors(
        _NAME, mean=mean, variance=variance, cross=cross, rows=rows, target=target, noise=noise
    )
    mean, variance, rows, target, noise = fit(_NAME, mean, rows, target, noise, variance=variance)
    shape = (rows.shape[-2], mean.shape[-1])
    mean, variance, cross, target = broadcast(
        _NAME,
        mean=(mean, shape[1:], False),
        variance=(variance, shape[1:], False),
        cross=(cross, shape, False),
        target=(target, shape[:1], False),
    )
    noise = noise.expand(*target.shape, *noise.shape[target.ndim :])
    result = _apply(mean, variance, cross, rows, target, noise, factor)
    return _with_empty_covariance(result)


def _with_empty_covariance(result: tuple[Tensor, ...]) -> Conditioned:
    mean = result[0]
    empty = mean.new_empty(*mean.shape[:-1], 0, mean.shape[-1])
    return Conditioned._make((*result[:3], empty, *result[3:]))


def _adjoint(
    inputs: Sequence[Tensor],
    flags: tuple[Any, ...],
    outputs: Sequence[Tensor],
    upstream: Sequence[Tensor | None],
    needed: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    mean, variance, cross, rows, target, noise = inputs
    _, _, factor, cholesky, multipliers, _ = outputs
    grad_mean, grad_variance, grad_factor = upstream
    *grads, noise_bar = torch.ops.physcon.condition_cross_backward(
        torch.zeros_like(mean) if grad_mean is None else grad_mean,
        torch.zeros_like(mean) if grad_variance is None else grad_variance,
        grad_factor if factor.shape[-2] else None,
        mean,
        variance,
        cross,
        rows,
        target,
        noise,
        cholesky,
        multipliers,
        needed[3],
    )
    return (*grads, noise_gradient(noise_bar, noise, target))


def _formula(
    inputs: Sequence[Tensor], flags: tuple[Any, ...], outputs: Sequence[Tensor]
) -> Callable[..., tuple[Tensor, ...]]:
    kept, dtype = _formulas.kept_rows(outputs[3]), inputs[0].dtype
    (factor,) = flags

    def function(*arguments: Tensor) -> tuple[Tensor, ...]:
        m, v, f = _formulas.condition(*(*arguments, kept))
        return m.to(dtype), v.to(dtype), (f if factor else f[..., :0, :]).to(dtype)

    return function


@register_fake(_NAME)
def _fake(
    mean: Tensor,
    variance: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    factor: bool,
) -> tuple[Tensor, ...]:
    r = rows.shape[-2]
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(*mean.shape[:-1], r if factor else 0, mean.shape[-1]),
        *fake_rank_sized(mean, r),
    )


@register_fake(_BACKWARD)
def _fake_backward(
    grad_mean: Tensor,
    grad_variance: Tensor,
    grad_factor: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    cholesky: Tensor,
    multipliers: Tensor,
    rows_needed: bool,
) -> tuple[Tensor, ...]:
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(cross.shape),
        fake_rows(mean, rows, rows_needed),
        mean.new_empty(target.shape),
        mean.new_empty(*target.shape, rows.shape[-2]),
    )


_apply = make_differentiable(
    Operation(_NAME, tensors=6, differentiable=6, outputs=3, adjoint=_adjoint, formula=_formula)
)
register_autocast(_NAME)
register_vmap(_NAME, shared={3: 2})
register_vmap(_BACKWARD, shared={6: 2}, points=3, summed={3: 6})
