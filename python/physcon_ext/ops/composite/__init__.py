# SPDX-License-Identifier: Apache-2.0
"""Every op as torch operations: what runs on a CUDA tensor where no verified kernel exists.

Linear in the number of points (banded rows: ``n log n``), float64 inside, no host synchronisation
but in the two finite-volume ops, which have no derivatives. ``COMPOSITES`` holds them by the name
of their op; it is made when first asked for, because formulas of other ops use single modules of
this folder while the ops are being defined.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "COMPOSITES":
        from physcon_ext.ops.composite.table import COMPOSITES

        return COMPOSITES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
