# SPDX-License-Identifier: Apache-2.0
"""Condition a Gaussian with independent points on soft rows over three neighbouring points."""

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
    sum_batch,
)
from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.reference.results import ConditionedBanded


_NAME = "physcon::condition_banded"
_BACKWARD = "physcon::condition_banded_backward"


@stored(_NAME)
def condition_banded(
    mean: Tensor, variance: Tensor, stencil: Tensor, target: Tensor, noise: Tensor | float
) -> ConditionedBanded:
    r"""Condition ``N(mean, diag(variance))`` on three-point rows, in ``O(n)``.

    .. math::
        t_k = \sum_{i=0}^{2} c_{ki}\, u_{k+i} + \varepsilon_k, \quad
        \varepsilon_k \sim N(0, v_k), \quad k = 0 \dots n - 3

    Args:
        mean: ``(*batch, n)``, ``n >= 3``, any floating dtype.
        variance: ``(*batch, n)``, ``>= 0``; a point of variance 0 keeps its mean.
        stencil: ``c``, ``(n - 2, 3)`` shared or ``(*batch, n - 2, 3)``; ``1, -2, 1`` are second
            differences.
        target: ``t``, ``(*batch, n - 2)``.
        noise: ``v``, ``(*batch, n - 2)``, ``> 0``.

    Returns:
        `ConditionedBanded`: mean, variance, Cholesky bands, multipliers, info.

    Raises:
        TypeError: If an argument is not a floating tensor, or dtypes differ.
        ValueError: If shapes do not fit or no kernel exists for the device.

    Notes:
        Storage: a bfloat16 or float16 ``mean``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument. Inside ``torch.autocast`` the result is float32.
        Pentadiagonal Cholesky factor and selected inverse in float64, one thread per item.
        Second derivatives form an ``n x n`` matrix.
    """
    noise = as_noise(_NAME, noise, target)
    mean, variance, stencil, target, noise = check_tensors(
        _NAME, mean=mean, variance=variance, stencil=stencil, target=target, noise=noise
    )
    if mean.ndim < 1 or mean.shape[-1] < 3:
        raise ValueError(
            f"{_NAME}: expected mean to have shape (..., n), n >= 3, got {tuple(mean.shape)}"
        )
    n = mean.shape[-1]
    noise = noise.expand(n - 2) if noise.ndim == 0 else noise
    arguments = broadcast(
        _NAME,
        mean=(mean, (n,), False),
        variance=(variance, (n,), False),
        stencil=(stencil, (n - 2, 3), True),
        target=(target, (n - 2,), False),
        noise=(noise, (n - 2,), False),
    )
    return ConditionedBanded(*_apply(*arguments))


def _adjoint(
    inputs: Sequence[Tensor],
    flags: tuple[Any, ...],
    outputs: Sequence[Tensor],
    upstream: Sequence[Tensor | None],
    needed: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    mean, stencil = inputs[0], inputs[2]
    grad_mean, grad_variance = upstream
    posterior, _, band, multipliers, _ = outputs
    mean_bar, variance_bar, stencil_bar, target_bar, noise_bar = (
        torch.ops.physcon.condition_banded_backward(
            torch.zeros_like(mean) if grad_mean is None else grad_mean,
            torch.zeros_like(mean) if grad_variance is None else grad_variance,
            *inputs,
            posterior,
            band,
            multipliers,
        )
    )
    return mean_bar, variance_bar, sum_batch(stencil_bar, stencil), target_bar, noise_bar


def _formula(
    inputs: Sequence[Tensor], flags: tuple[Any, ...], outputs: Sequence[Tensor]
) -> Callable[..., tuple[Tensor, ...]]:
    dtype = inputs[0].dtype

    def function(*arguments: Tensor) -> tuple[Tensor, ...]:
        return tuple(result.to(dtype) for result in _formulas.condition_banded(*arguments))

    return function


@register_fake(_NAME)
def _fake(
    mean: Tensor, variance: Tensor, stencil: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    batch, n = mean.shape[:-1], mean.shape[-1]
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(*batch, 3, n, dtype=torch.float64),
        mean.new_empty(target.shape, dtype=torch.float64),
        mean.new_empty(*batch, 1, dtype=torch.int32),
    )


@register_fake(_BACKWARD)
def _fake_backward(
    grad_mean: Tensor,
    grad_variance: Tensor,
    mean: Tensor,
    variance: Tensor,
    stencil: Tensor,
    target: Tensor,
    noise: Tensor,
    mean_posterior: Tensor,
    band: Tensor,
    multipliers: Tensor,
) -> tuple[Tensor, ...]:
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(*target.shape, 3),
        mean.new_empty(target.shape),
        mean.new_empty(target.shape),
    )


_apply = make_differentiable(
    Operation(_NAME, tensors=5, differentiable=5, outputs=2, adjoint=_adjoint, formula=_formula)
)
register_autocast(_NAME)
register_vmap(_NAME, shared={2: 2})
register_vmap(_BACKWARD, shared={4: 2}, points=2)
