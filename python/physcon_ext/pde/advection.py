# SPDX-License-Identifier: Apache-2.0
"""Linear advection of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


@dataclass(frozen=True)
class Advection(Problem):
    r"""Linear advection of a step, which leaves the domain at ``a t = 0.5``.

    .. math:: u_t + a u_x = 0, \quad u = 1 \text{ for } x \le 0.5 + at, \text{ else } 0,
              \quad \text{on } [0, 1]

    Args:
        a: Speed, dimensionless, finite and > 0.

    Raises:
        ValueError: If ``a`` is not positive.

    Notes:
        Conservation: the total is 1/2 at the start; ``a`` per unit time enters on the left, and
        leaves on the right once the step has passed.

    Good values:
        ``a`` in [1, 5]; the published tests are ``a`` = 1, 3 at ``t = 0.1``.
    """

    a: float = parameter(1.0, "speed", low=0.0, draw=(1.0, 5.0))

    name: ClassVar[str] = "advection"
    formula: ClassVar[str] = "u_t + a u_x = 0"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    duration: ClassVar[float] = 1.0
    kinds: ClassVar[tuple[str, str]] = ("dirichlet", "outflow")
    has_front: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return f"Advection, a = {self.a:g}"

    def _step(self, t: Tensor) -> Tensor:
        return 0.5 + self.a * t

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        return (x <= self._step(t)).to(torch.float64)

    def _averages(self, t: Tensor, faces: Tensor, beyond: Tensor | None = None) -> Tensor:
        return ((self._step(t) - faces[:-1]) / faces.diff()).clamp(0.0, 1.0)

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        return (self._step(t).clamp_max(1.0) - x).clamp_min(0)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        return self.a * self._values(t, x)

    def _outflow(self, t: Tensor) -> Tensor:
        return (self._step(t) - 1.0).clamp_min(0)

    def _front(self, t: Tensor) -> Tensor:
        step = self._step(t)
        return torch.where(step <= 1.0, step, torch.nan)

    def _jump(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)
