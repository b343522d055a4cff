# SPDX-License-Identifier: Apache-2.0
"""Spectral convolution: truncated Fourier transform, channel mixing per mode, inverse."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops import _cuda
from physcon_ext.ops._arguments import check_tensors
from physcon_ext.ops._autograd import register_autocast, transformed, unrecorded
from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.ops.composite.spectral import adjoint, as_complex, periods_of, synthesise


_NAME = "physcon::spectral_conv"
_BACKWARD = "physcon::spectral_conv_backward"
_OP = torch.ops.physcon.spectral_conv.default
_BACKWARD_OP = torch.ops.physcon.spectral_conv_backward.default

Pair = tuple[Tensor, Tensor]


def keeps_storage(
    op: str, *, x: Tensor, weight: Tensor, period: float | Sequence[float] | None = None
) -> bool:
    """Whether the kernels of a convolution read and write x and y in their 16 bits."""
    if not isinstance(weight, Tensor) or weight.device != x.device:
        return False
    if weight.dtype not in (x.dtype, torch.float32):
        return False
    periods = check_spectral(op, x, weight, period)
    return _cuda.runs_on_fields(op.removeprefix("physcon::"), x, weight, periods)


@stored(_NAME, functools.partial(keeps_storage, _NAME), field=True)
def spectral_conv(
    x: Tensor, weight: Tensor, *, period: float | Sequence[float] | None = None
) -> Tensor:
    r"""Convolve along the last ``d`` axes with a kernel given by its truncated Fourier transform.

    .. math::
        y = \mathrm{irfft}_P\bigl(W_k^T\, \mathrm{rfft}_P(x)_k\bigr), \quad k < M, \qquad
        W_k \in \mathbb{C}^{in \times out}

    Args:
        x: Real input, ``(*batch, in, N_1, .., N_d)``, ``d`` = 1, 2 or 3, any sizes, float64,
            float32, bfloat16 or float16.
        weight: One matrix per mode, real and imaginary part on the last axis,
            ``(M_1, .., M_d, in, out, 2)``. The last spatial axis holds the wavenumbers
            ``0 .. M - 1``, ``M <= P // 2 + 1``; the others the signed ones
            ``0 .. m - 1, -m .. -1``, ``M = 2 m <= P``.
        period: Fourier period ``P >= N`` in points, one number or one per axis, integer or not;
            ``N`` when not given. A longer period equals zero padding to length ``P`` without
            making the padded array.

    Returns:
        ``(*batch, out, N_1, .., N_d)``, in the dtype of ``x``.

    Raises:
        TypeError: If an argument is not a floating tensor, or dtypes differ.
        ValueError: If shapes do not fit, ``period`` is shorter than the axis, or there are more
            modes than the period has.

    Notes:
        Storage: a bfloat16 or float16 ``x``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument.
        Conservation: the mean over a full period is mapped by ``W_0`` alone.
        Determinism: the same bits for any number of threads; the output and the gradient of ``x``
        do not depend on how the batch is split. The exception: one item of one channel on several
        axes with so many modes that PyTorch transforms them, in another order than several items.
        Cost: about ``N m`` to ``2 N m`` operations per line and transform; half a ``N m`` on a
        single axis whose period is a multiple of 16. Kept for the backward pass: the truncated
        spectrum, ``2 M / N`` of ``x``, and the weight.
        Precision on CUDA: float32 transforms have the accuracy of float32, also where they run on
        the matrix units, with ``torch.set_float32_matmul_precision("highest")``; with ``"high"`` or
        ``"medium"`` those with many modes are rounded to TF32, relative errors near ``1e-3``. The
        mixing and all of float64 never are.
        Linear in ``x`` and in ``weight``; derivatives of every order exist.

    Example:
        >>> identity = torch.tensor([1.0, 0.0]).expand(3, 1, 1, 2)
        >>> y = spectral_conv(torch.tensor([[1.0, 2.0, 4.0, 3.0]]), identity)
        >>> y.round(decimals=3)
        tensor([[1., 2., 4., 3.]])
    """
    given = x
    x, weight = check_tensors(_NAME, x=x, weight=weight)
    periods = check_spectral(_NAME, x, weight, period)
    y = _apply(x, weight, [] if period is None else periods)[0]
    return y.to(given.dtype) if given.dtype != x.dtype else y


def check_spectral(
    op: str, x: Tensor, weight: Tensor, period: float | Sequence[float] | None
) -> list[float]:
    """Return the period per axis, or say which of the arguments does not fit."""
    shape, kept = x.shape, weight.shape
    d = len(kept) - 3
    if not 1 <= d <= 3 or kept[-1] != 2:
        raise ValueError(
            f"{op}: expected weight to have shape (M_1, .., M_d, in, out, 2) with d = 1, 2 or 3, "
            f"got {tuple(kept)}"
        )
    if len(shape) < d + 1 or shape[-d - 1] != kept[-3]:
        raise ValueError(
            f"{op}: expected x to have shape (..., {kept[-3]}, "
            f"{', '.join(f'N_{i + 1}' for i in range(d))}) like weight {tuple(kept)}, "
            f"got {tuple(shape)}"
        )
    if period is None:
        periods = [float(n) for n in shape[-d:]]
    elif isinstance(period, int | float):
        periods = [float(period)] * d
    else:
        periods = [float(p) for p in period]
    if len(periods) != d:
        raise ValueError(
            f"{op}: expected period to be one number or one per axis ({d}), got {len(periods)}"
        )
    for axis, p in enumerate(periods):
        n, m = shape[axis - d], kept[axis]
        if n < 1:
            raise ValueError(
                f"{op}: expected x to have at least 1 point along each axis, got {tuple(shape)}"
            )
        if not n <= p < math.inf:
            raise ValueError(
                f"{op}: expected period to be at least the number of points ({n}) along spatial "
                f"axis {axis}, got {p}"
            )
        if axis == d - 1:
            if not 1 <= m <= p // 2 + 1:
                raise ValueError(
                    f"{op}: expected weight to have 1 to floor(period / 2) + 1 = {int(p // 2) + 1} "
                    f"modes along the last axis, got {m}"
                )
        elif not 2 <= m <= p or m % 2 != 0:
            raise ValueError(
                f"{op}: expected weight to have an even number of modes between 2 and the period "
                f"({p}) along axis {axis}, got {m}"
            )
    return periods


# ---- derivatives ---------------------------------------------------------------------------------
# The spectrum is a differentiable output that the wrapper drops: what the backward pass keeps is
# the spectrum and the weight, and a second derivative still finds its way to x.


def _save(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
    x, weight, ctx.period = inputs
    ctx.size = list(x.shape[3 - weight.ndim :])
    ctx.dtype = x.dtype
    ctx.save_for_backward(output[1], weight)
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, grad: Tensor | None, grad_spectrum: Tensor | None
) -> tuple[Tensor | None, Tensor | None, None]:
    spectrum, weight = ctx.saved_tensors
    x_needed, weight_needed = ctx.needs_input_grad[:2]
    x_bar = weight_bar = None
    if grad is not None:
        if torch.compiler.is_compiling() or unrecorded((grad, spectrum, weight)):
            x_bar, weight_bar = _BACKWARD_OP(
                grad, spectrum, weight, ctx.size, ctx.period, x_needed, weight_needed
            )
        else:
            periods = periods_of(ctx.size, ctx.period)
            x_bar, weight_bar = adjoint(grad.to(weight.dtype), spectrum, weight, ctx.size, periods)
            x_bar = x_bar.to(ctx.dtype)
    if grad_spectrum is not None and x_needed:
        periods = periods_of(ctx.size, ctx.period)
        direct = synthesise(as_complex(grad_spectrum), ctx.size, periods).to(ctx.dtype)
        x_bar = direct if x_bar is None else x_bar + direct
    return x_bar if x_needed else None, weight_bar if weight_needed else None, None


class _SpectralConv(torch.autograd.Function):
    """The op as ``torch.func`` and forward mode see it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, period: list[float]) -> Pair:
        y, spectrum = _OP(x, weight, period)
        return y, spectrum

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
        _save(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:2], *output)

    backward = staticmethod(_backward)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dw: Tensor | None, _: None) -> Pair:
        x, weight, y, spectrum = ctx.saved_tensors
        dy, moved = torch.zeros_like(y), torch.zeros_like(spectrum)
        if dx is not None:
            dy, moved = _apply(dx, weight, ctx.period)
        if dw is not None:
            dy = dy + _apply(x, dw, ctx.period)[0]
        return dy, moved


class _Recorded(torch.autograd.Function):
    """The op in eager mode; everything in `forward` costs less than a separate context."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, period: list[float]) -> Pair:
        with torch._C._AutoDispatchBelowAutograd():
            y, spectrum = _OP(x, weight, period)
        _save(ctx, (x, weight, period), (y, spectrum))
        return y, spectrum

    backward = staticmethod(_backward)


def _apply(x: Tensor, weight: Tensor, period: list[float]) -> Pair:
    if torch.compiler.is_compiling():
        y, spectrum = _OP(x, weight, period)
    elif unrecorded((x, weight)):
        with torch._C._AutoDispatchBelowAutograd():
            y, spectrum = _OP(x, weight, period)
    elif transformed():
        y, spectrum = _SpectralConv.apply(x, weight, period)
    else:
        y, spectrum = _Recorded.apply(x, weight, period)
    return y, spectrum


# ---- shapes and batching -------------------------------------------------------------------------


@register_fake(_NAME)
def _fake(x: Tensor, weight: Tensor, period: list[float]) -> Pair:
    d = weight.ndim - 3
    batch = x.shape[: x.ndim - d - 1]
    return (
        x.new_empty(*batch, weight.shape[-2], *x.shape[-d:]),
        weight.new_empty(*weight.shape[:d], *batch, weight.shape[-3], 2),
    )


@register_fake(_BACKWARD)
def _fake_backward(
    grad: Tensor,
    spectrum: Tensor,
    weight: Tensor,
    size: list[int],
    period: list[float],
    x_needed: bool,
    weight_needed: bool,
) -> Pair:
    d = weight.ndim - 3
    batch = grad.shape[: grad.ndim - d - 1]
    return (
        grad.new_empty((*batch, weight.shape[-3], *size) if x_needed else 0),
        weight.new_empty(weight.shape if weight_needed else 0),
    )


def apply_each(
    op: Callable[..., Any], size: int, in_dims: tuple[int | None, ...], arguments: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Run ``op`` once per element of the mapped axis: each has weights of its own."""
    results = [
        op(
            *(
                a.select(dim, i) if dim is not None and isinstance(a, Tensor) else a
                for a, dim in zip(arguments, in_dims, strict=True)
            )
        )
        for i in range(size)
    ]
    outputs = tuple(torch.stack(values) for values in zip(*results, strict=True))
    return outputs, (0,) * len(outputs)


@torch.library.register_vmap(_NAME)
def _vmap(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, period: list[float]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    if in_dims[1] is not None or in_dims[0] is None:
        return apply_each(_OP, info.batch_size, in_dims, (x, weight, period))
    return _OP(x.movedim(in_dims[0], 0), weight, period), (0, weight.ndim - 3)


@torch.library.register_vmap(_BACKWARD)
def _vmap_backward(
    info: Any,
    in_dims: tuple[int | None, ...],
    grad: Tensor,
    spectrum: Tensor,
    weight: Tensor,
    size: list[int],
    period: list[float],
    x_needed: bool,
    weight_needed: bool,
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    arguments = (grad, spectrum, weight, size, period, x_needed, weight_needed)
    if weight_needed or in_dims[0] is None or in_dims[2] is not None:
        return apply_each(_BACKWARD_OP, info.batch_size, in_dims, arguments)
    d = weight.ndim - 3
    grad = grad.movedim(in_dims[0], 0)
    if in_dims[1] is None:
        spectrum = spectrum.unsqueeze(d).expand(
            *spectrum.shape[:d], info.batch_size, *spectrum.shape[d:]
        )
    else:
        spectrum = spectrum.movedim(in_dims[1], d)
    results = _BACKWARD_OP(grad, spectrum, weight, size, period, True, False)
    nothing = results[1].expand(info.batch_size, 0)
    return (results[0], nothing), (0, 0)


torch.library.register_autograd(_NAME, _backward, setup_context=_save)
register_autocast(_NAME)
