# SPDX-License-Identifier: Apache-2.0
"""Spectral convolution whose input is corrected at the ends of chosen axes, in mode space."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops._arguments import check_tensors
from physcon_ext.ops._autograd import register_autocast, transformed, unrecorded
from physcon_ext.ops._boundary_formula import Correction, correction_of
from physcon_ext.ops._faces import batched_values, face_tensors, per_call, unmapped
from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.ops.composite.spectral import as_complex, as_pairs, synthesise
from physcon_ext.ops.spectral_conv import apply_each, check_spectral, keeps_storage


_NAME = "physcon::boundary_spectral_conv"
_BACKWARD = "physcon::boundary_spectral_conv_backward"
_OP = torch.ops.physcon.boundary_spectral_conv.default
_BACKWARD_OP = torch.ops.physcon.boundary_spectral_conv_backward.default

Tensors = tuple[Tensor, ...]
Gradients = tuple[Tensor | None, ...]

# Positions among the arguments of the op.
_GAINS, _VALUES, _STENCILS, _PERIOD = slice(2, 5), slice(5, 8), slice(8, 11), 11
_MOST_FUSED_WIDTH = 16  # as in spectral_lines.cuh


def fields_by_kernel(
    op: str,
    *,
    x: Tensor,
    weight: Tensor,
    period: float | Sequence[float] | None = None,
    stencils: Sequence[Tensor | None] | None = None,
    **_: Any,
) -> bool:
    """As `keeps_storage`, with face rules: those of a line are assigned by its last pass."""
    if not keeps_storage(op, x=x, weight=weight, period=period):
        return False
    if weight.ndim > 4:
        return True
    widths = [s.shape[-1] for s in stencils or () if isinstance(s, Tensor) and s.ndim == 2]
    return all(width <= min(_MOST_FUSED_WIDTH, x.shape[-1] // 2) for width in widths)


@stored(_NAME, functools.partial(fields_by_kernel, _NAME), field=True)
def boundary_spectral_conv(
    x: Tensor,
    weight: Tensor,
    gains: Sequence[Tensor | None],
    *,
    period: float | Sequence[float] | None = None,
    values: Sequence[Tensor | None] | None = None,
    stencils: Sequence[Tensor | None] | None = None,
) -> Tensor:
    r"""Convolve in mode space after shifting the end points of the input along chosen axes.

    .. math:: X = F x, \qquad [\delta_0\ \delta_N](q) = [a_0\ a_N\ y_0\ y_N](q)\, \Gamma(q),
              \qquad X(k, q) \mathrel{+}= \delta_0(q) + \delta_N(q) e^{-i \omega_k (N - 1)},
              \qquad y = F^{-1} (X W)

    Args:
        x: Input ``(*batch, in, N_1, .., N_d)``, ``d`` = 1, 2 or 3, any floating dtype.
        weight: As in `spectral_conv`, ``(M_1, .., M_d, in, out, 2)``.
        gains: Per axis ``Gamma`` in float64, ``(Q, 2 (in + out), 2 in, 2)``, ``Q`` the modes of
            the other axes in their order, real and imaginary part last (or 1: real), or None: the
            axis is not corrected. `boundary.correction_gain` makes them from the weights.
        period: As in `spectral_conv`.
        values: Data of faces to assign to ``y``, as in `assign_faces`.
        stencils: Their stencils.

    Returns:
        ``(*batch, out, N_1, .., N_d)``, in the dtype of ``x``.

    Raises:
        TypeError: If an argument is not a tensor of its dtype, or dtypes differ.
        ValueError: If shapes do not fit, a corrected axis has one point, or a limit of
            `spectral_conv` is not met.

    Notes:
        Storage: a bfloat16 or float16 ``x``, beside arguments of its dtype or of float32, is
        computed in float32 and the result rounded once; so are gradients, to the dtype of their
        argument.
        ``a_0, a_N`` are the transforms of the end lines of the input along the other axes,
        ``y_0, y_N`` those of the output before the axis is corrected. Axes are corrected in order,
        each seeing the input as those before it left it. With one axis the imaginary part of the
        gain does not count.
        Accuracy: everything between the transform and the shifts is float64, also in float32 and
        where ``torch.set_float32_matmul_precision`` lets transforms be rounded (`spectral_conv`).
        Determinism: the same bits for any number of threads.
        Cost: one mixing of channels more than `spectral_conv` for each corrected axis, and as many
        backward; with several axes one more there. Kept for the backward pass: the truncated
        spectrum and ``4 in + 2 out`` numbers per end line.
        Derivatives of every order exist; stencils are constants.

    Example:
        >>> weight = torch.tensor([1.0, 0.0]).expand(3, 1, 1, 2)
        >>> gain = torch.zeros(1, 4, 2, 2, dtype=torch.float64)
        >>> gain[0, 0, 0, 0] = 1.0  # the first input value is doubled
        >>> y = boundary_spectral_conv(torch.tensor([[1.0, 2.0, 4.0, 3.0]]), weight, [gain])
        >>> y.round(decimals=3)
        tensor([[2., 2., 4., 3.]])
    """
    given = x
    x, weight = check_tensors(_NAME, x=x, weight=weight)
    periods = check_spectral(_NAME, x, weight, period)
    matrices = check_gains(_NAME, x, weight, gains)
    none: list[Tensor | None] = [None] * len(periods)
    data = [widen(value, given, x) for value in values or none]
    faces = face_tensors(_NAME, x, weight.shape[-2], data, stencils or none, weight.dtype)
    y = _apply(x, weight, *matrices, *faces.values, *faces.stencils, periods)[0]
    return y.to(given.dtype) if given.dtype != x.dtype else y


def widen(value: Tensor | None, given: Tensor, x: Tensor) -> Tensor | None:
    """Face data follow ``x`` where autocast widens it."""
    if isinstance(value, Tensor) and value.dtype == given.dtype:
        return value.to(x.dtype)
    return value


def check_gains(op: str, x: Tensor, weight: Tensor, gains: Sequence[Tensor | None]) -> list[Tensor]:
    """Return the gains of three axes, empty ones where an axis is not corrected."""
    d = weight.ndim - 3
    if len(gains) != d:
        raise ValueError(
            f"{op}: expected gains to have {d} entries, one per axis, got {len(gains)}"
        )
    found = [torch.empty(0, dtype=torch.float64, device=x.device)] * 3
    modes, c_in, c_out = weight.shape[:d], weight.shape[-3], weight.shape[-2]
    for axis, gain in enumerate(gains):
        if gain is None:
            continue
        if not isinstance(gain, Tensor) or gain.dtype != torch.float64:
            got = gain.dtype if isinstance(gain, Tensor) else type(gain).__name__
            raise TypeError(f"{op}: expected gains[{axis}] to be a float64 tensor, got {got}")
        if gain.device != x.device:
            raise ValueError(f"{op}: expected gains[{axis}] to be on {x.device}, got {gain.device}")
        others = modes.numel() // modes[axis]
        shape = (others, 2 * (c_in + c_out), 2 * c_in)
        if gain.ndim != 4 or gain.shape[:-1] != shape or gain.shape[-1] not in (1, 2):
            raise ValueError(
                f"{op}: expected gains[{axis}] to have shape {(*shape, 2)}, or 1 as its last "
                f"size, got {tuple(gain.shape)}"
            )
        if x.shape[x.ndim - d + axis] < 2:
            raise ValueError(
                f"{op}: expected at least 2 points along the corrected axis {axis}, got "
                f"{x.shape[x.ndim - d + axis]}"
            )
        found[axis] = gain
    return found


# ---- derivatives ---------------------------------------------------------------------------------
# The spectrum and the record are differentiable outputs that the wrapper drops: the backward pass
# keeps them and not x, and a second derivative still finds its way to x.


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    ctx.period = inputs[_PERIOD]
    ctx.size = tuple(inputs[0].shape[-len(ctx.period) :])
    ctx.input = inputs[0].shape, inputs[0].dtype
    ctx.save_for_backward(*output[1:], *inputs[1:_PERIOD])
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, grad: Tensor | None, grad_spectrum: Tensor | None, grad_shifts: Tensor | None
) -> Gradients:
    spectrum, shifts, weight, *rest = ctx.saved_tensors
    needed = ctx.needs_input_grad
    found: list[Tensor | None] = [None] * 8
    if grad is not None:
        if torch.compiler.is_compiling() or unrecorded((grad, *ctx.saved_tensors)):
            flags = (needed[0], needed[1], any(needed[_GAINS]), any(needed[_VALUES]))
            found = list(_BACKWARD_OP(grad, *ctx.saved_tensors, ctx.period, *flags))
        else:
            found = _gradients(ctx, grad)
    if needed[0] and (grad_spectrum is not None or grad_shifts is not None):
        call = correction_of(ctx.size, weight, rest[:3], ctx.period)
        slots = [
            torch.zeros_like(as_complex(spectrum)),
            *call.from_record(torch.zeros_like(shifts)),
        ]
        if grad_spectrum is not None:
            slots[0] = as_complex(grad_spectrum)
        if grad_shifts is not None:
            slots[1:] = call.from_record(grad_shifts)
        direct = _to_input(ctx, call, slots)
        found[0] = direct if found[0] is None else found[0] + direct
    return (*(f if n else None for f, n in zip(found, needed, strict=False)), *(None,) * 4)


def _to_input(ctx: Any, call: Correction, slots: Sequence[Tensor]) -> Tensor:
    shape, dtype = ctx.input
    found = synthesise(slots[0], call.size, call.period)
    if len(slots) > 1:
        found = found + call.lines_adjoint(slots[1:], shape)
    return found.to(dtype)


def _gradients(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    """The adjoint as a differentiable function of everything that it depends on."""
    spectrum, shifts, weight, *rest = ctx.saved_tensors
    gains, values, stencils = rest[:3], rest[3:6], rest[6:9]
    call = correction_of(ctx.size, weight, gains, ctx.period)
    dtype = weight.dtype
    x_grad, weight_grad, gain_grads, value_grads = call.adjoint(
        grad.to(dtype),
        as_complex(spectrum),
        call.kept_lines(shifts),
        weight,
        gains,
        values,
        stencils,
    )
    return [
        x_grad.to(ctx.input[1]),
        weight_grad.to(dtype),
        *gain_grads,
        *(g.to(dtype) for g in value_grads),
    ]


class _Corrected(torch.autograd.Function):
    """The op as ``torch.func`` and forward mode see it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensors:
        return tuple(_OP(*arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        _save(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:_PERIOD], *output)

    backward = staticmethod(_backward)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensors:
        inputs, (y, spectrum, shifts) = ctx.saved_tensors[:_PERIOD], ctx.saved_tensors[_PERIOD:]
        call = correction_of(ctx.size, inputs[1], inputs[_GAINS], ctx.period)

        def function(*arguments: Tensor) -> Tensor:
            x, w, *rest = arguments
            first, *lines = call.transform(x)
            return call.forward(first, lines, w, rest[:3], rest[3:], inputs[_STENCILS])[0]

        moving = tuple(
            torch.zeros_like(x) if t is None else t
            for x, t in zip(inputs[:8], tangents[:8], strict=True)
        )
        # The pullback is linear in its upstream argument, and its transpose is the tangent map.
        pull = torch.func.vjp(function, *inputs[:8])[1]
        (moved,) = torch.func.vjp(pull, torch.zeros_like(y, dtype=torch.float64))[1](moving)
        first, *lines = call.transform(moving[0])
        batch = moving[0].shape[: moving[0].ndim - call.dims - 1]
        return (
            moved.to(y.dtype),
            as_pairs(first, spectrum.dtype),
            call.as_record(lines, batch, shifts),
        )


class _Recorded(torch.autograd.Function):
    """The op in eager mode; everything in `forward` costs less than a separate context."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensors:
        with torch._C._AutoDispatchBelowAutograd():
            output = tuple(_OP(*arguments))
        _save(ctx, arguments, output)
        return output

    backward = staticmethod(_backward)


def _apply(*arguments: Any) -> Tensors:
    if torch.compiler.is_compiling():
        return tuple(_OP(*arguments))
    if transformed():
        return tuple(_Corrected.apply(*arguments))
    if unrecorded(arguments[:8]):
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(_OP(*arguments))
    return tuple(_Recorded.apply(*arguments))


torch.library.register_autograd(_NAME, _backward, setup_context=_save)
register_autocast(_NAME)


# ---- shapes and batching -------------------------------------------------------------------------


@register_fake(_NAME)
def _fake(x: Tensor, weight: Tensor, *rest: Any) -> Tensors:
    gains, period = rest[:3], rest[-1]
    d = len(period)
    batch, (c_in, c_out) = x.shape[: x.ndim - d - 1], weight.shape[-3:-1]
    records = sum(gain.shape[0] for gain in gains if gain.numel())
    numbers = (4 * c_in + 2 * c_out) * (1 if d == 1 else 2)
    return (
        x.new_empty(*batch, c_out, *x.shape[-d:]),
        weight.new_empty(*weight.shape[:d], *batch, c_in, 2),
        x.new_empty(records, *batch, numbers, dtype=torch.float64),
    )


@register_fake(_BACKWARD)
def _fake_backward(
    grad: Tensor, spectrum: Tensor, shifts: Tensor, weight: Tensor, *rest: Any
) -> Tensors:
    gains, values = rest[:3], rest[3:6]
    period, x_needed, weight_needed, gains_needed, values_needed = rest[9:]
    d = len(period)
    batch = grad.shape[: grad.ndim - d - 1]
    return (
        grad.new_empty((*batch, weight.shape[-3], *grad.shape[-d:]) if x_needed else 0),
        weight.new_empty(weight.shape if weight_needed else 0),
        *(shifts.new_empty(g.shape if gains_needed else 0) for g in gains),
        *(v.new_empty(v.shape if values_needed else 0) for v in values),
    )


@torch.library.register_vmap(_NAME)
def _vmap(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[Tensors, tuple[int, ...]]:
    shared = all(dim is None for dim in in_dims[1:5])
    if in_dims[0] is None or not shared:
        return _each(_OP, info, in_dims, arguments)
    unmapped(_NAME, "stencils", in_dims[_STENCILS])
    x, period = arguments[0].movedim(in_dims[0], 0), arguments[_PERIOD]
    batch = x.shape[1 : x.ndim - len(period) - 1]
    values = [
        batched_values(info.batch_size, batch, v, dim, summed=False)[0]
        for v, dim in zip(arguments[_VALUES], in_dims[_VALUES], strict=True)
    ]
    moved = (x, *arguments[1:5], *values, *arguments[_STENCILS], period)
    return _OP(*moved), (0, len(period), 1)


def _each(
    op: Callable[..., Any], info: Any, in_dims: tuple[int | None, ...], arguments: Any
) -> tuple[Tensors, tuple[int, ...]]:
    outputs, _ = apply_each(op, info.batch_size, in_dims, arguments)
    return per_call(outputs, info.batch_size)


@torch.library.register_vmap(_BACKWARD)
def _vmap_backward(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[Tensors, tuple[int, ...]]:
    # Sums over the batch belong to one mapped call each.
    return _each(_BACKWARD_OP, info, in_dims, arguments)
