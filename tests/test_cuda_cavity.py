# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernel of the cavity on the CPU, under the shim and its sanitizers.

The oracles are the kernel of the CPU and the composite, which solves for the pressure otherwise.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import simt_driver as simt
from physcon_ext import ops
from physcon_ext.ops.composite import COMPOSITES
from test_fv_cavity import random_flow


LIMIT = 1e-12
NAMES = ("u", "v", "lid", "viscosity", "dt", "steps")
Flow = dict[str, Any]


def encode(
    flow: Flow, *, seed: int = 0, skip: int = -1, multiprocessors: int = 4, major: int = 9
) -> simt.Encoded:
    batch, m, n = flow["u"].shape
    header = struct.pack("<6q", seed, skip, batch, n, multiprocessors, major)
    shapes = [(m, n), (n, m), (n, n), (n, n), (m, m), (m, m), (n, n)]
    outputs = [((batch, *shape), torch.float64) for shape in shapes]
    return header + simt.array_bytes([flow[k] for k in NAMES]), outputs


def check(program: Path, flows: list[Flow], **options: int) -> None:
    answers = simt.run_encoded(program, [encode(flow, **options) for flow in flows])
    for flow, answer in zip(flows, answers, strict=True):
        composite = COMPOSITES["cavity"](*(flow[k] for k in NAMES))
        for name, found, value, other in zip(
            ops.CavityStep._fields, answer.outputs, ops.cavity(**flow), composite, strict=True
        ):
            scale = max(1.0, float(value.abs().max()))
            assert float((found - value).abs().max()) <= LIMIT * scale, name
            if name == "pressure":  # up to a constant
                found, other = (p - p.mean((1, 2), keepdim=True) for p in (found, other))
            assert float((found - other).abs().max()) <= LIMIT * scale, name


def check_exchange_beyond_shared_memory(program: Path) -> None:
    """2 * 80**2 doubles are 100 KB, of which a block of sm_86 may have 99."""
    large = random_flow(1, 80)
    check(program, [large | {"steps": torch.ones_like(large["steps"])}], major=8)


@pytest.fixture(scope="module")
def fibers() -> Path:
    return simt.build("fibers", driver="cavity_driver.cpp")


@pytest.fixture(scope="module")
def threads() -> Path:
    return simt.build("threads", driver="cavity_driver.cpp")


def test_steps_equal_those_of_the_cpu_and_of_the_composite(fibers: Path) -> None:
    """Rows that fill the tiles of the products and rows that do not; no step, and several."""
    check(fibers, [random_flow(3, n) for n in (8, 10, 14, 24)])


def test_more_flows_than_blocks_and_an_exchange_beyond_shared_memory(fibers: Path) -> None:
    check(fibers, [random_flow(5, 10)], multiprocessors=1)
    check_exchange_beyond_shared_memory(fibers)


def test_the_divergence_is_rounding(fibers: Path) -> None:
    flow = random_flow(3, 16)
    (answer,) = simt.run_encoded(fibers, [encode(flow)])
    u, v = answer.outputs[:2]
    # A difference of four velocities below 1, after sums over 16 modes.
    assert float((u.diff(dim=1) + v.diff(dim=2)).abs().max()) <= 64 * torch.finfo(u.dtype).eps


def test_a_broken_flow_is_alone_and_order_changes_no_bit(fibers: Path) -> None:
    flow = random_flow(4, 10)
    broken = flow | {"u": flow["u"].clone()}
    broken["u"][1, 3, 3] = torch.nan
    calls = [encode(flow, seed=1), encode(flow, seed=2), encode(broken, multiprocessors=1)]
    first, second, third = (a.outputs for a in simt.run_encoded(fibers, calls))
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[2:], c[2:])
        assert c[1].isnan().any()


def test_no_two_threads_race(threads: Path) -> None:
    check(threads, [random_flow(2, 10)])


def finds(program: Path, flow: Flow, skip: int, expected: list[Tensor]) -> bool:
    """Whether leaving out a barrier changes the answer."""
    for seed in range(3):
        (answer,) = simt.run_encoded(program, [encode(flow, seed=seed, skip=skip)])
        pairs = zip(answer.outputs, expected, strict=True)
        if not all(torch.equal(a.nan_to_num(9e9), b.nan_to_num(9e9)) for a, b in pairs):
            return True
    return False


def test_a_missing_barrier_is_found(fibers: Path, threads: Path) -> None:
    """Of every pass of a stage."""
    flow = random_flow(2, 16)
    flow = {k: v[1:].contiguous() for k, v in flow.items()} | {"steps": torch.tensor([1])}
    (answer,) = simt.run_encoded(fibers, [encode(flow)])
    assert answer.barriers > 24
    missed = [s for s in range(9) if not finds(fibers, flow, s, answer.outputs)]
    assert not missed
    with pytest.raises(simt.Failure, match="data race"):
        simt.run_encoded(threads, [encode(flow, skip=4)])


def test_an_index_off_by_one_is_found() -> None:
    text = (simt.KERNELS / "cavity.cuh").read_text()
    right = "for (int64_t i = n - 2; i >= 0; --i) {"
    assert text.count(right) == 1
    changed = {"cavity.cuh": text.replace(right, right.replace("n - 2", "n - 3"))}
    program = simt.build("fibers", changed, driver="cavity_driver.cpp")
    with pytest.raises((simt.Failure, AssertionError)):
        check(program, [random_flow(2, 8)])
