# SPDX-License-Identifier: Apache-2.0
"""Boundary conditions of a gridded field as rows of a linear constraint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    Outflow,
    Value,
    axis_of,
    by_edge,
    check_conditions,
    is_upper,
)
from physcon_ext.boundary.enforcement import Rule, boundary_rules
from physcon_ext.boundary.smooth import supports
from physcon_ext.checks import broadcast_shape, check_dtype, common_shape
from physcon_ext.constraints.linear import LinearConstraint


_WHO = "boundary"


def boundary(
    x: Tensor | Sequence[Tensor],
    bc: BoundaryConditions,
    values: Mapping[str, float | Tensor] | None = None,
    *,
    noise_variance: Tensor | float = 0.0,
    validate: bool = True,
) -> LinearConstraint:
    r"""State boundary conditions as rows: one for every point of every edge.

    .. math:: a\,u_{edge} + b \sum_j s_j u^{(j)} = g, \qquad u_0 - u_{N-1} = 0 \text{ (periodic)}

    with ``u^(j)`` the value ``j`` points inwards and ``s`` the outward one-sided difference of
    the order of the condition, on the given points.

    Args:
        x: Points of an axis, ascending, ``(n,)``, or one such tensor per axis. The field is
            the flattened grid, the last axis fastest.
        bc: The conditions, at most on these axes. The points are used, not ``bc.extent``.
        values: Data by edge, numbers or tensors that broadcast to ``(*batch, *edge)``, ``edge``
            being the sizes of the other axes: one value per sample of a 1-D field has shape
            ``(batch,)``. Data in the conditions themselves otherwise.
        noise_variance: As in `LinearConstraint`, per row; rows in the order of ``bc.edges``.
        validate: As in `LinearConstraint`.

    Returns:
        Rows for `conserve`, named after the edges. A point shared by two edges has a row for each;
        equal data make them redundant, which `conserve` accepts, contradictory data are refused
        there.

    Raises:
        TypeError: If dtypes differ or are not supported.
        ValueError: If there is no condition, a value is missing, or shapes do not fit.

    Notes:
        Conditioning a field of independent cells on these rows moves the cells of the rows alone;
        a smooth covariance spreads the change (`boundary.condition_on_boundary`).

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Dirichlet, Neumann
        >>> bc = BoundaryConditions(left=Dirichlet(1.0), right=Neumann(0.0, order=1))
        >>> law = boundary(torch.linspace(0, 1, 3), bc)
        >>> law.rows
        tensor([[ 1.,  0.,  0.],
                [ 0., -2.,  2.]])
        >>> law.names
        ('left', 'right')
    """
    check_conditions(bc, _WHO)
    axes = [x] if isinstance(x, Tensor) else list(x)
    for k, points in enumerate(axes):
        check_dtype(_WHO, f"x[{k}]", points, like=axes[0], like_name="x[0]")
        if points.ndim != 1:
            raise ValueError(
                f"{_WHO}: expected the points of axis {k} to have shape (n,), "
                f"got {tuple(points.shape)}"
            )
    if not bc.edges:
        raise ValueError(f"{_WHO}: expected at least one edge with a condition, got none")
    sizes = [len(points) for points in axes]
    rules = boundary_rules(bc, sizes, axes, who=_WHO)
    given = by_edge(bc, values or {}, _WHO)
    rows, targets, names = [], [], []
    for edge in bc.edges:
        rule = rules.get(edge)
        if rule is None and is_upper(edge):
            continue  # the periodic row of this axis is that of the low edge
        axis = axis_of(edge)
        rows.append(_face_rows([rule] if rule else [], sizes, axis, axes[0]))
        shape = sizes[:axis] + sizes[axis + 1 :]
        zero = rule is None or isinstance(bc[edge], Outflow)
        value = 0.0 if zero else given.get(edge, getattr(bc[edge], "value", None))
        targets.append(_target(edge, value, shape, axes[0]) * (rule.sign if rule else 1.0))
        count = math.prod(shape)
        names += [edge] if count == 1 else [f"{edge}[{k}]" for k in range(count)]
    batch = broadcast_shape(*(target.shape[:-1] for target in targets))
    target = torch.cat([t.expand(*batch, t.shape[-1]) for t in targets], -1)
    return LinearConstraint(torch.cat(rows), target, noise_variance, names=names, validate=validate)


def _face_rows(rules: Sequence[Rule], sizes: Sequence[int], axis: int, like: Tensor) -> Tensor:
    """Return one row per point of an edge, ``(points, cells)``."""
    ((index, weights),) = supports(rules)
    count = math.prod(sizes)
    cells = torch.arange(count, device=like.device).reshape(*sizes).movedim(axis, -1)
    cells = cells.reshape(-1, sizes[axis])[:, index]
    return like.new_zeros(len(cells), count).scatter(
        1, cells, like.new_tensor(weights).expand_as(cells)
    )


def _target(edge: str, value: Value | None, shape: Sequence[int], like: Tensor) -> Tensor:
    """Return the data of an edge, ``(*batch, points)``."""
    if value is None or callable(value):
        kind = "none" if value is None else "a function of time"
        raise ValueError(f"{_WHO}: expected a value for edge '{edge}', got {kind}; give values")
    if isinstance(value, bool) or not isinstance(value, (Tensor, int, float)):
        raise TypeError(
            f"{_WHO}: expected the value of edge '{edge}' to be a number or a torch.Tensor, "
            f"got {type(value).__name__}"
        )
    if not isinstance(value, Tensor):
        value = torch.full((), float(value), dtype=like.dtype, device=like.device)
    check_dtype(_WHO, f"the value of edge '{edge}'", value, like=like, like_name="x")
    whole = common_shape(value.shape, shape)
    if whole is None or list(whole[len(whole) - len(shape) :]) != list(shape):
        raise ValueError(
            f"{_WHO}: expected the value of edge '{edge}' to broadcast to (*batch, *edge) with "
            f"edge {tuple(shape)}, got shape {tuple(value.shape)}"
        )
    return value.expand(whole).reshape(*whole[: len(whole) - len(shape)], math.prod(shape))
