# SPDX-License-Identifier: Apache-2.0
"""Errors of the finite-volume solvers against exact cell averages, and their orders.

Run from the root of the repository: ``python -m bench.convergence`` prints the table;
``--write`` stores it as ``bench/results/convergence.json`` and ``docs/convergence.md``.

Errors are ``sum |u - exact| volume / sum volume`` (L1) at the last time. The error of a front or a
shock depends on where it stands in its cell, so those are means over eight times in which it
crosses one cell. Orders are between neighbouring numbers of cells.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.machine import RESULTS, ROOT, describe
from physcon_ext import fv, pde
from physcon_ext.boundary import (
    BoundaryConditions,
    Condition,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
)


PHASES = 8
LIMITED = ("minmod", "van_leer", "mc")


@dataclass(frozen=True)
class Case:
    """One solver on one problem.

    Attributes:
        problem: What is solved.
        method: Scheme, average or integrator.
        cells: Numbers of cells along an axis.
        run: Number of cells to errors by name; ``L1`` is always there.
        least: Smallest acceptable order of the L1 error between the first and the last number of
            cells, or None where there is none to promise.
        front: The same for the front error.
    """

    problem: str
    method: str
    cells: tuple[int, ...]
    run: Callable[[int], dict[str, float]]
    least: float | None = None
    front: float | None = None

    @property
    def name(self) -> str:
        """Unique name."""
        return f"{self.problem}: {self.method}"

    def measure(self) -> dict[str, Any]:
        """Return the errors and the orders between neighbouring numbers of cells."""
        found = [self.run(n) for n in self.cells]
        result: dict[str, Any] = {
            "problem": self.problem,
            "method": self.method,
            "cells": list(self.cells),
        }
        for quantity in found[0]:
            errors = [f[quantity] for f in found]
            result[quantity] = errors
            result[f"{quantity} order"] = [
                math.log(a / b) / math.log(n / m) if a > 0 and b > 0 else math.inf
                for a, b, m, n in zip(
                    errors[:-1], errors[1:], self.cells[:-1], self.cells[1:], strict=True
                )
            ]
        return result


def _ends(left: Condition, right: Condition) -> BoundaryConditions:
    return BoundaryConditions(left=left, right=right)


def _square(condition: Condition) -> BoundaryConditions:
    return BoundaryConditions(left=condition, right=condition, bottom=condition, top=condition)


def _faces(n: int, low: float, high: float) -> Tensor:
    return torch.linspace(low, high, n + 1, dtype=torch.float64)


def _sine(faces: Tensor, shift: float = 0.0, k: float = 1.0) -> Tensor:
    """Averages of sin(k x + shift), without cancellation."""
    half = 0.5 * k * faces.diff()
    middle = 0.5 * k * (faces[1:] + faces[:-1]) + shift
    return torch.sin(middle) * torch.sin(half) / half


def _l1(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().mean())


# Transport.


def _smooth_advection(scheme: str, n: int) -> dict[str, float]:
    faces = _faces(n, 0.0, 2 * math.pi)
    # weno5 has order 3 in time: steps of h^(5/3) bring its own order out.
    dt = {"dt": 0.5 * (2 * math.pi / n) ** (5 / 3)} if scheme == "weno5" else {}
    found = fv.advection(
        _sine(faces),
        times=[0.0, 2.0],
        domain=(0.0, 2 * math.pi),
        speed=1.0,
        scheme=scheme,
        bc=_ends(Periodic(), Periodic()),
        **dt,
    )
    return {"L1": _l1(found.cells[-1], _sine(faces, -2.0))}


def _smooth_plane_advection(scheme: str, n: int) -> dict[str, float]:
    faces = _faces(n, 0.0, 2 * math.pi)
    dt = {"dt": 0.3 * (2 * math.pi / n) ** (5 / 3)} if scheme == "weno5" else {}
    found = fv.advection(
        _sine(faces)[:, None] * _sine(faces),
        times=[0.0, 1.0],
        domain=((0.0, 2 * math.pi), (0.0, 2 * math.pi)),
        speed=(1.0, -0.5),
        scheme=scheme,
        bc=_square(Periodic()),
        **dt,
    )
    return {"L1": _l1(found.cells[-1], _sine(faces, -1.0)[:, None] * _sine(faces, 0.5))}


def _phases(time: float, spacing: float, speed: float) -> list[float]:
    return [time + i * spacing / (speed * PHASES) for i in range(PHASES)]


def _front_errors(
    problem: pde.Problem, found: fv.Solution, times: list[float], front: Tensor | None
) -> dict[str, float]:
    """Mean errors over the last times."""
    cells = found.cells[-len(times) :]
    exact = torch.stack([problem.cell_averages(t, found.faces[0]) for t in times])
    widths = found.faces[0].diff()
    errors = {"L1": float(((cells - exact).abs() * widths).sum(-1).mean())}
    if front is not None:
        true = torch.tensor([float(problem.front(t)) for t in times], dtype=torch.float64)
        errors["front"] = float((front[-len(times) :] - true).abs().mean())
    return errors


def _jump_position(found: fv.Solution, level: float) -> Tensor:
    """Where a falling profile crosses a level, by lines between the centres."""
    x = 0.5 * (found.faces[0][1:] + found.faces[0][:-1])
    behind = (found.cells >= level).to(torch.int64).cumprod(-1).sum(-1, keepdim=True).clamp(min=1)
    behind = behind.clamp(max=x.numel() - 1)
    a, b = found.cells.gather(-1, behind - 1), found.cells.gather(-1, behind)
    share = ((a - level) / torch.where(a > b, a - b, 1.0)).clamp(0, 1)
    return (x[behind - 1] + share * (x[1] - x[0]))[..., 0]


def _step_advection(scheme: str, n: int) -> dict[str, float]:
    problem = pde.Advection(a=1.0)
    times = _phases(0.25, 1.0 / n, 1.0)
    found = fv.advection(
        problem.cell_averages(0.0, _faces(n, 0.0, 1.0)),
        times=[0.0, *times],
        domain=(0.0, 1.0),
        speed=1.0,
        scheme=scheme,
        bc=_ends(Dirichlet(1.0), Outflow()),
    )
    return _front_errors(problem, found, times, _jump_position(found, 0.5))


def _burgers(scheme: str, time: float, n: int) -> dict[str, float]:
    problem = pde.Burgers(a=1.0)
    shocked = time > 1.0
    times = _phases(time, 2.0 / n, 0.5) if shocked else [time]
    found = fv.burgers(
        problem.cell_averages(0.0, _faces(n, -1.0, 1.0)),
        times=[0.0, *times],
        domain=(-1.0, 1.0),
        scheme=scheme,
        bc=_ends(Dirichlet(1.0), Outflow()),
    )
    front = _jump_position(found, 0.5) if shocked else None
    return _front_errors(problem, found, times, front)


def _viscous_burgers(scheme: str, n: int) -> dict[str, float]:
    # Travelling front s - (J/2) tanh(J (x - x0 - s t)/(4 nu)); its integral is a log cosh.
    nu, high, low = 0.05, 1.0, 0.0
    s, jump = (high + low) / 2, high - low

    def average(t: float, faces: Tensor) -> Tensor:
        z = jump * (faces - 0.3 - s * t) / (4 * nu)
        log_cosh = z.abs() + torch.log1p(torch.exp(-2 * z.abs())) - math.log(2.0)
        return s - 2 * nu * log_cosh.diff() / faces.diff()

    def value(x: float) -> Callable[[Tensor], Tensor]:
        return lambda t: s - jump / 2 * torch.tanh(jump * (x - 0.3 - s * t) / (4 * nu))

    faces = _faces(n, 0.0, 1.0)
    found = fv.burgers(
        average(0.0, faces),
        times=[0.0, 0.5],
        domain=(0.0, 1.0),
        viscosity=nu,
        scheme=scheme,
        bc=_ends(Dirichlet(value(0.0)), Dirichlet(value(1.0))),
    )
    return {"L1": _l1(found.cells[-1], average(0.5, faces))}


# Diffusion.


def _heat(integrator: str, ends: str, n: int) -> dict[str, float]:
    """exp(-k t) sin(x + 0.4) on (0, 2), with its own data at both ends."""
    k, shift, length = 0.8, 0.4, 2.0

    def value(x: float) -> Callable[[Tensor], Tensor]:
        return lambda t: torch.exp(-k * t) * math.sin(x + shift)

    def slope(x: float) -> Callable[[Tensor], Tensor]:
        return lambda t: torch.exp(-k * t) * math.cos(x + shift)

    def mixed(t: Tensor) -> Tensor:
        return 2 * value(length)(t) + 0.5 * slope(length)(t)

    bc = {
        "Dirichlet": _ends(Dirichlet(value(0.0)), Dirichlet(value(length))),
        "Neumann": _ends(Neumann(slope(0.0), direction="x"), Neumann(slope(length))),
        "Robin": _ends(Dirichlet(value(0.0)), Robin(2.0, 0.5, mixed)),
    }[ends]
    faces = _faces(n, 0.0, length)
    step = {"dt": 0.4 / n} if integrator in ("backward_euler", "tr_bdf2") else {}
    found = fv.diffusion(
        _sine(faces, shift),
        times=[0.0, 0.5],
        domain=(0.0, length),
        k=k,
        bc=bc,
        integrator=integrator,
        **step,
    )
    return {"L1": _l1(found.cells[-1], math.exp(-k * 0.5) * _sine(faces, shift))}


def _plane_heat(integrator: str, n: int) -> dict[str, float]:
    faces = _faces(n, 0.0, math.pi)
    exact = _sine(faces, math.pi / 2)[:, None] * _sine(faces, math.pi / 2)
    found = fv.diffusion(
        exact,
        times=[0.0, 0.3],
        domain=((0.0, math.pi), (0.0, math.pi)),
        k=1.0,
        bc=_square(Neumann(0.0)),
        integrator=integrator,
    )
    return {"L1": _l1(found.cells[-1], math.exp(-0.6) * exact)}


def _porous_medium(m: float, average: str, n: int) -> dict[str, float]:
    problem = pde.PorousMedium(m=m)
    times = _phases(0.5, 1.0 / n, 1.0)
    found = fv.porous_medium(
        torch.zeros(n),
        times=[0.0, *times],
        domain=(0.0, 1.0),
        m=m,
        average=average,
        bc=_ends(Dirichlet(lambda t: (m * t) ** (1 / m)), Dirichlet(0.0)),
    )
    # The front of the cells: the last one above a thousandth of what stands one cell behind it.
    level = 1e-3 * (m / n) ** (1 / m)
    return _front_errors(problem, found, times, _jump_position(found, level))


def _stefan(u_star: float, average: str, n: int) -> dict[str, float]:
    problem = pde.Stefan(u_star=u_star)
    start, time = 0.002, 0.05
    speed = float(problem.front(time)) / (2 * time)
    times = _phases(time, 1.0 / n, speed)
    found = fv.stefan(
        problem.cell_averages(start, _faces(n, 0.0, 1.0)),
        times=[start, *times],
        domain=(0.0, 1.0),
        u_star=u_star,
        average=average,
        bc=_ends(Dirichlet(1.0), Dirichlet(0.0)),
    )
    return _front_errors(problem, found, times, found.front)


def _stefan_from_nothing(u_star: float, n: int) -> dict[str, float]:
    problem = pde.Stefan(u_star=u_star)
    times = _phases(0.05, 1.0 / n, float(problem.front(0.05)) / 0.1)
    found = fv.stefan(
        torch.zeros(n),
        times=[0.0, *times],
        domain=(0.0, 1.0),
        u_star=u_star,
        bc=_ends(Dirichlet(1.0), Dirichlet(0.0)),
    )
    return _front_errors(problem, found, times, found.front)


def _plane(problem: pde.PlaneProblem, time: float, n: int, **method: str) -> dict[str, float]:
    """A problem of the plane, from its exact averages at the start."""
    x, y = problem.edges(n)
    times = [time]
    solver: Callable[..., fv.Solution]
    if isinstance(problem, pde.PlaneDiffusion):
        solver, constants = fv.diffusion, {"k": problem.k}
    elif isinstance(problem, pde.PorousDrop):
        solver, constants = fv.porous_medium, {"m": problem.m}
    elif isinstance(problem, pde.PlaneAdvection):
        solver, constants = fv.advection, {"speed": (problem.a, problem.b)}
        times = _phases(time, 1.0 / n, problem.a)
    else:
        solver, constants = fv.burgers, {}
        times = _phases(time, 1.0 / n, 0.6)  # of the shocks along x + y
    found = solver(
        problem.cell_averages(0.0, x, y),
        times=[0.0, *times],
        domain=problem.domain,
        bc=problem.boundary,
        **constants,
        **method,
    )
    exact = problem.cell_averages(torch.tensor(times, dtype=torch.float64), x, y)
    return {"L1": _l1(found.cells[1:], exact)}


def _oblique_front(scheme: str, n: int) -> dict[str, float]:
    """Viscous front along x + y on the unit square: w(2 t, x + y), w the front on a line."""
    front = pde.ViscousBurgers(u_left=1.0, u_right=0.0, nu=0.05)
    node, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(6))
    faces = _faces(n, 0.0, 1.0)
    points = (0.5 * (faces[1:] + faces[:-1])[:, None] + 0.5 / n * node).reshape(-1)

    def value(t: Tensor, place: Tensor) -> Tensor:
        half = (front.u_left - front.u_right) / 2
        moved = place - 0.6 - 2 * front.speed * t
        return front.speed - half * torch.tanh(half * moved / (2 * front.nu))

    def average(t: float) -> Tensor:
        fine = value(torch.tensor(t), points[:, None] + points).reshape(n, 6, n, 6)
        return torch.einsum("iajb,a,b->ij", fine, weight / 2, weight / 2)

    def edge(at: float) -> Dirichlet:
        def on_edge(t: Tensor) -> Tensor:
            return (value(t.unsqueeze(-1), at + points.reshape(n, 6)) * (weight / 2)).sum(-1)

        return Dirichlet(on_edge)

    found = fv.burgers(
        average(0.0),
        times=[0.0, 0.3],
        domain=((0.0, 1.0), (0.0, 1.0)),
        viscosity=front.nu,
        scheme=scheme,
        bc=BoundaryConditions(left=edge(0.0), right=edge(1.0), bottom=edge(0.0), top=edge(1.0)),
    )
    return {"L1": _l1(found.cells[-1], average(0.3))}


def _plane_wave(n: int) -> dict[str, float]:
    faces = _faces(n, 0.0, 1.0)
    mode = _sine(faces, math.pi / 2, math.pi)
    u0, time = 3 * mode[:, None] * mode, 2.0
    found = fv.wave(
        u0, times=[0.0, time], domain=((0.0, 1.0), (0.0, 1.0)), bc=_square(Neumann(0.0))
    )
    return {"L1": _l1(found.cells[-1], u0 * math.cos(math.sqrt(2) * math.pi * time))}


def _with(
    function: Callable[..., dict[str, float]], *first: Any
) -> Callable[[int], dict[str, float]]:
    return lambda n: function(*first, n)


def _plane_cases() -> list[Case]:
    """Cases of the problems on a square."""

    def case(
        problem: pde.PlaneProblem, words: str, time: float, method: str, cells: tuple[int, ...],
        least: float, **chosen: str,
    ) -> Case:  # fmt: skip
        def run(n: int) -> dict[str, float]:
            return _plane(problem, time, n, **chosen)

        return Case(words, method, cells, run, least)

    found = []
    for integrator in ("ssprk2", "rkl2"):
        words, torus = "heat in 2-D, torus", pde.PlaneDiffusion(k=1.0)
        found.append(case(torus, words, 0.3, integrator, (16, 32, 64), 1.9, integrator=integrator))
    for m, least in ((1.0, 1.6), (2.0, 1.2), (4.0, 1.0)):
        words, drop = f"porous medium in 2-D, drop, m = {m:g}", pde.PorousDrop(m=m)
        found.append(case(drop, words, 0.3, "integral", (20, 40, 80), least))
    block = pde.PlaneAdvection(a=0.5, b=0.3)
    # Both edges of the block are smeared as a step on a line is.
    for scheme, least in {"godunov": 0.35, "van_leer": 0.5, "weno5": 0.65}.items():
        words = "advection in 2-D, block"
        found.append(case(block, words, 0.6, scheme, (25, 50, 100), least, scheme=scheme))
    sawtooth = pde.PlaneBurgers(mean=0.3, jump=1.0)
    for scheme in ("godunov", "van_leer", "weno5"):
        words = "Burgers in 2-D, oblique shocks"
        found.append(case(sawtooth, words, 0.5, scheme, (25, 50, 100), 0.85, scheme=scheme))
    for scheme in ("van_leer", "weno5"):
        run = _with(_oblique_front, scheme)
        name = "viscous Burgers in 2-D, oblique front"
        found.append(Case(name, scheme, (16, 32, 64), run, 1.8))
    return found


def cases() -> list[Case]:
    """Return all cases, in the order of the table."""
    smooth = {"godunov": 0.9, "minmod": 1.7, "van_leer": 1.85, "mc": 1.85, "weno5": 4.9}
    # A contact is smeared: p/(p + 1) for a scheme of order p.
    step = {"godunov": 0.4, "minmod": 0.57, "van_leer": 0.6, "mc": 0.6, "weno5": 0.75}
    kink = {"godunov": 0.9, "minmod": 1.2, "van_leer": 1.2, "mc": 1.2, "weno5": 1.4}
    found = []
    for scheme, least in smooth.items():
        run = _with(_smooth_advection, scheme)
        found.append(Case("advection, sine", scheme, (32, 64, 128, 256), run, least))
    for scheme in ("van_leer", "weno5"):
        run = _with(_smooth_plane_advection, scheme)
        found.append(
            Case(
                "advection in 2-D, sine",
                scheme,
                (16, 32, 64),
                run,
                4.5 if scheme == "weno5" else 1.7,
            )
        )
    for scheme, least in step.items():
        run = _with(_step_advection, scheme)
        found.append(Case("advection, step", scheme, (100, 200, 400), run, least))
    for scheme, least in kink.items():
        run = _with(_burgers, scheme, 0.5)
        found.append(Case("Burgers before the shock, kinks", scheme, (100, 200, 400), run, least))
    for scheme in kink:
        run = _with(_burgers, scheme, 1.5)
        found.append(Case("Burgers, shock", scheme, (100, 200, 400), run, 0.9, 0.7))
    for scheme in ("van_leer", "weno5"):
        run = _with(_viscous_burgers, scheme)
        found.append(Case("viscous Burgers, Dirichlet", scheme, (32, 64, 128), run, 1.9))
    for integrator in ("euler", "ssprk2", "rkl2", "tr_bdf2"):
        run = _with(_heat, integrator, "Dirichlet")
        found.append(Case("heat, Dirichlet", integrator, (16, 32, 64), run, 1.75))
    run = _with(_heat, "backward_euler", "Dirichlet")
    found.append(Case("heat, Dirichlet, dt ~ dx", "backward_euler", (16, 32, 64), run, 0.9))
    for ends in ("Neumann", "Robin"):
        run = _with(_heat, "ssprk2", ends)
        found.append(Case(f"heat, {ends}", "ssprk2", (16, 32, 64), run, 1.75))
    for integrator in ("ssprk2", "rkl2"):
        run = _with(_plane_heat, integrator)
        found.append(Case("heat in 2-D, Neumann", integrator, (16, 32, 64), run, 1.9))
    for m, least in ((1.0, 1.8), (3.0, 1.2), (6.0, 1.0)):
        for average in ("integral", "arithmetic", "modified", "harmonic"):
            run = _with(_porous_medium, m, average)
            promise = (least, 0.9) if average == "integral" else (None, None)
            name = f"porous medium, m = {m:g}"
            found.append(Case(name, average, (50, 100, 200), run, *promise))
    found += _plane_cases()
    for u_star in (0.6, 0.5):
        for average in ("shock", "integral", "arithmetic", "harmonic"):
            run = _with(_stefan, u_star, average)
            promise = {"shock": (1.5, 1.0), "integral": (1.3, 1.3)}.get(average, (None, None))
            found.append(Case(f"Stefan, u* = {u_star:g}", average, (50, 100, 200), run, *promise))
    run = _with(_stefan_from_nothing, 0.6)
    found.append(Case("Stefan from nothing, u* = 0.6", "shock", (50, 100, 200), run, 1.0, 1.0))
    found.append(Case("wave in 2-D, Neumann", "verlet", (16, 32, 64), _plane_wave, 1.9))
    return found


def markdown(records: list[dict[str, Any]]) -> str:
    """Return the table."""
    lines = [
        "# Orders of convergence of the finite-volume solvers",
        "",
        "L1 errors against exact cell averages, measured by `python -m bench.convergence --write`;",
        "fronts and shocks: mean over eight positions in a cell.",
        "",
        "| problem | method | cells | L1 error | order | front error | order |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in records:
        parts = [r["problem"], r["method"], " / ".join(map(str, r["cells"]))]
        for quantity in ("L1", "front"):
            if quantity in r:
                parts.append(" / ".join(f"{e:.1e}" for e in r[quantity]))
                parts.append(" / ".join(f"{o:.2f}" for o in r[f"{quantity} order"]))
            else:
                parts += ["", ""]
        lines.append("| " + " | ".join(parts) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the command; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m bench.convergence", description=__doc__)
    parser.add_argument("--filter", metavar="TEXT", default="", help="only names with TEXT")
    parser.add_argument("--write", action="store_true", help="store the table")
    arguments = parser.parse_args(argv)
    records = []
    for case in cases():
        if arguments.filter in case.name:
            print(f"  {case.name}", file=sys.stderr, flush=True)
            records.append(case.measure())
    print(markdown(records))
    if arguments.write:
        if arguments.filter:
            parser.error("--write stores the whole table; leave --filter out")
        head = {k: v for k, v in describe().items() if k in ("schema", "revision", "date")}
        (RESULTS / "convergence.json").write_text(json.dumps(head | {"cases": records}, indent=1))
        page = Path(ROOT) / "docs" / "convergence.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(markdown(records), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
