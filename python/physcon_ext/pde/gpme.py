# SPDX-License-Identifier: Apache-2.0
r"""Exact solutions of the generalised porous medium equation, :math:`u_t = (k(u) u_x)_x`.

Three members of the family, from easy to hard: :class:`Diffusion` (``k`` constant, smooth),
:class:`PorousMedium` (``k = u^m``, a front with infinite slope) and :class:`Stefan` (``k`` jumps
with ``u``, a moving shock). All quantities are dimensionless. Every method computes in float64 and
returns float64 whatever the dtype of its input; ``t`` and ``x`` broadcast against each other.

The formulas follow from the similarity solutions used by Hansen et al., *Learning physical models
that can respect conservation laws*, ICML 2023; cell averages, totals and fluxes are their integrals
in closed form, so ``sum(volume * average)`` equals the total to rounding, front or no front.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


_SQRT_PI = math.sqrt(math.pi)


@dataclass(frozen=True)
class Problem(ABC):
    """One equation with its initial and boundary data, and everything exact that is known about it.

    Attributes:
        name: Short name in ``snake_case``.
        domain: Left and right end of the spatial domain, dimensionless.
        duration: Last time of the published data sets, dimensionless; the first is 0.
    """

    name: ClassVar[str]
    domain: ClassVar[tuple[float, float]]
    duration: ClassVar[float]

    @property
    @abstractmethod
    def title(self) -> str:
        """Name and parameters for a table or a figure."""

    @property
    @abstractmethod
    def last_time(self) -> float:
        """Last time at which the formulas hold: the front has then reached the right end."""

    @abstractmethod
    def _values(self, t: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _averages(self, t: Tensor, left: Tensor, right: Tensor) -> Tensor: ...

    @abstractmethod
    def _mass(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _flux_left(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _flux_right(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _inflow_left(self, t: Tensor) -> Tensor:
        """Integral of the left flux over [0, t]."""

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
            >>> PorousMedium(m=1.0).values(0.5, torch.tensor([0.0, 0.25, 0.75]))
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
        return self._averages(self._time(t).unsqueeze(-1), faces[:-1], faces[1:])

    def mass(self, t: Tensor | float) -> Tensor:
        """Total ``b(t)``, the integral of the solution over the domain; shape of ``t``, float64."""
        return self._mass(self._time(t))

    def flux_left(self, t: Tensor | float) -> Tensor:
        """Flux ``-k(u) u_x`` in the +x direction at the left end; shape of ``t``, float64.

        It may be infinite at ``t = 0``, integrably: use :meth:`inflow` for balances.
        """
        return self._flux_left(self._time(t))

    def flux_right(self, t: Tensor | float) -> Tensor:
        """Flux in the +x direction at the right end; shape of ``t``, float64."""
        return self._flux_right(self._time(t))

    def inflow(self, start: Tensor | float, end: Tensor | float) -> Tensor:
        """Integral of the left flux over ``[start, end]``; broadcast shape, float64."""
        return self._inflow_left(self._time(end)) - self._inflow_left(self._time(start))

    def front(self, t: Tensor | float) -> Tensor:
        """Position of the front, ahead of which the solution is zero; shape of ``t``, float64.

        Raises:
            ValueError: If the solution has no front, or a time is outside its range.
        """
        return self._front(self._time(t))

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

    def _front(self, t: Tensor) -> Tensor:
        raise ValueError(f"{type(self).__name__}: the solution is smooth and has no front")

    def _crossing(self, t: Tensor, level: float) -> Tensor:
        return self._front(t)

    def _time(self, t: Tensor | float) -> Tensor:
        time = torch.as_tensor(t, dtype=torch.float64)
        good = (time >= 0) & (time <= self.last_time)
        if not bool(good.all()):
            raise ValueError(
                f"{type(self).__name__}: expected t to be in [0, {self.last_time:.6g}], "
                f"got {time[~good].flatten()[0].item()}"
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

    def _check(self, name: str, value: float, low: float, high: float) -> None:
        if not low < value < high:
            bound = f"in ({low:g}, {high:g})" if math.isfinite(high) else f"finite and > {low:g}"
            raise ValueError(f"{type(self).__name__}: expected {name} to be {bound}, got {value}")


@dataclass(frozen=True)
class Diffusion(Problem):
    r"""Heat equation on a circle.

    .. math:: u_t = k u_{xx}, \quad u = e^{-kt} \sin(x + \varphi) \quad \text{on } [0, 2\pi]

    Args:
        k: Diffusivity, dimensionless, finite and > 0.
        phase: Shift :math:`\varphi` of the initial sine, radians.

    Raises:
        ValueError: If ``k`` is not positive or ``phase`` is not finite.

    Notes:
        Conservation: the total is 0 at all times; what enters on the left leaves on the right.

    Good values:
        ``k`` in [1, 5], ``t`` up to 1; the published test is ``k = 1`` at ``t = 0.5``.
    """

    k: float = 1.0
    phase: float = 0.0

    name: ClassVar[str] = "diffusion"
    domain: ClassVar[tuple[float, float]] = (0.0, 2.0 * math.pi)
    duration: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        self._check("k", self.k, 0.0, math.inf)
        if not math.isfinite(self.phase):
            raise ValueError(f"Diffusion: expected phase to be finite, got {self.phase}")

    @property
    def title(self) -> str:
        return f"Diffusion, k = {self.k:g}"

    @property
    def last_time(self) -> float:
        return math.inf

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.exp(-self.k * t) * torch.sin(x + self.phase)

    def _averages(self, t: Tensor, left: Tensor, right: Tensor) -> Tensor:
        # sin(c) sin(h/2)/(h/2) with c the centre: no cancellation, unlike cos(left) - cos(right).
        half = (right - left) / 2
        return self._values(t, left + half) * (torch.sin(half) / half)

    def _mass(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _flux_left(self, t: Tensor) -> Tensor:
        return -self.k * torch.exp(-self.k * t) * math.cos(self.phase)

    def _flux_right(self, t: Tensor) -> Tensor:
        return self._flux_left(t)

    def _inflow_left(self, t: Tensor) -> Tensor:
        return torch.expm1(-self.k * t) * math.cos(self.phase)


@dataclass(frozen=True)
class PorousMedium(Problem):
    r"""Porous medium equation driven from the left end.

    .. math:: u_t = (u^m u_x)_x, \quad u = (m (t - x)_+)^{1/m} \quad \text{on } [0, 1]

    Args:
        m: Exponent, dimensionless, finite and > 0. The front at ``x = t`` is a kink for ``m = 1``
            and has infinite slope for ``m > 1``.

    Raises:
        ValueError: If ``m`` is not positive.

    Notes:
        Conservation: starts empty; ``(mt)^{1/m}`` per unit time enters on the left, nothing leaves
        before the front reaches the right end at ``t = 1``.

    Good values:
        ``m`` in [1, 6]; the published tests are ``m`` = 1, 3, 6 at ``t = 0.5``.
    """

    m: float = 3.0

    name: ClassVar[str] = "porous_medium"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        self._check("m", self.m, 0.0, math.inf)

    @property
    def title(self) -> str:
        return f"Porous medium, m = {self.m:g}"

    @property
    def last_time(self) -> float:
        return 1.0

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.pow(self.m * (t - x).clamp_min(0), 1 / self.m)

    def _averages(self, t: Tensor, left: Tensor, right: Tensor) -> Tensor:
        # Psi(t - left) - Psi(t - right), with Psi(y) = m^(1+1/m)/(m+1) y^(1+1/m), written as
        # Psi(near) (1 - (far/near)^(1+1/m)) so that narrow cells lose no digits.
        near, far = (t - left).clamp_min(0), (t - right).clamp_min(0)
        wet = near > 0
        width = torch.where(far > 0, (right - left).expand_as(near), near)
        ratio = torch.where(wet, width / torch.where(wet, near, 1.0), 0.0)
        power = 1 + 1 / self.m
        share = -torch.expm1(power * torch.log1p(-ratio))
        return self._primitive(near) * share / (right - left)

    def _primitive(self, y: Tensor) -> Tensor:
        power = 1 + 1 / self.m
        scale: float = self.m**power / (self.m + 1)
        return scale * torch.pow(y, power)

    def _mass(self, t: Tensor) -> Tensor:
        return self._primitive(t)

    def _flux_left(self, t: Tensor) -> Tensor:
        return torch.pow(self.m * t, 1 / self.m)

    def _flux_right(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _inflow_left(self, t: Tensor) -> Tensor:
        return self._primitive(t)

    def _front(self, t: Tensor) -> Tensor:
        return t.clone()

    def _crossing(self, t: Tensor, level: float) -> Tensor:
        depth: float = level**self.m / self.m
        return t - depth


@dataclass(frozen=True)
class Stefan(Problem):
    r"""Stefan problem: diffusion that switches on above a threshold, with a moving shock.

    .. math:: u_t = (k(u) u_x)_x, \quad k = k_{\max} [u \ge u^*], \qquad
              u = 1 - c_1 \,\mathrm{erf}\frac{x}{2\sqrt{k_{\max} t}}
              \text{ for } x \le \alpha\sqrt t, \text{ else } 0, \quad \text{on } [0, 1]

    with :math:`u^* \mathrm{erf}(z_1) z_1 e^{z_1^2} = (1 - u^*)/\sqrt\pi`,
    :math:`\alpha = 2\sqrt{k_{\max}} z_1` and :math:`c_1 = (1 - u^*)/\mathrm{erf}(z_1)`.

    Args:
        u_star: Threshold :math:`u^*`, also the height of the jump, in (0, 1).
        k_max: Diffusivity behind the front, dimensionless, finite and > 0.

    Raises:
        ValueError: If a parameter is outside its range.

    Notes:
        Conservation: starts empty; the flux ``c1 sqrt(k_max / (pi t))`` enters on the left
        (infinite at ``t = 0``, with a finite integral), nothing leaves before the front reaches the
        right end.
        The front moves by the Rankine-Hugoniot condition ``u_star dx/dt = -k_max u_x``.

    Good values:
        ``u_star`` in [0.55, 0.7], ``t`` up to 0.1; the published test is 0.6 at ``t = 0.05``, where
        the front stands at 0.2351.
    """

    u_star: float = 0.6
    k_max: float = 1.0

    name: ClassVar[str] = "stefan"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        self._check("u_star", self.u_star, 0.0, 1.0)
        self._check("k_max", self.k_max, 0.0, math.inf)

    @property
    def title(self) -> str:
        return f"Stefan, u* = {self.u_star:g}"

    @property
    def z1(self) -> float:
        """Root of the transcendental equation, ``front / (2 sqrt(k_max t))``."""
        return _stefan_root(self.u_star)

    @property
    def alpha(self) -> float:
        """Front speed constant: the front stands at ``alpha * sqrt(t)``."""
        return 2.0 * math.sqrt(self.k_max) * self.z1

    @property
    def c1(self) -> float:
        """Amplitude of the error function behind the front."""
        return (1.0 - self.u_star) / math.erf(self.z1)

    @property
    def last_time(self) -> float:
        return 1.0 / self.alpha**2

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        # At t = 0 only x = 0 is behind the front, and there erf(0) = 0 whatever the scale.
        behind = 1 - self.c1 * torch.erf(x / (2 * self._safe_scale(t)))
        return torch.where(x <= self.alpha * torch.sqrt(t), behind, 0.0)

    def _averages(self, t: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return (self._integral(t, right) - self._integral(t, left)) / (right - left)

    def _integral(self, t: Tensor, x: Tensor) -> Tensor:
        # Integral of u over [0, x]; int erf = z erf z + exp(-z^2)/sqrt(pi), X = min(x, front).
        scale = self._safe_scale(t)
        wet = torch.minimum(x, self.alpha * torch.sqrt(t))
        z = wet / (2 * scale)
        primitive = z * torch.erf(z) + torch.expm1(-z * z) / _SQRT_PI
        return wet - 2 * self.c1 * scale * primitive

    def _safe_scale(self, t: Tensor) -> Tensor:
        scale = torch.sqrt(self.k_max * t)
        return torch.where(scale > 0, scale, 1.0)

    def _mass(self, t: Tensor) -> Tensor:
        return 2 * self.c1 * torch.sqrt(self.k_max * t / math.pi)

    def _flux_left(self, t: Tensor) -> Tensor:
        return self.c1 * torch.sqrt(self.k_max / (math.pi * t))

    def _flux_right(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _inflow_left(self, t: Tensor) -> Tensor:
        return self._mass(t)

    def _front(self, t: Tensor) -> Tensor:
        return self.alpha * torch.sqrt(t)

    def _crossing(self, t: Tensor, level: float) -> Tensor:
        if level <= self.u_star:
            return self._front(t)
        share = t.new_tensor((1.0 - level) / self.c1)
        return 2 * torch.sqrt(self.k_max * t) * torch.erfinv(share)


def _stefan_root(u_star: float) -> float:
    """Root z of u* erf(z) z exp(z^2) = (1 - u*)/sqrt(pi), by safeguarded Newton on its logarithm.

    The left side grows with z, so the root is unique; in the logarithm nothing overflows for any u*
    in (0, 1), and the root lies in (1e-9, 27) for every float64 in that interval.
    """
    ratio = u_star / (1.0 - u_star) * _SQRT_PI
    low, high = 1e-10, 40.0
    z = 0.5
    for _ in range(200):
        excess = math.log(ratio * math.erf(z) * z) + z * z
        low, high = (z, high) if excess < 0 else (low, z)
        slope = 2.0 / _SQRT_PI * math.exp(-z * z) / math.erf(z) + 1.0 / z + 2.0 * z
        following = z - excess / slope
        if not low < following < high:
            following = math.sqrt(low * high)
        if abs(following - z) <= 1e-16 * z:
            break
        z = following
    return z
