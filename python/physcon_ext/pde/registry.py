# SPDX-License-Identifier: Apache-2.0
"""Equations by name."""

from __future__ import annotations

from physcon_ext.pde.advection import Advection
from physcon_ext.pde.burgers import Burgers
from physcon_ext.pde.cavity import Cavity
from physcon_ext.pde.diffusion import Diffusion
from physcon_ext.pde.equation import Equation, suggestion
from physcon_ext.pde.heat import Heat
from physcon_ext.pde.periodic_burgers import PeriodicBurgers
from physcon_ext.pde.plane_burgers import PlaneBurgers
from physcon_ext.pde.plane_linear import PlaneAdvection, PlaneDiffusion
from physcon_ext.pde.porous_drop import PorousDrop
from physcon_ext.pde.porous_medium import PorousMedium
from physcon_ext.pde.stefan import Stefan
from physcon_ext.pde.stokes import Stokes
from physcon_ext.pde.viscous_burgers import ViscousBurgers
from physcon_ext.pde.wave import Wave


EQUATIONS: dict[str, type[Equation]] = {
    kind.name: kind
    for kind in (
        Diffusion,
        PorousMedium,
        Stefan,
        Advection,
        Burgers,
        Stokes,
        ViscousBurgers,
        PeriodicBurgers,
        Heat,
        Wave,
        Cavity,
        PlaneDiffusion,
        PorousDrop,
        PlaneAdvection,
        PlaneBurgers,
    )
}


def equation(name: str) -> type[Equation]:
    """Find an equation by its name.

    Args:
        name: One of the keys of ``EQUATIONS``.

    Returns:
        The class.

    Raises:
        ValueError: If there is none of that name; the nearest one is suggested.

    Example:
        >>> equation("stefan").duration
        0.1
    """
    if name not in EQUATIONS:
        raise ValueError(
            f"physcon_ext.pde: expected an equation among {', '.join(EQUATIONS)}, got {name!r}"
            f"{suggestion(name, EQUATIONS)}"
        )
    return EQUATIONS[name]
