# SPDX-License-Identifier: Apache-2.0
"""Convolutions that keep many modes: whole transforms on a device, and the choice."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from op_suite import deviation, normal, seeded
from physcon_ext.ops import _cuda
from physcon_ext.ops.composite import COMPOSITES, spectral_fft
from physcon_ext.ops.composite.table import BY_TRANSFORMS
from test_cuda_spectral import corrected
from test_ops_boundary_spectral_conv import GRIDS


WHOLE = [
    *(g for g in GRIDS if all(p == int(p) for p in g[2])),
    ((130,), (66,), (130,)),
    ((101,), (51,), (101,)),
    ((40, 31), (40, 16), (48, 31)),
]
# Transforms in the dtype of the field: rounding of tens of operations.
LIMIT = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("grid", WHOLE, ids=str)
def test_whole_transforms_give_the_numbers_of_the_matrices(grid: Any, dtype: torch.dtype) -> None:
    size, modes, period = grid
    periods = [float(p) for p in period]
    for batch in [(), (2, 3)]:
        g = seeded("whole", grid, batch)
        x, weight = normal(g, *batch, 3, *size).to(dtype), normal(g, *modes, 3, 2, 2).to(dtype)
        found = spectral_fft.spectral_conv(x, weight, periods)
        expected = COMPOSITES["spectral_conv"](x.double(), weight.double(), periods)
        grad = normal(g, *found[0].shape).to(dtype)
        rest = (list(size), periods, True, True)
        found += spectral_fft.spectral_conv_backward(grad, found[1], weight, *rest)
        expected += COMPOSITES["spectral_conv_backward"](
            grad.double(), expected[1], weight.double(), *rest
        )
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape and a.is_contiguous() and a.dtype == dtype
            assert deviation(a, b) <= LIMIT[dtype]


# All modes and some, several axes corrected, padding, odd and even
CORRECTED: list[Any] = [
    ((12,), (7,), None, (0,)),
    ((31,), (9,), (40.0,), (0,)),
    ((7, 6), (6, 4), None, (0, 1)),
    ((6, 9), (4, 3), (8.0, 10.0), (1,)),
    ((4, 5, 6), (4, 4, 4), None, (0, 2)),
    ((9,), (5,), None, ()),
]


def blocks(
    size: Any, modes: Any, period: Any, dtype: torch.dtype, kind: int, axes: Any, activated: bool
) -> list[tuple[str, tuple[Any, ...]]]:
    """A Fourier layer with skip, bias, gains and face rules, and its adjoint."""
    (call, _) = corrected(size, modes, period, dtype, kind=kind, axes=axes)
    x, weight, *rest, periods = call.arguments
    g = seeded("whole block", size)
    skip, bias = normal(g, 3, 2).to(dtype), normal(g, 2).to(dtype)
    given = (x, weight, skip, bias, *rest, periods)
    _, field, spectrum, shifts = COMPOSITES["fno_block"](*given, activated, True)
    grad = normal(g, *x.shape[:1], 2, *size).to(dtype)
    back = (grad, field, spectrum, shifts, *given, activated, *[True] * 6)
    return [("fno_block", (*given, activated, True)), ("fno_block_backward", back)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("grid", CORRECTED, ids=str)
def test_corrected_layers_by_whole_transforms_give_the_numbers_of_the_matrices(
    grid: Any, dtype: torch.dtype
) -> None:
    size, modes, period, axes = grid
    for kind in range(3):
        given: Any = dict(kind=kind, axes=axes, parts=1 + kind % 2)
        calls = [(c.op, c.arguments) for c in corrected(size, modes, period, dtype, **given)]
        calls += blocks(size, modes, period, dtype, kind, axes, kind != 1)
        for op, arguments in calls:
            exact = [a.double() if isinstance(a, torch.Tensor) else a for a in arguments]
            found, expected = BY_TRANSFORMS[op](*arguments), COMPOSITES[op](*exact)
            for i, (a, b) in enumerate(zip(found, expected, strict=True)):
                assert a.shape == b.shape and a.is_contiguous(), (op, i)
                assert a.dtype == (b.dtype if b.dtype == a.dtype else dtype), (op, i)
                if a.numel():
                    assert deviation(a, b) <= LIMIT[dtype], (op, i)


def test_gradients_that_nobody_asks_for_are_empty() -> None:
    x, weight = torch.randn(2, 3, 12), torch.randn(7, 3, 2, 2)
    y, spectrum = spectral_fft.spectral_conv(x, weight, [])
    back = spectral_fft.spectral_conv_backward
    for flags in [(True, False), (False, True)]:
        found = back(torch.ones_like(y), spectrum, weight, [12], [], *flags)
        assert tuple(t.numel() > 0 for t in found) == flags


def test_the_choice_is_that_of_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHYSCON_SPECTRAL_PATH", raising=False)

    def chosen(size: list[int], modes: list[int], period: list[float] | None = None) -> bool:
        return spectral_fft.prefers_fft(size, modes, period or [float(n) for n in size])

    # One axis: at 98 modes, whatever its length, as long as it is a product of small primes.
    for n in (1024, 8192):
        assert [chosen([n], [m]) for m in (16, 97, 98, n // 2 + 1)] == [False, False, True, True]
    assert not chosen([1009], [98]) and chosen([1009], [505])
    # Padding makes the transforms longer, and not every period has one.
    assert not chosen([4096], [98], [8192.0]) and not chosen([4096], [2049], [4100.5])
    for n, m, expected in [(128, 12, False), (256, 32, False), (256, 128, True)]:
        assert chosen([n, n], [2 * m, m]) == expected
    assert not chosen([64] * 3, [16, 16, 8]) and chosen([64] * 3, [64, 64, 33])
    monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", "fft")
    assert chosen([1024], [16]) and not chosen([12], [4], [13.5])
    monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", "matrix")
    assert not chosen([8192], [4097])
    monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", "quick")
    with pytest.raises(RuntimeError, match="matrix, fft or auto, got 'quick'"):
        chosen([8], [2])


def test_rounding_is_allowed_for_one_call_and_where_pytorch_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the kernel of a transform finds, and that of an op that solves; even after an error."""
    allow, before = torch.ops.physcon_cuda.allow_tf32.default, torch.get_float32_matmul_precision()
    monkeypatch.setattr(_cuda, "_record", lambda op, device: {"largest_rank": 128})
    monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", "matrix")
    seen: list[bool] = []

    class Kernel:
        def __init__(self, op: str) -> None:
            self._schema = getattr(torch.ops.physcon_cuda, op).default._schema

        def __call__(self, *_: Any) -> None:
            seen.append(allow(False))
            allow(seen[-1])
            raise ArithmeticError

    def call(op: str, *arguments: Any) -> None:
        packet = type("Packet", (), {"default": Kernel(op)})
        names = {op: packet, "allow_tf32": torch.ops.physcon_cuda.allow_tf32}
        with monkeypatch.context() as patch, pytest.raises(ArithmeticError):
            patch.setattr(torch.ops, "physcon_cuda", type("Found", (), names))
            _cuda._by_record(op)(*arguments)
        assert allow(False) is False

    x, weight, rows = torch.randn(2, 3, 32), torch.randn(4, 3, 3, 2), torch.randn(2, 8)
    try:
        for precision, allowed in (("highest", False), ("high", True), ("medium", True)):
            torch.set_float32_matmul_precision(precision)
            assert _cuda.tf32_allowed() is allowed
            call("spectral_conv", x, weight, [])
            call("condition_diagonal", rows[0], rows[0], rows, rows[:, 0], rows[:, 0], True, True)
            assert seen == [allowed, False], precision
            seen.clear()
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_newer_name_of_the_precision_is_read() -> None:
    """In a process of its own: setting it closes the older name for good."""
    program = (
        "import torch, physcon_ext\n"
        "from physcon_ext.ops._cuda import tf32_allowed\n"
        "for value, allowed in (('ieee', False), ('tf32', True)):\n"
        "    torch.backends.cuda.matmul.fp32_precision = value\n"
        "    assert tf32_allowed() is allowed, value\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("modes", "by"), [(16, "kernel"), (513, "transforms")])
def test_many_modes_take_whole_transforms_in_both_passes(
    monkeypatch: pytest.MonkeyPatch, modes: int, by: str
) -> None:
    """With every record valid, and a note in the place of what would run."""
    monkeypatch.delenv("PHYSCON_SPECTRAL_PATH", raising=False)
    monkeypatch.setattr(_cuda, "_record", lambda op, device: {"largest_rank": 0})
    for op in BY_TRANSFORMS:
        monkeypatch.setitem(BY_TRANSFORMS, op, lambda *_: "transforms")

    class Kernel:
        def __init__(self, op: str) -> None:
            self._schema = getattr(torch.ops.physcon_cuda, op).default._schema

        def __call__(self, *_: Any) -> str:
            return "kernel"

    class Found:
        def __getattr__(self, op: str) -> Any:
            return type("Packet", (), {"default": kernels[op]})

    x, weight = torch.randn(2, 3, 1024), torch.randn(modes, 3, 3, 2)
    spectrum, shifts = torch.randn(modes, 2, 3, 2), torch.randn(1, 2, 18)
    none = torch.empty(0)
    gains, faces = (torch.randn(1, 12, 6, 1), none, none), (none,) * 6
    skip, bias = torch.randn(3, 3), torch.randn(3)
    layer = (x, weight, skip, bias, *gains, *faces, [1024.0], True)
    corrected = (weight, *gains, *faces, [1024.0])
    calls = {
        "spectral_conv": (x, weight, []),
        "spectral_conv_backward": (x, spectrum, weight, [1024], [], True, True),
        "boundary_spectral_conv": (x, *corrected),
        "boundary_spectral_conv_backward": (x, spectrum, shifts, *corrected, *[True] * 4),
        "fno_block": (*layer, True),
        "fno_block_backward": (x, x, spectrum, shifts, *layer, *[True] * 6),
    }
    assert set(calls) == set(BY_TRANSFORMS)
    kernels = {op: Kernel(op) for op in calls}
    monkeypatch.setattr(torch.ops, "physcon_cuda", Found())
    for op, arguments in calls.items():
        assert _cuda._by_record(op)(*arguments) == by
        nothing = tuple(a[:0] if a is x else a for a in arguments)
        assert _cuda._by_record(op)(*nothing) == "kernel"
