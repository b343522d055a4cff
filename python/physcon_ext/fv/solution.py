# SPDX-License-Identifier: Apache-2.0
"""What a finite-volume solver returns: cells, and everything that crossed their faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physcon_ext.boundary.conditions import EDGES


class SolverError(RuntimeError):
    """A solution grew without end, was not finite, or Newton's method did not converge."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Cell averages at the output times and mean fluxes between them, float64.

    Axes: leading batch axes, output times or intervals between them, then ``x[, y]``. Fluxes count
    along the axes, per unit length of the face in two dimensions.

    Attributes:
        times: ``(nt,)`` output times; the first is that of the initial cells.
        faces: Positions of the faces along each axis, ``(nx + 1,)`` and ``(ny + 1,)``.
        cells: ``(*batch, nt, nx[, ny])`` cell averages.
        flux: Mean flux over each interval, one tensor per axis: ``(*batch, nt - 1, nx + 1[, ny])``
            and ``(*batch, nt - 1, nx, ny + 1)``.
        source: Mean source over each interval, ``(*batch, nt - 1, nx[, ny])``; None without source.
        values: Prescribed ``g`` by edge at the output times, ``(*batch, nt[, edge])``; edges
            without a value are absent.
        traces: Value of the solution on each edge at the output times, ``(*batch, nt[, edge])``.
        steps: ``(*batch, nt - 1)`` int64, time steps taken in each interval.
        velocity: ``(*batch, nt, nx[, ny])`` time derivative, of the wave equation alone. There
            ``flux``, ``source`` and the totals are those of the velocity.
        front: ``(*batch, nt)`` position of the front that the scheme follows; None if it does not.
        settings: Scheme, average, integrator and Courant number used.
    """

    times: Tensor
    faces: tuple[Tensor, ...]
    cells: Tensor
    flux: tuple[Tensor, ...]
    source: Tensor | None
    values: Mapping[str, Tensor]
    traces: Mapping[str, Tensor]
    steps: Tensor
    settings: Mapping[str, Any]
    velocity: Tensor | None = None
    front: Tensor | None = None

    @property
    def conserved(self) -> Tensor:
        """The field whose balance holds: the cells, or the velocity of the wave equation."""
        return self.cells if self.velocity is None else self.velocity

    @property
    def volume(self) -> Tensor:
        """Cell volumes, ``(nx[, ny])``."""
        widths = [f.diff() for f in self.faces]
        return widths[0] if len(widths) == 1 else widths[0][:, None] * widths[1]

    @property
    def boundary_flux(self) -> dict[str, Tensor]:
        """Mean OUTWARD flux by edge over each interval, ``(*batch, nt - 1[, edge])``."""
        found = {}
        for axis, flux in enumerate(self.flux):
            place = axis - len(self.flux)
            found[EDGES[2 * axis]] = -flux.select(place, 0)
            found[EDGES[2 * axis + 1]] = flux.select(place, -1).clone()
        return found

    @property
    def total(self) -> Tensor:
        """Integral of the conserved field, ``(*batch, nt)``."""
        axes = tuple(range(-len(self.faces), 0))
        return (self.conserved * self.volume).sum(axes)

    @property
    def inflow(self) -> Tensor:
        """Net amount that has entered through all edges since the start, ``(*batch, nt)``."""
        rate = torch.zeros_like(self.steps, dtype=torch.float64)
        for edge, outward in self.boundary_flux.items():
            if len(self.faces) == 1:
                rate = rate - outward
            else:
                other = self.faces[1 - EDGES.index(edge) // 2].diff()
                rate = rate - (outward * other).sum(-1)
        return self._accumulated(rate)

    @property
    def supplied(self) -> Tensor:
        """Amount that the source has given since the start, ``(*batch, nt)``."""
        if self.source is None:
            return self._accumulated(torch.zeros_like(self.steps, dtype=torch.float64))
        return self._accumulated((self.source * self.volume).sum(tuple(range(-len(self.faces), 0))))

    def _accumulated(self, rate: Tensor) -> Tensor:
        amount = (rate * self.times.diff()).cumsum(-1)
        return torch.nn.functional.pad(amount, (1, 0))

    def balance(self) -> Tensor:
        r"""Worst cell balance of each interval, relative to the largest term: rounding.

        .. math:: V (u^{n+1} - u^n) + \Delta t\, \Delta(A F) - \Delta t\, V S

        Returns:
            ``(*batch, nt - 1)``, dimensionless.
        """
        dims = len(self.faces)
        dt = self.times.diff().reshape(-1, *[1] * dims)
        new, old = self.conserved.narrow(-dims - 1, 1, dt.shape[0]), self.conserved
        old = old.narrow(-dims - 1, 0, dt.shape[0])
        residual = (new - old) * self.volume
        scale = torch.maximum(new.abs(), old.abs()) * self.volume
        for axis, flux in enumerate(self.flux):
            place = axis - dims
            area = self.volume / self.faces[axis].diff().reshape(-1, *[1] * (-place - 1))
            residual = residual + dt * area * flux.diff(dim=place)
            low = flux.narrow(place, 0, flux.shape[place] - 1)
            high = flux.narrow(place, 1, flux.shape[place] - 1)
            scale = torch.maximum(scale, dt * area * torch.maximum(low.abs(), high.abs()))
        if self.source is not None:
            residual = residual - dt * self.volume * self.source
            scale = torch.maximum(scale, dt * self.volume * self.source.abs())
        axes = tuple(range(-dims, 0))
        worst, size = residual.abs().amax(axes), scale.amax(axes)
        return worst / torch.where(size > 0, size, 1.0)
