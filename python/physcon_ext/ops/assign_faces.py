# SPDX-License-Identifier: Apache-2.0
"""Assign the end points of a field on a grid: prescribed values and one-sided rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops import _cuda
from physcon_ext.ops._arguments import check_tensors
from physcon_ext.ops._autograd import transformed, unrecorded
from physcon_ext.ops._faces import batched_values, face_tensors, per_call, restore, unmapped
from physcon_ext.ops._storage import LOW_PRECISION, autocast, register_fake, stored


_NAME = "physcon::assign_faces"
_BACKWARD = "physcon::assign_faces_backward"
_OP = torch.ops.physcon.assign_faces.default
_BACKWARD_OP = torch.ops.physcon.assign_faces_backward.default

Tensors = tuple[Tensor, ...]


def _by_kernel(u: Tensor, **_: Any) -> bool:
    return not autocast(u) and all(
        _cuda.has_kernel(op, u, 0) for op in ("assign_faces", "assign_faces_backward")
    )


@stored(_NAME, _by_kernel, always=True, field=True)
def assign_faces(
    u: Tensor, values: Sequence[Tensor | None], stencils: Sequence[Tensor | None]
) -> Tensor:
    r"""Assign the end points of the last axes: data plus a stencil of the points inwards.

    .. math:: u'_{face} = g_{face} + \sum_{j=0}^{q} s_j\, u^{(j)}, \qquad
              u^{(j)} = \text{the value } j \text{ points inwards}

    Args:
        u: Field ``(*batch, C, N_1..N_d)``, ``d = len(values)`` from 1 to 3; float64, float32,
            bfloat16 or float16.
        values: Per axis the data ``g`` of the first and the last face, in the unit and dtype of
            ``u`` (or float32 beside bfloat16 and float16), ``(*batch, C, 2, *sizes of the other
            axes)`` with 1 wherever they do not vary, or None: both faces stay.
        stencils: Per axis ``s`` in float64, ``(2, q + 1)``, ``q + 1 < N``, or None with the values.
            All zeros prescribe ``g``; ``s_0 = 1`` and ``g = 0`` leave a face as it is; Neumann and
            Robin rules are other rows.

    Returns:
        A new tensor of the shape and dtype of ``u``.

    Raises:
        TypeError: If an argument is not a tensor of a dtype named above, or dtypes differ.
        ValueError: If shapes do not fit, a stencil spans its axis, or no kernel exists for the
            device.

    Notes:
        Exactness: where the stencil is zero the stored bits are those of ``values``; sums are
        accumulated in float64 and rounded once (bfloat16 and float16: by way of float32).
        Corners: axes are assigned in order, so later ones own the corners.
        Linear in ``u`` and ``values``; derivatives of every order exist, stencils are constants.
        Determinism: the same bits for any number of threads. Cost: one copy of ``u``.

    Example:
        >>> faces = torch.tensor([[[1.0, 2.0]]])
        >>> assign_faces(torch.zeros(1, 1, 4), [faces], [torch.zeros(2, 1, dtype=torch.float64)])
        tensor([[[1., 0., 0., 2.]]])
    """
    (u,) = check_tensors(_NAME, u=u)
    channels = u.shape[-1 - len(values)] if u.ndim > len(values) else 0
    dtype = torch.float32 if u.dtype in LOW_PRECISION else u.dtype
    faces = face_tensors(_NAME, u, channels, values, stencils, dtype)
    return _apply(u, *faces.values, *faces.stencils, len(values))


# ---- derivatives: the op and its adjoint are each other's ----------------------------------------


def _apply(*arguments: Any) -> Tensor:
    if torch.compiler.is_compiling() or (unrecorded(arguments[:4]) and not transformed()):
        return _OP(*arguments)
    return _Assign.apply(*arguments)


def _apply_adjoint(*arguments: Any) -> Tensors:
    if torch.compiler.is_compiling() or (unrecorded(arguments[:1]) and not transformed()):
        return tuple(_BACKWARD_OP(*arguments))
    return tuple(_Adjoint.apply(*arguments))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.dims = inputs[7]
    ctx.save_for_backward(*inputs[1:7])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad
    found = _apply_adjoint(grad, *ctx.saved_tensors, ctx.dims, any(needed[1:4]))
    return (*(g if n else None for g, n in zip(found, needed[:4], strict=True)), *(None,) * 4)


def _save_adjoint(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    ctx.dims = inputs[7]
    ctx.save_for_backward(*inputs[1:7])


def _backward_adjoint(ctx: Any, grad: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:
    values, stencils = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
    data = [
        torch.zeros_like(v) if g.shape != v.shape else g for v, g in zip(values, grads, strict=True)
    ]
    return (_apply(grad, *data, *stencils, ctx.dims), *(None,) * 8)


class _Assign(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        return _OP(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _save(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:7])

    backward = staticmethod(_backward)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        primal = ctx.saved_tensors
        moved = [
            torch.zeros_like(p) if t is None else t
            for p, t in zip(primal[:4], tangents[:4], strict=True)
        ]
        return _apply(*moved, *primal[4:], ctx.dims)


class _Adjoint(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensors:
        return tuple(_BACKWARD_OP(*arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        _save_adjoint(ctx, inputs, output)
        ctx.values_needed = inputs[8]
        ctx.save_for_forward(*inputs[1:7])

    backward = staticmethod(_backward_adjoint)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensors:
        return _apply_adjoint(tangent, *ctx.saved_tensors, ctx.dims, ctx.values_needed)


torch.library.register_autograd(_NAME, _backward, setup_context=_save)
torch.library.register_autograd(_BACKWARD, _backward_adjoint, setup_context=_save_adjoint)


# ---- shapes and batching -------------------------------------------------------------------------


@register_fake(_NAME)
def _fake(u: Tensor, *rest: Any) -> Tensor:
    return u.new_empty(u.shape)


@register_fake(_BACKWARD)
def _fake_backward(
    grad: Tensor,
    values_0: Tensor,
    values_1: Tensor,
    values_2: Tensor,
    stencil_0: Tensor,
    stencil_1: Tensor,
    stencil_2: Tensor,
    dims: int,
    values_needed: bool,
) -> Tensors:
    values = (values_0, values_1, values_2)
    return (
        grad.new_empty(grad.shape),
        *(v.new_empty(v.shape if values_needed else 0) for v in values),
    )


def _mapped(
    info: Any, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...], summed: bool
) -> tuple[list[Any], list[tuple[int, ...]]]:
    unmapped(_NAME, "stencils", in_dims[4:7])
    size, field, at = info.batch_size, arguments[0], in_dims[0]
    field = field.expand(size, *field.shape) if at is None else field.movedim(at, 0)
    batch = field.shape[1 : field.ndim - 1 - arguments[7]]
    pairs = [
        batched_values(size, batch, v, dim, summed=summed)
        for v, dim in zip(arguments[1:4], in_dims[1:4], strict=True)
    ]
    return [field, *(value for value, _ in pairs), *arguments[4:]], [axes for _, axes in pairs]


@torch.library.register_vmap(_NAME)
def _vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    return _OP(*_mapped(info, in_dims, arguments, summed=False)[0]), 0


@torch.library.register_vmap(_BACKWARD)
def _vmap_backward(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[Tensors, tuple[int, ...]]:
    moved, extra = _mapped(info, in_dims, arguments, summed=True)
    grad, *values = _BACKWARD_OP(*moved)
    return per_call([grad, *restore(values, extra)], info.batch_size)
