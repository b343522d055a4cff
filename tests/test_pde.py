# SPDX-License-Identifier: Apache-2.0
"""Equations with exact solutions: balances, quadrature, the equations themselves, edge cases."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from physcon_ext import pde
from physcon_ext.pde import Problem


EPS = torch.finfo(torch.float64).eps


class Numbers:
    """A stream of random numbers for tests."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.default_rng(seed)

    def uniform(self) -> float:
        return float(self._source.random())

    def normal(self) -> float:
        return float(self._source.standard_normal())


def random_circle(nu: float, mean: float = 0.0, seed: int = 0) -> pde.PeriodicBurgers:
    ranges = pde.PeriodicBurgers.ranges({"nu": nu, "mean": mean})
    return pde.PeriodicBurgers.draw(Numbers(seed), ranges)


# Problem and time; each time is taken together with an earlier one for the fluxes.
CASES: list[tuple[Problem, float]] = [
    (pde.Diffusion(k=1.0), 0.5),
    (pde.Diffusion(k=5.0, phase=0.7), 0.3),
    (pde.PorousMedium(m=1.0), 0.5),
    (pde.PorousMedium(m=3.0), 0.5),
    (pde.PorousMedium(m=6.0), 1.0),
    (pde.Stefan(u_star=0.6), 0.05),
    (pde.Stefan(u_star=0.7, k_max=2.5), 0.1),
    (pde.Advection(a=1.0), 0.1),
    (pde.Advection(a=3.0), 0.4),
    (pde.Burgers(a=1.0), 0.5),
    (pde.Burgers(a=3.0), 0.5),
    (pde.Burgers(a=2.0), 0.5),
    (pde.Burgers(a=2.0), 0.5 - 1e-9),
    (pde.Burgers(a=4.0), 0.9),
    (pde.Stokes(), 1.3),
    (pde.Stokes(amplitude=2.0, omega=4.0, nu=0.001), 2.0),
    (pde.ViscousBurgers(), 0.6),
    (pde.ViscousBurgers(u_left=0.7, u_right=-0.4, nu=0.005), 1.2),
    (pde.ViscousBurgers(u_left=0.5, u_right=-0.5, nu=0.01), 1.0),
    (random_circle(0.1), 1.0),
    (random_circle(0.01, mean=0.4), 0.37),
    (pde.Heat(), 0.5),
    (pde.Heat(amplitude=-2.0, omega=2.3, k=0.1), 0.2),
]
IDS = [f"{problem.title} t={t:g}" for problem, t in CASES]


def f64(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gauss(n: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on intervals, with a new last axis."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(n))
    half = (high - low).unsqueeze(-1) / 2
    return low.unsqueeze(-1) + half * (nodes + 1), weights * half


def kinks(problem: Problem, t: float) -> list[float]:
    """Points where the solution is not smooth."""
    found = []
    if problem.has_front and not isinstance(problem, pde.ViscousBurgers):
        found.append(problem.front(t).item())
    if isinstance(problem, pde.Burgers):
        found += [problem.a * t - 1.0, 0.0]
    low, high = problem.domain
    return sorted({k for k in found if not math.isnan(k) and low < k < high})


def scale(problem: Problem, t: float) -> float:
    """Size of the amounts that enter a balance up to a time."""
    times, edges = f64([0.0, t]), problem.edges(50)
    amount = (edges.diff() * problem.cell_averages(times, edges).abs()).sum(-1).max()
    passed = t * problem.mean_fluxes(times, edges).abs().max()
    return (amount + passed).item()


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
@pytest.mark.parametrize("cells", [7, 200])
def test_cell_averages_add_up_to_the_total(problem: Problem, t: float, cells: int) -> None:
    edges = problem.edges(cells)
    for time in (0.0, 0.6 * t, t):
        total = (edges.diff() * problem.cell_averages(time, edges)).sum()
        assert abs(total - problem.mass(time)).item() <= 1e-14


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_cell_averages_are_integrals_of_the_values(problem: Problem, t: float) -> None:
    generator = torch.Generator().manual_seed(5)
    low, high = problem.domain
    inner = low + (high - low) * torch.rand(40, generator=generator, dtype=torch.float64)
    edges = torch.cat([inner, f64([low, high])]).unique()
    pieces = torch.cat([edges, f64(kinks(problem, t))]).unique()
    # A root at the porous front is not smooth: subdivide towards it.
    if isinstance(problem, pde.PorousMedium):
        front = problem.front(t)
        towards = front * (1 - 0.5 ** torch.arange(1, 50, dtype=torch.float64))
        pieces = torch.cat([pieces, towards]).unique()
    place, weight = gauss(20, pieces[:-1], pieces[1:])
    amounts = (weight * problem.values(t, place)).sum(-1)
    owner = torch.searchsorted(edges, (pieces[:-1] + pieces[1:]) / 2) - 1
    expected = torch.zeros(edges.numel() - 1, dtype=torch.float64).index_add(0, owner, amounts)
    averages = problem.cell_averages(t, edges)
    # The difference of two amounts of order 1 over a cell of width h loses eps / h.
    allowed = 1e-12 + 20 * EPS / edges.diff()
    assert ((averages - expected / edges.diff()).abs() <= allowed).all()


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_every_cell_balances_its_face_fluxes(problem: Problem, t: float) -> None:
    edges = problem.edges(60)
    times = t * f64([0.0, 0.2, 0.5, 0.9, 1.0])
    flux = problem.mean_fluxes(times, edges)
    source = problem.mean_sources(times, edges)
    gained = edges.diff() * problem.cell_averages(times, edges).diff(dim=0)
    dt = times.diff().unsqueeze(-1)
    residual = gained + dt * flux.diff(dim=-1) - dt * edges.diff() * source
    assert residual.abs().max().item() <= 50 * EPS * scale(problem, t)


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_mean_fluxes_are_means_of_the_fluxes(problem: Problem, t: float) -> None:
    times = f64([0.4 * t, t])
    edges = problem.edges(9)
    mean = problem.mean_fluxes(times, edges)[0]
    for face, expected in zip(edges.tolist(), mean.tolist(), strict=True):
        # The front passes a face at a time where the flux is not smooth.
        passing = passing_times(problem, face)
        pieces = f64(sorted({0.4 * t, t, *(s for s in passing if 0.4 * t < s < t)}))
        if isinstance(problem, pde.PorousMedium) and len(pieces) == 3:
            after = pieces[1] + (t - pieces[1]) * 0.5 ** torch.arange(1, 50, dtype=torch.float64)
            pieces = torch.cat([pieces, after]).unique()
        if isinstance(problem, pde.ViscousBurgers):
            pieces = torch.linspace(0.4 * t, t, 65, dtype=torch.float64)
        moment, weight = gauss(30, pieces[:-1], pieces[1:])
        numeric = (weight * problem.flux(moment, face)).sum().item() / (0.6 * t)
        assert expected == pytest.approx(numeric, rel=2e-11, abs=2e-11)


def passing_times(problem: Problem, x: float) -> list[float]:
    """Times at which a kink of the solution passes a point."""
    if isinstance(problem, pde.PorousMedium):
        return [x]
    if isinstance(problem, pde.Stefan):
        return [(x / problem.alpha) ** 2]
    if isinstance(problem, pde.Advection):
        return [(x - 0.5) / problem.a]
    if isinstance(problem, pde.Burgers):
        return [1 / problem.a, (x + 1) / problem.a, (2 * x + 1) / problem.a]
    return []


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_the_equation_holds_where_the_solution_is_smooth(problem: Problem, t: float) -> None:
    low, high = problem.domain
    marks = [low, *kinks(problem, t), high]
    for left, right in zip(marks[:-1], marks[1:], strict=True):
        if right - left < 1e-3:
            continue
        x = left + (right - left) * f64([0.31, 0.62])
        t0 = min(t, problem.last_time * 0.999)
        dt, dx = 1e-4 * t0, 1e-4 * (right - left)
        if isinstance(problem, pde.Burgers) and abs(problem.a * t0 - 1) < 0.01:
            continue  # the ramp is narrower than the difference
        now = t0 - 3 * dt
        rate = central(partial(problem.values, x=x), now, dt)
        slope = central(partial(flux_beside, problem, now, x), 0.0, dx)
        made = 0.0
        if isinstance(problem, pde.Heat):
            made = problem.amplitude * math.pi / 2 * x**2 * math.cos(math.pi * now)
        size = 1 + rate.abs().max().item() + slope.abs().max().item()
        assert (rate + slope - made).abs().max().item() <= 2e-6 * size


def flux_beside(problem: Problem, t: float, x: Tensor, shift: float) -> Tensor:
    return problem.flux(t, x + shift)


def central(function: Callable[[float], Tensor], at: float, step: float) -> Tensor:
    """Derivative by the fourth-order central difference."""
    near = function(at + step) - function(at - step)
    far = function(at + 2 * step) - function(at - 2 * step)
    return (8 * near - far) / (12 * step)


@pytest.mark.parametrize(
    "problem",
    [
        pde.Diffusion(k=2.0, phase=0.4),
        pde.Stokes(nu=0.05),
        pde.ViscousBurgers(nu=0.1),
        random_circle(0.05, mean=-0.3),
        pde.Heat(k=0.05),
    ],
    ids=lambda p: p.title,
)
def test_fluxes_are_those_of_the_equation(problem: Problem) -> None:
    x, t = f64([0.2, 0.55, 0.8]), 0.3
    u, slope = problem.values(t, x), central(lambda s: problem.values(t, x + s), 0.0, 1e-3)
    expected = {
        "diffusion": lambda: -2.0 * slope,
        "stokes": lambda: -0.05 * slope,
        "viscous_burgers": lambda: u**2 / 2 - 0.1 * slope,
        "periodic_burgers": lambda: u**2 / 2 - 0.05 * slope,
        "heat": lambda: -0.05 * slope,
    }[problem.name]()
    torch.testing.assert_close(problem.flux(t, x), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_boundary_conditions_hold(problem: Problem, t: float) -> None:
    bc = problem.boundary
    low, high = problem.domain
    assert bc.edges == ("left", "right")
    if problem.kinds[0] == "periodic":
        ends = problem.values(t, f64([low, high]))
        assert abs(ends[0] - ends[1]).item() <= 1e-13
        assert abs(problem.flux_left(t) - problem.flux_right(t)).item() <= 1e-12
        return
    values = bc.values(t)
    for side, (edge, end) in enumerate((("left", low), ("right", high))):
        if problem.kinds[side] == "outflow":
            assert edge not in values
        elif problem.kinds[side] == "dirichlet":
            assert float(values[edge]) == problem.values(t, end).item()
        else:
            inward = 1 if side == 0 else -1
            near = problem.values(t, end + inward * 1e-4 * torch.arange(5, dtype=torch.float64))
            weights = f64([-25 / 12, 4, -3, 4 / 3, -1 / 4]) / 1e-4
            assert float(values[edge]) == pytest.approx(-(weights @ near).item(), abs=1e-6)


def test_initial_fields_are_those_of_the_problems() -> None:
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    heat, stokes = pde.Heat(omega=2.7), pde.Stokes(nu=0.02)
    torch.testing.assert_close(heat.values(0.0, x), torch.cos(2.7 * math.pi * x))
    k = stokes.decay
    torch.testing.assert_close(stokes.values(0.0, x), 2 * torch.exp(-k * x) * torch.cos(k * x))
    assert torch.equal(pde.Advection(a=3.0).values(0.0, x), (x <= 0.5).double())
    ramp = pde.Burgers(a=2.0)
    torch.testing.assert_close(ramp.values(0.0, -x), 2.0 * x)
    assert torch.equal(ramp.values(0.0, x), torch.zeros_like(x))


def test_series_of_the_heat_equation_meets_the_initial_field() -> None:
    heat = pde.Heat(omega=2.7)
    edges = heat.edges(40)
    start, soon = heat.cell_averages(f64([0.0, 1e-5]), edges)
    assert (start - soon).abs().max().item() < 5e-3  # the end slope jumps at t = 0
    assert (start - soon)[:30].abs().max().item() < 1e-4
    with pytest.raises(ValueError, match=r"Heat: expected t to be 0 or at least 9.6\de-07, got 1e"):
        heat.values(1e-9, 0.5)


@pytest.mark.parametrize(("nu", "mean"), [(0.1, 0.0), (0.01, 0.0), (0.01, 0.5)])
def test_circle_agrees_with_a_pseudo_spectral_solution(nu: float, mean: float) -> None:
    problem = random_circle(nu, mean, seed=3)
    n, t, steps = 256, 0.4, 400
    x = torch.arange(n, dtype=torch.float64) / n
    wave = 2j * math.pi * torch.arange(n // 2 + 1).to(torch.complex128)
    keep = (torch.arange(n // 2 + 1) <= n // 3).to(torch.complex128)
    dt = t / steps
    decay = torch.exp(nu * wave**2 * dt / 2)

    def force(spectrum: Tensor) -> Tensor:
        return -wave / 2 * keep * torch.fft.rfft(torch.fft.irfft(spectrum, n) ** 2)

    # Runge-Kutta of order 4 with an integrating factor for the viscous term.
    v = torch.fft.rfft(problem.values(0.0, x))
    for _ in range(steps):
        a = force(v)
        b = force(decay * (v + dt / 2 * a))
        c = force(decay * v + dt / 2 * b)
        d = force(decay**2 * v + dt * decay * c)
        v = decay**2 * v + dt / 6 * (decay**2 * a + 2 * decay * (b + c) + d)
    difference = torch.fft.irfft(v, n) - problem.values(t, x)
    assert difference.abs().max().item() < 2e-8


def test_circle_gives_the_same_on_a_grid_and_point_by_point() -> None:
    problem, edges = random_circle(0.02, 0.7, seed=1), pde.PeriodicBurgers().edges(32)
    table = problem.values(0.3, edges)
    points = torch.stack([problem.values(0.3, e) for e in edges[:5]])
    assert (table[:5] - points).abs().max().item() < 1e-12
    uneven = problem.values(0.3, edges**2)
    points = torch.stack([problem.values(0.3, e**2) for e in edges])
    assert (uneven - points).abs().max().item() < 1e-12


def test_circle_refuses_what_it_cannot_resolve() -> None:
    problem = random_circle(0.01)
    with pytest.raises(ValueError, match=r"expected t to be 0 or at least 0.000107, got 1e-07"):
        problem.values(1e-7, f64([0.0, 0.5]))
    with pytest.raises(ValueError, match=r"PeriodicBurgers: expected nu to be at least"):
        pde.PeriodicBurgers(nu=1e-6, cosine=(1.0,) * 64)
    with pytest.raises(ValueError, match=r"expected cosine to have 64 entries, got 2"):
        pde.PeriodicBurgers(cosine=(1.0, 2.0))


def test_circle_draws_from_the_gaussian_field() -> None:
    spread = np.array([25 / ((2 * math.pi * k) ** 2 + 25) for k in range(1, 65)])
    drawn = [random_circle(0.1, seed=k) for k in range(150)]
    normal = np.array([[p.cosine, p.sine] for p in drawn]) / spread
    assert abs(normal.mean()) < 5 / math.sqrt(normal.size)
    assert abs(normal.std() - 1) < 5 / math.sqrt(2 * normal.size)


def test_wave_obeys_its_balances_and_equation() -> None:
    wave = pde.Wave(kappa=3.2, c=1.3)
    x, y = wave.edges(9), wave.edges(6)
    times = f64([0.0, 0.1, 0.35, 0.5])
    dt = times.diff()[:, None, None]
    dx, dy = x.diff().unsqueeze(1), y.diff()
    along_x, along_y = wave.mean_fluxes(times, x, y)
    speed = wave.speed_averages(times, x, y)
    residual = dx * dy * speed.diff(dim=0)
    residual = residual + dt * (along_x.diff(dim=1) * dy + along_y.diff(dim=2) * dx)
    assert residual.abs().max().item() < 1e-14
    for flux in (along_x[:, 0], along_x[:, -1], along_y[..., 0], along_y[..., -1]):
        assert torch.equal(flux, torch.zeros_like(flux))
    u = wave.cell_averages(times, x, y)
    assert (u.diff(dim=0) - dt * wave.mean_sources(times, x, y)).abs().max().item() < 1e-15
    assert abs((dx * dy * u).sum(dim=(1, 2))).max().item() < 1e-14
    assert torch.equal(wave.mass(times), torch.zeros_like(times))
    px, wx = gauss(12, x[:-1], x[1:])
    py, wy = gauss(12, y[:-1], y[1:])
    point = wave.values(0.35, px[:, None, :, None], py[None, :, None, :])
    area = torch.einsum("ijab,ia,jb->ij", point, wx, wy)
    assert (area / (dx * dy) - u[2]).abs().max().item() < 1e-13
    # The mean flux is that of the points, averaged over the second interval and the faces.
    pt, wt = gauss(12, times[:-1], times[1:])
    moment = pt[1][:, None, None, None]
    at_x = wave.flux(moment, x[:, None, None], py)[0]
    at_y = wave.flux(moment, px[:, None], y[:, None])[1]
    mean_x = torch.einsum("t,txyb,yb->xy", wt[1], at_x, wy) / (dy * dt[1])
    mean_y = torch.einsum("t,txya,xa->xy", wt[1], at_y, wx) / (dx * dt[1])
    assert (mean_x - along_x[1]).abs().max().item() < 1e-12
    assert (mean_y - along_y[1]).abs().max().item() < 1e-12
    h = 1e-3
    second = [
        (wave.values(*[p + h * (k == j) for k, p in enumerate((0.4, 0.3, 0.2))])
         + wave.values(*[p - h * (k == j) for k, p in enumerate((0.4, 0.3, 0.2))])
         - 2 * wave.values(0.4, 0.3, 0.2)) / h**2
        for j in range(3)
    ]  # fmt: skip
    assert (second[0] - 1.3**2 * (second[1] + second[2])).abs().item() < 1e-3
    rate = central(lambda s: wave.cell_averages(s, x, y), 0.4, 1e-3)
    assert (rate - wave.speed_averages(0.4, x, y)).abs().max().item() < 1e-8


# Trapezoidal total of the point values on 201 nodes minus the exact total, as derived in
# closed form; the cell averages of the same problems miss it by rounding.
FLOOR = [
    (pde.Diffusion(k=1.0), 0.5, 0.0, 1e-15),
    (pde.PorousMedium(m=1.0), 0.5, 0.0, 1e-15),
    (pde.PorousMedium(m=3.0), 0.5, -3.40e-4, 5e-7),
    (pde.PorousMedium(m=6.0), 0.5, -1.03e-3, 5e-6),
    (pde.Stefan(u_star=0.6), 0.05, 1.449e-3, 5e-7),
    (pde.Stefan(u_star=0.5), 0.05, 1.05e-4, 5e-7),
    (pde.Advection(a=1.0), 0.1, 2.5e-3, 1e-15),
    (pde.Advection(a=3.0), 0.1, 2.5e-3, 1e-15),
    (pde.Burgers(a=1.0), 0.5, 0.0, 1e-15),
    (pde.Burgers(a=3.0), 0.5, 1.5e-2, 1e-14),
]


@pytest.mark.parametrize(("problem", "t", "miss", "digits"), FLOOR)
def test_point_values_miss_the_total_that_cell_averages_meet(
    problem: Problem, t: float, miss: float, digits: float
) -> None:
    edges = problem.edges(200)
    total = problem.mass(t)
    trapezoid = torch.trapezoid(problem.values(t, edges), edges)
    assert (trapezoid - total).item() == pytest.approx(miss, abs=digits)
    cells = (edges.diff() * problem.cell_averages(t, edges)).sum()
    assert abs(cells - total).item() <= 1e-14


def test_burgers_is_finite_through_breaking_and_leaving() -> None:
    problem = pde.Burgers(a=4.0)
    edges = problem.edges(37)
    times = f64([0.0, 0.25 - 1e-12, 0.25, 0.25 + 1e-12, 0.5, 0.75, 0.75 + 1e-9, 2.0])
    averages = problem.cell_averages(times, edges)
    assert averages.isfinite().all() and (averages >= 0).all() and (averages <= 4 * (1 + EPS)).all()
    expected = torch.minimum(2.0 * (1 + 4.0 * times), f64([8.0]))
    torch.testing.assert_close(problem.mass(times), expected, rtol=1e-14, atol=0)
    front = problem.front(times)
    assert front[:2].isnan().all() and front[-2:].isnan().all()
    assert front[2:6].tolist() == pytest.approx([0.0, 2e-12, 0.5, 1.0], abs=1e-15)
    assert torch.equal(problem.jump(times).isnan(), front.isnan())
    assert problem.flux_right(f64([0.7, 0.8])).tolist() == [0.0, 8.0]
    assert problem.outflow(0.0, 1.0).item() == pytest.approx(8.0 * 0.25, rel=1e-14)
    assert problem.crossing(0.1, 2.0).item() == pytest.approx(-0.3, rel=1e-14)


def test_advected_step_leaves_the_domain() -> None:
    problem = pde.Advection(a=2.0)
    edges = problem.edges(10)
    assert torch.equal(problem.cell_averages(0.6, edges), torch.ones(10, dtype=torch.float64))
    assert problem.mass(0.6).item() == 1.0
    assert problem.front(f64([0.1, 0.3])).tolist() == pytest.approx([0.7, math.nan], nan_ok=True)
    assert problem.outflow(0.0, 0.6).item() == pytest.approx(0.7)
    assert problem.inflow(0.0, 0.6).item() == pytest.approx(1.2)


@pytest.mark.parametrize("u_star", [1e-6, 0.01, 0.99, 1 - 1e-6])
def test_stefan_with_extreme_thresholds_keeps_its_balances(u_star: float) -> None:
    problem = pde.Stefan(u_star=u_star)
    t = 0.5 * min(problem.last_time, 1.0)
    edges = problem.edges(100)
    times = f64([0.0, 1e-12, 0.3 * t, t])
    averages = problem.cell_averages(times, edges)
    assert averages.isfinite().all() and (averages >= 0).all() and (averages <= 1 + 1e-12).all()
    total = (edges.diff() * averages).sum(-1)
    assert (total - problem.mass(times)).abs().max().item() <= 1e-14
    flux = problem.mean_fluxes(times, edges)
    passed = times.diff() * flux[:, 0]
    torch.testing.assert_close(passed.cumsum(0), problem.mass(times)[1:], rtol=1e-12, atol=1e-15)
    ahead = edges > problem.front(t).item()
    assert torch.equal(flux[:, ahead], torch.zeros_like(flux[:, ahead]))


@pytest.mark.parametrize("kind", pde.EQUATIONS.values(), ids=lambda k: k.name)
def test_draws_stay_in_the_ranges_and_fixed_parameters_leave_the_others(
    kind: type[pde.Equation],
) -> None:
    ranges = kind.ranges()
    for seed in range(5):
        drawn = kind.draw(Numbers(seed))
        for name, (low, high) in ranges.items():
            assert low <= getattr(drawn, name) <= high
        first = next(iter(ranges))
        fixed = kind.draw(Numbers(seed), kind.ranges({first: ranges[first][1]}))
        assert getattr(fixed, first) == ranges[first][1]
        for name in list(ranges)[1:]:
            assert getattr(fixed, name) == getattr(drawn, name)
    assert kind().title and kind.formula and kind.duration > 0
    assert kind().boundary.n_axes == kind.spatial_dims


def test_cavity_states_what_is_known() -> None:
    cavity = pde.Cavity(lid=1.3)
    assert cavity.circulation == -1.3
    assert cavity.boundary.values() == {"left": 0.0, "right": 0.0, "bottom": 0.0, "top": 1.3}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pde.equation("stephan"), r"got 'stephan'; did you mean 'stefan'\?"),
        (lambda: pde.equation("qqq"), r"among diffusion, .*, cavity, .*, got 'qqq'$"),
        (lambda: pde.Stefan.ranges({"ustar": 0.5}), r"'ustar'; did you mean 'u_star'\?"),
        (lambda: pde.Stefan.ranges({"u_star": (0.5, 1.5)}), r"u_star to be in \(0, 1\), got 1.5"),
        (lambda: pde.Advection.ranges({"a": (3.0, 1.0)}), r"range of a to be low:high, got 3:1"),
        (lambda: pde.Advection(a=0.0), r"Advection: expected a to be finite and > 0, got 0.0"),
        (lambda: pde.ViscousBurgers(u_left=0.0), r"u_left to be above u_right = 0.0, got 0.0"),
        (lambda: pde.Wave().values(-1.0, 0.0, 0.0), r"Wave: expected t to be finite and >= 0"),
        (lambda: pde.Wave().edges(0), r"Wave: expected cells to be >= 1, got 0"),
        (
            lambda: pde.Advection().mean_fluxes(f64([0.2, 0.1]), f64([0.0, 1.0])),
            r"expected times to be a strictly increasing vector of at least 2 times",
        ),
        (
            lambda: pde.ViscousBurgers().crossing(0.1, 1.0),
            r"expected level to be in \(0, u\(t, 0\)\]",
        ),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
