# SPDX-License-Identifier: Apache-2.0
"""Condition a Gaussian with independent points on linear rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops import _cuda, _formulas
from physcon_ext.ops._arguments import as_noise, broadcast, check_tensors
from physcon_ext.ops._autograd import (
    Operation,
    make_differentiable,
    register_autocast,
    register_vmap,
)
from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.reference.results import Conditioned


_OP = "condition_diagonal"
_NAME = "physcon::condition_diagonal"
_BACKWARD = "physcon::condition_diagonal_backward"


def _by_kernel(
    mean: Tensor,
    variance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor | float,
    *,
    covariance: bool = False,
    **_: Any,
) -> bool:
    """Whether kernels read and write the numbers of this call in their 16 bits."""
    given = [variance, rows, target, *([noise] if isinstance(noise, Tensor) else [])]
    exact = isinstance(noise, Tensor) or noise == 0  # as a 16-bit number
    if covariance or not exact:
        return False
    if not all(isinstance(t, Tensor) and t.dtype == mean.dtype for t in given) or rows.ndim < 2:
        return False
    return all(_cuda.has_kernel(op, mean, rows.shape[-2]) for op in (_OP, f"{_OP}_backward"))


@stored(_NAME, _by_kernel)
def condition_diagonal(
    mean: Tensor,
    variance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor | float,
    *,
    factor: bool = False,
    covariance: bool = False,
) -> Conditioned:
    r"""Condition ``N(mean, diag(variance))`` on ``target = rows u + N(0, noise)``.

    .. math::
        m' = m + S G^T A^{-1} (b - G m), \quad S' = S - V^T V, \quad
        A = G S G^T + R = L L^T, \quad V = L^{-1} G S

    Args:
        mean: ``m``, shape ``(*batch, n)``, ``n >= 1``, any floating dtype, in the unit of ``u``.
        variance: Prior variance of each point, ``(*batch, n)``, ``>= 0``, unit squared.
        rows: ``G``, ``(r, n)`` shared by the batch or ``(*batch, r, n)``, ``r >= 1``.
        target: ``b``, ``(*batch, r)``, in the unit of ``G u``.
        noise: ``R``: one variance, a variance per row ``(*batch, r)``, or an SPD matrix
            ``(*batch, r, r)`` (one axis more than ``target``); 0 makes the rows exact.
        factor: Return ``V`` as well, ``(*batch, r, n)``.
        covariance: Return the dense ``S'`` as well, ``(*batch, n, n)``, and ``V``.

    Returns:
        `Conditioned`. What was not asked for has an axis of length 0. ``info`` says what became
        of every row; nothing is raised for rows that contradict each other.

    Raises:
        TypeError: If an argument is not a floating tensor, or dtypes differ.
        ValueError: If shapes do not fit or no kernel exists for the device.

    Notes:
        Storage: a bfloat16 or float16 ``mean``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument. Inside ``torch.autocast`` the result is float32.
        Conservation: ``|G m' - b| <= 8 eps (|G| |m'| + |b|)`` per exact row, ``eps`` of the dtype.
        Sums of rank size are float64 for either dtype. Float64 input, and float32 input with nearly
        dependent rows, is corrected until the bound holds.
        Determinism: the same bits for any number of threads and any split of the batch; the
        gradient through ``covariance`` ends in a PyTorch matrix product, which is reproducible for
        a fixed number of threads.
        Cost: two passes over the points, ``2 n r^2`` flops, ``O(r^2)`` extra memory per thread.

    Example:
        >>> one = torch.ones(2)
        >>> condition_diagonal(torch.zeros(2), one, one[None], torch.tensor([2.0]), 0.0).mean
        tensor([1., 1.])
    """
    noise = as_noise(_NAME, noise, target)
    mean, variance, rows, target, noise = check_tensors(
        _NAME, mean=mean, variance=variance, rows=rows, target=target, noise=noise
    )
    arguments = fit(_NAME, mean, rows, target, noise, variance=variance)
    return Conditioned(*_apply(*arguments, factor, covariance))


def fit(
    op: str, mean: Tensor, rows: Tensor, target: Tensor, noise: Tensor, **points: Tensor
) -> list[Tensor]:
    """Broadcast ``mean, *points, rows, target, noise`` against each other."""
    shape, observed, wide = mean.shape, target.shape, rows.shape
    axes, rows_axes = len(shape), len(wide)
    if axes < 1 or shape[-1] < 1:
        raise ValueError(f"{op}: expected mean to have shape (..., n), n >= 1, got {tuple(shape)}")
    if rows_axes < 2 or wide[-2] < 1:
        raise ValueError(
            f"{op}: expected rows to have shape (..., r, n), r >= 1, got {tuple(wide)}"
        )
    n, r = shape[-1], wide[-2]
    # Ranks first: tuples of unlike lengths are compared by their leading sizes, and a traced
    # program would be bound to a batch that differs from r.
    if len(observed) == noise.ndim == axes:
        batch = shape[:-1]
        if (
            observed == (*batch, r)
            and noise.shape == observed
            and wide == ((r, n) if rows_axes == 2 else (*batch, r, n))
        ):
            for value in points.values():
                if value.ndim != axes or value.shape != shape:
                    break
            else:
                return [mean, *points.values(), rows, target, noise]  # nothing to expand
    matrix = noise.ndim == target.ndim + 1
    if noise.ndim == 0:
        noise = noise.expand(target.shape)
    return broadcast(
        op,
        mean=(mean, (n,), False),
        **{name: (value, (n,), False) for name, value in points.items()},
        rows=(rows, (r, n), True),
        target=(target, (r,), False),
        noise=(noise, (r, r) if matrix else (r,), False),
    )


def noise_gradient(full: Tensor, noise: Tensor, target: Tensor) -> Tensor:
    """The gradient of a noise matrix, or its diagonal for a variance per row."""
    return full if noise.ndim > target.ndim else full.diagonal(dim1=-2, dim2=-1)


def both_sides(factor: Tensor, grad: Tensor) -> Tensor:
    """``V (Q + Q^T)``: what ``V^T V`` hands back to ``V``, without an ``n x n`` temporary."""
    return factor @ grad + factor @ grad.mT


def _adjoint(
    inputs: Sequence[Tensor],
    flags: tuple[Any, ...],
    outputs: Sequence[Tensor],
    upstream: Sequence[Tensor | None],
    needed: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    mean, variance, rows, target, noise = inputs
    _, _, factor, covariance, cholesky, multipliers, _ = outputs
    grad_mean, grad_variance, grad_factor, grad_covariance = upstream
    grad_mean = torch.zeros_like(mean) if grad_mean is None else grad_mean
    grad_variance = torch.zeros_like(mean) if grad_variance is None else grad_variance
    if grad_covariance is not None and covariance.shape[-2]:
        # S' = diag(s) - V' V. Its diagonal is the variance output, the rest goes through V.
        diagonal = grad_covariance.diagonal(dim1=-2, dim2=-1)
        through = 2 * factor * diagonal[..., None, :] - both_sides(factor, grad_covariance)
        grad_factor = through if grad_factor is None else grad_factor + through
        grad_variance = grad_variance + diagonal
    *grads, noise_bar = torch.ops.physcon.condition_diagonal_backward(
        grad_mean,
        grad_variance,
        grad_factor if factor.shape[-2] else None,
        mean,
        variance,
        rows,
        target,
        noise,
        cholesky,
        multipliers,
        needed[2],
    )
    return (*grads, noise_gradient(noise_bar, noise, target) if needed[4] else noise_bar)


def _formula(
    inputs: Sequence[Tensor], flags: tuple[Any, ...], outputs: Sequence[Tensor]
) -> Callable[..., tuple[Tensor, ...]]:
    kept, dtype = _formulas.kept_rows(outputs[4]), inputs[0].dtype
    factor, covariance = flags

    def function(
        mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
    ) -> tuple[Tensor, ...]:
        cross = rows.double() * variance.double()[..., None, :]
        m, v, f = _formulas.condition(mean, variance, cross, rows, target, noise, kept)
        dense = torch.diag_embed(variance.double()) - f.mT @ f if covariance else f[..., :0, :]
        f = f if factor or covariance else f[..., :0, :]
        return m.to(dtype), v.to(dtype), f.to(dtype), dense.to(dtype)

    return function


@register_fake(_NAME)
def _fake(
    mean: Tensor,
    variance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    factor: bool,
    covariance: bool,
) -> tuple[Tensor, ...]:
    batch, n, r = mean.shape[:-1], mean.shape[-1], rows.shape[-2]
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        mean.new_empty(*batch, r if factor or covariance else 0, n),
        mean.new_empty(*batch, n if covariance else 0, n),
        *fake_rank_sized(mean, r),
    )


def fake_rank_sized(mean: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of cholesky, multipliers and info."""
    batch = mean.shape[:-1]
    return (
        mean.new_empty(*batch, r, r, dtype=torch.float64),
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
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    cholesky: Tensor,
    multipliers: Tensor,
    rows_needed: bool,
) -> tuple[Tensor, ...]:
    r = rows.shape[-2]
    return (
        mean.new_empty(mean.shape),
        mean.new_empty(mean.shape),
        fake_rows(mean, rows, rows_needed),
        mean.new_empty(target.shape),
        mean.new_empty(*target.shape, r),
    )


def fake_rows(mean: Tensor, rows: Tensor, needed: bool) -> Tensor:
    """Shape of the gradient of the rows: shared like the rows, empty when not needed."""
    if needed and rows.ndim == 2:
        return mean.new_empty(rows.shape)
    return mean.new_empty(*mean.shape[:-1], rows.shape[-2] if needed else 0, mean.shape[-1])


_apply = make_differentiable(
    Operation(_NAME, tensors=5, differentiable=5, outputs=4, adjoint=_adjoint, formula=_formula)
)
register_autocast(_NAME)
register_vmap(_NAME, shared={2: 2})
register_vmap(_BACKWARD, shared={5: 2}, points=3, summed={2: 5})
