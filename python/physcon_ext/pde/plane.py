# SPDX-License-Identifier: Apache-2.0
r"""Problems on a rectangle whose solution is known, :math:`u_t + F_x + G_y = 0`.

They offer what the problems on an interval offer: point values, exact cell averages, totals, and
the flux through every face integrated over time. All quantities are dimensionless and float64.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions, Dirichlet, Outflow, Periodic
from physcon_ext.boundary.conditions import Condition
from physcon_ext.pde.equation import Equation


@dataclass(frozen=True)
class PlaneProblem(Equation):
    """One equation on a rectangle, and everything exact that is known about it.

    Attributes:
        domain: Ends of both axes, dimensionless.
        kinds: Kind of condition at the left, right, bottom and top edge: ``"periodic"``,
            ``"dirichlet"`` (the value 0) or ``"outflow"``.
    """

    domain: ClassVar[tuple[tuple[float, float], tuple[float, float]]]
    kinds: ClassVar[tuple[str, str, str, str]]
    spatial_dims: ClassVar[int] = 2
    usual_cells: ClassVar[int] = 50
    usual_times: ClassVar[int] = 26

    @abstractmethod
    def _values(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor: ...

    @abstractmethod
    def _averages(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Averages for times ``(k, 1, 1)`` and faces of both axes, ``(k, nx, ny)``."""

    @abstractmethod
    def _passed(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What has passed each face since some time, per unit of face: ``(k, nx + 1, ny)`` along x
        and ``(k, nx, ny + 1)`` along y."""

    def _averages_and_passed(
        self, t: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return self._averages(t, x, y), self._passed(t, x, y)

    @abstractmethod
    def _flux(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _mass(self, t: Tensor) -> Tensor: ...

    @property
    def boundary(self) -> BoundaryConditions:
        """Conditions at the four edges."""
        known: dict[str, Condition] = {
            "periodic": Periodic(),
            "dirichlet": Dirichlet(0.0),
            "outflow": Outflow(),
        }
        return BoundaryConditions(
            *(known[kind] for kind in self.kinds),
            extent=tuple(high - low for low, high in self.domain),
        )

    def edges(self, cells: int) -> tuple[Tensor, Tensor]:
        """Faces of ``cells`` equal cells along each axis, ``(cells + 1,)`` each, float64.

        Raises:
            ValueError: If ``cells`` is below 1.
        """
        if cells < 1:
            raise ValueError(f"{type(self).__name__}: expected cells to be >= 1, got {cells}")
        x, y = (torch.linspace(*ends, cells + 1, dtype=torch.float64) for ends in self.domain)
        return x, y

    def values(self, t: Tensor | float, x: Tensor | float, y: Tensor | float) -> Tensor:
        """Solution at points.

        Args:
            t: Times in ``[0, last_time]``, any shape.
            x: First coordinate inside the domain; broadcasts against ``t``.
            y: Second coordinate inside the domain; broadcasts against ``t`` and ``x``.

        Returns:
            ``u(t, x, y)`` of the broadcast shape, float64.

        Raises:
            ValueError: If a time or a position is outside its range.
        """
        return self._values(self._time(t), self._place("x", x), self._place("y", y))

    def flux(
        self, t: Tensor | float, x: Tensor | float, y: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Flux along x and along y at points; arguments and errors as :meth:`values`."""
        return self._flux(self._time(t), self._place("x", x), self._place("y", y))

    def cell_averages(self, t: Tensor | float, x_edges: Tensor, y_edges: Tensor) -> Tensor:
        """Exact averages over the cells of a grid.

        Args:
            t: Times in ``[0, last_time]``, shape ``(*batch)``.
            x_edges: Faces along the first axis, ``(nx + 1,)``, increasing, inside the domain.
            y_edges: Faces along the second axis, ``(ny + 1,)``.

        Returns:
            Averages, shape ``(*batch, nx, ny)``, float64.

        Raises:
            ValueError: If edges are not sorted, or an argument is outside its range.

        Notes:
            Conservation: ``(volumes * averages).sum((-2, -1))`` equals :meth:`mass` to rounding
            when the edges span the domain.
        """
        time, faces = self._time(t), self._faces(x_edges, y_edges)
        found = self._averages(time.reshape(-1, 1, 1), *faces)
        return found.reshape(*time.shape, *found.shape[1:])

    def mean_fluxes(self, times: Tensor, x_edges: Tensor, y_edges: Tensor) -> tuple[Tensor, Tensor]:
        """Exact mean over each interval of time of the flux through every face.

        Args:
            times: Increasing times in ``[0, last_time]``, shape ``(k,)``, ``k >= 2``.
            x_edges: As in :meth:`cell_averages`.
            y_edges: As in :meth:`cell_averages`.

        Returns:
            Along x, shape ``(k - 1, nx + 1, ny)``, and along y, shape ``(k - 1, nx, ny + 1)``, per
            unit of face.

        Raises:
            ValueError: If times or edges are not sorted or outside their range.

        Notes:
            Conservation: the change of ``volume * average`` of every cell over an interval equals
            its length times what the fluxes bring in, to rounding.
        """
        return self.averages_and_fluxes(times, x_edges, y_edges)[1]

    def averages_and_fluxes(
        self, times: Tensor, x_edges: Tensor, y_edges: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """:meth:`cell_averages` at all times, ``(k, nx, ny)``, and :meth:`mean_fluxes`, at once."""
        time, faces = self._time(times), self._faces(x_edges, y_edges)
        if time.ndim != 1 or time.numel() < 2 or not bool((time.diff() > 0).all()):
            raise ValueError(
                f"{type(self).__name__}: expected times to be a strictly increasing vector of at "
                f"least 2 times, got shape {tuple(time.shape)}"
            )
        time = time.reshape(-1, 1, 1)
        averages, passed = self._averages_and_passed(time, *faces)
        along_x, along_y = (amount.diff(dim=0) / time.diff(dim=0) for amount in passed)
        return averages, (along_x, along_y)

    def mass(self, t: Tensor | float) -> Tensor:
        """Total ``b(t)``, the integral of the solution over the domain; shape of ``t``, float64."""
        return self._mass(self._time(t))

    def _time(self, t: Tensor | float) -> Tensor:
        time = torch.as_tensor(t, dtype=torch.float64)
        good = (time >= 0) & (time <= self.last_time)
        if not bool(good.all()):
            raise ValueError(
                f"{type(self).__name__}: expected t to be in [0, {self.last_time:.6g}], "
                f"got {time[~good].flatten()[0].item()}"
            )
        return time

    def _place(self, name: str, x: Tensor | float) -> Tensor:
        place = torch.as_tensor(x, dtype=torch.float64)
        low, high = self.domain["xy".index(name)]
        if not bool(((place >= low) & (place <= high)).all()):
            raise ValueError(
                f"{type(self).__name__}: expected {name} to be in [{low:.6g}, {high:.6g}], got "
                f"values from {place.min().item():.6g} to {place.max().item():.6g}"
            )
        return place

    def _faces(self, x_edges: Tensor, y_edges: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self._place("x", x_edges), self._place("y", y_edges)
        for name, faces in (("x_edges", x), ("y_edges", y)):
            if faces.ndim != 1 or faces.numel() < 2 or not bool((faces.diff() > 0).all()):
                raise ValueError(
                    f"{type(self).__name__}: expected {name} to be a strictly increasing vector of "
                    f"at least 2 faces, got shape {tuple(faces.shape)}"
                )
        return x, y
