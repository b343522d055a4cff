# SPDX-License-Identifier: Apache-2.0
"""Heat equation on a circle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


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

    k: float = parameter(1.0, "diffusivity", low=0.0, draw=(1.0, 5.0))
    phase: float = parameter(0.0, "shift of the initial sine", unit="rad", draw=(0.0, 0.0))

    name: ClassVar[str] = "diffusion"
    formula: ClassVar[str] = "u_t = k u_xx"
    domain: ClassVar[tuple[float, float]] = (0.0, 2.0 * math.pi)
    duration: ClassVar[float] = 1.0
    kinds: ClassVar[tuple[str, str]] = ("periodic", "periodic")

    @property
    def title(self) -> str:
        return f"Diffusion, k = {self.k:g}"

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.exp(-self.k * t) * torch.sin(x + self.phase)

    def _averages(self, t: Tensor, faces: Tensor, beyond: Tensor | None = None) -> Tensor:
        # sin(c) sin(h/2)/(h/2) with c the centre: no cancellation, unlike cos(left) - cos(right).
        half = faces.diff() / 2
        return self._values(t, faces[:-1] + half) * (torch.sin(half) / half)

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        end = math.cos(self.domain[1] + self.phase)
        return torch.exp(-self.k * t) * (torch.cos(x + self.phase) - end)

    def _mass(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.k * torch.exp(-self.k * t) * torch.cos(x + self.phase)

    def _outflow(self, t: Tensor) -> Tensor:
        return torch.expm1(-self.k * t) * math.cos(self.phase)
