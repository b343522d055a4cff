# SPDX-License-Identifier: Apache-2.0
"""The porous medium equation, whose diffusivity vanishes with the solution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions
from physcon_ext.fv.march import Domain, Law, field, make_grid, march, nearest, parameter
from physcon_ext.fv.methods import diffusion_method
from physcon_ext.fv.solution import Solution


_WHO = "fv.porous_medium"
_AVERAGES = ("integral", "arithmetic", "harmonic", "modified")


def porous_medium(
    u0: Tensor,
    *,
    times: Tensor | Sequence[float],
    domain: Domain,
    bc: BoundaryConditions,
    m: float | Tensor,
    average: str = "integral",
    integrator: str = "euler",
    stages: int = 9,
    cfl: float | None = None,
    dt: float | None = None,
) -> Solution:
    r"""Solve the porous medium equation.

    .. math:: u_t = \nabla\cdot(u^m\, \nabla u), \qquad u \ge 0

    Args:
        u0: Cell averages at the first time, ``>= 0``, ``(*batch, nx[, ny])``.
        times: Output times, ascending; the first is that of ``u0``.
        domain: ``(x0, x1)`` or ``((x0, x1), (y0, y1))``.
        bc: As in `diffusion`.
        m: Exponent, ``>= 1``, a number or one per sample.
        average: Value of ``u^m`` on a face. ``integral``: the flux is the difference of
            ``u^(m+1)/(m+1)``. ``arithmetic``. ``harmonic``: the front sticks, because the flux into
            an empty cell is exactly 0; kept to show it. ``modified``: harmonic, but arithmetic
            where the two values differ by more than a factor of 4.
        integrator: As in `diffusion`; the implicit ones need ``integral``.
        stages: As in `diffusion`.
        cfl: As in `diffusion`, with the largest ``u^m`` of the sample in place of ``k``.
        dt: Largest time step, instead of ``cfl``.

    Returns:
        Cells, fluxes, traces and totals.

    Raises:
        TypeError, ValueError: If an argument does not fit; an unstable step names the limit.
        SolverError: If the solution is not finite or Newton's method does not converge.

    Notes:
        Promises: ``integral`` with ``euler``, ``ssprk2`` or ``ssprk3`` is monotone: no negative
        cell, no new extremum. ``rkl2`` and ``tr_bdf2`` are not: cells just ahead of the front may
        come out negative (they then stand still, ``u^m`` being 0 there).
        Accuracy at the front: L1 error of order ``1 + 1/m``, measured in ``bench/convergence.py``;
        ``integral`` is the most accurate average for every ``m`` tried (1, 3, 6). The
        artefacts of harmonic and arithmetic averages are analysed by Maddix, Sampaio and Gerritsen
        (J. Comput. Phys. 361, 2018).

    Good values:
        Empty at ``t = 0`` on ``(0, 1)``, ``Dirichlet(lambda t: (m * t) ** (1 / m))`` at the left,
        ``Dirichlet(0.0)`` at the right, ``m`` 1 to 6, 200 cells: the front is at ``x = t``.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Dirichlet
        >>> ends = BoundaryConditions(left=Dirichlet(lambda t: t), right=Dirichlet(0.0))
        >>> found = porous_medium(
        ...     torch.zeros(100), times=[0.0, 0.5], domain=(0.0, 1.0), bc=ends, m=1.0
        ... )
        >>> bool((found.total[1] - 0.125).abs() < 1e-3)  # t^2 / 2
        True
    """
    u0 = field(_WHO, "u0", u0)
    grid = make_grid(_WHO, domain, u0.shape)
    power = parameter(_WHO, "m", m, u0.shape[: u0.ndim - len(grid.sizes)], low=1.0)
    average = nearest(_WHO, "average", average, _AVERAGES)
    method = diffusion_method(_WHO, "power", average, integrator, stages, dims=len(grid.sizes))
    law = Law(
        _WHO,
        method,
        torch.zeros(power.shape[0], len(grid.sizes), dtype=torch.float64),
        torch.stack([power, torch.zeros_like(power)], 1),
        nonnegative=True,
    )
    return march(law, u0, grid=grid, times=times, bc=bc, cfl=cfl, dt=dt)
