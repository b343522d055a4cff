# SPDX-License-Identifier: Apache-2.0
"""Porous medium equation in the plane: a drop that spreads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.plane import PlaneProblem


_NODES = 16  # of Gauss and Legendre on each half of a side
_GRADING = 4  # power that brings the nodes close to the front


@dataclass(frozen=True)
class PorousDrop(PlaneProblem):
    r"""Porous medium equation in the plane: a drop that spreads (Barenblatt 1952).

    .. math:: u_t = \nabla\cdot(u^m \nabla u), \quad
              u = \tau^{-2\beta} (C - \kappa r^2 \tau^{-2\beta})_+^{1/m}, \quad
              \tau = \frac{t + t_0}{m + 1},\ \beta = \frac{1}{2m + 2},\
              \kappa = \frac{\beta m}{2(m + 1)} \quad \text{on } [-1, 1]^2

    with :math:`C` such that the mass is ``volume``, and :math:`t_0` such that the drop has the
    radius ``radius`` at ``t = 0``.

    Args:
        m: Exponent, dimensionless, finite and > 0.
        volume: Mass of the drop, dimensionless, finite and > 0.
        radius: Radius of the drop at ``t = 0``, dimensionless, in (0, 1).

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: the mass is ``volume`` until the drop reaches an edge, at ``last_time``.
        With :math:`U(r)` the mass within r, the field :math:`U(r)/(2\pi r)` along r has the
        divergence u: cell averages are its integrals around the cells, and integrated fluxes their
        changes in time. Sides are cut at the front, and nodes graded towards it.

    Good values:
        ``m`` in [1, 4], ``volume`` in [0.2, 0.3], ``radius = 0.25``, ``t`` up to 0.5.

    Example:
        >>> drop = PorousDrop(m=2.0, volume=0.2)
        >>> x, y = drop.edges(20)
        >>> bool((drop.cell_averages(0.5, x, y).sum() * 0.01 - 0.2).abs() < 1e-14)
        True
    """

    m: float = parameter(2.0, "exponent", low=0.0, draw=(1.0, 4.0))
    volume: float = parameter(0.3, "mass of the drop", low=0.0, draw=(0.2, 0.3))
    radius: float = parameter(0.25, "radius at the start", low=0.0, high=1.0, draw=(0.25, 0.25))

    name: ClassVar[str] = "porous_medium_2d"
    formula: ClassVar[str] = "u_t = div(u^m grad u)"
    domain: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = ((-1.0, 1.0), (-1.0, 1.0))
    kinds: ClassVar[tuple[str, str, str, str]] = ("dirichlet",) * 4
    duration: ClassVar[float] = 0.5

    @property
    def title(self) -> str:
        return f"Drop of porous medium, m = {self.m:g}"

    @property
    def beta(self) -> float:
        """Exponent of the radius in time."""
        return 1.0 / (2.0 * self.m + 2.0)

    @property
    def _kappa(self) -> float:
        return self.beta * self.m / (2.0 * (self.m + 1.0))

    @cached_property
    def _height(self) -> float:
        """``C``: the mass is pi C^(1 + 1/m) m / (kappa (m + 1))."""
        whole = self.volume * self._kappa * (self.m + 1.0) / (math.pi * self.m)
        return math.exp(math.log(whole) * self.m / (self.m + 1.0))

    def _age(self, radius: float) -> float:
        """Time since the drop was a point, at which it has a radius."""
        scale = math.sqrt(self._height / self._kappa)
        return (self.m + 1.0) * (radius / scale) ** (1.0 / self.beta)

    @property
    def last_time(self) -> float:
        return self._age(1.0) - self._age(self.radius)

    def front_radius(self, t: Tensor | float) -> Tensor:
        """Radius of the drop; shape of ``t``, float64."""
        return self._front(self._time(t))

    def _front(self, t: Tensor) -> Tensor:
        start = self._age(self.radius)
        return self.radius * ((t + start) / start) ** self.beta

    def _peak(self, t: Tensor) -> Tensor:
        """Value in the middle: mass = pi R^2 peak m/(m + 1)."""
        return self.volume * (self.m + 1.0) / (self.m * math.pi * self._front(t) ** 2)

    def _values(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        share = (x**2 + y**2) / self._front(t) ** 2
        return self._peak(t) * (1.0 - share).clamp_min(0) ** (1.0 / self.m)

    def _flux(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        # Everything moves away from the middle with the speed beta r / age.
        speed = self.beta / (t + self._age(self.radius))
        values = self._values(t, x, y)
        return speed * x * values, speed * y * values

    def _averages(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self._averages_from(self._around(t, x, y), t, x, y)

    def _averages_from(
        self, around: tuple[Tensor, Tensor], t: Tensor, x: Tensor, y: Tensor
    ) -> Tensor:
        along_x, along_y = around
        volume = x.diff().unsqueeze(1) * y.diff()
        amount = along_x.diff(dim=-2) + along_y.diff(dim=-1)
        near = [_distance(faces) for faces in (x, y)]
        outside = near[0].unsqueeze(1) ** 2 + near[1] ** 2 >= self._front(t) ** 2
        # Differences of rounded numbers: a dry cell is dry, and none is less than that.
        return torch.where(outside, 0.0, amount / volume).clamp_min(0)

    def _passed(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._averages_and_passed(t, x, y)[1]

    def _averages_and_passed(
        self, t: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        around = self._around(t, x, y)
        passed = -around[0] / y.diff(), -around[1] / x.diff().unsqueeze(1)
        return self._averages_from(around, t, x, y), passed

    def _around(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Integrals of the field with divergence u over the faces across x and across y."""
        along_x = self._through(t, x, y)
        along_y = along_x if torch.equal(x, y) else self._through(t, y, x)
        return along_x, along_y.transpose(-2, -1)

    def _through(self, t: Tensor, at: Tensor, along: Tensor) -> Tensor:
        """Integrals over faces at ``at`` that reach from one of ``along`` to the next."""
        front = self._front(t)
        place, low, high = at.unsqueeze(1), along[:-1], along[1:]
        reach = (front**2 - place**2).clamp_min(0).sqrt()  # the front cuts the line at +-reach
        first = torch.minimum(torch.maximum(low, -reach), high)
        last = torch.maximum(torch.minimum(high, reach), first)
        within = self._within(front, place, first, last)
        # Beyond the front all of the mass counts: the angle under which the rest is seen.
        beyond = _angle(place, low, first) + _angle(place, last, high)
        return within + self.volume / (2.0 * math.pi) * beyond

    def _within(self, front: Tensor, place: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """The part inside the front, in two halves with nodes that crowd at its ends."""
        node, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(_NODES))
        s = (node + 1.0) / 2.0
        half = (last - first) / 2.0
        middle = (last + first) / 2.0
        step = 1.0 - s**_GRADING
        factor = weight / 2.0 * _GRADING * s ** (_GRADING - 1)
        total = torch.zeros_like(half)
        for share, inward in zip(factor, step, strict=True):
            for side in (-half, half):
                total = total + share * self._field(front, place, middle + side * inward)
        return total * half

    def _field(self, front: Tensor, place: Tensor, other: Tensor) -> Tensor:
        """``place * U(r) / (2 pi r^2)``, with U = volume (1 - (1 - r^2/R^2)^(1 + 1/m))."""
        z = ((place**2 + other**2) / front**2).clamp_max(1.0)
        ratio = -torch.expm1((1.0 + 1.0 / self.m) * torch.log1p(-z)) / torch.where(z > 0, z, 1.0)
        ratio = torch.where(z > 0, ratio, 1.0 + 1.0 / self.m)
        return self.volume / (2.0 * math.pi) * place / front**2 * ratio

    def _mass(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.volume)


def _distance(faces: Tensor) -> Tensor:
    """Distance of each cell from 0."""
    return torch.maximum(faces[:-1], -faces[1:]).clamp_min(0)


def _angle(place: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Angle under which a part of the line at ``place`` is seen from the middle, signed."""
    return torch.atan2(place * (high - low), place**2 + low * high)
