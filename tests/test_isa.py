# SPDX-License-Identifier: Apache-2.0
"""Every instruction set of this processor gives the same answers; a wrong name is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import physcon_ext
from op_suite import (
    EVERY_OP,
    TOLERANCE,
    cast,
    deviation,
    exact_residual,
    fields,
    gradients,
    normal,
    seeded,
)
from physcon_ext import ops


AVAILABLE = list(physcon_ext.build_info()["isa_available"])
# batch, points, rows: one point, odd tails of every vector width, several blocks and chunks
SHAPES = [((), 1, 1), ((2,), 37, 3), ((3,), 261, 9), ((1,), 4099, 17)]


def results(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All outputs and gradients of all ops, and how far the rows are from exact, in eps."""
    found = {}
    for op in EVERY_OP:
        for batch, n, r in SHAPES:
            if "banded" in op.name:
                n = max(n, 3)
            if op.name == "condition_dense":
                n = min(n, 300)
            free = cast(op.free(batch, n, r), dtype)
            key = f"{op.name} {batch} {n} {r}"
            for name, value in fields(op.call(**op.arguments(free))).items():
                found[f"{key} {name}"] = value
            for name, value in gradients(op, free).items():
                found[f"{key} gradient of {name}"] = value
    worst = 0.0
    for n, r in [(1, 1), (37, 3), (5001, 1), (5001, 9)]:
        g = seeded("residual", n, r)
        mean, rows, target = (
            normal(g, n).to(dtype),
            normal(g, r, n).to(dtype),
            normal(g, r).to(dtype),
        )
        variance = (10 ** (6 * torch.tanh(normal(g, n)))).to(dtype)
        post = ops.condition_diagonal(mean, variance, rows, target, 0.0)
        for residual, size in zip(*exact_residual(rows, post.mean, target), strict=True):
            worst = max(worst, residual / (torch.finfo(dtype).eps * size))
    found["residual"] = torch.tensor(worst)
    return found


def run(isa: str, out: Path, dtype: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys, torch, test_isa, physcon_ext\n"
        "assert physcon_ext.build_info()['isa_active'] == sys.argv[1]\n"
        "torch.save(test_isa.results(getattr(torch, sys.argv[3])), sys.argv[2])\n"
    )
    environment = {**os.environ, "PHYSCON_ISA": isa}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, sys.path)]
    )
    return subprocess.run(
        [sys.executable, "-c", code, isa, str(out), dtype],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_portable_kernels_are_always_there() -> None:
    assert "portable" in AVAILABLE
    assert physcon_ext.build_info()["isa_active"] in AVAILABLE


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", AVAILABLE)
def test_each_instruction_set_gives_the_same_numbers(isa: str, dtype: str, tmp_path: Path) -> None:
    done = run(isa, tmp_path / "found.pt", dtype)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    assert found.pop("residual") <= 8  # eps of the dtype, relative to |G| |m'| + |b|
    expected = results(getattr(torch, dtype))
    expected.pop("residual")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not value.is_floating_point():
            assert torch.equal(found[name], value), name
            continue
        # A variance or gradient that cancels may be rounding: measure such outputs against one.
        limit = TOLERANCE[getattr(torch, dtype)] * (10 if "gradient" in name else 1)
        assert deviation(found[name], value, torch.ones(1)) <= limit, name


def test_an_unknown_instruction_set_is_refused_with_the_choices(tmp_path: Path) -> None:
    done = run("sse9", tmp_path / "found.pt", "float64")
    assert done.returncode != 0
    message = (
        "physcon: expected the environment variable PHYSCON_ISA to be one of "
        + ", ".join(AVAILABLE)
        + " (what this build and this processor can run), got sse9"
    )
    assert message in done.stderr
