# SPDX-License-Identifier: Apache-2.0
"""Flow in a square cavity driven by its lid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physcon_ext import ops
from physcon_ext.checks import common_shape
from physcon_ext.fv.march import check_times, field, parameter
from physcon_ext.fv.solution import SolverError


_WHO = "fv.cavity"
_MOST_TRIALS = 20


@dataclass(frozen=True, eq=False)
class CavityFlow:
    """Velocities at the output times; what crossed faces between them; all float64.

    The unit square is cut into ``n x n`` cells; axes are ``x, y``, the lid is the edge ``y = 1``.

    Attributes:
        times: ``(nt,)`` output times; the flow is given at the first.
        faces: Positions of the faces along each axis, ``(n + 1,)`` each.
        u: ``(*batch, nt, n + 1, n)`` velocity along x on the faces across x.
        v: ``(*batch, nt, n, n + 1)`` velocity along y on the faces across y.
        pressure: ``(*batch, nt - 1, n, n)`` mean over each interval, of mean 0 in space.
        u_flux: Mean momentum flux of u over each interval, viscous part and pressure included:
            along x in cells, ``(*batch, nt - 1, n, n)``; along y on vertices,
            ``(*batch, nt - 1, n + 1, n + 1)``; at ``y = 0`` and 1 it is the stress on the wall.
        v_flux: The same of v: along x on vertices, along y in cells.
        lid: ``(*batch)`` speed of the lid.
        viscosity: ``(*batch)``, ``1 / Re``.
        steps: ``(*batch, nt - 1)`` int64, time steps taken in each interval.
        settings: Integrator and Courant number used.
    """

    times: Tensor
    faces: tuple[Tensor, Tensor]
    u: Tensor
    v: Tensor
    pressure: Tensor
    u_flux: tuple[Tensor, Tensor]
    v_flux: tuple[Tensor, Tensor]
    lid: Tensor
    viscosity: Tensor
    steps: Tensor
    settings: Mapping[str, Any]

    @property
    def velocity(self) -> Tensor:
        """Cell averages, ``(*batch, nt, n, n, 2)``: means of the two faces of each cell."""
        u = 0.5 * (self.u[..., 1:, :] + self.u[..., :-1, :])
        v = 0.5 * (self.v[..., 1:] + self.v[..., :-1])
        return torch.stack([u, v], -1)

    @property
    def divergence(self) -> Tensor:
        """Net volume flux out of each cell per volume, ``(*batch, nt, n, n)``: rounding."""
        n = self.u.shape[-1]
        return n * (self.u.diff(dim=-2) + self.v.diff(dim=-1))

    @property
    def dual_volume(self) -> Tensor:
        """Volumes of the cells around the vertices, ``(n + 1, n + 1)``."""
        n = self.u.shape[-1]
        width = torch.full((n + 1,), 1 / n, dtype=torch.float64)
        width[0] = width[-1] = 0.5 / n
        return width[:, None] * width

    @property
    def vorticity(self) -> Tensor:
        r"""Mean of :math:`v_x - u_y` over the cells around the vertices.

        Circulation around the cell per volume, ``(*batch, nt, n + 1, n + 1)``; walls contribute
        their own velocity. The integral, ``(vorticity * dual_volume).sum((-2, -1))``, is therefore
        minus the speed of the lid, exactly and always (Stokes).
        """
        pad = torch.nn.functional.pad
        n = self.u.shape[-1]
        h = 1 / n
        # Velocities along the sides of the dual cells; beyond the walls, those of the walls.
        u = pad(self.u, (1, 1))
        lid = self.lid[..., None, None].expand(u.shape[:-1])
        u = torch.cat([u[..., :-1], lid[..., None]], -1)
        v = pad(self.v, (0, 0, 1, 1))
        width = torch.full((n + 1,), h, dtype=torch.float64)
        width[0] = width[-1] = 0.5 * h
        around = v.diff(dim=-2) * width - u.diff(dim=-1) * width[:, None]
        return around / self.dual_volume

    @property
    def streamfunction(self) -> Tensor:
        r"""At the vertices, ``(*batch, nt, n + 1, n + 1)``: :math:`u = \psi_y, v = -\psi_x`."""
        n = self.u.shape[-1]
        return torch.nn.functional.pad(self.u.cumsum(-1) / n, (1, 0))


def cavity(
    cells: int,
    *,
    times: Tensor | Sequence[float],
    reynolds: float | Tensor,
    lid: float | Tensor = 1.0,
    start: CavityFlow | None = None,
    cfl: float | None = None,
    dt: float | None = None,
) -> CavityFlow:
    r"""Solve the incompressible Navier-Stokes equations in the lid-driven cavity.

    .. math:: \mathbf{u}_t + \nabla\cdot(\mathbf{u}\mathbf{u}) = -\nabla p
              + \frac{1}{Re} \Delta \mathbf{u}, \qquad \nabla\cdot\mathbf{u} = 0

    on the unit square with no slip, the wall ``y = 1`` moving at ``lid`` along x.

    Args:
        cells: Cells along each axis, even, at least 8.
        times: Output times, ascending. The fluid is at rest at the first, unless there is a
            ``start``.
        reynolds: ``Re``, ``> 0``, of the speed 1 and the side 1, a number or ``(*batch)``.
        lid: Speed of the lid, a number or ``(*batch)``.
        start: Flow whose last velocities are the first ones here.
        cfl: Step in units of the stability estimate ``1/(a/1.73 + b/2.51)``, ``a`` the largest
            ``(|u| + |v|) n``, ``b = 10.7 n^2 / Re``; at most 1, by default 0.8.
        dt: Largest time step, instead of ``cfl``.

    Returns:
        Velocities, pressure, momentum fluxes; vorticity and streamfunction on demand.

    Raises:
        TypeError, ValueError: If an argument does not fit; an unstable step names the limit.
        SolverError: If the solution is not finite.

    Notes:
        Staggered grid, central fluxes, second order in space; SSP-RK3, every stage projected, third
        order in time for the velocity. Divergence at rounding. Momentum changes by the returned
        fluxes. Central fluxes need ``n`` of about ``Re / 8``: below that, wiggles near the corners.
        Determinism: a flow has the same bits in any batch, for any number of threads.

    Good values:
        ``reynolds`` 100 with 64 cells until ``t = 15``, 1000 with 128 cells until ``t = 60``:
        steady to three digits. Centre lines: Ghia, Ghia and Shin (J. Comput. Phys. 48, 1982).

    Example:
        >>> flow = cavity(16, times=[0.0, 0.5], reynolds=100.0)
        >>> bool(flow.divergence.abs().max() < 1e-13)
        True
        >>> total = (flow.vorticity * flow.dual_volume).sum((-2, -1))
        >>> bool((total + 1).abs().max() < 1e-14)
        True
    """
    if isinstance(cells, bool) or not isinstance(cells, int):
        raise TypeError(f"{_WHO}: expected cells to be an integer, got {type(cells).__name__}")
    if cells < 8 or cells % 2:
        raise ValueError(f"{_WHO}: expected cells to be even and >= 8, got {cells}")
    moments = check_times(_WHO, times)
    numbers = [torch.as_tensor(x, dtype=torch.float64) for x in (reynolds, lid)]
    batch = common_shape(*(x.shape for x in numbers))
    if batch is None:
        raise ValueError(
            f"{_WHO}: expected reynolds and lid to broadcast, got shapes "
            f"{tuple(numbers[0].shape)} and {tuple(numbers[1].shape)}"
        )
    re = parameter(_WHO, "reynolds", numbers[0], batch)
    if bool((re <= 0).any()):
        raise ValueError(f"{_WHO}: expected reynolds to be > 0, got {float(re.min())}")
    speed = parameter(_WHO, "lid", numbers[1], batch)
    for name, value in (("dt", dt), ("cfl", cfl)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{_WHO}: expected {name} to be finite and > 0, got {value}")
    if dt is not None and cfl is not None:
        raise ValueError(f"{_WHO}: expected dt or cfl, got both")
    if cfl is not None and cfl > 1:
        raise ValueError(f"{_WHO}: expected cfl <= 1, the stability estimate, got {cfl}")
    u = torch.zeros(re.numel(), cells + 1, cells, dtype=torch.float64)
    v = torch.zeros(re.numel(), cells, cells + 1, dtype=torch.float64)
    if start is not None:
        if start.u.shape[:-3] != batch or start.u.shape[-1] != cells:
            raise ValueError(
                f"{_WHO}: expected start of batch {tuple(batch)} on {cells} cells, got "
                f"{tuple(start.u.shape[:-3])} on {start.u.shape[-1]}"
            )
        u = field(_WHO, "start.u", start.u[..., -1, :, :]).reshape(u.shape)
        v = field(_WHO, "start.v", start.v[..., -1, :, :]).reshape(v.shape)
    return _Run(moments, tuple(batch), 1 / re, speed, cfl or 0.8, dt).solve(u, v)


class _Run:
    """One solution in the making."""

    def __init__(
        self,
        times: Tensor,
        batch: tuple[int, ...],
        viscosity: Tensor,
        lid: Tensor,
        cfl: float,
        dt: float | None,
    ) -> None:
        self.times, self.batch = times, batch
        self.viscosity, self.lid, self.cfl, self.dt = viscosity, lid, cfl, dt

    def _rate(self, largest: Tensor, n: int) -> Tensor:
        # SSP-RK3 is stable on the axes up to 1.73 i and -2.51; 5.33 n^2 per axis is the largest
        # eigenvalue of the second difference with parabolas at the walls.
        return n * largest / 1.73 + 10.7 * n * n * self.viscosity / 2.51

    def _steps(self, span: float, bound: Tensor, n: int) -> Tensor:
        rate = self._rate(bound, n)
        if self.dt is None:
            count = (span * rate / self.cfl).ceil()
        else:
            count = torch.full_like(rate, math.ceil(span / self.dt * (1 - 1e-12)))
            limit = float(1 / rate.max())
            if span / float(count.min()) > limit * (1 + 1e-9):
                raise ValueError(
                    f"{_WHO}: expected dt <= {limit:.6g}, the stability estimate on this grid, got "
                    f"{self.dt:g}"
                )
        return count.clamp(min=1).to(torch.int64)

    def _interval(self, u: Tensor, v: Tensor, span: float) -> tuple[ops.CavityStep, Tensor]:
        n = u.shape[-1]
        bound = torch.maximum(_largest(u, v), 1.25 * self.lid.abs())
        for _ in range(_MOST_TRIALS):
            count = self._steps(span, bound, n)
            dt = span / count.to(torch.float64)
            out = ops.cavity(u, v, lid=self.lid, viscosity=self.viscosity, dt=dt, steps=count)
            finite = out.u.isfinite().flatten(1).all(1) & out.v.isfinite().flatten(1).all(1)
            met = torch.where(finite, torch.maximum(bound, _largest(out.u, out.v)), 2 * bound)
            # The fluid became faster than the steps allow: take the interval again.
            short = count * (1 + 1e-9) < span * self._rate(met, n)
            if not bool(short.any()) and bool(finite.all()):
                return out, count
            bound = torch.where(short | ~finite, met, bound)
        raise SolverError(f"{_WHO}: expected a bounded flow, but it grows without end")

    def solve(self, u: Tensor, v: Tensor) -> CavityFlow:
        n = u.shape[-1]
        history, counts, means = [(u, v)], [], []
        for span in self.times.diff().tolist():
            out, count = self._interval(u, v, span)
            u, v = out.u, out.v
            history.append((u, v))
            counts.append(count)
            pressure = (out.pressure - out.pressure.mean((1, 2), keepdim=True)) / span
            fluxes = [out.uu / span + pressure, out.uv / span, out.vu / span]
            means.append([pressure, *fluxes, out.vv / span + pressure])

        def joined(parts: list[Tensor]) -> Tensor:
            stacked = torch.stack(parts, 1)
            return stacked.reshape(*self.batch, *stacked.shape[1:])

        pressure, uu, uv, vu, vv = (joined(list(part)) for part in zip(*means, strict=True))
        line = torch.linspace(0.0, 1.0, n + 1, dtype=torch.float64)
        return CavityFlow(
            times=self.times,
            faces=(line, line.clone()),
            u=joined([u for u, _ in history]),
            v=joined([v for _, v in history]),
            pressure=pressure,
            u_flux=(uu, uv),
            v_flux=(vu, vv),
            lid=self.lid.reshape(self.batch),
            viscosity=self.viscosity.reshape(self.batch),
            steps=torch.stack(counts, -1).reshape(*self.batch, -1),
            settings={"integrator": "ssprk3", "cfl": self.cfl, "dt": self.dt},
        )


def _largest(u: Tensor, v: Tensor) -> Tensor:
    """Largest ``|u| + |v|`` over the cells of each flow."""
    across = torch.maximum(u[:, 1:].abs(), u[:, :-1].abs())
    along = torch.maximum(v[:, :, 1:].abs(), v[:, :, :-1].abs())
    return (across + along).flatten(1).amax(1)
