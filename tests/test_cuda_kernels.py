# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels on the CPU: the same bodies under a shim, with sanitizers, beside an oracle.

The oracle is the composite implementation in float64, which shares no code with the kernels.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import simt_driver as simt
from op_suite import (
    OPS,
    Arguments,
    Op,
    cast,
    deviation,
    differentiable_parameters,
    normal,
    positive,
    same_bits,
    seeded,
    upstream,
)
from physcon_ext.ops.composite import COMPOSITES
from simt_driver import Plan, Problem


# Sums of float64 products in another order; float32 data leave in float32.
LIMIT = {torch.float32: 1e-5, torch.float64: 1e-11}
# Banded rows have a file of their own.
KERNEL_OPS = [op for op in OPS if op.name in simt.OPS and "banded" not in op.name]


class Calls(TorchDispatchMode):
    """Notes every call of an op with its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if function.namespace == "physcon":
            self.seen.append((function._schema.name.split("::")[1], tuple(arguments)))
        return function(*arguments, **(options or {}))


def problems(
    op: Op,
    dtype: torch.dtype,
    batch: tuple[int, ...],
    n: int,
    r: int,
    *,
    shared: bool = False,
    noise: str = "row",
    plan: Plan | None = None,
) -> list[Problem]:
    """The forward call of a random problem, and the calls that its gradients make."""
    free = cast(op.free(batch, n, r, shared=shared, noise=noise), dtype)
    return recorded(op, free, plan)


def recorded(op: Op, free: Arguments, plan: Plan | None = None) -> list[Problem]:
    """The calls that an op with these arguments and its gradients make."""
    names = differentiable_parameters(free)
    leaf = {k: v.clone().requires_grad_() if k in names else v for k, v in free.items()}
    with Calls() as calls:
        results = op.function(list(leaf))(*leaf.values())
        loss = sum((w * o).sum() for w, o in zip(upstream(results), results, strict=True))
        torch.autograd.grad(loss, [leaf[k] for k in names])
    return [Problem(name, a, plan or Plan()) for name, a in calls.seen if name in simt.OPS]


def oracle(problem: Problem) -> list[Tensor]:
    """What the call should return, in the order of the driver."""
    given = list(problem.arguments)
    name = problem.op
    if name == "condition_diagonal":  # the driver always returns factor and covariance
        given[-2:] = [True, True]
    elif "disjoint" not in name:
        given[-1] = True
    wide = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in given]
    found = list(COMPOSITES[name](*wide))
    if not name.endswith("backward"):  # what counts as rounding depends on the dtype
        found[-1] = COMPOSITES[name](*given)[-1]
    nothing = torch.empty(0)
    if name == "condition_diagonal":
        found.insert(4, nothing)
    elif name == "condition_cross":
        found[3:3] = [nothing, nothing]
    elif name == "condition_diagonal_backward":
        found.insert(2, nothing)
    return found


def check(program: Path, calls: list[Problem], factor: float = 1.0) -> None:
    for problem, answer in zip(calls, simt.run(program, calls), strict=True):
        expected = oracle(problem)
        assert len(expected) == len(answer.outputs), problem.op
        dtype = problem.arguments[0].dtype
        for i, (found, value) in enumerate(zip(answer.outputs, expected, strict=True)):
            label = (problem.op, i, tuple(problem.arguments[0].shape), problem.plan)
            if found.dtype == torch.int32:
                assert torch.equal(found, value), label
                continue
            scale = torch.ones(1) if problem.op.endswith("backward") else None
            error = deviation(found, value.reshape(found.shape), scale)
            assert error <= factor * LIMIT[dtype], (*label, error)


@pytest.fixture(scope="module")
def fibers() -> Path:
    return simt.build("fibers")


@pytest.fixture(scope="module")
def threads() -> Path:
    return simt.build("threads")


# n prime and ragged against the tiles, one item, more rows than fit a tile, rows = points
SHAPES = [
    ((), 1, 1),
    ((5,), 31, 1),
    ((2, 2), 37, 3),
    ((1,), 67, 8),
    ((2,), 101, 13),
    ((1,), 97, 33),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("op", KERNEL_OPS, ids=[op.name for op in KERNEL_OPS])
def test_kernels_equal_the_oracle_as_the_entry_points_cut_them(
    fibers: Path, op: Op, dtype: torch.dtype
) -> None:
    calls = []
    for i, (batch, n, r) in enumerate(SHAPES):
        noise, shared = op.noises[-1 - i % 2], (i + (dtype == torch.float32)) % 2 == 0
        calls += problems(op, dtype, batch, n, r, shared=shared, noise=noise)
    check(fibers, calls)


PLANS = [
    Plan(threads=64, warps=True),
    Plan(threads=32),
    Plan(threads=64, splits=3),
    Plan(threads=96, in_shared=False, splits=2, slots=2),
    Plan(threads=64, warps=True, slots=3),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["condition_diagonal", "condition_cross", "condition_dense"])
def test_kernels_equal_the_oracle_however_they_are_cut(
    fibers: Path, name: str, dtype: torch.dtype
) -> None:
    op = next(op for op in OPS if op.name == name)
    calls = []
    for i, plan in enumerate(PLANS):
        r = 2 if plan.warps else 7
        calls += problems(op, dtype, (4,), 43, r, shared=i % 2 == 0, plan=plan)
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


@pytest.mark.parametrize("op", KERNEL_OPS, ids=[op.name for op in KERNEL_OPS])
def test_no_two_threads_race(threads: Path, op: Op) -> None:
    calls = []
    for plan in (Plan(threads=64), Plan(threads=64, splits=2), Plan(threads=64, warps=True)):
        r = 3 if plan.warps else 5
        calls += problems(op, torch.float64, (2,), 37, r, shared=plan.splits == 1, plan=plan)
    if op.name == "condition_disjoint":  # a row long enough for a block
        calls += problems(op, torch.float64, (1,), 2500, 1)
    check(threads, calls)


def test_corrections_of_nearly_dependent_rows_do_not_race(threads: Path, fibers: Path) -> None:
    """In float32 only such rows ask for them, and in float64 only such for more than one pass."""
    g, n = seeded("nearly dependent"), 37
    row, calls = normal(g, n), []
    for dtype, gap in ((torch.float32, 1e-2), (torch.float64, 1e-5)):
        rows = torch.stack([row, row + gap * normal(g, n), normal(g, n)])
        values = [normal(g, n), positive(g, n), rows, normal(g, 3), torch.zeros(3)]
        given = (*(t.to(dtype) for t in values), False, False)
        calls.append(Problem("condition_diagonal", given, Plan(threads=64)))
    for a, b in zip(simt.run(threads, calls), simt.run(fibers, calls), strict=True):
        same_bits(a.outputs, b.outputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_few_rows_stay_in_registers(fibers: Path, dtype: torch.dtype) -> None:
    """Long items that warps take because there are many, and blocks of items of up to 16 rows."""
    op = next(op for op in OPS if op.name == "condition_diagonal")
    calls = []
    sizes = (((16,), 257, 1), ((17,), 300, 4), ((16,), 129, 8), ((2,), 290, 8), ((2,), 67, 16))
    for i, (batch, n, r) in enumerate(sizes):
        calls += problems(op, dtype, batch, n, r, shared=i % 2 == 0, noise=op.noises[-1 - i % 2])
    check(fibers, calls)


def test_every_lane_of_a_warp_sees_the_same_compensated_sum() -> None:
    """Lanes decide by such a sum whether to go on: the others would wait for one that did not."""
    program = simt.build("fibers", driver="sums_driver.cpp", kernels="grid.cu")
    g = seeded("lanes")
    calls = []
    for _ in range(20):
        high = normal(g, 32)
        high[31] -= high.sum()  # what is left is as small as what was rounded off
        low = 2.0**-53 * normal(g, 32)
        data = struct.pack("<2q", 0, -1)
        for part in (high, low):
            data += struct.pack("<q", 256) + part.numpy().tobytes()
        calls.append((data, [((32, 2), torch.float64)]))
    for answer in simt.run_encoded(program, calls):
        (sums,) = answer.outputs
        assert torch.equal(sums, sums[:1].expand(32, 2))


def test_large_ranks_use_several_tiles_per_thread(fibers: Path) -> None:
    op = next(op for op in OPS if op.name == "condition_cross")
    diagonal = next(op for op in OPS if op.name == "condition_diagonal")
    plan = Plan(threads=32, in_shared=False)
    calls = problems(op, torch.float64, (1,), 41, 22, plan=plan)
    check(fibers, calls + problems(diagonal, torch.float64, (1,), 47, 33, plan=plan))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dropped_rows_have_the_same_status(fibers: Path, dtype: torch.dtype) -> None:
    g = seeded("dropped")
    a, b = (8 * normal(g, 2, 12)).round()  # their sum is exact in float32
    rows = torch.stack([a, a, b, a + b, 0 * a, 2 * a])
    target = torch.tensor([1.0, 1.0, 0.5, 1.5, 1.0, 3.0], dtype=torch.float64)
    mean, variance = normal(g, 12), positive(g, 12)
    values = [t.to(dtype) for t in (mean, variance, rows, target, 0 * target)]
    calls = []
    for plan in (Plan(threads=32), Plan(threads=64, splits=2)):
        calls.append(Problem("condition_diagonal", (*values, True, True), plan))
        cross = values[2] * values[1]
        calls.append(Problem("condition_cross", (*values[:2], cross, *values[2:], True), plan))
    assert oracle(calls[0])[-1].tolist() == [0, 1, 0, 1, 3, 2]
    check(fibers, calls, factor=10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("warps", [False, True], ids=["block", "warp"])
def test_rows_hold_to_rounding_and_variances_do_not_cancel(
    fibers: Path, warps: bool, dtype: torch.dtype
) -> None:
    """A prior mean far from the target, and points that a row nearly determines."""
    from test_ops_exactness import worst_ratio

    g = seeded("hard", warps)
    n, r = 131, 3
    rows, mean = normal(g, r, n), normal(g, n) - 1e6
    variance = positive(g, n) * 1e-6
    variance[[7, 50, 90]] = 1.0
    target = normal(g, r)
    values = [t.to(dtype) for t in (mean, variance, rows, target, 0 * target)]
    plans = [Plan(threads=64, warps=warps)] + ([] if warps else [Plan(threads=64, splits=3)])
    for plan in plans:
        problem = Problem("condition_diagonal", (*values, True, True), plan)
        (answer,) = simt.run(fibers, [problem])
        assert worst_ratio(values[2], answer.outputs[0], values[3]) <= 8
        expected = oracle(problem)[1]
        assert (answer.outputs[1].double() / expected - 1).abs().max() <= 10 * LIMIT[dtype]


def test_nearly_dependent_float32_rows_are_corrected(fibers: Path) -> None:
    from test_ops_exactness import worst_ratio

    g = seeded("wide")
    a = normal(g, 40)
    rows = torch.stack([a, a + 1e-5 * normal(g, 40)]).float()
    target = torch.tensor([1.0, -2.0])
    values = (normal(g, 40).float(), positive(g, 40).float(), rows, target, 0 * target)
    for plan in (Plan(threads=32), Plan(threads=64, splits=2)):
        (answer,) = simt.run(fibers, [Problem("condition_diagonal", (*values, True, True), plan)])
        assert worst_ratio(rows, answer.outputs[0], target) <= 8


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_marginals_take_two_launches_at_most(fibers: Path, shared: bool) -> None:
    """Sums over the points, if these are split, and the rest."""
    for op in (op for op in KERNEL_OPS if op.name in ("condition_diagonal", "condition_cross")):
        sizes = (((40,), 31, 1), ((1,), 3000, 9))
        calls = [problems(op, torch.float32, *size, shared=shared)[0] for size in sizes]
        found = [answer.launches for answer in simt.run(fibers, calls)]
        # The driver asks for the whole covariance of the first op, a launch of its own.
        whole = 1 if op.name == "condition_diagonal" else 0
        assert found == [1 + whole, 2 + whole]


@pytest.mark.parametrize("name", ["mean", "variance", "rows", "target", "noise"])
def test_a_broken_item_is_marked_and_alone(fibers: Path, name: str) -> None:
    op = next(op for op in OPS if op.name == "condition_diagonal")
    arguments = op.arguments(op.free((3,), 40, 3))
    arguments[name][1, ..., -1] = torch.nan
    calls = [
        Problem("condition_diagonal", tuple(arguments.values()), plan)
        for plan in (Plan(threads=64, warps=True), Plan(threads=64, splits=2))
    ]
    check(fibers, calls)
    assert oracle(calls[0])[-1].tolist() == [[0] * 3, [5] * 3, [0] * 3]


def test_two_orders_of_threads_give_the_same_bits(fibers: Path) -> None:
    for op in KERNEL_OPS:
        plan = Plan(threads=64, splits=2, slots=2)
        calls = problems(op, torch.float32, (3,), 53, 5, shared=True, plan=plan)
        first = simt.run(fibers, [c.seeded(1) for c in calls])
        second = simt.run(fibers, [c.seeded(2) for c in calls])
        for a, b in zip(first, second, strict=True):
            for x, y in zip(a.outputs, b.outputs, strict=True):
                assert torch.equal(x, y)


# ---- the shim itself: what is broken on purpose must be found ------------------------------------


def finds(program: Path, problem: Problem, skip: int, expected: list[Tensor]) -> bool:
    """Whether leaving out a barrier stops the program or changes the answer."""
    for seed in range(3):
        try:
            (answer,) = simt.run(program, [problem.seeded(seed, skip)])
        except simt.Failure:
            return True
        pairs = zip(answer.outputs, expected, strict=True)
        if any(not torch.equal(a, b) for a, b in pairs):
            return True
    return False


def test_a_missing_barrier_changes_the_answer(fibers: Path) -> None:
    """Leaving out one barrier after the other; where few threads work some are not missed."""
    op = next(op for op in OPS if op.name == "condition_diagonal")
    for problem in problems(op, torch.float64, (1,), 37, 5, plan=Plan(threads=64)):
        (whole,) = simt.run(fibers, [problem])
        # Between filling a tile and using it; the adjoint has passed one barrier before.
        tile = 2 if problem.op.endswith("backward") else 1
        assert finds(fibers, problem, tile, whole.outputs), problem.op
        tried = range(3, whole.barriers, 5)
        found = [skip for skip in tried if finds(fibers, problem, skip, whole.outputs)]
        assert 3 * len(found) >= len(tried), (problem.op, found)


@pytest.mark.parametrize("skip", [1, 5])
def test_a_missing_barrier_is_a_race(threads: Path, skip: int) -> None:
    op = next(op for op in OPS if op.name == "condition_diagonal")
    (problem, *_) = problems(op, torch.float64, (1,), 37, 5, plan=Plan(threads=64))
    with pytest.raises(simt.Failure, match="data race"):
        simt.run(threads, [problem.seeded(0, skip)])


def test_an_index_off_by_one_is_found(fibers: Path) -> None:
    name = "condition_disjoint.cuh"
    text = (simt.KERNELS / name).read_text()
    right = "for (int64_t j = begin + team.rank(); j < end; j += team.size())"
    assert text.count(right) >= 5
    op = next(op for op in OPS if op.name == "condition_disjoint")
    calls = problems(op, torch.float64, (1,), 31, 3)
    check(fibers, calls)
    changed = {name: text.replace(right, right.replace("j < end", "j <= end"))}
    wrong = simt.build("fibers", changed, sanitized=True)
    for call in calls:
        with pytest.raises((simt.Failure, AssertionError)):
            check(wrong, [call])
    with pytest.raises(simt.Failure, match="heap-buffer-overflow"):
        simt.run(wrong, calls[:1])
