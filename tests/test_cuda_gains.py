# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels that gains are made with, on the CPU, under the shim and its sanitizers.

The oracles are the formulas of `physcon_ext.reference`, and their composites for the adjoints.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

import simt_driver as simt
from op_suite import deviation, normal, seeded
from physcon_ext import reference
from physcon_ext.ops.composite import COMPOSITES
from test_ops_end_response import CASES, Case
from test_ops_two_step_gain import OPTIONS, Options, blocks


# Sums of 70 modes, in chunks of 64; matrices of several pieces of 64 entries, the last one ragged.
LONG: list[Case] = [
    ((70,), (141,), (150.0,), 0),
    ((1,), (2,), (2.0,), 0),
    ((4, 66), (5, 131), (5.0, 131.0), 1),
]
CHANNELS = [(3, 5), (1, 1), (9, 15)]
# Angles are exact to an eps, sums have at most 70 terms.
BOUND = 1e-14
# (Q, C, parts): one block and several, rows beyond a warp, more than the 512 of the 64 blocks whose
# sums are kept.
SHAPES = [(1, 1, 1), (1, 3, 1), (4, 5, 2), (1, 33, 1), (600, 1, 2), (3, 19, 2)]
FORMAT = "<5q4q6q3d3q2d"


def call(
    case: Case,
    channels: tuple[int, int],
    array: Tensor,
    *,
    adjoint: bool,
    seed: int = 0,
    skip: int = -1,
) -> simt.Encoded:
    """``array``: the weight, or the gradient of the answers."""
    modes, size, period, axis = case
    d = len(modes)
    filled = [(1,) * (3 - d) + tuple(v) for v in (size, modes, period)]
    others = torch.Size(modes).numel() // modes[axis]
    single = array.dtype == torch.float32
    header = struct.pack(
        FORMAT,
        *(seed, skip, int(adjoint), single, 4, d, 3 - d + axis, *channels),
        *(*filled[0], *filled[1], *map(float, filled[2]), 0, 0, 0, 0.0, 0.0),
    )
    blocks_shape = (3, others, *channels, *(() if d == 1 else (2,)))
    weight_shape = (*modes, *channels, 2)
    output = (weight_shape, array.dtype) if adjoint else (blocks_shape, torch.float64)
    data = array.double() if adjoint else array
    return header + simt.array_bytes([data]), [output]


def elimination(
    response: Tensor, options: Options, up: Tensor | None, *, seed: int = 0, skip: int = -1
) -> simt.Encoded:
    _, q, c = response.shape[:3]
    parts = 1 if response.ndim == 4 else 2
    tolerance, modulus, slip = options
    header = struct.pack(
        FORMAT,
        *(seed, skip, 2 + (up is not None), 0, 4, 1, 2, c, c, *[1] * 6, *[1.0] * 3),
        *(q, parts, modulus, tolerance, slip),
    )
    if up is None:
        return header + simt.array_bytes([response]), [((q, 4 * c, 2 * c, parts), torch.float64)]
    return header + simt.array_bytes([response, up]), [(tuple(response.shape), torch.float64)]


def check_responses(program: Path, cases: list[Case], dtype: torch.dtype) -> None:
    """Compare both directions with the formulas."""
    calls, expected = [], []
    for case in cases:
        modes, size, period, axis = case
        place = (axis, list(size), list(period))
        for channels in CHANNELS if case in LONG else CHANNELS[:1]:
            weight = normal(seeded("weight", case, channels), *modes, *channels, 2).to(dtype)
            answer = reference.end_response(weight, axis, size=size, period=period)
            up = normal(seeded("up", case, channels), *answer.shape)
            pulled = COMPOSITES["end_response_backward"](up, weight, *place)
            calls.append(call(case, channels, weight, adjoint=False))
            calls.append(call(case, channels, up.to(dtype), adjoint=True))
            if dtype == torch.float32:  # the header tells the dtype of the weight
                up = up.float().double()
                pulled = COMPOSITES["end_response_backward"](up, weight, *place)
            expected += [answer, pulled]
    answers = simt.run_encoded(program, calls)
    for found, wanted in zip(answers, expected, strict=True):
        limit = BOUND if wanted.dtype == torch.float64 else torch.finfo(dtype).eps
        assert deviation(found.outputs[0], wanted) <= limit
        assert found.launches == 1


def check_gains(program: Path, shapes: list[tuple[int, int, int]], options: list[Options]) -> None:
    """Compare both directions with the formulas."""
    calls, expected = [], []
    for shape in shapes:
        response = blocks(shape)
        for choice in options:
            tolerance, modulus, slip = choice
            flags = {"tolerance": tolerance, "modulus": modulus, "slip": slip}
            gain = reference.two_step_gain(response, **flags)
            up = normal(seeded("up", shape), *gain.shape)
            calls.append(elimination(response, choice, None))
            calls.append(elimination(response, choice, up))
            expected += [gain, COMPOSITES["two_step_gain_backward"](up, response, *choice)]
    answers = simt.run_encoded(program, calls)
    for i, (found, wanted) in enumerate(zip(answers, expected, strict=True)):
        assert deviation(found.outputs[0], wanted) <= 1e-13
        assert found.launches == 1 + i % 2


def compile_for(
    mode: str, changed: dict[str, str] | None = None, *, sanitized: bool = False
) -> Path:
    pattern = "g[ar]*.cu"
    return simt.build(
        mode, changed, driver="gains_driver.cpp", kernels=pattern, sanitized=sanitized
    )


@pytest.fixture(scope="module")
def fibers() -> Path:
    return compile_for("fibers")


@pytest.fixture(scope="module")
def threads() -> Path:
    return compile_for("threads")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_answers_and_their_adjoints_equal_the_formulas(fibers: Path, dtype: torch.dtype) -> None:
    check_responses(fibers, CASES + LONG, dtype)


def test_gains_and_their_adjoints_equal_the_formulas(fibers: Path) -> None:
    check_gains(fibers, SHAPES, OPTIONS)


def test_the_order_of_threads_changes_no_bit(fibers: Path) -> None:
    response = blocks((4, 19, 2))
    up = normal(seeded("up"), 4, 76, 38, 2)
    calls = [elimination(response, OPTIONS[1], up, seed=seed) for seed in range(3)]
    first, *others = (a.outputs[0] for a in simt.run_encoded(fibers, calls))
    assert all(torch.equal(first, other) for other in others)


def test_no_two_threads_race(threads: Path) -> None:
    check_responses(threads, [LONG[0], CASES[3]], torch.float32)
    check_gains(threads, [(2, 9, 2)], OPTIONS[1:2])


@pytest.mark.parametrize("gains", [False, True], ids=["answers", "gains"])
def test_a_missing_barrier_is_found(fibers: Path, threads: Path, gains: bool) -> None:
    """Each in turn: by what it changes in one of a few orders, or by the race."""
    case, response = LONG[0], blocks((1, 12, 1))
    if gains:

        def encoded(seed: int, skip: int) -> simt.Encoded:
            return elimination(response, OPTIONS[1], None, seed=seed, skip=skip)
    else:
        weight = normal(seeded("weight"), *case[0], 3, 5, 2)

        def encoded(seed: int, skip: int) -> simt.Encoded:
            return call(case, (3, 5), weight, adjoint=False, seed=seed, skip=skip)

    (whole,) = simt.run_encoded(fibers, [encoded(0, -1)])
    # The first barrier of a kernel waits for nobody: no memory has been used before it.
    skips = range(1, whole.barriers)
    trials = [(skip, seed) for skip in skips for seed in range(4)]
    answers = simt.run_encoded(fibers, [encoded(seed, skip) for skip, seed in trials])
    found = {
        skip
        for (skip, _), answer in zip(trials, answers, strict=True)
        if not torch.equal(answer.outputs[0], whole.outputs[0])
    }
    for skip in set(skips) - found:
        with pytest.raises(simt.Failure, match="data race"):
            simt.run_encoded(threads, [encoded(0, skip)])


def test_an_index_off_by_one_is_found() -> None:
    text = (simt.KERNELS / "gains.cuh").read_text()
    right = "if (entry >= c.entries) {"
    assert text.count(right) == 1
    changed = {"gains.cuh": text.replace(right, "if (entry > c.entries) {")}
    program = compile_for("fibers", changed, sanitized=True)
    with pytest.raises(simt.Failure, match="heap-buffer-overflow"):
        check_responses(program, CASES[:1], torch.float64)
