# SPDX-License-Identifier: Apache-2.0
"""A one-dimensional field over space and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from physcon_ext.plot._figure import MODEL, as_array, axes_or_new


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def space_time(
    edges: Tensor,
    t: Tensor,
    values: Tensor,
    *,
    front: Tensor | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Picture of cell averages, position to the right and time upwards, with the front as a line.

    Args:
        edges: Faces of the cells, shape ``(n + 1,)``.
        t: Times, shape ``(k,)``, increasing, at least 2.
        values: Cell averages, shape ``(k, n)``.
        front: Positions of the front, shape ``(k,)``, NaN where there is none; or None.
        ax: Axes to draw on; a new pyplot figure when None.

    Returns:
        The axes; the colour bar is beside them.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the shapes do not fit.

    Example:
        >>> import torch
        >>> edges, t = torch.linspace(0, 1, 11), torch.linspace(0, 1, 5)
        >>> ax = space_time(edges, t, torch.rand(5, 10))
    """
    x, times, field = as_array(edges), as_array(t), as_array(values)
    if times.size < 2 or field.shape != (times.size, x.size - 1):
        raise ValueError(
            f"plot.space_time: expected values of shape ({times.size}, {x.size - 1}) and at least "
            f"2 times, got {field.shape}"
        )
    ax = axes_or_new(ax)
    # A row of the picture reaches half way to the neighbouring times.
    middle = (times[1:] + times[:-1]) / 2
    rows = np.concatenate([times[:1], middle, times[-1:]])
    low, high = float(field.min()), float(field.max())
    signed = low < -0.05 * max(high, 0.0) and high > 0.05 * -low
    reach = max(-low, high)
    picture = ax.pcolormesh(
        x,
        rows,
        field,
        cmap="RdBu_r" if signed else "viridis",
        vmin=-reach if signed else None,
        vmax=reach if signed else None,
        rasterized=True,
    )
    ax.figure.colorbar(picture, ax=ax, pad=0.02)
    if front is not None and np.isfinite(as_array(front)).any():
        ax.plot(as_array(front), times, color=MODEL, linewidth=1.8)
        ax.set_title("front", loc="right", color=MODEL)
    ax.set_xlim(x[0], x[-1])
    ax.set_xlabel("x")
    ax.set_ylabel("t")
    return ax
