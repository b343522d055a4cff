# SPDX-License-Identifier: Apache-2.0
"""What both parts of the demo share: scores, versions, one thread, the columns of the table."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

import physcon_ext as px


CONFIDENCE = 1.96  # half width, in standard deviations, of a band that holds 95 % of a Gaussian


@dataclass(frozen=True)
class Column:
    """One score of the table: its key in a row, heading, format and which way is better."""

    key: str
    title: str
    format: str
    better: str  # "zero", "low", "high" or "" where no comparison is made


SCORES = (
    Column("conservation_error", "conservation error", "+.3e", "zero"),
    Column("mse", "MSE", ".3e", "low"),
    Column("log_likelihood", "log-likelihood", ".3f", "high"),
    Column("crps", "CRPS", ".3e", "low"),
)


def scores(
    mean: Tensor, variance: Tensor, truth: Tensor, law: px.LinearConstraint
) -> dict[str, float]:
    """Scores of one prediction per item of the batch, averaged over the batch.

    Args:
        mean: Predicted means, ``(*batch, n)``.
        variance: Predicted marginal variances, ``(*batch, n)``, above 0.
        truth: True values, ``(*batch, n)``.
        law: The law of one row against which the signed error is taken.

    Returns:
        ``conservation_error`` (signed, averaged), ``conservation_error_largest`` (of the absolute
        values), ``mse``, ``log_likelihood`` (per point) and ``crps``.
    """
    error = px.metrics.conservation_error(mean, law, reduce=False)
    return {
        "conservation_error": error.mean().item(),
        "conservation_error_largest": error.abs().max().item(),
        "mse": px.metrics.mse(mean, truth).item(),
        "log_likelihood": px.metrics.log_likelihood(mean, variance, truth).item(),
        "crps": px.metrics.crps_gaussian(mean, variance, truth).item(),
    }


def total_deviation(field: px.GaussianField, law: px.LinearConstraint) -> Tensor:
    """Standard deviation of the total of a field, ``(*batch)``, for a law of one row."""
    row = law.rows
    variance = (field.structure.cross(row) * row).sum(-1)[..., 0]
    return variance.clamp_min(0.0).sqrt()  # rounding may leave -1e-20 where the total is certain


def front_positions(
    field: px.GaussianField, x: Tensor, level: float, samples: int, generator: torch.Generator
) -> Tensor:
    """Where samples of a field fall through ``level`` for the last time, NaN where they do not.

    Args:
        field: One field over ``n`` cells or points, without batch axes.
        x: Centres of the cells, or points, ``(n,)``.
        level: Value that defines the front.
        samples: Number of samples of the joint distribution.
        generator: Draws them.

    Returns:
        Positions, ``(samples,)``, float64, interpolated linearly between neighbours.
    """
    profiles = field.sample(samples, generator=generator)
    return px.metrics.shock_position(profiles, x, level=level)


def front_summary(positions: Tensor, truth: float) -> dict[str, float]:
    """Mean, standard deviation and error of front positions, and the share of samples with one."""
    found = positions[positions.isfinite()]
    return {
        "truth": truth,
        "mean": found.mean().item(),
        "standard_deviation": found.std().item(),
        "error": found.mean().item() - truth,
        "share_with_front": found.numel() / positions.numel(),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that sums have one order, and restore the count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def versions() -> dict[str, str]:
    """Versions of everything that has a part in the numbers."""
    found = {"python": platform.python_version(), "physcon-ext": px.__version__}
    for name in ("torch", "numpy", "gpytorch", "matplotlib"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def described(columns: tuple[Column, ...]) -> list[dict[str, Any]]:
    """Columns as plain dictionaries."""
    return [vars(column) for column in columns]
