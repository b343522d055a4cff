# SPDX-License-Identifier: Apache-2.0
"""Viscous Burgers equation on a circle, from a random smooth field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import Stream, parameter, vector_parameter
from physcon_ext.pde.problem import Problem


MODES = 64
# Points of the quadrature over the circle, at least.
_POINTS = 1024
# Kernels narrower than this many points would alias.
_NARROWEST = 1.5


@dataclass(frozen=True)
class PeriodicBurgers(Problem):
    r"""Viscous Burgers equation on a circle, from a random smooth field.

    .. math:: u_t + (u^2/2)_x = \nu u_{xx}, \quad
              u_0 = c + \sum_{k=1}^{64} \sqrt2 (a_k \cos 2\pi k x + b_k \sin 2\pi k x)
              \quad \text{on } [0, 1]

    The Cole-Hopf transform (Hopf, *The partial differential equation u_t + u u_x = mu u_xx*, 1950)
    gives :math:`u = c + \psi_x(t, x - ct)` with :math:`\psi = -2\nu \log \varphi` and the heat
    kernel's :math:`\varphi(t) = G_t * e^{-\psi_0 / 2\nu}`. All terms of that integral are positive:
    the trapezoidal rule, which converges faster than any power on a circle, keeps full relative
    precision however small the viscosity. Cell averages are differences of :math:`\psi` along x,
    and integrated fluxes differences along t.

    Args:
        nu: Viscosity, dimensionless, finite and > 0.
        mean: Mean :math:`c` of the field, dimensionless.
        cosine: Amplitudes :math:`a_k`, 64 numbers.
        sine: Amplitudes :math:`b_k`, 64 numbers.

    Raises:
        ValueError: If a parameter is outside its range, or ``nu`` is so small for the field that
            the integrand leaves the range of float64.

    Notes:
        Conservation: the total is ``mean`` at all times.
        Random fields (:meth:`draw`): :math:`N(0, 625 (-\Delta + 25)^{-2})`, that is independent
        amplitudes of standard deviation :math:`25 / ((2\pi k)^2 + 25)`.
        Cost: 1024 or a few more kernel values for each time and face. Positive times must be at
        least ``(1.5 / 1024)^2 / (2 nu)``, about 1e-5 for ``nu = 0.1``.

    Good values:
        ``nu = 0.1`` and ``0.01``, ``t`` up to 1, 128 cells.
    """

    nu: float = parameter(0.01, "viscosity", low=0.0, draw=(0.01, 0.01))
    mean: float = parameter(0.0, "mean of the field", draw=(0.0, 0.0))
    cosine: tuple[float, ...] = vector_parameter(MODES, "amplitudes of sqrt(2) cos(2 pi k x)")
    sine: tuple[float, ...] = vector_parameter(MODES, "amplitudes of sqrt(2) sin(2 pi k x)")

    name: ClassVar[str] = "periodic_burgers"
    formula: ClassVar[str] = "u_t + (u^2/2)_x = nu u_xx, random periodic field"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 1.0
    kinds: ClassVar[tuple[str, str]] = ("periodic", "periodic")
    usual_cells: ClassVar[int] = 128
    usual_times: ClassVar[int] = 101

    def __post_init__(self) -> None:
        super().__post_init__()
        potential = self._start_on_nodes(_POINTS, 0.0)
        span = (potential.max() - potential.min()).item() / (2 * self.nu)
        if span > 600.0:
            raise ValueError(
                f"PeriodicBurgers: expected nu to be at least {self.nu * span / 600:.2g} for this "
                f"field, got {self.nu:g}"
            )

    @classmethod
    def draw(
        cls, stream: Stream, ranges: Mapping[str, tuple[float, float]] | None = None
    ) -> PeriodicBurgers:
        """Draw viscosity and mean uniformly and the amplitudes from the Gaussian field.

        Args:
            stream: Random numbers.
            ranges: As returned by :meth:`ranges`, which is the default.

        Returns:
            The instance.
        """
        plain = super().draw(stream, ranges)
        spread = [25.0 / ((2 * math.pi * k) ** 2 + 25.0) for k in range(1, MODES + 1)]
        return replace(
            plain,
            cosine=tuple(s * stream.normal() for s in spread),
            sine=tuple(s * stream.normal() for s in spread),
        )

    @property
    def title(self) -> str:
        return f"Periodic Burgers, nu = {self.nu:g}"

    @cached_property
    def _amplitudes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Wave numbers 2 pi k, and sqrt(2) times the amplitudes."""
        wave = 2 * math.pi * torch.arange(1, MODES + 1, dtype=torch.float64)
        cosine = torch.tensor(self.cosine, dtype=torch.float64)
        sine = torch.tensor(self.sine, dtype=torch.float64)
        return wave, math.sqrt(2.0) * cosine, math.sqrt(2.0) * sine

    def _start(self, x: Tensor) -> Tensor:
        """Potential of the field at t = 0, whose derivative is u - mean."""
        wave, cosine, sine = self._amplitudes
        angle = x.unsqueeze(-1) * wave
        return (torch.sin(angle) * (cosine / wave) - torch.cos(angle) * (sine / wave)).sum(-1)

    def _start_on_nodes(self, points: int, shift: float) -> Tensor:
        """Potential at t = 0 at ``j / points - shift``, by the fast Fourier transform."""
        wave, cosine, sine = self._amplitudes
        spectrum = torch.zeros(points // 2 + 1, dtype=torch.complex128)
        turn = torch.polar(torch.full_like(wave, points / 2), -wave * shift)
        spectrum[1 : MODES + 1] = turn * torch.complex(-sine / wave, -cosine / wave)
        return torch.fft.irfft(spectrum, points)

    def _start_derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of the potential at t = 0."""
        wave, cosine, sine = self._amplitudes
        angle = x.unsqueeze(-1) * wave
        first = (torch.cos(angle) * cosine + torch.sin(angle) * sine).sum(-1)
        second = (wave * (torch.cos(angle) * sine - torch.sin(angle) * cosine)).sum(-1)
        return first, second

    def _moments(self, time: float, rule: _Rule, highest: int) -> list[Tensor]:
        """Integrals of distance^j G_t(distance) exp(-psi_0 / 2 nu), for j up to ``highest``.

        The weights carry a common factor, the same at all times, which drops out of every use.
        Points are in the frame that moves with the mean.
        """
        width = math.sqrt(2 * self.nu * time)
        if width * rule.points < _NARROWEST:
            least = (_NARROWEST / rule.points) ** 2 / (2 * self.nu)
            raise ValueError(
                f"PeriodicBurgers: expected t to be 0 or at least {least:.3g}, got {time}"
            )
        # The circle is shifted so that x falls on points of the rule: kernels are then a table.
        start = self._start_on_nodes(rule.points, self.mean * time)
        weight = torch.exp(self._least - start / (2 * self.nu)) / rule.points
        reach = int(9 * width) + 1
        distance = rule.offset.unsqueeze(-1) + torch.arange(-reach, reach + 1)
        scaled = distance / width
        kernel = torch.exp(scaled * scaled / -2) / (width * math.sqrt(2 * math.pi))
        moments = []
        for power in range(highest + 1):
            table = ((distance**power if power else 1) * kernel).sum(-1)
            rows = table if rule.index is None else table[rule.index]
            moments.append(rows @ weight)
        return moments

    @cached_property
    def _least(self) -> float:
        """Exponent that keeps the largest weight of the quadrature near 1."""
        return self._start_on_nodes(_POINTS, 0.0).min().item() / (2 * self.nu)

    def _each_time(self, t: Tensor, x: Tensor, order: int) -> Tensor:
        """Derivative 0, 1 or 2 of the moving potential along x at broadcast times and points."""
        if bool(((x == self.domain[0]) | (x == self.domain[1])).all()):
            states = [self._end(time)[order] for time in t.flatten().tolist()]
            found = torch.tensor(states, dtype=torch.float64)
            shape = torch.broadcast_shapes(t.shape, x.shape)
            return found.reshape(t.shape).expand(shape)
        if t.numel() == 1 or (t.shape[-1] == 1 and x.ndim == 1):
            rule = _Rule.at(x.flatten())
            rows = [self._derivatives(time, rule, order)[order] for time in t.flatten().tolist()]
            return torch.stack(rows).reshape(torch.broadcast_shapes(t.shape, x.shape))
        times, places = torch.broadcast_tensors(t, x)
        result = torch.empty_like(times)
        for time in times.unique().tolist():
            here = times == time
            result[here] = self._derivatives(time, _Rule.at(places[here]), order)[order]
        return result

    def _derivatives(self, time: float, rule: _Rule, highest: int) -> list[Tensor]:
        """The moving potential and its derivatives up to ``highest`` along x."""
        if time == 0:
            return [self._start(rule.x), *self._start_derivatives(rule.x)]
        total, *higher = self._moments(time, rule, highest)
        found = [2 * self.nu * (self._least - torch.log(total))]
        if highest >= 1:
            mean = higher[0] / total
            found.append(mean / time)
        if highest >= 2:
            variance = higher[1] / total - mean**2
            found.append((1 - variance / (2 * self.nu * time)) / time)
        return found

    @cached_property
    def _known_ends(self) -> dict[float, list[float]]:
        """What :meth:`_end` has found."""
        return {}

    def _end(self, time: float) -> list[float]:
        """The moving potential and two derivatives at the ends, which are the same point."""
        if time not in self._known_ends:
            rule = _Rule.at(torch.zeros(1, dtype=torch.float64))
            self._known_ends[time] = [d.item() for d in self._derivatives(time, rule, 2)]
        return self._known_ends[time]

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        return self.mean + self._each_time(t, x, 1)

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        # The potential is periodic: at the right end it is what it is at the left end.
        end = self._each_time(t, x.new_tensor(self.domain[0]), 0)
        return self.mean * (self.domain[1] - x) + end - self._each_time(t, x, 0)

    def _mass(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.mean)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        return self._values(t, x) ** 2 / 2 - self.nu * self._each_time(t, x, 2)

    def _outflow(self, t: Tensor) -> Tensor:
        end = t.new_tensor(self.domain[0])
        start = self._start(end)
        return self.mean**2 / 2 * t - (self._each_time(t, end, 0) - start)


@dataclass(frozen=True)
class _Rule:
    """Trapezoidal rule on the circle for kernels centred at given points.

    Attributes:
        x: The points, a vector.
        points: Number of nodes ``j / points``.
        offset: Distances at which the kernel is needed: those of one point from all nodes where the
            points are nodes themselves, else of every point from every node.
        index: Place in the table over ``offset`` for every point and node, in the former case.
    """

    x: Tensor
    points: int
    offset: Tensor
    index: Tensor | None

    @classmethod
    def at(cls, x: Tensor) -> _Rule:
        """Choose the nodes so that they contain the faces of equal cells."""
        points = _POINTS
        if x.numel() > 1:
            cells = max(1, round(1.0 / (x[1] - x[0]).abs().clamp_min(1e-9).item()))
            points = cells * -(-_POINTS // cells) if cells <= 8 * _POINTS else _POINTS
        node = torch.arange(points, dtype=torch.float64) / points
        place = x * points
        if not bool(((place - place.round()).abs() < 1e-9 * points).all()):
            return cls(x, points, x.unsqueeze(-1) - node, None)
        index = (place.round().long().unsqueeze(-1) - torch.arange(points)) % points
        return cls(x, points, node, index)
