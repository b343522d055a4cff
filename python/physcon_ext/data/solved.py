# SPDX-License-Identifier: Apache-2.0
"""Columns of one sample from the finite-volume solvers: to compare, or where nothing is exact."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from physcon_ext import fv, pde
from physcon_ext.boundary.conditions import Dirichlet, Neumann, Periodic
from physcon_ext.data.records import (
    AXES,
    EDGES,
    Attributes,
    Column,
    Grid,
    conserved_columns,
    parameter_columns,
)


CHOICES = ("scheme", "average", "integrator", "cfl")
"""What may be chosen about a solver, where it has it."""


def solved_record(
    equation: pde.Equation, grid: Grid, choices: Mapping[str, Any]
) -> tuple[list[Column], dict[str, Any]]:
    """Columns of one sample from a solver, started from the exact cell averages.

    Args:
        equation: The sample's equation.
        grid: Where and when.
        choices: By name of ``CHOICES``, what to take instead of the defaults of the solver.

    Returns:
        The columns, always in the same order for the same equation, and the settings used.

    Raises:
        ValueError: If the solver refuses the grid or a choice.
    """
    solver = _solver(equation)
    known = inspect.signature(solver).parameters
    for name in choices:
        if name not in known:
            has = ", ".join(choice for choice in CHOICES if choice in known)
            raise ValueError(
                f"generate: expected choices among {has} for the solver of {equation.name}, got "
                f"{name!r}"
            )
    if isinstance(equation, pde.Cavity):
        cells = grid.faces[0].numel() - 1
        flow = fv.cavity(
            cells, times=grid.times, reynolds=equation.reynolds, lid=equation.lid, **choices
        )
        text = "mean pressure over each interval, of mean 0 in space"
        columns = [
            *_cavity_columns(equation, grid, flow),
            Column("/solver/pressure", flow.pressure, text),
            _step_column(flow.steps),
        ]
        return columns, dict(flow.settings)
    solution = _solve(solver, equation, grid, choices)
    columns = [*_solution_columns(equation, grid, solution), _step_column(solution.steps)]
    return columns, dict(solution.settings)


def _step_column(steps: Tensor) -> Column:
    return Column("/solver/steps", steps, "time steps taken in each interval", full=True)


def _solution_columns(equation: pde.Equation, grid: Grid, solution: fv.Solution) -> list[Column]:
    # The balance is that of the first field of the equation, or of the wave's rate of change.
    name = "u" if solution.velocity is None else "v"
    kept: Attributes = {"kind": "cell_average", "location": "cells", "conserved": True}
    loose: Attributes = {**kept, "conserved": name == "u"}
    columns = [Column("/fields/u", solution.cells, "cell averages", attributes=loose)]
    if solution.velocity is not None:
        text = "cell averages of the rate of change"
        columns.append(Column("/fields/v", solution.velocity, text, attributes=kept))
    columns += parameter_columns(equation)
    for axis, flux in zip(AXES, solution.flux, strict=False):
        text = f"mean flux along {axis} over each interval"
        columns.append(Column(f"/fluxes/{name}/{axis}", flux, text))
    if solution.source is not None:
        text = "mean source over each interval"
        columns.append(Column(f"/sources/{name}", solution.source, text))
    columns += _edge_columns(equation, solution)
    start = solution.total[..., 0]
    columns += conserved_columns(name, solution.total, solution.inflow, solution.supplied, start)
    if isinstance(equation, pde.Problem) and equation.has_front:
        followed = solution.front
        front = equation.front(grid.times) if followed is None else followed
        text = "exact position, NaN: none" if followed is None else "position in the scheme"
        columns.append(Column(f"/shocks/{name}/position", front.unsqueeze(-1), text))
        if followed is not None:
            exact = equation.front(grid.times).unsqueeze(-1)
            columns.append(Column(f"/shocks/{name}/exact", exact, "exact position, NaN: none"))
        columns += [
            Column(
                f"/shocks/{name}/strength",
                equation.jump(grid.times).unsqueeze(-1),
                "exact fall across it, NaN: none",
            ),
        ]
    return columns


_SOLVERS: dict[type[pde.Equation], Callable[..., Any]] = {
    pde.Diffusion: fv.diffusion,
    pde.Stokes: fv.diffusion,
    pde.Heat: fv.diffusion,
    pde.PorousMedium: fv.porous_medium,
    pde.Stefan: fv.stefan,
    pde.Advection: fv.advection,
    pde.Burgers: fv.burgers,
    pde.ViscousBurgers: fv.burgers,
    pde.PeriodicBurgers: fv.burgers,
    pde.Wave: fv.wave,
    pde.Cavity: fv.cavity,
    pde.PlaneDiffusion: fv.diffusion,
    pde.PorousDrop: fv.porous_medium,
    pde.PlaneAdvection: fv.advection,
    pde.PlaneBurgers: fv.burgers,
}


def _solver(equation: pde.Equation) -> Callable[..., Any]:
    if type(equation) not in _SOLVERS:
        raise ValueError(f"generate: expected a solver for {equation.name}, which has none")
    return _SOLVERS[type(equation)]


def _solve(
    solver: Callable[..., Any], equation: pde.Equation, grid: Grid, choices: Mapping[str, Any]
) -> fv.Solution:
    given: dict[str, Any] = {"times": grid.times, "bc": equation.boundary, **choices}
    if isinstance(equation, pde.Wave):
        x, y = grid.faces
        start = [f(grid.times[0], x, y) for f in (equation.cell_averages, equation.speed_averages)]
        given |= {"domain": ((0.0, 1.0), (0.0, 1.0)), "c": equation.c}
    elif isinstance(equation, pde.PlaneProblem):
        start = [equation.cell_averages(grid.times[0], *grid.faces)]
        given |= {"domain": equation.domain, **_constants(equation, grid)}
    else:
        assert isinstance(equation, pde.Problem)  # the other keys of _SOLVERS but the cavity
        start = [equation.cell_averages(grid.times[0], grid.faces[0])]
        given |= {"domain": equation.domain, **_constants(equation, grid)}
    solution: fv.Solution = solver(*start, **given)
    return solution


def _constants(equation: pde.Equation, grid: Grid) -> dict[str, Any]:
    """Arguments of the solver that the parameters of the equation determine."""
    if isinstance(equation, (pde.Diffusion, pde.PlaneDiffusion)):
        return {"k": equation.k}
    if isinstance(equation, pde.Stokes):
        return {"k": equation.nu}
    if isinstance(equation, pde.Heat):
        faces, amplitude = grid.faces[0], equation.amplitude
        shape = (faces**3).diff() / (3 * faces.diff())  # cell averages of x^2

        def strength(t: Tensor) -> Tensor:
            return amplitude * math.pi / 2 * torch.cos(math.pi * t)

        return {"k": equation.k, "source": [(strength, shape)]}
    if isinstance(equation, (pde.PorousMedium, pde.PorousDrop)):
        return {"m": equation.m}
    if isinstance(equation, pde.Stefan):
        return {"u_star": equation.u_star, "k_max": equation.k_max}
    if isinstance(equation, pde.Advection):
        return {"speed": equation.a}
    if isinstance(equation, pde.PlaneAdvection):
        return {"speed": (equation.a, equation.b)}
    if isinstance(equation, (pde.ViscousBurgers, pde.PeriodicBurgers)):
        return {"viscosity": equation.nu}
    return {}


def _edge_columns(equation: pde.Equation, solution: fv.Solution) -> list[Column]:
    columns = []
    for edge, short in zip(equation.boundary.edges, EDGES, strict=False):
        condition = equation.boundary[edge]
        kind: Attributes = {"kind": condition.word.lower() if condition else ""}
        path, outward = f"/boundary/u/{short}", solution.boundary_flux[edge]
        text = "mean outward flux over the interval that ends at each time; at the first, begins"
        columns += [
            Column(f"{path}/trace", solution.traces[edge], "value on the edge", attributes=kind),
            Column(f"{path}/flux", torch.cat([outward[:1], outward]), text, attributes=kind),
        ]
        if isinstance(condition, (Dirichlet, Neumann)):
            values = solution.values[edge].expand_as(solution.traces[edge])
            columns.append(Column(f"{path}/value", values, "prescribed", attributes=kind))
        elif isinstance(condition, Periodic) and short.endswith("hi"):
            # One point has one value; the solver may extrapolate it from either side.
            columns[-2] = Column(
                f"{path}/trace", columns[-4].values, "value on the edge", attributes=kind
            )
    return columns


def _cavity_columns(cavity: pde.Cavity, grid: Grid, flow: fv.CavityFlow) -> list[Column]:
    cells = grid.faces[0].numel() - 1
    average: Attributes = {"kind": "cell_average", "location": "cells", "conserved": False}
    columns = [
        Column("/vectors/velocity", flow.velocity, "cell averages", attributes=average),
        Column(
            "/fields/vorticity",
            flow.vorticity,
            "averages over the cells around the vertices, walls included",
            attributes={"kind": "cell_average", "location": "vertices", "conserved": True},
        ),
    ]
    for name, values, axis in (("u", flow.u, "x"), ("v", flow.v, "y")):
        across: Attributes = {"kind": "point", "location": f"{axis}_faces", "conserved": False}
        text = f"velocity along {axis} through the faces across {axis}"
        columns.append(Column(f"/fields/{name}", values, text, attributes=across))
    for name, own, fluxes in (("u", "x", flow.u_flux), ("v", "y", flow.v_flux)):
        for axis, flux in zip(AXES, fluxes, strict=False):
            # The momentum lives on the faces across its own axis: its fluxes on what lies between.
            place: Attributes = {"location": "cells" if axis == own else "vertices"}
            text = f"mean flux of momentum {name} along {axis}, stress and pressure included"
            columns.append(Column(f"/fluxes/{name}/{axis}", flux, text, attributes=place))
    columns += parameter_columns(cavity)
    held: Attributes = {"kind": "dirichlet"}
    for edge, short in zip(cavity.boundary.edges, EDGES, strict=False):
        speed = torch.full((grid.times.numel(), cells), float(cavity.boundary.values()[edge]))
        for part, text in (("value", "prescribed"), ("trace", "on the wall")):
            name = f"/boundary/u/{short}/{part}"
            columns.append(Column(name, speed, f"speed along x, {text}", attributes=held))
    total = (flow.vorticity * flow.dual_volume).sum(dim=(-2, -1))
    nothing = torch.zeros_like(total)
    circulation = torch.tensor(cavity.circulation, dtype=torch.float64)
    return columns + conserved_columns("vorticity", total, nothing, nothing, circulation)
