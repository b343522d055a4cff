# SPDX-License-Identifier: Apache-2.0
"""Inviscid Burgers equation: a ramp that breaks into a shock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from physcon_ext.pde.equation import parameter
from physcon_ext.pde.problem import Problem


@dataclass(frozen=True)
class Burgers(Problem):
    r"""Inviscid Burgers equation: a ramp that breaks into a shock at ``t = 1/a``.

    .. math:: u_t + (u^2/2)_x = 0, \quad u_0 = -a x \text{ for } x \le 0, \text{ else } 0,
              \quad \text{on } [-1, 1]

    Before breaking, ``u = a`` up to the head ``x_h = at - 1`` of the ramp and ``a x / x_h`` on to
    0; from then on ``u = a`` up to the shock at ``(at - 1)/2``, which leaves at ``t = 3/a``.

    Args:
        a: Inflow value and steepness of the ramp, dimensionless, finite and > 0.

    Raises:
        ValueError: If ``a`` is not positive.

    Notes:
        Conservation: the total is ``a/2`` at the start; ``a^2/2`` per unit time enters on the left,
        and leaves on the right once the shock has passed. At ``t = 1/a`` the ramp has no width: the
        formula of the shock is used.

    Good values:
        ``a`` in [1, 4]; the published tests are ``a`` = 1, 3 at ``t = 0.5``.
    """

    a: float = parameter(1.0, "inflow value", low=0.0, draw=(1.0, 4.0))

    name: ClassVar[str] = "burgers"
    formula: ClassVar[str] = "u_t + (u^2/2)_x = 0"
    domain: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    duration: ClassVar[float] = 1.0
    kinds: ClassVar[tuple[str, str]] = ("dirichlet", "outflow")
    has_front: ClassVar[bool] = True

    @property
    def title(self) -> str:
        return f"Burgers, a = {self.a:g}"

    def _ramp(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Head of the ramp (0 once broken), its width (1 once broken), and x clamped to it."""
        head = (self.a * t - 1.0).clamp_max(0)
        width = torch.where(head < 0, -head, 1.0)
        return head, width, torch.maximum(x, head).clamp_max(0)

    def _shock(self, t: Tensor) -> Tensor:
        return (self.a * t - 1.0) / 2

    def _values(self, t: Tensor, x: Tensor) -> Tensor:
        head, width, place = self._ramp(t, x)
        before = torch.where(x <= head, self.a, -self.a * place / width)
        after = torch.where(x <= self._shock(t), self.a, 0.0)
        return torch.where(head < 0, before, after)

    def _averages(self, t: Tensor, faces: Tensor, beyond: Tensor | None = None) -> Tensor:
        # Shares of the plateau and of the ramp, the latter with the mean of its ends.
        head, width, place = self._ramp(t, faces)
        plateau = ((head - faces[:-1]) / faces.diff()).clamp(0.0, 1.0)
        ramp = -(place[..., 1:] + place[..., :-1]) / (2 * width) * place.diff() / faces.diff()
        after = ((self._shock(t) - faces[:-1]) / faces.diff()).clamp(0.0, 1.0)
        return self.a * torch.where(head < 0, plateau + ramp, after)

    def _beyond(self, t: Tensor, x: Tensor) -> Tensor:
        head, width, place = self._ramp(t, x)
        # The ramp is a triangle of which the part beyond x is similar to the whole.
        before = (head - x).clamp_min(0) - place * (-place / width) / 2
        after = (self._shock(t).clamp_max(1.0) - x).clamp_min(0)
        return self.a * torch.where(head < 0, before, after)

    def _flux(self, t: Tensor, x: Tensor) -> Tensor:
        return self._values(t, x) ** 2 / 2

    def _outflow(self, t: Tensor) -> Tensor:
        return self.a * (self._shock(t) - 1.0).clamp_min(0)

    def _front(self, t: Tensor) -> Tensor:
        shock = self._shock(t)
        return torch.where((shock >= 0) & (shock <= 1.0), shock, torch.nan)

    def _jump(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.a)

    def _crossing(self, t: Tensor, level: float) -> Tensor:
        head = self.a * t - 1.0
        return torch.where(head < 0, head * (level / self.a), self._front(t))
