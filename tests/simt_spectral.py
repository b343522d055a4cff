# SPDX-License-Identifier: Apache-2.0
"""Calls of the convolutions and of face rules as bytes for ``cuda_shim/spectral_driver.cpp``.

``pointwise`` is not an op of its own but what ``fno_block`` adds to its convolution: arguments
``(x, convolution, skip, bias, values, stencils, dims, activated)``, adjoint ``(grad, field, x,
values, stencils, dims, activated)`` with ``activated`` 0, 1 or 2: keep what it saw. ``fno_block``
is the op on a line.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import simt_driver as simt


OPS = {
    "spectral_conv": 0,
    "spectral_conv_backward": 1,
    "assign_faces": 2,
    "assign_faces_backward": 3,
    "boundary_spectral_conv": 4,
    "boundary_spectral_conv_backward": 5,
    "pointwise": 6,
    "pointwise_backward": 7,
    "fno_block": 8,
}
Shape = tuple[int, ...]


def build(mode: str, changed: dict[str, str] | None = None) -> Path:
    """The program that runs these ops."""
    return simt.build(mode, changed, driver="spectral_driver.cpp")


@dataclass
class Call:
    """One call of a raw op; the rest decides how it is cut and run.

    Attributes:
        op: Its name.
        arguments: Its arguments, tensors on the CPU.
        multiprocessors: Of the device; more of them split the sums of a line.
        major: Of the compute capability; blocks form clusters from 9 on.
        launches: Of a convolution on a line: by the rule, one where possible, or several.
        seed: Order of blocks and threads.
        skip: The barrier that every thread leaves out, -1 for none.
        tf32: Whether transforms may round their operands.
        result: The dtype of the field that comes back, that of the first argument if None.
    """

    op: str
    arguments: tuple[Any, ...]
    multiprocessors: int = 4
    major: int = 9
    launches: str = "several"
    seed: int = 0
    skip: int = -1
    tf32: bool = False
    result: torch.dtype | None = None

    def seeded(self, seed: int, skip: int = -1) -> Call:
        """The same call in another order of threads, perhaps without one barrier."""
        return replace(self, seed=seed, skip=skip)


def run(program: Path, calls: Sequence[Call]) -> list[simt.Answer]:
    """Run calls in one process; raises `simt_driver.Failure`."""
    return simt.run_encoded(program, [_encode(call) for call in calls])


@dataclass
class _Sizes:
    batch: Shape
    channels: tuple[int, int]
    size: Shape
    modes: Shape
    period: tuple[float, ...]


def _encode(call: Call) -> simt.Encoded:
    a = call.arguments
    back = call.op.endswith("backward")
    first: Tensor = a[0]
    dtype = first.dtype
    gains: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()
    stencils: tuple[Tensor, ...] = ()
    activated = 0
    if "pointwise" in call.op:
        at = 3 if back else 4
        values, stencils, d, activated = a[at : at + 3], a[at + 3 : at + 6], a[at + 6], a[at + 7]
        size = tuple(first.shape[-d:])
        x, y = (a[2], first) if back else a[:2]
        pair = (x.shape[-d - 1], y.shape[-d - 1])
        batch = tuple(x.shape[: -d - 1])
        s = _Sizes(batch, pair, size, (1,) * d, tuple(map(float, size)))
        inputs: list[Tensor] = list(a[:at])
    elif "faces" in call.op:
        values, stencils, d = a[1:4], a[4:7], a[7]
        size = tuple(first.shape[-d:])
        lead = tuple(first.shape[:-d])
        s = _Sizes(lead[:-1], (lead[-1], lead[-1]), size, (1,) * d, tuple(map(float, size)))
        inputs = [first]
    else:
        if call.op == "fno_block":
            gains, values, stencils, period = a[4:7], a[7:10], a[10:13], a[13]
            activated = int(a[14]) * (1 + int(a[15]))
            inputs = list(a[:4])
        elif "boundary" in call.op:
            at = 4 if back else 2
            gains, values, stencils = a[at : at + 3], a[at + 3 : at + 6], a[at + 6 : at + 9]
            period = a[at + 9]
            inputs = list(a[:at])
        else:
            period = a[4 if back else 2]
            inputs = list(a[: 3 if back else 2])
        weight = inputs[1 if call.op == "fno_block" else -1]
        d = weight.ndim - 3
        size = tuple(first.shape[-d:])
        s = _Sizes(
            tuple(first.shape[: first.ndim - d - 1]),
            (weight.shape[d], weight.shape[d + 1]),
            size,
            tuple(weight.shape[:d]),
            tuple(period) or tuple(map(float, size)),
        )
    one = (1,) * (3 - d)
    header = struct.pack(
        "<20q3d36q",
        *(OPS[call.op], simt.TYPES[dtype], call.seed, call.skip),
        *(simt.TYPES[call.result or dtype], call.multiprocessors, call.major),
        ("automatic", "one", "several").index(call.launches),
        *(call.tf32, d, math.prod(s.batch), *s.channels, activated),
        *(*one, *s.size, *one, *s.modes),
        *(*one, *s.period),
        *(_padded(gains, d, lambda g: (g.shape[3],), 1)),
        *(_padded(values, d, lambda v: (_width(v, values, stencils), *_strides(v, d)), 6)),
        *(_padded(values, d, lambda v: _extents(v, d), 5)),
    )
    arrays: list[Tensor | None] = list(inputs)
    if gains:
        arrays += _in_slots(gains, d)
    if values:
        for stencil, value in zip(_in_slots(stencils, d), _in_slots(values, d), strict=True):
            arrays += [stencil] if back else [stencil, value]
    return header + simt.array_bytes(arrays), _outputs(call, s, gains, values, dtype)


def _outputs(
    call: Call,
    s: _Sizes,
    gains: Sequence[Tensor],
    values: Sequence[Tensor],
    dtype: torch.dtype,
) -> list[tuple[Shape, torch.dtype]]:
    c_in, c_out = s.channels
    computed = torch.float32 if dtype.itemsize == 2 else dtype
    dtype = call.result or dtype
    weight = ((*s.modes, c_in, c_out, 2), computed)
    x, y = ((*s.batch, c, *s.size) for c in s.channels)
    data = [(tuple(v.shape), computed) for v in _from_slots(values, len(s.size))]
    spectrum = ((*s.modes, *s.batch, c_in, 2), computed)
    match call.op:
        case "spectral_conv":
            return [(y, dtype), spectrum]
        case "spectral_conv_backward":
            return [(x, dtype), weight]
        case "assign_faces":
            return [(y, dtype)]
        case "assign_faces_backward":
            return [(y, dtype), *data]
        case "pointwise":
            return [(y, dtype), (y, computed)][: 2 if call.arguments[-1] == 2 else 1]
        case "pointwise_backward":
            passed_on = not call.arguments[-1] and not any(v.numel() for v in values)
            grad = ((0,) if passed_on and computed == dtype else y, computed)
            return [grad, ((c_in, c_out), computed), ((c_out,), computed), *data]
        case "boundary_spectral_conv" | "fno_block":
            parts = 1 if len(s.size) == 1 else 2
            others = sum(math.prod(s.modes) // s.modes[i] for i, g in enumerate(gains) if g.numel())
            record = (others, *s.batch, (4 * c_in + 2 * c_out) * parts)
            kept: list[tuple[Shape, torch.dtype]] = []
            if call.op == "fno_block":
                kept = [(y if all(call.arguments[-2:]) else (0,), computed)]
            return [(y, dtype), *kept, spectrum, (record, torch.float64)]
        case _:
            matrices = [(tuple(g.shape), torch.float64) for g in _from_slots(gains, len(s.size))]
            return [(x, dtype), weight, *matrices, *data]


# The driver counts axes from the back: the last one of a line is axis 2.


def _in_slots(tensors: Sequence[Tensor], d: int) -> list[Tensor | None]:
    given = [t if t.numel() else None for t in tensors[:d]]
    return [None] * (3 - len(given)) + given


def _from_slots(tensors: Sequence[Tensor], d: int) -> list[Tensor]:
    nothing = torch.empty(0)
    return [nothing] * (3 - d) + [t if t.numel() else nothing for t in tensors[:d]]


def _padded(tensors: Sequence[Tensor], d: int, numbers: Any, count: int) -> list[int]:
    found: list[int] = []
    for tensor in _in_slots(tensors, d):
        found += [1] * count if tensor is None else numbers(tensor)
    return found


def _width(value: Tensor, values: Sequence[Tensor], stencils: Sequence[Tensor]) -> int:
    return next(s.shape[1] for v, s in zip(values, stencils, strict=True) if v is value)


def _strides(value: Tensor, d: int) -> list[int]:
    """Strides of face data by item, channel, end and the two other axes; 0 where broadcast."""
    shape = value.shape
    lead = value.ndim - d - 1
    tangent, step = [0, 0], 1
    for i in range(d - 1):
        tangent[1 - i] = 0 if shape[-1 - i] == 1 else step
        step *= shape[-1 - i]
    own = shape[lead]
    shared = all(n == 1 for n in shape[:lead])
    return [0 if shared else own * 2 * step, 0 if own == 1 else 2 * step, step, *tangent]


def _extents(value: Tensor, d: int) -> list[int]:
    lead = value.ndim - d - 1
    rest = value.shape[lead + 2 :]
    return [math.prod(value.shape[:lead]), value.shape[lead], 2, *(1,) * (3 - d), *rest]
