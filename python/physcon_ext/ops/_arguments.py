# SPDX-License-Identifier: Apache-2.0
"""Checks and broadcasting that the wrappers of all ops share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.ops._storage import LOW_PRECISION


_DTYPES = (torch.float32, torch.float64)


def check_tensors(op: str, **tensors: Tensor) -> list[Tensor]:
    """Return the tensors in one floating dtype on one device, or say which one does not fit.

    Inside ``torch.autocast`` bfloat16 and float16 become float32; float64 is left alone.

    Raises:
        TypeError: If an argument is not a tensor, or the dtypes differ or are not float32/float64.
        ValueError: If the devices differ, or no kernel exists for the device.
    """
    values = list(tensors.values())
    if _plain(values):
        return values
    for name, t in tensors.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"{op}: expected {name} to be a torch.Tensor, got {type(t).__name__}")
    first_name, first = next(iter(tensors.items()))
    if first.device.type not in ("cpu", "cuda", "meta"):
        raise ValueError(
            f"{op}: expected {first_name} to be on the CPU or a CUDA device, got {first.device}; "
            "physcon_ext.reference runs on any device"
        )
    if first.device.type != "meta" and torch.is_autocast_enabled(first.device.type):
        values = [t.float() if t.dtype in LOW_PRECISION else t for t in values]
        first = values[0]
    # 16-bit numbers come here under no autocast only where a kernel takes them as they are, perhaps
    # beside float32.
    stored = first.is_cuda and first.dtype in LOW_PRECISION
    if first.dtype not in _DTYPES and not stored:
        raise TypeError(
            f"{op}: expected {first_name} to be float32 or float64 (or bfloat16 or float16, stored "
            f"so and computed in float32), got {first.dtype}"
        )
    for name, t in zip(tensors, values, strict=True):
        if t.dtype != first.dtype and not (stored and t.dtype == torch.float32):
            raise TypeError(
                f"{op}: expected {name} and {first_name} to have the same dtype, "
                f"got {t.dtype} and {first.dtype}"
            )
        if t.device != first.device:
            raise ValueError(
                f"{op}: expected {name} and {first_name} to be on the same device, "
                f"got {t.device} and {first.device}"
            )
    return values


def _plain(values: Sequence[Tensor]) -> bool:
    """Whether nothing is to be said or cast: one dtype, the CPU or one GPU, no autocast."""
    first = values[0]
    dtype = getattr(first, "dtype", None)
    if dtype not in _DTYPES or not (first.is_cpu or first.is_cuda):
        return False
    gpu = None if first.is_cpu else first.device  # asking for the CPU costs less than its name
    if torch.is_autocast_enabled("cuda" if gpu else "cpu"):
        return False
    for t in values:
        if not isinstance(t, Tensor) or t.dtype is not dtype:
            return False
        if not (t.device == gpu if gpu else t.is_cpu):
            return False
    return True


def as_noise(op: str, noise: Tensor | float, target: Tensor) -> Tensor:
    """Return the noise as a tensor: per row, or a matrix with one axis more than ``target``."""
    if isinstance(noise, Tensor):
        return noise
    if isinstance(noise, bool) or not isinstance(noise, int | float):
        raise TypeError(
            f"{op}: expected noise to be a tensor or a number, got {type(noise).__name__}"
        )
    if not noise >= 0:
        raise ValueError(f"{op}: expected noise to be >= 0, got {noise}")
    return target.new_full((), noise)


def broadcast(op: str, **arguments: tuple[Tensor, tuple[int, ...], bool]) -> list[Tensor]:
    """Expand arguments to a common batch shape.

    Args:
        op: Name for the messages.
        arguments: ``name=(tensor, trailing shape, may be shared)``; a shared argument given
            without batch axes stays as it is.

    Raises:
        ValueError: If trailing shapes or batch axes do not fit.
    """
    values = list(arguments.values())
    first, rest, _ = values[0]
    batch = first.shape[: first.ndim - len(rest)]
    for t, rest, shared in values:
        if t.shape != batch + rest and not (shared and t.shape == rest):
            break
    else:
        return [t for t, _, _ in values]  # nothing to expand
    batches = []
    for name, (t, rest, _) in arguments.items():
        lead = t.ndim - len(rest)
        if lead < 0 or t.shape[lead:] != rest:
            wanted = ", ".join(("...", *map(str, rest)))
            raise ValueError(
                f"{op}: expected {name} to have shape ({wanted}), got {tuple(t.shape)}"
            )
        batches.append(t.shape[:lead])
    batch = batches[0]
    if any(b != batch for b in batches):
        try:
            batch = torch.broadcast_shapes(*batches)
        except RuntimeError:
            shapes = ", ".join(f"{k} {tuple(t.shape)}" for k, (t, _, _) in arguments.items())
            raise ValueError(f"{op}: expected batch axes that broadcast, got {shapes}") from None
    return [
        t if own == batch or (shared and not own) else t.expand(*batch, *rest)
        for (t, rest, shared), own in zip(arguments.values(), batches, strict=True)
    ]
