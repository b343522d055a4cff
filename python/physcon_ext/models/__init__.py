# SPDX-License-Identifier: Apache-2.0
"""Neural operators built from the layers of this package."""

from physcon_ext.models.fno import FNO


__all__ = ["FNO"]
