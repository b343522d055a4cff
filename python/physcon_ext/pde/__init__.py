# SPDX-License-Identifier: Apache-2.0
"""Equations with exact solutions: point values, cell averages, totals, fluxes and fronts."""

from physcon_ext.pde.advection import Advection
from physcon_ext.pde.burgers import Burgers
from physcon_ext.pde.cavity import Cavity
from physcon_ext.pde.diffusion import Diffusion
from physcon_ext.pde.equation import Equation, Parameter
from physcon_ext.pde.heat import Heat
from physcon_ext.pde.periodic_burgers import PeriodicBurgers
from physcon_ext.pde.plane import PlaneProblem
from physcon_ext.pde.plane_burgers import PlaneBurgers
from physcon_ext.pde.plane_linear import PlaneAdvection, PlaneDiffusion
from physcon_ext.pde.porous_drop import PorousDrop
from physcon_ext.pde.porous_medium import PorousMedium
from physcon_ext.pde.problem import Problem
from physcon_ext.pde.registry import EQUATIONS, equation
from physcon_ext.pde.stefan import Stefan
from physcon_ext.pde.stokes import Stokes
from physcon_ext.pde.viscous_burgers import ViscousBurgers
from physcon_ext.pde.wave import Wave


__all__ = [
    "EQUATIONS",
    "Advection",
    "Burgers",
    "Cavity",
    "Diffusion",
    "Equation",
    "Heat",
    "Parameter",
    "PeriodicBurgers",
    "PlaneAdvection",
    "PlaneBurgers",
    "PlaneDiffusion",
    "PlaneProblem",
    "PorousDrop",
    "PorousMedium",
    "Problem",
    "Stefan",
    "Stokes",
    "ViscousBurgers",
    "Wave",
    "equation",
]
