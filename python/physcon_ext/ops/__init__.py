# SPDX-License-Identifier: Apache-2.0
"""Typed, differentiable wrappers of ``torch.ops.physcon``: one file per op, tensors in and out."""

from physcon_ext.ops import _cuda
from physcon_ext.ops.assign_faces import assign_faces
from physcon_ext.ops.balance_law import balance_law
from physcon_ext.ops.banded_product import banded_product
from physcon_ext.ops.boundary_spectral_conv import boundary_spectral_conv
from physcon_ext.ops.cavity import cavity
from physcon_ext.ops.condition_banded import condition_banded
from physcon_ext.ops.condition_cross import condition_cross
from physcon_ext.ops.condition_dense import condition_dense
from physcon_ext.ops.condition_diagonal import condition_diagonal
from physcon_ext.ops.condition_disjoint import condition_disjoint
from physcon_ext.ops.end_response import end_response
from physcon_ext.ops.fno_block import fno_block
from physcon_ext.ops.spectral_conv import spectral_conv
from physcon_ext.ops.two_step_gain import two_step_gain
from physcon_ext.reference.balance_law import Advanced, EdgeTable, Method
from physcon_ext.reference.cavity import CavityStep
from physcon_ext.reference.results import Conditioned, ConditionedBanded


__all__ = [
    "Advanced",
    "CavityStep",
    "Conditioned",
    "ConditionedBanded",
    "assign_faces",
    "EdgeTable",
    "Method",
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

_cuda.register()
