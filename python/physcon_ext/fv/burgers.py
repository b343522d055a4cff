# SPDX-License-Identifier: Apache-2.0
"""Burgers' equation, inviscid and viscous."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions
from physcon_ext.fv.march import Domain, Law, Source, field, make_grid, march, parameter
from physcon_ext.fv.methods import transport_method
from physcon_ext.fv.solution import Solution


_WHO = "fv.burgers"


def burgers(
    u0: Tensor,
    *,
    times: Tensor | Sequence[float],
    domain: Domain,
    bc: BoundaryConditions,
    viscosity: float | Tensor = 0.0,
    source: Source | None = None,
    scheme: str = "weno5",
    integrator: str | None = None,
    cfl: float | None = None,
    dt: float | None = None,
) -> Solution:
    r"""Solve Burgers' equation.

    .. math:: u_t + (u^2/2)_x \, (+ (u^2/2)_y) = \nu\, \Delta u + s

    Args:
        u0: Cell averages at the first time, ``(*batch, nx[, ny])``.
        times: Output times, ascending; the first is that of ``u0``.
        domain: ``(x0, x1)`` or ``((x0, x1), (y0, y1))``.
        bc: Condition at every edge. Without viscosity ``Dirichlet`` is the state outside: it holds
            where characteristics enter. With viscosity ``Dirichlet``, ``Neumann`` and ``Robin``
            hold on the face itself. Values as in `advection`.
        viscosity: ``nu >= 0``, a number or one per sample.
        source: Pairs of an amplitude (number, ``(*batch)`` or function of a tensor of times
            ``(*batch, k)``) and a shape (cell averages, ``(*batch, nx[, ny])``), at most 8; ``s``
            is the sum of their products.
        scheme: ``godunov``, ``minmod``, ``van_leer``, ``mc`` or ``weno5``.
        integrator: As in `advection`.
        cfl: ``dt (max|u| (1/dx + 1/dy) + 2 nu (1/dx^2 + 1/dy^2))``, at most 1; the second factor 2
            is 4.5 along axes with a given value at an end. Defaults as in `advection`.
        dt: Largest time step, instead of ``cfl``.

    Returns:
        Cells, fluxes, traces and totals.

    Raises:
        TypeError, ValueError: If an argument does not fit; an unstable step names the limit.
        SolverError: If the solution is not finite.

    Notes:
        Exact Riemann solutions (Godunov flux), so shocks and transonic fans are right. Steps follow
        ``max|u|`` of the sample, taken anew for each output interval; an interval in which ``u``
        grew too much is taken again with shorter steps.
        Promises and conservation as in `advection`. In two dimensions fluxes use the average over
        the face as its value: second order at best, whatever the scheme.

    Good values:
        ``u0 = -a x`` left of 0 and 0 right of it on ``(-1, 1)``, ``a`` 1 to 4, ``Dirichlet(a)`` at
        the left: a shock forms at ``t = 1/a``. Viscous: ``viscosity`` 0.01 to 0.1, smooth periodic
        data of size 1, 128 cells, ``t`` up to 1.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Dirichlet
        >>> jump = torch.cat([torch.ones(20), torch.zeros(20)])
        >>> ends = BoundaryConditions(left=Dirichlet(1.0), right=Dirichlet(0.0))
        >>> found = burgers(jump, times=[0.0, 0.5], domain=(-1.0, 1.0), bc=ends)
        >>> found.total  # the shock moves at speed 1/2: 0.25 more
        tensor([1.0000, 1.2500], dtype=torch.float64)
    """
    u0 = field(_WHO, "u0", u0)
    grid = make_grid(_WHO, domain, u0.shape)
    nu = parameter(_WHO, "viscosity", viscosity, u0.shape[: u0.ndim - len(grid.sizes)], low=0.0)
    method = transport_method(_WHO, "burgers", scheme, integrator, diffuses=bool((nu > 0).any()))
    speed = torch.ones(nu.shape[0], len(grid.sizes), dtype=torch.float64)
    law = Law(_WHO, method, speed, torch.stack([nu, torch.zeros_like(nu)], 1))
    return march(law, u0, grid=grid, times=times, bc=bc, source=source, cfl=cfl, dt=dt)
