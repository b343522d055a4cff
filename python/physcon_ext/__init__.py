# SPDX-License-Identifier: Apache-2.0
"""Conservation laws for probabilistic predictions: exact, fast, batched Gaussian updates."""

from physcon_ext._load import compiled as _compiled


# The operators are registered from here on.
# isort: split
from physcon_ext import (
    boundary,
    constraints,
    data,
    functional,
    fv,
    metrics,
    models,
    nn,
    ops,
    pde,
    reference,
)
from physcon_ext._info import build_info, has_cuda
from physcon_ext.conditioning import conserve, mixture, project
from physcon_ext.constraints import LinearConstraint
from physcon_ext.covariance import GaussianField


__version__: str = _compiled.__version__

__all__ = [
    "GaussianField",
    "LinearConstraint",
    "__version__",
    "boundary",
    "build_info",
    "conserve",
    "constraints",
    "data",
    "functional",
    "fv",
    "has_cuda",
    "metrics",
    "mixture",
    "models",
    "nn",
    "ops",
    "pde",
    "project",
    "reference",
]
