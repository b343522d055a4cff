# SPDX-License-Identifier: Apache-2.0
"""Products on the matrix units, on the CPU under the shim: the instruction, the scheme, the layers.

The shim's instruction is checked against exact arithmetic; the schemes against float64, each within
the bound that ``mma.cuh`` states for it.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import simt_driver as simt
import simt_spectral as spectral
from op_suite import deviation, normal, seeded
from physcon_ext.ops.composite import COMPOSITES
from test_cuda_spectral import check, convolution, corrected, line_layers


FUSED, SPLIT, TF32 = range(3)
FOLDED_ANALYSIS, FOLDED_SYNTHESIS, PLAIN, CONJUGATE_RIGHT = FORMS = range(4)
UNIT = 2.0**-24


@pytest.fixture(scope="module")
def units() -> Path:
    return simt.build("fibers", driver="matrix_driver.cpp", kernels="grid.cu")


@pytest.fixture(scope="module")
def fibers() -> Path:
    return spectral.build("fibers")


def instruction(program: Path, a: Tensor, b: Tensor, c: Tensor, seed: int = 0) -> Tensor:
    """What the instruction makes of a (16, 8), b (8, 8) and c (16, 8)."""
    header = struct.pack("<5q", seed, -1, -1, 0, 0)
    call = header + simt.array_bytes([a, b, c]), [((16, 8), torch.float32)]
    return simt.run_encoded(program, [call])[0].outputs[0]


def products(
    program: Path, form: int, arithmetic: int, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """The two sums of a form, of left (steps, 64, 2) and right (steps, 32, 2)."""
    header = struct.pack("<5q", 1, -1, form, arithmetic, left.shape[0])
    call = header + simt.array_bytes([left, right]), [((64, 32, 2), torch.float32)]
    first, second = simt.run_encoded(program, [call])[0].outputs[0].unbind(-1)
    return first, second


def exact(form: int, left: Tensor, right: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The two sums in float64, and the sums of the moduli of their products."""
    a, b = left.double().unbind(-1)
    c, s = right.double().unbind(-1)
    terms = {
        FOLDED_ANALYSIS: ([(a, c)], [(-b, s)]),
        FOLDED_SYNTHESIS: ([(a, c)], [(b, s)]),
        PLAIN: ([(a, c), (-b, s)], [(a, s), (b, c)]),
        CONJUGATE_RIGHT: ([(a, c), (b, s)], [(b, c), (-a, s)]),
    }[form]
    return [
        (
            torch.stack([x.mT @ y for x, y in pairs]).sum(0),
            torch.stack([x.abs().mT @ y.abs() for x, y in pairs]).sum(0),
        )
        for pairs in terms
    ]


def cut(x: Tensor) -> Tensor:
    """Without the 13 bits that the instruction does not read."""
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


def rounded(x: Tensor) -> Tensor:
    """To 10 bits after the point, ties away from zero."""
    return cut((x.view(torch.int32) + 0x1000).view(torch.float32))


def test_the_instruction_places_every_number(units: Path) -> None:
    """Small integers, all of them different: exact whatever the order, wrong in any other place."""
    a = torch.arange(1.0, 129).reshape(16, 8)
    b = torch.arange(129.0, 193).reshape(8, 8)
    c = torch.arange(-64.0, 64).reshape(16, 8) * 3
    for seed in range(3):
        assert torch.equal(instruction(units, a, b, c, seed), a @ b + c)
    for row, column in ((0, 0), (7, 3), (8, 4), (15, 7)):
        one, other = torch.zeros(16, 8), torch.zeros(8, 8)
        one[row, column] = other[column, 7 - column] = 1
        found = instruction(units, one, other, torch.zeros(16, 8))
        assert found.sum() == 1 and found[row, 7 - column] == 1


def test_the_instruction_reads_ten_bits_and_cuts_sums_off(units: Path) -> None:
    g = seeded("instruction")
    a, b, c = normal(g, 16, 8).float(), normal(g, 8, 8).float(), normal(g, 16, 8).float()
    found = instruction(units, a, b, c)
    assert torch.equal(found, instruction(units, cut(a), cut(b), c))
    value = cut(a).double() @ cut(b).double() + c.double()
    terms = cut(a)[:, :, None].double() * cut(b)[None].double()
    largest = torch.maximum(terms.abs().amax(1), c.double().abs())
    assert ((found.double() - value).abs() <= 8 * UNIT * largest + 2 * UNIT * value.abs()).all()
    # Numbers below the 24 bits of the largest go, and nothing is rounded up.
    one, tail, zero = torch.ones(8, 8), torch.zeros(16, 8), torch.zeros(16, 8)
    tail[:, 0] = 1
    for count, expected in ((1, 0), (2, 2), (3, 2), (4, 4), (5, 4)):
        tail[:, 1 : count + 1] = 1.5 * 2.0**-24
        assert (instruction(units, tail, one, zero) == 1 + expected * 2.0**-24).all()


def test_operands_are_rounded_to_nearest(units: Path) -> None:
    """One product per entry: plain TF32 is the product of the rounded numbers."""
    g = seeded("rounding")
    left, right = torch.zeros(1, 64, 2), torch.zeros(1, 32, 2)
    left[0, :, 0], right[0, :, 0] = normal(g, 64).float(), normal(g, 32).float()
    left[0, :4, 0] = torch.tensor([1 + 2.0**-11, -1 - 2.0**-11, 1 + 2.0**-12, 2 - 2.0**-23])
    first, _ = products(units, FOLDED_SYNTHESIS, TF32, left, right)
    expected = rounded(left[0, :, 0])[:, None] * rounded(right[0, :, 0])
    assert torch.equal(first, expected)
    assert rounded(left[0, :4, 0]).tolist() == [1 + 2.0**-10, -1 - 2.0**-10, 1, 2]


def bound(arithmetic: int, n: int) -> float:
    """Of the error of a sum of n products, over the sum of their moduli."""
    fused = min(n, 128) + n / 128
    return {FUSED: fused, SPLIT: 33 + n / 16, TF32: 2**14 * 1.01 + 21 + n / 16}[arithmetic] * UNIT


@pytest.mark.parametrize("form", FORMS)
def test_schemes_keep_their_bounds(units: Path, form: int) -> None:
    """Also where terms have one sign, and errors of cutting add up."""
    for steps in (1, 16, 40, 150):
        n = steps * (1 if form in (FOLDED_ANALYSIS, FOLDED_SYNTHESIS) else 2)
        g = seeded("scheme", form, steps)
        left, right = normal(g, steps, 64, 2).float(), normal(g, steps, 32, 2).float()
        for x, y in ((left, right), (left.abs() + 1, right.abs() + 1)):
            for arithmetic in (FUSED, SPLIT, TF32):
                found = products(units, form, arithmetic, x, y)
                for value, (truth, scale) in zip(found, exact(form, x, y), strict=True):
                    error = ((value.double() - truth).abs() / scale).max()
                    assert error <= bound(arithmetic, n), (arithmetic, steps, float(error))
                    if arithmetic == TF32 and steps > 1:
                        assert error > 32 * UNIT  # it did round


def test_split_sums_are_as_good_as_fused_ones() -> None:
    """The stated bound, where the matrix units are used: no more than twice the other."""
    for n in range(18, 4097):
        assert bound(SPLIT, n) <= 2 * bound(FUSED, n)


# Analyses and syntheses that the matrix units take: points, modes and period of a line
LONG_LINES: list[tuple[int, int, float | None]] = [
    (150, 76, None),
    (200, 60, None),
    (257, 40, 301.5),
    (320, 100, None),
]
LIMIT = 2e-6  # of test_cuda_spectral, for single precision


def allowed(calls: list[spectral.Call], *, tf32: bool) -> list[spectral.Call]:
    return [replace(call, tf32=tf32) for call in calls]


@pytest.mark.parametrize("i", range(len(LONG_LINES)))
def test_lines_with_more_modes_equal_the_oracle(fibers: Path, i: int) -> None:
    n, m, p = LONG_LINES[i]
    calls = convolution((n,), (m,), p and (p,), torch.float32, multiprocessors=(1, 40)[i % 2])
    check(fibers, [call.seeded(i) for call in calls])


def test_grids_corrections_and_layers_equal_the_oracle(fibers: Path) -> None:
    """Complex axes; split sums that a correction adds up; a layer with its skip."""
    calls = convolution((40, 6), (30, 3), None, torch.float32, multiprocessors=100)
    calls += corrected((150,), (76,), None, torch.float32, kind=1, multiprocessors=40, major=8)
    calls += [line_layers(torch.float32)[-1]]
    check(fibers, calls)
    # They did run on the matrix units: rounding changes them.
    for call in calls:
        a, b = spectral.run(fibers, [replace(call, tf32=t) for t in (False, True)])
        assert not torch.equal(a.outputs[0], b.outputs[0]), call.op


def test_what_rounds_is_what_was_allowed_to(fibers: Path) -> None:
    """TF32 changes long sums, by no more than its class, and leaves short ones alone."""
    for (n, m), changed in (((200, 60), True), ((200, 8), False)):
        calls = convolution((n,), (m,), None, torch.float32)
        plain, quick = (spectral.run(fibers, allowed(calls, tf32=t)) for t in (False, True))
        for call, a, b in zip(calls, plain, quick, strict=True):
            wide = [x.double() if isinstance(x, Tensor) else x for x in call.arguments]
            expected = COMPOSITES[call.op](*wide)
            for x, y, z in zip(a.outputs, b.outputs, expected, strict=True):
                assert deviation(x, z) <= LIMIT
                assert deviation(y, z) <= 1e-3
                assert torch.equal(x, y) is not changed


# ---- copies beside products ----------------------------------------------------------------------

STREAM = "spectral_stream.cuh"
# Aligned runs of four and points one by one; one stage, many, and a last one that is not full
STREAMED = [(8, 3), (64, 9), (72, 5), (100, 40), (101, 40), (264, 17)]


def test_copies_of_any_alignment_bring_the_same_numbers(fibers: Path) -> None:
    calls = []
    for i, (n, m) in enumerate(STREAMED):
        calls += convolution((n,), (m,), None, torch.float32, multiprocessors=(1, 40)[i % 2])
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


@pytest.mark.parametrize(("n", "m"), [(64, 5), (67, 5), (160, 80)])
def test_a_missing_wait_is_found(fibers: Path, n: int, m: int) -> None:
    """What a copy fills is NaN until its thread has waited."""
    text = (simt.KERNELS / STREAM).read_text()
    assert text.count("wait_for_copies();") == 1
    program = spectral.build("fibers", {STREAM: text.replace("wait_for_copies();", "")})
    (call, _) = convolution((n,), (m,), None, torch.float32)
    check(fibers, [call])
    with pytest.raises((simt.Failure, AssertionError)):
        check(program, [call])


def test_a_stage_that_is_refilled_too_early_is_found(fibers: Path) -> None:
    """The barrier between stages: threads that run ahead overwrite what others read."""
    (call, _) = convolution((160,), (9,), None, torch.float32, multiprocessors=1)
    (whole,) = spectral.run(fibers, [call])
    for skip in (0, 1):
        outputs = []
        for seed in range(3):
            (answer,) = spectral.run(fibers, [call.seeded(seed, skip)])
            outputs.append(answer.outputs[0])
        assert any(not torch.equal(y, whole.outputs[0]) for y in outputs), skip


def test_no_two_threads_race() -> None:
    program = spectral.build("threads")
    check(program, convolution((72,), (9,), None, torch.float32, multiprocessors=1))
    check(program, convolution((96,), (48,), None, torch.float32, batch=(1,), channels=(1, 1))[:1])
    (call, _) = convolution((72,), (9,), None, torch.float32, multiprocessors=1)
    with pytest.raises(simt.Failure, match="data race"):
        spectral.run(program, [call.seeded(0, 1)])
