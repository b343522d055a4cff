# SPDX-License-Identifier: Apache-2.0
"""Linear diffusion with sources."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions
from physcon_ext.fv.march import Domain, Law, Source, field, make_grid, march, parameter
from physcon_ext.fv.methods import diffusion_method
from physcon_ext.fv.solution import Solution


_WHO = "fv.diffusion"


def diffusion(
    u0: Tensor,
    *,
    times: Tensor | Sequence[float],
    domain: Domain,
    bc: BoundaryConditions,
    k: float | Tensor = 1.0,
    source: Source | None = None,
    integrator: str = "ssprk2",
    stages: int = 9,
    cfl: float | None = None,
    dt: float | None = None,
) -> Solution:
    r"""Solve the heat equation.

    .. math:: u_t = k\, \Delta u + s

    Args:
        u0: Cell averages at the first time, ``(*batch, nx[, ny])``.
        times: Output times, ascending; the first is that of ``u0``.
        domain: ``(x0, x1)`` or ``((x0, x1), (y0, y1))``.
        bc: Condition at every edge: ``Dirichlet``, ``Neumann``, ``Robin``, ``Periodic``,
            ``Outflow`` (insulated) or `Flux`. Values as in `advection`.
        k: Diffusivity, ``>= 0``, a number or one per sample.
        source: As in `burgers`.
        integrator: ``euler``, ``ssprk2``, ``ssprk3``; ``rkl2`` (super-time-stepping: steps of
            ``(s^2 + s - 2)/4`` explicit ones for ``s`` evaluations); ``backward_euler``,
            ``tr_bdf2`` (implicit, one dimension, any step).
        stages: ``s`` of ``rkl2``, odd, at least 3.
        cfl: Step in units of the largest monotone explicit step (``dx^2/(2 k)`` in one dimension,
            ``dx^2/(4.5 k)`` with a given value at an end), at most 1; for ``rkl2`` of its stability
            limit. Default 0.9; 20 for the implicit methods, where any number is allowed.
        dt: Largest time step, instead of ``cfl``.

    Returns:
        Cells, fluxes, traces and totals.

    Raises:
        TypeError, ValueError: If an argument does not fit; an unstable step names the limit.
        SolverError: If the solution is not finite.

    Notes:
        Conservation: to rounding, for implicit methods too: cells are updated from the fluxes of
        the converged iterate.
        Promises: maximum principle for ``euler``, ``ssprk2``, ``ssprk3`` and ``backward_euler``.
        ``rkl2`` and ``tr_bdf2`` are stable but may over- and undershoot at jumps.
        Order: 2 in space, edges included (parabola through the face); 1 in time for the Euler
        methods, else 2.

    Good values:
        ``sin(x)`` on ``(0, 2 pi)``, periodic, ``k`` 1 to 5, 200 cells, ``t`` up to 1. ``rkl2`` with
        9 stages needs about a third of the evaluations of ``ssprk2``.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Neumann
        >>> wall = BoundaryConditions(left=Neumann(0.0), right=Neumann(0.0))
        >>> u0 = torch.zeros(8).index_fill(0, torch.tensor([0]), 8.0)
        >>> diffusion(u0, times=[0.0, 2.0], domain=(0.0, 1.0), bc=wall).cells[1].round(decimals=6)
        tensor([1., 1., 1., 1., 1., 1., 1., 1.], dtype=torch.float64)
    """
    u0 = field(_WHO, "u0", u0)
    grid = make_grid(_WHO, domain, u0.shape)
    rate = parameter(_WHO, "k", k, u0.shape[: u0.ndim - len(grid.sizes)], low=0.0)
    method = diffusion_method(
        _WHO, "constant", "integral", integrator, stages, dims=len(grid.sizes)
    )
    law = Law(
        _WHO,
        method,
        torch.zeros(rate.shape[0], len(grid.sizes), dtype=torch.float64),
        torch.stack([rate, torch.zeros_like(rate)], 1),
    )
    return march(law, u0, grid=grid, times=times, bc=bc, source=source, cfl=cfl, dt=dt)
