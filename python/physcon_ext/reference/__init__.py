# SPDX-License-Identifier: Apache-2.0
"""The plain PyTorch definition of every op: dense, obvious, float64 inside, on any device.

These are the oracle of the tests and the place to read what an op computes. They form ``n x n``
matrices and are never used as a fallback.
"""

from physcon_ext.reference.assign_faces import assign_faces
from physcon_ext.reference.balance_law import balance_law
from physcon_ext.reference.banded_product import banded_product
from physcon_ext.reference.boundary_spectral_conv import boundary_spectral_conv
from physcon_ext.reference.cavity import cavity
from physcon_ext.reference.condition_banded import condition_banded
from physcon_ext.reference.condition_cross import condition_cross
from physcon_ext.reference.condition_dense import condition_dense
from physcon_ext.reference.condition_diagonal import condition_diagonal
from physcon_ext.reference.condition_disjoint import condition_disjoint
from physcon_ext.reference.end_response import end_response
from physcon_ext.reference.fno_block import fno_block
from physcon_ext.reference.results import Conditioned, ConditionedBanded
from physcon_ext.reference.row_system import RowStatus
from physcon_ext.reference.spectral_conv import spectral_conv
from physcon_ext.reference.two_step_gain import two_step_gain


__all__ = [
    "Conditioned",
    "ConditionedBanded",
    "RowStatus",
    "assign_faces",
    "balance_law",
    "banded_product",
    "boundary_spectral_conv",
    "cavity",
    "condition_banded",
    "condition_cross",
    "condition_dense",
    "condition_diagonal",
    "condition_disjoint",
    "end_response",
    "fno_block",
    "spectral_conv",
    "two_step_gain",
]
