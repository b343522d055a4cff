# SPDX-License-Identifier: Apache-2.0
"""Inviscid Burgers equation on a torus: oblique shocks that decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.plane import PlaneProblem


@dataclass(frozen=True)
class PlaneBurgers(PlaneProblem):
    r"""Inviscid Burgers equation on a torus: a sawtooth with oblique shocks, which decays.

    .. math:: u_t + (u^2/2)_x + (u^2/2)_y = 0, \quad
              u = c + B \bigl(\{x + y - 2ct\} - \tfrac12\bigr), \quad B = \frac{A}{1 + 2At}
              \quad \text{on } [0, 1]^2

    with :math:`\{z\}` the fractional part of z. Along :math:`\xi = x + y` this is
    :math:`v_t + (v^2)_\xi = 0`: slopes flatten as 1/t, and the shocks at
    :math:`\xi = 2ct + \text{integer}` travel with the mean of their sides.

    Args:
        mean: Mean :math:`c`, dimensionless.
        jump: Height :math:`A` of the shocks at ``t = 0``, dimensionless, finite and > 0.

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: the total is ``mean`` at all times. On a shock the value of the side ahead is
        taken. The potential :math:`V`, :math:`V_\xi = v`, :math:`V_t = -v^2`, gives what passes a
        face.

    Good values:
        ``mean`` in [-0.5, 0.5], ``jump`` in [0.5, 2], ``t`` up to 1.

    Example:
        >>> PlaneBurgers(mean=0.0, jump=1.0).values(0.5, 0.25, 0.0).item()
        -0.125
    """

    mean: float = parameter(0.25, "mean", draw=(-0.5, 0.5))
    jump: float = parameter(1.0, "height of the shocks at the start", low=0.0, draw=(0.5, 2.0))

    name: ClassVar[str] = "burgers_2d"
    formula: ClassVar[str] = "u_t + (u^2/2)_x + (u^2/2)_y = 0"
    domain: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = ((0.0, 1.0), (0.0, 1.0))
    kinds: ClassVar[tuple[str, str, str, str]] = ("periodic",) * 4
    duration: ClassVar[float] = 1.0

    @property
    def title(self) -> str:
        return f"Burgers in the plane, mean = {self.mean:g}, jump = {self.jump:g}"

    def _slope(self, t: Tensor) -> Tensor:
        return self.jump / (1 + 2 * self.jump * t)

    def _values(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        phase = x + y - 2 * self.mean * t
        return self.mean + self._slope(t) * (phase - phase.floor() - 0.5)

    def _averages(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        # {z} = z - floor(z): the mean of z is its value in the middle; that of the floor counts the
        # parts of the cell beyond the integers, at most two of which cut it.
        centre = (x[1:] + x[:-1]).unsqueeze(1) / 2 + (y[1:] + y[:-1]) / 2
        first = (x[:-1].unsqueeze(1) + y[:-1] - 2 * self.mean * t).floor()
        steps = first
        for k in (1, 2):
            steps = steps + _part_beyond(first + k + 2 * self.mean * t, x, y)
        fraction = centre - 2 * self.mean * t - steps
        return self.mean + self._slope(t) * (fraction - 0.5)

    def _passed(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        def along(face: Tensor, other: Tensor) -> Tensor:
            return -self._potential_integral(t, face.unsqueeze(1) + other).diff(dim=-1) / 2

        along_x = along(x, y) / y.diff()
        return along_x, (along(y, x) / x.diff()).transpose(-2, -1)

    def _potential_integral(self, t: Tensor, xi: Tensor) -> Tensor:
        """Primitive in xi of V = c xi + B (f^2 - f)/2 + e(t), f the fractional part of xi - 2ct.

        ``V_t = -v^2`` gives ``e' = -c^2 - B^2/4`` and, with ``B' = -2 B^2``,
        ``e = -c^2 t + (B - A)/8``.
        """
        c, slope = self.mean, self._slope(t)
        phase = xi - 2 * c * t
        whole = phase.floor()
        f = phase - whole
        waves = -whole / 6 + f**2 * (f / 3 - 0.5)
        # The integral of the waves starts where the phase is 0, which moves.
        start = -2 * c * t
        f0 = start - start.floor()
        waves = waves - (-start.floor() / 6 + f0**2 * (f0 / 3 - 0.5))
        shift = -(c**2) * t + (slope - self.jump) / 8
        return c * xi**2 / 2 + slope / 2 * waves + shift * xi

    def _flux(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        flux = self._values(t, x, y) ** 2 / 2
        return flux, flux

    def _mass(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.mean)


def _part_beyond(level: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Share of each cell with x + y >= level, ``level`` per cell."""
    (left, right), (low, high) = (x[:-1, None], x[1:, None]), (y[:-1], y[1:])
    # Outside the cell the share is 0 or 1; inside, squares of lengths within the cell.
    place = torch.maximum(torch.minimum(level, right + high), left + low)

    def triangle(z: Tensor) -> Tensor:
        return z.clamp_min(0) ** 2 / 2

    area = triangle(right + high - place) - triangle(left + high - place)
    area = area - triangle(right + low - place) + triangle(left + low - place)
    return area / ((right - left) * (high - low))
