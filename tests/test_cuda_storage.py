# SPDX-License-Identifier: Apache-2.0
"""Kernels that read and write 16-bit numbers: the bits of the float32 kernel, rounded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import simt_driver as simt
from op_suite import OPS, normal, positive, same_bits, seeded
from simt_driver import Plan, Problem
from test_cuda_kernels import problems


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
