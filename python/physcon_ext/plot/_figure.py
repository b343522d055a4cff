# SPDX-License-Identifier: Apache-2.0
"""What every figure shares: the lazy import, colours that colour-blind readers can tell apart."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL = "#D55E00"  # vermilion: the prediction as it came
CONSERVED = "#0072B2"  # blue: after the update
TRUTH = "#000000"
MUTED = "#6B6B6B"

STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.5,
    "axes.labelcolor": "#222222",
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}


def require_matplotlib() -> None:
    """Raise one sentence with the cure when matplotlib is missing.

    Raises:
        ImportError: If matplotlib cannot be imported.
    """
    if find_spec("matplotlib") is None:
        raise ImportError(
            'physcon_ext.plot: matplotlib is missing; pip install "physcon-ext[plot]"'
        )


def new_figure(
    rows: int,
    columns: int,
    width: float,
    height: float,
    *,
    heights: tuple[float, ...] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Blank figure of ``rows x columns`` axes, in inches; independent of any display.

    ``heights`` are the relative heights of the rows.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
    return figure, list(axes.flat)


def axes_or_new(ax: Axes | None) -> Axes:
    """Return ``ax``, or the axes of a new pyplot figure when it is None."""
    require_matplotlib()
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def as_array(values: Any) -> Any:
    """Return a tensor or array-like as a float64 NumPy array on the host."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def pale(color: str) -> tuple[float, float, float]:
    """The opaque colour that ``color`` makes at a fifth of its strength on white."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return 0.8 + 0.2 * red, 0.8 + 0.2 * green, 0.8 + 0.2 * blue
