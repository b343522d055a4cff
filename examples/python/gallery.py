# SPDX-License-Identifier: Apache-2.0
"""Draw one sample of every equation: the field with its front, and its total against b(t).

python examples/python/gallery.py [FOLDER]    (needs the extras data and plot)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from physcon_ext import data, pde
from physcon_ext.plot import sample_figure


# Parameters that show what is special about the equation; the others are drawn.
SHOWN: dict[str, dict[str, float]] = {
    "stefan": {"u_star": 0.6},
    "porous_medium": {"m": 3.0},
    "advection": {"a": 1.2},
    "burgers": {"a": 2.0},
    "stokes": {"nu": 0.02},
    "viscous_burgers": {"u_left": 1.0, "u_right": -0.2, "nu": 0.01},
    "cavity": {"lid": 1.0, "reynolds": 400.0},
    "diffusion_2d": {"k": 1.0},
    "porous_medium_2d": {"m": 2.0, "volume": 0.3},
    "advection_2d": {"a": 0.5, "b": 0.2},
    "burgers_2d": {"mean": 0.25, "jump": 1.0},
}


# Output times, where the usual ones are not what is worth a look: spin-up and steady vortex.
TIMES = {"cavity": [0.0, 1.5, 3.0, 10.0, 20.0]}


def draw(folder: Path, **settings: Any) -> list[Path]:
    """Write one picture for every equation and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in pde.EQUATIONS:
            file = Path(scratch) / f"{name}.h5"
            chosen = {"times": TIMES.get(name), **settings}
            data.generate(name, 1, file, params=SHOWN.get(name), **chosen)
            pictures.append(folder / f"{name}.png")
            sample_figure(file).savefig(pictures[-1], dpi=90)
    return pictures


if __name__ == "__main__":
    for picture in draw(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures")):
        print(picture)
