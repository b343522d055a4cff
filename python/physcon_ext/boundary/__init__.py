# SPDX-License-Identifier: Apache-2.0
"""Boundary conditions: what holds at the edges of a field, and how a grid states it."""

from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    BoundaryValues,
    Condition,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
    boundary_values,
)
from physcon_ext.boundary.enforcement import boundary_rules, corner_mismatch, enforce
from physcon_ext.boundary.gains import correction_gain, end_response, scalar_gain
from physcon_ext.boundary.periods import extended_period
from physcon_ext.boundary.smooth import condition_on_boundary, default_length
from physcon_ext.boundary.stencils import derivative_weights, end_weights, outward_weights


__all__ = [
    "BoundaryConditions",
    "BoundaryValues",
    "Condition",
    "Dirichlet",
    "Neumann",
    "Outflow",
    "Periodic",
    "Robin",
    "boundary_rules",
    "boundary_values",
    "condition_on_boundary",
    "corner_mismatch",
    "correction_gain",
    "default_length",
    "derivative_weights",
    "end_response",
    "end_weights",
    "enforce",
    "extended_period",
    "outward_weights",
    "scalar_gain",
]
