# SPDX-License-Identifier: Apache-2.0
"""Conservative finite-volume solvers: cells, and every flux that changed them.

Batched over samples, in float64, one file per equation. All solvers take cell averages ``u0``
``(*batch, nx[, ny])``, output ``times``, a ``domain`` and `physcon_ext.boundary` conditions, and
return a `Solution`. They make data and reference solutions; they have no gradient.
"""

from physcon_ext.fv.advection import advection
from physcon_ext.fv.burgers import burgers
from physcon_ext.fv.cavity import CavityFlow, cavity
from physcon_ext.fv.diffusion import diffusion
from physcon_ext.fv.edges import Flux
from physcon_ext.fv.porous_medium import porous_medium
from physcon_ext.fv.solution import Solution, SolverError
from physcon_ext.fv.stefan import stefan
from physcon_ext.fv.wave import wave


__all__ = [
    "CavityFlow",
    "Flux",
    "Solution",
    "SolverError",
    "advection",
    "burgers",
    "cavity",
    "diffusion",
    "porous_medium",
    "stefan",
    "wave",
]
