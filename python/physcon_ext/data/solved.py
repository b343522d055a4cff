# SPDX-License-Identifier: Apache-2.0
"""Columns of one sample from the finite-volume solvers: to compare, or where nothing is exact."""

from __future__ import annotations

import math

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


def solved_record(equation: pde.Equation, grid: Grid) -> list[Column]:
    """Columns of one sample from a solver, started from the exact cell averages.

    Args:
        equation: The sample's equation.
        grid: Where and when.

    Returns:
        The columns, always in the same order for the same equation.

    Raises:
        ValueError: If the solver refuses the grid.
    """
    if isinstance(equation, pde.Cavity):
        return _cavity_record(equation, grid)
    solution = _solve(equation, grid)
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
        columns += [
            Column(f"/shocks/{name}/position", front.unsqueeze(-1), text),
            Column(
                f"/shocks/{name}/strength",
                equation.jump(grid.times).unsqueeze(-1),
                "exact fall across it, NaN: none",
            ),
        ]
    return columns


def _solve(equation: pde.Equation, grid: Grid) -> fv.Solution:
    times, bc = grid.times, equation.boundary
    if isinstance(equation, pde.Wave):
        x, y = grid.faces
        u0, v0 = (f(times[0], x, y) for f in (equation.cell_averages, equation.speed_averages))
        square = ((0.0, 1.0), (0.0, 1.0))
        return fv.wave(u0, v0, times=times, domain=square, bc=bc, c=equation.c)
    if not isinstance(equation, pde.Problem):
        raise ValueError(f"generate: expected a solver for {equation.name}, which has none")
    u0, domain = equation.cell_averages(times[0], grid.faces[0]), equation.domain
    if isinstance(equation, (pde.Diffusion, pde.Stokes)):
        k = equation.k if isinstance(equation, pde.Diffusion) else equation.nu
        return fv.diffusion(u0, times=times, domain=domain, bc=bc, k=k)
    if isinstance(equation, pde.Heat):
        faces, amplitude = grid.faces[0], equation.amplitude
        shape = (faces**3).diff() / (3 * faces.diff())  # cell averages of x^2

        def strength(t: Tensor) -> Tensor:
            return amplitude * math.pi / 2 * torch.cos(math.pi * t)

        source = [(strength, shape)]
        return fv.diffusion(u0, times=times, domain=domain, bc=bc, k=equation.k, source=source)
    if isinstance(equation, pde.PorousMedium):
        return fv.porous_medium(u0, times=times, domain=domain, bc=bc, m=equation.m)
    if isinstance(equation, pde.Stefan):
        jump, fast = equation.u_star, equation.k_max
        return fv.stefan(u0, times=times, domain=domain, bc=bc, u_star=jump, k_max=fast)
    if isinstance(equation, pde.Advection):
        return fv.advection(u0, times=times, domain=domain, bc=bc, speed=equation.a)
    nu = 0.0 if isinstance(equation, pde.Burgers) else getattr(equation, "nu", 0.0)
    return fv.burgers(u0, times=times, domain=domain, bc=bc, viscosity=nu)


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


def _cavity_record(cavity: pde.Cavity, grid: Grid) -> list[Column]:
    cells = grid.faces[0].numel() - 1
    flow = fv.cavity(cells, times=grid.times, reynolds=cavity.reynolds, lid=cavity.lid)
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
