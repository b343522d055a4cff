# SPDX-License-Identifier: Apache-2.0
r"""Condition a field on its boundary conditions with a smooth covariance.

Along every axis the field is taken as a Gaussian with mean ``u`` and a stationary covariance
``K``; the rows ``B`` of its boundary conditions are observed without noise:

.. math:: u' = u + K B^T (B K B^T)^{-1} (g - B u)

This is the update of `conserve` with boundary rows. With a product of covariances, one per axis,
conditioning on whole faces is conditioning along their normal, line by line: the tangential factors
cancel. One axis after the other then conditions on all faces, which is transfinite interpolation of
the residuals (W. J. Gordon, 1971) with the columns of ``K B^T`` as blending functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    BoundaryValues,
    Dirichlet,
    boundary_values,
)
from physcon_ext.boundary.enforcement import (
    Corner,
    Grid,
    Rule,
    axis_points,
    boundary_rules,
    enforce,
    field_axes,
)


Kernel: TypeAlias = "Literal['rbf', 'matern12', 'matern32', 'matern52']"
KERNELS = ("rbf", "matern12", "matern32", "matern52")
Length: TypeAlias = "float | Tensor | Sequence[float | Tensor] | None"

_WHO = "condition_on_boundary"
# Of the mean variance of the rows: keeps the factor of two rows that say nearly the same regular.
_JITTER = 1e-10


def covariance(
    points: Tensor, length: Tensor | float, kernel: Kernel = "rbf", *, other: Tensor | None = None
) -> Tensor:
    """Return the stationary covariance matrix of unit variance on points of one axis.

    Args:
        points: ``(n,)``.
        length: Correlation length in the unit of the points, positive.
        kernel: ``"rbf"``, or ``"matern12"``, ``"matern32"``, ``"matern52"``.
        other: ``(p,)``: points of the columns; ``points`` if not given.

    Example:
        >>> covariance(torch.tensor([0.0, 1.0]), 1.0)
        tensor([[1.0000, 0.6065],
                [0.6065, 1.0000]])
    """
    columns = points if other is None else other
    distance = (points[:, None] - columns[None, :]).abs() / length
    if kernel == "rbf":
        return torch.exp(-0.5 * distance**2)
    if kernel == "matern12":
        return torch.exp(-distance)
    if kernel == "matern32":
        r = 3**0.5 * distance
        return (1 + r) * torch.exp(-r)
    if kernel == "matern52":
        r = 5**0.5 * distance
        return (1 + r + r**2 / 3) * torch.exp(-r)
    raise ValueError(f"covariance: expected kernel to be one of {KERNELS}, got {kernel!r}")


def default_length(bc: BoundaryConditions, axis: int) -> float:
    """Return 0.15 of the domain for prescribed values, 0.05 if a derivative is prescribed.

    A correction of a derivative has the size of its residual times the length.

    Args:
        bc: The conditions.
        axis: A space axis.

    Returns:
        The length in the unit of ``bc.extent``.

    Example:
        >>> default_length(BoundaryConditions(left=Dirichlet(0.0)), 0)
        0.15
    """
    known = [condition for condition in bc.axis(axis) if condition is not None]
    values_only = all(isinstance(c, Dirichlet) or c.word == "periodic" for c in known)
    return (0.15 if values_only else 0.05) * bc.extent(axis)


def condition_on_boundary(
    u: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None = None,
    *,
    length: Length = None,
    kernel: Kernel = "rbf",
    grid: Grid = None,
    corner: Corner = "priority",
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Move a field smoothly onto its boundary conditions, then assign its end points.

    .. math:: u' = u + K B^T (B K B^T)^{-1} (g - B u) \quad \text{along every axis}

    Args:
        u: ``(batch, channels, x[, y[, z]])``.
        bc: The conditions; edges without one are left alone.
        values: Data by edge, as in `enforce`.
        length: Correlation length of ``K`` in the unit of ``bc.extent`` (of ``grid``): one for all
            axes or one per axis, numbers or tensors, which then get a gradient. By default 0.15 of
            the domain, 0.05 along axes with a Neumann, Robin or outflow condition.
        kernel: ``"rbf"``, ``"matern12"``, ``"matern32"`` or ``"matern52"``.
        grid: As in `enforce`.
        corner: As in `enforce`, for the last assignment.
        dtype: As in `enforce`.

    Returns:
        A new tensor of the shape of ``u`` with the exactness that `enforce` states.

    Raises:
        TypeError, ValueError: As `enforce`; also if ``kernel`` or ``length`` is out of range.

    Notes:
        A model has to be trained with the correction: applied to a model that was trained without
        it, it spreads the error at the boundary over its length. Where the conditions hold already
        nothing changes but rounding. Cost: one pass over the field per axis; the weights cost
        O(n) per axis in float64.

    Example:
        >>> bc = BoundaryConditions(left=Dirichlet(1.0))
        >>> condition_on_boundary(torch.zeros(1, 1, 5), bc, length=0.5)
        tensor([[[1.0000, 0.8825, 0.6065, 0.3247, 0.1353]]])
    """
    if kernel not in KERNELS:
        raise ValueError(f"{_WHO}: expected kernel to be one of {KERNELS}, got {kernel!r}")
    dims = field_axes(bc, u, _WHO)
    sizes = u.shape[u.ndim - dims :]
    lengths = axis_lengths(length, bc, dims)
    rules = boundary_rules(bc, sizes, grid, who=_WHO)
    points = axis_points(grid, dims, _WHO)
    data = boundary_values(bc, values, u, n_axes=dims, who=_WHO)
    field = u
    for axis in range(dims):
        known = [rules[edge] for edge in rules if rules[edge].axis == axis]
        if not known and not bc.is_periodic(axis):
            continue
        place = points[axis]
        if place is None:
            place = torch.linspace(0.0, bc.extent(axis), sizes[axis], dtype=torch.float64)
        place = place.to(u.device, torch.float64)
        weights = smooth_weights(known, place, lengths[axis], kernel)
        at = u.ndim - dims + axis
        residual = _residual(field, known, data, at)
        update = residual.to(u.dtype).movedim(at, -1) @ weights.to(u.dtype).mT
        field = field + update.movedim(-1, at)
    return enforce(field, bc, values, grid=grid, corner=corner, dtype=dtype)


def axis_lengths(length: Length, bc: BoundaryConditions, dims: int) -> list[float | Tensor]:
    """Return one correlation length per axis."""
    if length is None:
        return [default_length(bc, axis) if axis < bc.n_axes else 1.0 for axis in range(dims)]
    if isinstance(length, Tensor):
        given: list[float | Tensor] = [length] if length.ndim == 0 else list(length)
    else:
        given = list(length) if isinstance(length, Sequence) else [length]
    if len(given) not in (1, dims) and len(given) < bc.n_axes:
        raise ValueError(
            f"{_WHO}: expected one length or one for each of {bc.n_axes} axes, got {len(given)}"
        )
    for one in given:
        check_length(one, _WHO)
    return given * dims if len(given) == 1 else [*given, *[1.0] * (dims - len(given))]


def check_length(length: object, who: str) -> None:
    """Raise unless a correlation length is a tensor or a positive finite number."""
    if isinstance(length, Tensor):
        return
    if isinstance(length, bool) or not isinstance(length, (int, float)):
        raise TypeError(f"{who}: expected length to be a number, got {type(length).__name__}")
    if not 0.0 < length < math.inf:
        raise ValueError(f"{who}: expected length to be positive and finite, got {length}")


def supports(rules: Sequence[Rule]) -> list[tuple[list[int], tuple[float, ...]]]:
    """Return indices and weights of the rows of one axis.

    Without rules the axis is periodic, and the row is the difference of both ends.
    """
    return [(rule.indices, rule.weights) for rule in rules] or [([0, -1], (1.0, -1.0))]


def smooth_weights(
    rules: Sequence[Rule], points: Tensor, length: Tensor | float, kernel: Kernel = "rbf"
) -> Tensor:
    """Return ``K B^T (B K B^T)^{-1}``, ``(n, r)`` float64, differentiable in the length."""
    if isinstance(length, Tensor):
        length = length.to(device=points.device, dtype=torch.float64)
    rows = [
        (points.new_tensor(index, dtype=torch.int64) % len(points), points.new_tensor(weights))
        for index, weights in supports(rules)
    ]
    columns = [covariance(points, length, kernel, other=points[index]) @ row for index, row in rows]
    cross = torch.stack(columns, -1)
    system = torch.stack([row @ cross[index] for index, row in rows])
    eye = torch.eye(len(rows), dtype=cross.dtype, device=cross.device)
    system = system + _JITTER * system.diagonal().mean() * eye
    return torch.linalg.solve_ex(system, cross.mT, check_errors=False).result.mT


def _residual(u: Tensor, rules: Sequence[Rule], data: dict[str, Tensor], at: int) -> Tensor:
    """Return ``g - B u`` with the rows on the axis of the points, in float64."""
    if not rules:
        return (u.select(at, -1).double() - u.select(at, 0).double()).unsqueeze(at)
    found = []
    for rule in rules:
        stated = sum(
            w * u.select(at, j).double() for w, j in zip(rule.weights, rule.indices, strict=True)
        )
        found.append(rule.sign * data[rule.edge].double() - stated)
    return torch.stack(found, at)
