# SPDX-License-Identifier: Apache-2.0
"""Peak memory of the constraint update beyond its inputs, each size in its own process.

``python -m bench.memory N M`` prints one JSON line. The peak is the resident high-water mark, which
is reset before the measured call, so buffers that torch does not account for are seen as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from bench.entry import Inputs, backward_of
from bench.machine import ROOT


_SIZES = (250_000, 500_000, 1_000_000, 2_000_000)
_ROWS = 4


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key}")


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak_bytes(n: int, m: int) -> dict[str, int]:
    """Return the peak beyond the inputs of one item of ``n`` cells, forward and with backward."""
    from bench.entries.condition import _diagonal

    torch.set_num_threads(1)

    def draw(size: int) -> Inputs:
        return Inputs(
            torch.randn(1, size),
            torch.rand(1, size) + 0.1,
            torch.randn(m, size),
            torch.randn(1, m),
            torch.zeros(1, m),
        ).leaves(("mean", "prior"))

    def both(inputs: Inputs) -> None:
        size = inputs.mean.shape[-1]
        cotangents = (torch.ones(1, 1).expand(1, size), torch.ones(1, 1).expand(1, size))
        backward_of(_diagonal, inputs, ("mean", "prior"), cotangents)

    both(draw(1000))
    inputs = draw(n)
    start = _reset_peak()
    with torch.no_grad():
        _diagonal(*inputs)
    forward = _status("VmHWM") - start
    start = _reset_peak()
    both(inputs)
    return {"n": n, "m": m, "forward": forward, "forward+backward": _status("VmHWM") - start}


def measure() -> list[dict[str, int]]:
    """Return :func:`peak_bytes` for four sizes, each in a process of its own."""
    found = []
    for n in _SIZES:
        done = subprocess.run(
            [sys.executable, "-m", "bench.memory", str(n), str(_ROWS)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return found


if __name__ == "__main__":
    print(json.dumps(peak_bytes(int(sys.argv[1]), int(sys.argv[2]))))
