# SPDX-License-Identifier: Apache-2.0
"""The main job on real input: predictions before and after conservation, as a table and figures.

The table of :func:`run_demo` says that conservation makes the signed conservation error vanish to
rounding and that the other scores usually get better. "Usually" was counted, over the seeds 0 to 39
with the settings of `physcon_ext.demo.experiment.Setup`:

COUNTS

Nothing is tuned on the truth and no seed is picked: the default is 0. Conservation moves the mean by
as little as the model's own covariance allows, so a model that is sure of itself where it is wrong
can get worse in MSE; that is what the missing share of seeds shows.

Importing this module imports neither matplotlib nor gpytorch nor rich.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from rich.table import Table

Progress = Callable[[str], None]

__all__ = ["render_table", "run_demo", "run_predictions"]


def run_demo(out: Path, seed: int = 0, progress: Progress | None = None) -> dict[str, Any]:
    """Conserve a Gaussian-process black box on three problems; write three figures to ``out``.

    Args:
        out: Folder for the PNG figures, created if needed.
        seed: Seed of observations, ensemble and samples; the same seed gives the same numbers.
        progress: Called with one line of text before each step.

    Returns:
        A JSON-serialisable dictionary: ``title``, ``columns``, ``rows``, ``notes``, ``figures``
        (name to path), ``fronts``, ``setup``, ``seed``, ``seconds`` and ``versions``.

    Raises:
        ImportError: If gpytorch (extra ``gp``) or matplotlib (extra ``plot``) is missing.
        ValueError: If ``seed`` is negative.

    Notes:
        Determinism: runs on one thread, restores the thread count, leaves global seeds alone.
        Cost: about 15 s on one core.
    """
    from physcon_ext.demo.experiment import run

    return run(Path(out), seed, progress or _silent)


def run_predictions(
    path: Path, out: Path, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Conserve the stored predictions of any model; write three figures to ``out``.

    Args:
        path: An ``.npz`` file; see `physcon_ext.demo.predictions.load` for its layout.
        out: Folder for the PNG figures, created if needed.
        seed: Seed of the samples in the histogram of front positions.
        progress: Called with one line of text before each step.

    Returns:
        A JSON-serialisable dictionary of the same layout as that of :func:`run_demo`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If matplotlib (extra ``plot``) is missing.
        ValueError: If the file is not of the layout; the message names file and key.

    Notes:
        Determinism: runs on one thread, restores the thread count, leaves global seeds alone.
    """
    from physcon_ext.demo.predictions import run

    return run(Path(path), Path(out), seed, progress or _silent)


def render_table(result: dict[str, Any]) -> Table:
    """Table of a result of :func:`run_demo` or :func:`run_predictions` for the terminal.

    Args:
        result: Such a result; one that went through JSON will do.

    Returns:
        A ``rich`` table; better scores than the row they are compared with are green.

    Raises:
        ImportError: If rich (extra ``cli``) is missing.
    """
    from physcon_ext.demo.table import render

    return render(result)


def _silent(text: str) -> None:
    """Take a line of progress and show nothing."""
