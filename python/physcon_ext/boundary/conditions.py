# SPDX-License-Identifier: Apache-2.0
"""Kinds of boundary conditions and their assignment to the edges of a box."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor


Data: TypeAlias = "float | Tensor"
Value: TypeAlias = "Data | Callable[[float], Data]"
BoundaryValues: TypeAlias = "Mapping[str, Data]"

EDGES = ("left", "right", "bottom", "top", "front", "back")
_PLACE = {edge: place for place, edge in enumerate(EDGES)}
_ALIASES = dict(zip(("x_lo", "x_hi", "y_lo", "y_hi", "z_lo", "z_hi"), EDGES, strict=True))
_WHO = "BoundaryConditions"


@dataclass(frozen=True, eq=False)
class Condition:
    """What holds at one edge. Use one of the kinds below."""

    word: ClassVar[str] = ""

    def at(self, time: float) -> Condition:
        """Return the condition with its value taken at a time, if it depends on time."""
        value = getattr(self, "value", None)
        if not callable(value):
            return self
        changed: Condition = replace(self, **{"value": value(time)})
        return changed


@dataclass(frozen=True, eq=False)
class Dirichlet(Condition):
    r"""The value is prescribed: :math:`u = g`.

    Args:
        value: ``g``: a number, a tensor that broadcasts against the edge (`boundary_values`), or
            a function of time. It may be left out and given with each call.

    Raises:
        TypeError, ValueError: If the value is none of these, or not finite.

    Example:
        >>> Dirichlet(2.0).value
        2.0
    """

    word: ClassVar[str] = "Dirichlet"
    value: Value | None = None

    def __post_init__(self) -> None:
        _check_value(self)


@dataclass(frozen=True, eq=False)
class Neumann(Condition):
    r"""The normal derivative is prescribed: :math:`\partial_n u = g`.

    Args:
        value: ``g`` in the unit of ``u`` per length; as in `Dirichlet`.
        order: Order of the one-sided difference that states the condition on a grid; it uses
            ``order + 1`` points.
        direction: ``"outward"``: the derivative along the outward normal. ``"x"``: the derivative
            along the coordinate axis of the edge, whose sign is opposite at left, bottom, front.

    Raises:
        TypeError, ValueError: If an argument is not of these kinds.

    Example:
        >>> Neumann(0.0, order=2)
        Neumann(value=0.0, order=2, direction='outward')
    """

    word: ClassVar[str] = "Neumann"
    value: Value | None = None
    order: int = 3
    direction: Literal["outward", "x"] = "outward"

    def __post_init__(self) -> None:
        _check_value(self)
        _check_order(self, self.order)
        if self.direction not in ("outward", "x"):
            raise ValueError(
                f"Neumann: expected direction to be 'outward' or 'x', got {self.direction!r}"
            )


@dataclass(frozen=True, eq=False)
class Robin(Condition):
    r"""Value and outward normal derivative are tied: :math:`a u + b\, \partial_n u = g`.

    Args:
        a: Weight of the value, a finite number.
        b: Weight of the outward normal derivative, a finite number; not both may be 0.
        value: ``g``; as in `Dirichlet`.
        order: As in `Neumann`.

    Raises:
        TypeError, ValueError: If an argument is not of these kinds.

    Notes:
        With ``a, b >= 0`` the condition determines the end value on every grid. Otherwise
        ``a + b s_0 / h`` may vanish for one spacing, which is refused when it happens.

    Example:
        >>> Robin(1.0, 0.5, 2.0)
        Robin(a=1.0, b=0.5, value=2.0, order=3)
    """

    word: ClassVar[str] = "Robin"
    a: float
    b: float
    value: Value | None = None
    order: int = 3

    def __post_init__(self) -> None:
        _check_value(self)
        _check_order(self, self.order)
        for name, number in (("a", self.a), ("b", self.b)):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise TypeError(
                    f"Robin: expected {name} to be a number, got {type(number).__name__}"
                )
            if not math.isfinite(number):
                raise ValueError(f"Robin: expected {name} to be finite, got {number}")
        if self.a == 0 and self.b == 0:
            raise ValueError("Robin: expected a or b to differ from 0, got a = b = 0")


@dataclass(frozen=True, eq=False)
class Periodic(Condition):
    r"""Both ends of the axis are the same point; give it to both.

    Args:
        share: Weight of the left end in the common value of a grid that stores both ends,
            :math:`u_0 = u_{N-1} := \mu u_0 + (1 - \mu) u_{N-1}`, in ``[0, 1]``.

    Raises:
        ValueError: If ``share`` is out of range.

    Example:
        >>> BoundaryConditions(left=Periodic(), right=Periodic()).is_periodic(0)
        True
    """

    word: ClassVar[str] = "periodic"
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"Periodic: expected share to be in [0, 1], got {self.share}")


@dataclass(frozen=True, eq=False)
class Outflow(Condition):
    """The field leaves the domain unchanged: its normal derivative is 0, to first order.

    In the finite-volume solvers the outer cell repeats the last one; in neural operators the end
    value repeats its neighbour.

    Example:
        >>> Outflow()
        Outflow()
    """

    word: ClassVar[str] = "outflow"


class BoundaryConditions:
    """Which condition holds at which edge of an interval, a rectangle or a box.

    Args:
        left: Condition at the first index of the first space axis (x).
        right: Condition at the last index of the first space axis.
        bottom: Condition at the first index of the second space axis (y).
        top: Condition at the last index of the second space axis.
        front: Condition at the first index of the third space axis (z).
        back: Condition at the last index of the third space axis.
        extent: Length of the domain along each axis, one number or one per axis. It gives the
            spacing ``extent / (n - 1)`` of grids that store both ends, on which Neumann and Robin
            conditions rest.
        **aliases: The edges under the names ``x_lo``, ``x_hi``, ``y_lo``, ``y_hi``, ``z_lo``,
            ``z_hi``.

    Raises:
        TypeError: If something is not a condition, or an edge name is unknown.
        ValueError: If an edge is given twice, an axis is periodic at one end only, or ``extent``
            is not positive.

    Notes:
        Edges that are left out have no condition. Fields are ``(*batch, channels, x[, y[, z]])``
        and may have further axes without conditions, such as time.

    Example:
        >>> bc = BoundaryConditions(left=Dirichlet(), right=Neumann(0.0, order=2))
        >>> bc.edges
        ('left', 'right')
    """

    def __init__(
        self,
        left: Condition | None = None,
        right: Condition | None = None,
        bottom: Condition | None = None,
        top: Condition | None = None,
        front: Condition | None = None,
        back: Condition | None = None,
        *,
        extent: float | Sequence[float] = 1.0,
        **aliases: Condition | None,
    ) -> None:
        given = dict(zip(EDGES, (left, right, bottom, top, front, back), strict=True))
        for name, condition in aliases.items():
            edge = edge_name(name, _WHO)
            if condition is not None and given[edge] is not None:
                raise ValueError(f"{_WHO}: expected edge '{edge}' once, got it again as '{name}'")
            given[edge] = condition if condition is not None else given[edge]
        for edge, condition in given.items():
            if condition is not None and not isinstance(condition, Condition):
                raise TypeError(
                    f"{_WHO}: expected {edge} to be Dirichlet, Neumann, Robin, Periodic, Outflow "
                    f"or None, got {type(condition).__name__}"
                )
        for low, high in zip(EDGES[::2], EDGES[1::2], strict=True):
            _check_pair(low, given[low], high, given[high])
        self._conditions = given
        self._edges = tuple(edge for edge, condition in given.items() if condition is not None)
        self._n_axes = axis_of(self._edges[-1]) + 1 if self._edges else 0
        self._extent = _lengths(extent)

    @property
    def edges(self) -> tuple[str, ...]:
        """Edges with a condition, axis by axis, the low end first."""
        return self._edges

    @property
    def n_axes(self) -> int:
        """Number of space axes up to the last one that has a condition."""
        return self._n_axes

    def __getitem__(self, edge: str) -> Condition | None:
        """Return the condition at an edge, None if there is none."""
        return self._conditions[edge_name(edge, _WHO)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.edges)

    def __repr__(self) -> str:
        listed = [f"{edge}={self._conditions[edge]!r}" for edge in self.edges]
        extent = self._extent if len(self._extent) > 1 else self._extent[0]
        return f"{_WHO}({', '.join([*listed, f'extent={extent}'])})"

    def axis(self, axis: int) -> tuple[Condition | None, Condition | None]:
        """Return the conditions at the low and the high end of an axis."""
        if not 0 <= axis < 3:
            return None, None
        return self._conditions[EDGES[2 * axis]], self._conditions[EDGES[2 * axis + 1]]

    def is_periodic(self, axis: int) -> bool:
        """Whether an axis is periodic."""
        return isinstance(self.axis(axis)[0], Periodic)

    def extent(self, axis: int) -> float:
        """Return the length of the domain along an axis."""
        if len(self._extent) == 1:
            return self._extent[0]
        if axis >= len(self._extent):
            raise ValueError(
                f"{_WHO}: expected extent to have a length for axis {axis}, "
                f"got {len(self._extent)} lengths"
            )
        return self._extent[axis]

    def at(self, time: float) -> BoundaryConditions:
        """Return the same conditions with values that depend on time taken at one time.

        Example:
            >>> BoundaryConditions(left=Dirichlet(lambda t: 2 * t)).at(3.0)["left"].value
            6.0
        """
        moved = {
            edge: None if condition is None else condition.at(time)
            for edge, condition in self._conditions.items()
        }
        return BoundaryConditions(**moved, extent=self._extent)

    def values(self, time: float | None = None) -> dict[str, Data]:
        """Return the values that the conditions carry, by edge.

        Args:
            time: Where values that are functions of time are taken.

        Raises:
            ValueError: If a value is a function and no time is given.

        Example:
            >>> BoundaryConditions(left=Dirichlet(1.0), right=Neumann()).values()
            {'left': 1.0}
        """
        found: dict[str, Data] = {}
        for edge in self.edges:
            condition = self._conditions[edge]
            value = getattr(condition, "value", None)
            if callable(value):
                if time is None:
                    raise ValueError(
                        f"{_WHO}: expected a time for edge '{edge}', whose value is a function of "
                        f"time; give values(time) or boundary_values"
                    )
                value = value(time)
            if value is not None:
                found[edge] = value
        return found


def check_conditions(bc: object, who: str, name: str = "bc") -> None:
    """Raise unless a user gave conditions by edge."""
    if not isinstance(bc, BoundaryConditions):
        raise TypeError(
            f"{who}: expected {name} to be BoundaryConditions, got {type(bc).__name__}; "
            f"name the edge of a condition, as in BoundaryConditions(left=Dirichlet())"
        )


def edge_name(name: str, who: str) -> str:
    """Return the name of an edge given under either of its names."""
    edge = _ALIASES.get(name, name)
    if edge not in _PLACE:
        raise TypeError(
            f"{who}: expected an edge among {', '.join(EDGES)} or {', '.join(_ALIASES)}, "
            f"got {name!r}"
        )
    return edge


def axis_of(edge: str) -> int:
    """Return the space axis of an edge."""
    return _PLACE[edge] // 2


def is_upper(edge: str) -> bool:
    """Whether an edge is at the last index of its axis."""
    return _PLACE[edge] % 2 == 1


def boundary_values(
    bc: BoundaryConditions,
    values: BoundaryValues | None,
    like: Tensor,
    *,
    n_axes: int,
    who: str = "boundary_values",
) -> dict[str, Tensor]:
    """Collect the values of all edges as tensors that broadcast against the edges of a field.

    Args:
        bc: The conditions, which may carry values themselves.
        values: Values by edge, which win over those of ``bc``: numbers, or tensors that broadcast
            (in the sense of torch, from the last axis) to ``(*batch, channels, *edge)``, ``edge``
            being the sizes of the other axes of the field in their order.
        like: The field, ``(*batch, channels, *sizes)``.
        n_axes: Number of trailing axes of ``like`` that are space or time.
        who: Name for messages.

    Returns:
        For every edge with a value (all but periodic ones) a tensor of the dtype and device of
        ``like`` with as many axes as an edge of ``like`` has. Sizes of 1 are kept.

    Raises:
        TypeError: If a value is not a number or a tensor.
        ValueError: If a value is missing, does not fit its edge, or belongs to an edge without one.

    Notes:
        One value per sample of a 1-D field has shape ``(batch, 1)``, one per channel
        ``(channels,)``, one per time of a field ``(batch, channels, x, t)`` ``(batch, 1, t)``.

    Example:
        >>> bc = BoundaryConditions(left=Dirichlet(), right=Neumann(0.0))
        >>> found = boundary_values(bc, {"left": 2.0}, torch.zeros(5, 1, 8), n_axes=1)
        >>> found["left"]
        tensor([[2.]])
    """
    given = {} if values is None else by_edge(bc, values, who)
    found: dict[str, Tensor] = {}
    for edge in bc.edges:
        condition = bc[edge]
        if axis_of(edge) >= n_axes:
            raise ValueError(
                f"{who}: expected a field with at least {axis_of(edge) + 1} space axes for edge "
                f"'{edge}', got {n_axes}"
            )
        if isinstance(condition, Periodic):
            continue
        value = given.get(edge, getattr(condition, "value", None))
        if isinstance(condition, Outflow):
            value = 0.0
        if value is None:
            raise ValueError(
                f"{who}: expected a value for edge '{edge}' ({condition.word if condition else ''})"
                f", got none; give it in the condition or in boundary_values"
            )
        if callable(value):
            raise ValueError(
                f"{who}: expected a number or a tensor for edge '{edge}', got a function of time; "
                f"give boundary_values=bc.values(time)"
            )
        found[edge] = _edge_tensor(edge, value, like, n_axes, who)
    return found


def _edge_tensor(edge: str, value: Data, like: Tensor, n_axes: int, who: str) -> Tensor:
    axis = like.ndim - n_axes + axis_of(edge)
    shape = like.shape[:axis] + like.shape[axis + 1 :]
    if isinstance(value, bool) or not isinstance(value, (Tensor, int, float)):
        raise TypeError(
            f"{who}: expected the value of edge '{edge}' to be a number or a torch.Tensor, "
            f"got {type(value).__name__}; torch.as_tensor makes one of arrays and lists"
        )
    if not isinstance(value, Tensor):
        if not math.isfinite(value):
            raise ValueError(
                f"{who}: expected the value of edge '{edge}' to be finite, got {value}"
            )
        return torch.full((1,) * len(shape), value, dtype=like.dtype, device=like.device)
    if value.is_complex() or value.layout != torch.strided:
        raise TypeError(
            f"{who}: expected the value of edge '{edge}' to be a real dense tensor, "
            f"got {value.dtype} with layout {value.layout}"
        )
    if value.device != like.device:
        raise ValueError(
            f"{who}: expected the value of edge '{edge}' on {like.device}, got {value.device}; "
            f"move it with .to, also if it is part of a condition"
        )
    places = zip(reversed(value.shape), reversed(shape), strict=False)
    if value.ndim > len(shape) or any(own not in (1, full) for own, full in places):
        raise ValueError(
            f"{who}: expected the value of edge '{edge}' to broadcast to (*batch, channels, *edge) "
            f"= {tuple(shape)}, got shape {tuple(value.shape)}; one value per sample has shape "
            f"{(shape[0],) + (1,) * (len(shape) - 1)}"
        )
    value = value.to(like.dtype)
    missing = len(shape) - value.ndim
    return value.reshape((1,) * missing + value.shape) if missing else value


def by_edge(bc: BoundaryConditions, values: BoundaryValues, who: str) -> dict[str, Data]:
    """Return values under the first names of their edges; raise for edges that take none."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{who}: expected values by edge, as in {{'left': 0.0}}, got {type(values).__name__}"
        )
    given: dict[str, Data] = {}
    for name, value in values.items():
        edge = edge_name(name, who)
        condition = bc[edge]
        if condition is None or isinstance(condition, (Periodic, Outflow)):
            kind = "no condition" if condition is None else f"a condition ({condition.word})"
            raise ValueError(
                f"{who}: expected values for edges that take one, got one for '{edge}', which has "
                f"{kind}{'' if condition is None else ' without a value'}"
            )
        if edge in given:
            raise ValueError(f"{who}: expected one value for edge '{edge}', got two")
        given[edge] = value
    return given


def _check_pair(low: str, a: Condition | None, high: str, b: Condition | None) -> None:
    periodic = [isinstance(c, Periodic) for c in (a, b)]
    if any(periodic) and not all(periodic):
        one, other = (low, high) if periodic[0] else (high, low)
        raise ValueError(
            f"{_WHO}: expected Periodic at both ends of an axis, got it at '{one}' and not at "
            f"'{other}'"
        )
    if isinstance(a, Periodic) and isinstance(b, Periodic) and a.share != b.share:
        raise ValueError(
            f"{_WHO}: expected the same share at both periodic ends, got {a.share} and {b.share}"
        )


def _check_value(condition: Condition) -> None:
    value = getattr(condition, "value", None)
    fits = value is None or callable(value) or isinstance(value, (Tensor, int, float))
    if not fits or isinstance(value, bool):
        raise TypeError(
            f"{condition.word}: expected value to be a number, a torch.Tensor, a function of time "
            f"or None, got {type(value).__name__}"
        )
    if isinstance(value, (int, float)) and not math.isfinite(value):
        raise ValueError(f"{condition.word}: expected value to be finite, got {value}")


def _check_order(condition: Condition, order: int) -> None:
    if isinstance(order, bool) or not isinstance(order, int):
        raise TypeError(
            f"{condition.word}: expected order to be an integer, got {type(order).__name__}"
        )
    if order < 1:
        raise ValueError(f"{condition.word}: expected order to be >= 1, got {order}")


def _lengths(extent: float | Sequence[float]) -> tuple[float, ...]:
    numbers = tuple(extent) if isinstance(extent, (tuple, list)) else (extent,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(
                f"{_WHO}: expected extent to be a number or one per axis, got {extent!r}"
            )
    lengths = tuple(float(n) for n in numbers)
    if not lengths or not all(math.isfinite(n) and n > 0 for n in lengths):
        raise ValueError(f"{_WHO}: expected extent to be positive and finite, got {extent}")
    return lengths
