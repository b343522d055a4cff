# SPDX-License-Identifier: Apache-2.0
"""Gaussian fields and the structured covariances behind them."""

from physcon_ext.covariance.base import Covariance
from physcon_ext.covariance.conditioned import (
    ConditionedBanded,
    ConditionedDisjoint,
    ConditionedRows,
)
from physcon_ext.covariance.dense import Dense
from physcon_ext.covariance.diagonal import Diagonal
from physcon_ext.covariance.field import Diagnostics, GaussianField
from physcon_ext.covariance.low_rank import LowRankPlusDiagonal
from physcon_ext.covariance.mixture import Mixture


__all__ = [
    "ConditionedBanded",
    "ConditionedDisjoint",
    "ConditionedRows",
    "Covariance",
    "Dense",
    "Diagnostics",
    "Diagonal",
    "GaussianField",
    "LowRankPlusDiagonal",
    "Mixture",
]
