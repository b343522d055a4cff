# SPDX-License-Identifier: Apache-2.0
"""Standing wave in a square with reflecting edges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions, Neumann
from physcon_ext.pde.equation import Equation, parameter


@dataclass(frozen=True)
class Wave(Equation):
    r"""Standing wave in a square with reflecting edges.

    .. math:: u_{tt} = c^2 \Delta u, \quad u = \kappa \cos \pi x \cos \pi y \cos(\sqrt2 \pi c t)
              \quad \text{on } [0, 1]^2

    Args:
        kappa: Amplitude, dimensionless.
        c: Wave speed, dimensionless, finite and > 0.

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: as a system ``u_t = v``, ``v_t = div(c^2 grad u)`` the speed ``v`` is
        conserved with the flux ``-c^2 grad u``, and ``u`` changes by the source ``v``. No flux
        crosses an edge.

    Good values:
        ``kappa`` in [3, 4], ``c = 1``, ``t`` up to 2, 25 to 50 cells a side.

    Example:
        >>> wave = Wave(kappa=3.0)
        >>> round(wave.values(0.0, 0.0, 0.0).item(), 12)
        3.0
    """

    kappa: float = parameter(3.5, "amplitude", draw=(3.0, 4.0))
    c: float = parameter(1.0, "wave speed", low=0.0, draw=(1.0, 1.0))

    name: ClassVar[str] = "wave"
    formula: ClassVar[str] = "u_tt = c^2 (u_xx + u_yy)"
    duration: ClassVar[float] = 2.0
    spatial_dims: ClassVar[int] = 2
    usual_cells: ClassVar[int] = 50
    usual_times: ClassVar[int] = 26

    @property
    def title(self) -> str:
        return f"Wave, kappa = {self.kappa:g}, c = {self.c:g}"

    @property
    def frequency(self) -> float:
        """Angular frequency of the standing wave."""
        return math.sqrt(2.0) * math.pi * self.c

    @property
    def boundary(self) -> BoundaryConditions:
        still = Neumann(0.0)
        return BoundaryConditions(still, still, still, still)

    def edges(self, cells: int) -> Tensor:
        """Faces of ``cells`` equal cells along one axis, shape ``(cells + 1,)``, float64."""
        if cells < 1:
            raise ValueError(f"Wave: expected cells to be >= 1, got {cells}")
        return torch.linspace(0.0, 1.0, cells + 1, dtype=torch.float64)

    def values(self, t: Tensor | float, x: Tensor | float, y: Tensor | float) -> Tensor:
        """Solution at points.

        Args:
            t: Times >= 0, any shape.
            x: First coordinate in ``[0, 1]``; broadcasts against ``t``.
            y: Second coordinate in ``[0, 1]``; broadcasts against ``t`` and ``x``.

        Returns:
            ``u(t, x, y)`` of the broadcast shape, float64.

        Raises:
            ValueError: If a time is negative or not finite.
        """
        place = [torch.cos(math.pi * torch.as_tensor(p, dtype=torch.float64)) for p in (x, y)]
        swing = torch.cos(self.frequency * self._time(t))
        return self.kappa * swing * place[0] * place[1]

    def cell_averages(self, t: Tensor | float, x_edges: Tensor, y_edges: Tensor) -> Tensor:
        """Exact averages over the cells of a grid.

        Args:
            t: Times >= 0, shape ``(*batch)``.
            x_edges: Faces along the first axis, ``(nx + 1,)``, increasing.
            y_edges: Faces along the second axis, ``(ny + 1,)``, increasing.

        Returns:
            Averages of ``u``, shape ``(*batch, nx, ny)``, float64.

        Raises:
            ValueError: If a time is negative or not finite.
        """
        swing = torch.cos(self.frequency * self._time(t))
        return self.kappa * swing[..., None, None] * _modes(x_edges, y_edges)

    def speed_averages(self, t: Tensor | float, x_edges: Tensor, y_edges: Tensor) -> Tensor:
        """Exact averages of ``v = u_t`` over the cells of a grid; as :meth:`cell_averages`."""
        swing = -self.frequency * torch.sin(self.frequency * self._time(t))
        return self.kappa * swing[..., None, None] * _modes(x_edges, y_edges)

    def flux(
        self, t: Tensor | float, x: Tensor | float, y: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Flux of ``v = u_t``, ``-c^2 grad u``, along x and y; arguments as :meth:`values`."""
        swing = torch.cos(self.frequency * self._time(t))
        strength = math.pi * self.c**2 * self.kappa * swing
        places = [math.pi * torch.as_tensor(p, dtype=torch.float64) for p in (x, y)]
        along_x = strength * torch.sin(places[0]) * torch.cos(places[1])
        return along_x, strength * torch.cos(places[0]) * torch.sin(places[1])

    def mean_fluxes(self, times: Tensor, x_edges: Tensor, y_edges: Tensor) -> tuple[Tensor, Tensor]:
        """Exact mean of the flux of ``v`` over each interval of time and each face.

        Args:
            times: Increasing times >= 0, shape ``(k,)``, ``k >= 2``.
            x_edges: As in :meth:`cell_averages`.
            y_edges: As in :meth:`cell_averages`.

        Returns:
            Along x, shape ``(k - 1, nx + 1, ny)``, and along y, shape ``(k - 1, nx, ny + 1)``.

        Raises:
            ValueError: If a time is negative or not finite.
        """
        time = self._time(times)
        swing = (torch.sin(self.frequency * time) / self.frequency).diff() / time.diff()
        strength = (math.pi * self.c**2 * self.kappa * swing)[:, None, None]
        slope = [_end_sines(edges) for edges in (x_edges, y_edges)]
        mode = [_mode(edges) for edges in (x_edges, y_edges)]
        along_x = strength * (slope[0].unsqueeze(1) * mode[1])
        along_y = strength * (mode[0].unsqueeze(1) * slope[1])
        return along_x, along_y

    def mean_sources(self, times: Tensor, x_edges: Tensor, y_edges: Tensor) -> Tensor:
        """Exact mean of ``v``, the source of ``u``, over each interval and cell.

        Args:
            times: As in :meth:`mean_fluxes`.
            x_edges: As in :meth:`cell_averages`.
            y_edges: As in :meth:`cell_averages`.

        Returns:
            Shape ``(k - 1, nx, ny)``, float64.

        Raises:
            ValueError: If a time is negative or not finite.
        """
        gained = self.cell_averages(times, x_edges, y_edges).diff(dim=0)
        return gained / self._time(times).diff()[:, None, None]

    def mass(self, t: Tensor | float) -> Tensor:
        """Total of ``u``, which is 0; shape of ``t``, float64."""
        return torch.zeros_like(self._time(t))

    def _time(self, t: Tensor | float) -> Tensor:
        time = torch.as_tensor(t, dtype=torch.float64)
        if not bool(((time >= 0) & time.isfinite()).all()):
            raise ValueError(f"Wave: expected t to be finite and >= 0, got {time.min().item()}")
        return time


def _mode(edges: Tensor) -> Tensor:
    """Averages of cos(pi x) over cells: cos(pi c) sin(pi h/2)/(pi h/2)."""
    faces = torch.as_tensor(edges, dtype=torch.float64)
    width = faces.diff()
    return torch.cos(math.pi * (faces[:-1] + width / 2)) * torch.sinc(width / 2)


def _modes(x_edges: Tensor, y_edges: Tensor) -> Tensor:
    return _mode(x_edges).unsqueeze(1) * _mode(y_edges)


def _end_sines(edges: Tensor) -> Tensor:
    """sin(pi x) at faces, exactly 0 at both edges of the square."""
    faces = torch.as_tensor(edges, dtype=torch.float64)
    return torch.where((faces <= 0) | (faces >= 1), 0.0, torch.sin(math.pi * faces))
