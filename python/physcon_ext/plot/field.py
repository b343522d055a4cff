# SPDX-License-Identifier: Apache-2.0
"""A one-dimensional field with its uncertainty band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from physcon_ext.plot._figure import CONSERVED, as_array, axes_or_new, pale


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def field(
    x: Tensor,
    mean: Tensor,
    variance: Tensor | None = None,
    *,
    width: float = 1.96,
    color: str = CONSERVED,
    label: str | None = None,
    dashed: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Line of the mean with a band of ``width`` standard deviations on either side.

    Args:
        x: Positions, shape ``(n,)``, or ``n + 1`` cell edges, which draw cell averages as steps.
        mean: Values, shape ``(n,)``.
        variance: Marginal variance, shape ``(n,)``, or None for a line without a band.
        width: Half width of the band in standard deviations; 1.96 holds 95 % of a Gaussian.
        color: Colour of line and band.
        label: Name in a legend.
        dashed: Draw a dashed line.
        ax: Axes to draw on; a new pyplot figure when None.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If ``x`` has neither n nor n + 1 entries.

    Example:
        >>> import torch
        >>> x = torch.linspace(0, 1, 50)
        >>> ax = field(x, torch.sin(6 * x), torch.full((50,), 0.01))
    """
    position, middle = as_array(x), as_array(mean)
    if position.size not in (middle.size, middle.size + 1):
        raise ValueError(
            f"plot.field: expected x to have {middle.size} points or {middle.size + 1} edges, "
            f"got {position.size}"
        )
    ax = axes_or_new(ax)
    line: dict[str, Any] = {"color": color, "label": label, "linestyle": "--" if dashed else "-"}
    cells = position.size == middle.size + 1
    if variance is not None:
        half = width * as_array(variance) ** 0.5
        # Pale and opaque, so that a band on top of another one does not mix with it.
        low, high = middle - half, middle + half
        if cells:
            low, high = np.append(low, low[-1]), np.append(high, high[-1])
        step: Any = "post" if cells else None
        ax.fill_between(position, low, high, step=step, facecolor=pale(color), linewidth=0.0)
        outline: dict[str, Any] = {"facecolor": "none", "edgecolor": color, "linewidth": 0.7}
        ax.fill_between(position, low, high, step=step, zorder=2.2, **outline)
    if cells:
        ax.stairs(middle, position, baseline=None, linewidth=1.6, zorder=2.5, **line)
    else:
        ax.plot(position, middle, **line)
    return ax
