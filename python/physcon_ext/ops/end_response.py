# SPDX-License-Identifier: Apache-2.0
"""What a spectral convolution answers at the ends of an axis, from its weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops._arguments import check_tensors
from physcon_ext.ops._autograd import register_autocast, transformed, unrecorded
from physcon_ext.ops._storage import register_fake, stored


_NAME = "physcon::end_response"
_BACKWARD = "physcon::end_response_backward"
_OP = torch.ops.physcon.end_response.default
_BACKWARD_OP = torch.ops.physcon.end_response_backward.default


@stored(_NAME)
def end_response(
    weight: Tensor, axis: int, *, size: Sequence[int], period: Sequence[float]
) -> Tensor:
    r"""Return the blocks of the kernel that connect the ends of one axis.

    .. math:: D = \sum_k c_k W_k / P, \qquad G = \sum_k c_k W_k e^{i \omega_k (N - 1)} / P, \qquad
              A = \sum_k c_k W_k e^{-i \omega_k (N - 1)} / P

    Args:
        weight: ``(M_1, .., M_d, in, out, 2)`` as in `spectral_conv`, of any floating dtype.
        axis: The axis, ``0 <= axis < d``.
        size: Points per axis.
        period: Fourier period per axis in points.

    Returns:
        Float64, one axis: ``(3, 1, in, out)``; more: ``(3, Q, in, out, 2)``, real and imaginary
        part last, ``Q`` being the modes of the other axes in their order. First ``D``, the answer
        at the end where the source is, then ``G``, at the last point for a source at the first,
        then ``A``, at the first point for a source at the last.

    Raises:
        TypeError: If ``weight`` is not a floating tensor.
        ValueError: If sizes or periods do not fit ``weight``.

    Notes:
        The field is real: where a mode of the other axes meets its own complex conjugate the
        blocks are those of the real part.
        Determinism: the same bits for any number of threads.
        Cost: one pass over the weights. Linear in them; derivatives of every order exist.

    Example:
        >>> mean = torch.tensor([[[[1.0, 0.0]]]])  # averages over the period
        >>> end_response(mean, 0, size=[4], period=[5.0]).flatten()
        tensor([0.2000, 0.2000, 0.2000], dtype=torch.float64)
    """
    (weight,) = check_tensors(_NAME, weight=weight)
    d = weight.ndim - 3
    if not 1 <= d <= 3 or weight.shape[-1] != 2:
        raise ValueError(
            f"{_NAME}: expected weight to have shape (M_1, .., M_d, in, out, 2) with d = 1, 2 or "
            f"3, got {tuple(weight.shape)}"
        )
    if not 0 <= axis < d:
        raise ValueError(f"{_NAME}: expected axis to be at least 0 and less than {d}, got {axis}")
    for name, given in (("size", size), ("period", period)):
        if len(given) != d:
            raise ValueError(
                f"{_NAME}: expected {name} to have one number per axis ({d}), got {len(given)}"
            )
    return _apply(weight, axis, [int(n) for n in size], [float(p) for p in period])


# ---- derivatives: the op is linear, each of the pair is the derivative of the other --------------


class _Response(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, axis: int, size: list[int], period: list[float]) -> Tensor:
        found: Tensor = _OP(weight, axis, size, period)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.place = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _adjoint(grad, ctx.saved_tensors[0], *ctx.place), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *unused: None) -> Tensor:
        return _apply(tangent, *ctx.place)


class _Recorded(torch.autograd.Function):
    """The op in eager mode; everything in `forward` costs less than a separate context."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, axis: int, size: list[int], period: list[float]
    ) -> Tensor:
        _Response.setup_context(ctx, (weight, axis, size, period), weight)
        with torch._C._AutoDispatchBelowAutograd():
            found: Tensor = _OP(weight, axis, size, period)
        return found

    backward = staticmethod(_Response.backward)


class _Adjoint(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor, weight: Tensor, axis: int, size: list[int], period: list[float]
    ) -> Tensor:
        found: Tensor = _BACKWARD_OP(grad, weight, axis, size, period)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_forward(inputs[1])
        ctx.place = inputs[2:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _apply(grad, *ctx.place), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *unused: None) -> Tensor:
        return _adjoint(tangent, ctx.saved_tensors[0], *ctx.place)


def _apply(weight: Tensor, axis: int, size: list[int], period: list[float]) -> Tensor:
    if torch.compiler.is_compiling():
        found: Tensor = _OP(weight, axis, size, period)
    elif transformed():
        found = _Response.apply(weight, axis, size, period)
    elif not unrecorded((weight,)):
        found = _Recorded.apply(weight, axis, size, period)
    else:
        with torch._C._AutoDispatchBelowAutograd():
            found = _OP(weight, axis, size, period)
    return found


def _adjoint(
    grad: Tensor, weight: Tensor, axis: int, size: list[int], period: list[float]
) -> Tensor:
    if torch.compiler.is_compiling():
        found: Tensor = _BACKWARD_OP(grad, weight, axis, size, period)
    elif transformed() or not unrecorded((grad,)):
        found = _Adjoint.apply(grad, weight, axis, size, period)
    else:
        with torch._C._AutoDispatchBelowAutograd():
            found = _BACKWARD_OP(grad, weight, axis, size, period)
    return found


def _save_adjoint(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.place = inputs[2:]


torch.library.register_autograd(_NAME, _Response.backward, setup_context=_Response.setup_context)
torch.library.register_autograd(_BACKWARD, _Adjoint.backward, setup_context=_save_adjoint)
register_autocast(_NAME)


# ---- shapes and batching -------------------------------------------------------------------------


@register_fake(_NAME)
def _fake(weight: Tensor, axis: int, size: list[int], period: list[float]) -> Tensor:
    d = weight.ndim - 3
    others = 1
    for a in range(d):
        others = others * weight.shape[a] if a != axis else others
    shape = (3, others, *weight.shape[-3:-1], *(() if d == 1 else (2,)))
    return weight.new_empty(shape, dtype=torch.float64)


@register_fake(_BACKWARD)
def _fake_backward(
    grad: Tensor, weight: Tensor, axis: int, size: list[int], period: list[float]
) -> Tensor:
    return weight.new_empty(weight.shape)


# Entries of the matrices do not meet: a mapped axis becomes part of the input channels.


@torch.library.register_vmap(_NAME)
def _vmap(info: Any, in_dims: tuple[int, ...], weight: Tensor, *place: Any) -> tuple[Tensor, int]:
    d = weight.ndim - 4
    moved = weight.movedim(in_dims[0], d)
    found = _OP(moved.flatten(d, d + 1), *place)
    return found.unflatten(2, moved.shape[d : d + 2]), 2


@torch.library.register_vmap(_BACKWARD)
def _vmap_backward(
    info: Any, in_dims: tuple[int | None, ...], grad: Tensor, weight: Tensor, *place: Any
) -> tuple[Tensor, int]:
    count = info.batch_size
    like = weight if in_dims[1] is None else weight.select(in_dims[1], 0)
    d = like.ndim - 3
    if in_dims[0] is None:
        return _BACKWARD_OP(grad, like, *place).expand(count, *like.shape), 0
    rows = grad.movedim(in_dims[0], 2).flatten(2, 3)
    shape = (*like.shape[:d], count * like.shape[d], *like.shape[d + 1 :])
    found = _BACKWARD_OP(rows, like.new_empty(()).expand(shape), *place)
    return found.unflatten(d, (count, like.shape[d])), d
