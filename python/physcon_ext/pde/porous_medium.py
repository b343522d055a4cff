# SPDX-License-Identifier: Apache-2.0
"""Porous medium equation driven from the left end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


@dataclass(frozen=True)
class PorousMedium(Problem):
    r"""Porous medium equation driven from the left end.

    .. math:: u_t = (u^m u_x)_x, \quad u = (m (t - x)_+)^{1/m} \quad \text{on } [0, 1]

    The solution is that of Hansen et al., *Learning physical models that can respect conservation
    laws*, ICML 2023.

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

    m: float = parameter(3.0, "exponent", low=0.0, draw=(1.0, 6.0))

    name: ClassVar[str] = "porous_medium"
    formula: ClassVar[str] = "u_t = (u^m u_x)_x"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 1.0
    has_front: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return f"Porous medium, m = {self.m:g}"

    @property
    def last_time(self) -> float:
        return 1.0

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.pow(self.m * (t - x).clamp_min(0), 1 / self.m)

    def _averages(self, t: Tensor, faces: Tensor, beyond: Tensor | None = None) -> Tensor:
        # Psi(t - left) - Psi(t - right), with Psi(y) = m^(1+1/m)/(m+1) y^(1+1/m), written as
        # Psi(near) (1 - (far/near)^(1+1/m)) so that narrow cells lose no digits.
        left, right = faces[:-1], faces[1:]
        near, far = (t - left).clamp_min(0), (t - right).clamp_min(0)
        wet = near > 0
        width = torch.where(far > 0, (right - left).expand_as(near), near)
        ratio = torch.where(wet, width / torch.where(wet, near, 1.0), 0.0)
        power = 1 + 1 / self.m
        share = -torch.expm1(power * torch.log1p(-ratio))
        return self._primitive(near) * share / (right - left)

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        return self._primitive((t - x).clamp_min(0))

    def _primitive(self, y: Tensor) -> Tensor:
        power = 1 + 1 / self.m
        scale: float = self.m**power / (self.m + 1)
        return scale * torch.pow(y, power)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        # -u^m u_x: the factor m (t - x) of u^m cancels the singular slope at the front.
        return self._values(t, x)

    def _outflow(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _front(self, t: Tensor) -> Tensor:
        return t.clone()

    def _crossing(self, t: Tensor, level: float) -> Tensor:
        depth: float = level**self.m / self.m
        return t - depth
