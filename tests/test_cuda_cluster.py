# SPDX-License-Identifier: Apache-2.0
"""Convolutions on a line in one launch, clusters of blocks, on the CPU under the shim.

Same oracle and same bounds as the convolutions in several launches.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import simt_driver as simt
import simt_spectral as spectral
from simt_spectral import Call
from test_cuda_spectral import DTYPES, check, convolution, corrected, line_layers
from test_cuda_spectral import LINES as SHORT_AND_LONG


@pytest.fixture(scope="module")
def fibers() -> Path:
    return spectral.build("fibers")


@pytest.fixture(scope="module")
def threads() -> Path:
    return spectral.build("threads")


def at_once(calls: list[Call]) -> list[Call]:
    """The same calls in one launch, each in another order of threads."""
    return [replace(call, launches="one", seed=seed) for seed, call in enumerate(calls)]


# One block to a cluster and up to eight, some of them without points; more modes than blocks, and
# fewer.
LINES: list[tuple[int, int, float | None]] = [*SHORT_AND_LONG, (20, 11, None), (40, 5, None)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lines_equal_the_oracle(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for i, (n, m, p) in enumerate(LINES):
        calls += convolution((n,), (m,), p and (p,), dtype, batch=(1 + i % 2,))
    check(fibers, at_once(calls))


CHANNELS = [((1,), 1, 1), ((1,), 33, 1), ((), 1, 33), ((2, 2), 5, 17), ((9,), 2, 3), ((1,), 66, 70)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_number_of_channels_and_items(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for batch, c_in, c_out in CHANNELS:
        calls += convolution((67,), (6,), None, dtype, batch=batch, channels=(c_in, c_out))
    check(fibers, at_once(calls))


# Two points, one mode, all modes, prime, long, periods beyond the points
CORRECTED: list[tuple[int, int, float | None]] = [
    (2, 1, None),
    (2, 2, None),
    (9, 1, None),
    (13, 7, None),
    (40, 11, None),
    (67, 5, 70.3),
    (150, 3, 160.0),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_corrected_lines_equal_the_oracle(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for i, (n, m, p) in enumerate(CORRECTED):
        for kind in (i % 4, (i + 1) % 4):
            calls += corrected((n,), (m,), p and (p,), dtype, kind=kind, parts=1 + i % 2)
    for batch, c_in, c_out in (((1,), 33, 1), ((), 1, 17), ((2, 3), 5, 9)):
        calls += corrected((70,), (3,), None, dtype, batch=batch, channels=(c_in, c_out))
    calls += corrected((67,), (3,), None, dtype, axes=())
    check(fibers, at_once(calls))


@pytest.mark.parametrize("bare", [False, True], ids=["whole", "bare"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layers_equal_the_oracle(fibers: Path, dtype: torch.dtype, bare: bool) -> None:
    check(fibers, at_once(line_layers(dtype, bare=bare)))


def test_corrected_convolutions_and_layers_take_one_launch(fibers: Path) -> None:
    calls = at_once(corrected((67,), (9,), None, torch.float32))
    calls += at_once(line_layers(torch.float32))
    forward, adjoint, *layers = [a.launches for a in spectral.run(fibers, calls)]
    assert forward == 1
    assert adjoint <= 3  # the pass, the sums over the batch, the sums of the face data
    assert set(layers) == {1}


def test_a_convolution_takes_one_launch_and_its_adjoint_two(fibers: Path) -> None:
    answers = spectral.run(fibers, at_once(convolution((67,), (9,), None, torch.float32)))
    assert [a.launches for a in answers] == [1, 2]


def test_the_rule_takes_one_launch_where_launches_dominate(fibers: Path) -> None:
    """Enough items to fill the device, small fields and weights, clusters at all."""

    def launches(batch: int, n: int, m: int, channels: int, major: int = 9) -> int:
        size: dict[str, Any] = dict(
            batch=(batch,), channels=(channels, channels), multiprocessors=132
        )
        (call, _) = convolution((n,), (m,), None, torch.float32, **size)
        (answer,) = spectral.run(fibers, [replace(call, launches="automatic", major=major)])
        return answer.launches

    assert launches(16, 64, 3, 2) == 1
    assert launches(15, 64, 3, 2) == 3  # the device is not full
    assert launches(16, 64, 3, 2, major=8) == 3  # no clusters
    assert launches(16, 56, 3, 2) == 3  # too short for eight blocks
    assert launches(16, 64 * 1024, 1, 3) == 3  # transfers take longer than launches


def test_two_orders_of_threads_give_the_same_bits(fibers: Path) -> None:
    calls = at_once(convolution((150,), (9,), None, torch.float32))
    first = spectral.run(fibers, [c.seeded(1) for c in calls])
    second = spectral.run(fibers, [c.seeded(2) for c in calls])
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a.outputs, b.outputs, strict=True):
            assert torch.equal(x, y)


def test_an_item_has_the_same_bits_in_any_batch(fibers: Path) -> None:
    calls = []
    (whole, _) = convolution((67,), (9,), None, torch.float32, batch=(3,))
    x, weight, periods = whole.arguments
    for part in (x, x[1:2], x[[2, 0]]):
        calls.append(Call("spectral_conv", (part, weight, periods), launches="one"))
    a, b, c = (answer.outputs[0] for answer in spectral.run(fibers, calls))
    assert torch.equal(b[0], a[1])
    assert torch.equal(c, a[[2, 0]])


def test_no_two_threads_race(threads: Path) -> None:
    calls = convolution((20,), (5,), None, torch.float32, batch=(1,))
    calls += corrected((20,), (3,), None, torch.float64, batch=(1,))
    check(threads, at_once([*calls, line_layers(torch.float32)[5]]))


# ---- what is broken on purpose must be found -----------------------------------------------------


def is_found(program: Path, call: Call, whole: simt.Answer) -> bool:
    """Whether a call stops or answers differently in one of a few orders of threads."""
    for seed in range(4):
        try:
            (answer,) = spectral.run(program, [call.seeded(seed, call.skip)])
        except simt.Failure:
            return True
        if not all(map(torch.equal, answer.outputs, whole.outputs)):
            return True
    return False


def test_every_barrier_matters(fibers: Path) -> None:
    """Left out by all threads, of the block or of the cluster, each is found."""
    size: dict[str, Any] = dict(kind=2, batch=(1,), channels=(4, 4))  # all blocks do the same
    call = at_once(corrected((128,), (16,), None, torch.float64, **size))[0]
    (whole,) = spectral.run(fibers, [call])
    calls = [call.seeded(0, skip) for skip in range(whole.barriers)]
    missed = [c.skip for c in calls if not is_found(fibers, c, whole)]
    assert missed == [], whole.barriers


def test_a_missing_barrier_is_a_race(threads: Path) -> None:
    """Every barrier of a block: removed from all threads, others see what is not there yet."""
    call = at_once(convolution((20,), (5,), None, torch.float64, batch=(1,)))[0]
    for skip in (0, 1):
        with pytest.raises(simt.Failure, match="data race"):
            spectral.run(threads, [call.seeded(0, skip)])
