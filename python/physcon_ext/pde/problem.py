# SPDX-License-Identifier: Apache-2.0
r"""Problems on an interval whose solution is known, :math:`u_t + F_x = f`.

Everything follows from the amount beyond a point, :math:`R(t, x) = \int_x^{x_{hi}} u`: cell
averages are its differences over cells, the total is its value at the left end, and the flux
through a face, integrated over an interval of time, is what went beyond that face. So
``sum(volume * average)`` equals the total, and every cell balances its face fluxes, to rounding,
front or no front. All quantities are dimensionless. Every method computes in float64 and returns
float64 whatever the dtype of its input; ``t`` and ``x`` broadcast against each other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions, Dirichlet, Neumann, Outflow, Periodic
from physcon_ext.boundary.conditions import Condition
from physcon_ext.pde.equation import Equation


@dataclass(frozen=True)
class Problem(Equation):
    """One equation with its initial and boundary data, and everything exact that is known about it.

    Attributes:
        domain: Left and right end of the spatial domain, dimensionless.
        kinds: Kind of condition at the left and right end: ``"dirichlet"``, ``"neumann"``,
            ``"periodic"`` or ``"outflow"``.
        has_front: Whether the solution has a front.
        has_source: Whether the equation has a source.
    """

    domain: ClassVar[tuple[float, float]]
    kinds: ClassVar[tuple[str, str]] = ("dirichlet", "dirichlet")
    has_front: ClassVar[bool] = False
    has_source: ClassVar[bool] = False

    @abstractmethod
    def _values(self, t: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        """Integral of the solution from x to the right end."""

    @abstractmethod
    def _flux(self, t: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _outflow(self, t: Tensor) -> Tensor:
        """Integral of the flux at the right end over [0, t]."""

    def _averages(self, t: Tensor, faces: Tensor, beyond: Tensor | None = None) -> Tensor:
        """Cell averages; ``beyond`` saves its computation where it is known already."""
        amount = self._beyond(t, faces) if beyond is None else beyond
        return -amount.diff(dim=-1) / faces.diff()

    def _mass(self, t: Tensor) -> Tensor:
        return self._beyond(t, t.new_tensor(self.domain[0]))

    def _source(self, t: Tensor, x: Tensor) -> Tensor:
        """Integral of the source over [0, t] and from x to the right end."""
        return torch.zeros_like(t * x)

    def _front(self, t: Tensor) -> Tensor:
        raise ValueError(f"{type(self).__name__}: the solution is smooth and has no front")

    def _jump(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _crossing(self, t: Tensor, level: float) -> Tensor:
        return self._front(t)

    def edges(self, cells: int) -> Tensor:
        """Faces of ``cells`` equal cells that cover the domain.

        Args:
            cells: Number of cells, at least 1.

        Returns:
            Sorted faces, shape ``(cells + 1,)``, float64.

        Raises:
            ValueError: If ``cells`` is below 1.
        """
        if cells < 1:
            raise ValueError(f"{type(self).__name__}: expected cells to be >= 1, got {cells}")
        return torch.linspace(*self.domain, cells + 1, dtype=torch.float64)

    def values(self, t: Tensor | float, x: Tensor | float) -> Tensor:
        """Solution at points; on a jump the value of the left side is taken.

        Args:
            t: Times in ``[0, last_time]``, any shape.
            x: Positions inside the domain, any shape that broadcasts against ``t``.

        Returns:
            ``u(t, x)`` of the broadcast shape, float64.

        Raises:
            ValueError: If a time or a position is outside its range or not finite.

        Example:
            >>> px.pde.PorousMedium(m=1.0).values(0.5, torch.tensor([0.0, 0.25, 0.75]))
            tensor([0.5000, 0.2500, 0.0000], dtype=torch.float64)
        """
        return self._values(self._time(t), self._position("x", x))

    def cell_averages(self, t: Tensor | float, edges: Tensor) -> Tensor:
        """Exact averages of the solution over the cells between neighbouring ``edges``.

        Args:
            t: Times in ``[0, last_time]``, any shape ``(*batch)``.
            edges: Faces, shape ``(n + 1,)``, strictly increasing, inside the domain; equal widths
                are not needed.

        Returns:
            Cell averages, shape ``(*batch, n)``, float64.

        Raises:
            ValueError: If ``edges`` is not a sorted vector of at least 2 faces in the domain, or a
                time is outside its range.

        Notes:
            Conservation: ``(edges.diff() * averages).sum(-1)`` equals :meth:`mass` to rounding when
            the edges span the domain.
        """
        return self._averages(self._time(t).unsqueeze(-1), self._faces(edges))

    def mass(self, t: Tensor | float) -> Tensor:
        """Total ``b(t)``, the integral of the solution over the domain; shape of ``t``, float64."""
        return self._mass(self._time(t))

    def flux(self, t: Tensor | float, x: Tensor | float) -> Tensor:
        """Flux in the +x direction at points; broadcast shape, float64.

        It may be infinite at ``t = 0``, integrably: use :meth:`mean_fluxes` for balances.
        """
        return self._flux(self._time(t), self._position("x", x))

    def flux_left(self, t: Tensor | float) -> Tensor:
        """Flux in the +x direction at the left end; shape of ``t``, float64."""
        return self.flux(t, self.domain[0])

    def flux_right(self, t: Tensor | float) -> Tensor:
        """Flux in the +x direction at the right end; shape of ``t``, float64."""
        return self.flux(t, self.domain[1])

    def mean_fluxes(self, times: Tensor, edges: Tensor) -> Tensor:
        """Exact mean over each interval of time of the flux through every face.

        Args:
            times: Strictly increasing times in ``[0, last_time]``, shape ``(k,)``, ``k >= 2``.
            edges: Faces, shape ``(n + 1,)``, as in :meth:`cell_averages`.

        Returns:
            Mean fluxes in the +x direction, shape ``(k - 1, n + 1)``, float64.

        Raises:
            ValueError: If times or edges are not sorted or outside their range.

        Notes:
            Conservation: the change of ``volume * average`` of every cell over an interval equals
            its length times (flux in - flux out) plus the source, to rounding.

        Example:
            >>> problem = px.pde.Advection(a=1.0)
            >>> problem.mean_fluxes(torch.tensor([0.0, 0.2]), problem.edges(5))
            tensor([[1.0000, 1.0000, 1.0000, 0.5000, 0.0000, 0.0000]], dtype=torch.float64)
        """
        return self.averages_and_fluxes(times, edges)[1]

    def averages_and_fluxes(self, times: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`cell_averages` and :meth:`mean_fluxes` at the cost of one of them.

        Args:
            times: As in :meth:`mean_fluxes`.
            edges: As in :meth:`cell_averages`.

        Returns:
            Averages, shape ``(k, n)``, and mean fluxes, shape ``(k - 1, n + 1)``, float64.

        Raises:
            ValueError: If times or edges are not sorted or outside their range.
        """
        time, faces = self._steps(times).unsqueeze(-1), self._faces(edges)
        beyond = self._beyond(time, faces)
        gained = beyond + self._outflow(time)
        if self.has_source:
            gained = gained - self._source(time, faces)
        return self._averages(time, faces, beyond), gained.diff(dim=0) / time.diff(dim=0)

    def mean_sources(self, times: Tensor, edges: Tensor) -> Tensor:
        """Exact mean of the source over each interval of time and each cell.

        Args:
            times: As in :meth:`mean_fluxes`.
            edges: As in :meth:`cell_averages`.

        Returns:
            Mean sources, shape ``(k - 1, n)``, float64; 0 without a source.

        Raises:
            ValueError: If times or edges are not sorted or outside their range.
        """
        time, faces = self._steps(times).unsqueeze(-1), self._faces(edges)
        made = -self._source(time, faces).diff(dim=-1)
        return made.diff(dim=0) / (time.diff(dim=0) * faces.diff())

    def outflow(self, start: Tensor | float, end: Tensor | float) -> Tensor:
        """Integral of the right flux over ``[start, end]``; broadcast shape, float64."""
        return self._outflow(self._time(end)) - self._outflow(self._time(start))

    def produced(self, start: Tensor | float, end: Tensor | float) -> Tensor:
        """Integral of the source over ``[start, end]`` and the domain; broadcast shape, float64."""
        left = torch.tensor(self.domain[0], dtype=torch.float64)
        return self._source(self._time(end), left) - self._source(self._time(start), left)

    def inflow(self, start: Tensor | float, end: Tensor | float) -> Tensor:
        """Integral of the left flux over ``[start, end]``; broadcast shape, float64."""
        gained = self.mass(end) - self.mass(start)
        return gained + self.outflow(start, end) - self.produced(start, end)

    def front(self, t: Tensor | float) -> Tensor:
        """Position of the front; shape of ``t``, float64.

        It is NaN where there is none: before it has formed and after it has left the domain.

        Raises:
            ValueError: If the solution has no front, or a time is outside its range.
        """
        return self._front(self._time(t))

    def jump(self, t: Tensor | float) -> Tensor:
        """Fall of the solution across the front, 0 where the front is a kink; shape of ``t``.

        Raises:
            ValueError: If the solution has no front, or a time is outside its range.
        """
        time = self._time(t)
        return torch.where(self._front(time).isnan(), torch.nan, self._jump(time))

    def crossing(self, t: Tensor | float, level: float) -> Tensor:
        """Position at which the profile falls through ``level`` on the way to the front.

        Args:
            t: Times in ``[0, last_time]``, any shape.
            level: Value in ``(0, u(t, 0)]`` for every ``t``.

        Returns:
            Positions, shape of ``t``, float64. A level inside a jump gives the front itself.

        Raises:
            ValueError: If the solution has no front or never takes the level.
        """
        time = self._time(t)
        top = self._values(time, time.new_tensor(self.domain[0]))
        if not (level > 0 and bool((top >= level).all())):
            raise ValueError(
                f"{type(self).__name__}: expected level to be in (0, u(t, 0)], got {level}"
            )
        return self._crossing(time, level)

    @property
    def boundary(self) -> BoundaryConditions:
        """Conditions at both ends, with values that are functions of time where they change."""
        left, right = (
            self._condition(kind, end) for kind, end in zip(self.kinds, self.domain, strict=True)
        )
        return BoundaryConditions(left, right, extent=self.domain[1] - self.domain[0])

    def boundary_value(self, t: Tensor | float, side: int) -> Tensor | None:
        """Value that the condition prescribes at one end; shape of ``t``, float64.

        Args:
            t: Times in ``[0, last_time]``, any shape.
            side: 0 for the left end, 1 for the right end.

        Returns:
            The value for a Dirichlet end, the outward derivative for a Neumann end, else None.
        """
        kind, end = self.kinds[side], self.domain[side]
        if kind == "dirichlet":
            return self.values(t, end)
        return self._slope(self._time(t), end) if kind == "neumann" else None

    def _slope(self, t: Tensor, end: float) -> Tensor:
        """Outward derivative at a Neumann end."""
        raise NotImplementedError(f"{type(self).__name__} has no Neumann end")

    def _condition(self, kind: str, end: float) -> Condition:
        if kind == "periodic":
            return Periodic()
        if kind == "outflow":
            return Outflow()
        side = self.domain.index(end)

        def value(time: float) -> Tensor:
            found = self.boundary_value(time, side)
            assert found is not None  # a Dirichlet or Neumann end prescribes one
            return found

        kinds: dict[str, Callable[..., Condition]] = {"dirichlet": Dirichlet, "neumann": Neumann}
        return kinds[kind](value)

    def _time(self, t: Tensor | float) -> Tensor:
        time = torch.as_tensor(t, dtype=torch.float64)
        good = (time >= 0) & (time <= self.last_time)
        if not bool(good.all()):
            raise ValueError(
                f"{type(self).__name__}: expected t to be in [0, {self.last_time:.6g}], "
                f"got {time[~good].flatten()[0].item()}"
            )
        return time

    def _steps(self, times: Tensor) -> Tensor:
        time = self._time(times)
        if time.ndim != 1 or time.numel() < 2 or not bool((time.diff() > 0).all()):
            raise ValueError(
                f"{type(self).__name__}: expected times to be a strictly increasing vector of at "
                f"least 2 times, got shape {tuple(time.shape)}"
            )
        return time

    def _position(self, name: str, x: Tensor | float) -> Tensor:
        position = torch.as_tensor(x, dtype=torch.float64)
        left, right = self.domain
        # A right end rounded to float32, such as 2 pi, may lie past the float64 one.
        single = isinstance(x, Tensor) and x.dtype != torch.float64
        slack = torch.finfo(torch.float32).eps * (right - left) if single else 0.0
        good = (position >= left - slack) & (position <= right + slack)
        if not bool(good.all()):
            raise ValueError(
                f"{type(self).__name__}: expected {name} to be in [{left:.6g}, {right:.6g}], "
                f"got {position[~good].flatten()[0].item()}"
            )
        return position

    def _faces(self, edges: Tensor) -> Tensor:
        faces = self._position("edges", edges)
        if faces.ndim != 1 or faces.numel() < 2:
            raise ValueError(
                f"{type(self).__name__}: expected edges to be a vector of at least 2 faces, "
                f"got shape {tuple(faces.shape)}"
            )
        if not bool((faces.diff() > 0).all()):
            k = int((faces.diff() <= 0).nonzero()[0, 0])
            raise ValueError(
                f"{type(self).__name__}: expected edges to be strictly increasing, "
                f"got {faces[k].item()} before {faces[k + 1].item()} at index {k}"
            )
        return faces
