# SPDX-License-Identifier: Apache-2.0
"""What an op runs on a CUDA tensor: its kernel, or the composite of torch operations.

The table in ``csrc/core/cuda/table.cpp`` decides: a kernel runs on an architecture on which it has
been verified. ``PHYSCON_CUDA_KERNELS``, read once, widens or narrows this: ``verified`` (the
default), ``all`` (kernels that never ran on hardware as well) or ``none``.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext import _C
from physcon_ext.ops._storage import refuse_storage


# Every op, with a composite and a kernel; the module behind the composite is imported when a CUDA
# tensor first needs it.
COMPOSITE_OPS = (
    "condition_diagonal",
    "condition_diagonal_backward",
    "condition_cross",
    "condition_cross_backward",
    "condition_dense",
    "condition_disjoint",
    "condition_disjoint_backward",
    "condition_banded",
    "condition_banded_backward",
    "banded_product",
    "spectral_conv",
    "spectral_conv_backward",
    "assign_faces",
    "assign_faces_backward",
    "boundary_spectral_conv",
    "boundary_spectral_conv_backward",
    "end_response",
    "end_response_backward",
    "two_step_gain",
    "two_step_gain_backward",
    "balance_law",
    "cavity",
    "fno_block",
    "fno_block_backward",
)
# Ops whose transforms may run in TF32 where PyTorch allows it.
_TRANSFORMING = frozenset(
    f"{op}{direction}"
    for op in ("spectral_conv", "boundary_spectral_conv", "fno_block")
    for direction in ("", "_backward")
)
# Arguments of balance_law that are read on the host.
ON_HOST = frozenset(("spacing", "edge_weights", "choices"))
_VARIABLE = "PHYSCON_CUDA_KERNELS"
_MODES = ("verified", "all", "none")


@functools.cache
def mode() -> str:
    """Which kernels may run, from the environment.

    Raises:
        RuntimeError: If the variable has an unknown value.
    """
    value = os.environ.get(_VARIABLE, _MODES[0])
    if value not in _MODES:
        raise RuntimeError(
            f"physcon_ext: expected {_VARIABLE} to be one of {', '.join(_MODES)}, got {value!r}"
        )
    return value


def table() -> list[dict[str, Any]]:
    """The records of the build: op, architecture, verified revision or None, largest rank."""
    return list(_C.cuda_kernels())


def runs(record: dict[str, Any]) -> bool:
    """Whether the kernel of a record runs on its architecture."""
    allowed = mode() == "all" or (mode() == "verified" and record["verified"] is not None)
    return allowed and bool(_C.build_info()["cuda"])


def architecture(capability: tuple[int, int]) -> str:
    """The architecture of the record for a device; from 10 on the latest, whose PTX they compile.

    Records of an architecture hold for its own devices: what a later one runs is never verified.
    """
    major, minor = capability
    return "sm_90" if major > 9 else f"sm_{major}0" if major >= 8 else f"sm_{major}{minor}"


def code_for(capability: tuple[int, int], held: str) -> str | None:
    """What a device runs of the code that a build holds, or None.

    Args:
        capability: Compute capability of the device.
        held: As `build_info` lists it: machine code ``sm_80``, for this and later minor versions,
            PTX ``compute_90``, for this and all later versions, or ``90`` for both.
    """
    for name in filter(None, held.split(", ")):
        kind, _, number = name.rpartition("_")
        digits = number.rstrip("af")
        own = int(digits[:-1]), int(digits[-1])
        machine, later = kind != "compute", kind != "sm"
        if number != digits:  # code of one architecture only
            fits = machine and capability == own
        else:
            same = capability[0] == own[0] and capability[1] >= own[1]
            fits = (machine and same) or (later and capability >= own)
        if fits:
            return name
    return None


@functools.cache
def _record(op: str, device: int) -> dict[str, Any] | None:
    """The record that applies to an op on a device, or None for the composite.

    Raises:
        RuntimeError: If all kernels are wanted and the build has no code for the device.
    """
    capability = torch.cuda.get_device_capability(device)
    if mode() == "all" and _C.build_info()["cuda"]:
        _check_code(device, capability)
    name = architecture(capability)
    for record in table():
        if (record["op"], record["architecture"]) == (op, name) and runs(record):
            later = capability[0] > 9
            return None if later and mode() != "all" else record
    return None


def has_kernel(op: str, like: Tensor, rank: int) -> bool:
    """Whether an op on tensors like this one, with so many rows, runs its kernel."""
    record = _record(op, like.device.index or 0)
    return record is not None and rank <= record["largest_rank"]


def runs_on_fields(op: str, field: Tensor, weight: Tensor, period: list[float]) -> bool:
    """Whether a convolution and its adjoint run their kernels, not whole transforms."""
    if not all(has_kernel(name, field, 0) for name in (op, f"{op}_backward")):
        return False
    return not _prefers_transforms(field, weight, period)


def _check_code(device: int, capability: tuple[int, int]) -> None:
    held = str(_C.build_info()["cuda_architectures"])
    if code_for(capability, held) is None:
        major, minor = capability
        raise RuntimeError(
            f"physcon_ext: expected a device that runs {held} for {_VARIABLE}=all, got "
            f"{torch.cuda.get_device_name(device)} (cuda:{device}) of compute capability "
            f"{major}.{minor}; unset {_VARIABLE} to run torch operations there, or build with "
            f"-Ccmake.define.PHYSCON_CUDA_ARCHITECTURES={major}{minor}-real (80 and later)"
        )


def _composite(op: str) -> Callable[..., Any]:
    from physcon_ext.ops.composite.table import COMPOSITES

    return COMPOSITES[op]


# Rows that were checked: their tensors, in the state that they had then.
_checked: dict[tuple[Any, ...], tuple[weakref.ref[Tensor], ...]] = {}
_MOST_CHECKED = 64


def _check_rows(op: str, points: int, weights: Tensor, order: Tensor, offsets: Tensor) -> None:
    """Wrong indices would read and write outside the arrays.

    The check takes a dozen launches, so it is made once for tensors that are not written to in
    between. A captured graph holds it: what it reads may change before it runs again.
    """
    from physcon_ext.ops.composite.disjoint import Rows

    tensors, support = (order, offsets), weights.shape[-1]
    if any(t.is_inference() for t in tensors) or _captures(offsets):
        Rows(f"physcon::{op}", points, support, order, offsets)
        return
    state = tuple((id(t), t._version) for t in tensors)
    key = (points, support, *state)
    known = _checked.get(key)
    if known is not None and all(r() is t for r, t in zip(known, tensors, strict=True)):
        return
    Rows(f"physcon::{op}", points, support, order, offsets)
    if len(_checked) >= _MOST_CHECKED:
        _checked.clear()
    _checked[key] = tuple(map(weakref.ref, tensors))


def _captures(t: Tensor) -> bool:
    return t.is_cuda and torch.cuda.is_current_stream_capturing()


def _prefers_transforms(field: Tensor, weight: Tensor, period: Sequence[float]) -> bool:
    from physcon_ext.ops.composite.spectral import periods_of
    from physcon_ext.ops.composite.spectral_fft import prefers_fft

    d = weight.ndim - 3
    size = field.shape[-d:]
    return prefers_fft(size, weight.shape[:d], periods_of(size, period))


def tf32_allowed() -> bool:
    """Whether float32 matrix products may round their operands to TF32, as PyTorch is set now.

    ``torch.set_float32_matmul_precision`` decides, or the newer
    ``torch.backends.cuda.matmul.fp32_precision`` where that was set instead.
    """
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # the older name cannot tell what the newer one set
        return str(torch.backends.cuda.matmul.fp32_precision) == "tf32"


def _by_record(op: str) -> Callable[..., Any]:
    """The kernel where its record lets it run, else the composite.

    Where a convolution keeps so many modes that whole transforms are faster, those replace the
    kernel. This stands between every call and its launches: what does not change is found once.
    """
    kernel = getattr(torch.ops.physcon_cuda, op).default
    names = [a.name for a in kernel._schema.arguments]
    host = ON_HOST if op == "balance_law" else ()
    tensors = [
        i
        for i, a in enumerate(kernel._schema.arguments)
        if "Tensor" in str(a.type) and a.name not in host
    ]
    place = {name: i for i, name in enumerate(names)}
    rows = place.get("rows")

    def call(*arguments: Any) -> Any:
        first: Tensor = arguments[0]
        device = first.device
        for i in tensors:
            if arguments[i] is not None and arguments[i].device != device:
                _check_device(op, names[i], arguments[i], names[0], device)
        record = _record(op, device.index or 0)
        ranks = 0 if rows is None else arguments[rows].shape[-2]
        if record is None or ranks > record["largest_rank"]:
            refuse_storage(f"physcon::{op}", first)
            return _composite(op)(*arguments)
        if "offsets" in place:
            listed = (arguments[place[k]] for k in ("weights", "order", "offsets"))
            _check_rows(op, first.shape[-1], *listed)
        if op not in _TRANSFORMING:
            return kernel(*arguments)
        weight, period = arguments[place["weight"]], arguments[place["period"]]
        whole = first.dtype in (torch.float32, torch.float64) and first.numel() > 0
        if whole and _prefers_transforms(first, weight, period):
            from physcon_ext.ops.composite.table import BY_TRANSFORMS

            return BY_TRANSFORMS[op](*arguments)
        if not tf32_allowed():
            return kernel(*arguments)
        allow = torch.ops.physcon_cuda.allow_tf32.default
        allow(True)
        try:
            return kernel(*arguments)
        finally:
            allow(False)

    return call


def _check_device(op: str, name: str, value: Tensor, like: str, device: torch.device) -> None:
    """A kernel would read the memory of another device; of no numbers it reads nothing."""
    if value.numel() > 0:
        raise ValueError(
            f"physcon::{op}: expected {name} to be on {device}, as {like} is, got {value.device}; "
            f"move it there with .to({str(device)!r})"
        )


def register() -> None:
    """Give every op an implementation for CUDA tensors."""
    for op in COMPOSITE_OPS:
        torch.library.impl(f"physcon::{op}", "CUDA", _by_record(op))
