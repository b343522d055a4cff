# SPDX-License-Identifier: Apache-2.0
"""Stokes' second problem: fluid over an oscillating plate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


@dataclass(frozen=True)
class Stokes(Problem):
    r"""Stokes' second problem: fluid over a plate that oscillates in its own plane.

    .. math:: u_t = \nu u_{yy}, \quad u = U e^{-ky} \cos(ky - \omega t), \quad
              k = \sqrt{\omega / (2\nu)}, \quad \text{on } [0, 1]

    ``x`` stands for the distance ``y`` from the plate. Both ends carry the values of the solution.

    Args:
        amplitude: Speed amplitude ``U`` of the plate, dimensionless.
        omega: Angular frequency, dimensionless, finite and > 0.
        nu: Viscosity, dimensionless, finite and > 0.

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: the momentum changes by the shear at both ends.

    Good values:
        ``amplitude = 2``, ``omega`` in [3, 4], ``nu`` in 0.001 ... 0.1, ``t`` up to 2.
    """

    amplitude: float = parameter(2.0, "speed amplitude of the plate", draw=(2.0, 2.0))
    omega: float = parameter(3.5, "angular frequency", low=0.0, draw=(3.0, 4.0))
    nu: float = parameter(0.1, "viscosity", low=0.0, draw=(0.1, 0.1))

    name: ClassVar[str] = "stokes"
    formula: ClassVar[str] = "u_t = nu u_yy, u(t, 0) = U cos(omega t)"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 2.0

    @property
    def title(self) -> str:
        return f"Stokes, omega = {self.omega:g}, nu = {self.nu:g}"

    @property
    def decay(self) -> float:
        """Decay rate and wave number ``k``."""
        return math.sqrt(self.omega / (2.0 * self.nu))

    def _wave(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the phase, damped."""
        phase = self.decay * x - self.omega * t
        damped = self.amplitude * torch.exp(-self.decay * x)
        return damped * torch.cos(phase), damped * torch.sin(phase)

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        return self._wave(t, x)[0]

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        cosine, sine = self._wave(t, x)
        last_cosine, last_sine = self._wave(t, x.new_tensor(self.domain[1]))
        return ((last_sine - last_cosine) - (sine - cosine)) / (2.0 * self.decay)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        cosine, sine = self._wave(t, x)
        return self.nu * self.decay * (cosine + sine)

    def _outflow(self, t: Tensor) -> Tensor:
        end = t.new_tensor(self.domain[1])
        cosine, sine = self._wave(t, end)
        first_cosine, first_sine = self._wave(torch.zeros_like(t), end)
        turned = (cosine - sine) - (first_cosine - first_sine)
        return self.nu * self.decay / self.omega * turned
