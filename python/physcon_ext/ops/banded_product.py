# SPDX-License-Identifier: Apache-2.0
"""Products with the posterior covariance that `condition_banded` leaves behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops._arguments import broadcast, check_tensors
from physcon_ext.ops._autograd import register_autocast, register_vmap, sum_batch, unrecorded
from physcon_ext.ops._storage import register_fake, stored


_NAME = "physcon::banded_product"
_OP = torch.ops.physcon.banded_product.default


@stored(_NAME)
def banded_product(variance: Tensor, stencil: Tensor, noise: Tensor, x: Tensor) -> Tensor:
    r"""Multiply vectors by the covariance of a Gaussian conditioned on three-point rows.

    .. math:: y = (S^{-1} + D^T R^{-1} D)^{-1} x, \qquad S = \mathrm{diag}(s), zeros allowed

    Args:
        variance: Prior variance ``s``, ``(*batch, n)``, ``n >= 3``.
        stencil: Rows ``D`` as in `condition_banded`, ``(n - 2, 3)`` or ``(*batch, n - 2, 3)``.
        noise: ``R``, ``(*batch, n - 2)``, ``> 0``.
        x: ``k`` vectors per item, ``(*batch, k, n)``.

    Returns:
        ``y``, ``(*batch, k, n)``.

    Raises:
        TypeError: If an argument is not a floating tensor, or dtypes differ.
        ValueError: If shapes do not fit or no kernel exists for the device.

    Notes:
        Storage: a bfloat16 or float16 ``variance``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument. Inside ``torch.autocast`` the result is float32.
        ``O(n k)``, float64 inside. Linear and symmetric in ``x``, so it is its own adjoint; every
        derivative is composed of the op itself.
    """
    variance, stencil, noise, x = check_tensors(
        _NAME, variance=variance, stencil=stencil, noise=noise, x=x
    )
    if variance.ndim < 1 or variance.shape[-1] < 3 or x.ndim < 2:
        raise ValueError(
            f"{_NAME}: expected variance (..., n) with n >= 3 and x (..., k, n), got "
            f"{tuple(variance.shape)} and {tuple(x.shape)}"
        )
    n, k = variance.shape[-1], x.shape[-2]
    arguments = broadcast(
        _NAME,
        variance=(variance, (n,), False),
        stencil=(stencil, (n - 2, 3), True),
        noise=(noise, (n - 2,), False),
        x=(x, (k, n), False),
    )
    if torch.compiler.is_compiling() or unrecorded(arguments):
        return _OP(*arguments)
    return _BandedProduct.apply(*arguments)


@register_fake(_NAME)
def _fake(variance: Tensor, stencil: Tensor, noise: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _differences(stencil: Tensor, x: Tensor) -> Tensor:
    """``D x`` for ``(..., k, n)`` vectors: ``(..., k, n - 2)``."""
    n = x.shape[-1]
    c = stencil[..., None, :, :]
    return c[..., 0] * x[..., : n - 2] + c[..., 1] * x[..., 1 : n - 1] + c[..., 2] * x[..., 2:]


def _spread(stencil: Tensor, y: Tensor) -> Tensor:
    """``D^T y``, the adjoint of `_differences`."""
    c = stencil[..., None, :, :]
    pad = torch.nn.functional.pad
    return pad(c[..., 0] * y, (0, 2)) + pad(c[..., 1] * y, (1, 1)) + pad(c[..., 2] * y, (2, 0))


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)
    ctx.save_for_forward(*inputs)


def _setup_raw(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # S' = (S^-1 + H)^-1, H = D'R^-1 D: dS' = T dS T' - S' dH S' with T = I - S'H.
    variance, stencil, noise, x = ctx.saved_tensors
    need_variance, need_stencil, need_noise, need_x = ctx.needs_input_grad
    w = banded_product(variance, stencil, noise, grad)
    y = banded_product(variance, stencil, noise, x)
    dw, dy = _differences(stencil, w), _differences(stencil, y)
    v = noise[..., None, :]
    variance_bar = stencil_bar = noise_bar = None
    if need_variance:
        left = grad - _spread(stencil, dw / v)
        right = x - _spread(stencil, dy / v)
        variance_bar = (left * right).sum(-2)
    if need_stencil:
        n = x.shape[-1]
        parts = [
            -(dy / v * w[..., i : n - 2 + i] + dw / v * y[..., i : n - 2 + i]).sum(-2)
            for i in range(3)
        ]
        stencil_bar = sum_batch(torch.stack(parts, -1), stencil)
    if need_noise:
        noise_bar = (dw * dy).sum(-2) / noise**2
    return variance_bar, stencil_bar, noise_bar, w if need_x else None


class _BandedProduct(torch.autograd.Function):
    """The op as ``torch.func`` and forward mode see it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(variance: Tensor, stencil: Tensor, noise: Tensor, x: Tensor) -> Tensor:
        return _OP(variance, stencil, noise, x)

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_backward)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        variance, stencil, noise, x = ctx.saved_tensors
        ds, dc, dv, dx = (
            torch.zeros_like(t) if d is None else d
            for t, d in zip(ctx.saved_tensors, tangents, strict=True)
        )
        y = banded_product(variance, stencil, noise, x)
        d, v = _differences(stencil, y), noise[..., None, :]
        pull = ds[..., None, :] * (x - _spread(stencil, d / v))
        change = (
            _spread(dc, d / v)
            + _spread(stencil, _differences(dc, y) / v)
            - _spread(stencil, d * dv[..., None, :] / v**2)
        )
        lost = change + _spread(stencil, _differences(stencil, pull) / v)
        return banded_product(variance, stencil, noise, dx - lost) + pull


torch.library.register_autograd(_NAME, _backward, setup_context=_setup_raw)
register_autocast(_NAME)
register_vmap(_NAME, shared={1: 2})
