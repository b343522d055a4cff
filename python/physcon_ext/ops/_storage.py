# SPDX-License-Identifier: Apache-2.0
"""Narrow types as storage: an op reads and writes them, and computes in float32 or float64."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from physcon_ext.ops._autograd import transformed


LOW_PRECISION = (torch.bfloat16, torch.float16)
# Raw ops whose CUDA kernels read and write 16-bit fields themselves.
_BY_KERNELS = frozenset(
    f"physcon::{op}{direction}"
    for op in (
        *("condition_diagonal", "spectral_conv", "boundary_spectral_conv"),
        *("fno_block", "assign_faces"),
    )
    for direction in ("", "_backward")
)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def stored(
    op: str,
    by_kernel: Callable[..., bool] | None = None,
    *,
    always: bool = False,
    field: bool = False,
    computed: torch.dtype = torch.float32,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function of float32 tensors take its first argument in bfloat16 or float16 as well.

    Arguments of that dtype become float32, others are left as they are, and float32 results come
    back in the dtype of the first argument: one rounding of what float32 gives for the same
    numbers. The casts are recorded, so gradients have the dtype of their argument. Inside
    ``torch.autocast`` its rules hold. A function that computes in float64 takes float32 likewise,
    as the first argument or beside it.

    Args:
        op: Name for the message.
        by_kernel: Whether a call with these arguments, given by name, has a CUDA kernel that reads
            and writes the storage type itself, with the same bits; it then gets them as they are.
            Transforms and the compiler see the casts in any case.
        field: The kernel does so with the first argument and takes the others in float32.
        always: Do so inside ``torch.autocast`` too, whose rules the function does not follow.
        computed: What the function computes in, float32 or float64.

    Raises:
        TypeError: From the function made, if bfloat16 and float16 come together.
    """

    stores = (*LOW_PRECISION, *{torch.float32} - {computed})

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)
        name = next(iter(signature.parameters))

        @functools.wraps(function)
        def call(*arguments: _P.args, **named: _P.kwargs) -> _R:
            first = arguments[0] if arguments else named.get(name)
            dtype = getattr(first, "dtype", None)
            if not isinstance(first, Tensor) or dtype not in stores:
                return function(*arguments, **named)
            if not always and autocast(first):
                return function(*arguments, **named)
            kept = False
            if by_kernel is not None and first.is_cuda:
                eager = not (torch.compiler.is_compiling() or transformed())
                kept = eager and by_kernel(**signature.bind(*arguments, **named).arguments)
            if kept and not field:
                return function(*arguments, **named)

            def widen(value: Any) -> Any:
                return _widen(op, value, dtype, computed)

            wide: list[Any] = [v if kept and i == 0 else widen(v) for i, v in enumerate(arguments)]
            wide_named: dict[str, Any] = {
                k: v if kept and k == name else widen(v) for k, v in named.items()
            }
            result = function(*wide, **wide_named)
            return result if kept else _narrow(result, dtype, computed)

        return call

    return decorate


def refuse_storage(op: str, first: Tensor) -> None:
    """Raise that a raw op takes no 16-bit tensors, if it was given one.

    Raises:
        RuntimeError: As on the CPU, with the name of the function that takes 16-bit tensors.
    """
    if first.dtype in LOW_PRECISION:
        public = op.removeprefix("physcon::").removesuffix("_backward")
        computed = "float64" if public in ("balance_law", "cavity") else "float32 or float64"
        raise RuntimeError(
            f"{op}: expected tensors of {computed}, got {first.dtype}; "
            f"physcon_ext.ops.{public} takes bfloat16 and float16"
        )


def register_fake(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `torch.library.register_fake`, for what takes the dtypes that the op takes."""

    def decorate(fake: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Tensor, *rest: Any) -> Any:
            if not (first.is_cuda and op in _BY_KERNELS):
                refuse_storage(op, first)
            return fake(first, *rest)

        torch.library.register_fake(op, call)
        return fake

    return decorate


def autocast(t: Tensor) -> bool:
    """Whether autocast is on where a tensor is."""
    return t.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(t.device.type)


def _widen(op: str, value: Any, dtype: Any, computed: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        if value.dtype in LOW_PRECISION and value.dtype != dtype:
            raise TypeError(
                f"{op}: expected one storage dtype besides float32, got {dtype} and {value.dtype}"
            )
        return value.to(computed) if value.dtype in (dtype, torch.float32) else value
    if isinstance(value, (list, tuple)):
        return [_widen(op, v, dtype, computed) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        inside = {f.name: getattr(value, f.name) for f in fields(value)}
        return replace(value, **{k: _widen(op, v, dtype, computed) for k, v in inside.items()})
    return value


def _narrow(result: Any, dtype: Any, computed: torch.dtype) -> Any:
    if isinstance(result, Tensor):
        return result.to(dtype) if result.dtype == computed else result
    return type(result)._make(_narrow(value, dtype, computed) for value in result)
