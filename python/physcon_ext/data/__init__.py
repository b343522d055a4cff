# SPDX-License-Identifier: Apache-2.0
"""Data sets with exact totals, fluxes and edges (extra ``data``); h5py is imported on use."""

from physcon_ext.data.dataset import PDEDataset, collate
from physcon_ext.data.generator import Progress, Report, generate
from physcon_ext.data.layout import DataError
from physcon_ext.data.schema import CheckReport, Finding, check, describe


__all__ = [
    "CheckReport",
    "DataError",
    "Finding",
    "PDEDataset",
    "Progress",
    "Report",
    "check",
    "collate",
    "describe",
    "generate",
]
