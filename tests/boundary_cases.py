# SPDX-License-Identifier: Apache-2.0
"""Fields with boundary conditions of all kinds, and their residuals, for several test files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physcon_ext.boundary import (
    BoundaryConditions,
    Condition,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
    boundary_rules,
    boundary_values,
)


# Unit roundoff that the residual bounds are stated with; evaluating a residual rounds too.
EPS = {torch.float32: 1.2e-7, torch.float64: 2e-15}


@dataclass(frozen=True)
class Case:
    """Conditions, sizes of the axes, and which faces own all of their points."""

    bc: BoundaryConditions
    sizes: tuple[int, ...]

    def field(self, dtype: torch.dtype, channels: int = 2, batch: int = 3) -> Tensor:
        return torch.randn(batch, channels, *self.sizes, dtype=torch.float64).to(dtype)

    def values(self, dtype: torch.dtype, batch: int = 3) -> dict[str, Tensor]:
        """Data that differ per sample and along the edge."""
        found = {}
        for edge in self.bc.edges:
            if not isinstance(self.bc[edge], (Periodic, Outflow)):
                axis = ("left", "bottom", "front").index(edge) if edge in LOW else AXIS[edge]
                shape = self.sizes[:axis] + self.sizes[axis + 1 :]
                found[edge] = torch.randn(batch, 1, *shape, dtype=torch.float64).to(dtype)
        return found


LOW = ("left", "bottom", "front")
AXIS = {"right": 0, "top": 1, "back": 2}

KINDS: dict[str, Condition] = {
    "dirichlet": Dirichlet(),
    "neumann": Neumann(order=3),
    "robin": Robin(1.0, 0.5, order=2),
    "outflow": Outflow(),
}

CASES = {
    "both ends given": Case(BoundaryConditions(left=Dirichlet(), right=Dirichlet()), (33,)),
    "value and slope": Case(BoundaryConditions(left=Dirichlet(), right=Neumann(order=3)), (33,)),
    "Robin and outflow": Case(
        BoundaryConditions(left=Robin(2.0, 0.3, order=4), right=Outflow(), extent=2.0), (40,)
    ),
    "slope along x": Case(
        BoundaryConditions(left=Neumann(direction="x"), right=Neumann(direction="x")), (29,)
    ),
    "one end": Case(BoundaryConditions(right=Robin(1.0, 2.0)), (16,)),
    "periodic": Case(BoundaryConditions(left=Periodic(), right=Periodic()), (31,)),
    "space-time": Case(BoundaryConditions(left=Dirichlet(), right=Neumann(order=2)), (17, 9)),
    "all kinds in 2-D": Case(
        BoundaryConditions(
            left=Dirichlet(), right=Neumann(order=3), bottom=Robin(1.0, 0.2), top=Outflow()
        ),
        (17, 15),
    ),
    "periodic channel": Case(
        BoundaryConditions(left=Periodic(), right=Periodic(), bottom=Dirichlet(), top=Neumann()),
        (14, 15),
    ),
    "all kinds in 3-D": Case(
        BoundaryConditions(
            left=Dirichlet(),
            right=Robin(1.0, 1.0, order=2),
            bottom=Neumann(order=2),
            top=Dirichlet(),
            front=Periodic(),
            back=Periodic(),
            extent=(1.0, 2.0, 0.5),
        ),
        (9, 8, 7),
    ),
}


def interior_of_face(u: Tensor, axis: int, dims: int) -> Tensor:
    """Points of a face that no other face has."""
    for other in range(dims):
        if other != axis:
            at = u.ndim - (dims - 1) + (other if other < axis else other - 1)
            u = u.narrow(at, 1, u.shape[at] - 2)
    return u


def check_exactness(
    u: Tensor, bc: BoundaryConditions, values: dict[str, Tensor], factor: float = 1.0
) -> None:
    """Dirichlet and periodic ends bit by bit, differences to their stated bound, off corners."""
    u, dims = u.detach(), u.ndim - 2
    data = boundary_values(bc, values, u, n_axes=dims)
    rules = boundary_rules(bc, u.shape[2:])
    for edge in bc.edges:
        axis = ("left", "bottom", "front").index(edge) if edge in LOW else AXIS[edge]
        at, last = 2 + axis, edge not in LOW
        face = u.select(at, -1 if last else 0)
        if isinstance(bc[edge], Periodic):
            opposite = u.select(at, 0 if last else -1)
            assert torch.equal(
                interior_of_face(face, axis, dims), interior_of_face(opposite, axis, dims)
            )
            continue
        wanted = data[edge].expand_as(face)
        if isinstance(bc[edge], Dirichlet):
            assert torch.equal(
                interior_of_face(face, axis, dims), interior_of_face(wanted, axis, dims)
            )
            continue
        rule = rules[edge]
        lines = [u.select(at, -1 - j if last else j).double() for j in range(len(rule.weights))]
        stated = sum(w * line for w, line in zip(rule.weights, lines, strict=True))
        residual = interior_of_face(stated - rule.sign * wanted.double(), axis, dims)
        size = float(u.abs().max()) * abs(rule.weights[0]) + float(wanted.abs().max())
        assert float(residual.abs().max()) <= factor * EPS[u.dtype] * size
