# SPDX-License-Identifier: Apache-2.0
"""One sample of a data set: the field, and its total over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from physcon_ext.data.layout import DONE, STATUS, DataError
from physcon_ext.data.schema import open_file, verify
from physcon_ext.pde.equation import suggestion
from physcon_ext.plot._figure import (
    CONSERVED,
    MODEL,
    MUTED,
    STYLE,
    TRUTH,
    new_figure,
    require_matplotlib,
)
from physcon_ext.plot.budget import budget
from physcon_ext.plot.space_time import space_time


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def sample_figure(file: str | Path, sample: int = 0, *, field: str | None = None) -> Figure:
    """Draw the field of one sample, with its front, and its total against ``b(t)``.

    Args:
        file: A file of the format ``physcon``.
        sample: Index of a complete sample.
        field: Name of the field; the first conserved one when None.

    Returns:
        A figure that belongs to no window: call ``savefig``.

    Raises:
        ImportError: If matplotlib or h5py is missing.
        FileNotFoundError, DataError: If the file cannot be read, or the sample is not complete.
        ValueError: If there is no such sample or field.
    """
    require_matplotlib()
    import matplotlib

    with open_file(file) as opened, matplotlib.rc_context(STYLE):
        names = list(opened["/fields"])
        name = field or next(
            (n for n in names if opened[f"/fields/{n}"].attrs["conserved"]), names[0]
        )
        if name not in names:
            raise ValueError(
                f"{file}: expected a field among {', '.join(names)}, got {name!r}"
                f"{suggestion(name, dict.fromkeys(names))}"
            )
        if not 0 <= sample < len(opened[STATUS]):
            raise ValueError(f"{file}: expected a sample below {len(opened[STATUS])}, got {sample}")
        if int(opened[STATUS][sample]) != DONE:
            raise DataError(f"{file}: sample {sample} is not complete")
        values = opened[f"/fields/{name}"][sample]
        verify(opened, f"/fields/{name}", sample, values)
        times = opened["/time/t"][...]
        flat = values.ndim == 3
        figure, axes = new_figure(1, 3 if flat else 2, 11.5 if flat else 9.0, 3.6)
        if flat:
            _snapshots(opened, sample, values, times, axes[:2])
        else:
            _history(opened, name, sample, values, times, axes[0])
        _total(opened, name, sample, times, axes[-1])
        figure.suptitle(_title(opened, sample), x=0.01, ha="left", fontsize=11)
    return figure


def _title(opened: Any, sample: int) -> str:
    numbers = [
        f"{name} = {values[sample]:.4g}"
        for name, values in opened["/parameters"].items()
        if values.ndim == 1
    ]
    return f"{opened.attrs['equation']}: {opened.attrs['formula']}   ({', '.join(numbers)})"


def _history(opened: Any, name: str, sample: int, values: Any, times: Any, ax: Axes) -> None:
    edges = opened["/grid/x_faces"][...]
    if values.shape[1] != len(edges) - 1:  # values on the faces
        edges = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    path = f"/shocks/{name}/position"
    front = torch.from_numpy(opened[path][sample, :, 0]) if path in opened else None
    space_time(torch.from_numpy(edges), torch.from_numpy(times), torch.from_numpy(values),
               front=front, ax=ax)  # fmt: skip
    ax.set_title(name)


def _snapshots(opened: Any, sample: int, values: Any, times: Any, axes: list[Axes]) -> None:
    edges = [opened[f"/grid/{axis}_faces"][...] for axis in ("x", "y")]
    if values.shape[1] == len(edges[0]):  # values at the vertices
        edges = [np.concatenate([e[:1], (e[1:] + e[:-1]) / 2, e[-1:]]) for e in edges]
    shown = (len(times) // 2, len(times) - 1)
    pictured = values[list(shown)]
    limits: dict[str, Any] = {"vmin": 0.0, "vmax": float(pictured.max()) or 1.0}
    signed = float(pictured.min()) < 0
    if signed:
        # A wall layer of few cells would leave the rest of the picture without colour.
        reach = float(np.quantile(np.abs(pictured), 0.98)) or 1.0
        limits = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    for ax, index in zip(axes, shown, strict=True):
        picture = ax.pcolormesh(*edges, values[index].T, rasterized=True, **limits)
        ax.figure.colorbar(picture, ax=ax, pad=0.02, extend="both" if signed else "neither")
        ax.set_aspect("equal")
        if "/vectors/velocity" in opened:
            _streamlines(opened, opened["/vectors/velocity"][sample, index], ax)
        ax.set_title(f"t = {times[index]:.3g}")
        ax.set_xlabel("x")
        ax.set_ylabel("y")


def _streamlines(opened: Any, velocity: Any, ax: Axes) -> None:
    faces = [opened[f"/grid/{axis}_faces"][...] for axis in ("x", "y")]
    x, y = ((f[1:] + f[:-1]) / 2 for f in faces)
    along, across = (velocity[..., part].T for part in (0, 1))
    if np.hypot(along, across).max() > 0:
        ax.streamplot(x, y, along, across, color=MUTED, linewidth=0.5, arrowsize=0.5)


def _total(opened: Any, name: str, sample: int, times: Any, ax: Axes) -> None:
    ax.set_xlabel("t")
    path = f"/conserved/{name}"
    if path not in opened:
        ax.set_title("no conserved total is stored")
        return
    t = torch.from_numpy(times)
    total, target = (torch.from_numpy(opened[f"{path}/{k}"][sample]) for k in ("total", "target"))
    budget(t, target, color=TRUTH, label="b(t)", ax=ax)
    thin = slice(None, None, max(1, len(times) // 20))
    budget(t[thin], total[thin], color=CONSERVED, marker="o", line=False, label="total", ax=ax)
    inflow = torch.from_numpy(opened[f"{path}/inflow"][sample])
    if float(inflow.abs().max()) > 0:
        budget(t, inflow, color=MODEL, label="net inflow", ax=ax)
        ax.lines[-1].set_linestyle("--")  # it lies on b(t) where the domain starts empty
    span = float(torch.stack([total, target, inflow]).abs().max())
    if float(target.max() - target.min()) <= 1e-9 * max(span, 1.0):
        centre = float(target.mean())
        ax.set_ylim(centre - max(span, 1.0), centre + max(span, 1.0))
    worst = float((total - target).abs().max())
    ax.set_title(f"total of {name}, off by {worst:.0e}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, columnspacing=1.0)
