# SPDX-License-Identifier: Apache-2.0
"""Stefan problem: diffusion that switches on above a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


_SQRT_PI = math.sqrt(math.pi)


@dataclass(frozen=True)
class Stefan(Problem):
    r"""Stefan problem: diffusion that switches on above a threshold, with a moving shock.

    .. math:: u_t = (k(u) u_x)_x, \quad k = k_{\max} [u \ge u^*], \qquad
              u = 1 - c_1 \,\mathrm{erf}\frac{x}{2\sqrt{k_{\max} t}}
              \text{ for } x \le \alpha\sqrt t, \text{ else } 0, \quad \text{on } [0, 1]

    with :math:`u^* \mathrm{erf}(z_1) z_1 e^{z_1^2} = (1 - u^*)/\sqrt\pi`,
    :math:`\alpha = 2\sqrt{k_{\max}} z_1` and :math:`c_1 = (1 - u^*)/\mathrm{erf}(z_1)`. The
    solution is that of Hansen et al., *Learning physical models that can respect conservation
    laws*, ICML 2023.

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

    u_star: float = parameter(0.6, "threshold and jump", low=0.0, high=1.0, draw=(0.55, 0.7))
    k_max: float = parameter(1.0, "diffusivity behind the front", low=0.0, draw=(1.0, 1.0))

    name: ClassVar[str] = "stefan"
    formula: ClassVar[str] = "u_t = (k(u) u_x)_x, k = k_max where u >= u_star, else 0"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 0.1
    has_front: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return f"Stefan, u* = {self.u_star:g}"

    @cached_property
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

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        # Nothing lies beyond faces that the front has not reached by the last time.
        reached = int((x < self._front(t).max()).sum())
        scale = 2 * self._safe_scale(t)
        # int erf = z erf z + exp(-z^2)/sqrt(pi). Shifted by its value at the front z1, so that the
        # differences over the cells ahead of the front are exactly 0.
        z = (x[:reached] / scale).clamp_max(self.z1)
        primitive = z * torch.erf(z) + torch.expm1(-z * z) / _SQRT_PI
        whole = self.z1 * math.erf(self.z1) + math.expm1(-self.z1 * self.z1) / _SQRT_PI
        amount = scale * ((self.z1 - z) - self.c1 * (whole - primitive))
        beyond = torch.zeros_like(t * x)
        beyond[..., :reached] = torch.where((z < self.z1) & (t > 0), amount, 0.0)
        return beyond

    def _safe_scale(self, t: Tensor) -> Tensor:
        scale = torch.sqrt(self.k_max * t)
        return torch.where(scale > 0, scale, 1.0)

    def _mass(self, t: Tensor) -> Tensor:
        return 2 * self.c1 * torch.sqrt(self.k_max * t / math.pi)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        scale = torch.sqrt(self.k_max * t)
        safe = self._safe_scale(t)
        peak = self.c1 * self.k_max / (_SQRT_PI * scale)
        inside = torch.where(x > 0, x / (2 * safe), 0.0) <= self.z1
        # At t = 0 the flux is infinite at the left end and 0 elsewhere.
        wet = inside & ((t > 0) | (x == 0))
        return torch.where(wet, peak * torch.exp(-((x / (2 * safe)) ** 2)), 0.0)

    def _outflow(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _front(self, t: Tensor) -> Tensor:
        return self.alpha * torch.sqrt(t)

    def _jump(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.u_star)

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
