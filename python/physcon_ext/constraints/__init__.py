# SPDX-License-Identifier: Apache-2.0
"""Linear knowledge about a field: totals, blocks, smoothness, any rows."""

from physcon_ext.constraints.blocks import blocks
from physcon_ext.constraints.boundary import boundary
from physcon_ext.constraints.linear import LinearConstraint
from physcon_ext.constraints.quadrature import quadrature
from physcon_ext.constraints.smoothness import smoothness
from physcon_ext.constraints.total import total


__all__ = ["LinearConstraint", "blocks", "boundary", "quadrature", "smoothness", "total"]
