# SPDX-License-Identifier: Apache-2.0
"""From the conditions at the edges of a domain to the tables that the solvers read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
)
from physcon_ext.boundary.conditions import EDGES, Condition, Value
from physcon_ext.checks import common_shape
from physcon_ext.reference.balance_law import EdgeTable


@dataclass(frozen=True, eq=False)
class Flux(Condition):
    r"""The flux through an edge is prescribed: :math:`F = g`, along the axis, whatever the scheme.

    Args:
        value: ``g``: a number, a tensor that broadcasts to the batch (and the edge), or a function
            of time.

    Example:
        >>> BoundaryConditions(left=Flux(1.0), right=Outflow()).edges
        ('left', 'right')
    """

    word: ClassVar[str] = "flux"
    value: Value | None = None


@dataclass(frozen=True)
class BoundEdge:
    """One edge of a particular problem.

    Attributes:
        name: Name of the edge.
        kind: Kind of `physcon_ext.reference.balance_law.EdgeTable`.
        a: Weight of the value.
        b: Weight of the outward slope.
        sign: Factor of the user's value.
        value: Number as float64 ``(*batch, 1[, edge])``, function of time, or None.
        batch: Shape of the batch.
        along: Cells along the edge, None in one dimension.
    """

    name: str
    kind: str
    a: float
    b: float
    sign: float
    value: Tensor | Callable[[Tensor], Tensor] | None
    batch: tuple[int, ...]
    along: int | None

    @property
    def varies(self) -> bool:
        """Whether the value is a function of time."""
        return callable(self.value)

    def at(self, times: Tensor) -> Tensor:
        """Return ``g`` at ``(*batch, k)`` times: ``(*batch, k)`` or ``(*batch, k, along)``."""
        along = () if self.along is None else (self.along,)
        full = (*times.shape, *along)
        if self.value is None:
            return torch.zeros(full, dtype=torch.float64)
        if not callable(self.value):
            return self.value.expand(full)
        moments = times if self.along is None else times[..., None]
        try:
            found = self.value(moments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"physcon fv: expected the function of time at edge '{self.name}' to take a tensor "
                f"of times of shape {tuple(moments.shape)} (torch.sin, not math.sin), got: {error}"
            ) from error
        found = torch.as_tensor(found, dtype=torch.float64)
        if common_shape(found.shape, full) != full:
            raise ValueError(
                f"physcon fv: expected the function of time at edge '{self.name}' to return values "
                f"that broadcast to (*batch, times[, edge]) = {full}, got {tuple(found.shape)}"
            )
        _check_finite(self.name, found)
        return self.sign * found.expand(full)

    def table(self, times: Tensor) -> EdgeTable:
        """Return values at ``(*batch, steps, stages)`` times in the form of the op."""
        if self.value is None:
            return EdgeTable(self.kind, None, self.a, self.b)
        batch, (steps, stages) = times[..., 0, 0].numel(), times.shape[-2:]
        along = 1 if self.along is None else self.along
        if not self.varies:
            values = self.at(times[..., :1, 0]).reshape(batch, 1, 1, along)
        else:
            flat = times.reshape(*self.batch, steps * stages)
            values = self.at(flat).reshape(batch, steps, stages, along)
        return EdgeTable(self.kind, values, self.a, self.b)


def bind_edges(
    bc: BoundaryConditions, batch: tuple[int, ...], sizes: tuple[int, ...], who: str
) -> dict[str, BoundEdge]:
    """Check the conditions of all edges and bring their values into one form.

    Args:
        bc: Conditions; every edge of the domain needs one.
        batch: Shape of the batch.
        sizes: Cells along each axis.
        who: Name for messages.

    Raises:
        TypeError: If ``bc`` is not `BoundaryConditions`.
        ValueError: If an edge has no condition or no value, or a value does not fit.
    """
    if not isinstance(bc, BoundaryConditions):
        raise TypeError(f"{who}: expected bc to be BoundaryConditions, got {type(bc).__name__}")
    needed = EDGES[: 2 * len(sizes)]
    for edge in bc.edges:
        if edge not in needed:
            raise ValueError(
                f"{who}: expected conditions at {', '.join(needed)} only, got one at '{edge}'"
            )
    found = {}
    for place, edge in enumerate(needed):
        condition = bc[edge]
        if condition is None:
            raise ValueError(f"{who}: expected a condition at edge '{edge}', got none")
        along = sizes[1 - place // 2] if len(sizes) == 2 else None
        kind, a, b, sign = _kind(condition, upper=place % 2 == 1)
        value = None
        if kind not in ("periodic", "outflow"):
            value = _value(getattr(condition, "value", None), edge, condition, batch, along, who)
            if not callable(value):
                value = sign * value
        found[edge] = BoundEdge(edge, kind, a, b, sign, value, batch, along)
    return found


def _kind(condition: Condition, upper: bool) -> tuple[str, float, float, float]:
    if isinstance(condition, Periodic):
        return "periodic", 1.0, 0.0, 1.0
    if isinstance(condition, Outflow):
        return "outflow", 1.0, 0.0, 1.0
    if isinstance(condition, Flux):
        return "flux", 1.0, 0.0, 1.0
    if isinstance(condition, Neumann):
        inward = condition.direction == "x" and not upper
        return "mixed", 0.0, 1.0, -1.0 if inward else 1.0
    if isinstance(condition, Robin) and condition.b != 0:
        return "mixed", float(condition.a), float(condition.b), 1.0
    if isinstance(condition, Robin):
        return "value", 1.0, 0.0, 1.0 / condition.a
    if isinstance(condition, Dirichlet):
        return "value", 1.0, 0.0, 1.0
    raise TypeError(f"physcon fv: expected a known condition, got {type(condition).__name__}")


def _value(
    value: object,
    edge: str,
    condition: Condition,
    batch: tuple[int, ...],
    along: int | None,
    who: str,
) -> Tensor | Callable[[Tensor], Tensor]:
    if value is None:
        raise ValueError(
            f"{who}: expected a value for edge '{edge}' ({condition.word}), got none; give it in "
            f"the condition"
        )
    if callable(value):
        return value
    tensor = torch.as_tensor(value, dtype=torch.float64)
    _check_finite(edge, tensor)
    # (*batch) or, in two dimensions, (*batch, edge): a number per sample is (*batch, 1) there.
    full = batch if along is None else (*batch, along)
    if common_shape(tensor.shape, full) != torch.Size(full):
        raise ValueError(
            f"{who}: expected the value of edge '{edge}' to broadcast to "
            f"{'(*batch)' if along is None else '(*batch, edge)'} = {tuple(full)}, got shape "
            f"{tuple(tensor.shape)}"
        )
    tensor = tensor.expand(full)
    return tensor.unsqueeze(-1 if along is None else -2)


def _check_finite(edge: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"physcon fv: expected finite values at edge '{edge}', got NaN or infinity"
        )
