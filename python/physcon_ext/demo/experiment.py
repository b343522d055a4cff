# SPDX-License-Identifier: Apache-2.0
"""The demo itself: observe, fit, predict, conserve and score three problems with known answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import physcon_ext as px
from physcon_ext.demo import common
from physcon_ext.demo.black_box import fit_ensemble, predict_cells, require_gpytorch
from physcon_ext.pde import Diffusion, PorousMedium, Problem, Stefan
from physcon_ext.plot._figure import require_matplotlib


@dataclass(frozen=True)
class Setup:
    """How a problem is observed and predicted; nothing here was tuned on the truth of a seed.

    Attributes:
        cells: Equal cells that cover the domain; predictions and truth are cell averages.
        layout: Rows and columns of the (time, position) grid with one observation at a uniformly
            random place of every box.
        noise: Standard deviation of the Gaussian noise on every observation.
        members: Gaussian processes in the ensemble.
        share: Part of the observations that each of them sees.
        steps: Time steps from 0 to the present, the time at which the scores are taken.
        ahead: Further time steps, which no observation reaches.
        samples: Samples in the histogram of front positions.
    """

    cells: int = 200
    layout: tuple[int, int] = (10, 10)
    noise: float = 0.02
    members: int = 8
    share: float = 0.6
    steps: int = 15
    ahead: int = 9
    samples: int = 2000


@dataclass(frozen=True)
class Case:
    """A problem and the present: observations end there, and the scores are taken there."""

    problem: Problem
    present: float


CASES = (
    Case(Diffusion(k=1.0), 0.5),
    Case(PorousMedium(m=3.0), 0.5),
    Case(Stefan(u_star=0.6), 0.05),
)


@dataclass(frozen=True)
class Outcome:
    """Everything about one problem that the table and the figures show.

    Attributes:
        case: The problem and the present.
        setup: The settings.
        edges: Faces of the cells, ``(n + 1,)``.
        times: Output times, ``(k,)``; entry ``setup.steps`` is the present.
        before: Prediction of the ensemble at every time, batch ``(k,)``.
        after: The same, conserved.
        law: The exact total at every time.
        truth: Exact cell averages, ``(k, n)``.
        observed: Observations as columns time, position, value.
        level: Value whose last crossing is called the front, or None without a front.
        fronts: Its position in samples "before" and "after" at the present.
    """

    case: Case
    setup: Setup
    edges: Tensor
    times: Tensor
    before: px.GaussianField
    after: px.GaussianField
    law: px.LinearConstraint
    truth: Tensor
    observed: Tensor
    level: float | None
    fronts: dict[str, Tensor]


def run(
    out: Path,
    seed: int,
    progress: Callable[[str], None],
    *,
    setup: Setup | None = None,
    cases: tuple[Case, ...] = CASES,
) -> dict[str, Any]:
    """Body of :func:`physcon_ext.demo.run_demo`; ``setup`` and ``cases`` may be smaller ones."""
    require_gpytorch()
    require_matplotlib()
    from physcon_ext.demo import figures

    if seed < 0:
        raise ValueError(f"run_demo: expected seed to be >= 0, got {seed}")
    setup = setup or Setup()
    start = time.perf_counter()
    with common.one_thread():
        outcomes = []
        for case in cases:
            progress(f"{case.problem.title}: fitting {setup.members} Gaussian processes")
            outcomes.append(solve(case, setup, seed))
        progress("drawing figures")
        paths = figures.draw_experiment(outcomes, out)
    first = f"{setup.layout[0] * setup.layout[1]} observations, noise {setup.noise:g}"
    return {
        "kind": "demo",
        "title": "A Gaussian-process black box before and after conservation",
        "columns": common.described(common.SCORES),
        "rows": [row for outcome in outcomes for row in table_rows(outcome)],
        "notes": [
            f"{first}; {setup.members} processes; {setup.cells} cell averages; exact totals",
            "conservation error: predicted minus true total at the present time",
        ],
        "fronts": {o.case.problem.name: front_rows(o) for o in outcomes if o.level is not None},
        "figures": {name: str(path) for name, path in paths.items()},
        "setup": asdict(setup),
        "seed": seed,
        "seconds": time.perf_counter() - start,
        "versions": common.versions(),
    }


def solve(case: Case, setup: Setup, seed: int) -> Outcome:
    """Observe one problem, fit the ensemble, predict all times and conserve every one of them."""
    problem = case.problem
    generator = torch.Generator().manual_seed(seed)
    scale = (case.present, problem.domain[1] - problem.domain[0])
    edges = problem.edges(setup.cells)
    steps = torch.arange(setup.steps + setup.ahead + 1, dtype=torch.float64)
    times = steps * (case.present / setup.steps)

    observed = observe(case, setup, generator)
    processes = fit_ensemble(
        torch.stack([observed[:, 0] / scale[0], observed[:, 1] / scale[1]], dim=-1),
        observed[:, 2],
        members=setup.members,
        share=setup.share,
        generator=generator,
    )
    mean, covariance = predict_cells(processes, edges, times, scale)
    before = px.mixture(px.GaussianField(mean, covariance=covariance), dim=0)
    law = px.constraints.total(edges, problem.mass(times), rule="cell")
    after = px.conserve(before, law)

    level = None
    fronts: dict[str, Tensor] = {}
    if not isinstance(problem, Diffusion):
        level = front_level(case)
        centres = (edges[:-1] + edges[1:]) / 2
        for name, field in (("before", before), ("after", after)):
            # The same noise for both, so that they differ by the conservation law alone.
            noise = torch.Generator().manual_seed(seed + 1)
            present = at_present(field, setup)
            fronts[name] = common.front_positions(present, centres, level, setup.samples, noise)
    truth = problem.cell_averages(times, edges)
    return Outcome(case, setup, edges, times, before, after, law, truth, observed, level, fronts)


def observe(case: Case, setup: Setup, generator: torch.Generator) -> Tensor:
    """Noisy point values scattered over [0, present] x domain, columns time, position, value."""
    rows, columns = setup.layout
    place = torch.rand(2, rows, columns, generator=generator, dtype=torch.float64)
    t = (torch.arange(rows)[:, None] + place[0]).flatten() * (case.present / rows)
    left, right = case.problem.domain
    x = left + (torch.arange(columns) + place[1]).flatten() * ((right - left) / columns)
    noise = torch.randn(t.numel(), generator=generator, dtype=torch.float64)
    return torch.stack([t, x, case.problem.values(t, x) + setup.noise * noise], dim=-1)


def front_level(case: Case) -> float:
    """Half the jump of a shock; where there is none, half the value at the left end."""
    problem = case.problem
    if isinstance(problem, Stefan):
        return problem.u_star / 2
    return problem.values(case.present, problem.domain[0]).item() / 2


def at_present(field: px.GaussianField, setup: Setup) -> px.GaussianField:
    """The field at the time of the scores."""
    return px.GaussianField.from_structure(
        field.mean[setup.steps], field.structure.select(1, setup.steps)
    )


def table_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Rows "model" and "conserved" of one problem at the present time."""
    now = outcome.setup.steps
    problem = outcome.case.problem
    law = px.constraints.total(outcome.edges, problem.mass(outcome.times[now]), rule="cell")
    rows = []
    for method, field in (("model", outcome.before), ("conserved", outcome.after)):
        values = common.scores(field.mean[now], field.variance[now], outcome.truth[now], law)
        rows.append({"problem": problem.title, "method": method, **values})
    return rows


def front_rows(outcome: Outcome) -> dict[str, Any]:
    """Front positions of one problem at the present time, before and after."""
    exact = outcome.case.problem.crossing(outcome.case.present, outcome.level or 0.0).item()
    return {
        "level": outcome.level,
        **{name: common.front_summary(p, exact) for name, p in outcome.fronts.items()},
    }
