# SPDX-License-Identifier: Apache-2.0
"""Steps of the lid-driven cavity in plain PyTorch: one step of the whole batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class CavityStep(NamedTuple):
    """Velocities after the steps, and integrals over them.

    Attributes:
        u: ``(batch, n + 1, n)`` velocity along x on the faces across x.
        v: ``(batch, n, n + 1)`` velocity along y on the faces across y.
        pressure: ``(batch, n, n)`` in cells, up to a constant.
        uu: ``(batch, n, n)`` flux of u along x, in cells, without pressure.
        uv: ``(batch, n + 1, n + 1)`` flux of u along y, on vertices.
        vu: ``(batch, n + 1, n + 1)`` flux of v along x, on vertices.
        vv: ``(batch, n, n)`` flux of v along y, in cells, without pressure.
    """

    u: Tensor
    v: Tensor
    pressure: Tensor
    uu: Tensor
    uv: Tensor
    vu: Tensor
    vv: Tensor


Fluxes = tuple[Tensor, ...]  # uu, uv, vu, vv


def cavity(
    u: Tensor, v: Tensor, *, lid: Tensor, viscosity: Tensor, dt: Tensor, steps: Tensor
) -> CavityStep:
    """Take the steps; arguments and results as `physcon_ext.ops.cavity`.

    The pressure comes from the pseudo-inverse of the dense Laplacian.

    Example:
        >>> rest, one = torch.zeros(1, 9, 8).double(), torch.ones(1).double()
        >>> out = cavity(
        ...     rest, rest.mT, lid=one, viscosity=0.1 * one, dt=1e-3 * one, steps=torch.tensor([3])
        ... )
        >>> bool((out.u.diff(dim=1) + out.v.diff(dim=2)).abs().max() < 1e-15)  # no divergence
        True
    """
    n = u.shape[-1]
    line = torch.zeros(n, n, dtype=torch.float64)  # h^2 times the second difference, insulated
    for i in range(n - 1):
        line[i : i + 2, i : i + 2] += torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    eye = torch.eye(n, dtype=torch.float64)
    inverse = torch.linalg.pinv(torch.kron(line, eye) + torch.kron(eye, line), hermitian=True)

    def pressure(divergence: Tensor) -> Tensor:
        return (divergence.flatten(1) @ inverse).reshape(divergence.shape)

    return march(u, v, lid, viscosity, dt, steps, pressure)


def march(
    u: Tensor,
    v: Tensor,
    lid: Tensor,
    viscosity: Tensor,
    dt: Tensor,
    steps: Tensor,
    poisson: Callable[[Tensor], Tensor],
) -> CavityStep:
    """Take the steps; ``poisson`` solves the insulated five-point equations, times ``h^2``."""
    n = u.shape[-1]

    def project(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        divergence = u.diff(dim=1) + v.diff(dim=2)
        phi = poisson(divergence)
        u = u - torch.nn.functional.pad(phi.diff(dim=1), (0, 0, 1, 1))
        v = v - torch.nn.functional.pad(phi.diff(dim=2), (1, 1))
        return u, v, phi

    def apply(u: Tensor, v: Tensor, scale: Tensor, f: Fluxes) -> tuple[Tensor, Tensor, Tensor]:
        uu, uv, vu, vv = f
        du = uu.diff(dim=1) + uv[:, 1:-1].diff(dim=2)
        dv = vu[:, :, 1:-1].diff(dim=1) + vv.diff(dim=2)
        factor = scale[:, None, None] * n
        u = u - factor * torch.nn.functional.pad(du, (0, 0, 1, 1))
        v = v - factor * torch.nn.functional.pad(dv, (1, 1))
        return project(u, v)

    pressure = torch.zeros_like(u[:, 1:])
    sums = tuple(torch.zeros_like(f) for f in momentum_fluxes(u, v, lid, viscosity))
    for step in range(int(steps.max()) if u.shape[0] else 0):
        d = (step < steps).to(u.dtype) * dt
        f1 = momentum_fluxes(u, v, lid, viscosity)
        f2 = momentum_fluxes(*apply(u, v, d, f1)[:2], lid, viscosity)
        half = tuple((a + b) / 4 for a, b in zip(f1, f2, strict=True))
        f3 = momentum_fluxes(*apply(u, v, d, half)[:2], lid, viscosity)
        mean = tuple((a + b + 4 * c) / 6 for a, b, c in zip(f1, f2, f3, strict=True))
        u, v, phi = apply(u, v, d, mean)
        pressure = pressure + phi / n
        sums = tuple(s + d[:, None, None] * f for s, f in zip(sums, mean, strict=True))
    return CavityStep(u, v, pressure, *sums)


def momentum_fluxes(u: Tensor, v: Tensor, lid: Tensor, viscosity: Tensor) -> Fluxes:
    """Return central momentum fluxes without pressure; walls by a parabola through two points."""
    n = u.shape[-1]
    rate = viscosity[:, None, None] * n
    uu = (0.5 * (u[:, 1:] + u[:, :-1])) ** 2 - rate * u.diff(dim=1)
    vv = (0.5 * (v[:, :, 1:] + v[:, :, :-1])) ** 2 - rate * v.diff(dim=2)
    ui, vi = u[:, 1:-1], v[:, :, 1:-1]
    product = 0.25 * (ui[:, :, 1:] + ui[:, :, :-1]) * (vi[:, 1:] + vi[:, :-1])
    uv, vu = u.new_zeros(u.shape[0], n + 1, n + 1), u.new_zeros(u.shape[0], n + 1, n + 1)
    uv[:, 1:-1, 1:-1] = product - rate * ui.diff(dim=2)
    vu[:, 1:-1, 1:-1] = product - rate * vi.diff(dim=1)
    flat = rate[:, :, 0]
    uv[:, 1:-1, 0] = -flat * (9 * ui[:, :, 0] - ui[:, :, 1]) / 3
    uv[:, 1:-1, -1] = -flat * (8 * lid[:, None] - 9 * ui[:, :, -1] + ui[:, :, -2]) / 3
    vu[:, 0, 1:-1] = -flat * (9 * vi[:, 0] - vi[:, 1]) / 3
    vu[:, -1, 1:-1] = flat * (9 * vi[:, -1] - vi[:, -2]) / 3
    return uu, uv, vu, vv
