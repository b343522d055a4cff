# SPDX-License-Identifier: Apache-2.0
"""Metrics of predictions: pure functions on tensors, batched, with sums in float64.

Each reduces over the points of an item (the last axis) first and then, unless ``reduce=False``,
takes the mean over items. They are differentiable where that has a meaning.
"""

from physcon_ext.metrics.calibration import (
    coverage,
    interval_width,
    n_merci,
    rmsce,
    variance_error_correlation,
)
from physcon_ext.metrics.errors import conservation_error, mse, rmse
from physcon_ext.metrics.scores import (
    crps_ensemble,
    crps_gaussian,
    energy_score,
    log_likelihood,
    nll,
)
from physcon_ext.metrics.shocks import ShockError, shock_error, shock_position


__all__ = [
    "ShockError",
    "conservation_error",
    "coverage",
    "crps_ensemble",
    "crps_gaussian",
    "energy_score",
    "interval_width",
    "log_likelihood",
    "mse",
    "n_merci",
    "nll",
    "rmsce",
    "rmse",
    "shock_error",
    "shock_position",
    "variance_error_correlation",
]
