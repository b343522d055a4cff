# SPDX-License-Identifier: Apache-2.0
"""One layer of a Fourier neural operator: convolution, pointwise matrix, bias, faces, GELU."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from physcon_ext.ops._arguments import check_tensors
from physcon_ext.ops._autograd import register_autocast, transformed, unrecorded
from physcon_ext.ops._faces import batched_values, face_tensors, per_call, unmapped
from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.ops.boundary_spectral_conv import check_gains, fields_by_kernel, widen
from physcon_ext.ops.composite import block as composite
from physcon_ext.ops.spectral_conv import apply_each, check_spectral


_NAME = "physcon::fno_block"
_BACKWARD = "physcon::fno_block_backward"
_OP = torch.ops.physcon.fno_block.default
_BACKWARD_OP = torch.ops.physcon.fno_block_backward.default

Activation: TypeAlias = Literal["gelu", "none"]
Tensors = tuple[Tensor, ...]

# Positions among the arguments of the op: x, weight, skip, bias, gains, values, stencils, flags.
_GAINS, _VALUES, _STENCILS, _PERIOD = slice(4, 7), slice(7, 10), slice(10, 13), 13


@stored(_NAME, functools.partial(fields_by_kernel, _NAME), field=True)
def fno_block(
    x: Tensor,
    weight: Tensor,
    skip: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    activation: Activation = "gelu",
    period: float | Sequence[float] | None = None,
    gains: Sequence[Tensor | None] | None = None,
    values: Sequence[Tensor | None] | None = None,
    stencils: Sequence[Tensor | None] | None = None,
    recompute: bool = False,
) -> Tensor:
    r"""Convolve, add a matrix product of the channels and a bias, activate.

    .. math:: u = K x + S^T x + b, \qquad y = \sigma(u), \qquad
              \sigma(u) = u\, \Phi(u) = \tfrac12 u\, (1 + \mathrm{erf}(u / \sqrt 2))

    Args:
        x: Input ``(*batch, in, N_1, .., N_d)``, ``d`` = 1, 2 or 3, any floating dtype.
        weight: Of the convolution ``K``, ``(M_1, .., M_d, in, out, 2)``, see `spectral_conv`.
        skip: ``S``, ``(in, out)``; none if not given.
        bias: ``b``, ``(out,)``; none if not given.
        activation: ``"gelu"``, or ``"none"``: ``y = u``.
        period: As in `spectral_conv`.
        gains: Corrections of the convolution, as in `boundary_spectral_conv`.
        values: Data of faces that are assigned to ``u``, as in `assign_faces`.
        stencils: Their stencils. A face whose stencil does not count its own value (column 0 is 0)
            is prescribed: it keeps what is assigned, the activation passes it by.
        recompute: Keep less for the backward pass, and compute ``u`` again there.

    Returns:
        ``(*batch, out, N_1, .., N_d)``, in the dtype of ``x``.

    Raises:
        TypeError: If an argument is not a tensor of its dtype, or dtypes differ.
        ValueError: If shapes do not fit, the activation is unknown, or a limit of `spectral_conv`,
            `boundary_spectral_conv` or `assign_faces` is not met.

    Notes:
        Storage: a bfloat16 or float16 ``x``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument.
        Accuracy: the error of the GELU is at most 4 units in the last place (relative, for
        negative ``u`` too), that of its derivative 2 units of 1; values below the smallest normal
        number are zero. Precision on CUDA as for `spectral_conv`, on one axis the skip included.
        Determinism: the same bits for any number of threads; the output and the gradient of ``x``
        do not depend on how the batch is split.
        Cost: beside the convolution ``2 in out`` operations per point, in one pass over its output.
        Kept for the backward pass: ``x``, its truncated spectrum and ``u``, or without ``u``.
        Derivatives of every order exist; those beyond the first go through PyTorch operations.

    Example:
        >>> identity = torch.tensor([1.0, 0.0]).expand(3, 1, 1, 2)
        >>> x = torch.tensor([[1.0, 2.0, 4.0, 3.0]])
        >>> fno_block(x, identity, -torch.eye(1), torch.ones(1)).round(decimals=3)
        tensor([[0.8410, 0.8410, 0.8410, 0.8410]])
    """
    given = x
    named = {"x": x, "weight": weight, "skip": skip, "bias": bias}
    present = {name: t for name, t in named.items() if t is not None}
    found = dict(zip(present, check_tensors(_NAME, **present), strict=True))
    x, weight = found["x"], found["weight"]
    if activation not in get_args(Activation):
        raise ValueError(
            f"{_NAME}: expected activation to be one of {get_args(Activation)}, got {activation!r}"
        )
    periods = check_spectral(_NAME, x, weight, period)
    for name, shape in (("skip", weight.shape[-3:-1]), ("bias", weight.shape[-2:-1])):
        if name in found and found[name].shape != shape:
            raise ValueError(
                f"{_NAME}: expected {name} to have shape {tuple(shape)}, "
                f"got {tuple(found[name].shape)}"
            )
    none: list[Tensor | None] = [None] * len(periods)
    matrices = check_gains(_NAME, x, weight, none if gains is None else gains)
    data = [widen(value, given, x) for value in values or none]
    faces = face_tensors(_NAME, x, weight.shape[-2], data, stencils or none, weight.dtype)
    y = _apply(
        x,
        weight,
        found.get("skip", weight.new_empty(0)),
        found.get("bias", weight.new_empty(0)),
        *matrices,
        *faces.values,
        *faces.stencils,
        [] if period is None else periods,
        activation == "gelu",
        recompute,
    )
    return y.to(given.dtype) if given.dtype != x.dtype else y


# ---- derivatives ---------------------------------------------------------------------------------
# What a second derivative or forward mode sees is the same layer by torch operations.


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    ctx.period, ctx.activated = inputs[_PERIOD : _PERIOD + 2]
    ctx.save_for_backward(*output[1:], *inputs[:_PERIOD])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[: _STENCILS.start]
    nothing = (None,) * (len(ctx.needs_input_grad) - len(needed))
    if grad is None:
        return (*(None for _ in needed), *nothing)
    saved = ctx.saved_tensors
    if torch.compiler.is_compiling() or unrecorded((grad, *saved)):
        flags = (*needed[:4], any(needed[_GAINS]), any(needed[_VALUES]))
        found: Sequence[Any] = _BACKWARD_OP(grad, *saved, ctx.period, ctx.activated, *flags)
    else:
        x, weight = saved[3:5]
        wide = (x.to(weight.dtype), *saved[4:])
        found = _pullback(wide, ctx.period, ctx.activated)(grad.to(weight.dtype))
        found = (found[0].to(x.dtype), *found[1:])
    return (*(g if n else None for g, n in zip(found, needed, strict=True)), *nothing)


def _pullback(inputs: Sequence[Tensor], *flags: Any) -> Any:
    """The adjoint as a differentiable function."""
    count = _STENCILS.start

    def formula(*tensors: Tensor) -> Tensor:
        return composite.fno_block(*tensors, *inputs[count:], *flags, False)[0]

    return torch.func.vjp(formula, *inputs[:count])[1]


class _Transformed(torch.autograd.Function):
    """The op as ``torch.func`` and forward mode see it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensors:
        return tuple(_OP(*arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        _save(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:_PERIOD], output[0])
        ctx.mark_non_differentiable(*output[1:])

    backward = staticmethod(_backward)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, y = ctx.saved_tensors
        moving = tuple(
            torch.zeros_like(x) if t is None else t
            for x, t in zip(inputs[: _STENCILS.start], tangents, strict=False)
        )
        # The pullback is linear in its upstream argument, and its transpose is the tangent map.
        pull = _pullback(inputs, ctx.period, ctx.activated)
        (moved,) = torch.func.vjp(pull, torch.zeros_like(y))[1](moving)
        return moved, None, None, None


class _Recorded(torch.autograd.Function):
    """The op in eager mode; everything in `forward` costs less than a separate context."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensors:
        with torch._C._AutoDispatchBelowAutograd():
            output = tuple(_OP(*arguments))
        _save(ctx, arguments, output)
        ctx.mark_non_differentiable(*output[1:])
        return output

    backward = staticmethod(_backward)


def _apply(*arguments: Any) -> Tensor:
    *inputs, recompute = arguments
    if not torch.compiler.is_compiling():
        if transformed():
            mapped: Tensor = _Transformed.apply(*inputs, not recompute)[0]
            return mapped
        if unrecorded(inputs[: _STENCILS.start]):
            with torch._C._AutoDispatchBelowAutograd():
                y: Tensor = _OP(*inputs, False)[0]
                return y
        recorded: Tensor = _Recorded.apply(*inputs, not recompute)[0]
        return recorded
    recording = torch.is_grad_enabled() and any(t.requires_grad for t in inputs[: _STENCILS.start])
    compiled: Tensor = _OP(*inputs, recording and not recompute)[0]
    return compiled


torch.library.register_autograd(_NAME, _backward, setup_context=_save)
register_autocast(_NAME)


# ---- shapes and batching -------------------------------------------------------------------------


@register_fake(_NAME)
def _fake(x: Tensor, weight: Tensor, *rest: Any) -> Tensors:
    gains, (activated, keep) = rest[2:5], rest[-2:]
    d = weight.ndim - 3
    batch, (c_in, c_out) = x.shape[: x.ndim - d - 1], weight.shape[-3:-1]
    shape = (*batch, c_out, *x.shape[-d:])
    records = sum(gain.shape[0] for gain in gains if gain.numel())
    numbers = (4 * c_in + 2 * c_out) * (1 if d == 1 else 2)
    return (
        x.new_empty(shape),
        weight.new_empty(shape if activated and keep else 0),
        weight.new_empty(*weight.shape[:d], *batch, c_in, 2),
        x.new_empty((records, *batch, numbers) if records else 0, dtype=torch.float64),
    )


@register_fake(_BACKWARD)
def _fake_backward(grad: Tensor, *rest: Any) -> Tensors:
    inputs, needed = rest[3:13], rest[-6:]
    wanted = (*needed[:4], *[needed[4]] * 3, *[needed[5]] * 3)
    return tuple(t.new_empty(t.shape if n else 0) for t, n in zip(inputs, wanted, strict=True))


@torch.library.register_vmap(_NAME)
def _vmap(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[Tensors, tuple[int, ...]]:
    shared = all(dim is None for dim in in_dims[1 : _VALUES.start])
    if in_dims[0] is None or not shared:
        outputs, _ = apply_each(_OP, info.batch_size, in_dims, arguments)
        return per_call(outputs, info.batch_size)
    unmapped(_NAME, "stencils", in_dims[_STENCILS])
    x, d = arguments[0].movedim(in_dims[0], 0), arguments[1].ndim - 3
    batch = x.shape[1 : x.ndim - d - 1]
    values = [
        batched_values(info.batch_size, batch, v, dim, summed=False)[0]
        for v, dim in zip(arguments[_VALUES], in_dims[_VALUES], strict=True)
    ]
    y, field, spectrum, shifts = _OP(x, *arguments[1:7], *values, *arguments[10:])
    field, shifts = (t if t.numel() else t.new_empty(info.batch_size, 0) for t in (field, shifts))
    return (y, field, spectrum, shifts), (0, 0, d, min(1, shifts.ndim - 2))


@torch.library.register_vmap(_BACKWARD)
def _vmap_backward(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[Tensors, tuple[int, ...]]:
    # Sums over the batch belong to one mapped call each.
    outputs, _ = apply_each(_BACKWARD_OP, info.batch_size, in_dims, arguments)
    return per_call(outputs, info.batch_size)
