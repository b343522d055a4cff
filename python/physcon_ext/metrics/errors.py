# SPDX-License-Identifier: Apache-2.0
"""Errors of a mean: conservation, squared error."""

from typing import Literal, get_args

import torch
from torch import Tensor

from physcon_ext.constraints import LinearConstraint
from physcon_ext.metrics.common import check_one_of, checked, finish, mean_over_points


Kind = Literal["signed", "abs", "squared", "relative"]


def conservation_error(
    mean: Tensor, law: LinearConstraint, *, kind: Kind = "signed", reduce: bool = True
) -> Tensor:
    r"""Conservation error :math:`CE = G m - b`.

    Args:
        mean: ``(..., n)``.
        law: The constraint, ``r`` rows.
        kind: ``"signed"`` (its mean over items may cancel), ``"abs"``, ``"squared"``, or
            ``"relative"``, :math:`|CE| / \max(|b|, \sum |G||m|)`.
        reduce: Return the mean over items and rows; else ``(..., r)``.

    Returns:
        float64, whatever the input.
    """
    check_one_of("conservation_error", "kind", kind, get_args(Kind))
    error = law.residual(mean)
    if kind == "abs":
        error = error.abs()
    elif kind == "squared":
        error = error.square()
    elif kind == "relative":
        b = law.target.double().abs()
        scale = torch.maximum(b, law.magnitude(mean) - b)
        error = torch.where(scale > 0, error.abs() / scale, 0.0)
    return error.mean() if reduce else error


def mse(
    mean: Tensor, truth: Tensor, *, weights: Tensor | None = None, reduce: bool = True
) -> Tensor:
    """Mean squared error over points (weighted by cell volumes if given), then over items."""
    m, u = checked("mse", mean=mean, truth=truth)
    return finish(mean_over_points((m - u).square(), weights), reduce, mean)


def rmse(
    mean: Tensor, truth: Tensor, *, weights: Tensor | None = None, reduce: bool = True
) -> Tensor:
    """Root of the mean squared error of every item, then the mean over items (PDEBench)."""
    m, u = checked("rmse", mean=mean, truth=truth)
    return finish(mean_over_points((m - u).square(), weights).sqrt(), reduce, mean)
