# SPDX-License-Identifier: Apache-2.0
"""The wave equation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions
from physcon_ext.fv.march import Domain, Law, Source, field, make_grid, march, parameter
from physcon_ext.fv.solution import Solution
from physcon_ext.reference.balance_law import Method


_WHO = "fv.wave"


def wave(
    u0: Tensor,
    v0: Tensor | None = None,
    *,
    times: Tensor | Sequence[float],
    domain: Domain,
    bc: BoundaryConditions,
    c: float | Tensor = 1.0,
    source: Source | None = None,
    cfl: float | None = None,
    dt: float | None = None,
) -> Solution:
    r"""Solve the wave equation.

    .. math:: u_{tt} = c^2\, \Delta u + s

    Args:
        u0: Cell averages at the first time, ``(*batch, nx[, ny])``.
        v0: Cell averages of ``u_t`` at the first time; zero if left out.
        times: Output times, ascending; the first is that of ``u0``.
        domain: ``(x0, x1)`` or ``((x0, x1), (y0, y1))``.
        bc: Condition at every edge, as in `diffusion`.
        c: Speed, ``>= 0``, a number or one per sample.
        source: As in `burgers`.
        cfl: Step in units of the stability limit ``2/sqrt(lambda)``, ``lambda`` the largest
            eigenvalue of ``-c^2 Laplacian`` on the grid; at most 1, by default 0.9.
        dt: Largest time step, instead of ``cfl``.

    Returns:
        Cells and ``velocity``; fluxes (of ``-c^2 grad u``), totals and balance are those of the
        velocity, which is the conserved field.

    Raises:
        TypeError, ValueError: If an argument does not fit; an unstable step names the limit.
        SolverError: If the solution is not finite.

    Notes:
        Stoermer-Verlet in time, second order in space and time; the energy oscillates but does not
        drift. Conservation as in `diffusion`.

    Good values:
        ``u0 = 3 cos(pi x) cos(pi y)`` on the unit square, ``Neumann(0.0)`` at all edges, ``c = 1``,
        50 x 50 cells, ``t`` up to 2: exact solution ``u0 cos(sqrt(2) pi t)``.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Neumann
        >>> wall = BoundaryConditions(left=Neumann(0.0), right=Neumann(0.0))
        >>> u0 = torch.cos(torch.pi * (torch.arange(50) + 0.5) / 50)
        >>> found = wave(u0, times=[0.0, 2.0], domain=(0.0, 1.0), bc=wall)
        >>> bool((found.cells[1] - found.cells[0]).abs().max() < 2e-3)  # one period
        True
    """
    u0 = field(_WHO, "u0", u0)
    grid = make_grid(_WHO, domain, u0.shape)
    velocity = torch.zeros_like(u0) if v0 is None else field(_WHO, "v0", v0)
    if velocity.shape != u0.shape:
        raise ValueError(
            f"{_WHO}: expected u0 and v0 to have the same shape, got {tuple(u0.shape)} and "
            f"{tuple(velocity.shape)}"
        )
    speed = parameter(_WHO, "c", c, u0.shape[: u0.ndim - len(grid.sizes)], low=0.0)
    law = Law(
        _WHO,
        Method(diffusivity="constant", integrator="verlet"),
        torch.zeros(speed.shape[0], len(grid.sizes), dtype=torch.float64),
        torch.stack([speed**2, torch.zeros_like(speed)], 1),
    )
    return march(
        law, u0, grid=grid, times=times, bc=bc, source=source, velocity=velocity, cfl=cfl, dt=dt
    )
