# SPDX-License-Identifier: Apache-2.0
"""What a file holds about one sample: columns computed from exact solutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from physcon_ext.pde import Equation, PlaneProblem, Problem, Wave


AXES = ("x", "y", "z")
EDGES = ("x_lo", "x_hi", "y_lo", "y_hi", "z_lo", "z_hi")

Attributes: TypeAlias = "Mapping[str, str | bool]"


@dataclass(frozen=True)
class Column:
    """One dataset: all of it for the grid, or the part of one sample.

    Attributes:
        path: Path in the file.
        values: The numbers.
        description: What they are.
        unit: Unit; ``"1"`` for a pure number.
        attributes: Further attributes of the dataset.
        full: Store in float64 even if the file holds float32 fields.
    """

    path: str
    values: Tensor
    description: str
    unit: str = "1"
    attributes: Attributes = field(default_factory=dict)
    full: bool = False


@dataclass(frozen=True)
class Grid:
    """Faces and output times that all samples of a file share.

    Attributes:
        faces: Faces along each axis, ``(n + 1,)``, float64.
        periodic: Whether each axis is periodic.
        times: Output times, ``(k,)``, float64.
    """

    faces: tuple[Tensor, ...]
    periodic: tuple[bool, ...]
    times: Tensor

    @property
    def volume(self) -> Tensor:
        """Cell volumes, the products of the widths, shape ``(nx[, ny[, nz]])``."""
        return _product([faces.diff() for faces in self.faces])

    @property
    def vertex_volume(self) -> Tensor:
        """Volumes of the cells around the vertices, which reach to the cell centres."""
        ends = [
            torch.cat([faces[:1], (faces[:-1] + faces[1:]) / 2, faces[-1:]]) for faces in self.faces
        ]
        return _product([places.diff() for places in ends])

    def columns(self) -> list[Column]:
        """Datasets of the grid and of the times."""
        columns = []
        for axis, faces, periodic in zip(AXES, self.faces, self.periodic, strict=False):
            centres, closed = (faces[:-1] + faces[1:]) / 2, {"periodic": periodic}
            columns += [
                Column(f"/grid/{axis}", centres, f"cell centres along {axis}", attributes=closed),
                Column(f"/grid/{axis}_faces", faces, f"cell faces along {axis}", attributes=closed),
            ]
        columns.append(Column("/grid/volume", self.volume, "cell volumes, the quadrature weights"))
        if len(self.faces) > 1:
            text = "volumes of the cells around the vertices, cut off at the edges"
            columns.append(Column("/grid/vertex_volume", self.vertex_volume, text))
        columns.append(Column("/time/t", self.times, "times saved"))
        return columns


def _product(widths: list[Tensor]) -> Tensor:
    volume = widths[0]
    for width in widths[1:]:
        volume = volume.unsqueeze(-1) * width
    return volume


def make_grid(equation: Equation, cells: int, times: Tensor) -> Grid:
    """Grid of equal cells over the domain of an equation."""
    low_edges = equation.boundary.edges[::2]
    periodic = tuple(equation.boundary.is_periodic(axis) for axis in range(len(low_edges)))
    if isinstance(equation, Problem):
        return Grid((equation.edges(cells),), periodic, times)
    if isinstance(equation, PlaneProblem):
        return Grid(equation.edges(cells), periodic, times)
    faces = torch.linspace(0.0, 1.0, cells + 1, dtype=torch.float64)
    return Grid((faces,) * equation.spatial_dims, periodic, times)


def exact_record(equation: Equation, grid: Grid, points: bool) -> list[Column]:
    """Columns of one sample from the exact solution.

    Args:
        equation: The sample's equation.
        grid: Where and when.
        points: Add the point values on the faces of a one-dimensional grid.

    Returns:
        The columns, always in the same order for the same equation.

    Raises:
        ValueError: If no exact solution is known.
    """
    if isinstance(equation, Problem):
        return _interval_record(equation, grid, points)
    if isinstance(equation, PlaneProblem):
        return _plane_record(equation, grid)
    if isinstance(equation, Wave):
        return _wave_record(equation, grid)
    raise ValueError(f"generate: expected an exact solution of {equation.name}, which has none")


def parameter_columns(equation: Equation) -> list[Column]:
    """One column for each parameter."""
    return [
        Column(
            f"/parameters/{name}",
            torch.tensor(getattr(equation, name), dtype=torch.float64),
            known.meaning,
            known.unit,
            full=True,
        )
        for name, known in equation.parameters().items()
    ]


def conserved_columns(
    name: str, total: Tensor, inflow: Tensor, source: Tensor, start: Tensor
) -> list[Column]:
    """The budget of one field; ``start`` is the exact total at the first time."""
    meaning = {
        "total": (total, "volumes times the field, summed"),
        "inflow": (inflow, "net amount that entered since the first time"),
        "source": (source, "amount that sources made since the first time"),
        "target": (start + inflow + source, "total that conservation asks for"),
    }
    return [
        Column(f"/conserved/{name}/{key}", values, text, full=True)
        for key, (values, text) in meaning.items()
    ]


def _interval_record(problem: Problem, grid: Grid, points: bool) -> list[Column]:
    (faces,), times, name = grid.faces, grid.times, problem.variable
    averages, fluxes = problem.averages_and_fluxes(times, faces)
    kept: Attributes = {"kind": "cell_average", "location": "cells", "conserved": True}
    columns = [Column(f"/fields/{name}", averages, "cell averages", attributes=kept)]
    if points:
        values = problem.values(times.unsqueeze(-1), faces)
        shown: Attributes = {"kind": "point", "location": "x_faces", "conserved": False}
        columns.append(
            Column(f"/fields/{name}_points", values, "values on the faces", attributes=shown)
        )
    columns += parameter_columns(problem)
    columns.append(Column(f"/fluxes/{name}/x", fluxes, "mean flux along x over each interval"))
    if problem.has_source:
        sources = problem.mean_sources(times, faces)
        columns.append(Column(f"/sources/{name}", sources, "mean source over each interval"))
    for side, edge in enumerate(EDGES[:2]):
        columns += _edge_columns(problem, times, side, f"/boundary/{name}/{edge}")
    columns += conserved_columns(
        name,
        (faces.diff() * averages).sum(-1),
        problem.inflow(times[0], times) - problem.outflow(times[0], times),
        problem.produced(times[0], times),
        problem.mass(times[0]),
    )
    if problem.has_front:
        front, jump = problem.front(times), problem.jump(times)
        columns += [
            Column(f"/shocks/{name}/position", front.unsqueeze(-1), "position, NaN: none"),
            Column(f"/shocks/{name}/strength", jump.unsqueeze(-1), "fall across it, NaN: none"),
        ]
    return columns


def _edge_columns(problem: Problem, times: Tensor, side: int, path: str) -> list[Column]:
    kind, end = {"kind": problem.kinds[side]}, problem.domain[side]
    if problem.kinds[side] == "periodic":
        end = problem.domain[0]  # the same point, to the last bit
    outward = -problem.flux_left(times) if side == 0 else problem.flux_right(times)
    columns = [
        Column(f"{path}/trace", problem.values(times, end), "value on the edge", attributes=kind),
        Column(f"{path}/flux", outward, "outward flux, infinite where singular", attributes=kind),
    ]
    value = problem.boundary_value(times, side)
    if value is not None:
        words = {"dirichlet": "prescribed value", "neumann": "prescribed outward derivative"}
        columns.append(Column(f"{path}/value", value, words[kind["kind"]], attributes=kind))
    return columns


def _plane_record(problem: PlaneProblem, grid: Grid) -> list[Column]:
    (x, y), times, name = grid.faces, grid.times, problem.variable
    averages, fluxes = problem.averages_and_fluxes(times, x, y)
    kept: Attributes = {"kind": "cell_average", "location": "cells", "conserved": True}
    columns = [
        Column(f"/fields/{name}", averages, "cell averages", attributes=kept),
        *parameter_columns(problem),
    ]
    for axis, flux in zip(AXES, fluxes, strict=False):
        text = f"mean flux along {axis} over each interval"
        columns.append(Column(f"/fluxes/{name}/{axis}", flux, text))
    moments = times.unsqueeze(-1)
    centres = _edge_centres(x, y)
    for number, (edge, word) in enumerate(zip(centres, problem.kinds, strict=True)):
        along, kind, path = number // 2, {"kind": word}, f"/boundary/{name}/{edge}"
        # Opposite edges of a torus are the same points, to the last bit.
        place = centres[EDGES[2 * along] if word == "periodic" else edge]
        trace = problem.values(moments, *place)
        outward = problem.flux(moments, *place)[along] * (-1.0 if number % 2 == 0 else 1.0)
        columns += [
            Column(f"{path}/trace", trace, "value on the edge, at its centres", attributes=kind),
            Column(f"{path}/flux", outward, "outward flux, at its centres", attributes=kind),
        ]
        if word == "dirichlet":
            nothing = torch.zeros_like(trace)
            columns.append(Column(f"{path}/value", nothing, "prescribed value", attributes=kind))
    total = (grid.volume * averages).sum(dim=(1, 2))
    mass = problem.mass(times)
    gained = mass - mass[0]
    return columns + conserved_columns(name, total, gained, torch.zeros_like(mass), mass[0])


def _edge_centres(x: Tensor, y: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Coordinates of the middles of the faces on each edge."""
    middle = [(faces[:-1] + faces[1:]) / 2 for faces in (x, y)]
    return {
        "x_lo": (x[0], middle[1]),
        "x_hi": (x[-1], middle[1]),
        "y_lo": (middle[0], y[0]),
        "y_hi": (middle[0], y[-1]),
    }


def _wave_record(wave: Wave, grid: Grid) -> list[Column]:
    (x, y), times = grid.faces, grid.times
    u, v = wave.cell_averages(times, x, y), wave.speed_averages(times, x, y)
    kept: Attributes = {"kind": "cell_average", "location": "cells", "conserved": True}
    columns = [
        Column("/fields/u", u, "cell averages of the displacement", attributes=kept),
        Column("/fields/v", v, "cell averages of its rate of change", attributes=kept),
        *parameter_columns(wave),
    ]
    for axis, flux in zip(AXES, wave.mean_fluxes(times, x, y), strict=False):
        text = f"mean flux along {axis} over each interval"
        columns.append(Column(f"/fluxes/v/{axis}", flux, text))
    sources = wave.mean_sources(times, x, y)
    columns.append(Column("/sources/u", sources, "mean source over each interval"))
    still = {"kind": "neumann"}
    for edge, place in _edge_centres(x, y).items():
        trace = wave.values(times.unsqueeze(-1), *place)
        path = f"/boundary/u/{edge}"
        nothing = torch.zeros_like(trace)
        columns += [
            Column(f"{path}/trace", trace, "value on the edge, at its centres", attributes=still),
            Column(f"{path}/flux", nothing, "outward flux of v", attributes=still),
            Column(f"{path}/value", nothing, "prescribed outward derivative", attributes=still),
        ]
    nothing = wave.mass(times)  # of either field, at all times, and no part of the source either
    for name, averages in (("u", u), ("v", v)):
        total = (grid.volume * averages).sum(dim=(1, 2))
        columns += conserved_columns(name, total, nothing, nothing, nothing[0])
    return columns
