# SPDX-License-Identifier: Apache-2.0
"""The composites, which serve CUDA tensors, on CPU tensors beside the CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import test_ops_exactness as exactness
import test_ops_status as status
from op_suite import (
    DTYPES,
    EVERY_ID,
    EVERY_OP,
    OP_IDS,
    OPS,
    Op,
    cast,
    deviation,
    differentiable_parameters,
    fields,
    gradients,
    normal,
    positive,
    seeded,
    spd,
    upstream,
)
from physcon_ext.ops import _cuda
from physcon_ext.ops._cuda import COMPOSITE_OPS, table
from physcon_ext.ops.composite import COMPOSITES


# Both sum the same float64 products, in another order; float32 data leave in float32.
LIMIT = {torch.float32: 1e-5, torch.float64: 1e-11}


def tuples(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


class Redirect(TorchDispatchMode):
    """Sends every op to its composite and hands both results to ``seen``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Sequence[Tensor], Sequence[Tensor]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        found = function(*arguments, **(options or {}))
        if function.namespace != "physcon":
            return found
        name = function._schema.name.split("::")[1]
        composite = COMPOSITES[name](*arguments)
        self.seen.append((name, tuples(composite), tuples(found)))
        return composite


@contextmanager
def redirected() -> Iterator[Redirect]:
    with Redirect() as mode:
        yield mode
    assert mode.seen, "no op was called"


SHAPES = [((), 7, 1), ((3, 2), 41, 5), ((1,), 200, 33), ((1,), 3, 1)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_numbers_shapes_and_strides_equal_those_of_the_cpu_kernels(
    op: Op, shared: bool, dtype: torch.dtype
) -> None:
    for batch, n, r in SHAPES:
        for noise in op.noises:
            if r == 33 and noise != op.noises[-1]:
                continue
            free = cast(op.free(batch, n, r, shared=shared, noise=noise), dtype)
            names = differentiable_parameters(free)
            leaf = {k: v.clone().requires_grad_() if k in names else v for k, v in free.items()}
            with redirected() as mode:
                results = op.function(list(leaf))(*leaf.values())
                loss = sum((w * o).sum() for w, o in zip(upstream(results), results, strict=True))
                torch.autograd.grad(loss, [leaf[k] for k in names])
            assert len(mode.seen) >= 2  # forward and backward
            for name, composite, kernel in mode.seen:
                for i, (a, b) in enumerate(zip(composite, kernel, strict=True)):
                    assert a.shape == b.shape and a.dtype == b.dtype, (name, i)
                    assert a.numel() == 0 or a.stride() == b.stride(), (name, i)
                    if a.dtype == torch.int32:
                        assert torch.equal(a, b), (name, i)
                    else:
                        one = torch.ones(1) if name.endswith("backward") else None
                        error = deviation(a, b, one)
                        assert error <= LIMIT[dtype], (name, i, batch, n, r, noise, error)


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_empty_batches(op: Op) -> None:
    for batch in [(0,), (2, 0)]:
        free = op.free(batch, 7, 2)
        with redirected() as mode:
            fields(op.call(**op.arguments(free)))
            gradients(op, free)
        for name, composite, kernel in mode.seen:
            for a, b in zip(composite, kernel, strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype, name


class TestStatus:
    """Dropped rows, broken items and exact rows, by the tests of the CPU kernels."""

    @pytest.fixture(autouse=True)
    def _composite(self) -> Iterator[None]:
        with redirected():
            yield

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("form", status.FORMS)
    @pytest.mark.parametrize("name", [n for n in dir(status.TestRows) if n.startswith("test_")])
    def test_rows(self, name: str, form: str, dtype: torch.dtype) -> None:
        getattr(status.TestRows(), name)(form, dtype)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_disjoint_rows(self, dtype: torch.dtype) -> None:
        status.test_disjoint_rows_have_the_same_codes(dtype)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(
        ("op", "name"), status.BROKEN, ids=[f"{op.name}-{name}" for op, name in status.BROKEN]
    )
    def test_broken_items(self, op: Op, name: str, dtype: torch.dtype) -> None:
        arguments = cast(op.arguments(op.free((3,), 140, 3)), dtype)
        good = fields(op.call(**arguments))
        broken = arguments[name].clone()
        listed = "order" in arguments and broken.shape[-1] == 140
        broken[1, ..., int(arguments["order"][5]) if listed else -1] = torch.nan
        found = fields(op.call(**{**arguments, name: broken}))
        for output, value in found.items():
            for other in (0, 2):
                assert deviation(value[other], good[output][other]) <= LIMIT[dtype], output
        main = found["product"] if "product" in found else found["variance"]
        assert bool(main[1].isnan().any())
        if "info" in found and (op.name, name) != ("condition_cross", "variance"):
            assert status.NON_FINITE in found["info"][1].tolist()

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(("n", "r"), [(1, 1), (201, 1), (129, 33), (4097, 3), (100_000, 8)])
    def test_rows_hold_to_rounding(self, n: int, r: int, dtype: torch.dtype) -> None:
        for offset in (0.0, 1e4, -1e8):
            exactness.test_rows_hold_to_rounding(n, r, offset, dtype)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_general_priors_and_disjoint_rows_hold_to_rounding(self, dtype: torch.dtype) -> None:
        exactness.test_rows_hold_to_rounding_for_a_general_prior(300, 16, dtype)
        exactness.test_disjoint_rows_hold_to_rounding(1000, 37, dtype)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(("n", "r"), [(1, 1), (201, 1), (700, 8)])
    def test_variances_do_not_cancel(self, n: int, r: int, dtype: torch.dtype) -> None:
        for noise in (0.0, 1e-3):
            exactness.test_nearly_determined_points_keep_their_relative_accuracy(n, r, noise, dtype)
        exactness.test_a_dominant_point_of_a_disjoint_row(dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(order=torch.arange(8) + 2), "order to index 9 cells"),
        (dict(order=torch.zeros(8, dtype=torch.int64)), "expected disjoint rows"),
        (dict(order=torch.arange(7)), "order to have 8 entries"),
        (dict(offsets=torch.tensor([0, 5, 2, 8])), "offsets to ascend from 0"),
        (dict(offsets=torch.tensor([0, 2, 3, 7])), "offsets to ascend from 0"),
    ],
)
def test_wrong_indices_are_an_error(change: dict[str, Tensor], message: str) -> None:
    op = OPS[OP_IDS.index("condition_disjoint")]
    values = {**op.free((2,), 9, 3), **change}
    with pytest.raises(RuntimeError, match=message):
        COMPOSITES["condition_disjoint"](*op.raw_arguments(values))


@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
def test_nothing_is_read_back_to_the_host(op: Op) -> None:
    """Fake tensors have no numbers to read; a tensor made on another device would not fit."""
    device = "cuda" if torch.version.cuda else "meta"
    free = op.free((3,), 9, 2)
    with Calls() as calls:
        gradients(op, free)
    with FakeTensorMode():
        for name, arguments in calls.seen:
            fake = [
                torch.empty(*a[0], dtype=a[1], device=device) if isinstance(a, tuple) else a
                for a in arguments
            ]
            for result in tuples(COMPOSITES[name](*fake)):
                assert result.device.type == device, name


class Calls(TorchDispatchMode):
    """Notes shape and dtype of the arguments of every op."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[Any]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if function.namespace == "physcon":
            shapes = [(a.shape, a.dtype) if isinstance(a, Tensor) else a for a in arguments]
            self.seen.append((function._schema.name.split("::")[1], shapes))
        return function(*arguments, **(options or {}))


def test_every_op_has_a_composite_and_a_kernel() -> None:
    assert set(COMPOSITES) == set(COMPOSITE_OPS)
    assert {record["op"] for record in table()} == set(COMPOSITE_OPS)


@pytest.mark.parametrize("name", COMPOSITE_OPS)
def test_the_composite_is_registered_for_cuda_tensors(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"physcon::{name}", "CUDA")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_is_linear_in_the_number_of_points(dtype: torch.dtype) -> None:
    """Twice the points, twice the elements made: no n x n temporary."""

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kw: Any = None):
            result = function(*args, **(kw or {}))
            for t in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(t, Tensor):
                    self.elements = max(self.elements, t.untyped_storage().nbytes() // 8)
            return result

    r = 3
    g = seeded("memory")
    for n in (2000, 4000):
        data = (normal(g, n), positive(g, n), normal(g, r, n), normal(g, r), spd(g, r))
        with Largest() as mode:
            COMPOSITES["condition_diagonal"](*(t.to(dtype) for t in data), True, False)
        assert mode.elements <= 6 * r * n


@pytest.mark.parametrize(
    ("capability", "kernel"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), False)]
)
def test_an_architecture_without_a_record_runs_the_composite(
    capability: tuple[int, int], kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(_cuda, "runs", lambda record: True)
    record = _cuda._record.__wrapped__("condition_diagonal", 0)
    assert (record is not None) == kernel


def test_a_kernel_that_is_not_verified_runs_on_request_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_cuda._C, "build_info", lambda: {"cuda": True})
    for mode in ("verified", "all", "none"):
        monkeypatch.setattr(_cuda, "mode", lambda mode=mode: mode)
        runs = [_cuda.runs({"verified": v}) for v in (None, "revision")]
        assert (
            runs == {"verified": [False, True], "all": [True, True], "none": [False, False]}[mode]
        )
