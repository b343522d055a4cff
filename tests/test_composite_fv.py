# SPDX-License-Identifier: Apache-2.0
"""The composites of the finite-volume ops, which serve CUDA tensors, beside the CPU kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from physcon_ext import ops
from physcon_ext.ops import EdgeTable, Method
from test_composite import Redirect
from test_fv_cavity import random_flow
from test_ops_balance_law import problem


# Both sides add the same terms in another order; powers and Newton's method lose a few digits more.
LIMIT = 1e-12

METHODS = [
    *(
        (Method(transport=t, scheme=s, integrator=i), ("value", "outflow", "flux", "value"), rows)
        for t, s, i, rows in [
            ("linear", "godunov", "euler", 1),
            ("burgers", "minmod", "ssprk2", 5),
            ("linear", "van_leer", "ssprk3", 4),
            ("burgers", "mc", "ssprk2", 1),
            ("burgers", "weno5", "ssprk3", 5),
            ("linear", "weno5", "ssprk3", 1),
        ]
    ),
    *(
        (Method(diffusivity=d, average=a, integrator="ssprk2"), ("value", "mixed") * 2, rows)
        for d, a, rows in [
            ("constant", "integral", 1),
            ("power", "harmonic", 4),
            ("power", "modified", 1),
            ("threshold", "arithmetic", 5),
        ]
    ),
    (Method(diffusivity="constant", integrator="rkl2", stages=5), ("periodic",) * 4, 4),
    (Method(diffusivity="constant", integrator="verlet"), ("value", "mixed") * 2, 4),
    (
        Method(transport="burgers", scheme="weno5", diffusivity="constant", integrator="ssprk3"),
        ("mixed", "outflow", "periodic", "periodic"),
        4,
    ),
    *(
        (Method(diffusivity=d, integrator=i), (*ends, "outflow", "outflow"), 1)
        for d, i, ends in [
            ("constant", "backward_euler", ("periodic", "periodic")),
            ("power", "backward_euler", ("value", "mixed")),
            ("power", "tr_bdf2", ("flux", "outflow")),
            ("constant", "tr_bdf2", ("value", "mixed")),
            ("power", "tr_bdf2", ("periodic", "periodic")),
        ]
    ),
    (Method(diffusivity="threshold", average="shock"), ("value", "value") * 2, 1),
]


def compare(mode: Redirect, factor: float) -> None:
    ((_, composite, kernel),) = mode.seen
    for i, (a, b) in enumerate(zip(composite, kernel, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype and a.is_contiguous(), i
        if i == 0 and a.ndim == 5:  # which digits are high and which are rests may differ
            a, b = a.sum(2), b.sum(2)
        if a.numel():
            assert float((a - b).abs().max()) <= factor * LIMIT * max(1.0, float(b.abs().max())), i


@pytest.mark.parametrize(("method", "kinds", "rows"), METHODS)
def test_steps_equal_those_of_the_cpu(method: Method, kinds: tuple[str, ...], rows: int) -> None:
    implicit = method.integrator in ("backward_euler", "tr_bdf2")
    sources = 0 if method.average == "shock" else 2
    arguments: dict[str, Any] = problem(method, kinds, rows=rows, n=13, sources=sources)
    if implicit:
        arguments["amplitudes"] *= 0.1
    if method.average == "shock":  # a front comes from an edge above its threshold
        arguments["edges"][0] = EdgeTable("value", torch.ones(3, 1, 1, 1, dtype=torch.float64))
    with Redirect() as mode:
        ops.balance_law(**arguments)
    compare(mode, 10 if implicit else 1)


def test_the_balance_holds_like_that_of_the_kernels() -> None:
    """Two thousand steps: plain sums lose digits that compensated ones keep."""
    method = Method(transport="linear", scheme="van_leer", integrator="euler")
    arguments = problem(method, ("value", "outflow") * 2, n=9)
    count = 2000
    constant = [
        type(e)(e.kind, None if e.values is None else e.values[:, :1, :1], e.a, e.b)
        for e in arguments["edges"]
    ]
    arguments |= dict(edges=constant, steps=torch.full((3,), count), dt=arguments["dt"] / 100)
    with Redirect():
        out = ops.balance_law(**arguments)
    change = -out.inner_flux.diff(dim=-1) / arguments["spacing"][0]
    new, old = out.state.sum(2)[:, 0], arguments["state"].sum(2)[:, 0]
    eps = torch.finfo(torch.float64).eps
    assert float((new - old - change).abs().max()) <= 10 * eps * float(change.abs().max() + 1)


def test_a_broken_item_is_alone() -> None:
    arguments = problem(
        Method(diffusivity="power", integrator="backward_euler"),
        ("value", "mixed", "outflow", "outflow"),
        n=9,
    )
    with Redirect():
        good = ops.balance_law(**arguments).state
        arguments["state"][1, 0, 0, 0, 4] = torch.nan
        found = ops.balance_law(**arguments).state
    assert torch.equal(found[[0, 2]], good[[0, 2]])


def test_the_cavity_equals_that_of_the_cpu() -> None:
    with Redirect() as mode:
        ops.cavity(**random_flow(3, 12))
    ((_, composite, kernel),) = mode.seen
    for i, (a, b) in enumerate(zip(composite, kernel, strict=True)):
        assert a.shape == b.shape and a.is_contiguous()
        if i == 2:  # the pressure is known up to a constant
            a, b = (p - p.mean((1, 2), keepdim=True) for p in (a, b))
        assert float((a - b).abs().max()) <= LIMIT * max(1.0, float(b.abs().max())), i
    u, v = composite[:2]
    assert float((u.diff(dim=1) + v.diff(dim=2)).abs().max()) <= 1e-14
