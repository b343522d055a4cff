# SPDX-License-Identifier: Apache-2.0
"""Data sets with exact totals, fluxes and edges (extra ``data``); h5py is imported on use."""

from physcon_ext.data.dataset import PDEDataset, collate
from physcon_ext.data.foreign import from_pdebench, from_well, to_pdebench, to_well
from physcon_ext.data.generator import Estimate, Progress, Report, estimate, generate
from physcon_ext.data.labelled import as_xarray
from physcon_ext.data.layout import DataError
from physcon_ext.data.schema import CheckReport, Finding, check, describe


__all__ = [
    "CheckReport",
    "DataError",
    "Estimate",
    "Finding",
    "PDEDataset",
    "Progress",
    "Report",
    "as_xarray",
    "check",
    "collate",
    "describe",
    "estimate",
    "from_pdebench",
    "from_well",
    "generate",
    "to_pdebench",
    "to_well",
]
