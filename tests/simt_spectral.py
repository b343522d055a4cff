# SPDX-License-Identifier: Apache-2.0
"""Calls of the convolutions and of face rules as bytes for ``cuda_shim/spectral_driver.cpp``."""

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
}


def build(mode: str, changed: dict[str, str] | None = None) -> Path:
    """The program that runs these ops."""
    return simt.build(mode, changed, driver="spectral_driver.cpp")


@dataclass
class Call:
    """One call of a raw op; ``multiprocessors`` decides how it is cut."""

    op: str
    arguments: tuple[Any, ...]
    multiprocessors: int = 4
    seed: int = 0
    skip: int = -1

    def seeded(self, seed: int, skip: int = -1) -> Call:
        """The same call in another order of threads, perhaps without one barrier."""
        return replace(self, seed=seed, skip=skip)


def run(program: Path, calls: Sequence[Call]) -> list[simt.Answer]:
    """Run calls in one process; raises `simt_driver.Failure`."""
    return simt.run_encoded(program, [_encode(call) for call in calls])


def _encode(call: Call) -> simt.Encoded:
    weight, size, period, batch = _sizes(call)
    d = len(size)
    modes, (c_in, c_out) = weight.shape[:d], weight.shape[d : d + 2]
    first: Tensor = call.arguments[0]
    one = (1,) * (3 - d)
    header = struct.pack(
        "<15q3d",
        *(OPS[call.op], first.dtype == torch.float64, call.seed, call.skip, call.multiprocessors),
        *(d, math.prod(batch), c_in, c_out),
        *(*one, *size, *one, *modes),
        *(*one, *period),
    )
    dtype = first.dtype
    if call.op == "spectral_conv":
        arrays = [first, weight]
        outputs = [((*batch, c_out, *size), dtype), ((*modes, *batch, c_in, 2), dtype)]
    else:
        arrays = [*call.arguments[:2], weight]
        outputs = [((*batch, c_in, *size), dtype), (tuple(weight.shape), dtype)]
    return header + simt.array_bytes(arrays), outputs


def _sizes(call: Call) -> tuple[Tensor, tuple[int, ...], tuple[float, ...], tuple[int, ...]]:
    """Weight, sizes, periods and batch axes."""
    back = call.op.endswith("backward")
    first: Tensor = call.arguments[0]
    weight: Tensor = call.arguments[2 if back else 1]
    d = weight.ndim - 3
    size = tuple(first.shape[-d:])
    given = call.arguments[4 if back else 2]
    period = tuple(given) if given else tuple(map(float, size))
    return weight, size, period, tuple(first.shape[: first.ndim - d - 1])
