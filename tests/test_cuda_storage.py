# SPDX-License-Identifier: Apache-2.0
"""Kernels that read and write 16-bit numbers: the bits of the float32 kernel, rounded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import simt_driver as simt
import simt_spectral as spectral
from op_suite import OPS, normal, positive, same_bits, seeded
from physcon_ext import ops
from physcon_ext.ops import _cuda
from simt_driver import Plan, Problem
from simt_spectral import Call
from test_cuda_kernels import problems
from test_cuda_spectral import (
    BY_AXIS,
    CORRECTED_GRIDS,
    FIELDS,
    LAYERS,
    WHOLE,
    convolution,
    corrected,
    layer_calls,
    line_layers,
    rules,
)


LOW = [torch.bfloat16, torch.float16]
DIAGONAL = next(op for op in OPS if op.name == "condition_diagonal")


@pytest.fixture(scope="module")
def fibers() -> Path:
    return simt.build("fibers")


def moved(problem: Problem, *dtypes: torch.dtype) -> Problem:
    """With float32 arguments in these dtypes, one after the other; others as they are."""

    def move(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dtype == torch.float32:
            for dtype in dtypes:
                value = value.to(dtype)
        return value

    return Problem(problem.op, tuple(map(move, problem.arguments)), problem.plan)


def check(program: Path, calls: list[Problem], dtype: torch.dtype) -> None:
    found = simt.run(program, [moved(call, dtype) for call in calls])
    expected = simt.run(program, [moved(call, dtype, torch.float32) for call in calls])
    for call, a, b in zip(calls, found, expected, strict=True):
        forward = not call.op.endswith("backward")
        kept = [i for i in range(len(a.outputs)) if not (forward and i == 3)]  # no covariance
        wanted = [b.outputs[i] for i in kept]
        same_bits(
            [a.outputs[i] for i in kept],
            [w.to(dtype) if w.dtype == torch.float32 else w for w in wanted],
        )


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_the_bits_are_those_of_float32_rounded_once(
    fibers: Path, shared: bool, dtype: torch.dtype
) -> None:
    calls = []
    for noise in DIAGONAL.noises:
        for batch, n, r in (((5,), 31, 1), ((2,), 67, 8), ((2,), 97, 33)):
            calls += problems(DIAGONAL, torch.float32, batch, n, r, shared=shared, noise=noise)
    plan = Plan(threads=64, splits=3)
    calls += problems(DIAGONAL, torch.float32, (4,), 43, 7, shared=shared, plan=plan)
    check(fibers, calls, dtype)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_hard_rows_and_variances_that_cancel_round_once_too(
    fibers: Path, dtype: torch.dtype
) -> None:
    g = seeded("stored hard")
    n = 131
    row, variance = normal(g, n), positive(g, n) * 1e-4
    variance[[7, 50, 90]] = 1.0
    rows = torch.stack([row, row + 0.01 * normal(g, n), 2 * row])  # nearly and quite dependent
    target = normal(g, 3)
    values = [t.float() for t in (normal(g, n) - 100, variance, rows, target, 0 * target)]
    for plan in (Plan(threads=64), Plan(threads=64, splits=3)):
        check(fibers, [Problem("condition_diagonal", (*values, False, False), plan)], dtype)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_overflow_tiny_numbers_and_nan_are_stored_as_torch_stores_them(
    fibers: Path, dtype: torch.dtype
) -> None:
    """Shifts of the mean by powers of 2 and in between, to both sides of every limit."""
    g = seeded("stored limits")
    n = 256
    scale = 2.0 ** torch.linspace(-40, 20, n, dtype=torch.float64)
    variance = (scale * (1 + positive(g, n) / 8)).float().to(dtype).float()
    variance[variance.isinf()] = 1.0
    mean = normal(g, n).float() * variance
    rows, target = torch.ones(1, n), torch.tensor([3e5])
    values = [mean, variance, rows, target.to(dtype).float().nan_to_num(posinf=6e4), torch.zeros(1)]
    check(fibers, [Problem("condition_diagonal", (*values, False, False), Plan(threads=64))], dtype)
    values[0] = mean.clone()
    values[0][3] = torch.nan
    check(fibers, [Problem("condition_diagonal", (*values, False, False), Plan(threads=64))], dtype)


# ---- convolutions --------------------------------------------------------------------------------
# Fields have 16 bits, weights and spectra stay float32.


@pytest.fixture(scope="module")
def convolutions() -> Path:
    return spectral.build("fibers")


def low_and_wide(calls: list[Call], dtype: torch.dtype) -> tuple[list[Call], list[Call]]:
    """Calls whose fields have 16 bits, and the same numbers as float32."""

    def moved(call: Call, kind: torch.dtype) -> Call:
        fields = (0, 2) if call.op == "pointwise_backward" else (0,)
        given = [a.to(kind) if i in fields else a for i, a in enumerate(call.arguments)]
        return replace(call, arguments=tuple(given))

    low = [moved(call, dtype) for call in calls]
    return low, [moved(call, torch.float32) for call in low]


def check_fields(
    program: Path, calls: list[Call], dtype: torch.dtype, *, same_launches: bool = True
) -> None:
    """Calls on float32, their fields in 16 bits, against the same numbers as float32."""
    low, wide = low_and_wide(calls, dtype)
    found, expected = spectral.run(program, low), spectral.run(program, wide)
    for a, b in zip(found, expected, strict=True):
        assert a.outputs[0].dtype == dtype
        same_bits(a.outputs, [b.outputs[0].to(dtype), *b.outputs[1:]])
        assert a.launches == b.launches or not same_launches


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_convolutions_on_lines_round_once(convolutions: Path, dtype: torch.dtype) -> None:
    """Points in the middle, several tiles, split sums, matrix units, runs of four."""
    calls = []
    for n, m in ((1, 1), (67, 34), (101, 7), (160, 16), (264, 5), (128, 65)):
        for multiprocessors in (1, 40):
            calls += convolution((n,), (m,), None, torch.float32, multiprocessors=multiprocessors)
    calls += [replace(c, tf32=True) for c in convolution((128,), (65,), None, torch.float32)]
    check_fields(convolutions, [c.seeded(i) for i, c in enumerate(calls)], dtype)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_convolutions_on_planes_and_volumes_round_once(
    convolutions: Path, dtype: torch.dtype
) -> None:
    calls = []
    for size, modes in (((13, 9), (6, 3)), ((5, 60), (4, 30)), ((4, 3, 20), (2, 2, 9))):
        for multiprocessors in (WHOLE, BY_AXIS):
            calls += convolution(size, modes, None, torch.float32, multiprocessors=multiprocessors)
    calls += convolution((2, 4, 60), (2, 2, 30), None, torch.float32, multiprocessors=WHOLE)
    calls += [replace(c, tf32=True) for c in calls[4:6] + calls[-2:]]
    check_fields(convolutions, calls, dtype)


@pytest.mark.parametrize("launches", ["several", "one"])
@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_corrected_convolutions_and_layers_on_lines_round_once(
    convolutions: Path, dtype: torch.dtype, launches: str
) -> None:
    """End values that the gains see, face rules forward and backward, kept fields of layers."""
    calls = []
    for i, (n, m) in enumerate(((2, 1), (13, 7), (64, 9), (150, 3))):
        calls += corrected((n,), (m,), None, torch.float32, kind=i % 3)
        calls += corrected((n,), (m,), None, torch.float32, kind=i % 3, axes=())
    calls += line_layers(torch.float32) + line_layers(torch.float32, bare=True)
    calls += convolution((67,), (9,), None, torch.float32)
    calls = [replace(c, launches=launches, seed=i) for i, c in enumerate(calls)]
    check_fields(convolutions, calls, dtype)


@pytest.mark.parametrize("multiprocessors", [WHOLE, BY_AXIS], ids=["whole", "by axis"])
@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_corrected_convolutions_on_planes_and_volumes_round_once(
    convolutions: Path, dtype: torch.dtype, multiprocessors: int
) -> None:
    """Faces and end lines see numbers that have not been rounded, corners those of both axes."""
    calls = []
    for i, (size, modes, period, axes) in enumerate(CORRECTED_GRIDS[LOW.index(dtype) :: 2]):
        given: Any = dict(kind=i, axes=axes, parts=1 + i % 2, multiprocessors=multiprocessors)
        calls += corrected(size, modes, period, torch.float32, **given)
    whole = multiprocessors == WHOLE  # by axis another launch rounds the result
    check_fields(convolutions, calls, dtype, same_launches=whole)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_faces_round_once(convolutions: Path, dtype: torch.dtype) -> None:
    """Rules of later axes see what earlier ones assigned before it was rounded."""
    calls = []
    for i, (batch, size) in enumerate(FIELDS):
        for kind in range(4):
            g = seeded("stored faces", kind, size)
            u = normal(g, *batch, 3, *size).float()
            values, stencils = rules(g, batch, 3, size, kind)
            rest = (*(v.float() for v in values), *stencils, len(size))
            calls += [
                Call("assign_faces", (u, *rest), seed=i),
                Call("assign_faces_backward", (u, *rest, True), seed=i),
            ]
    check_fields(convolutions, calls, dtype)


def test_faces_of_all_axes_take_one_launch(convolutions: Path) -> None:
    """And one more backwards, for the sums of the data."""
    u, values = torch.ones(2, 3, 4, 5), [torch.ones(1, 1, 2, n) for n in (5, 4)]
    stencil, empty = torch.ones(2, 2, dtype=torch.float64), torch.empty(0)
    rest = (*values, empty, stencil, stencil, empty.double(), 2)
    calls = [Call("assign_faces", (u, *rest)), Call("assign_faces_backward", (u, *rest, True))]
    assert [a.launches for a in spectral.run(convolutions, calls)] == [1, 2]


def check_layers(program: Path, calls: list[Call], dtype: torch.dtype) -> None:
    """As `check_fields`; backwards what the convolution, skip and bias get is float32."""
    check_fields(program, [c for c in calls if c.op == "pointwise"], dtype)
    low, wide = low_and_wide([c for c in calls if c.op == "pointwise_backward"], dtype)
    pairs = zip(low, spectral.run(program, low), spectral.run(program, wide), strict=True)
    for call, a, b in pairs:
        copied = [call.arguments[0].float()] if not b.outputs[0].numel() else b.outputs[:1]
        same_bits(a.outputs, [*copied, *b.outputs[1:]])


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_what_a_layer_adds_rounds_once(convolutions: Path, dtype: torch.dtype) -> None:
    """Input, output and their gradients in 16 bits; what the activation sees stays float32."""
    calls = []
    for i, (batch, size, c_in, c_out) in enumerate(LAYERS):
        for activated in range(3):
            kind = i + activated
            calls += layer_calls(i, batch, size, (c_in, c_out), activated, kind, torch.float32)
    check_layers(convolutions, [c for c, _ in calls], dtype)
    # The gradient of the input: from float32 numbers to 16 bits.
    forward = calls[8][0]
    given = replace(forward, result=dtype)
    (found,), (expected,) = (spectral.run(convolutions, [c]) for c in (given, forward))
    same_bits(found.outputs[:1], [expected.outputs[0].to(dtype)])


@pytest.mark.parametrize("multiprocessors", [WHOLE, BY_AXIS], ids=["whole", "by axis"])
def test_a_convolution_in_a_layer_does_not_round(convolutions: Path, multiprocessors: int) -> None:
    calls = convolution((5, 4), (4, 3), None, torch.float32, multiprocessors=multiprocessors)
    calls += corrected((4, 6), (4, 3), None, torch.float32, multiprocessors=multiprocessors, kind=1)
    low, wide = low_and_wide(calls, torch.bfloat16)
    found = spectral.run(convolutions, [replace(c, result=torch.float32) for c in low])
    for a, b in zip(found, spectral.run(convolutions, wide), strict=True):
        same_bits(a.outputs, b.outputs)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_convolutions_store_overflow_tiny_numbers_and_nan_as_torch_does(
    convolutions: Path, dtype: torch.dtype
) -> None:
    """Items around the smallest numbers, beyond the largest one, and one of NaN."""
    for size, modes in (((1,), (1,)), ((64,), (5,)), ((4, 16), (2, 5))):
        for call in convolution(size, modes, None, torch.float32, batch=(9,), channels=(1, 1)):
            first: Tensor = call.arguments[0]
            weight = call.arguments[1 if call.op == "spectral_conv" else 2]
            sizes = torch.tensor([2.0**-149, 2.0**-28, 2.0**-24, 2.0**-14, 1.0, 2.0**10])
            first[:6] *= sizes.view(-1, *(1,) * (first.ndim - 1))
            first[8].view(-1)[0] = torch.nan
            if size == (1,):  # y is x times the weight, without a sum that would overflow
                weight[..., 0], weight[..., 1] = 1 + 3 * 2.0**-10, 0
                first[6], first[7] = torch.finfo(dtype).max, torch.finfo(dtype).min
            low = replace(call, arguments=(first.to(dtype), *call.arguments[1:]))
            ((y, *_),) = [answer.outputs for answer in spectral.run(convolutions, [low])]
            assert y[8].isnan().all() and y[:6].isfinite().all()
            assert size != (1,) or y[6:8].flatten().tolist() == [torch.inf, -torch.inf]
            check_fields(convolutions, [call], dtype)


def test_no_two_threads_race_in_sixteen_bits(convolutions: Path) -> None:
    """One call of each kernel that has two forms, with threads of the system."""
    small: Any = dict(batch=(), channels=(2, 1), multiprocessors=WHOLE)
    calls = corrected((9,), (2,), None, torch.float32, multiprocessors=2)
    calls += [replace(c, launches="one") for c in convolution((9,), (2,), None, torch.float32)]
    calls += corrected((4, 5), (2, 2), None, torch.float32, axes=(1,), **small)
    calls += corrected((4, 3), (2, 2), None, torch.float32, axes=(0,), kind=1, batch=())
    calls.append(line_layers(torch.float32)[5])
    calls += [c for c, _ in layer_calls(2, (1,), (3, 4), (2, 2), 1, 0, torch.float32)]
    low, _ = low_and_wide(calls, torch.bfloat16)
    threads = spectral.build("threads")
    for a, b in zip(spectral.run(threads, low), spectral.run(convolutions, low), strict=True):
        same_bits(a.outputs, b.outputs)


class Seen(TorchDispatchMode):
    """The dtypes that came to each op of the package, and those that came back."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[torch.dtype]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        if function.namespace == "physcon":
            given = [*arguments, *(result if isinstance(result, tuple) else [result])]
            found = [t.dtype for t in given if isinstance(t, Tensor)]
            self.calls[function._schema.name.split("::")[1]] = found
        return result


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_a_convolution_with_kernels_gets_its_fields_in_sixteen_bits(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Fields and their gradients; weights and what is kept are float32. Else all is float32."""
    wide = torch.float32
    monkeypatch.setattr(_cuda, "_record", lambda op, device: {"largest_rank": 0})
    for kept_modes, field in ((5, dtype), (65, wide)):  # many modes: by whole transforms
        monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", "auto" if field == dtype else "fft")
        for weight_dtype in (dtype, wide):
            with FakeTensorMode(), Seen() as seen:
                x = torch.empty(2, 3, 128, dtype=dtype, device="cuda")
                weight = torch.empty(kept_modes, 3, 4, 2, dtype=weight_dtype, device="cuda")
                y = ops.spectral_conv(x=x, weight=weight)
                kept = (torch.empty(kept_modes, 2, 3, 2, device="cuda"), weight.float())
                back = torch.ops.physcon.spectral_conv_backward.default
                back(y.to(field), *kept, [128], [128.0], True, True)
            assert (y.dtype, y.shape) == (dtype, (2, 4, 128))
            assert seen.calls["spectral_conv"] == [field, wide, field, wide]
            assert seen.calls["spectral_conv_backward"] == [field, wide, wide, field, wide]


@pytest.mark.parametrize("size", [(128,), (16, 12)], ids=["line", "plane"])
@pytest.mark.parametrize("width", [3, 20])
def test_corrections_and_layers_get_their_fields_in_sixteen_bits(
    monkeypatch: pytest.MonkeyPatch, width: int, size: tuple[int, ...]
) -> None:
    """But on lines for face rules too wide for the last pass: their calls go by float32."""
    low, wide, exact = torch.bfloat16, torch.float32, torch.float64
    on_line = len(size) == 1
    field = low if width == 3 or not on_line else wide
    monkeypatch.setattr(_cuda, "_record", lambda op, device: {"largest_rank": 0})
    modes = (5,) if on_line else (4, 5)
    raw = torch.ops.physcon
    with FakeTensorMode(), Seen() as seen:
        x, weight, skip, bias, values = (
            torch.empty(shape, dtype=low, device="cuda")
            for shape in ((2, 3, *size), (*modes, 3, 4, 2), (3, 4), (4,), (2, 4, 2, *size[1:]))
        )
        gain = torch.empty(1 if on_line else 5, 14, 6, 2, dtype=exact, device="cuda")
        stencil = torch.empty(2, min(width, size[0] - 1), dtype=exact, device="cuda")
        rest = [None] * (len(size) - 1)
        faces: Any = {"values": [values, *rest], "stencils": [stencil, *rest]}
        gains = [gain, *rest]
        results = [
            ops.boundary_spectral_conv(x, weight, gains, **faces),
            ops.fno_block(x, weight, skip, bias, gains=gains, **faces),
        ]
        results.append(ops.assign_faces(results[0], **faces))
        assert [y.dtype for y in results] == [low] * 3
        # The adjoints, of what autograd gives them.
        given = [t.to(wide) for t in (weight, skip, bias, values)]
        nothing, none = torch.empty(0, device="cuda"), torch.empty(0, dtype=exact, device="cuda")
        kept = (
            torch.empty(*modes, 2, 3, 2, device="cuda"),
            torch.empty(gain.shape[0], 2, 40, device="cuda", dtype=exact),
        )
        tail = (gain, none, none, given[3], nothing, nothing, stencil, none, none)
        grad, periods = results[0].to(field), list(map(float, size))
        flags = (True,) * 4
        raw.boundary_spectral_conv_backward(grad, *kept, given[0], *tail, periods, *flags)
        layer = (grad.float(), *kept, x.to(field), *given[:3], *tail, periods, True)
        raw.fno_block_backward(grad, *layer, *flags, True, True)
        raw.assign_faces_backward(grad.to(low), *tail[3:], len(size), True)
    assert seen.calls["boundary_spectral_conv"][:2] == [field, wide]
    assert seen.calls["boundary_spectral_conv"][-3:] == [field, wide, exact]
    assert seen.calls["boundary_spectral_conv_backward"][-8:-5] == [field, wide, exact]
    assert seen.calls["fno_block"][:4] == [field, wide, wide, wide]
    assert seen.calls["fno_block"][-4:] == [field, wide, wide, exact]
    assert seen.calls["fno_block_backward"][-10:-5] == [field, wide, wide, wide, exact]
    assert seen.calls["assign_faces"][:2] == [low, wide]
    assert seen.calls["assign_faces"][-1] == low
    assert seen.calls["assign_faces_backward"][-4:-2] == [low, wide]
