# SPDX-License-Identifier: Apache-2.0
"""Equations with exact solutions: point values, cell averages, totals, fluxes and fronts."""

from physcon_ext.pde.gpme import Diffusion, PorousMedium, Problem, Stefan


__all__ = ["Diffusion", "PorousMedium", "Problem", "Stefan"]
