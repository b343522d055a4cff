# SPDX-License-Identifier: Apache-2.0
"""Heat conduction with an insulated wall: a Fourier neural operator with and without its boundary.

The left wall is insulated, the right wall is heated with a strength that differs from sample to
sample. All models see that strength as an input channel. They differ in what they know about the
walls otherwise:

* ``fno``: nothing;
* ``fno, longer period``: nothing, but its Fourier period is longer than the domain;
* ``corrected``: the same period, and the output is conditioned on the fluxes at both walls.

Run it with ``python examples/python/heat_insulated.py``; it needs matplotlib and takes some minutes
on a CPU. It writes a figure and a table of the numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import physcon_ext as px
from physcon_ext.boundary import BoundaryConditions, Neumann, boundary_rules


POINTS, TIME, K = 128, 0.5, 0.01
MODELS = {
    "fno": {"correction": "none"},
    "fno, longer period": {"correction": "none", "period": 1.125},
    "corrected": {"correction": "smooth"},
}
BC = BoundaryConditions(left=Neumann(0.0, order=3), right=Neumann(order=3))


@dataclass(frozen=True)
class Data:
    """Initial fields, solutions at one time, and outward slopes at the right wall."""

    initial: Tensor
    solution: Tensor
    slope: Tensor

    def batch(self, index: Tensor) -> Data:
        return Data(self.initial[index], self.solution[index], self.slope[index])


def draw(count: int, points: int, seed: int) -> Data:
    """Exact solutions for random heating of the right wall and random initial waves."""
    generator = torch.Generator().manual_seed(seed)
    amplitude = 2 + 6 * torch.rand(count, generator=generator, dtype=torch.float64)
    omega = 2.01 + 1.98 * torch.rand(count, generator=generator, dtype=torch.float64)
    x = torch.linspace(0, 1, points, dtype=torch.float64)
    heats = [
        px.pde.Heat(amplitude=float(u), omega=float(w), k=K)
        for u, w in zip(amplitude, omega, strict=True)
    ]
    initial = torch.stack([heat.values(0.0, x).reshape(-1) for heat in heats])
    solution = torch.stack([heat.values(TIME, x).reshape(-1) for heat in heats])
    slope = amplitude * math.sin(math.pi * TIME)
    return Data(initial[:, None].float(), solution[:, None].float(), slope[:, None].float())


def relative_error(u: Tensor, truth: Tensor) -> Tensor:
    """Relative L2 error of every sample."""
    return (u - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def wall_slopes(u: Tensor) -> dict[str, Tensor]:
    """Outward slopes at both walls by the differences that state the conditions, per sample."""
    u = u[:, 0].double()
    rules = boundary_rules(BC, [u.shape[-1]])
    found = {}
    for edge, rule in rules.items():
        inwards = u.flip(-1) if rule.upper else u
        found[edge] = inwards[:, : len(rule.row)] @ rule.row
    return found


def train(name: str, data: Data, epochs: int, seed: int) -> px.models.FNO:
    """Train one model; the seed decides its initial weights and the order of the samples."""
    torch.manual_seed(seed)
    model = px.models.FNO(
        (16,), 1, 1, 32, n_layers=4, lifting_channel_ratio=0, boundary=BC, **MODELS[name]
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(1, epochs // 6), 0.5)
    for _ in range(epochs):
        for index in torch.randperm(len(data.initial)).split(20):
            part = data.batch(index)
            u = model(part.initial, {"right": part.slope})
            loss = relative_error(u, part.solution).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return model


def score(model: px.models.FNO, data: Data) -> dict[str, float]:
    """Errors on a test set: in the field and at the walls."""
    with torch.no_grad():
        u = model(data.initial, {"right": data.slope})
    slopes, wanted = wall_slopes(u), {"left": 0.0, "right": data.slope[:, 0].double()}
    return {
        "relative_l2": float(relative_error(u, data.solution).mean()),
        **{f"slope_error_{e}": float((slopes[e] - wanted[e]).abs().mean()) for e in slopes},
    }


def gradient(u: Tensor, x: Tensor) -> Tensor:
    """Derivative along x: central inside, at the left wall as the condition states it."""
    found = torch.gradient(u, spacing=(x,), edge_order=2)[0]
    found[0] = -wall_slopes(u[None, None])["left"]
    return found


def draw_figure(models: dict[str, px.models.FNO], data: Data, path: Path) -> None:
    """Draw profile, slope next to the insulated wall, and its flux in all test samples."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    colours = {"fno": "#D55E00", "corrected": "#0072B2"}
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    x = torch.linspace(0, 1, data.initial.shape[-1])
    with torch.no_grad():
        fields = {name: models[name](data.initial, {"right": data.slope}) for name in colours}
    slopes = {name: wall_slopes(u)["left"] for name, u in fields.items()}
    sample = int(slopes["fno"].abs().argsort()[len(data.initial) // 2])  # the median
    with rc_context(style):
        figure = Figure(figsize=(9.6, 3.0), layout="constrained", dpi=160)
        profile, slope, walls = figure.subplots(1, 3)
        truth = data.solution[sample, 0]
        profile.plot(x, truth, color="black", lw=2.4, alpha=0.35, label="exact")
        slope.plot(x, gradient(truth, x), color="black", lw=2.4, alpha=0.35)
        for name, colour in colours.items():
            u = fields[name][sample, 0]
            label = "FNO" if name == "fno" else "corrected"
            profile.plot(x, u, color=colour, lw=1.2, label=label)
            slope.plot(x, gradient(u, x), color=colour, lw=1.2, marker=".", ms=4)
            walls.plot(slopes[name].sort().values, color=colour, lw=0, marker=".", ms=4)
        profile.set(title="Temperature", xlabel="x", ylabel="u(x, t = 0.5)")
        profile.legend(frameon=False)
        near = x <= 0.12
        wanted = [gradient(fields[n][sample, 0], x)[near] for n in colours]
        low, high = float(torch.cat(wanted).min()), float(torch.cat(wanted).max())
        slope.set(
            title="Slope next to the insulated wall",
            xlabel="x",
            ylabel="du/dx",
            xlim=(-0.004, 0.12),
            ylim=(1.08 * low, 1.15 * high),
        )
        slope.axhline(0, color="#888888", lw=0.6, zorder=0)
        walls.axhline(0, color="#888888", lw=0.6, zorder=0)
        walls.set(
            title="Slope at the wall, all test samples",
            xlabel="test samples, sorted",
            ylabel="du/dn at x = 0 (exact: 0)",
        )
        figure.savefig(path)


def main() -> None:
    """Train all models, print and store their errors, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    training = draw(arguments.samples, arguments.points, seed=1)
    test = draw(100, arguments.points, seed=2)
    fine = draw(100, 2 * arguments.points, seed=2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    shown: dict[str, px.models.FNO] = {}
    table: dict[str, list[dict[str, Any]]] = {name: [] for name in MODELS}
    for seed in range(arguments.seeds):
        for name in MODELS:
            start = time.process_time()
            model = train(name, training, arguments.epochs, seed)
            row = {
                "seed": seed,
                **score(model, test),
                "relative_l2_on_twice_the_points": score(model, fine)["relative_l2"],
                "cpu_seconds": round(time.process_time() - start, 1),
            }
            table[name].append(row)
            shown.setdefault(name, model)
            print(name, json.dumps(row), flush=True)
    setting = {key: getattr(arguments, key) for key in ("epochs", "seeds", "samples", "points")}
    setting["steps"] = arguments.epochs * math.ceil(arguments.samples / 20)
    exact = wall_slopes(test.solution)
    floor = float((exact["left"]).abs().mean())
    built = px.build_info()
    versions = {key: built[key] for key in ("version", "git_revision", "torch", "python")}
    result = {
        "versions": versions,
        "setting": setting,
        "slope_of_the_exact_solution_left": floor,
        "models": table,
    }
    (arguments.out / "heat_insulated.json").write_text(json.dumps(result, indent=1) + "\n")
    draw_figure(shown, test, arguments.out / "heat_insulated.png")


if __name__ == "__main__":
    main()
