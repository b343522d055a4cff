# SPDX-License-Identifier: Apache-2.0
"""The Stefan problem, whose diffusivity jumps with the solution: a moving shock."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.boundary import BoundaryConditions
from physcon_ext.fv.march import Domain, Law, field, make_grid, march, nearest, parameter
from physcon_ext.fv.methods import diffusion_method
from physcon_ext.fv.solution import Solution


_WHO = "fv.stefan"
_AVERAGES = ("integral", "arithmetic", "harmonic", "modified", "shock")


def stefan(
    u0: Tensor,
    *,
    times: Tensor | Sequence[float],
    domain: Domain,
    bc: BoundaryConditions,
    u_star: float | Tensor,
    k_max: float | Tensor = 1.0,
    average: str | None = None,
    integrator: str = "euler",
    stages: int = 9,
    cfl: float | None = None,
    dt: float | None = None,
) -> Solution:
    r"""Solve the Stefan problem.

    .. math:: u_t = \nabla\cdot(k(u)\, \nabla u), \qquad
              k = k_{\max} \text{ where } u \ge u^*, \text{ else } 0

    Args:
        u0: Cell averages at the first time, ``>= 0``, ``(*batch, nx[, ny])``. Zero everywhere is a
            good start.
        times: Output times, ascending; the first is that of ``u0``.
        domain: ``(x0, x1)`` or ``((x0, x1), (y0, y1))``.
        bc: As in `diffusion`.
        u_star: Threshold :math:`u^*`, ``> 0``, a number or one per sample.
        k_max: Diffusivity above the threshold, ``>= 0``, a number or one per sample.
        average: Value of ``k`` on a face. ``shock`` (the default in one dimension) follows the
            front inside its cell: one front, moving to the right into empty cells. ``integral``
            (the default in two): the flux is the difference of ``k_max max(u - u*, 0)``.
            ``arithmetic``: the cells behind the front oscillate in time. ``harmonic``: the front
            sticks. ``modified``: as in `porous_medium`. The last three are kept to show it.
        integrator: As in `diffusion`; ``shock`` needs ``euler``.
        stages: As in `diffusion`.
        cfl: As in `diffusion`.
        dt: Largest time step, instead of ``cfl``.

    Returns:
        Cells, fluxes, traces and totals; in one dimension ``front``, the position of the front
        found from the average of its cell.

    Raises:
        TypeError, ValueError: If an argument does not fit; an unstable step names the limit.
        SolverError: If the solution is not finite or Newton's method does not converge.

    Notes:
        ``shock``: in the cell of the front, ``[x, x + h]``, the profile is a line from the last
        full cell to ``u*`` at ``x* = x + theta h`` and 0 behind; the cell average determines
        ``theta``, and ``-k_max (u* - u)/(distance)`` is the flux into the cell. No mass is moved
        by hand, so the balance is exact. In the first cell ``theta^2`` grows linearly and is
        integrated exactly, so that the infinite flux at ``t = 0`` does no harm. Measured for
        ``u_star = 0.6``, 50 and 200 cells: front off by 1.2e-5 and 2.3e-6 (``integral``: 2.9e-4 and
        3.9e-5), L1 error 1.8e-5 and 1.7e-6 (4.4e-4 and 5.9e-5).
        Promises: no negative cell; values between 0 and the largest given one.
        The temporal oscillations of arithmetic and harmonic averages and a cure by the shock
        position are analysed by Maddix, Sampaio and Gerritsen (J. Comput. Phys. 373, 2018).

    Good values:
        Zeros on ``(0, 1)``, ``Dirichlet(1.0)`` and ``Dirichlet(0.0)``, ``u_star`` in [0.55, 0.7],
        200 cells, ``t`` up to 0.1; at 0.6 the front stands at 0.2351 for ``t = 0.05``.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Dirichlet
        >>> ends = BoundaryConditions(left=Dirichlet(1.0), right=Dirichlet(0.0))
        >>> found = stefan(
        ...     torch.zeros(100), times=[0.0, 0.05], domain=(0.0, 1.0), bc=ends, u_star=0.6
        ... )
        >>> bool((found.front[1] - 0.235087).abs() < 1e-3)
        True
    """
    u0 = field(_WHO, "u0", u0)
    grid = make_grid(_WHO, domain, u0.shape)
    dims = len(grid.sizes)
    batch = u0.shape[: u0.ndim - dims]
    threshold = parameter(_WHO, "u_star", u_star, batch)
    if bool((threshold <= 0).any()):
        raise ValueError(f"{_WHO}: expected u_star to be > 0, got {float(threshold.min())}")
    k = parameter(_WHO, "k_max", k_max, batch, low=0.0)
    chosen = nearest(_WHO, "average", average or ("shock" if dims == 1 else "integral"), _AVERAGES)
    if chosen == "shock":
        _check_single_front(u0, threshold, dims, integrator)
    method = diffusion_method(_WHO, "threshold", chosen, integrator, stages, dims=dims)
    law = Law(
        _WHO,
        method,
        torch.zeros(k.shape[0], dims, dtype=torch.float64),
        torch.stack([k, threshold], 1),
        nonnegative=True,
    )
    return march(law, u0, grid=grid, times=times, bc=bc, cfl=cfl, dt=dt)


def _check_single_front(u0: Tensor, threshold: Tensor, dims: int, integrator: str) -> None:
    """Raise unless `shock` can follow the front: full cells, at most one partial cell, empty."""
    if dims != 1 or integrator != "euler":
        raise ValueError(
            f"{_WHO}: expected average='shock' in one dimension with integrator='euler', got "
            f"{dims} dimensions and {integrator!r}; 'integral' takes all"
        )
    cells = u0.reshape(-1, u0.shape[-1])
    full = (cells >= threshold[:, None]).to(torch.int64).cumprod(1).sum(1)
    place = torch.arange(cells.shape[1])
    ahead = (place > full[:, None]) & (cells != 0)
    if bool(ahead.any()):
        item, cell = (int(i) for i in ahead.nonzero()[0])
        raise ValueError(
            f"{_WHO}: expected u0 to be >= u_star up to one front and 0 behind it (average="
            f"'shock'), got {float(cells[item, cell]):.4g} in cell {cell} of sample {item}; "
            f"'integral' takes any data"
        )
