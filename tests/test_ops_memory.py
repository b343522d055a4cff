# SPDX-License-Identifier: Apache-2.0
"""Peak memory: a few vectors beyond the arguments and the results, never anything n x n."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


PROGRAM = """
import sys, torch
from physcon_ext import ops

torch.set_num_threads(1)
n, r = 1_000_000, 8
form, direction = sys.argv[1:]

def peak():
    # In MiB. getrusage would start from the size of the process that started this one.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

g = torch.Generator().manual_seed(0)
def new(*shape):
    return torch.rand(*shape, generator=g, dtype=torch.float64).add_(0.1)
def arguments(n):
    edges = torch.arange(r + 1) * n // r
    none = torch.empty(0, dtype=torch.int64)
    return {
        "diagonal": lambda: (new(n), new(n), new(r, n), new(r), new(r)),
        "cross": lambda: (new(n), new(n), new(r, n), new(r, n), new(r), new(r)),
        "disjoint": lambda: (new(n), new(n), new(n), none, edges, new(r), new(r)),
        "banded": lambda: (new(n), new(n), new(n - 2, 3), new(n - 2), new(n - 2)),
    }[form]()
def run(values):
    if direction == "backward":
        values = [v.requires_grad_() if v.is_floating_point() else v for v in values]
    post = getattr(ops, "condition_" + form)(*values)
    if direction == "backward":
        (post.mean.sum() + post.variance.sum()).backward()
run(arguments(100))
values = arguments(n)
before = peak()
run(values)
print(peak() - before)
"""

# MiB at n = 1e6 and r = 8, where a vector of float64 has 7.6 MiB and n x n has 7.6e6 MiB.
# Forward: results (mean, variance; disjoint rows: the factor; three-point rows: 3 bands and
# 1 multiplier) and at most 7 vectors of scratch for the banded solver. Backward: results, upstream
# gradients (2), gradients of all arguments (r vectors for rows), and the scratch of that solver.
VECTOR = 7.63
LIMITS = {
    ("diagonal", "forward"): 5,
    ("cross", "forward"): 5,
    ("disjoint", "forward"): 6,
    ("banded", "forward"): 16,
    ("diagonal", "backward"): 5 + 8 + 8,
    ("cross", "backward"): 5 + 16 + 8,
    ("disjoint", "backward"): 6 + 8,
    ("banded", "backward"): 16 + 40,
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize(("form", "direction"), list(LIMITS), ids=["-".join(k) for k in LIMITS])
def test_peak_memory_is_a_few_vectors(form: str, direction: str) -> None:
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, direction],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parent,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    used = float(done.stdout) / VECTOR
    assert 0 < used <= LIMITS[form, direction], f"{used:.1f} vectors"
