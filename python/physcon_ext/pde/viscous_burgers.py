# SPDX-License-Identifier: Apache-2.0
"""Viscous Burgers equation: a front of constant shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


@dataclass(frozen=True)
class ViscousBurgers(Problem):
    r"""Viscous Burgers equation: a front of constant shape that moves at constant speed.

    .. math:: u_t + (u^2/2)_x = \nu u_{xx}, \quad
              u = s - \tfrac{J}{2} \tanh\frac{J (x - 1/2 - st)}{4\nu}, \quad
              s = \tfrac{u_L + u_R}{2},\ J = u_L - u_R, \quad \text{on } [0, 1]

    Both ends carry the values of the solution.

    Args:
        u_left: Value far behind the front, dimensionless.
        u_right: Value far ahead of the front, dimensionless, below ``u_left``.
        nu: Viscosity, dimensionless, finite and > 0.

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: in the frame of the front the flux is ``s u - u_left u_right / 2``, so its
        integral over time is the primitive of ``u``.

    Good values:
        ``u_left`` in [0.5, 1], ``u_right`` in [-0.5, 0.3], ``nu = 0.1`` and smaller, ``t`` up to
        1.2.
    """

    u_left: float = parameter(1.0, "value behind the front", draw=(0.5, 1.0))
    u_right: float = parameter(0.0, "value ahead of the front", draw=(-0.5, 0.3))
    nu: float = parameter(0.1, "viscosity", low=0.0, draw=(0.1, 0.1))

    name: ClassVar[str] = "viscous_burgers"
    formula: ClassVar[str] = "u_t + (u^2/2)_x = nu u_xx, travelling front"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 1.2
    has_front: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.u_left > self.u_right:
            raise ValueError(
                f"ViscousBurgers: expected u_left to be above u_right = {self.u_right}, "
                f"got {self.u_left}"
            )

    @property
    def title(self) -> str:
        return f"Viscous Burgers, nu = {self.nu:g}"

    @property
    def speed(self) -> float:
        """Speed of the front."""
        return (self.u_left + self.u_right) / 2

    def _distance(self, t: Tensor, x: Tensor) -> Tensor:
        """Distance from the centre of the front over its half width."""
        return (self.u_left - self.u_right) * (x - 0.5 - self.speed * t) / (4 * self.nu)

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        half = (self.u_left - self.u_right) / 2
        return self.speed - half * torch.tanh(self._distance(t, x))

    def _primitive(self, t: Tensor, x: Tensor) -> Tensor:
        """Primitive of u in the distance from the front: s d - 2 nu log cosh(z)."""
        z = self._distance(t, x).abs()
        log_cosh = z + torch.log1p(torch.expm1(-2 * z) / 2)
        return self.speed * (x - 0.5 - self.speed * t) - 2 * self.nu * log_cosh

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        return self._primitive(t, x.new_tensor(self.domain[1])) - self._primitive(t, x)

    def _slope_of(self, t: Tensor, x: Tensor) -> Tensor:
        half = (self.u_left - self.u_right) / 2
        return -(half**2) / (2 * self.nu) / torch.cosh(self._distance(t, x)) ** 2

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        return self._values(t, x) ** 2 / 2 - self.nu * self._slope_of(t, x)

    def _outflow(self, t: Tensor) -> Tensor:
        end = t.new_tensor(self.domain[1])
        passed = self._primitive(torch.zeros_like(t), end) - self._primitive(t, end)
        return passed - self.u_left * self.u_right / 2 * t

    def _front(self, t: Tensor) -> Tensor:
        centre = 0.5 + self.speed * t
        return torch.where((centre >= 0) & (centre <= 1.0), centre, torch.nan)

    def _jump(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.u_left - self.u_right)

    def _crossing(self, t: Tensor, level: float) -> Tensor:
        half = (self.u_left - self.u_right) / 2
        place = (self.speed - level) / half
        if not -1 < place < 1:
            raise ValueError(
                f"ViscousBurgers: expected level to be in ({self.u_right:g}, {self.u_left:g}), "
                f"got {level}"
            )
        return 0.5 + self.speed * t + 2 * self.nu / half * math.atanh(place)
