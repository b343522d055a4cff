# SPDX-License-Identifier: Apache-2.0
"""Checks of user input: one sentence that names the argument, what it should be and what it is."""

from collections.abc import Sequence

import torch
from torch import Tensor


def fmt(value: Tensor | float) -> str:
    """Return a number for a message, four significant digits."""
    return f"{float(value):.4g}"


def first_index(mask: Tensor) -> tuple[int, ...]:
    """Return the index of the first true entry."""
    return tuple(int(i) for i in mask.nonzero()[0])


def _at(index: tuple[int, ...]) -> str:
    return f" at index {index if len(index) != 1 else index[0]}" if index else ""


def common_shape(*shapes: Sequence[int]) -> torch.Size | None:
    """Return the shape that all shapes broadcast to, or None if there is none."""
    rank = max([0, *(len(s) for s in shapes)])
    common = []
    for place in range(-rank, 0):
        size = 1
        for other in (s[place] for s in shapes if len(s) >= -place):
            # Comparisons alone: sizes of a traced graph are symbols, which no set takes.
            if size == 1:
                size = other
            elif other not in (size, 1):
                return None
        common.append(size)
    return torch.Size(common)


def broadcast_shape(*shapes: Sequence[int]) -> torch.Size:
    """Return the shape that all shapes broadcast to; raise if there is none."""
    shape = common_shape(*shapes)
    if shape is None:
        listed = ", ".join(str(tuple(s)) for s in shapes)
        raise ValueError(f"expected shapes that broadcast, got {listed}")
    return shape


def check_dtype(
    who: str, name: str, value: Tensor, *, like: Tensor | None = None, like_name: str = ""
) -> None:
    """Raise unless the value is a strided float32 or float64 tensor, alike in dtype and device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{who}: expected {name} to be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{who}: expected {name} to be a dense tensor, got layout {value.layout}")
    if value.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{who}: expected {name} to be float32 or float64, got {value.dtype}")
    if like is not None and value.dtype != like.dtype:
        raise TypeError(
            f"{who}: expected {name} and {like_name} to have the same dtype, "
            f"got {value.dtype} and {like.dtype}"
        )
    if like is not None and value.device != like.device:
        raise ValueError(
            f"{who}: expected {name} and {like_name} to be on the same device, "
            f"got {value.device} and {like.device}"
        )


def check_finite(who: str, name: str, value: Tensor) -> None:
    """Raise if a value is NaN or infinite. Reads the data."""
    bad = ~value.detach().isfinite()
    if bool(bad.any()):
        index = first_index(bad)
        raise ValueError(
            f"{who}: expected {name} to be finite, got {float(value[index])}{_at(index)}"
        )


def check_not_negative(who: str, name: str, value: Tensor) -> None:
    """Raise if a value is negative. Reads the data."""
    bad = value.detach() < 0
    if bool(bad.any()):
        index = first_index(bad)
        raise ValueError(
            f"{who}: expected {name} to be >= 0, got {float(value[index])}{_at(index)}"
        )
