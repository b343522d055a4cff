# SPDX-License-Identifier: Apache-2.0
"""The finite-volume solvers conserve, converge, keep their promises and refuse bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from physcon_ext import fv
from physcon_ext.boundary import (
    BoundaryConditions,
    Condition,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
)
from physcon_ext.fv.march import SCHEMES


RING = BoundaryConditions(left=Periodic(), right=Periodic())
WALL = BoundaryConditions(left=Neumann(0.0), right=Neumann(0.0))
STEFAN = BoundaryConditions(left=Dirichlet(1.0), right=Dirichlet(0.0))
# Balance of any number of steps: sums carry their rounding rest, so what remains is the rounding of
# the fluxes between the outputs.
BALANCE = 1e-13


def centres(n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n


def random_cells(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def ends(left: Condition, right: Condition) -> BoundaryConditions:
    return BoundaryConditions(left=left, right=right)


def box(left: Condition, right: Condition, bottom: Condition, top: Condition) -> BoundaryConditions:
    return BoundaryConditions(left=left, right=right, bottom=bottom, top=top)


def check_balance(found: fv.Solution) -> None:
    assert float(found.balance().max()) <= BALANCE
    change = found.total - found.total[..., :1]
    scale = (found.conserved.abs() * found.volume).sum(
        tuple(range(-len(found.faces), 0))
    ).amax() + found.inflow.abs().amax()
    assert float((change - found.inflow - found.supplied).abs().max()) <= BALANCE * float(scale)


# Balance: 1e5 steps of every scheme.

LONG: dict[str, Callable[[], fv.Solution]] = {}


def long(name: str) -> Callable[[Callable[[], fv.Solution]], Callable[[], fv.Solution]]:
    def register(run: Callable[[], fv.Solution]) -> Callable[[], fv.Solution]:
        LONG[name] = run
        return run

    return register


def _register_transport(scheme: str) -> None:
    @long(f"advection {scheme}")
    def _() -> fv.Solution:
        bc = ends(Dirichlet(lambda t: 1 + 0.5 * torch.sin(7 * t)), Outflow())
        u0, times = random_cells(20), [0.0, 1.0, 10.0, 100.0]
        return fv.advection(
            u0, times=times, domain=(0.0, 1.0), bc=bc, speed=1.0, scheme=scheme, dt=1e-3
        )

    @long(f"burgers {scheme}")
    def _() -> fv.Solution:
        bc = ends(Dirichlet(1.2), Dirichlet(-0.9))
        u0, times = random_cells(20) - 0.5, [0.0, 1.0, 10.0, 100.0]
        return fv.burgers(
            u0, times=times, domain=(0.0, 1.0), bc=bc, viscosity=0.02, scheme=scheme, dt=1e-3
        )


for _scheme in SCHEMES:
    _register_transport(_scheme)


def _register_diffusion(integrator: str) -> None:
    @long(f"diffusion {integrator}")
    def _() -> fv.Solution:
        bc = ends(Dirichlet(lambda t: torch.sin(t)), Robin(1.0, 0.5, lambda t: torch.cos(3 * t)))
        source = [(lambda t: torch.sin(2 * t), random_cells(16, seed=3)), (0.3, centres(16))]
        return fv.diffusion(
            random_cells(16),
            times=[0.0, 1.0, 40.0],
            domain=(0.0, 1.0),
            bc=bc,
            k=1.0,
            source=source,
            integrator=integrator,
            dt=4e-4,
        )


for _integrator in ("euler", "ssprk2", "ssprk3", "rkl2", "backward_euler", "tr_bdf2"):
    _register_diffusion(_integrator)


def _register_average(average: str) -> None:
    @long(f"porous medium {average}")
    def _() -> fv.Solution:
        bc = ends(Dirichlet(lambda t: (3 * t) ** (1 / 3)), Neumann(0.0))
        u0, times = torch.zeros(20), [0.0, 0.1, 1.0, 2.0]
        return fv.porous_medium(
            u0, times=times, domain=(0.0, 1.0), bc=bc, m=3.0, average=average, dt=2e-5
        )

    @long(f"stefan {average}")
    def _() -> fv.Solution:
        return fv.stefan(
            torch.cat([torch.tensor([0.9, 0.7]), torch.zeros(18)]),
            times=[0.0, 0.01, 0.1, 0.5],
            domain=(0.0, 1.0),
            bc=STEFAN,
            u_star=0.6,
            average=average,
            dt=5e-6,
        )


for _average in ("integral", "arithmetic", "harmonic", "modified"):
    _register_average(_average)


@long("stefan shock")
def _() -> fv.Solution:
    return fv.stefan(
        torch.zeros(20),
        times=[0.0, 0.01, 0.1, 0.5],
        domain=(0.0, 1.0),
        bc=STEFAN,
        u_star=0.6,
        dt=5e-6,
    )


@long("wave")
def _() -> fv.Solution:
    return fv.wave(random_cells(20), times=[0.0, 1.0, 1000.0], domain=(0.0, 1.0), bc=WALL, dt=1e-2)


@pytest.mark.parametrize("name", LONG)
def test_the_balance_holds_over_a_hundred_thousand_steps(name: str) -> None:
    found = LONG[name]()
    assert int(found.steps.sum()) >= 99_000
    check_balance(found)
    # Something has happened.
    assert float((found.conserved[-1] - found.conserved[0]).abs().max()) > 1e-3


BOXES = {
    "periodic": box(Periodic(), Periodic(), Periodic(), Periodic()),
    "mixed": box(
        Dirichlet(lambda t: 0.5 + 0.3 * torch.sin(t)), Neumann(0.2), Robin(1.0, 1.0, 0.4), Outflow()
    ),
    "flux": box(fv.Flux(0.1), Outflow(), fv.Flux(0.0), Dirichlet(random_cells(8, seed=4))),
}


@pytest.mark.parametrize("edges", BOXES)
def test_the_balance_holds_in_two_dimensions(edges: str) -> None:
    u0, bc = random_cells(3, 8, 6), BOXES[edges]
    common: dict[str, Any] = dict(times=[0.0, 0.1, 0.3], domain=((0.0, 1.0), (-1.0, 0.5)), bc=bc)
    runs = [
        fv.diffusion(u0, k=torch.tensor([0.1, 0.2, 0.0]), source=[(0.5, u0[1])], **common),
        fv.diffusion(u0, k=0.1, integrator="rkl2", **common),
        fv.porous_medium(u0, m=torch.tensor([1.0, 2.5, 4.0]), **common),
        fv.stefan(u0, u_star=0.5, **common),
        fv.wave(u0, **common),
    ]
    for scheme in SCHEMES:
        runs.append(fv.burgers(u0 - 0.4, viscosity=0.01, scheme=scheme, **common))
    if edges != "mixed":
        runs.append(fv.burgers(u0 - 0.4, **common))
        runs.append(fv.advection(u0, speed=(1.0, -0.7), **common))
    for found in runs:
        check_balance(found)
        assert found.flux[0].shape == (3, 2, 9, 6)
        assert found.flux[1].shape == (3, 2, 8, 7)
        assert found.boundary_flux["top"].shape == (3, 2, 8)
        assert found.traces["left"].shape == (3, 3, 6)
    if edges == "flux":
        assert float((runs[0].boundary_flux["left"] + 0.1).abs().max()) <= 1e-15


# What the same data must give.


def test_a_sample_is_the_same_in_any_batch() -> None:
    u0 = random_cells(5, 40)
    m = torch.tensor([1.0, 1.5, 2.0, 3.0, 6.0])
    bc = ends(Dirichlet(lambda t: 0.5 + t), Neumann(0.0))
    common: dict[str, Any] = dict(times=[0.0, 0.02, 0.05], domain=(0.0, 1.0), bc=bc)
    whole = fv.porous_medium(u0, m=m, **common)
    for b in range(5):
        one = fv.porous_medium(u0[b], m=float(m[b]), **common)
        assert torch.equal(one.cells, whole.cells[b])
        assert torch.equal(one.flux[0], whole.flux[0][b])
        assert torch.equal(one.steps, whole.steps[b])
    assert len(set(whole.steps[:, 0].tolist())) > 1  # each takes its own steps
    reshaped = fv.porous_medium(u0[:4].reshape(2, 2, 40), m=m[:4].reshape(2, 2), **common)
    assert torch.equal(reshaped.cells.reshape(4, 3, 40), whole.cells[:4])


def test_parameters_per_sample_enter_functions_of_time() -> None:
    rate = torch.tensor([0.5, 1.0, 2.0])
    bc = ends(Dirichlet(lambda t: rate[:, None] * t), Outflow())
    found = fv.advection(
        torch.zeros(3, 10), times=[0.0, 2.0, 4.0], domain=(0.0, 1.0), bc=bc, speed=1.0
    )
    assert torch.allclose(found.values["left"], rate[:, None] * found.times)
    # Long after the start the domain is filled with what entered: u = rate (t - x).
    exact = rate[:, None] * (4.0 - centres(10))
    assert float((found.cells[:, 2] - exact).abs().max()) < 0.02 * float(exact.max())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mirrored_data_give_mirrored_solutions(scheme: str) -> None:
    u0 = random_cells(24)
    common: dict[str, Any] = dict(times=[0.0, 0.2], domain=(0.0, 1.0), scheme=scheme)
    forth = fv.advection(u0, bc=ends(Dirichlet(0.3), Outflow()), speed=1.0, **common)
    back = fv.advection(u0.flip(0), bc=ends(Outflow(), Dirichlet(0.3)), speed=-1.0, **common)
    assert torch.equal(back.cells.flip(-1), forth.cells)
    assert torch.equal(back.flux[0].flip(-1), -forth.flux[0])
    # Burgers is odd: u(-x) -> -u.
    forth = fv.burgers(u0 - 0.4, bc=ends(Dirichlet(0.9), Outflow()), **common)
    back = fv.burgers(-(u0.flip(0) - 0.4), bc=ends(Outflow(), Dirichlet(-0.9)), **common)
    assert torch.equal(-back.cells.flip(-1), forth.cells)


def test_axes_of_a_square_are_alike() -> None:
    u0 = random_cells(9, 12)
    bc = box(Dirichlet(0.2), Outflow(), Neumann(0.1), Robin(1.0, 0.2, 0.3))
    turned = box(Neumann(0.1), Robin(1.0, 0.2, 0.3), Dirichlet(0.2), Outflow())
    one = fv.burgers(u0, times=[0.0, 0.1], domain=((0.0, 1.0), (0.0, 2.0)), bc=bc, viscosity=0.05)
    other = fv.burgers(
        u0.mT, times=[0.0, 0.1], domain=((0.0, 2.0), (0.0, 1.0)), bc=turned, viscosity=0.05
    )
    assert float((other.cells.mT - one.cells).abs().max()) <= 1e-14
    assert float((other.flux[0].mT - one.flux[1]).abs().max()) <= 1e-14


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_plane_problem_in_two_dimensions_is_the_one_in_one_dimension(scheme: str) -> None:
    u0 = random_cells(16) - 0.3
    line = fv.burgers(u0, times=[0.0, 0.1], domain=(0.0, 1.0), bc=RING, scheme=scheme, dt=2e-3)
    plane = fv.burgers(
        u0[:, None].expand(16, 5),
        times=[0.0, 0.1],
        domain=((0.0, 1.0), (0.0, 1.0)),
        bc=box(Periodic(), Periodic(), Periodic(), Periodic()),
        scheme=scheme,
        dt=2e-3,
    )
    assert float((plane.cells - line.cells[..., None]).abs().max()) <= 1e-14


# Promises.


def total_variation(cells: Tensor) -> Tensor:
    return (cells - cells.roll(1, -1)).abs().sum(-1)


@pytest.mark.parametrize("scheme", ["godunov", "minmod", "van_leer", "mc"])
@pytest.mark.parametrize("equation", ["advection", "burgers"])
def test_total_variation_falls_and_extrema_do_not_grow(scheme: str, equation: str) -> None:
    u0 = torch.cat([random_cells(20, 40, seed=1), (random_cells(20, 40, seed=2) > 0.5).double()])
    times = torch.linspace(0, 0.5, 26)
    common: dict[str, Any] = dict(times=times, domain=(0.0, 1.0), bc=RING, scheme=scheme)
    if equation == "advection":
        found = fv.advection(u0, speed=torch.linspace(-2, 2, 40), **common)
    else:
        found = fv.burgers(u0 - 0.5, **common)
    cells = found.cells
    assert float(total_variation(cells).diff(dim=-1).max()) <= 1e-13
    assert float((cells.amax(-1).diff(dim=-1)).max()) <= 1e-15
    assert float((cells.amin(-1).diff(dim=-1)).min()) >= -1e-15


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("integrator", ["euler", "ssprk2", "ssprk3"])
def test_diffusive_schemes_keep_the_maximum_principle(dims: int, integrator: str) -> None:
    shape = (30, 12) if dims == 1 else (30, 12, 9)
    u0 = (random_cells(*shape) > 0.6).double() * random_cells(*shape, seed=1)
    domain: Any = (0.0, 1.0) if dims == 1 else ((0.0, 1.0), (0.0, 1.0))
    bc = ends(Dirichlet(1.0), Dirichlet(0.0))
    if dims == 2:
        bc = box(Dirichlet(1.0), Dirichlet(0.0), Neumann(0.0), Dirichlet(0.5))
    common: dict[str, Any] = dict(
        times=torch.linspace(0, 0.05, 11), domain=domain, bc=bc, integrator=integrator, cfl=1.0
    )
    runs = [
        fv.diffusion(u0, k=1.0, **common),
        fv.porous_medium(u0, m=torch.linspace(1, 6, 30), **common),
        fv.stefan(u0, u_star=0.4, average="integral", **common),
    ]
    for found in runs:
        assert float(found.cells.min()) >= 0.0
        assert float(found.cells.max()) <= 1.0 + 1e-15


def test_following_the_front_keeps_cells_between_nothing_and_the_given_value() -> None:
    u_star = torch.linspace(0.1, 0.95, 12)
    found = fv.stefan(
        torch.zeros(12, 50),
        times=torch.linspace(0, 0.05, 21),
        domain=(0.0, 1.0),
        bc=STEFAN,
        u_star=u_star,
    )
    assert float(found.cells.min()) >= 0.0
    assert float(found.cells.max()) <= 1.0
    assert found.front is not None
    assert bool((found.front.diff(dim=-1) > 0).all())
    assert bool((found.cells.diff(dim=-1) <= 1e-15).all())  # falls away from the source


def test_implicit_steps_far_beyond_the_explicit_limit_stay_bounded() -> None:
    u0 = (random_cells(4, 30) > 0.5).double()
    for cfl in (5.0, 500.0):
        found = fv.diffusion(
            u0,
            times=[0.0, 0.1, 1.0],
            domain=(0.0, 1.0),
            bc=STEFAN,
            integrator="backward_euler",
            cfl=cfl,
        )
        assert float(found.cells.min()) >= 0.0 and float(found.cells.max()) <= 1.0
        # The steady state is the line from 1 to 0.
        assert float((found.cells[:, 2] - (1 - centres(30))).abs().max()) < 1e-3
        check_balance(found)


def test_steady_states_are_exact_where_the_scheme_is() -> None:
    # Linear profiles between walls with given values or slopes are steady in exact arithmetic.
    x = centres(12)
    for bc in (
        ends(Dirichlet(1.0), Dirichlet(3.0)),
        ends(Neumann(-2.0), Dirichlet(3.0)),
        ends(Neumann(2.0, direction="x"), Robin(2.0, 1.0, 8.0)),
        ends(fv.Flux(-2.0), Neumann(2.0)),
    ):
        for integrator in ("euler", "rkl2", "tr_bdf2"):
            found = fv.diffusion(
                1 + 2 * x, times=[0.0, 1.0], domain=(0.0, 1.0), bc=bc, integrator=integrator
            )
            assert float((found.cells[1] - found.cells[0]).abs().max()) <= 1e-12
            assert float((found.flux[0] + 2.0).abs().max()) <= 1e-11
    assert found.traces["right"].shape == (2,)


def test_traces_and_values_of_all_kinds_of_edges() -> None:
    x = centres(16)
    for bc, left, right in [
        (ends(Neumann(-2.0), Robin(1.0, 1.0, 5.0)), 1.0, 3.0),
        (ends(Dirichlet(1.0), Neumann(2.0)), 1.0, 3.0),
    ]:
        found = fv.diffusion(1 + 2 * x, times=[0.0, 0.1], domain=(0.0, 1.0), bc=bc)
        assert float((found.traces["left"] - left).abs().max()) <= 1e-12
        assert float((found.traces["right"] - right).abs().max()) <= 1e-12
    # A value at an edge that the flow leaves is not what is there.
    found = fv.advection(
        torch.full((8,), 2.0),
        times=[0.0, 0.1],
        domain=(0.0, 1.0),
        speed=1.0,
        bc=ends(Dirichlet(2.0), Dirichlet(7.0)),
    )
    assert found.traces["right"].tolist() == [2.0, 2.0]
    assert found.values["right"].tolist() == [7.0, 7.0]


def test_a_given_flux_makes_the_total_exact() -> None:
    found = fv.porous_medium(
        torch.zeros(40),
        times=[0.0, 0.1, 0.5],
        domain=(0.0, 1.0),
        m=2.0,
        bc=ends(fv.Flux(lambda t: 2 * t), Outflow()),
    )
    # Forward Euler integrates 2 t by the left rectangle: t^2 - t dt, dt = interval / steps.
    dt = found.times.diff() / found.steps
    exact = 0.0
    for i in range(2):
        a, b = float(found.times[i]), float(found.times[i + 1])
        exact += b * b - a * a - (b - a) * float(dt[i])
        assert float(found.total[i + 1]) == pytest.approx(exact, rel=1e-12)


# Bad input.

X = torch.zeros(10)
SPACE: dict[str, Any] = dict(u0=X, times=[0.0, 1.0], domain=(0.0, 1.0))
GOOD: dict[Callable[..., fv.Solution], dict[str, Any]] = {
    fv.advection: dict(**SPACE, bc=RING, speed=1.0),
    fv.diffusion: dict(**SPACE, bc=WALL),
    fv.porous_medium: dict(**SPACE, bc=WALL, m=2.0),
    fv.stefan: dict(**SPACE, bc=WALL, u_star=0.5),
    fv.wave: dict(**SPACE, bc=WALL),
}
UNSTABLE = r"expected dt <= 0.1, the stability limit of weno5 with ssprk3 on this grid, got 0.2"
BAD: list[tuple[Callable[..., fv.Solution], dict[str, Any], str]] = [
    (
        fv.advection,
        dict(scheme="weno"),
        r"scheme to be one of .*, got 'weno'; did you mean 'weno5'",
    ),
    (fv.advection, dict(scheme="vanleer"), "did you mean 'van_leer'"),
    (fv.advection, dict(scheme=3), "expected scheme to be one of"),
    (fv.advection, dict(cfl=1.3), "expected cfl <= 1, the stability limit of weno5 with ssprk3"),
    (fv.advection, dict(dt=0.2), UNSTABLE),
    (fv.advection, dict(dt=0.01, cfl=0.5), "expected dt or cfl, got both"),
    (fv.advection, dict(dt=-1.0), "expected dt to be finite and > 0, got -1.0"),
    (fv.advection, dict(integrator="euler"), "one of ssprk3 for scheme weno5, which is unstable"),
    (fv.advection, dict(speed=(1.0, 2.0)), "expected speed to be a number on a domain of 1"),
    (fv.advection, dict(speed=torch.ones(3)), r"broadcast to the batch \(\), got shape \(3,\)"),
    (fv.advection, dict(speed=math.nan), "expected speed to be finite, got nan"),
    (fv.advection, dict(u0=X + math.nan), "fv.advection: expected u0 to be finite, got nan at ind"),
    (fv.advection, dict(u0=X[:3]), "at least 4 cells along each axis"),
    (fv.advection, dict(u0=X.clone().requires_grad_()), "expected u0 without gradient"),
    (fv.advection, dict(times=[0.0]), "expected times to be a vector of at least 2 times"),
    (fv.advection, dict(times=[0.0, 1.0, 1.0]), "strictly increasing, got 1.0 before 1.0"),
    (fv.advection, dict(domain=(1.0, 0.0)), "expected domain to be"),
    (fv.advection, dict(bc=ends(Outflow(), None)), "a condition at edge 'right', got none"),
    (fv.advection, dict(bc=ends(Dirichlet(), Outflow())), "expected a value for edge 'left'"),
    (fv.advection, dict(bc=WALL), "a condition on the slope, which transport cannot obey"),
    (fv.advection, dict(bc=box(*[Periodic()] * 4)), "left, right only, got one at 'bottom'"),
    (fv.advection, dict(bc=ends(Dirichlet(torch.ones(3)), Outflow())), "value of edge 'left' to b"),
    (fv.advection, dict(bc=ends(Dirichlet(math.sin), Outflow())), "torch.sin, not math.sin"),
    (fv.advection, dict(bc=ends(Dirichlet(lambda t: t / 0), Outflow())), "finite values at edge"),
    (fv.diffusion, dict(k=-1.0), "expected k to be >= 0, got -1.0"),
    (fv.diffusion, dict(integrator="rk2"), "did you mean '(ssprk2|rkl2)'"),
    (fv.diffusion, dict(integrator="rkl2", stages=4), "expected stages to be an odd number"),
    (fv.diffusion, dict(dt=0.1), "expected dt <= 0.005, the stability limit of ssprk2"),
    (fv.diffusion, dict(source=[(1.0, torch.ones(3))]), "shape of a source term to broadcast"),
    (fv.diffusion, dict(source=[(1.0, X)] * 9), "expected at most 8 source terms, got 9"),
    (fv.diffusion, dict(bc=ends(Robin(1.0, -0.05, 0.0), Outflow())), "Robin at edge 'left' with a"),
    (fv.porous_medium, dict(m=0.5), "expected m to be >= 1, got 0.5"),
    (fv.porous_medium, dict(u0=X - 1), "expected u0 to be >= 0, got -1.0"),
    (fv.porous_medium, dict(average="harmonc"), "did you mean 'harmonic'"),
    (fv.porous_medium, dict(average="harmonic", integrator="tr_bdf2"), "average='integral' with"),
    (fv.stefan, dict(u_star=0.0), "expected u_star to be > 0, got 0.0"),
    (fv.stefan, dict(u0=X + 0.1), "expected u0 to be >= u_star up to one front and 0 behind it"),
    (fv.stefan, dict(integrator="ssprk2"), "'integral' takes all"),
    (fv.wave, dict(v0=X[:5]), "expected u0 and v0 to have the same shape"),
    (fv.wave, dict(dt=0.2), "stability limit of verlet"),
]


@pytest.mark.parametrize(("solver", "change", "message"), BAD, ids=[b[2][:40] for b in BAD])
def test_bad_values_are_named(
    solver: Callable[..., fv.Solution], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        solver(**{**GOOD[solver], **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(u0=[0.0] * 8), "expected u0 to be a torch.Tensor, got list"),
        (dict(u0=X.long()), "expected u0 to be a real floating tensor, got torch.int64"),
        (dict(bc="periodic"), "expected bc to be BoundaryConditions, got str"),
    ],
)
def test_bad_types_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fv.advection(**{**GOOD[fv.advection], **change})


def test_a_solution_that_grows_beyond_bounds_is_refused() -> None:
    source = [(1e200, torch.ones(10))]
    with pytest.raises((RuntimeError, ValueError), match=r"fv.burgers: expected a"):
        fv.burgers(X, times=[0.0, 1.0], domain=(0.0, 1.0), bc=RING, source=source, scheme="godunov")
