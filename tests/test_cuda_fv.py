# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernel of the finite-volume steps on the CPU, under the shim and its sanitizers.

The oracle is the kernel of the CPU, itself compared with plain PyTorch elsewhere; both run the
formulas of one header, so what is at stake here is which thread computes what, and when.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import simt_driver as simt
from physcon_ext import ops
from physcon_ext.ops import EdgeTable, Method
from test_ops_balance_law import ENDS, SCHEMES, problem


# Sums of the same terms in another order; powers and Newton's method lose a few digits more.
LIMIT = 1e-12


@dataclass
class Call:
    """One call of the raw op, and what the CPU makes of it."""

    arguments: tuple[Any, ...]
    expected: tuple[Tensor, ...]
    seed: int = 0
    skip: int = -1


class Recorded(TorchDispatchMode):
    """Keeps the arguments and the results of the op."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        if function is torch.ops.physcon.balance_law.default:
            self.calls.append(Call(tuple(arguments), tuple(result)))
        return result


def call(method: Method, kinds: tuple[str, ...], **options: Any) -> Call:
    arguments = problem(method, kinds, **options)
    if method.integrator in ("backward_euler", "tr_bdf2") and options.get("sources"):
        arguments["amplitudes"] *= 0.1
    if method.average == "shock":  # a front comes from an edge above its threshold
        arguments["edges"][0] = EdgeTable("value", torch.ones(3, 1, 1, 1, dtype=torch.float64))
    with Recorded() as mode:
        ops.balance_law(**arguments)
    (found,) = mode.calls
    return found


def encode(given: Call) -> simt.Encoded:
    state, spacing, speed, diffusion, *tables, weights = given.arguments[:9]
    shapes, amplitudes, dt, steps, choices, stages = given.arguments[9:]
    batch, _, _, rows, n = state.shape
    # As long as the longest of them; shorter ones are tables of one step.
    length = max(t.shape[1] for t in (*tables, amplitudes))
    held = [t.expand(batch, length, stages, t.shape[3]) for t in (*tables, amplitudes)]
    if length == 1:
        length = int(steps.max())
        held = [t.expand(batch, length, stages, t.shape[3]) for t in held]
    header = struct.pack(
        "<17q10d",
        *(given.seed, given.skip, batch, rows, n, shapes.shape[1], length, stages),
        *choices.tolist(),
        *spacing.tolist(),
        *weights.flatten().tolist(),
    )
    outputs = [(tuple(t.shape) if t.numel() else (0,), t.dtype) for t in given.expected]
    data = simt.array_bytes([state, speed, diffusion, *held, shapes, dt, steps])
    return header + data, outputs


def check(program: Path, calls: Sequence[Call], factor: float = 1.0) -> None:
    answers = simt.run_encoded(program, [encode(c) for c in calls])
    for given, answer in zip(calls, answers, strict=True):
        label = given.arguments[-2].tolist(), tuple(given.arguments[0].shape)
        for i, (found, value) in enumerate(zip(answer.outputs, given.expected, strict=True)):
            if i == 0:  # which digits are high and which are rests may differ
                found, value = found.sum(2), value.sum(2)
            if i == 4:
                assert torch.equal(found, value), label
            elif value.numel():
                error = float((found - value).abs().max()) / max(1.0, float(value.abs().max()))
                assert error <= factor * LIMIT, (*label, i, error)


@pytest.fixture(scope="module")
def fibers() -> Path:
    return simt.build("fibers", driver="fv_driver.cpp")


@pytest.fixture(scope="module")
def threads() -> Path:
    return simt.build("threads", driver="fv_driver.cpp")


@pytest.mark.parametrize("transport", ["linear", "burgers"])
def test_transport_with_every_scheme_and_edge(fibers: Path, transport: str) -> None:
    calls = []
    for scheme, integrator in SCHEMES.items():
        method = Method(transport=transport, scheme=scheme, integrator=integrator)
        calls += [call(method, (*ends, "outflow", "outflow"), n=37) for ends in ENDS]
        calls.append(call(method, ("value", "outflow", "flux", "value"), rows=5, n=9))
        calls.append(call(method, ("periodic",) * 4, rows=4, n=11, sources=1))
    check(fibers, [replace(c, seed=i) for i, c in enumerate(calls)])


@pytest.mark.parametrize("diffusivity", ["constant", "power", "threshold"])
def test_diffusion_with_every_average_and_edge(fibers: Path, diffusivity: str) -> None:
    calls = []
    for average in ("integral", "arithmetic", "harmonic", "modified"):
        method = Method(diffusivity=diffusivity, average=average, integrator="ssprk2")
        for rows in (1, 5):
            calls.append(call(method, ("value", "mixed", "flux", "outflow"), rows=rows, n=10))
            calls.append(call(method, ("periodic",) * 4, rows=rows, n=10, sources=2))
    check(fibers, calls)


def test_integrators_sources_and_transport_with_diffusion(fibers: Path) -> None:
    calls = []
    for rows in (1, 4):
        for integrator in ("euler", "ssprk3", "rkl2", "verlet"):
            method = Method(diffusivity="constant", integrator=integrator, stages=5)
            kinds = ("value", "mixed", "periodic", "periodic")
            calls.append(call(method, kinds, rows=rows, sources=3))
        for transport in ("linear", "burgers"):
            method = Method(
                transport=transport, scheme="weno5", diffusivity="constant", integrator="ssprk3"
            )
            calls.append(call(method, ("outflow", "mixed", "value", "mixed"), rows=rows, n=11))
    check(fibers, calls)


def test_implicit_integrators(fibers: Path) -> None:
    calls = []
    for integrator in ("backward_euler", "tr_bdf2"):
        for diffusivity in ("constant", "power"):
            method = Method(diffusivity=diffusivity, integrator=integrator)
            for ends in (("value", "mixed"), ("periodic", "periodic"), ("flux", "outflow")):
                calls.append(call(method, (*ends, "outflow", "outflow"), sources=1))
                calls.append(call(method, (*ends, "outflow", "outflow"), n=4))
    check(fibers, calls, factor=10)


def test_a_front(fibers: Path) -> None:
    method = Method(diffusivity="threshold", average="shock")
    check(fibers, [call(method, ("value", "value", "outflow", "outflow"), n=9)])


def test_an_item_too_large_for_shared_memory_and_more_cells_than_threads(fibers: Path) -> None:
    method = Method(transport="linear", scheme="van_leer", integrator="ssprk2")
    check(fibers, [call(method, ("periodic",) * 4, rows=41, n=43)])


def test_a_table_that_is_too_short_gives_nan_and_is_told(fibers: Path) -> None:
    given = call(Method(transport="linear"), ("value", "outflow", "outflow", "outflow"), n=9)
    arguments = list(given.arguments)
    arguments[12] = torch.tensor([8, 0, 3])  # the tables hold 7
    (answer,) = simt.run_encoded(fibers, [encode(Call(tuple(arguments), given.expected))])
    assert answer.outputs[4].tolist() == [-1, 0, 0]
    assert bool(answer.outputs[0][0].isnan().all() and answer.outputs[1][0].isnan().all())
    assert bool(answer.outputs[0][1:].isfinite().all())


def test_no_two_threads_race(threads: Path) -> None:
    edges = ("value", "mixed", "flux", "outflow")
    calls = [
        call(
            Method(transport="burgers", scheme="weno5", integrator="ssprk3"),
            ("periodic", "periodic", "value", "outflow"),
            rows=4,
            n=7,
        ),
        call(
            Method(diffusivity="power", integrator="rkl2", stages=5), edges, rows=4, n=7, sources=1
        ),
        call(Method(diffusivity="power", integrator="tr_bdf2"), edges, n=37),
        call(Method(diffusivity="constant", integrator="backward_euler"), ("periodic",) * 4, n=37),
        call(Method(diffusivity="constant", integrator="verlet"), ("periodic",) * 4, rows=4, n=7),
        call(Method(diffusivity="threshold", average="shock"), ("value",) * 4, n=9),
    ]
    check(threads, calls, factor=10)


def test_two_orders_of_threads_give_the_same_bits(fibers: Path) -> None:
    method = Method(transport="burgers", scheme="mc", diffusivity="power", integrator="ssprk2")
    given = call(method, ("mixed", "value", "periodic", "periodic"), rows=5, n=13, sources=1)
    first, second = simt.run_encoded(fibers, [encode(replace(given, seed=s)) for s in (1, 2)])
    for a, b in zip(first.outputs, second.outputs, strict=True):
        assert torch.equal(a, b)


def finds(program: Path, given: Call, expected: list[Tensor]) -> bool:
    """Whether leaving out a barrier stops the program or changes the answer."""
    for seed in range(3):
        try:
            (answer,) = simt.run_encoded(program, [encode(replace(given, seed=seed))])
        except simt.Failure:
            return True
        pairs = zip(answer.outputs, expected, strict=True)
        if not all(torch.equal(a.nan_to_num(9e9), b.nan_to_num(9e9)) for a, b in pairs):
            return True
    return False


def test_a_removed_barrier_is_found(fibers: Path) -> None:
    """Of every pass of the first step: cells, ghosts and coefficients, fluxes, and cells again."""
    method = Method(transport="burgers", scheme="weno5", diffusivity="power", integrator="ssprk2")
    given = call(method, ("periodic", "periodic", "value", "mixed"), rows=4, n=7)
    (answer,) = simt.run_encoded(fibers, [encode(given)])
    assert answer.barriers > 6
    missed = [s for s in range(6) if not finds(fibers, replace(given, skip=s), answer.outputs)]
    assert not missed


def test_an_index_off_by_one_is_found() -> None:
    text = (simt.KERNELS / "balance_law.cuh").read_text()
    changed = text.replace("for (; front < l.n; ++front)", "for (; front <= l.n; ++front)")
    changed = changed.replace("f % (l.n + 1);", "f % (l.n + 1) + 1;")
    assert changed != text
    program = simt.build("fibers", {"balance_law.cuh": changed}, driver="fv_driver.cpp")
    method = Method(transport="linear", scheme="weno5", integrator="ssprk3")
    with pytest.raises((simt.Failure, AssertionError)):
        check(program, [call(method, ("periodic",) * 4, n=9)])
