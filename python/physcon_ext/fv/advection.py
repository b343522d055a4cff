# SPDX-License-Identifier: Apache-2.0
"""Linear advection with constant speed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions
from physcon_ext.fv.march import Domain, Law, field, make_grid, march, parameter
from physcon_ext.fv.methods import transport_method
from physcon_ext.fv.solution import Solution


_WHO = "fv.advection"


def advection(
    u0: Tensor,
    *,
    times: Tensor | Sequence[float],
    domain: Domain,
    bc: BoundaryConditions,
    speed: float | Tensor | tuple[float | Tensor, float | Tensor],
    scheme: str = "weno5",
    integrator: str | None = None,
    cfl: float | None = None,
    dt: float | None = None,
) -> Solution:
    r"""Solve the linear advection equation.

    .. math:: u_t + a\, u_x \, (+ b\, u_y) = 0

    Args:
        u0: Cell averages at the first time, ``(*batch, nx[, ny])``, at least 4 cells along an axis.
        times: Output times, ascending; the first is that of ``u0``.
        domain: ``(x0, x1)`` or ``((x0, x1), (y0, y1))``.
        bc: Condition at every edge: ``Dirichlet`` (what flows in; without effect where the flow
            leaves), ``Outflow``, ``Periodic`` or `Flux`. A value is a number, a tensor
            ``(*batch[, edge])`` or a function of a tensor of times ``(*batch, k[, 1])``.
        speed: ``a``, a number or one per sample; in two dimensions the pair ``(a, b)``.
        scheme: ``godunov`` (upwind), ``minmod``, ``van_leer``, ``mc`` (limited slopes) or
            ``weno5``.
        integrator: ``euler`` (godunov only), ``ssprk2`` or ``ssprk3``. By default the cheapest one
            of the scheme's own order.
        cfl: Courant number ``dt (|a|/dx + |b|/dy)``, at most 1. By default 0.9 for godunov, 0.5
            for the limited slopes, 0.6 for weno5.
        dt: Largest time step, instead of ``cfl``.

    Returns:
        Cells, fluxes, traces and totals.

    Raises:
        TypeError, ValueError: If an argument does not fit; an unstable step names the limit.
        SolverError: If the solution is not finite.

    Notes:
        Conservation: cells change by the returned fluxes alone, to rounding, over any number of
        steps. The fluxes at edges are those used.
        Promises: maximum principle and falling total variation for godunov (Courant number up to
        1) and the limited slopes (up to 0.5). weno5 makes no such promise.
        Order where smooth, inside: 1, 2, 2, 2, 5 (with ``dt`` proportional to ``dx**(5/3)``; 3 in
        time). At an edge with inflow the reconstruction falls back to first or second order.
        Determinism: a sample has the same bits in any batch, for any number of threads.

    Good values:
        A step of height 1 at 0.5 on ``(0, 1)``, ``speed`` 1 to 5, 200 cells, ``t`` up to 0.1,
        ``Dirichlet(1.0)`` at the left, ``Outflow()`` at the right.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Periodic
        >>> wave = torch.sin(2 * torch.pi * (torch.arange(32) + 0.5) / 32)
        >>> ring = BoundaryConditions(left=Periodic(), right=Periodic())
        >>> found = advection(wave, times=[0.0, 1.0], domain=(0.0, 1.0), bc=ring, speed=1.0)
        >>> bool((found.cells[1] - found.cells[0]).abs().max() < 1e-3)
        True
    """
    u0 = field(_WHO, "u0", u0)
    grid = make_grid(_WHO, domain, u0.shape)
    dims = len(grid.sizes)
    speeds = speed if isinstance(speed, (tuple, list)) else (speed,)
    if len(speeds) != dims:
        raise ValueError(
            f"{_WHO}: expected speed to be {'a number' if dims == 1 else 'a pair'} on a domain of "
            f"{dims} dimension(s), got {len(speeds)} value(s)"
        )
    batch = u0.shape[: u0.ndim - dims]
    columns = [parameter(_WHO, "speed", a, batch) for a in speeds]
    method = transport_method(_WHO, "linear", scheme, integrator, diffuses=False)
    law = Law(_WHO, method, torch.stack(columns, 1), columns[0].new_zeros(columns[0].shape[0], 2))
    return march(law, u0, grid=grid, times=times, bc=bc, cfl=cfl, dt=dt)
