# SPDX-License-Identifier: Apache-2.0
"""Face rules as tensor arguments of ops: checks, batching, and the rule by tensor operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class FaceTensors:
    """Data and stencils of three axes; empty tensors where there is no rule."""

    values: tuple[Tensor, ...]
    stencils: tuple[Tensor, ...]


def face_tensors(
    op: str,
    field: Tensor,
    channels: int,
    values: Sequence[Tensor | None],
    stencils: Sequence[Tensor | None],
    dtype: torch.dtype | None = None,
) -> FaceTensors:
    """Return the rules of the last axes of ``field``, with ``channels`` for its own, checked.

    The data have the given ``dtype``, or that of ``field``.

    Raises:
        TypeError: If the data or a stencil is not a tensor of the dtype it must have.
        ValueError: If a shape or device does not fit.
    """
    dims = len(values)
    if not 1 <= dims <= 3 or len(stencils) != dims or field.ndim < dims + 1:
        raise ValueError(
            f"{op}: expected values and stencils for 1 to 3 axes of a field (*batch, C, N_1..N_d), "
            f"got {dims} and {len(stencils)} for shape {tuple(field.shape)}"
        )
    batch, sizes = field.shape[: field.ndim - dims - 1], field.shape[field.ndim - dims :]
    dtype = dtype or field.dtype
    data = [torch.empty(0, dtype=dtype, device=field.device)] * 3
    rows = [torch.empty(0, dtype=torch.float64, device=field.device)] * 3
    for axis, (value, stencil) in enumerate(zip(values, stencils, strict=True)):
        if value is None and stencil is None:
            continue
        if not isinstance(value, Tensor) or not isinstance(stencil, Tensor):
            raise TypeError(
                f"{op}: expected values[{axis}] and stencils[{axis}] to be two tensors or None, "
                f"got {type(value).__name__} and {type(stencil).__name__}"
            )
        if value.dtype != dtype or stencil.dtype != torch.float64:
            raise TypeError(
                f"{op}: expected values[{axis}] to be {dtype} like the field and "
                f"stencils[{axis}] to be torch.float64, got {value.dtype} and {stencil.dtype}"
            )
        if value.device != field.device or stencil.device != field.device:
            raise ValueError(
                f"{op}: expected values[{axis}] and stencils[{axis}] to be on {field.device}, got "
                f"{value.device} and {stencil.device}"
            )
        full = (*batch, channels, 2, *sizes[:axis], *sizes[axis + 1 :])
        fits = value.ndim == len(full) and all(
            found == size or (found == 1 and i != len(batch) + 1)
            for i, (found, size) in enumerate(zip(value.shape, full, strict=True))
        )
        if not fits:
            raise ValueError(
                f"{op}: expected values[{axis}] to have shape {full}, or 1 along any axis but "
                f"that of the 2 ends, got {tuple(value.shape)}"
            )
        if stencil.ndim != 2 or stencil.shape[0] != 2 or stencil.shape[1] < 1:
            raise ValueError(
                f"{op}: expected stencils[{axis}] to have shape (2, q + 1), got "
                f"{tuple(stencil.shape)}"
            )
        if sizes[axis] < 2 or stencil.shape[1] >= sizes[axis]:
            raise ValueError(
                f"{op}: expected axis {axis} to have at least 2 points and more than the "
                f"{stencil.shape[1]} of its stencil, got {sizes[axis]}; use a lower order"
            )
        data[axis], rows[axis] = uniform(value, batch), stencil
    return FaceTensors(tuple(data), tuple(rows))


def uniform(value: Tensor, batch: Sequence[int]) -> Tensor:
    """Expand the batch axes of face data unless they are all 1 or all there."""
    own = value.shape[: len(batch)]
    if all(n == 1 for n in own) or tuple(own) == tuple(batch):
        return value
    return value.expand(*batch, *value.shape[len(batch) :])


def assign_by_formula(
    u: Tensor, values: Sequence[Tensor], stencils: Sequence[Tensor], dims: int
) -> Tensor:
    """The rule by differentiable tensor operations, in the dtype of ``u``."""
    for axis in range(dims):
        value, stencil = values[axis], stencils[axis]
        if stencil.numel() == 0:
            continue
        at = u.ndim - dims + axis
        points = u.shape[at]
        faces = []
        for end in range(2):
            order = range(stencil.shape[1])
            lines = [u.select(at, points - 1 - j if end else j) for j in order]
            inwards = torch.stack(lines, -1) @ stencil[end].to(u.dtype)
            faces.append((value.select(u.ndim - dims, end).to(u.dtype) + inwards).unsqueeze(at))
        u = torch.cat([faces[0], u.narrow(at, 1, points - 2), faces[1]], dim=at)
    return u


def prescribed(stencils: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Mask of the points that are assigned without regard to their own value."""
    found = torch.zeros((), dtype=torch.bool, device=stencils[0].device)
    for axis, n in enumerate(sizes):
        if stencils[axis].numel() == 0:
            continue
        first, last = (stencils[axis][:, 0] == 0).unbind()
        at = torch.arange(n, device=found.device)
        ends = ((at == 0) & first) | ((at == n - 1) & last)
        found = found | ends.reshape(-1, *(1,) * (len(sizes) - 1 - axis))
    return found


def pull_by_formula(
    grad: Tensor, values: Sequence[Tensor], stencils: Sequence[Tensor], dims: int
) -> tuple[Tensor, list[Tensor]]:
    """The adjoint of `assign_by_formula`: gradients of ``u`` and of the data, in their shapes."""
    found = [torch.zeros_like(value, dtype=grad.dtype) for value in values]
    for axis in reversed(range(dims)):
        value, stencil = values[axis], stencils[axis]
        if stencil.numel() == 0:
            continue
        at = grad.ndim - dims + axis
        points, width = grad.shape[at], stencil.shape[1]
        faces = [grad.select(at, 0), grad.select(at, points - 1)]
        found[axis] = torch.stack(faces, grad.ndim - dims).sum_to_size(value.shape)
        gap = list(grad.shape)
        gap[at] = points - width
        nothing, edge = grad.new_zeros(gap), torch.zeros_like(faces[0]).unsqueeze(at)
        first, last = (
            face.unsqueeze(at) * row.to(grad.dtype).reshape(-1, *(1,) * (grad.ndim - at - 1))
            for face, row in zip(faces, stencil, strict=True)
        )
        grad = (
            torch.cat([edge, grad.narrow(at, 1, points - 2), edge], at)
            + torch.cat([first, nothing], at)
            + torch.cat([nothing, last.flip(at)], at)
        )
    return grad, found


def batched_values(
    size: int, batch: Sequence[int], value: Tensor, dim: int | None, *, summed: bool
) -> tuple[Tensor, tuple[int, ...]]:
    """Face data for one call on a batch with a mapped axis in front.

    Returns:
        The data, and the axes that a gradient of them has in excess, to be summed and kept. Only
        with ``summed`` does every mapped call get data of its own.
    """
    if value.ndim == 1:  # no data for this axis
        return value, ()
    if dim is None and not summed:
        return uniform(value.unsqueeze(0), (size, *batch)), ()
    value = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
    whole = uniform(value, (size, *batch))
    shapes = zip(value.shape, whole.shape, strict=True)
    return whole, tuple(i for i, (own, full) in enumerate(shapes) if own != full)


def unmapped(op: str, name: str, dims: Sequence[int | None]) -> None:
    """Refuse to map an argument that all calls must share."""
    if any(dim is not None for dim in dims):
        raise ValueError(f"{op}: expected {name} not to be mapped by vmap")


def restore(gradients: Sequence[Tensor], extra: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Sum gradients of data over the axes that `batched_values` named."""
    return [
        g.sum(axes, keepdim=True) if axes else g for g, axes in zip(gradients, extra, strict=True)
    ]


def per_call(results: Sequence[Any], size: int) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Outputs of a call with a mapped axis in front; empty ones get one."""
    outputs = tuple(r.new_empty(size, 0) if r.numel() == 0 else r for r in results)
    return outputs, (0,) * len(outputs)
