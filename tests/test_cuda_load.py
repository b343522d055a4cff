# SPDX-License-Identifier: Apache-2.0
"""The module with CUDA kernels loads under CPU and CUDA builds of torch, and every op traces.

No GPU is needed. ``PHYSCON_TEST_CUDA_TORCH`` names a Python interpreter with a CUDA build of torch,
or says ``install``: torch is then installed into ``build/cuda_torch``, some gigabytes.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import cuda_build
import test_ops_assign_faces as faces
import test_ops_boundary_spectral_conv as boundary
from op_suite import EVERY_OP, gradients
from physcon_ext import ops
from physcon_ext.boundary import end_response
from physcon_ext.ops import Method
from physcon_ext.ops._cuda import COMPOSITE_OPS
from test_fv_cavity import random_flow
from test_ops_balance_law import problem


TRACE = Path(__file__).with_name("cuda_trace.py")
VARIABLE = "PHYSCON_TEST_CUDA_TORCH"
INSTALLED = cuda_build.ROOT / "build/cuda_torch"
CUDA_TORCH = "torch==2.11.0"
# These two read numbers, which fake tensors do not have.
READS_BACK = ("balance_law", "cavity")


class Calls(TorchDispatchMode):
    """Describes every call of an op and what it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        if function.namespace == "physcon":
            name = function._schema.name.split("::")[1]
            found = [result] if isinstance(result, Tensor) else list(result)
            declared = function._schema.arguments
            self.seen.append(
                {
                    "op": name,
                    "arguments": [
                        describe(a, host=name == "balance_law" and d.name in HOST)
                        for a, d in zip(arguments, declared, strict=False)
                    ],
                    "outputs": [describe(t) for t in found],
                    "composite": name not in READS_BACK,
                }
            )
        return result


# Small tables of `balance_law` that stay on the host.
HOST = ("spacing", "edge_weights", "choices")


def describe(value: Any, host: bool = False) -> Any:
    if isinstance(value, Tensor):
        found = {"shape": list(value.shape), "dtype": str(value.dtype)[6:]}
        return found | ({"values": value.tolist()} if host else {})
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    return value


@functools.cache
def calls() -> str:
    """A call of every op, forward and backward, as JSON."""
    with Calls() as mode:
        for op in EVERY_OP:
            for shared in (False, True):
                gradients(op, op.free((3,), 9, 2, shared=shared))
        for grid in boundary.GRIDS[3], boundary.GRIDS[7], boundary.GRIDS[10]:
            x, weight, gains, values, stencils = boundary.problem(grid, faces=True)
            leaf = x.requires_grad_(), weight.requires_grad_()
            ops.boundary_spectral_conv(
                *leaf, gains, period=grid[2], values=values, stencils=stencils
            ).sum().backward()
        x, kernel = torch.randn(2, 2, 9), torch.randn(4, 2, 2, 2, requires_grad=True)
        ops.fno_block(x, kernel, torch.eye(2), torch.ones(2)).sum().backward()
        blocks = end_response(kernel, 0, sizes=[9], period=[9]).blocks
        (ops.two_step_gain(blocks).sum() + blocks.sum()).backward()
        u, values, stencils = faces.problem((6, 7))
        ops.assign_faces(u.requires_grad_(), values, stencils).sum().backward()
        ops.balance_law(**problem(Method(transport="linear"), ("periodic",) * 4, rows=4, sources=1))
        ops.cavity(**random_flow(2, 8))
    assert {call["op"] for call in mode.seen} == set(COMPOSITE_OPS), "call the others here, too"
    return json.dumps(mode.seen)


def trace(python: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(cuda_build.package())}
    done = subprocess.run(
        [python, str(TRACE)],
        input=calls(),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert report["kernels"] and report["architectures"] == "sm_80, sm_90, compute_90"
    assert Path(report["module"]).is_relative_to(cuda_build.BUILD)
    assert report["traced"] == sorted(COMPOSITE_OPS)
    return report


needs_compiler = pytest.mark.skipif(
    cuda_build.lacking() is not None, reason=str(cuda_build.lacking())
)


@needs_compiler
def test_under_the_torch_of_these_tests() -> None:
    report = trace(sys.executable)
    assert report["torch"] == str(torch.__version__)
    assert report["stream"] == (torch.version.cuda is not None)


@needs_compiler
def test_under_a_cuda_build_of_torch() -> None:
    report = trace(cuda_python())
    assert report["cuda"] is not None and report["stream"]


def cuda_python() -> str:
    """An interpreter with a CUDA build of torch, or a skip that says why there is none."""
    chosen = os.environ.get(VARIABLE, "")
    if torch.version.cuda is not None:
        pytest.skip("these tests run under a CUDA build of torch themselves")
    if not chosen:
        pytest.skip(f"set {VARIABLE} to a Python with a CUDA build of torch, or to install")
    if chosen != "install":
        return chosen
    python = INSTALLED / "bin/python"
    if not (INSTALLED / "done").exists():
        venv.create(INSTALLED, clear=True, with_pip=True)
        words = [str(python), "-m", "pip", "install", "-q", "--no-cache-dir", CUDA_TORCH, "numpy"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{CUDA_TORCH} could not be installed: {done.stderr[-300:]}")
        (INSTALLED / "done").touch()
    return str(python)
