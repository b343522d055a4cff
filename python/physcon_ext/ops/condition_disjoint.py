# SPDX-License-Identifier: Apache-2.0
"""Condition a Gaussian with independent points on rows of which no two share a point."""

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
from physcon_ext.reference.results import Conditioned


_NAME = "physcon::condition_disjoint"
_BACKWARD = "physcon::condition_disjoint_backward"


@stored(_NAME)
def condition_disjoint(
    mean: Tensor,
    variance: Tensor,
    weights: Tensor,
    order: Tensor,
    offsets: Tensor,
    target: Tensor,
    noise: Tensor | float,
) -> Conditioned:
    r"""Condition ``N(mean, diag(variance))`` on rows with disjoint support, in ``O(n)``.

    .. math::
        d_k = R_k + \sum_{i \in k} w_i^2 s_i, \quad m'_i = m_i + w_i s_i e_k / d_k, \quad
        s'_i = s_i (1 - w_i^2 s_i / d_k)

    Args:
        mean: ``(*batch, n)``, any floating dtype.
        variance: ``(*batch, n)``, ``>= 0``.
        weights: Weights of the listed points, ``(p,)`` shared or ``(*batch, p)``.
        order: Row ``k`` holds the points ``order[offsets[k] : offsets[k + 1]]``; ``(p,)`` int64.
            An empty tensor means ``0, 1, ..., p - 1``.
        offsets: ``(r + 1,)`` int64, ascending from 0 to ``p``.
        target: ``b``, ``(*batch, r)``.
        noise: One variance, or a variance per row ``(*batch, r)``.

    Returns:
        `Conditioned` with ``cholesky`` the roots of ``d``, ``(*batch, r)``, and ``factor`` the
        non-zero entries of ``V`` in the order of ``weights``, ``(*batch, p)``.

    Raises:
        TypeError: If an argument is not a floating tensor, or dtypes differ.
        ValueError: If shapes do not fit, devices differ or no kernel exists for the device.
        RuntimeError: If ``order`` and ``offsets`` do not describe disjoint rows.

    Notes:
        Storage: a bfloat16 or float16 ``mean``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument. Inside ``torch.autocast`` the result is float32.
        Conservation and determinism: as `condition_diagonal`. Points outside every row keep
        mean and variance.

    Example:
        >>> one, none = torch.ones(4), torch.empty(0, dtype=torch.int64)
        >>> edges = torch.tensor([0, 2, 4])
        >>> condition_disjoint(0 * one, one, one, none, edges, torch.tensor([2.0, 4.0]), 0.0).mean
        tensor([1., 1., 2., 2.])
    """
    noise = as_noise(_NAME, noise, target)
    mean, variance, weights, target, noise = check_tensors(
        _NAME, mean=mean, variance=variance, weights=weights, target=target, noise=noise
    )
    for name, index in (("order", order), ("offsets", offsets)):
        if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1:
            raise TypeError(f"{_NAME}: expected {name} to be an int64 tensor with one axis")
        if index.device != mean.device and not mean.is_meta:  # shapes alone ask for no indices
            raise ValueError(
                f"{_NAME}: expected {name} and mean to be on the same device, "
                f"got {index.device} and {mean.device}"
            )
    if weights.ndim < 1 or mean.ndim < 1 or offsets.numel() < 2:
        raise ValueError(
            f"{_NAME}: expected mean (..., n), weights (..., p) and at least 2 offsets, got "
            f"{tuple(mean.shape)}, {tuple(weights.shape)} and {offsets.numel()}"
        )
    n, p, r = mean.shape[-1], weights.shape[-1], offsets.numel() - 1
    noise = noise.expand(r) if noise.ndim == 0 else noise
    mean, variance, weights, target, noise = broadcast(
        _NAME,
        mean=(mean, (n,), False),
        variance=(variance, (n,), False),
        weights=(weights, (p,), True),
        target=(target, (r,), False),
        noise=(noise, (r,), False),
    )
    m, v, f, cholesky, multipliers, info = _apply(
        mean, variance, weights, target, noise, order, offsets
    )
    empty = mean.new_empty(*mean.shape[:-1], 0, n)
    return Conditioned(m, v, f, empty, cholesky, multipliers, info)


def _adjoint(
    inputs: Sequence[Tensor],
    flags: tuple[Any, ...],
    outputs: Sequence[Tensor],
    upstream: Sequence[Tensor | None],
    needed: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    mean, variance, weights, target, noise, order, offsets = inputs
    *_, cholesky, multipliers, _ = outputs
    grad_mean, grad_variance, grad_factor = upstream
    zero = torch.zeros_like(mean)
    mean_bar, variance_bar, weights_bar, target_bar, noise_bar = (
        torch.ops.physcon.condition_disjoint_backward(
            zero if grad_mean is None else grad_mean,
            zero if grad_variance is None else grad_variance,
            grad_factor,
            mean,
            variance,
            weights,
            order,
            offsets,
            target,
            noise,
            cholesky,
            multipliers,
        )
    )
    return mean_bar, variance_bar, sum_batch(weights_bar, weights), target_bar, noise_bar


def _formula(
    inputs: Sequence[Tensor], flags: tuple[Any, ...], outputs: Sequence[Tensor]
) -> Callable[..., tuple[Tensor, ...]]:
    order, offsets = inputs[5:]
    kept, dtype = outputs[3].isfinite().double(), inputs[0].dtype

    def function(
        mean: Tensor, variance: Tensor, weights: Tensor, target: Tensor, noise: Tensor
    ) -> tuple[Tensor, ...]:
        results = _formulas.condition_disjoint(
            mean, variance, weights, order, offsets, target, noise, kept
        )
        return tuple(result.to(dtype) for result in results)

    return function


@register_fake(_NAME)
def _fake(
    mean: Tensor,
    variance: Tensor,
    weights: Tensor,
    target: Tensor,
    noise: Tensor,
    order: Tensor,
    offsets: Tensor,
) -> tuple[Tensor, ...]:
    batch, r = mean.shape[:-1], target.shape[-1]
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(*batch, weights.shape[-1]),
        mean.new_empty(*batch, r, dtype=torch.float64),
        mean.new_empty(*batch, r, dtype=torch.float64),
        mean.new_empty(*batch, r, dtype=torch.int32),
    )


@register_fake(_BACKWARD)
def _fake_backward(
    grad_mean: Tensor,
    grad_variance: Tensor,
    grad_factor: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    weights: Tensor,
    order: Tensor,
    offsets: Tensor,
    target: Tensor,
    noise: Tensor,
    cholesky: Tensor,
    multipliers: Tensor,
) -> tuple[Tensor, ...]:
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(*mean.shape[:-1], weights.shape[-1]),
        mean.new_empty(target.shape),
        mean.new_empty(target.shape),
    )


_apply = make_differentiable(
    Operation(_NAME, tensors=7, differentiable=5, outputs=3, adjoint=_adjoint, formula=_formula)
)
register_autocast(_NAME)
register_vmap(_NAME, shared={2: 1}, indices=(5, 6))
register_vmap(_BACKWARD, shared={5: 1}, points=3, indices=(6, 7))
