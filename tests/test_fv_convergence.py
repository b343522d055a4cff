# SPDX-License-Identifier: Apache-2.0
"""The solvers converge to the exact cell averages as fast as promised; the artefacts are real."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from bench.convergence import Case, cases, markdown

from physcon_ext import fv, pde
from physcon_ext.boundary import BoundaryConditions, Dirichlet


CASES = {case.name: case for case in cases()}
PROMISED = [name for name, case in CASES.items() if case.least is not None]
ENDS = BoundaryConditions(left=Dirichlet(1.0), right=Dirichlet(0.0))


@functools.cache
def measured(name: str) -> dict[str, Any]:
    return CASES[name].measure()


def order(case: Case, errors: list[float]) -> float:
    return math.log(errors[0] / errors[-1]) / math.log(case.cells[-1] / case.cells[0])


@pytest.mark.parametrize("name", PROMISED)
def test_errors_fall_at_the_promised_order(name: str) -> None:
    case, found = CASES[name], measured(name)
    assert case.least is not None
    assert order(case, found["L1"]) >= case.least
    if case.front is not None:
        assert order(case, found["front"]) >= case.front


@pytest.mark.parametrize("m", ["1", "3", "6"])
def test_the_default_average_of_the_porous_medium_is_the_most_accurate(m: str) -> None:
    errors = {
        average: measured(f"porous medium, m = {m}: {average}")["L1"][-1]
        for average in ("integral", "arithmetic", "modified", "harmonic")
    }
    # For m = 1 the integral and the arithmetic average are the same number.
    assert errors["integral"] <= 1.0001 * min(errors.values())


@pytest.mark.parametrize("u_star", ["0.6", "0.5"])
def test_the_default_average_of_the_stefan_problem_is_the_most_accurate(u_star: str) -> None:
    errors = {
        average: measured(f"Stefan, u* = {u_star}: {average}")["L1"]
        for average in ("shock", "integral", "arithmetic", "harmonic")
    }
    for i in range(3):
        assert errors["shock"][i] == min(e[i] for e in errors.values())
    front = measured(f"Stefan, u* = {u_star}: shock")
    assert all(e <= 0.01 / n for e, n in zip(front["front"], front["cells"], strict=True))


@pytest.mark.parametrize("name", ["porous medium, m = 3: harmonic", "Stefan, u* = 0.6: harmonic"])
def test_the_front_sticks_with_the_harmonic_average(name: str) -> None:
    found = measured(name)
    assert found["L1"][-1] > 0.1 and found["front"][-1] > 0.1


def test_the_arithmetic_average_oscillates_in_time_and_following_the_front_does_not() -> None:
    problem, n = pde.Stefan(u_star=0.6), 100
    # Between two outputs 1e-4 apart nothing in the exact solution falls.
    times = torch.linspace(0.002, 0.05, 481, dtype=torch.float64)
    falls = {}
    for average in ("arithmetic", "shock"):
        found = fv.stefan(
            problem.cell_averages(0.002, problem.edges(n)),
            times=times,
            domain=(0.0, 1.0),
            bc=ENDS,
            u_star=0.6,
            average=average,
        )
        here = found.cells[:, int(0.15 * n)]
        falls[average] = float(-here.diff().clamp(max=0.0).sum())
    assert falls["arithmetic"] > 0.1
    assert falls["shock"] <= 4e-3


@pytest.mark.parametrize("integrator", ["backward_euler", "tr_bdf2", "rkl2"])
def test_long_steps_solve_the_porous_medium_too(integrator: str) -> None:
    problem, n = pde.PorousMedium(m=2.0), 100
    found = fv.porous_medium(
        torch.zeros(n),
        times=[0.0, 0.5],
        domain=(0.0, 1.0),
        bc=BoundaryConditions(left=Dirichlet(lambda t: (2 * t) ** 0.5), right=Dirichlet(0.0)),
        m=2.0,
        integrator=integrator,
    )
    explicit = 0.5 * 4.5 * n**2 / 0.9
    assert int(found.steps.sum()) < 0.2 * explicit
    error = (found.cells[1] - problem.cell_averages(0.5, problem.edges(n))).abs().mean()
    assert float(error) < 1e-3
    assert float(found.balance().max()) <= 1e-13


def test_the_table_lists_every_case() -> None:
    record = measured("heat, Neumann: ssprk2")
    assert "| heat, Neumann | ssprk2 | 16 / 32 / 64 | " in markdown([record])
