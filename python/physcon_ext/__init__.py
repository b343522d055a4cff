# SPDX-License-Identifier: Apache-2.0
"""Conservation laws for probabilistic predictions: exact, fast, batched Gaussian updates."""

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

from physcon_ext._load import compiled as _compiled


# The operators are registered from here on.
# isort: split
from physcon_ext import boundary, constraints, metrics, ops, reference
from physcon_ext._info import build_info, has_cuda
from physcon_ext.conditioning import conserve, mixture, project
from physcon_ext.constraints import LinearConstraint
from physcon_ext.covariance import GaussianField


if _TYPE_CHECKING:
    from physcon_ext import adapters, data, functional, fv, models, nn, pde


__version__: str = _compiled.__version__

__all__ = [
    "GaussianField",
    "LinearConstraint",
    "__version__",
    "adapters",
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

# Parts that a conditioned field does not need are imported on first use.
_ON_USE = ("adapters", "data", "functional", "fv", "models", "nn", "pde")


def __getattr__(name: str) -> _ModuleType:
    if name in _ON_USE:
        return _import_module(f"physcon_ext.{name}")
    raise AttributeError(f"module 'physcon_ext' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_USE})
