# SPDX-License-Identifier: Apache-2.0
"""Stored predictions of any model: read, conserve in every documented way, and score."""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import physcon_ext as px
from physcon_ext.demo import common
from physcon_ext.demo.common import Column
from physcon_ext.pde import Stefan
from physcon_ext.plot._figure import require_matplotlib


VARIANCE_FLOOR = 1e-8  # of the published scores; how often it acts is counted and reported
SAMPLES = 2000  # in the histogram of front positions

COLUMNS = (
    Column("conservation_error", "conservation error", "+.4e", "zero"),
    Column("log_likelihood", "log-likelihood", ".4f", "high"),
    Column("mse", "MSE", ".4e", "low"),
    Column("crps", "CRPS", ".4e", "low"),
    Column("coverage", "coverage", ".3f", ""),
    Column("pearson", "Pearson", ".3f", ""),
    Column("spearman", "Spearman", ".3f", ""),
)

_REQUIRED = {"x": 1, "t": 0, "mean": 3, "std": 3, "truth": 2, "mass": 1}
_AXES = {"x": "[n]", "t": "[]", "mean": "[function, draw, n]", "std": "[function, draw, n]"}
_AXES |= {"truth": "[function, n]", "mass": "[function]", "u_star": "[]"}


@dataclass(frozen=True)
class Predictions:
    """Predictions of ``F`` functions by ``S`` latent draws each at ``n`` points of one time.

    Attributes:
        path: The file they came from.
        x: Points, ``(n,)``, strictly increasing.
        t: Time, dimensionless.
        mean: ``(F, S, n)``.
        variance: Square of the stored standard deviation, ``(F, S, n)``.
        truth: ``(F, n)``.
        mass: Exact total of every function, ``(F,)``.
        u_star: Height of the jump of a Stefan problem, or None for anything else.
    """

    path: Path
    x: Tensor
    t: float
    mean: Tensor
    variance: Tensor
    truth: Tensor
    mass: Tensor
    u_star: float | None


@dataclass(frozen=True)
class Fields:
    """The model and the conserved prediction, for the figures.

    Attributes:
        predictions: What was read.
        law: The total of every function, trapezoid rule.
        before: The draws merged by moments, batch ``(F,)``.
        after: The conserved draws merged by moments, batch ``(F,)``.
        level: Value whose last crossing is called the front.
        front: True position of the front of the first function.
        fronts: Its position in samples "before" and "after".
    """

    predictions: Predictions
    law: px.LinearConstraint
    before: px.GaussianField
    after: px.GaussianField
    level: float
    front: float
    fronts: dict[str, Tensor]


def load(path: Path) -> Predictions:
    """Read and check an ``.npz`` file of predictions.

    Args:
        path: File with the arrays ``x [n]``, ``t []``, ``mean`` and ``std``
            ``[function, draw, n]``, ``truth [function, n]`` and ``mass [function]``; optionally
            ``u_star []``. Other arrays, such as the context of the model, are not looked at. Any
            real number type will do; all is converted to float64. No pickled objects are accepted.

    Returns:
        The checked predictions.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or a key is missing, has the wrong shape or type, is not
            finite, is not sorted (``x``), or is negative (``std``); file and key are named.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an .npz file of predictions, found none")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: expected an .npz file, got something that is no zip archive")
    arrays = _read(path)
    missing = sorted(set(_REQUIRED) - set(arrays))
    if missing:
        raise ValueError(
            f"{path}: expected the keys {', '.join(_REQUIRED)}, got no {' and no '.join(missing)}"
        )
    wanted = {**_REQUIRED, **({"u_star": 0} if "u_star" in arrays else {})}
    clean = {key: _clean(path, key, arrays[key], ndim) for key, ndim in wanted.items()}
    functions, draws, n = clean["mean"].shape
    shapes = {"x": (n,), "std": (functions, draws, n), "truth": (functions, n)}
    for key, shape in {**shapes, "mass": (functions,)}.items():
        if clean[key].shape != shape:
            raise ValueError(
                f"{path}: expected {key} to have shape {shape} to match mean "
                f"{tuple(clean['mean'].shape)}, got {tuple(clean[key].shape)}"
            )
    if functions == 0 or draws == 0 or n < 2:
        raise ValueError(
            f"{path}: expected mean to have at least 1 function, 1 draw and 2 points, "
            f"got shape {(functions, draws, n)}"
        )
    _check_values(path, clean)
    u_star = clean["u_star"].item() if "u_star" in clean else None
    return Predictions(
        path=path,
        x=clean["x"],
        t=clean["t"].item(),
        mean=clean["mean"],
        variance=clean["std"].square(),
        truth=clean["truth"],
        mass=clean["mass"],
        u_star=u_star,
    )


def run(path: Path, out: Path, seed: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Body of :func:`physcon_ext.demo.run_predictions`."""
    require_matplotlib()
    from physcon_ext.demo import figures

    if seed < 0:
        raise ValueError(f"run_predictions: expected seed to be >= 0, got {seed}")
    start = time.perf_counter()
    progress(f"reading {path}")
    predictions = load(path)
    functions, draws, n = predictions.mean.shape
    with common.one_thread():
        progress(f"conserving {functions} x {draws} predictions at {n} points")
        rows, clamped = score_all(predictions)
        shown = fields(predictions, seed)
        progress("drawing figures")
        paths = figures.draw_predictions(shown, out)
    return {
        "kind": "predictions",
        "title": f"{path.name}: {functions} functions, {draws} draws, {n} points",
        "columns": common.described(COLUMNS),
        "rows": rows,
        "notes": notes(predictions, clamped),
        "fronts": {
            "level": shown.level,
            **{k: common.front_summary(v, shown.front) for k, v in shown.fronts.items()},
        },
        "figures": {name: str(file) for name, file in paths.items()},
        "seed": seed,
        "seconds": time.perf_counter() - start,
        "versions": common.versions(),
    }


def score_all(predictions: Predictions) -> tuple[list[dict[str, Any]], int]:
    """Rows of the table, and how many marginal variances were raised to the floor.

    Args:
        predictions: From :func:`load`.

    Returns:
        One row per method, in this order: the model; HardC (least squares, variance unchanged);
        the update per draw, then merged by moments; once on the merged diagonal; once on the
        merged diagonal plus the spread between draws; per draw with the quadrature error of a jump
        as noise (only with ``u_star``); per draw with the quadrature of the truth as the total.
        Averages over functions; the error is always taken against the exact total.
    """
    p = predictions
    draws = px.GaussianField(p.mean, p.variance)
    merged = px.mixture(draws, dim=1)
    law = law_of_total(p, p.mass)
    per_draw = law_of_total(p, p.mass[:, None])
    quadrature = (p.mass + law.residual(p.truth)[:, 0]).to(p.mass.dtype)

    hard = px.GaussianField(px.project(p.mean, per_draw), p.variance)
    independent = px.GaussianField(merged.mean, merged.variance)
    fields = {
        "model, mixture of draws": merged,
        "HardC": px.mixture(hard, dim=1),
        "conserved, per draw": px.mixture(px.conserve(draws, per_draw), dim=1),
        "conserved once, diagonal": px.conserve(independent, law),
        "conserved once, diagonal + between draws": px.conserve(merged, law),
    }
    if p.u_star is not None:
        noise = jump_deviation(p) ** 2
        soft = law_of_total(p, p.mass[:, None], noise)
        fields[f"per draw, quadrature noise {noise**0.5:.2e}"] = px.mixture(
            px.conserve(draws, soft), dim=1
        )
    known = law_of_total(p, quadrature[:, None])
    fields["per draw, total = trapezoid of the truth"] = px.mixture(
        px.conserve(draws, known), dim=1
    )
    rows = []
    clamped = 0
    for method, field in fields.items():
        clamped += int((field.variance < VARIANCE_FLOOR).sum())
        rows.append({"method": method, **_score(field, p, law)})
    return rows, clamped


def law_of_total(
    predictions: Predictions, total: Tensor, noise_variance: float = 0.0
) -> px.LinearConstraint:
    """The trapezoid total of every item, in the published setting of point values."""
    return px.constraints.total(
        predictions.x, total, rule="trapezoid", noise_variance=noise_variance
    )


def jump_deviation(predictions: Predictions) -> float:
    r"""Standard deviation of the trapezoid rule at a jump anywhere in an interval.

    :math:`J h / \sqrt{12}` with the height ``J = u_star`` and the mean spacing ``h``.
    """
    x = predictions.x
    spacing = (x[-1] - x[0]).item() / (x.numel() - 1)
    return (predictions.u_star or 0.0) * spacing / math.sqrt(12.0)


def fields(predictions: Predictions, seed: int) -> Fields:
    """What the figures show: the model and the update per draw, and samples of the front."""
    p = predictions
    draws = px.GaussianField(p.mean, p.variance)
    before = px.mixture(draws, dim=1)
    after = px.mixture(px.conserve(draws, law_of_total(p, p.mass[:, None])), dim=1)
    level, front = front_of_truth(p)
    fronts = {}
    for name, field in (("before", before), ("after", after)):
        noise = torch.Generator().manual_seed(seed + 1)
        first = px.GaussianField.from_structure(field.mean[0], field.structure.select(1, 0))
        fronts[name] = common.front_positions(first, p.x, level, SAMPLES, noise)
    return Fields(p, law_of_total(p, p.mass), before, after, level, front, fronts)


def front_of_truth(predictions: Predictions) -> tuple[float, float]:
    """Level and position of the front of the first function.

    With ``u_star`` the level is half the jump and the position is exact, provided that the file
    holds a Stefan solution; else the level is the middle of the steepest fall of the truth, and the
    position is where linear interpolation of the truth crosses it.
    """
    p = predictions
    truth = p.truth[0]
    if p.u_star is not None and 0.0 < p.u_star < 1.0:
        problem = Stefan(u_star=p.u_star)
        if 0.0 < p.t <= problem.last_time and p.x[0] >= 0.0 and p.x[-1] <= 1.0:
            if torch.allclose(problem.values(p.t, p.x), truth, atol=1e-5):
                return p.u_star / 2, problem.front(p.t).item()
    k = int(truth.diff().argmin())
    level = ((truth[k] + truth[k + 1]) / 2).item()
    return level, px.metrics.shock_position(truth, p.x, level=level).item()


def notes(predictions: Predictions, clamped: int) -> list[str]:
    """Sentences under the table."""
    lines = [
        "float64, trapezoid rule, averages over functions",
        "conservation error: predicted minus exact total; coverage of 95 % intervals",
        "Pearson: variance and squared error; Spearman: deviation and absolute error",
        f"variances below {VARIANCE_FLOOR:g} raised to it in the scores: {clamped}",
    ]
    if predictions.u_star is None:
        lines.append("no u_star in the file: the row with quadrature noise is left out")
    return lines


def _score(
    field: px.GaussianField, predictions: Predictions, law: px.LinearConstraint
) -> dict[str, float]:
    mean, truth = field.mean, predictions.truth
    variance = field.variance.clamp_min(VARIANCE_FLOOR)
    correlation = px.metrics.variance_error_correlation
    return {
        **common.scores(mean, variance, truth, law),
        "coverage": px.metrics.coverage(mean, variance, truth).item(),
        "pearson": correlation(mean, variance, truth, method="pearson").item(),
        "spearman": correlation(mean, variance, truth, method="spearman").item(),
    }


def _read(path: Path) -> dict[str, Any]:
    cause: Exception
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = [key for key in file.files if key in _REQUIRED or key == "u_star"]
            return {key: file[key] for key in wanted}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        cause = error
    raise ValueError(f"{path}: expected an .npz file without pickled objects, got {cause}")


def _clean(path: Path, key: str, array: Any, ndim: int) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected {key} to hold real numbers, got dtype {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(
            f"{path}: expected {key} to have the axes {_AXES.get(key, '[function]')}, "
            f"got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{path}: expected {key} to be finite, got {array[index]} at index {index}"
        )
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _check_values(path: Path, clean: dict[str, Tensor]) -> None:
    steps = clean["x"].diff()
    if not bool((steps > 0).all()):
        k = int((steps <= 0).nonzero()[0, 0])
        raise ValueError(
            f"{path}: expected x to be strictly increasing, "
            f"got {clean['x'][k].item()} before {clean['x'][k + 1].item()} at index {k}"
        )
    negative = (clean["std"] < 0).nonzero()
    if negative.numel():
        index = tuple(negative[0].tolist())
        raise ValueError(
            f"{path}: expected std to be >= 0, got {clean['std'][index].item()} at index {index}"
        )
