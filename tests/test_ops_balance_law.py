# SPDX-License-Identifier: Apache-2.0
"""The compiled finite-volume steps equal the plain PyTorch ones, whatever the method."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from physcon_ext import build_info, ops, reference
from physcon_ext.ops import EdgeTable, Method
from physcon_ext.reference.balance_law import AVERAGES, stage_count


BATCH, STEPS = 3, 7
# Both sides add the same terms in another order; powers and Newton's method lose a few digits more.
TOLERANCE = 1e-12


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def tables(
    kinds: tuple[str, ...], stages: int, rows: int, n: int, steps: int = STEPS
) -> list[EdgeTable]:
    """Edges of the given kinds with values that vary with item, step, stage and place."""
    found = []
    for place, kind in enumerate(kinds):
        along = rows if place < 2 else n
        values = 0.5 + 0.3 * torch.tanh(normal(BATCH, steps, stages, along, seed=place))
        if kind == "flux":
            values = 0.1 * values
        a, b = (0.7, 0.4) if kind == "mixed" else (1.0, 0.0)
        found.append(EdgeTable(kind, None if kind in ("periodic", "outflow") else values, a, b))
    return found


def problem(
    method: Method, kinds: tuple[str, ...], rows: int = 1, n: int = 19, sources: int = 0
) -> dict[str, Any]:
    """Arguments of a call: positive data, steps that are stable for all methods."""
    stages = stage_count(method)
    u = 1 + 0.5 * torch.tanh(normal(BATCH, rows, n, seed=9))
    if method.average == "shock":
        u = torch.zeros(BATCH, 1, n, dtype=torch.float64)
        u[1, 0, :4] = torch.tensor([0.9, 0.8, 0.7, 0.3])
        u[2, 0, 0] = 0.2
    fields = 2 if method.integrator == "verlet" else 1
    state = torch.zeros(BATCH, fields, 2, rows, n, dtype=torch.float64)
    state[:, 0, 0] = u
    if fields == 2:
        state[:, 1, 0] = normal(BATCH, rows, n, seed=8)
    h = (0.1, 0.13)
    limit = 0.1 if method.transport != "none" else 0.15 * h[0] ** 2
    if method.integrator == "verlet":
        limit = 0.3 * h[0]
    if method.transport != "none":
        limit = 0.2 * h[0] * (0.05 if method.diffusivity != "none" else 1.0)
    if method.integrator in ("backward_euler", "tr_bdf2"):
        limit *= 20
    diffusion = torch.tensor([[1.0, 0.6], [1.3, 0.5], [2.0, 0.55]], dtype=torch.float64)
    if method.diffusivity == "threshold":
        diffusion[:, 0] = 1.0
    arguments: dict[str, Any] = dict(
        state=state,
        method=method,
        spacing=h,
        speed=torch.tensor([[1.0, -0.7], [-0.8, 0.9], [0.5, 1.0]], dtype=torch.float64),
        diffusion=diffusion,
        edges=tables(kinds, stages, rows, n),
        dt=limit * torch.tensor([1.0, 0.8, 0.6], dtype=torch.float64),
        steps=torch.tensor([STEPS, 0, STEPS - 2])
        if method.average != "shock"
        else torch.tensor([STEPS] * 3),
    )
    if method.integrator == "verlet":
        for edge in arguments["edges"]:
            continue_in_time(edge.values)
    if sources:
        arguments["shapes"] = normal(BATCH, sources, rows, n, seed=5)
        arguments["amplitudes"] = 0.1 * normal(BATCH, STEPS, stages, sources, seed=6)
        if method.integrator == "verlet":
            continue_in_time(arguments["amplitudes"])
    return arguments


def continue_in_time(values: Tensor | None) -> None:
    """Give the end of a step and the beginning of the next one, the same time, the same values."""
    if values is not None:
        values[:, 1:, 0] = values[:, :-1, 1]


def compare(arguments: dict[str, Any], factor: float = 1.0) -> None:
    found, expected = ops.balance_law(**arguments), reference.balance_law(**arguments)
    assert int(found.info.sum()) == 0
    pairs = {
        "cells": (found.state.sum(2), expected.state.sum(2)),
        "inner flux": (found.inner_flux, expected.inner_flux),
        "outer flux": (found.outer_flux, expected.outer_flux),
        "source": (found.source, expected.source),
    }
    for name, (a, b) in pairs.items():
        assert a.shape == b.shape, name
        if a.numel():
            scale = max(1.0, float(b.abs().max()))
            assert float((a - b).abs().max()) <= factor * TOLERANCE * scale, name
    # The cells are what the fluxes made of them.
    fields = -1  # the conserved field is the last one
    old, new = arguments["state"].sum(2)[:, fields], found.state.sum(2)[:, fields]
    change = -found.inner_flux.diff(dim=-1) / arguments["spacing"][0]
    if found.outer_flux.numel():
        change = change - found.outer_flux.diff(dim=-2) / arguments["spacing"][1]
    if "shapes" in arguments:
        change = change + torch.einsum("bt,btrn->brn", found.source, arguments["shapes"])
    assert float((new - old - change).abs().max()) <= 1e-14 * max(1.0, float(change.abs().max()))


SCHEMES = {
    "godunov": "euler",
    "minmod": "ssprk2",
    "van_leer": "ssprk3",
    "mc": "ssprk2",
    "weno5": "ssprk3",
}
ENDS = [("periodic", "periodic"), ("value", "outflow"), ("flux", "value")]


@pytest.mark.parametrize("transport", ["linear", "burgers"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("ends", ENDS, ids="-".join)
def test_transport_in_one_dimension(transport: str, scheme: str, ends: tuple[str, str]) -> None:
    method = Method(transport=transport, scheme=scheme, integrator=SCHEMES[scheme])
    compare(problem(method, (*ends, "outflow", "outflow"), n=19))


@pytest.mark.parametrize("transport", ["linear", "burgers"])
@pytest.mark.parametrize("scheme", ["godunov", "van_leer", "weno5"])
def test_transport_in_two_dimensions(transport: str, scheme: str) -> None:
    method = Method(transport=transport, scheme=scheme, integrator=SCHEMES[scheme])
    for kinds in (("periodic",) * 4, ("value", "outflow", "flux", "value")):
        compare(problem(method, kinds, rows=5, n=9))


@pytest.mark.parametrize(
    "kinds", [("mixed", "value"), ("periodic", "periodic"), ("outflow", "mixed")]
)
@pytest.mark.parametrize("rows", [1, 6])
def test_transport_with_diffusion_and_source(kinds: tuple[str, str], rows: int) -> None:
    for transport in ("linear", "burgers"):
        method = Method(
            transport=transport, scheme="weno5", diffusivity="constant", integrator="ssprk3"
        )
        compare(problem(method, (*kinds, "value", "mixed"), rows=rows, n=11, sources=2))


DEGENERATE = list(
    itertools.product(["power", "threshold"], ["integral", "arithmetic", "harmonic", "modified"])
)


@pytest.mark.parametrize(("diffusivity", "average"), DEGENERATE)
@pytest.mark.parametrize("rows", [1, 5])
def test_diffusion_with_every_average(diffusivity: str, average: str, rows: int) -> None:
    method = Method(diffusivity=diffusivity, average=average, integrator="ssprk2")
    for kinds in (("value", "mixed", "flux", "outflow"), ("periodic",) * 4):
        compare(problem(method, kinds, rows=rows, n=10))


@pytest.mark.parametrize("integrator", ["euler", "ssprk3", "rkl2", "verlet"])
@pytest.mark.parametrize("rows", [1, 4])
def test_integrators_with_source(integrator: str, rows: int) -> None:
    method = Method(diffusivity="constant", integrator=integrator, stages=5)
    compare(problem(method, ("value", "mixed", "periodic", "periodic"), rows=rows, sources=3))


@pytest.mark.parametrize("integrator", ["backward_euler", "tr_bdf2"])
@pytest.mark.parametrize("diffusivity", ["constant", "power"])
@pytest.mark.parametrize(
    "ends", [("value", "mixed"), ("periodic", "periodic"), ("flux", "outflow")], ids="-".join
)
def test_implicit_integrators(integrator: str, diffusivity: str, ends: tuple[str, str]) -> None:
    method = Method(diffusivity=diffusivity, integrator=integrator)
    arguments = problem(method, (*ends, "outflow", "outflow"), sources=1)
    arguments["amplitudes"] *= 0.1
    compare(arguments, factor=10)


def test_front_in_the_first_cell_and_further_on() -> None:
    method = Method(diffusivity="threshold", average="shock")
    arguments = problem(method, ("value", "value", "outflow", "outflow"), n=9)
    arguments["edges"][0] = EdgeTable("value", torch.full((BATCH, 1, 1, 1), 1.0).double())
    compare(arguments)


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0, 3.0, 5.7, 17.0, 64.0, 70.0])
def test_powers_are_accurate_from_tiny_to_large(exponent: float) -> None:
    # One Euler step of du/dt = div grad u^(m+1)/(m+1) from a comb of cells reads the powers off.
    low = max(-12.0, -280.0 / (exponent + 1))  # results stay clear of subnormal numbers
    values = 10 ** torch.linspace(low, 1, 53, dtype=torch.float64)
    cells = torch.stack([values, torch.zeros_like(values)], 1).flatten()
    state = torch.stack([cells, 0 * cells]).reshape(1, 1, 2, 1, -1)
    out = ops.balance_law(
        state,
        method=Method(diffusivity="power"),
        spacing=(1.0, 1.0),
        speed=torch.zeros(1, 2, dtype=torch.float64),
        diffusion=torch.tensor([[exponent, 0.0]], dtype=torch.float64),
        edges=[EdgeTable("outflow")] * 2,
        dt=torch.ones(1, dtype=torch.float64),
        steps=torch.tensor([1]),
    )
    found, expected = out.inner_flux[0, 0, 1::2], values ** (exponent + 1) / (exponent + 1)
    # exp(m log u): the rounding of m log u, at most 200 here, is a relative error of the power.
    limit = 4 * 2.3e-16 * max(exponent, (exponent * values.log()).abs().max().item())
    assert float(((found - expected) / expected).abs().max()) <= limit
    assert bool((found >= 0).all()) and bool((found.diff() >= 0).all())


def test_same_bits_in_any_batch_and_for_any_number_of_threads() -> None:
    method = Method(
        transport="burgers", scheme="weno5", diffusivity="constant", integrator="ssprk3"
    )
    arguments = problem(method, ("value", "mixed", "value", "flux"), rows=4, n=70, sources=1)
    whole = ops.balance_law(**arguments)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(ops.balance_law(**arguments).state, whole.state)
        torch.set_num_threads(2)
        assert torch.equal(ops.balance_law(**arguments).state, whole.state)
    finally:
        torch.set_num_threads(threads)
    for b in range(BATCH):
        one = dict(arguments)
        for name in ("state", "speed", "diffusion", "dt", "steps", "shapes", "amplitudes"):
            one[name] = arguments[name][b : b + 1]
        one["edges"] = [
            EdgeTable(e.kind, None if e.values is None else e.values[b : b + 1], e.a, e.b)
            for e in arguments["edges"]
        ]
        assert torch.equal(ops.balance_law(**one).state[0], whole.state[b])
        assert torch.equal(ops.balance_law(**one).inner_flux[0], whole.inner_flux[b])


def test_strided_tables_and_states_are_read_rightly() -> None:
    method = Method(transport="linear", scheme="mc", integrator="ssprk2")
    arguments = problem(method, ("value", "outflow", "outflow", "outflow"))
    expected = ops.balance_law(**arguments)
    wide = arguments["state"].repeat_interleave(2, -1)[..., ::2]
    table = arguments["edges"][0]
    edges = [EdgeTable("value", table.values.transpose(1, 2).contiguous().transpose(1, 2))]
    again = ops.balance_law(**{**arguments, "state": wide, "edges": edges + arguments["edges"][1:]})
    assert torch.equal(again.state, expected.state)
    constant = EdgeTable("value", torch.full((1, 1, 1, 1), 0.5).double())
    full = EdgeTable("value", torch.full((BATCH, STEPS, 2, 1), 0.5).double())
    results = [
        ops.balance_law(**{**arguments, "edges": [e, *arguments["edges"][1:]]}).state
        for e in (constant, full)
    ]
    assert torch.equal(*results)


def test_an_empty_batch_gives_empty_results() -> None:
    method = Method(transport="linear")
    arguments = problem(method, ("periodic",) * 4)
    for name in ("state", "speed", "diffusion", "dt", "steps"):
        arguments[name] = arguments[name][:0]
    out = ops.balance_law(**arguments)
    assert out.state.shape == (0, 1, 2, 1, 19) and out.inner_flux.shape == (0, 1, 20)


def test_the_schema_and_the_fake_kernel_tell_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    module = sys.modules["physcon_ext.ops.balance_law"]
    raw = torch.ops.physcon.balance_law.default

    def record(*arguments: Any) -> Any:
        calls.append(arguments)
        return raw(*arguments)

    monkeypatch.setattr(module, "_OP", record)
    for rows in (1, 4):
        kinds = ("value", "outflow", "periodic", "periodic")
        ops.balance_law(**problem(Method(transport="linear"), kinds, rows=rows, sources=1))
    assert len(calls) == 2
    for arguments in calls:
        opcheck(raw, arguments)


def test_bad_calls_of_the_raw_op_raise() -> None:
    arguments = problem(Method(transport="linear"), ("periodic",) * 4)
    with pytest.raises(ValueError, match="expected arguments without gradients"):
        ops.balance_law(**{**arguments, "state": arguments["state"].clone().requires_grad_()})
    for name, value, message in [
        ("state", arguments["state"].long(), "expected state to be float64 of shape"),
        ("state", arguments["state"][..., :3], "with n >= 4"),
        ("dt", arguments["dt"][:2], r"expected dt to be float64 of shape \(3\)"),
        ("steps", arguments["steps"].int(), r"expected steps to be int64 of shape \(3,\)"),
        ("method", Method(transport="linear", integrator="rkl2", stages=0), "expected stages"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            ops.balance_law(**{**arguments, name: value})


def everything() -> dict[str, Tensor]:
    """Results of methods that use every vector instruction of the kernels."""
    found: dict[str, Tensor] = {}
    for transport, scheme in itertools.product(["linear", "burgers"], SCHEMES):
        method = Method(transport=transport, scheme=scheme, integrator=SCHEMES[scheme])
        for rows, n in ((1, 37), (4, 11)):
            out = ops.balance_law(**problem(method, ("periodic", "value") * 2, rows=rows, n=n))
            found[f"{transport} {scheme} {rows}"] = out.state.sum(2)
            found[f"{transport} {scheme} {rows} flux"] = out.inner_flux
    for average, integrator in itertools.product(AVERAGES[:4], ("euler", "rkl2", "tr_bdf2")):
        method = Method(diffusivity="power", average=average, integrator=integrator)
        if integrator != "tr_bdf2" or average == "integral":
            arguments = problem(method, ("value", "mixed", "flux", "outflow"), n=21)
            arguments["diffusion"][:, 0] += 0.7
            found[f"{average} {integrator}"] = ops.balance_law(**arguments).state.sum(2)
    generator = torch.Generator().manual_seed(3)
    psi = torch.zeros(2, 15, 15, dtype=torch.float64)
    psi[:, 1:-1, 1:-1] = torch.rand((2, 13, 13), generator=generator, dtype=torch.float64) / 50
    one = torch.ones(2, dtype=torch.float64)
    out = ops.cavity(
        14 * psi.diff(dim=2), -14 * psi.diff(dim=1), lid=one, viscosity=0.01 * one, dt=0.003 * one,
        steps=torch.tensor([5, 3]),
    )  # fmt: skip
    return found | {"cavity u": out.u, "cavity v": out.v}


@pytest.mark.parametrize("isa", list(build_info()["isa_available"]))
def test_each_instruction_set_gives_the_same_numbers(isa: str, tmp_path: Path) -> None:
    code = (
        "import sys, torch, test_ops_balance_law as t\n"
        "from physcon_ext import build_info\n"
        "assert build_info()['isa_active'] == sys.argv[1]\n"
        "torch.save(t.everything(), sys.argv[2])\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code, isa, str(tmp_path / "found.pt")],
        env={**os.environ, "PHYSCON_ISA": isa, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    for name, value in everything().items():
        scale = max(1.0, float(value.abs().max()))
        assert float((found[name] - value).abs().max()) <= TOLERANCE * scale, name
