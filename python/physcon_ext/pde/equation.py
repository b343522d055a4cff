# SPDX-License-Identifier: Apache-2.0
"""What every equation has: named parameters with ranges, checks, and random draws."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol, TypeVar

from physcon_ext.boundary import BoundaryConditions


Self = TypeVar("Self", bound="Equation")


@dataclass(frozen=True)
class Parameter:
    """One parameter of an equation.

    Attributes:
        name: Name of the argument.
        meaning: What it is, in a few words.
        unit: Unit; ``"1"`` for a pure number.
        default: Value of the argument when it is left out.
        low: The value must be above this.
        high: The value must be below this.
        draw: Range that random data sets draw from, uniformly; equal ends fix the value.
        size: Number of entries of a vector, or None for a number.
    """

    name: str
    meaning: str
    unit: str
    default: float
    low: float
    high: float
    draw: tuple[float, float]
    size: int | None = None

    def complaint(self, value: float) -> str | None:
        """Say what is wrong with a value, or return None."""
        if self.low < value < self.high:
            return None
        if math.isfinite(self.high):
            expected = f"in ({self.low:g}, {self.high:g})"
        elif math.isfinite(self.low):
            expected = f"finite and > {self.low:g}"
        else:
            expected = "finite"
        return f"expected {self.name} to be {expected}, got {value}"


def parameter(
    default: float,
    meaning: str,
    *,
    draw: tuple[float, float],
    unit: str = "1",
    low: float = -math.inf,
    high: float = math.inf,
) -> Any:
    """Field of an equation that is a number."""
    known = Parameter("", meaning, unit, default, low, high, draw)
    return field(default=default, metadata={"parameter": known})


def vector_parameter(size: int, meaning: str, *, unit: str = "1") -> Any:
    """Field of an equation that is a vector of finite numbers, 0 by default."""
    known = Parameter("", meaning, unit, 0.0, -math.inf, math.inf, (0.0, 0.0), size)
    return field(default=(0.0,) * size, metadata={"parameter": known})


class Stream(Protocol):
    """Random numbers of one sample, in order."""

    def uniform(self) -> float:
        """Return the next number, uniform in [0, 1)."""

    def normal(self) -> float:
        """Return the next number, standard Gaussian."""


@dataclass(frozen=True)
class Equation(ABC):
    """An equation with its parameters.

    Attributes:
        name: Short name in ``snake_case``, under which the registry knows it.
        formula: The equation in plain text.
        duration: Last time of the usual data sets, dimensionless; the first is 0.
        spatial_dims: Number of space axes.
        variable: Name of the main unknown.
        usual_cells: Cells per axis of the usual data sets.
        usual_times: Output times of the usual data sets, equally spaced over the duration.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    duration: ClassVar[float]
    spatial_dims: ClassVar[int] = 1
    variable: ClassVar[str] = "u"
    usual_cells: ClassVar[int] = 200
    usual_times: ClassVar[int] = 201

    def __post_init__(self) -> None:
        for known in self.parameters().values():
            value = getattr(self, known.name)
            for entry in (value,) if known.size is None else value:
                if (complaint := known.complaint(entry)) is not None:
                    raise ValueError(f"{type(self).__name__}: {complaint}")
            if known.size is not None and len(value) != known.size:
                raise ValueError(
                    f"{type(self).__name__}: expected {known.name} to have {known.size} entries, "
                    f"got {len(value)}"
                )

    @property
    @abstractmethod
    def title(self) -> str:
        """Name and parameters for a table or a figure."""

    @property
    def last_time(self) -> float:
        """Last time at which the solution is known; infinite unless said otherwise."""
        return math.inf

    @property
    @abstractmethod
    def boundary(self) -> BoundaryConditions:
        """Conditions at the edges, in the vocabulary of :mod:`physcon_ext.boundary`."""

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """Parameters by name, in the order of the arguments.

        Example:
            >>> px.pde.Stefan.parameters()["u_star"].draw
            (0.55, 0.7)
        """
        found = {}
        for entry in fields(cls):
            known: Parameter = entry.metadata["parameter"]
            found[entry.name] = Parameter(
                **{**{f.name: getattr(known, f.name) for f in fields(known)}, "name": entry.name}
            )
        return found

    @classmethod
    def ranges(
        cls, chosen: Mapping[str, float | tuple[float, float]] | None = None
    ) -> dict[str, tuple[float, float]]:
        """Ranges to draw parameters from: the usual ones, with some replaced.

        Args:
            chosen: By parameter name, ``(low, high)`` or a number that fixes the parameter.

        Returns:
            ``(low, high)`` of every parameter that is a number.

        Raises:
            ValueError: If a parameter is unknown, a range is empty, or an end is outside the
                validity of the parameter.

        Example:
            >>> px.pde.Advection.ranges({"a": 2.0})
            {'a': (2.0, 2.0)}
        """
        known = {name: p for name, p in cls.parameters().items() if p.size is None}
        ranges = {name: p.draw for name, p in known.items()}
        for name, choice in (chosen or {}).items():
            if name not in known:
                raise ValueError(
                    f"{cls.name}: expected a parameter among {', '.join(known)}, got {name!r}"
                    f"{suggestion(name, known)}"
                )
            low, high = choice if isinstance(choice, tuple) else (choice, choice)
            for end in (low, high):
                if (complaint := known[name].complaint(end)) is not None:
                    raise ValueError(f"{cls.name}: {complaint}")
            if low > high:
                raise ValueError(
                    f"{cls.name}: expected the range of {name} to be low:high, got {low:g}:{high:g}"
                )
            ranges[name] = (float(low), float(high))
        return ranges

    @classmethod
    def draw(
        cls: type[Self], stream: Stream, ranges: Mapping[str, tuple[float, float]] | None = None
    ) -> Self:
        """Draw one instance with parameters uniform in their ranges.

        Args:
            stream: Random numbers; every parameter takes one, fixed ones too, so that fixing one
                leaves the others as they were.
            ranges: As returned by :meth:`ranges`, which is the default.

        Returns:
            The instance.

        Raises:
            ValueError: If a drawn combination is outside the validity of the equation.
        """
        values = {}
        for name, (low, high) in (ranges or cls.ranges()).items():
            share = stream.uniform()
            values[name] = low if low == high else low + (high - low) * share
        return cls(**values)


def suggestion(word: str, known: Mapping[str, Any]) -> str:
    """Return ``; did you mean ...?`` for the nearest known word, or nothing."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
