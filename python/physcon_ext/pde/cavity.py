# SPDX-License-Identifier: Apache-2.0
"""Flow in a square box whose lid slides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from physcon_ext.boundary import BoundaryConditions, Dirichlet
from physcon_ext.pde.equation import Equation, parameter


@dataclass(frozen=True)
class Cavity(Equation):
    r"""Flow of an incompressible fluid in a square box whose lid slides.

    .. math:: \omega_t + u \omega_x + v \omega_y = \mathrm{Re}^{-1} \Delta \omega, \quad
              \Delta \psi = -\omega, \quad (u, v) = (\psi_y, -\psi_x) \quad \text{on } [0, 1]^2

    The fluid is at rest at ``t = 0``; from then on the lid at ``y = 1`` moves at the speed ``lid``
    along x and the other walls stand still. No solution in closed form is known: data sets come
    from the finite-volume solver of :mod:`physcon_ext.fv`.

    Args:
        lid: Speed of the lid, dimensionless, finite and > 0.
        reynolds: Reynolds number of unit length and speed, dimensionless, in (0, 1001).

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: the integral of the vorticity is the circulation along the walls, ``-lid``, at
        all times.

    Good values:
        ``reynolds = 100``, ``lid`` in [1, 1.5], ``t`` up to 2.
    """

    lid: float = parameter(1.0, "speed of the lid", low=0.0, draw=(1.0, 1.5))
    reynolds: float = parameter(100.0, "Reynolds number", low=0.0, high=1001.0, draw=(100.0, 100.0))

    name: ClassVar[str] = "cavity"
    formula: ClassVar[str] = "w_t + u w_x + v w_y = (w_xx + w_yy) / Re, u = lid at the top"
    duration: ClassVar[float] = 2.0
    spatial_dims: ClassVar[int] = 2
    variable: ClassVar[str] = "vorticity"
    usual_cells: ClassVar[int] = 50
    usual_times: ClassVar[int] = 26

    @property
    def title(self) -> str:
        return f"Cavity, Re = {self.reynolds:g}, lid = {self.lid:g}"

    @property
    def boundary(self) -> BoundaryConditions:
        """Conditions of the speed along x; the speed along y is 0 at every wall."""
        still = Dirichlet(0.0)
        return BoundaryConditions(still, still, still, Dirichlet(self.lid))

    @property
    def circulation(self) -> float:
        """Integral of the vorticity at all times, by Stokes' theorem."""
        return -self.lid
