# SPDX-License-Identifier: Apache-2.0
"""Sizes beyond one axis of a grid, devices that the build has no code for, and who calls what."""

from __future__ import annotations

import functools
import re
import subprocess
from typing import Any

import pytest
import torch

import simt_driver as simt
import simt_spectral as spectral
import test_cuda_fv as fv
import test_cuda_gains as gains
import test_cuda_kernels as conditioning
import test_cuda_spectral as convolutions
from op_suite import OPS
from physcon_ext.ops import Method, _cuda


MANY = 3 << 30  # items, more than the blocks that an axis of a grid takes
MOST = (1 << 31) - 1
TOO_MANY = "expected a batch of at most 2^31 - 1 blocks of threads; split the batch"


Launches = dict[str, tuple[list[int], str]]


@functools.cache
def dry() -> Launches:
    """The blocks of each launch that the entry points make for these sizes, and the error."""
    program = simt.build("fibers", driver="limits_driver.cpp")
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    found: Launches = {}
    for line in done.stdout.splitlines():
        call, _, error = line.partition(" ! ")
        name, *blocks = call.split()
        earlier, reason = found.get(name, ([], ""))
        found[name] = [*earlier, *map(int, blocks)], reason + error
    return found


def test_launches_cover_every_item_beyond_2_to_the_31() -> None:
    found = dry()
    fourth, eighth = MANY // 4, MANY // 8  # a warp per item, so many in a block
    expected = {
        "diagonal": [fourth, MANY],
        "cross": [fourth],
        "dense": [MANY, fourth, MANY],
        "diagonal_block": [MANY, 25 * MANY],
        "dense_wide": [3 * (1 << 22) // 128 * 3, 264, 264, 3 * (1 << 16) ** 2],
        "diagonal_long": [256, 256],
        "adjoint": [eighth],
        "adjoint_block": [MANY],
        "adjoint_shared": [256, 6],
        "adjoint_long": [256, 256],
        "disjoint": [1 << 16, eighth],
        "disjoint_rows": [1 << 16, 4 * MANY],
        "disjoint_backward": [1 << 16, 4 * MANY],
        "banded": [8 * 132],
        "banded_backward": [8 * 132],
        "banded_product": [8 * 132],
        "balance_law": [MANY],
        "cavity": [2 * 132],
        "faces_backward": [1 << 16, 2 * MANY],
        "layer": [MANY],
        "gains": [25 << 27, 25 << 27, 8 * 132, 64, 1],
    }
    for name, wanted in expected.items():
        blocks, error = found[name]
        assert error == "", (name, error)
        assert len(blocks) == len(wanted), (name, blocks)
        for got, count in zip(blocks, wanted, strict=True):
            rows = -(-count // MOST)  # the last blocks of a second axis may be too many
            assert count <= got < count + rows, (name, blocks)
    for name, (blocks, error) in found.items():
        if name.startswith("empty"):
            continue
        assert error == (TOO_MANY if "beyond" in name or name == "corrected" else ""), name
        assert all(b > 0 for b in blocks), (name, blocks)
    # Wavenumbers of a plane, all of them: 2^30 of 2 x 2 matrices are mixed, each by a block.
    assert max(found["conv_modes"][0]) == 1 << 30
    assert max(found["conv_modes_backward"][0]) >= 2 << 30


def test_nothing_is_launched_for_no_items_but_sums_of_none() -> None:
    found = {name: each for name, each in dry().items() if name.startswith("empty")}
    assert found["empty"] == ([], "") and found["empty_layer"] == ([], "")
    assert found["empty_conv"] == ([], "") and found["empty_gains"] == ([], "")
    for blocks, error in found.values():
        assert error == "" and len(blocks) <= 2


def test_every_launch_fits_the_least_shared_memory_that_its_code_meets() -> None:
    """Devices of compute capability 8.6 and 8.9 have 99 KB for a block and run code of sm_80."""
    blocks, error = dry()["small_shared"]
    assert error == "" and len(blocks) > 70


@pytest.fixture(scope="module")
def folded() -> dict[str, str]:
    """Grids that go on along their second axis after five blocks."""
    text = (simt.KERNELS / "grid.cu").read_text()
    assert text.count("0x7fffffff") == 1
    return {"grid.cu": text.replace("0x7fffffff", "5")}


def test_conditioning_finds_its_work_along_two_axes(folded: dict[str, str]) -> None:
    program = simt.build("fibers", folded)
    for op in (op for op in OPS if op in conditioning.KERNEL_OPS):
        calls = []
        for batch, n, r in (((11,), 9, 2), ((7,), 37, 9), ((2, 3), 70, 5)):
            calls += conditioning.problems(op, torch.float64, batch, n, r)
        plan = simt.Plan(threads=64, splits=3)
        calls += conditioning.problems(op, torch.float32, (4,), 43, 7, plan=plan)
        conditioning.check(program, calls)


def test_finite_volume_items_find_their_work_along_two_axes(folded: dict[str, str]) -> None:
    call = fv.call(Method(transport="burgers"), ("periodic",) * 4, rows=1, n=9)
    batch = 11
    repeated = [a.expand(batch, *a.shape[1:]) if shared(a) else a for a in call.arguments]
    expected = tuple(t[:1].expand(batch, *t.shape[1:]) for t in call.expected)
    repeated = [t[:1].expand(batch, *t.shape[1:]) if by_item(t, call) else t for t in repeated]
    program = simt.build("fibers", folded, driver="fv_driver.cpp")
    fv.check(program, [fv.Call(tuple(repeated), expected)])


def shared(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] == 1


def by_item(value: Any, call: fv.Call) -> bool:
    items = call.arguments[0].shape[0]
    return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] == items


def test_answers_at_ends_find_their_work_along_two_axes(folded: dict[str, str]) -> None:
    program = gains.compile_for("fibers", folded)
    gains.check_responses(program, gains.LONG, torch.float64)


def test_layers_find_their_work_along_two_axes(folded: dict[str, str]) -> None:
    program = spectral.build("fibers", folded)
    dtype = torch.float32
    calls = convolutions.convolution((20,), (9,), None, dtype, multiprocessors=1)
    g = conditioning.seeded("limits")
    u = conditioning.normal(g, 6, 2, 9).to(dtype)
    values, stencils = convolutions.rules(g, (6,), 2, (9,), 1)
    data = [v.to(dtype) for v in values]
    back = spectral.Call("assign_faces_backward", (u, *data, *stencils, 1, True))
    convolutions.check(program, [*calls, back])
    layers = convolutions.layer_calls(0, (7,), (9,), (2, 3), 1, 2, dtype)
    convolutions.check_layers(program, layers[:1], dtype)


# ---- what is called ------------------------------------------------------------------------------


def test_every_entry_point_of_the_kernels_is_called_by_a_binding() -> None:
    """An op that forgot its kernel would read device memory on the host."""
    bindings = "".join(p.read_text() for p in (simt.ROOT / "csrc/torch").glob("*.cpp"))
    headers = ["kernels.hpp", "spectral_entry.hpp", "pointwise_entry.hpp"]
    declared = set()
    for header in headers:
        text = (simt.KERNELS / header).read_text()
        declared |= set(re.findall(r"const char\* (\w+)\(\s*const \w+(?:<T>)?& args", text))
    assert len(declared) >= 15
    for name in declared:
        assert re.search(rf"cuda::{name}(<\w+>)?\b", bindings), name


# ---- devices -------------------------------------------------------------------------------------

HELD = "sm_80, sm_90, compute_90"


@pytest.mark.parametrize(
    ("capability", "held", "found"),
    [
        ((8, 0), HELD, "sm_80"),
        ((8, 9), HELD, "sm_80"),
        ((9, 0), HELD, "sm_90"),
        ((10, 0), HELD, "compute_90"),
        ((12, 1), HELD, "compute_90"),
        ((7, 5), HELD, None),
        ((8, 0), "sm_86", None),
        ((8, 9), "sm_86", "sm_86"),
        ((10, 0), "sm_80, sm_90", None),
        ((9, 0), "sm_90a", "sm_90a"),
        ((9, 1), "sm_90a, compute_90a", None),
        ((9, 0), "80", "80"),
        ((8, 0), "", None),
    ],
)
def test_code_runs_on_its_own_and_later_devices(
    capability: tuple[int, int], held: str, found: str | None
) -> None:
    assert _cuda.code_for(capability, held) == found


class _Device:
    """Stands for a device and a build."""

    def __init__(
        self, patch: pytest.MonkeyPatch, capability: tuple[int, int], mode: str, verified: str = ""
    ) -> None:
        rows = [
            {"op": "x", "architecture": a, "verified": verified or None, "largest_rank": 0}
            for a in ("sm_80", "sm_90")
        ]
        held = {"cuda": True, "cuda_architectures": HELD}
        patch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        patch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
        patch.setattr(_cuda._C, "build_info", lambda: held)
        patch.setattr(_cuda, "table", lambda: rows)
        patch.setattr(_cuda, "mode", lambda: mode)

    def record(self) -> dict[str, Any] | None:
        return _cuda._record.__wrapped__("x", 3)


def test_a_device_without_code_is_named_where_kernels_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = _Device(monkeypatch, (7, 5), "all")
    with pytest.raises(RuntimeError) as caught:
        device.record()
    for part in ("Old Card (cuda:3)", "7.5", HELD, "unset PHYSCON_CUDA_KERNELS", "=75-real"):
        assert part in str(caught.value)


@pytest.mark.parametrize("mode", ["verified", "none"])
def test_a_device_without_code_runs_the_composites_otherwise(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    assert _Device(monkeypatch, (7, 5), mode, verified="abc").record() is None


def test_a_later_device_runs_the_latest_kernels_only_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = _Device(monkeypatch, (10, 0), "all", verified="abc").record()
    assert found is not None and found["architecture"] == "sm_90"
    assert _Device(monkeypatch, (10, 0), "verified", verified="abc").record() is None
    found = _Device(monkeypatch, (8, 9), "verified", verified="abc").record()
    assert found is not None and found["architecture"] == "sm_80"


@pytest.mark.parametrize("op", _cuda.COMPOSITE_OPS)
def test_a_kernel_never_sees_two_devices(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls the op itself: its wrapper checks too."""
    _Device(monkeypatch, (9, 0), "all")
    schema = getattr(torch.ops.physcon, op).default._schema
    names = [a.name for a in schema.arguments if "Tensor" in str(a.type)]
    host = sorted(_cuda.ON_HOST & set(names)) if op == "balance_law" else []
    others = [name for name in names if name not in host]
    if len(others) > 1:
        arguments = [
            torch.ones(3, 3, device="cpu" if a.name in (others[1], *host) else "meta")
            if a.name in names
            else 0
            for a in schema.arguments
        ]
        with pytest.raises(ValueError) as caught:
            _cuda._by_record(op)(*arguments)
        for part in (f"physcon::{op}", others[1], others[0], "meta", "got cpu"):
            assert part in str(caught.value)


def test_rows_are_checked_once_until_their_tensors_change(monkeypatch: pytest.MonkeyPatch) -> None:
    from physcon_ext.ops.composite import disjoint

    checks: list[int] = []

    class Counted(disjoint.Rows):
        def __init__(self, *arguments: Any) -> None:
            checks.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(disjoint, "Rows", Counted)
    weights, order, offsets = torch.ones(4), torch.arange(4), torch.tensor([0, 1, 4])

    def count(points: int, *tensors: torch.Tensor) -> int:
        checks.clear()
        _cuda._check_rows("op", points, weights, *tensors)
        return len(checks)

    assert [count(9, order, offsets) for _ in range(3)] == [1, 0, 0]
    assert count(8, order, offsets) == 1  # fewer points
    assert count(9, order.clone(), offsets) == 1  # other tensors
    order[3] = 7
    assert [count(9, order, offsets) for _ in range(2)] == [1, 0]
    order[3] = 9
    with pytest.raises(RuntimeError, match="expected order to index 9 cells"):
        count(9, order, offsets)
    with pytest.raises(RuntimeError, match="expected order to index 9 cells"):  # not remembered
        count(9, order, offsets)
    order[3] = 3
    with torch.inference_mode():
        kept = order.clone()
        assert [count(9, kept, offsets) for _ in range(2)] == [1, 1]  # these count no changes
    monkeypatch.setattr(_cuda, "_captures", lambda t: True)
    assert [count(9, order, offsets) for _ in range(2)] == [1, 1]


# ---- 16-bit numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_sixteen_bits_reach_a_kernel_that_knows_them_alone(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    from physcon_ext.ops.condition_diagonal import _by_kernel

    asked: list[tuple[str, int]] = []

    def has_kernel(op: str, like: torch.Tensor, rank: int) -> bool:
        asked.append((op, rank))
        return known

    monkeypatch.setattr(_cuda, "has_kernel", has_kernel)
    points, rows, target = torch.ones(2, 9).half(), torch.ones(3, 9).half(), torch.ones(2, 3).half()
    assert _by_kernel(points, points, rows, target, 0.0) is known
    assert asked[0] == ("condition_diagonal", 3)
    assert _by_kernel(points, points, rows, target, target, factor=True) is known
    assert not _by_kernel(points, points, rows, target, 0.1)  # no 16-bit number
    assert not _by_kernel(points, points, rows.float(), target, 0.0)
    assert not _by_kernel(points, points, rows, target, 0.0, covariance=True)
