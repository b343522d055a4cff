# SPDX-License-Identifier: Apache-2.0
"""No CUDA kernel is left out: each runs on fibers and equals its oracle.

The kernels are those that the CUDA compiler found (``cuda_resources.json``), by the names that the
linker knows on either side. Other tests go deeper; here every kernel runs on small arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

import simt_driver as simt
import simt_spectral as spectral
import test_cuda_banded as banded
import test_cuda_cavity as cavity
import test_cuda_fv as fv
import test_cuda_gains as gains
import test_cuda_kernels as conditioning
import test_cuda_spectral as convolutions
import test_cuda_storage as storage
from cuda_build import STORED
from op_suite import OPS, deviation
from physcon_ext.ops import Method
from physcon_ext.ops.composite import COMPOSITES
from simt_driver import Plan
from test_cuda_spectral import BY_AXIS, DTYPES, WHOLE, convolution, corrected
from test_fv_cavity import random_flow
from test_ops_end_response import CASES
from test_ops_two_step_gain import OPTIONS


def base(kernel: str) -> str:
    """The name in the source of a kernel that the linker calls so."""
    match = re.match(r"_ZN7physcon4cuda(\d+)", kernel)
    assert match, kernel
    return kernel[match.end() :][: int(match[1])]


def stored() -> set[str]:
    return {name.split()[1] for name in json.loads(STORED.read_text())}


def bounds() -> dict[str, int]:
    """The most threads of a block that a kernel is compiled for, where that is a plain number."""
    text = "".join(p.read_text() for p in simt.KERNELS.glob("*.cu*"))
    numbers = {n: int(v) for n, v in re.findall(r"constexpr int (\w+) = (\d+);", text)}
    found = re.findall(r"__launch_bounds__\(\s*(\w+),.*?\)\s+(\w+_kernel)\(", text, re.DOTALL)
    given = {name: numbers.get(bound, bound) for bound, name in found}
    return {name: int(bound) for name, bound in given.items() if str(bound).isdigit()}


# A warp per item, for one row and for few; a block per item with one tile per thread, for some rows
# and for more, and with several; split sums
PLANS = [
    (1, Plan(threads=64, warps=True)),
    (2, Plan(threads=64, warps=True)),
    (3, Plan(threads=64, splits=2)),
    (17, Plan(threads=128, splits=2)),
    (30, Plan(threads=32, in_shared=False, splits=2)),
]


def run_conditioning(mode: str) -> None:
    program = simt.build(mode)
    for op in (op for op in OPS if op.name in simt.OPS and "banded" not in op.name):
        for dtype in DTYPES:
            calls = []
            for rank, plan in PLANS:
                n = 37 + rank // 10
                calls += conditioning.problems(op, dtype, (2,), n, rank, shared=True, plan=plan)
            if op.name == "condition_disjoint":  # rows long enough for a block
                calls += conditioning.problems(op, dtype, (1,), 2500, 1)
            conditioning.check(program, calls)
            if op.name == "condition_diagonal" and dtype == torch.float32:
                for low in storage.LOW:
                    storage.check(program, calls, low)


def run_banded(mode: str) -> None:
    program = simt.build(mode)
    for op in banded.OPS_OF_BANDS:
        for dtype in DTYPES:
            calls = conditioning.problems(op, dtype, (2,), 67, 2)
            banded.check(program, calls + conditioning.problems(op, dtype, (1,), 515, 1))


def rough(program: Any, calls: Sequence[spectral.Call], limit: float) -> None:
    """Calls that round operands or fields, within that; their bits are checked elsewhere."""
    for call, answer in zip(calls, spectral.run(program, calls), strict=True):
        wide = [a.double() if isinstance(a, torch.Tensor) else a for a in call.arguments]
        expected = convolutions.filled(COMPOSITES[call.op](*wide))
        for found, value in zip(convolutions.filled(answer.outputs), expected, strict=True):
            assert deviation(found, value) <= limit, call.op


# Two planes are fewer than these multiprocessors, and take one axis after the other.
SPLIT = 3
# Folded axes, complex ones, and sums long enough for the matrix units: (size, modes, cut)
TRANSFORMS: list[tuple[tuple[int, ...], tuple[int, ...], int]] = [
    ((67,), (9,), 1),
    ((67,), (9,), SPLIT),
    ((6, 5), (2, 3), WHOLE),
    ((6, 5), (2, 3), SPLIT),
    ((3, 4, 5), (2, 2, 2), WHOLE),
    ((3, 4, 5), (2, 2, 2), SPLIT),
]
LONG: list[tuple[tuple[int, ...], tuple[int, ...], int]] = [
    ((120,), (60,), 1),
    ((5, 60), (4, 30), WHOLE),
    ((2, 4, 60), (2, 2, 30), WHOLE),
    ((40, 6), (30, 3), SPLIT),
]


def run_convolutions(mode: str) -> None:
    program = spectral.build(mode)
    small: dict[str, Any] = dict(batch=(1,), channels=(2, 1))
    short, long = [], []
    for dtype in DTYPES:
        calls = []
        for size, modes, cut in TRANSFORMS:
            calls += convolution(size, modes, None, dtype, multiprocessors=cut, **small)
        calls += [replace(c, launches="one") for c in calls[:2]]
        ruled = []  # gradients that a face rule pulls back
        for size in ((6, 5), (3, 4, 5)):
            modes = (2,) * len(size)
            ruled += corrected(size, modes, None, dtype, axes=(), multiprocessors=WHOLE, **small)
        if dtype == torch.float32:
            storage.check_fields(program, ruled, torch.bfloat16)
        calls += ruled
        calls.append(convolutions.line_layers(dtype)[2])
        convolutions.check(program, calls)
        short = short or calls  # in single precision
    for size, modes, cut in LONG:
        long += convolution(size, modes, None, torch.float32, multiprocessors=cut, **small)
    long.append(convolutions.line_layers(torch.float32)[-1])
    convolutions.check(program, long)
    quick = [replace(c, tf32=True) for c in long]
    rough(program, quick, 1e-3)
    lines = [c for c in short if "boundary" not in c.op or c.arguments[0].ndim == 3]
    low = [
        replace(c, arguments=(c.arguments[0].bfloat16(), *c.arguments[1:]))
        for c in lines + long + quick
    ]
    rough(program, low, 2**-7)


def run_corrections(mode: str) -> None:
    program = spectral.build(mode)
    for dtype in DTYPES:
        small: dict[str, Any] = dict(batch=(1,), channels=(2, 1))
        calls = corrected((13,), (4,), None, dtype, **small)
        calls += corrected((13,), (4,), None, dtype, axes=(), kind=1, **small)
        for cut in (WHOLE, BY_AXIS):
            calls += corrected((6, 5), (4, 3), None, dtype, multiprocessors=cut, **small)
            grid: dict[str, Any] = dict(axes=(0, 2), multiprocessors=cut)
            calls += corrected((4, 3, 4), (2, 2, 2), None, dtype, **grid, **small)
        # Orbits of two axes after transforms by axis, which leave the tickets to another launch
        calls += corrected((6, 5), (4, 3), None, dtype, multiprocessors=SPLIT, **small)
        convolutions.check(program, calls)


def run_points(mode: str) -> None:
    program = spectral.build(mode)
    for dtype in DTYPES:
        calls = []
        for kind in range(4):
            for batch, size in convolutions.FIELDS[::2]:
                calls += convolutions.face_calls(batch, size, kind, dtype)
        # A rule too wide for the last pass of a line comes after it, in place.
        calls += corrected((12,), (2,), None, dtype, kind=3, axes=(), channels=(2, 1))
        convolutions.check(program, calls)
        layers = []
        for activated in range(3):
            size = ((5, 7), (23,))[activated % 2]
            layers += convolutions.layer_calls(2, (2,), size, (3, 5), activated, activated, dtype)
        convolutions.check_layers(program, layers, dtype)
        if dtype == torch.float32:
            storage.check_layers(program, [call for call, _ in layers], torch.bfloat16)


def run_steps(mode: str) -> None:
    program = simt.build(mode, driver="fv_driver.cpp")
    line = fv.call(Method(diffusivity="power", integrator="tr_bdf2"), ("value", "mixed") * 2, n=19)
    method = Method(transport="burgers", scheme="weno5", integrator="ssprk3")
    plane = fv.call(method, ("periodic", "periodic", "value", "outflow"), rows=4, n=7)
    beyond = fv.call(Method(transport="linear", scheme="mc"), ("periodic",) * 4, rows=41, n=43)
    fv.check(program, [line, plane, beyond], factor=10)
    program = simt.build(mode, driver="cavity_driver.cpp")
    cavity.check(program, [random_flow(1, 8)])
    cavity.check_exchange_beyond_shared_memory(program)


def run_gains(mode: str) -> None:
    program = gains.compile_for(mode)
    for dtype in DTYPES:
        gains.check_responses(program, CASES[:2], dtype)
    gains.check_gains(program, [(1, 3, 1), (4, 2, 2)], OPTIONS[:1])


# By the names of their kernels in the source
FAMILIES: dict[str, Callable[[str], None]] = {
    r"adjoint_\w+|disjoint_\w+|condition_(?!banded)\w+": run_conditioning,
    r"\w*banded_\w+": run_banded,
    r"spectral_\w+": run_convolutions,
    r"(boundary|clear)_\w+": run_corrections,
    r"(faces|pointwise)_\w+": run_points,
    r"(balance_law|cavity)_\w+": run_steps,
    r"(end_response|two_step_gain)_\w+": run_gains,
}


def test_every_kernel_belongs_to_one_family() -> None:
    names = set(map(base, stored()))
    for name in names:
        assert sum(re.fullmatch(family, name) is not None for family in FAMILIES) == 1, name
    assert len(names & bounds().keys()) >= len(names) - 5


@pytest.mark.parametrize(
    "family", FAMILIES, ids=[run.__name__.removeprefix("run_") for run in FAMILIES.values()]
)
def test_every_kernel_runs_and_equals_its_oracle(
    monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    ran: dict[str, int] = {}
    inner = simt.run_encoded

    def run_encoded(*given: Any) -> list[simt.Answer]:
        answers = inner(*given)
        for name, threads in (kernel for answer in answers for kernel in answer.kernels):
            ran[name] = max(ran.get(name, 0), threads)
        return answers

    monkeypatch.setattr(simt, "run_encoded", run_encoded)
    FAMILIES[family]("fibers")
    wanted = {kernel for kernel in stored() if re.fullmatch(family, base(kernel))}
    assert wanted, family
    assert not wanted - ran.keys(), sorted(wanted - ran.keys())
    most = bounds()
    for name in wanted:
        assert ran[name] <= most.get(base(name), 1024), name
