# SPDX-License-Identifier: Apache-2.0
"""The conserved total over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from physcon_ext.plot._figure import CONSERVED, as_array, axes_or_new


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def budget(
    t: Tensor,
    total: Tensor,
    standard_deviation: Tensor | None = None,
    *,
    width: float = 1.96,
    color: str = CONSERVED,
    label: str | None = None,
    marker: str = "",
    line: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Line of a total against time, with a band of ``width`` standard deviations.

    Args:
        t: Times, shape ``(n,)``.
        total: Totals, shape ``(n,)``.
        standard_deviation: Of the totals, shape ``(n,)``, or None for a line without a band.
        width: Half width of the band in standard deviations.
        color: Colour of line and band.
        label: Name in a legend.
        marker: Marker at each time, in the notation of matplotlib; none when empty.
        line: Join the times by a line.
        ax: Axes to draw on; a new pyplot figure when None.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.

    Example:
        >>> import torch
        >>> t = torch.linspace(0, 1, 20)
        >>> ax = budget(t, t**0.5, 0.1 * t)
    """
    ax = axes_or_new(ax)
    times, values = as_array(t), as_array(total)
    if standard_deviation is not None:
        half = width * as_array(standard_deviation)
        ax.fill_between(times, values - half, values + half, color=color, alpha=0.2, linewidth=0)
    ax.plot(
        times,
        values,
        color=color,
        label=label,
        linestyle="-" if line else "none",
        marker=marker,
        markersize=4.5,
    )
    return ax
