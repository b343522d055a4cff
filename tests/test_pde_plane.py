# SPDX-License-Identifier: Apache-2.0
"""Problems on a rectangle: cell averages, fluxes and totals against independent integrals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from physcon_ext import pde
from physcon_ext.boundary import Dirichlet
from physcon_ext.pde import PlaneProblem


PROBLEMS: list[PlaneProblem] = [
    pde.PlaneDiffusion(k=1.3),
    pde.PlaneAdvection(a=0.5, b=0.31),
    pde.PlaneAdvection(a=0.9, b=1.7),  # leaves the domain
    pde.PlaneBurgers(mean=-0.2, jump=1.7),
    pde.PlaneBurgers(mean=0.4, jump=0.5),
    pde.PorousDrop(m=1.0, volume=0.2),
    pde.PorousDrop(m=2.3),
    pde.PorousDrop(m=6.0, volume=0.5, radius=0.6),
]
ids = [problem.title for problem in PROBLEMS]


def grid(problem: PlaneProblem) -> tuple[Tensor, Tensor]:
    """Cells of different widths."""
    (left, right), (low, high) = problem.domain
    x = left + (right - left) * torch.linspace(0, 1, 24, dtype=torch.float64) ** 1.2
    y = low + (high - low) * torch.linspace(0, 1, 18, dtype=torch.float64)
    x[-1], y[-1] = right, high
    return x, y


def times(problem: PlaneProblem, count: int = 6) -> Tensor:
    return torch.linspace(0, problem.duration, count, dtype=torch.float64)


@pytest.mark.parametrize("problem", PROBLEMS, ids=ids)
def test_cells_add_up_to_the_total_and_balance_their_fluxes(problem: PlaneProblem) -> None:
    (x, y), t = grid(problem), times(problem)
    volume, dt = x.diff()[:, None] * y.diff(), t.diff()[:, None, None]
    averages = problem.cell_averages(t, x, y)
    along_x, along_y = problem.mean_fluxes(t, x, y)
    size = float((averages.abs() * volume).sum((1, 2)).max())
    total = (averages * volume).sum((1, 2))
    assert float((total - problem.mass(t)).abs().max()) <= 1e-14 * max(1.0, size)
    passed = along_x.diff(dim=1) * y.diff() + along_y.diff(dim=2) * x.diff()[:, None]
    residual = averages.diff(dim=0) * volume + dt * passed
    # Averages and fluxes of the sawtooth come from different formulas, of O(1) each.
    assert float(residual.abs().max()) <= 4e-15 * max(1.0, size)


def over_cells(f: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, points: int) -> Tensor:
    """Averages over cells by the midpoint rule."""
    share = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    fine = [(e[:-1, None] + e.diff()[:, None] * share).reshape(-1) for e in (x, y)]
    values = f(fine[0][:, None], fine[1])
    return values.reshape(x.numel() - 1, points, y.numel() - 1, points).mean((1, 3))


@pytest.mark.parametrize("problem", PROBLEMS, ids=ids)
def test_averages_come_near_those_of_many_points(problem: PlaneProblem) -> None:
    x, y = grid(problem)
    jump = {"advection_2d": 1.0, "burgers_2d": 1.7, "porous_medium_2d": 0.3}.get(problem.name, 0.0)
    for t in times(problem, 3).tolist():
        found = problem.cell_averages(t, x, y)
        many = over_cells(lambda a, b, t=t: problem.values(t, a, b), x, y, 60)
        assert float((found - many).abs().max()) <= jump * 2 / 60 + 1e-4


@pytest.mark.parametrize("m", [1.0, 2.0, 4.0])
def test_cells_of_the_drop_equal_iterated_integrals(m: float) -> None:
    # Along x between the places where the front enters and leaves the cell, and along y up to the
    # front; both with nodes that crowd where the integrand has a root (1/m and 1/m + 1/2).
    problem = pde.PorousDrop(m=m, volume=0.3)
    radius = float(problem.front_radius(0.3))
    node, weight = np.polynomial.legendre.leggauss(60)
    s, w = (node + 1) / 2, weight / 2
    # Powers 6 at both ends: s^6 (...) has a vanishing slope at 0 and 1.
    warp = s**6 * (462 - 1980 * s + 3465 * s**2 - 3080 * s**3 + 1386 * s**4 - 252 * s**5)
    slope = 2772 * s**5 * (1 - s) ** 5

    def cell(a: float, b: float, c: float, d: float) -> float:
        cuts = [a, b, radius]
        cuts += [math.sqrt(radius**2 - e**2) for e in (c, d) if abs(e) < radius]
        cuts = sorted({p for p in cuts if a <= p <= min(b, radius)})
        total = 0.0
        for low, high in zip(cuts[:-1], cuts[1:], strict=True):
            for x, wx in zip(low + (high - low) * warp, (high - low) * w * slope, strict=True):
                reach = math.sqrt(max(radius**2 - x**2, 0.0))
                top = min(d, reach)
                if top > c:
                    y = torch.from_numpy(c + (top - c) * warp)
                    values = problem.values(0.3, float(x), y).numpy()
                    total += wx * float((values * w * slope).sum()) * (top - c)
        return total / ((b - a) * (d - c))

    lines = torch.tensor([0.0, 0.1, 0.3, 0.37, 0.5, 0.8], dtype=torch.float64)
    found = problem.cell_averages(0.3, lines, lines)
    for i in range(5):
        for j in range(5):
            a, b, c, d = (float(lines[k]) for k in (i, i + 1, j, j + 1))
            assert float(found[i, j]) == pytest.approx(cell(a, b, c, d), abs=2e-12), (i, j)


def test_cells_of_the_sawtooth_equal_sums_over_its_pieces() -> None:
    # Along xi = x + y the weight of a cell is a trapezoid; with v linear between breaks, two nodes
    # of Gauss are exact for the product.
    problem = pde.PlaneBurgers(mean=0.3, jump=1.4)
    x, y = grid(problem)
    node = 1 / math.sqrt(3)
    for t in (0.0, 0.17, 0.8):
        found = problem.cell_averages(t, x, y)
        for i in range(0, 23, 2):
            for j in range(0, 17, 3):
                a, b, c, d = float(x[i]), float(x[i + 1]), float(y[j]), float(y[j + 1])
                shocks = [2 * 0.3 * t + k for k in range(-2, 4)]
                corners = (a + c, a + d, b + c, b + d)
                breaks = sorted(p for p in (*corners, *shocks) if a + c <= p <= b + d)
                total = 0.0
                for low, high in zip(breaks[:-1], breaks[1:], strict=True):
                    for sign in (-node, node):
                        xi = (low + high) / 2 + sign * (high - low) / 2
                        width = max(0.0, min(b, xi - c) - max(a, xi - d))
                        phase = xi - 0.6 * t
                        v = 0.3 + 1.4 / (1 + 2.8 * t) * (phase - math.floor(phase) - 0.5)
                        total += (high - low) / 2 * width * v
                assert float(found[i, j]) == pytest.approx(
                    total / ((b - a) * (d - c)), abs=1e-13
                ), (t, i, j)


@pytest.mark.parametrize("problem", PROBLEMS, ids=ids)
def test_mean_fluxes_are_means_of_the_fluxes(problem: PlaneProblem) -> None:
    (x, y), t = grid(problem), times(problem, 4)
    along = problem.mean_fluxes(t, x, y)
    moments = float(t[1]) + float(t[1]) * (torch.arange(1500, dtype=torch.float64) + 0.5) / 1500
    share = (torch.arange(40, dtype=torch.float64) + 0.5) / 40
    size = max(float(f.abs().max()) for f in along)
    for axis, (own, other) in enumerate(((x, y), (y, x))):
        fine = (other[:-1, None] + other.diff()[:, None] * share).reshape(-1)
        for place in (0, 6, 11):
            places = (own[place], fine) if axis == 0 else (fine, own[place])
            flux = problem.flux(moments[:, None], *places)[axis]
            mean = flux.mean(0).reshape(-1, 40).mean(1)
            found = along[axis].select(axis + 1, place)[1]
            assert float((mean - found).abs().max()) <= 2e-3 * max(size, 1e-3)


@pytest.mark.parametrize("problem", PROBLEMS, ids=ids)
def test_the_equation_holds_and_fluxes_are_its_own(problem: PlaneProblem) -> None:
    t, h = 0.21, 1e-4
    (left, right), (low, high) = problem.domain
    place = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = left + (right - left) * (0.1 + 0.8 * place[:, 0])
    y = low + (high - low) * (0.1 + 0.8 * place[:, 1])

    def u(dt: float = 0.0, dx: float = 0.0, dy: float = 0.0) -> Tensor:
        return problem.values(t + dt, x + dx, y + dy)

    def flux(axis: int, dx: float = 0.0, dy: float = 0.0) -> Tensor:
        return problem.flux(t, x + dx, y + dy)[axis]

    slopes = [(u(dx=h) - u(dx=-h)) / (2 * h), (u(dy=h) - u(dy=-h)) / (2 * h)]
    residual = (u(h) - u(-h)) / (2 * h) + (flux(0, h) - flux(0, -h)) / (2 * h)
    residual = residual + (flux(1, dy=h) - flux(1, dy=-h)) / (2 * h)
    # Jumps and fronts are left out: there some difference is large.
    smooth = (slopes[0].abs() < 20) & (slopes[1].abs() < 20)
    if isinstance(problem, pde.PorousDrop):
        smooth &= (x**2 + y**2).sqrt() < 0.9 * float(problem.front_radius(t))
    assert int(smooth.sum()) >= 5
    assert float(residual[smooth].abs().max()) < 1e-5
    values = u()
    for axis in (0, 1):
        expected = _flux_by_hand(problem, axis, values, slopes[axis])
        assert float((flux(axis) - expected)[smooth].abs().max()) < 1e-5


def _flux_by_hand(problem: pde.Equation, axis: int, u: Tensor, slope: Tensor) -> Tensor:
    if isinstance(problem, pde.PlaneDiffusion):
        return -1.3 * slope
    if isinstance(problem, pde.PlaneAdvection):
        return (problem.a, problem.b)[axis] * u
    if isinstance(problem, pde.PlaneBurgers):
        return u**2 / 2
    assert isinstance(problem, pde.PorousDrop)
    return -(u**problem.m) * slope


def test_the_drop_keeps_its_mass_until_it_meets_an_edge() -> None:
    drop = pde.PorousDrop(m=1.0, volume=0.3, radius=0.3)
    assert float(drop.front_radius(drop.last_time)) == pytest.approx(1.0, abs=1e-14)
    x, y = drop.edges(30)
    wet = drop.cell_averages(drop.last_time, x, y)
    assert float(wet.min()) >= 0.0 and float(wet[0, 0]) == 0.0
    with pytest.raises(ValueError, match=r"expected t to be in \[0, 0\.6"):
        drop.mass(1.0)
    # A thin cell keeps its digits: the average over it is the value in it.
    thin = torch.tensor([0.1, 0.1 + 1e-7], dtype=torch.float64)
    middle = float(thin.mean())
    average = float(drop.cell_averages(0.1, thin, thin))
    assert average == pytest.approx(float(drop.values(0.1, middle, middle)), rel=1e-8)


def test_boundary_conditions_are_those_of_the_solutions() -> None:
    torus = pde.PlaneBurgers().boundary
    assert torus.is_periodic(0) and torus.is_periodic(1)
    drop = pde.PorousDrop()
    assert all(isinstance(drop.boundary[edge], Dirichlet) for edge in drop.boundary.edges)
    for edge in (-1.0, 1.0):
        assert float(drop.values(0.5, edge, torch.linspace(-1, 1, 9)).abs().max()) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.values(0.1, 2.0, 0.5), r"PlaneBurgers: expected x to be in \[0, 1\]"),
        (lambda p: p.values(-0.1, 0.5, 0.5), r"expected t to be in \[0, inf\], got -0.1"),
        (lambda p: p.edges(0), "expected cells to be >= 1, got 0"),
        (
            lambda p: p.cell_averages(0.1, torch.tensor([0.0, 0.5, 0.4]), p.edges(4)[1]),
            "expected x_edges to be a strictly increasing vector",
        ),
        (
            lambda p: p.mean_fluxes(torch.tensor([0.2, 0.1]), *p.edges(4)),
            "expected times to be a strictly increasing vector",
        ),
        (lambda p: pde.PlaneBurgers(jump=0.0), "expected jump to be finite and > 0, got 0.0"),
    ],
)
def test_bad_input_is_named(call: Callable[[PlaneProblem], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pde.PlaneBurgers())
