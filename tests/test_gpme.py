# SPDX-License-Identifier: Apache-2.0
"""Exact solutions against published constants, mpmath quadrature, and the balance law itself."""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor

from physcon_ext.pde import Diffusion, PorousMedium, Problem, Stefan


STEFAN_TABLE = [  # u*, z1, alpha, c1, front at 0.05, total at 0.05, front at 0.1
    (0.50, 0.620062633314, 1.240125266627, 0.807155166909, 0.277300, 0.2036559, 0.3922),
    (0.55, 0.572148238740, 1.144296477480, 0.773773864137, 0.255872, 0.1952334, 0.3619),
    (0.60, 0.525669799640, 1.051339599279, 0.736965673918, 0.235087, 0.1859462, 0.3325),
    (0.70, 0.434355446678, 0.868710893355, 0.650810073266, 0.194250, 0.1642080, 0.2747),
]

CASES: list[tuple[Problem, float]] = [
    (Diffusion(k=1.0), 0.5),
    (Diffusion(k=5.0, phase=0.7), 0.3),
    (PorousMedium(m=1.0), 0.5),
    (PorousMedium(m=1.5), 0.333),
    (PorousMedium(m=3.0), 0.5),
    (PorousMedium(m=6.0), 1.0),
    (PorousMedium(m=0.5), 0.7),
    (Stefan(u_star=0.5), 0.05),
    (Stefan(u_star=0.6), 0.05),
    (Stefan(u_star=0.7, k_max=2.5), 0.1),
    (Stefan(u_star=0.6), 1e-5),
]
IDS = [f"{problem.title} t={t:g}" for problem, t in CASES]


def f64(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def front_or_end(problem: Problem, t: float) -> float:
    return problem.domain[1] if isinstance(problem, Diffusion) else problem.front(t).item()


def mp_solution(problem: Problem, t: float) -> Callable[[mpmath.mpf], mpmath.mpf]:
    """The solution behind the front in extended precision, written independently."""
    if isinstance(problem, Diffusion):
        return lambda x: mpmath.exp(-problem.k * t) * mpmath.sin(x + problem.phase)
    if isinstance(problem, PorousMedium):
        m = mpmath.mpf(problem.m)
        return lambda x: max(m * (mpmath.mpf(t) - x), mpmath.mpf(0)) ** (1 / m)
    assert isinstance(problem, Stefan)
    u_star = mpmath.mpf(problem.u_star)
    z1 = mpmath.findroot(
        lambda z: (
            u_star * mpmath.erf(z) * z * mpmath.exp(z * z) - (1 - u_star) / mpmath.sqrt(mpmath.pi)
        ),
        0.5,
    )
    c1 = (1 - u_star) / mpmath.erf(z1)
    return lambda x: 1 - c1 * mpmath.erf(x / (2 * mpmath.sqrt(mpmath.mpf(problem.k_max) * t)))


@pytest.mark.parametrize("row", STEFAN_TABLE, ids=[f"u*={row[0]}" for row in STEFAN_TABLE])
def test_stefan_constants_match_the_table_to_twelve_digits(row: tuple[float, ...]) -> None:
    u_star, z1, alpha, c1, front, total, later = row
    problem = Stefan(u_star=u_star)
    assert problem.z1 == pytest.approx(z1, abs=6e-13)
    assert problem.alpha == pytest.approx(alpha, abs=6e-13)
    assert problem.c1 == pytest.approx(c1, abs=6e-13)
    assert problem.front(0.05).item() == pytest.approx(front, abs=5.1e-7)
    assert problem.mass(0.05).item() == pytest.approx(total, abs=5.1e-8)
    assert problem.front(0.1).item() == pytest.approx(later, abs=5.1e-5)


@pytest.mark.parametrize("u_star", [1e-12, 1e-3, 0.3, 0.6, 0.999, 1 - 1e-12])
def test_stefan_root_solves_its_equation_for_any_threshold(u_star: float) -> None:
    with mpmath.workdps(60):
        z = mpmath.mpf(Stefan(u_star=u_star).z1)
        left = mpmath.mpf(u_star) * mpmath.erf(z) * z * mpmath.exp(z * z)
        right = (1 - mpmath.mpf(u_star)) / mpmath.sqrt(mpmath.pi)
        sensitivity = 2 + 2 * z * z  # d log(left) / d log(z) is at most this
        assert abs(left / right - 1) < 8 * sensitivity * mpmath.mpf(2) ** -52


@pytest.mark.parametrize("k_max", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("u_star", [0.5, 0.6, 0.7])
def test_stefan_front_obeys_rankine_hugoniot(u_star: float, k_max: float) -> None:
    problem = Stefan(u_star=u_star, k_max=k_max)
    t = 0.04
    front = problem.front(t).item()
    scale = 2 * math.sqrt(k_max * t)
    slope = -problem.c1 * 2 / math.sqrt(math.pi) * math.exp(-((front / scale) ** 2)) / scale
    speed = problem.alpha / (2 * math.sqrt(t))
    assert u_star * speed == pytest.approx(-k_max * slope, rel=2e-15)
    behind, ahead = problem.values(t, f64([front * (1 - 1e-15), front * (1 + 1e-12)]))
    assert behind.item() == pytest.approx(u_star, rel=1e-12)
    assert ahead.item() == 0.0


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
@pytest.mark.parametrize("cells", [7, 200])
def test_cell_averages_add_up_to_the_total(problem: Problem, t: float, cells: int) -> None:
    edges = problem.edges(cells)
    total = (edges.diff() * problem.cell_averages(t, edges)).sum()
    assert abs(total - problem.mass(t)).item() <= 1e-14


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_cell_averages_match_adaptive_quadrature(problem: Problem, t: float) -> None:
    generator = torch.Generator().manual_seed(3)
    left, right = problem.domain
    inner = torch.rand(24, generator=generator, dtype=torch.float64) * (right - left) + left
    front = front_or_end(problem, t)
    around = f64([front - 0.004, front + 0.001]).clamp(left, right)
    edges = torch.cat([inner, around, f64([left, right])]).unique()
    exact = mp_solution(problem, t)
    averages = problem.cell_averages(t, edges)
    assert averages.shape == (edges.numel() - 1,)
    with mpmath.workdps(30):
        for a, b, average in zip(
            edges[:-1].tolist(), edges[1:].tolist(), averages.tolist(), strict=True
        ):
            stop = min(b, front)
            area = mpmath.quad(exact, [a, (a + stop) / 2, stop]) if stop > a else mpmath.mpf(0)
            assert abs(average - area / (mpmath.mpf(b) - a)) <= 1e-12


def test_narrow_cells_at_the_porous_front_lose_no_digits() -> None:
    problem, t = PorousMedium(m=3.0), 0.5
    edges = f64([0.3, 0.3 + 1e-9])
    middle = problem.values(t, edges.mean())
    assert problem.cell_averages(t, edges).item() == pytest.approx(middle.item(), rel=1e-13)


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_point_values_match_the_independent_formula(problem: Problem, t: float) -> None:
    left, right = problem.domain
    exact = mp_solution(problem, t)
    front = front_or_end(problem, t)
    for x in torch.linspace(left, right, 23, dtype=torch.float64).tolist():
        expected = float(exact(mpmath.mpf(x))) if x <= front else 0.0
        assert problem.values(t, x).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(("problem", "t"), CASES, ids=IDS)
def test_total_is_the_initial_total_plus_the_net_inflow(problem: Problem, t: float) -> None:
    # t = s^2 removes the integrable singularity of the Stefan flux at t = 0.
    s, weight = _gauss(60, 0.0, math.sqrt(t))
    net = (problem.flux_left(s**2) - problem.flux_right(s**2)) * 2 * s
    start = problem.mass(0.0)
    assert (start + (weight * net).sum()).item() == pytest.approx(problem.mass(t).item(), abs=1e-6)
    if not isinstance(problem, Diffusion):
        assert (start + problem.inflow(0.0, t)).item() == pytest.approx(
            problem.mass(t).item(), rel=1e-15
        )


def test_inflow_is_the_integral_of_the_left_flux() -> None:
    for problem, t in CASES:
        s, weight = _gauss(60, 0.4 * t, t)
        numeric = (weight * problem.flux_left(s)).sum().item()
        assert problem.inflow(0.4 * t, t).item() == pytest.approx(numeric, rel=1e-12)


def test_equations_hold_away_from_the_front() -> None:
    # u_t = K(u)_xx with K = int k du, by central differences.
    def residual(
        problem: Problem, potential: Callable[[Tensor], Tensor], t: float, x: float
    ) -> float:
        dt, dx = 1e-5, 1e-4
        rate = (problem.values(t + dt, x) - problem.values(t - dt, x)) / (2 * dt)
        u = problem.values(t, f64([x - dx, x, x + dx]))
        k = potential(u)
        return abs(rate - (k[0] - 2 * k[1] + k[2]) / dx**2).item()

    assert residual(Diffusion(k=2.0, phase=0.3), lambda u: 2.0 * u, 0.4, 1.1) < 1e-6
    assert residual(PorousMedium(m=3.0), lambda u: u**4 / 4, 0.5, 0.2) < 1e-5
    assert residual(Stefan(u_star=0.6, k_max=1.5), lambda u: 1.5 * u, 0.05, 0.1) < 1e-5


def test_time_zero_is_finite() -> None:
    edges = f64([0.0, 0.25, 1.0])
    for problem in (Stefan(u_star=0.6), PorousMedium(m=3.0)):
        assert torch.equal(problem.cell_averages(0.0, edges), torch.zeros(2).double())
        assert problem.mass(0.0).item() == 0.0
        assert problem.front(0.0).item() == 0.0
        assert torch.equal(problem.values(0.0, edges)[1:], torch.zeros(2).double())
    assert Stefan(u_star=0.6).values(0.0, 0.0).item() == 1.0
    assert PorousMedium(m=3.0).values(0.0, 0.0).item() == 0.0
    assert Stefan(u_star=0.6).flux_left(0.0).item() == math.inf


def test_the_left_value_is_taken_on_the_front() -> None:
    problem = Stefan(u_star=0.6)
    assert problem.values(0.05, problem.front(0.05)).item() == pytest.approx(0.6, rel=1e-12)


def test_front_may_stand_on_a_face_or_outside_the_cells() -> None:
    problem, t = Stefan(u_star=0.6), 0.05
    front = problem.front(t).item()
    on_face = problem.cell_averages(t, f64([0.0, front, 1.0]))
    assert on_face[0].item() * front == pytest.approx(problem.mass(t).item(), abs=1e-15)
    assert on_face[1].item() == 0.0
    assert problem.cell_averages(t, f64([0.5, 0.7])).item() == 0.0


@pytest.mark.parametrize("level", [0.1, 0.6, 0.8])
def test_crossing_inverts_the_profile(level: float) -> None:
    for problem, t in ((PorousMedium(m=3.0), 0.5), (Stefan(u_star=0.6), 0.05)):
        x = problem.crossing(t, level).item()
        just_left, just_right = problem.values(t, f64([x - 1e-9, x + 1e-9])).tolist()
        assert just_right <= level <= just_left


def test_times_broadcast_and_half_precision_input_gives_float64() -> None:
    times = torch.tensor([[0.01, 0.02], [0.03, 0.05]])
    problem = Stefan(u_star=0.6)
    averages = problem.cell_averages(times, problem.edges(8))
    assert averages.shape == (2, 2, 8)
    assert averages.dtype == torch.float64
    assert torch.equal(averages[1, 1], problem.cell_averages(times[1, 1], problem.edges(8)))
    assert problem.values(times.unsqueeze(-1), torch.linspace(0, 1, 5)).shape == (2, 2, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Stefan(u_star=1.0), r"Stefan: expected u_star to be in \(0, 1\), got 1.0"),
        (lambda: Stefan(k_max=-1.0), r"Stefan: expected k_max to be finite and > 0, got -1.0"),
        (lambda: Stefan(u_star=math.nan), r"expected u_star to be in \(0, 1\), got nan"),
        (lambda: PorousMedium(m=0.0), r"PorousMedium: expected m to be finite and > 0, got 0.0"),
        (lambda: Diffusion(k=math.inf), r"Diffusion: expected k to be finite and > 0, got inf"),
        (lambda: Diffusion(phase=math.nan), r"Diffusion: expected phase to be finite, got nan"),
        (lambda: Stefan().mass(-0.1), r"Stefan: expected t to be in \[0, 0.90472\d*\], got -0.1"),
        (lambda: Stefan().front(1.0), r"expected t to be in \[0, 0.90472\d*\], got 1.0"),
        (lambda: PorousMedium().values(1.5, 0.0), r"expected t to be in \[0, 1\], got 1.5"),
        (lambda: PorousMedium().values(0.5, 1.5), r"expected x to be in \[0, 1\], got 1.5"),
        (lambda: PorousMedium().values(math.nan, 0.5), r"expected t to be in \[0, 1\], got nan"),
        (lambda: Diffusion().front(0.5), r"Diffusion: the solution is smooth and has no front"),
        (
            lambda: Stefan().crossing(0.05, 1.5),
            r"expected level to be in \(0, u\(t, 0\)\], got 1.5",
        ),
        (lambda: Stefan().edges(0), r"expected cells to be >= 1, got 0"),
        (
            lambda: Stefan().cell_averages(0.05, torch.tensor([0.0, 0.5, 0.5, 1.0])),
            r"expected edges to be strictly increasing, got 0.5 before 0.5 at index 1",
        ),
        (
            lambda: Stefan().cell_averages(0.05, torch.tensor([0.0])),
            r"expected edges to be a vector of at least 2 faces, got shape \(1,\)",
        ),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def _gauss(n: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [low, high]."""
    k = torch.arange(1, n, dtype=torch.float64)
    beta = k / torch.sqrt(4 * k**2 - 1)
    nodes, vectors = torch.linalg.eigh(torch.diag(beta, 1) + torch.diag(beta, -1))
    return low + (high - low) * (nodes + 1) / 2, vectors[0] ** 2 * (high - low)
