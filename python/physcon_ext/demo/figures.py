# SPDX-License-Identifier: Apache-2.0
"""The three figures of a run, put together from `physcon_ext.plot`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from physcon_ext import plot
from physcon_ext.demo import common
from physcon_ext.demo.experiment import Outcome
from physcon_ext.demo.predictions import Fields
from physcon_ext.pde import Diffusion
from physcon_ext.plot._figure import CONSERVED, MODEL, MUTED, STYLE, TRUTH, as_array, new_figure


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_experiment(outcomes: list[Outcome], out: Path) -> dict[str, Path]:
    """Write the figures of `physcon_ext.demo.run_demo` to ``out``; name to path."""
    with _style():
        figures = {"total_mass": _totals(outcomes), "profiles": _profiles(outcomes)}
        with_front = [outcome for outcome in outcomes if outcome.level is not None]
        if with_front:
            figures["front_position"] = _fronts(with_front)
        return _write(figures, out)


def draw_predictions(shown: Fields, out: Path) -> dict[str, Path]:
    """Write the figures of `physcon_ext.demo.run_predictions` to ``out``; name to path."""
    with _style():
        figures = {
            "total_mass": _stored_totals(shown),
            "profiles": _stored_profile(shown),
            "front_position": _stored_front(shown),
        }
        return _write(figures, out)


def _totals(outcomes: list[Outcome]) -> Figure:
    figure, axes = new_figure(1, len(outcomes), 4.1 * len(outcomes), 3.9)
    for ax, outcome in zip(axes, outcomes, strict=True):
        t, truth = outcome.times, outcome.law.target[:, 0]
        mean = truth + outcome.law.residual(outcome.before.mean)[:, 0]
        conserved = truth + outcome.law.residual(outcome.after.mean)[:, 0]
        deviation = common.total_deviation(outcome.before, outcome.law)
        present, last = outcome.case.present, t[-1].item()

        ax.axvspan(present, last, color="#F1F1F1", linewidth=0, zorder=0)
        plot.budget(t, mean, deviation, color=MODEL, ax=ax)
        plot.budget(t, truth, color=TRUTH, ax=ax)
        plot.budget(t, conserved, color=CONSERVED, marker="o", line=False, ax=ax)
        ax.set_xlim(0.0, last)
        ax.locator_params(axis="x", nbins=6)
        ax.set_title(outcome.case.problem.title)
        ax.set_xlabel("time t (dimensionless)")
        _top_text(ax, present / 2, "observed", last)
        _top_text(ax, (present + last) / 2, "not observed", last)
        _end_labels(
            ax,
            [
                (mean[-1].item(), "model\n± 95 %", MODEL),
                (truth[-1].item(), "conserved\n= exact", CONSERVED),
            ],
        )
    axes[0].set_ylabel("total ∫ u dx (dimensionless)")
    _headline(figure, "The model gains and loses mass, the conserved prediction does not")
    return figure


def _profiles(outcomes: list[Outcome]) -> Figure:
    count = len(outcomes)
    figure, axes = new_figure(2, count, 4.1 * count, 5.6, heights=(2.0, 1.0))
    for top, bottom, outcome in zip(axes[:count], axes[count:], outcomes, strict=True):
        now, problem = outcome.setup.steps, outcome.case.problem
        right = problem.domain[1]
        if not isinstance(problem, Diffusion):
            right = min(right, 1.8 * problem.front(outcome.case.present).item())
        shown = int((outcome.edges[:-1] < right).sum())
        x, truth = outcome.edges[: shown + 1], outcome.truth[now, :shown]
        predictions = [
            (field.mean[now, :shown], field.variance[now, :shown], color)
            for field, color in ((outcome.before, MODEL), (outcome.after, CONSERVED))
        ]
        errors = [(mean - truth, variance, color) for mean, variance, color in predictions]
        _bands(top, x, predictions, truth)
        _bands(bottom, x, errors, torch.zeros_like(truth))
        top.set_title(f"{problem.title}, t = {outcome.case.present:g}")
        top.tick_params(labelbottom=False)
        bottom.set_xlabel("position x (dimensionless)")
        for ax in (top, bottom):
            ax.set_xlim(x[0].item(), x[-1].item())
            ax.locator_params(axis="x", nbins=6)
        _key(top)
    axes[0].set_ylabel("density u (dimensionless)")
    axes[count].set_ylabel("predicted − exact")
    _headline(figure, "Density at the present time, with 95 % bands")
    return figure


def _fronts(outcomes: list[Outcome]) -> Figure:
    figure, axes = new_figure(1, len(outcomes), 5.0 * len(outcomes), 3.9)
    for ax, outcome in zip(axes, outcomes, strict=True):
        case, level = outcome.case, outcome.level or 0.0
        exact = case.problem.crossing(case.present, level).item()
        _front_panel(ax, outcome.fronts, exact, outcome.edges.diff().max().item())
        ax.set_title(f"{case.problem.title}, t = {case.present:g}")
        ax.set_xlabel(f"position x where u falls through {level:.3g} (dimensionless)")
    axes[0].set_ylabel("density of posterior samples")
    _headline(figure, "Where samples of the prediction put the front")
    return figure


def _stored_totals(shown: Fields) -> Figure:
    figure, (ax,) = new_figure(1, 1, 8.2, 4.2)
    exact = shown.law.target[:, 0]
    index = torch.arange(1, exact.numel() + 1, dtype=torch.float64)
    residual = shown.law.residual(shown.before.mean)[:, 0]
    half = common.CONFIDENCE * common.total_deviation(shown.before, shown.law)
    conserved = shown.law.residual(shown.after.mean)[:, 0]
    ax.axhline(0.0, color=TRUTH, linewidth=1.4)
    ax.errorbar(
        as_array(index),
        as_array(residual),
        yerr=as_array(half),
        fmt="o",
        color=MODEL,
        ecolor=MODEL,
        markersize=5,
        elinewidth=1.6,
    )
    plot.budget(index, conserved, color=CONSERVED, marker="o", line=False, ax=ax)
    ax.set_xlim(0.3, index[-1].item() + 0.7)
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("function")
    ax.set_ylabel("total minus exact total (dimensionless)")
    ax.set_title(f"Total mass of every function at t = {shown.predictions.t:g}")
    _end_labels(
        ax,
        [
            (residual[-1].item(), "model\n± 95 %", MODEL),
            (0.0, "conserved\n= exact", CONSERVED),
        ],
    )
    return figure


def _stored_profile(shown: Fields) -> Figure:
    figure, (full, zoom) = new_figure(1, 2, 10.5, 4.2)
    p = shown.predictions
    span = (p.x[-1] - p.x[0]).item()
    near = (p.x - shown.front).abs() <= 0.1 * span
    for ax, take in ((full, torch.ones_like(near)), (zoom, near)):
        _bands(
            ax,
            p.x[take],
            [
                (shown.before.mean[0, take], shown.before.variance[0, take], MODEL),
                (shown.after.mean[0, take], shown.after.variance[0, take], CONSERVED),
            ],
            p.truth[0, take],
        )
        ax.set_xlim(p.x[take][0].item(), p.x[take][-1].item())
        ax.set_xlabel("position x (dimensionless)")
    full.set_ylabel("density u (dimensionless)")
    full.set_title(f"First function at t = {p.t:g}, 95 % bands")
    zoom.set_title("The same near the front")
    _key(full)
    return figure


def _stored_front(shown: Fields) -> Figure:
    figure, (ax,) = new_figure(1, 1, 7.2, 4.2)
    _front_panel(ax, shown.fronts, shown.front, shown.predictions.x.diff().max().item())
    ax.set_title("Where samples of the first function put the front")
    ax.set_xlabel(f"position x where u falls through {shown.level:.3g} (dimensionless)")
    ax.set_ylabel("density of posterior samples")
    return figure


def _headline(figure: Figure, text: str) -> None:
    """What the figure says, flush left above its panels."""
    figure.suptitle(text, x=0.005, ha="left", fontsize=13)


def _bands(
    ax: Axes, x: Tensor, predictions: list[tuple[Tensor, Tensor, str]], truth: Tensor
) -> None:
    """Predictions with bands, and the truth on top as a thin black line."""
    for mean, variance, color in predictions:
        plot.field(x, mean, variance, width=common.CONFIDENCE, color=color, ax=ax)
    plot.field(x, truth, color=TRUTH, dashed=True, ax=ax)


def _front_panel(ax: Axes, fronts: dict[str, Tensor], exact: float, spacing: float) -> None:
    """Histograms before and after around the exact position, bins no finer than the grid."""
    every = torch.cat(list(fronts.values()))
    found = every[every.isfinite()]
    low, high = torch.quantile(found, torch.tensor([0.005, 0.995], dtype=found.dtype)).tolist()
    margin = 0.08 * (high - low) + 1e-12
    limits = (min(low, exact) - margin, max(high, exact) + margin)
    bins = min(36, max(8, round((limits[1] - limits[0]) / spacing)))
    for name, color in (("before", MODEL), ("after", CONSERVED)):
        plot.front_density(fronts[name], limits=limits, bins=bins, color=color, ax=ax)
    ax.axvline(exact, color=TRUTH, linewidth=1.6, linestyle="--")
    top = ax.get_ylim()[1] * 1.22
    ax.set_ylim(0.0, top)
    ax.locator_params(axis="both", nbins=6)
    ax.set_xlim(*limits)
    ax.annotate(
        f"exact {exact:.4f}",
        (exact, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        color=TRUTH,
        fontsize=9,
    )
    for place, (name, title, color) in enumerate(
        [("before", "model", MODEL), ("after", "conserved", CONSERVED)]
    ):
        summary = common.front_summary(fronts[name], exact)
        # Written on the side of the panel that has more room.
        left = exact - limits[0] > limits[1] - exact
        ax.text(
            0.02 if left else 0.98,
            0.97 - 0.22 * place,
            f"{title}\nmean {summary['mean']:.4f}\nsd {summary['standard_deviation']:.4f}",
            transform=ax.transAxes,
            ha="left" if left else "right",
            va="top",
            color=color,
            fontsize=9,
            fontweight="bold",
        )


def _key(ax: Axes) -> None:
    """Names of the three lines, in their colours, in the corner that profiles leave free."""
    names = (("exact", TRUTH), ("model", MODEL), ("conserved", CONSERVED))
    for place, (text, color) in enumerate(names):
        ax.text(
            0.97,
            0.97 - 0.075 * place,
            text,
            transform=ax.transAxes,
            ha="right",
            va="top",
            color=color,
            fontsize=9.5,
            fontweight="bold",
        )


def _top_text(ax: Axes, x: float, text: str, last: float) -> None:
    """A muted word at the top of the panel, centred at the time ``x`` of ``last``."""
    ax.text(
        x / last, 0.99, text, transform=ax.transAxes, ha="center", va="top", color=MUTED, fontsize=8
    )


def _end_labels(ax: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Texts at the right end of lines, pushed apart to at least an eighth of the axis."""
    low, high = ax.get_ylim()
    places = sorted(((y - low) / (high - low), text, color) for y, text, color in labels)
    gap = max(0.0, 0.14 - (places[-1][0] - places[0][0])) / 2
    for shift, (place, text, color) in zip((-gap, gap), places, strict=True):
        ax.text(
            1.015,
            place + shift,
            text,
            transform=ax.transAxes,
            ha="left",
            va="center",
            color=color,
            fontsize=8.5,
            fontweight="bold",
            linespacing=1.1,
        )


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def _write(figures: dict[str, Figure], out: Path) -> dict[str, Path]:
    out.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    options: dict[str, Any] = {"metadata": {"Software": None}}  # same bytes for same numbers
    for name, figure in figures.items():
        paths[name] = out / f"{name}.png"
        figure.savefig(paths[name], **options)
    return paths
