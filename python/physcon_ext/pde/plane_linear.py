# SPDX-License-Identifier: Apache-2.0
"""Linear problems on a square: a decaying mode, and a square block that is carried along."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.plane import PlaneProblem


@dataclass(frozen=True)
class PlaneDiffusion(PlaneProblem):
    r"""Heat equation on a torus.

    .. math:: u_t = k \Delta u, \quad u = e^{-2kt} \sin x \sin y \quad \text{on } [0, 2\pi]^2

    Args:
        k: Diffusivity, dimensionless, finite and > 0.

    Raises:
        ValueError: If ``k`` is not positive.

    Notes:
        Conservation: the total is 0 at all times; what enters on one side leaves on the other.

    Good values:
        ``k`` in [1, 5], ``t`` up to 0.5.

    Example:
        >>> round(PlaneDiffusion(k=1.0).values(0.5, math.pi / 2, math.pi / 2).item(), 6)
        0.367879
    """

    k: float = parameter(1.0, "diffusivity", low=0.0, draw=(1.0, 5.0))

    name: ClassVar[str] = "diffusion_2d"
    formula: ClassVar[str] = "u_t = k (u_xx + u_yy)"
    domain: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = (
        (0.0, 2.0 * math.pi),
        (0.0, 2.0 * math.pi),
    )
    kinds: ClassVar[tuple[str, str, str, str]] = ("periodic",) * 4
    duration: ClassVar[float] = 0.5

    @property
    def title(self) -> str:
        return f"Diffusion in the plane, k = {self.k:g}"

    def _values(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-2 * self.k * t) * torch.sin(x) * torch.sin(y)

    def _averages(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-2 * self.k * t) * _mean_sine(x).unsqueeze(1) * _mean_sine(y)

    def _passed(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        strength = torch.expm1(-2 * self.k * t) / 2
        along_x = strength * torch.cos(x).unsqueeze(1) * _mean_sine(y)
        return along_x, strength * _mean_sine(x).unsqueeze(1) * torch.cos(y)

    def _flux(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        strength = -self.k * torch.exp(-2 * self.k * t)
        return strength * torch.cos(x) * torch.sin(y), strength * torch.sin(x) * torch.cos(y)

    def _mass(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


def _mean_sine(faces: Tensor) -> Tensor:
    """Averages of sin over cells, without cancellation."""
    half = faces.diff() / 2
    return torch.sin(faces[:-1] + half) * torch.sin(half) / half


# Ends of the block along either axis at t = 0.
_LOW, _HIGH = 0.1, 0.4


@dataclass(frozen=True)
class PlaneAdvection(PlaneProblem):
    r"""Linear advection of a square block.

    .. math:: u_t + a u_x + b u_y = 0, \quad u_0 = 1 \text{ on } [0.1, 0.4]^2, \text{ else } 0,
              \quad \text{on } [0, 1]^2

    Args:
        a: Speed along x, dimensionless, finite and > 0.
        b: Speed along y, dimensionless, finite and > 0.

    Raises:
        ValueError: If a speed is not positive.

    Notes:
        Conservation: the total is 0.09 until the block leaves through the right or the top edge.
        Points on the rim belong to the block.

    Good values:
        ``a`` and ``b`` in [0.2, 0.5], ``t`` up to 1: the block stays inside.

    Example:
        >>> px.pde.PlaneAdvection(a=1.0, b=0.2).mass(torch.tensor([0.0, 0.5, 0.75, 1.0]))
        tensor([0.0900, 0.0900, 0.0450, 0.0000], dtype=torch.float64)
    """

    a: float = parameter(0.5, "speed along x", low=0.0, draw=(0.2, 0.5))
    b: float = parameter(0.3, "speed along y", low=0.0, draw=(0.2, 0.5))

    name: ClassVar[str] = "advection_2d"
    formula: ClassVar[str] = "u_t + a u_x + b u_y = 0"
    domain: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = ((0.0, 1.0), (0.0, 1.0))
    kinds: ClassVar[tuple[str, str, str, str]] = ("dirichlet", "outflow", "dirichlet", "outflow")
    duration: ClassVar[float] = 1.0

    @property
    def title(self) -> str:
        return f"Advection in the plane, a = {self.a:g}, b = {self.b:g}"

    def _values(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        inside = [
            (place >= _LOW + speed * t) & (place <= _HIGH + speed * t)
            for place, speed in ((x, self.a), (y, self.b))
        ]
        return (inside[0] & inside[1]).to(torch.float64)

    def _averages(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        along_x, along_y = _shares(t, x, self.a), _shares(t, y, self.b)
        return along_x.transpose(-2, -1) * along_y

    def _passed(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        along_x = self.a * _covered(t, x, self.a, y, self.b)
        along_y = self.b * _covered(t, y, self.b, x, self.a)
        return along_x, along_y.transpose(-2, -1)

    def _flux(self, t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        values = self._values(t, x, y)
        return self.a * values, self.b * values

    def _mass(self, t: Tensor) -> Tensor:
        sides = [
            (_HIGH + speed * t).clamp_max(1.0) - (_LOW + speed * t).clamp_max(1.0)
            for speed in (self.a, self.b)
        ]
        return sides[0] * sides[1]


def _shares(t: Tensor, faces: Tensor, speed: float) -> Tensor:
    """Part of each cell that the block covers along one axis; ``t`` ``(..., 1)``."""
    low, high = (torch.clamp(end + speed * t, faces[:-1], faces[1:]) for end in (_LOW, _HIGH))
    return (high - low) / faces.diff()


def _covered(t: Tensor, x: Tensor, a: float, y: Tensor, b: float) -> Tensor:
    """Time up to ``t`` during which the block was on the face at x, weighted with its share of each
    cell along y: ``(k, nx + 1, ny)``."""
    begin, end = (
        torch.minimum(((x - place) / a).unsqueeze(1), t).clamp_min(0) for place in (_HIGH, _LOW)
    )
    return _share_integral(end, y, b) - _share_integral(begin, y, b)


def _share_integral(t: Tensor, faces: Tensor, speed: float) -> Tensor:
    """Integral of :func:`_shares` over [0, t]."""
    low, high = faces[:-1], faces[1:]

    def primitive(z: Tensor | float) -> Tensor:
        """Integral of clip(z, low, high) - low."""
        place = torch.as_tensor(z, dtype=torch.float64)
        inside = torch.minimum(torch.maximum(place, low), high) - low
        return inside**2 / 2 + (place - high).clamp_min(0) * (high - low)

    ahead, behind = (primitive(end + speed * t) - primitive(end) for end in (_HIGH, _LOW))
    return (ahead - behind) / (speed * (high - low))
