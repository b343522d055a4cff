# SPDX-License-Identifier: Apache-2.0
"""CUDA kernels of banded rows on the CPU, under the shim and its sanitizers.

The oracle is the composite in float64, which shares no code with the kernels.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import simt_driver as simt
from op_suite import OPS, Op, deviation
from physcon_ext.ops.composite import COMPOSITES
from simt_driver import Problem
from test_cuda_kernels import LIMIT, finds, problems, recorded


OPS_OF_BANDS = [op for op in OPS if "banded" in op.name]
IDS = [op.name for op in OPS_OF_BANDS]
# Parts of a warp: one pair, all in one part, ragged last parts of one point and of more, and the
# most points that a warp takes; then a block. Few multiprocessors: teams take several items.
SHAPES = [((), 3), ((5,), 4), ((2, 2), 31), ((1,), 65), ((3,), 97), ((40,), 67), ((1,), 511)]
BLOCKS = [((2,), 513), ((1,), 1031)]


def check(program: Path, calls: list[Problem], factor: float = 1.0) -> None:
    for problem, answer in zip(calls, simt.run(program, calls), strict=True):
        wide = [a.double() for a in problem.arguments]
        result = COMPOSITES[problem.op](*wide)
        expected = [result] if isinstance(result, torch.Tensor) else list(result)
        dtype = problem.arguments[0].dtype
        for i, (found, value) in enumerate(zip(answer.outputs, expected, strict=True)):
            label = (problem.op, i, tuple(problem.arguments[0].shape))
            if found.dtype == torch.int32:
                assert torch.equal(found, value), label
                continue
            scale = torch.ones(1) if problem.op.endswith("backward") else None
            error = deviation(found, value, scale)
            assert error <= factor * LIMIT[dtype], (*label, error)


@pytest.fixture(scope="module")
def fibers() -> Path:
    return simt.build("fibers")


@pytest.fixture(scope="module")
def threads() -> Path:
    return simt.build("threads")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("op", OPS_OF_BANDS, ids=IDS)
def test_parts_of_a_warp_and_of_a_block(fibers: Path, op: Op, dtype: torch.dtype) -> None:
    calls = []
    for i, (batch, n) in enumerate(SHAPES + BLOCKS):
        shared = (i + (dtype == torch.float32)) % 2 == 0
        calls += problems(op, dtype, batch, n, 1 + i % 3, shared=shared)
    check(fibers, calls)


@pytest.mark.parametrize("op", OPS_OF_BANDS, ids=IDS)
def test_certain_points_and_nearly_exact_rows(fibers: Path, op: Op) -> None:
    """Variances of zero, and a noise so small that rows nearly determine every point."""
    calls = []
    for n in (67, 515):
        free = op.free((2,), n, 2)
        free["variance"][:, ::7] = 0
        free["noise"] = 1e-6 * free["noise"]
        calls += recorded(op, free)
    # eps times the condition number of the matrix, about 1e7, is 2e-9.
    check(fibers, calls, factor=1e3)


@pytest.mark.parametrize("name", ["mean", "variance", "stencil", "target", "noise"])
def test_a_broken_item_is_marked_and_alone(fibers: Path, name: str) -> None:
    op = OPS_OF_BANDS[0]
    whole = op.free((3,), 67)
    broken = {k: v.clone() for k, v in whole.items()}
    broken[name][1, ..., -1] = torch.nan
    calls = [Problem(op.name, tuple(free.values())) for free in (whole, broken)]
    expected, found = (answer.outputs for answer in simt.run(fibers, calls))
    assert found[4].flatten().tolist() == [0, 5, 0]
    assert found[0][1].isnan().all() and found[1][1].isnan().all()
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a[::2], b[::2])


@pytest.mark.parametrize("op", OPS_OF_BANDS, ids=IDS)
def test_bits_depend_neither_on_the_order_of_threads_nor_on_the_batch(fibers: Path, op: Op) -> None:
    for call in problems(op, torch.float32, (5,), 67, 2) + problems(
        op, torch.float32, (2,), 521, 2
    ):
        alone = Problem(call.op, tuple(a[1:2].contiguous() for a in call.arguments))
        first, second, third = simt.run(fibers, [call.seeded(1), call.seeded(2), alone])
        for a, b, c in zip(first.outputs, second.outputs, third.outputs, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(a[1:2], c)


@pytest.mark.parametrize("op", OPS_OF_BANDS, ids=IDS)
def test_no_two_threads_race(threads: Path, op: Op) -> None:
    calls = problems(op, torch.float64, (2,), 67, 2) + problems(op, torch.float64, (1,), 515, 1)
    check(threads, calls)


def test_a_missing_barrier_changes_the_answer(fibers: Path) -> None:
    """One barrier after the other, as far as two parts or more must meet there."""
    for op in OPS_OF_BANDS:
        for problem in problems(op, torch.float64, (1,), 67, 1):
            (whole,) = simt.run(fibers, [problem])
            tried = range(0, whole.barriers - 1, 2)
            found = [skip for skip in tried if finds(fibers, problem, skip, whole.outputs)]
            assert 2 * len(found) >= len(tried), (problem.op, found, len(tried))


def test_a_missing_barrier_is_a_race(threads: Path) -> None:
    (problem,) = problems(OPS_OF_BANDS[1], torch.float64, (1,), 515, 1)[:1]
    with pytest.raises(simt.Failure, match="data race"):
        simt.run(threads, [problem.seeded(0, skip=1)])


def test_an_index_off_by_one_is_found() -> None:
    name = "banded_solve.cuh"
    text = (simt.KERNELS / name).read_text()
    right = "for (; k < end; ++k) {"
    assert text.count(right) == 1
    wrong = simt.build("fibers", {name: text.replace(right, "for (; k + 1 < end; ++k) {")})
    for problem in problems(OPS_OF_BANDS[0], torch.float64, (1,), 97, 1):
        with pytest.raises((simt.Failure, AssertionError)):
            check(wrong, [problem])
