# SPDX-License-Identifier: Apache-2.0
"""Where the samples put the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from physcon_ext.plot._figure import CONSERVED, as_array, axes_or_new


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def front_density(
    positions: Tensor,
    *,
    limits: tuple[float, float] | None = None,
    bins: int = 40,
    color: str = CONSERVED,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histogram of front positions as a density: the filled area is the share of samples shown.

    Args:
        positions: Positions, any shape; NaN marks a sample without a front and is left out of the
            bars but counted in the total, so the area falls short of 1 by their share.
        limits: Ends of the binned range; smallest and largest position when None.
        bins: Number of equal bins.
        color: Colour of the bars.
        label: Name in a legend.
        ax: Axes to draw on; a new pyplot figure when None.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If no position is finite.

    Example:
        >>> import torch
        >>> ax = front_density(0.3 + 0.02 * torch.randn(500))
    """
    every = as_array(positions).ravel()
    found = every[np.isfinite(every)]
    if found.size == 0:
        raise ValueError("plot.front_density: expected positions to hold a finite value, got none")
    ax = axes_or_new(ax)
    count, edges = np.histogram(found, bins=bins, range=limits)
    density = count / (every.size * np.diff(edges))
    ax.stairs(density, edges, fill=True, color=color, alpha=0.22, label=label)
    ax.stairs(density, edges, color=color, linewidth=1.6)
    return ax
