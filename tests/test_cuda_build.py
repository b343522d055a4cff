# SPDX-License-Identifier: Apache-2.0
"""Every CUDA kernel compiles for every architecture, inside its budget, to the intended code."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

import cuda_build


needs_compiler = pytest.mark.skipif(
    cuda_build.lacking() is not None, reason=str(cuda_build.lacking())
)
# Another version of the compiler may allocate a few registers more.
SLACK = 16
# Sums in double precision, by kernel name: the arithmetic must be there, and fused.
DOUBLE_PRECISION = (
    r"condition_(partial|marginal|disjoint|banded)_kernel|adjoint_(partial_)?kernel|"
    r"banded_product_kernel|cavity_kernel|end_response|two_step_gain|"
    r"sm_90 \w*spectral_cluster_kernel"
)
# Kernels that copy asynchronously or use matrix instructions, by name. No other may: a matrix
# instruction that nobody asked for would round operands.
# Kernels of a plane in single precision do so unless face rules compute what is read.
ASYNCHRONOUS = r"spectral_stream_kernel|spectral_plane_analysis_kernelIfLb\dELNS0_10PlaneInputE[02]"
# Transforms in an arithmetic other than the first of its kind: split numbers and TF32.
MATRIX: tuple[str, ...] = ("ArithmeticE1", "ArithmeticE2")
# Kernels whose blocks wait for each other, where the architecture has clusters.
CLUSTERS = (
    "boundary_line_kernel",
    "boundary_line_adjoint_kernel",
    "boundary_orbit_kernel",
    "boundary_orbit_adjoint_kernel",
    "spectral_cluster_kernel",
)


def test_the_report_of_the_compiler_is_read() -> None:
    text = """ptxas info    : Compiling entry function '_Z1kv' for 'sm_90'
ptxas info    : Function properties for _Z1kv
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers, 16 bytes smem"""
    expected = {"registers": 80, "stack": 8, "spills": 4, "shared": 16}
    assert cuda_build.parse(text) == {"sm_90 _Z1kv": expected}


@needs_compiler
def test_kernels_compile_without_a_warning_inside_their_budget() -> None:
    stored, found = json.loads(cuda_build.STORED.read_text()), cuda_build.resources()
    assert set(found) == set(stored), "store the new set: python tests/cuda_build.py"
    for name, values in found.items():
        assert values["stack"] == values["spills"] == 0, name
        assert 0 < values["registers"] <= stored[name]["registers"] + SLACK, name
        assert values["shared"] <= stored[name]["shared"], name


def test_every_kernel_is_built_for_every_architecture() -> None:
    kernels: dict[str, set[str]] = {}
    for name in json.loads(cuda_build.STORED.read_text()):
        architecture, kernel = name.split()
        kernels.setdefault(kernel, set()).add(architecture)
    assert kernels
    assert all(found == set(cuda_build.ARCHITECTURES) for found in kernels.values())


@needs_compiler
@pytest.mark.skipif(
    cuda_build.disassembler() is None,
    reason="no disassembler: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm",
)
def test_the_machine_code_is_the_intended_one() -> None:
    found = cuda_build.instructions()
    assert set(found) == set(json.loads(cuda_build.STORED.read_text()))
    for name, code in found.items():
        families = Counter[str]()
        for instruction, count in code.items():
            families[instruction.split(".")[0]] += count
        assert families["EXIT"] > 0, f"{name}: no code was read"
        # Local memory: arrays that did not fit into registers.
        assert families["LDL"] == families["STL"] == 0, name
        # Atomic sums of floating-point numbers come in any order.
        atomics = [i for i in code if i.split(".")[0] in ("ATOM", "ATOMG", "ATOMS", "RED", "REDG")]
        assert not [i for i in atomics if re.search(r"\.F(16|32|64)|\.BF16", i)], (name, atomics)
        if re.search(DOUBLE_PRECISION, name):
            assert families["DFMA"] > 0, name
        copies = sum(families[i] for i in ("LDGSTS", "UBLKCP", "UTMALDG"))
        assert (copies > 0) == (re.search(ASYNCHRONOUS, name) is not None), name
        products = sum(families[i] for i in ("HMMA", "DMMA", "IMMA", "HGMMA", "QGMMA"))
        assert (products > 0) == any(k in name for k in MATRIX), name
        assert products == sum(n for i, n in code.items() if i.startswith("HMMA") and "TF32" in i)
        waits = families["UCGABAR_ARV"]
        clustered = name.startswith("sm_90") and any(k in name for k in CLUSTERS)
        assert (waits > 0) == clustered, name
