# SPDX-License-Identifier: Apache-2.0
"""Heat equation with a source and prescribed fluxes at both ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


# exp(-38) is below the rounding of a sum of order 1.
_NEGLIGIBLE = 38.0
_MOST_TERMS = 20_000


@dataclass(frozen=True)
class Heat(Problem):
    r"""Heat equation with a source and prescribed fluxes at both ends.

    .. math:: u_t = k u_{xx} + \tfrac{U \pi}{2} x^2 \cos \pi t, \quad u_0 = \cos \omega\pi x, \quad
              u_x(t, 0) = 0,\ u_x(t, 1) = U \sin \pi t, \quad \text{on } [0, 1]

    .. math:: u = \tfrac{U}{2} x^2 \sin\pi t + \tfrac{kU}{\pi}(1 - \cos\pi t)
              + \mathrm{sinc}\,\omega + \sum_{n \ge 1}
              (\mathrm{sinc}(\omega + n) + \mathrm{sinc}(\omega - n)) e^{-k n^2 \pi^2 t} \cos n\pi x

    with :math:`\mathrm{sinc}\,z = \sin(\pi z)/(\pi z)`. At ``t = 0`` the initial field itself is
    used instead of the series, which converges slowly there.

    Args:
        amplitude: Amplitude ``U`` of source and end slope, dimensionless.
        omega: Half waves of the initial field, dimensionless, finite and > 0.
        k: Diffusivity, dimensionless, finite and > 0.

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: the total changes by the flux at the right end and by the source.
        Cost: the number of terms grows like ``1 / sqrt(k t)`` with the first positive time; times
        that would need more than 20000 terms (``t < 1e-6`` for ``k = 0.01``) are refused.

    Good values:
        ``k = 0.01``, ``amplitude = 5``, ``omega`` in [2.01, 3.99], ``t`` up to 0.5.
    """

    amplitude: float = parameter(5.0, "amplitude of source and end slope", draw=(5.0, 5.0))
    omega: float = parameter(3.0, "half waves of the initial field", low=0.0, draw=(2.01, 3.99))
    k: float = parameter(0.01, "diffusivity", low=0.0, draw=(0.01, 0.01))

    name: ClassVar[str] = "heat"
    formula: ClassVar[str] = "u_t = k u_xx + f, u_x(t, 0) = 0, u_x(t, 1) = U sin(pi t)"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 0.5
    kinds: ClassVar[tuple[str, str]] = ("neumann", "neumann")
    has_source: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return f"Heat, omega = {self.omega:g}, k = {self.k:g}"

    def _series(self, t: Tensor, x: Tensor, derivative: int) -> Tensor:
        """Initial field after the time t: its integral beyond x (-1), value (0) or slope (1).

        The integral leaves out the constant term.
        """
        positive = t[t > 0]
        started = torch.zeros_like(t * x)
        if positive.numel():
            first = positive.min().item()
            terms = math.ceil(math.sqrt(_NEGLIGIBLE / (self.k * math.pi**2 * first)))
            if terms > _MOST_TERMS:
                least = _NEGLIGIBLE / (self.k * math.pi**2 * _MOST_TERMS**2)
                raise ValueError(f"Heat: expected t to be 0 or at least {least:.3g}, got {first}")
            n = torch.arange(1, terms + 1, dtype=torch.float64)
            amplitude = torch.sinc(self.omega + n) + torch.sinc(self.omega - n)
            decay = torch.exp(-self.k * (n * math.pi) ** 2 * t.unsqueeze(-1)) * amplitude
            angle = math.pi * n * x.unsqueeze(-1)
            shape = {
                -1: lambda: -torch.sin(angle) / (math.pi * n),
                0: lambda: torch.cos(angle),
                1: lambda: -math.pi * n * torch.sin(angle),
            }[derivative]()
            started = torch.einsum("...n,...n->...", decay, shape)
        wave = self.omega * math.pi
        initial = {
            -1: lambda: (
                (math.sin(wave) - torch.sin(wave * x)) / wave - (1 - x) * (math.sin(wave) / wave)
            ),
            0: lambda: torch.cos(wave * x) - math.sin(wave) / wave,
            1: lambda: -wave * torch.sin(wave * x),
        }[derivative]()
        return torch.where(t > 0, started, initial)

    def _lift(self, t: Tensor) -> Tensor:
        """Part of the solution that depends on time alone."""
        mean = math.sin(self.omega * math.pi) / (self.omega * math.pi)
        return self.k * self.amplitude / math.pi * (1 - torch.cos(math.pi * t)) + mean

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        driven = self.amplitude / 2 * x**2 * torch.sin(math.pi * t)
        return driven + self._lift(t) + self._series(t, x, 0)

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        driven = self.amplitude / 6 * (1 - x**3) * torch.sin(math.pi * t)
        return driven + self._lift(t) * (1 - x) + self._series(t, x, -1)

    def _mass(self, t: Tensor) -> Tensor:
        return self.amplitude / 6 * torch.sin(math.pi * t) + self._lift(t)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        driven = self.amplitude * x * torch.sin(math.pi * t)
        return -self.k * (driven + self._series(t, x, 1))

    def _outflow(self, t: Tensor) -> Tensor:
        return -self.k * self.amplitude / math.pi * (1 - torch.cos(math.pi * t))

    def _source(self, t: Tensor, x: Tensor) -> Tensor:
        return self.amplitude / 6 * (1 - x**3) * torch.sin(math.pi * t)

    def _slope(self, t: Tensor, end: float) -> Tensor:
        slope = self.amplitude * torch.sin(math.pi * t)
        return slope if end == self.domain[1] else torch.zeros_like(t)
