# SPDX-License-Identifier: Apache-2.0
"""Assign the end points of a field so that its boundary conditions hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from physcon_ext.boundary.conditions import (
    EDGES,
    BoundaryConditions,
    BoundaryValues,
    Condition,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
    axis_of,
    boundary_values,
    check_conditions,
    edge_name,
    is_upper,
)
from physcon_ext.boundary.stencils import end_row, uniform_row
from physcon_ext.ops.assign_faces import assign_faces


Corner: TypeAlias = "str | Sequence[str]"
Grid: TypeAlias = "Tensor | Sequence[Tensor | None] | None"

_WHO = "enforce"


@dataclass(frozen=True)
class Rule:
    r"""How an edge states its condition on a grid: :math:`\sum_j r_j u^{(j)} = \sigma g`.

    Attributes:
        edge: Name of the edge.
        weights: ``r``; entry ``j`` weights the value ``j`` points inwards.
        sign: ``sigma``: -1 if the data are given along the axis at a low end, else 1.
        dirichlet: Whether the row is that of a prescribed value.
    """

    edge: str
    weights: tuple[float, ...]
    sign: float
    dirichlet: bool

    @property
    def axis(self) -> int:
        """The space axis."""
        return axis_of(self.edge)

    @property
    def upper(self) -> bool:
        """Whether the edge is at the last index."""
        return is_upper(self.edge)

    @property
    def row(self) -> Tensor:
        """``r`` as a tensor, ``(q + 1,)`` float64."""
        return torch.tensor(self.weights, dtype=torch.float64)

    @property
    def indices(self) -> list[int]:
        """Where the weights apply along the axis; negative ones count from the end."""
        return [-1 - j if self.upper else j for j in range(len(self.weights))]

    def stencil(self) -> list[float]:
        """Weights of the points inwards that, with ``sigma g / r_0``, make the end value."""
        return [0.0, *(-w / self.weights[0] for w in self.weights[1:])]


def boundary_rules(
    bc: BoundaryConditions, sizes: Sequence[int], grid: Grid = None, *, who: str = "boundary_rules"
) -> dict[str, Rule]:
    """State the conditions of all edges but the periodic ones on a grid.

    Args:
        bc: The conditions.
        sizes: Points per axis, both ends included.
        grid: Points along the axes, ascending, ``(n,)`` each; None for an axis with equal spacing
            over ``bc.extent``. A single tensor stands for the first axis.
        who: Name for messages.

    Returns:
        The rule of every edge that has one, in the order of ``bc.edges``.

    Raises:
        ValueError: If a stencil does not fit the grid or a Robin condition does not determine the
            end value.

    Example:
        >>> bc = BoundaryConditions(left=Neumann(order=1), extent=2.0)
        >>> boundary_rules(bc, [5])["left"].row
        tensor([ 2., -2.], dtype=torch.float64)
    """
    points = axis_points(grid, len(sizes), who)
    rules: dict[str, Rule] = {}
    for edge in bc.edges:
        condition, axis = bc[edge], axis_of(edge)
        if axis >= len(sizes):
            raise ValueError(
                f"{who}: expected a field with at least {axis + 1} space axes for edge '{edge}', "
                f"got {len(sizes)}"
            )
        own = points[axis]
        if own is not None and own.shape != (sizes[axis],):
            raise ValueError(
                f"{who}: expected {sizes[axis]} grid points along the axis of edge '{edge}', "
                f"got shape {tuple(own.shape)}"
            )
        if sizes[axis] < 2:
            raise ValueError(
                f"{who}: expected at least 2 points along the axis of edge '{edge}', "
                f"got {sizes[axis]}"
            )
        if condition is None or isinstance(condition, Periodic):
            continue
        order = _order(condition)
        opposite = bc.axis(axis)[0 if is_upper(edge) else 1]
        room = sizes[axis] - (1 if opposite is None else 2)
        if order > room:
            raise ValueError(
                f"{who}: expected at least {order + sizes[axis] - room} points along the axis of "
                f"edge '{edge}' for a stencil of order {order}, got {sizes[axis]}"
            )
        if order == 0:
            slope: tuple[float, ...] = (0.0,)
        elif own is None:
            slope = uniform_row(order, bc.extent(axis) / (sizes[axis] - 1))
        else:
            slope = end_row(own, order, upper=is_upper(edge))
        rules[edge] = _rule(edge, condition, slope, who)
    return rules


def enforce(
    u: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None = None,
    *,
    grid: Grid = None,
    corner: Corner = "priority",
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Return the field with its end points assigned so that the conditions hold.

    .. math:: u^{(0)} = \Bigl(g - b \sum_{j \ge 1} s_j u^{(j)}\Bigr) \Big/ (a + b s_0)

    with ``u^(j)`` the value ``j`` points inwards and ``s`` the outward difference of the declared
    order; Dirichlet is ``b = 0`` and Neumann ``a = 0``. Periodic ends get their weighted mean.

    Args:
        u: ``(batch, channels, x[, y[, z]])``, float16, bfloat16, float32 or float64.
        bc: The conditions. Further axes without conditions, such as time, follow the space axes.
        values: Data by edge, see `boundary_values`; those of ``bc`` otherwise.
        grid: Points along the axes; equal spacing over ``bc.extent`` if not given.
        corner: What holds where faces meet. ``"priority"``: faces are assigned one after the
            other, periodic ones first, then Neumann, Robin and outflow, then Dirichlet, and
            within each kind the x faces before the y faces before the z faces; the last one wins.
            A list of edges: assigned in that order. ``"average"``: the mean of what the faces
            say. ``"solve"``: the least-squares solution of their conditions. For the latter two
            Dirichlet faces win over others.
        dtype: Type of the result. If not given that of ``u``, but float32 for float16 and
            bfloat16 fields with Neumann or Robin conditions, which these types cannot express.

    Returns:
        A new tensor of the shape of ``u``.

    Raises:
        TypeError: If ``u`` is not a floating-point tensor.
        ValueError: If values are missing or shapes, stencils or corner rules do not fit.

    Notes:
        Dirichlet ends hold the bits of the data, periodic ends the same bits. The residual of a
        Neumann or Robin condition, evaluated in float64 on the result with the same stencil, is
        at most ``(|a| + |b| s_0) eps max|u| + eps |g|``. Data that disagree at a corner leave one
        condition unmet there: `corner_mismatch`. Nothing is modified in place.

    Example:
        >>> bc = BoundaryConditions(left=Dirichlet(1.0), right=Neumann(0.0, order=1))
        >>> enforce(torch.tensor([[[5.0, 2.0, 3.0, 7.0]]]), bc)
        tensor([[[1., 2., 3., 3.]]])
    """
    task = _task(u, bc, values, grid, dtype)
    if isinstance(corner, str) and corner in ("average", "solve"):
        return _merged(task, corner)
    return _assign(task, task.u, _sequence(bc, corner))


def assign_rules(
    u: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None,
    rules: dict[str, Rule],
    *,
    order: Sequence[str],
) -> Tensor:
    """Assign faces in a given order by given rules, periodic ones by their mean."""
    dims = field_axes(bc, u, _WHO)
    data = boundary_values(bc, values, u, n_axes=dims, who=_WHO)
    return _assign(_Task(u, bc, rules, data, dims), u, order)


def one_pass(
    u: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None,
    *,
    grid: Grid,
    corner: Corner,
) -> tuple[list[Tensor | None], list[Tensor | None]] | None:
    """Return what `ops.assign_faces` takes to enforce all conditions at once, if that is possible.

    It is not for periodic axes, for corners that are averaged or solved, and for orders of faces
    that return to an earlier axis. Only dtype, device and shape of ``u`` are used.
    """
    if isinstance(corner, str) and corner in ("average", "solve"):
        return None
    order = _sequence(bc, corner)
    if not _in_one_pass(u, bc, order):
        return None
    return _faces(_task(u, bc, values, grid, None), order)


def one_pass_by_rules(
    u: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None,
    rules: dict[str, Rule],
    *,
    order: Sequence[str],
) -> tuple[list[Tensor | None], list[Tensor | None]] | None:
    """Return what `ops.assign_faces` takes for `assign_rules`, as `one_pass` does."""
    if not _in_one_pass(u, bc, order):
        return None
    dims = field_axes(bc, u, _WHO)
    data = boundary_values(bc, values, u, n_axes=dims, who=_WHO)
    return _faces(_Task(u, bc, rules, data, dims), order)


def _in_one_pass(u: Tensor, bc: BoundaryConditions, order: Sequence[str]) -> bool:
    places = [axis_of(edge) for edge in order]
    return (
        u.dtype in (torch.float32, torch.float64)
        and places == sorted(places)
        and not any(bc.is_periodic(axis) for axis in places)
    )


def corner_mismatch(
    u: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None = None,
    *,
    grid: Grid = None,
) -> dict[tuple[str, str], Tensor]:
    """Tell by how much the conditions of faces that meet disagree.

    Args:
        u: As in `enforce`.
        bc: As in `enforce`.
        values: As in `enforce`.
        grid: As in `enforce`.

    Returns:
        For every pair of edges with conditions that meet, the largest difference between what
        each of them assigns to their common points, in the unit of ``u``, a tensor without axes.

    Raises:
        TypeError, ValueError: As `enforce`.

    Example:
        >>> bc = BoundaryConditions(left=Dirichlet(1.0), top=Dirichlet(3.0))
        >>> corner_mismatch(torch.zeros(1, 1, 4, 4), bc)
        {('left', 'top'): tensor(2.)}
    """
    task = _task(u, bc, values, grid, None)
    order = _sequence(bc, "priority")
    found = {}
    for first, second in itertools.combinations(bc.edges, 2):
        if axis_of(first) == axis_of(second):
            continue
        rest = [edge for edge in order if edge not in (first, second)]
        one = _assign(task, task.u, [*rest, first, second])
        other = _assign(task, task.u, [*rest, second, first])
        both = (one - other).abs()
        for edge in sorted((first, second), key=axis_of, reverse=True):
            both = both.select(task.at(axis_of(edge)), -1 if is_upper(edge) else 0)
        found[first, second] = both.max()
    return found


@dataclass(frozen=True)
class _Task:
    u: Tensor
    bc: BoundaryConditions
    rules: dict[str, Rule]
    data: dict[str, Tensor]
    dims: int

    def at(self, axis: int) -> int:
        return self.u.ndim - self.dims + axis


def field_axes(bc: BoundaryConditions, u: Tensor, who: str, n_axes: int | None = None) -> int:
    """Return the number of trailing axes: all but batch and channels unless it is given."""
    check_conditions(bc, who)
    if not isinstance(u, Tensor):
        raise TypeError(f"{who}: expected a torch.Tensor, got {type(u).__name__}")
    if not u.is_floating_point():
        raise TypeError(f"{who}: expected a floating-point tensor, got {u.dtype}")
    dims = u.ndim - 2 if n_axes is None else n_axes
    if dims < max(bc.n_axes, 1):
        raise ValueError(
            f"{who}: expected a field (batch, channels, *space) with at least "
            f"{max(bc.n_axes, 1)} space axes for {bc}, got shape {tuple(u.shape)}; u.unsqueeze(1) "
            f"has a channel axis"
        )
    return dims


def _task(
    u: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None,
    grid: Grid,
    dtype: torch.dtype | None,
) -> _Task:
    dims = field_axes(bc, u, _WHO)
    rules = boundary_rules(bc, u.shape[u.ndim - dims :], grid, who=_WHO)
    differences = any(not rule.dirichlet for rule in rules.values())
    if dtype is None and differences and u.dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32
    field = u if dtype is None else u.to(dtype)
    data = boundary_values(bc, values, field, n_axes=dims, who=_WHO)
    return _Task(field, bc, rules, data, dims)


def _assign(task: _Task, u: Tensor, order: Sequence[str]) -> Tensor:
    """Assign faces in order, as many per pass as come axis by axis."""
    run: list[str] = []
    for edge in order:
        periodic = isinstance(task.bc[edge], Periodic)
        if run and (periodic or axis_of(edge) < axis_of(run[-1])):
            u, run = _assign_run(task, u, run), []
        if not periodic:
            run.append(edge)
        elif not is_upper(edge):
            u = _assign_periodic(task, u, edge)
    return _assign_run(task, u, run) if run else u


def _assign_run(task: _Task, u: Tensor, run: Sequence[str]) -> Tensor:
    values, stencils = _faces(task, run)
    if task.dims <= 3:
        return assign_faces(u, values, stencils)
    # Axes beyond those of space have no conditions and go with the batch.
    further = range(3 - task.dims, 0)
    before = range(u.ndim - task.dims - 1, u.ndim - 4)
    moved = [v if v is None else v.movedim(tuple(further), tuple(before)) for v in values[:3]]
    fixed = assign_faces(u.movedim(tuple(further), tuple(before)), moved, stencils[:3])
    return fixed.movedim(tuple(before), tuple(further))


def _faces(task: _Task, run: Sequence[str]) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return data and stencils of all axes for faces that are assigned axis by axis."""
    values: list[Tensor | None] = [None] * task.dims
    stencils: list[Tensor | None] = [None] * task.dims
    for axis in {axis_of(edge) for edge in run}:
        rules = [
            next((task.rules[e] for e in run if axis_of(e) == axis and is_upper(e) == upper), None)
            for upper in (False, True)
        ]
        values[axis], stencils[axis] = _face_arguments(rules, task.data, task.dims)
    return values, stencils


def _face_arguments(
    rules: Sequence[Rule | None], data: dict[str, Tensor], dims: int
) -> tuple[Tensor, Tensor]:
    """Return data and stencils of both faces of an axis as `ops.assign_faces` takes them."""
    length = max(len(rule.weights) for rule in rules if rule is not None)
    stencil = [[1.0] + [0.0] * (length - 1) for _ in rules]
    faces: list[Tensor | None] = [None, None]
    for end, rule in enumerate(rules):
        if rule is None:
            continue
        stencil[end][: len(rule.weights)] = rule.stencil()
        faces[end] = _end_value(data[rule.edge], rule)
    known = [face for face in faces if face is not None]
    pair = [torch.zeros_like(known[0]) if face is None else face for face in faces]
    if pair[0].shape != pair[1].shape:
        pair = list(torch.broadcast_tensors(*pair))
    weights = torch.tensor(stencil, dtype=torch.float64, device=known[0].device)
    return torch.stack(pair, known[0].ndim - (dims - 1)), weights


def _end_value(value: Tensor, rule: Rule) -> Tensor:
    """The part of the end value that comes from the data: their own bits for Dirichlet."""
    factor = rule.weights[0] * rule.sign
    return value if factor == 1.0 else value / factor


def _assign_periodic(task: _Task, u: Tensor, low: str) -> Tensor:
    condition, at = task.bc[low], task.at(axis_of(low))
    assert isinstance(condition, Periodic)
    first, last = u.select(at, 0), u.select(at, -1)
    # Exact where both ends agree already, so that consistent corners keep their bits.
    common = torch.lerp(last, first, condition.share).unsqueeze(at)
    return torch.cat([common, u.narrow(at, 1, u.shape[at] - 2), common], at)


def _sequence(bc: BoundaryConditions, corner: Corner) -> list[str]:
    """Return the edges in the order in which they are assigned."""
    if not isinstance(corner, str):
        if not isinstance(corner, Sequence):
            raise TypeError(
                f"{_WHO}: expected corner to be a word or a list of edges, "
                f"got {type(corner).__name__}"
            )
        named = [edge_name(edge, _WHO) for edge in corner]
        if sorted(named) != sorted(bc.edges):
            raise ValueError(
                f"{_WHO}: expected corner to list every edge with a condition once "
                f"{bc.edges}, got {tuple(corner)}"
            )
        return named
    if corner != "priority":
        raise ValueError(
            f"{_WHO}: expected corner to be 'priority', 'average', 'solve' or a list of edges, "
            f"got {corner!r}"
        )
    return sorted(bc.edges, key=lambda edge: (_rank(bc[edge]), EDGES.index(edge)))


def check_corner(bc: BoundaryConditions, corner: Corner) -> None:
    """Raise unless `enforce` knows the rule."""
    if corner not in ("average", "solve"):
        _sequence(bc, corner)


def _rank(condition: Condition | None) -> int:
    if isinstance(condition, Periodic):
        return 0
    return 2 if isinstance(condition, Dirichlet) else 1


def _merged(task: _Task, corner: str) -> Tensor:
    """Weigh what the faces that meet at a point say about it."""
    order = _sequence(task.bc, "priority")
    axes = sorted({axis_of(edge) for edge in order})
    # The faces of an axis that is assigned last see all other faces and own their corners.
    results = [
        _assign(task, task.u, sorted(order, key=lambda edge: axis_of(edge) == last))
        for last in axes
    ]
    weights = [_corner_weights(task, axis, corner) for axis in axes]
    strict = [w.isinf() for w in weights]
    any_strict = _reduce(strict, torch.logical_or)
    weights = [torch.where(any_strict, s.double(), w) for s, w in zip(strict, weights, strict=True)]
    total = _reduce(weights, torch.add)
    merged = results[0]
    for result, weight in zip(results[1:], weights[1:], strict=True):
        share = weight / torch.where(total == 0, 1.0, total)
        merged = merged + share.to(merged.dtype) * (result - results[0])
    return merged


def _reduce(tensors: Sequence[Tensor], function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    found = tensors[0]
    for tensor in tensors[1:]:
        found = function(found, tensor)
    return found


def _corner_weights(task: _Task, axis: int, corner: str) -> Tensor:
    """Weight of the faces of an axis at every point: 0 off the faces, infinite for Dirichlet."""
    size = task.u.shape[task.at(axis)]
    weights = torch.zeros(size, dtype=torch.float64)
    for upper in (False, True):
        edge = EDGES[2 * axis + upper]
        rule = task.rules.get(edge)
        if rule is not None:
            own = 1.0 if corner == "average" else rule.weights[0] ** 2
            weights[-1 if upper else 0] = float("inf") if rule.dirichlet else own
        elif task.bc[edge] is not None:
            weights[-1 if upper else 0] = 1.0
    return weights.to(task.u.device).reshape(-1, *(1,) * (task.dims - 1 - axis))


def _order(condition: Condition) -> int:
    """Order of the difference in a condition, 0 if there is none."""
    if isinstance(condition, Outflow):
        return 1
    if isinstance(condition, Neumann) or (isinstance(condition, Robin) and condition.b != 0):
        return condition.order
    return 0


def _rule(edge: str, condition: Condition, slope: tuple[float, ...], who: str) -> Rule:
    if isinstance(condition, Robin):
        first, *rest = (condition.b * s for s in slope)
        first += condition.a
        size = abs(condition.a) + abs(condition.b * slope[0])
        if abs(first) <= 1e-12 * size:
            raise ValueError(
                f"{who}: expected the Robin condition at '{edge}' to determine the end value, got "
                f"a + b s_0 / h = {first:.3g} for a = {condition.a}, b = {condition.b}; "
                f"change the grid or the order"
            )
        return Rule(edge, (first, *rest), 1.0, condition.b == 0)
    if isinstance(condition, Dirichlet):
        return Rule(edge, (1.0,), 1.0, True)
    along = isinstance(condition, Neumann) and condition.direction == "x"
    return Rule(edge, slope, -1.0 if along and not is_upper(edge) else 1.0, False)


def axis_points(grid: Grid, dims: int, who: str) -> list[Tensor | None]:
    """Return the points of every axis, None where the spacing is uniform."""
    given = [grid] if grid is None or isinstance(grid, Tensor) else list(grid)
    for points in given:
        if points is not None and not isinstance(points, Tensor):
            raise TypeError(
                f"{who}: expected grid to be a torch.Tensor or one per axis, "
                f"got {type(points).__name__}"
            )
        if points is not None and (points.ndim != 1 or bool((points.diff() <= 0).any())):
            raise ValueError(
                f"{who}: expected grid points (n,) that ascend, got shape {tuple(points.shape)}"
            )
    if len(given) > dims:
        raise ValueError(f"{who}: expected at most {dims} axes in grid, got {len(given)}")
    return [*given, *[None] * (dims - len(given))]
