# SPDX-License-Identifier: Apache-2.0
"""bfloat16 and float16 outside autocast: computed in float32, rounded once, gradients as well."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from op_suite import (
    EVERY_ID,
    EVERY_OP,
    OPS,
    Arguments,
    Op,
    cast,
    differentiable_parameters,
    fields,
    normal,
    same_bits,
    seeded,
    upstream,
)
from physcon_ext import ops
from physcon_ext.ops import EdgeTable, Method, _cuda
from physcon_ext.ops._storage import stored
from test_fv_cavity import random_flow
from test_ops_assign_faces import problem as face_problem
from test_ops_balance_law import problem as flow_problem
from test_ops_boundary_spectral_conv import GRIDS
from test_ops_boundary_spectral_conv import problem as field_problem


LOW = [torch.bfloat16, torch.float16]
Call = Callable[[list[Tensor]], Any]


def rounded(op: Op, dtype: torch.dtype, **options: Any) -> Arguments:
    """Arguments of the public function, rounded to ``dtype``."""
    return cast(op.arguments(op.free((2,), 9, 2, **options)), dtype)


def narrowed(values: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Float32 as the storage type holds it; what has the size of the rank stays float64."""
    return [v.to(dtype) if v.dtype == torch.float32 else v for v in values]


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_the_result_is_that_of_float32_rounded_once(op: Op, dtype: torch.dtype) -> None:
    for noise in op.noises:
        low = rounded(op, dtype, noise=noise)
        found = fields(op.call(**low))
        expected = fields(op.call(**cast(low, torch.float32)))
        same_bits(list(found.values()), narrowed(list(expected.values()), dtype))
        assert {found[name].dtype for name in op.outputs if name in found} == {dtype}
        assert all(found[name].dtype == torch.float64 for name in op.rank_sized if name in found)


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_gradients_are_those_of_float32_rounded_once(op: Op, dtype: torch.dtype) -> None:
    low = rounded(op, dtype)
    names = differentiable_parameters(low)

    def run(arguments: Arguments, weights: list[Tensor] | None) -> tuple[list[Tensor], Any]:
        leaf = {k: v.detach().requires_grad_() if k in names else v for k, v in arguments.items()}
        found = fields(op.call(**leaf))
        results = [found[name] for name in op.outputs]
        given = [w.to(r.dtype) for w, r in zip(weights or upstream(results), results, strict=True)]
        return given, torch.autograd.grad(results, [leaf[k] for k in names], given)

    weights, found = run(low, None)
    _, expected = run(cast(low, torch.float32), weights)
    same_bits(list(found), narrowed(list(expected), dtype))


def convolution(name: str, dtype: torch.dtype) -> tuple[list[Tensor], Call]:
    """Arguments in the storage type, and an op of fields as their function."""
    grid = GRIDS[3]
    g = seeded("storage", name)
    x, weight, gains, values, stencils = field_problem(grid, channels=(5, 3), faces=True)
    if name == "assign_faces":
        x, values, stencils = face_problem((6, 7))
    data = [v for v in values if v is not None]
    where = [i for i, v in enumerate(values) if v is not None]
    kernel = [weight] if name != "assign_faces" else []
    rest = [normal(g, 5, 3), normal(g, 3)] if name == "fno_block" else []
    leaves = [t.to(dtype) for t in (x, *kernel, *rest, *data)]

    def call(given: list[Tensor]) -> Tensor:
        placed: list[Tensor | None] = [None] * len(values)
        for i, value in zip(where, given[len(given) - len(data) :], strict=True):
            placed[i] = value
        if name == "assign_faces":
            return ops.assign_faces(given[0], placed, stencils)
        options: Any = dict(period=grid[2], gains=gains, values=placed, stencils=stencils)
        if name == "fno_block":
            return ops.fno_block(*given[:4], **options)
        return ops.boundary_spectral_conv(given[0], given[1], options.pop("gains"), **options)

    return leaves, call


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("name", ["assign_faces", "boundary_spectral_conv", "fno_block"])
def test_gains_and_faces_go_with_it(name: str, dtype: torch.dtype) -> None:
    leaves, call = convolution(name, dtype)
    found: dict[torch.dtype, list[Tensor]] = {}
    for kind in (dtype, torch.float32):
        given = [t.detach().to(kind).requires_grad_() for t in leaves]
        y = call(given)
        seed = normal(seeded("storage upstream"), *y.shape).to(dtype).to(kind)
        found[kind] = [y, *torch.autograd.grad(y, given, seed)]
    same_bits(found[dtype], narrowed(found[torch.float32], dtype))


@pytest.mark.parametrize("name", ["assign_faces", "boundary_spectral_conv", "fno_block"])
def test_parameters_may_stay_in_float32(name: str) -> None:
    leaves, call = convolution(name, torch.bfloat16)
    mixed = [leaves[0], *[t.float() for t in leaves[1:]]]
    leaf = [t.detach().requires_grad_() for t in mixed]
    y = call(leaf)
    assert torch.equal(y, call(leaves))
    grads = torch.autograd.grad(y.float().sum(), leaf)
    assert [g.dtype for g in grads] == [t.dtype for t in mixed]


@pytest.mark.parametrize("op", OPS[:-1], ids=[op.name for op in OPS[:-1]])
def test_a_number_as_noise_is_not_rounded(op: Op) -> None:
    low = rounded(op, torch.bfloat16, noise="row")
    low["noise"] = 0.3
    found = fields(op.call(**low))
    expected = fields(op.call(**cast(low, torch.float32)))
    same_bits(list(found.values()), narrowed(list(expected.values()), torch.bfloat16))


def test_answers_of_stored_weights_are_float64() -> None:
    weight = normal(seeded("storage weight"), 3, 2, 2, 2).to(torch.bfloat16)
    found = ops.end_response(weight, 0, size=[9], period=[9.0])
    assert found.dtype == torch.float64
    assert torch.equal(found, ops.end_response(weight.float(), 0, size=[9], period=[9.0]))


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_the_two_storage_types_do_not_mix(op: Op) -> None:
    low = rounded(op, torch.bfloat16)
    last = [k for k, v in low.items() if isinstance(v, Tensor) and v.is_floating_point()][-1]
    with pytest.raises(TypeError, match=rf"physcon::{op.name}: expected one storage dtype"):
        op.call(**{**low, last: low[last].half()})


class Raw(TorchDispatchMode):
    """The raw ops of the package that were called, with what they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if function.namespace == "physcon":
            self.calls.append((function, arguments))
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_raw_ops_name_the_function_that_takes_the_storage(
    op: Op, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, for shapes alone, and where a CUDA device has no kernel."""
    given = cast(op.arguments(op.free((2,), 9, 2)), torch.float32)
    names = differentiable_parameters(given)
    leaf = {k: v.requires_grad_() if k in names else v for k, v in given.items()}
    with Raw() as raw:
        found = fields(op.call(**leaf))
        results = [found[name] for name in op.outputs]
        torch.autograd.grad(results, [leaf[k] for k in names], upstream(results))
    assert any(function.__name__.startswith(op.name) for function, _ in raw.calls)
    monkeypatch.setattr(_cuda, "_record", lambda op, device: None)
    for function, arguments in raw.calls:
        name = function._schema.name
        public = name.removeprefix("physcon::").removesuffix("_backward")
        low = [
            a.detach().half() if isinstance(a, Tensor) and a.dtype == torch.float32 else a
            for a in arguments
        ]
        shapes = [a.to("meta") if isinstance(a, Tensor) else a for a in low]
        composite = _cuda._by_record(name.removeprefix("physcon::"))
        message = (
            f"{name}: expected tensors of float32 or float64, got torch.float16; "
            f"physcon_ext.ops.{public} takes bfloat16 and float16"
        )
        for call, values in ((function, low), (function, shapes), (composite, low)):
            with pytest.raises(RuntimeError, match=re.escape(message)):
                call(*values)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_rows_hold_to_the_rounding_of_the_storage(dtype: torch.dtype) -> None:
    g = seeded("stored rows")
    mean, variance = normal(g, 4, 201).to(dtype), torch.rand(4, 201, generator=g).to(dtype)
    rows, target = normal(g, 4, 3, 201).to(dtype), normal(g, 4, 3).to(dtype)
    found = ops.condition_diagonal(mean, variance, rows, target, 0.0).mean.double()
    wide, b = rows.double(), target.double()
    gap = ((wide * found[:, None]).sum(-1) - b).abs()
    size = (wide * found[:, None]).abs().sum(-1) + b.abs()
    assert bool((gap <= 8 * torch.finfo(dtype).eps * size).all())


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_shapes_and_dtypes_are_known_without_numbers(op: Op) -> None:
    low = rounded(op, torch.float16)
    expected = fields(op.call(**low))
    with FakeTensorMode() as mode:
        fake = {k: mode.from_tensor(v) if isinstance(v, Tensor) else v for k, v in low.items()}
        found = fields(op.call(**fake))
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name


def test_a_kernel_is_asked_by_names_and_in_eager_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    given: list[torch.dtype] = []

    def by_kernel(**arguments: Any) -> bool:
        asked.append(arguments)
        return True

    @stored("physcon::f", by_kernel, field=True)
    def function(x: Tensor, weight: Tensor, scale: float = 1.0, *, period: float = 2.0) -> Tensor:
        given[:] = [x.dtype, weight.dtype]
        return x

    with FakeTensorMode():
        x, weight = (torch.empty(3, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        assert function(x, weight=weight, period=5.0).dtype == torch.bfloat16
        assert asked == [{"x": x, "weight": weight, "period": 5.0}]
        assert given == [torch.bfloat16, torch.float32]
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert function(x, weight).dtype == torch.bfloat16
    assert len(asked) == 1 and given == [torch.float32] * 2


@pytest.mark.parametrize("name", ["condition_diagonal", "spectral_conv"])
def test_transforms_and_the_compiler_see_it(name: str) -> None:
    op = next(op for op in EVERY_OP if op.name == name)
    low = rounded(op, torch.bfloat16, noise="row")
    names = list(low)

    def call(*values: Any) -> Tensor:
        return next(iter(fields(op.call(**dict(zip(names, values, strict=True)))).values()))

    expected = call(*low.values())
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*low.values()), expected)
    first = names[0]
    stacked = torch.stack([low[first], 2 * low[first]])
    mapped = torch.func.vmap(lambda v: call(v, *list(low.values())[1:]))(stacked)
    assert mapped.dtype == torch.bfloat16 and torch.equal(mapped[0], expected)
    _, moved = torch.func.jvp(
        lambda v: call(v, *list(low.values())[1:]), (low[first],), (low[first],)
    )
    assert moved.dtype == torch.bfloat16


# ---- finite volumes: float32 is a storage type as well, of what is computed in float64


def of_dtype(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """With tables of edges, which are no tensors."""

    def moved(value: Any) -> Any:
        if isinstance(value, EdgeTable) and value.values is not None:
            return replace(value, values=value.values.to(dtype))
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    return {
        k: [moved(v) for v in value] if isinstance(value, list) else moved(value)
        for k, value in arguments.items()
    }


FLOWS: dict[str, tuple[Callable[..., Any], Callable[[], Arguments]]] = {
    "burgers": (
        ops.balance_law,
        lambda: flow_problem(
            Method(transport="burgers", scheme="weno5", integrator="ssprk3"),
            ("value", "outflow", "flux", "value"),
            rows=5,
            sources=2,
        ),
    ),
    "porous": (
        ops.balance_law,
        lambda: flow_problem(
            Method(diffusivity="power", integrator="backward_euler"), ("value", "mixed") * 2
        ),
    ),
    "cavity": (ops.cavity, lambda: random_flow(3, 8)),
}


@pytest.mark.parametrize("dtype", [*LOW, torch.float32], ids=str)
@pytest.mark.parametrize("name", FLOWS)
def test_flows_are_those_of_float64_rounded_once(name: str, dtype: torch.dtype) -> None:
    op, arguments = FLOWS[name]
    low = of_dtype(arguments(), dtype)
    first = next(iter(low))
    found, expected = op(**low), op(**of_dtype(low, torch.float64))
    assert not torch.equal(expected[0].double(), low[first].double())  # steps were taken
    same_bits(list(found), [v.to(dtype) if v.is_floating_point() else v for v in expected])
    # A state that was stored, with parameters that were not.
    mixed = {**of_dtype(low, torch.float64), first: low[first]}
    mixed.update({k: low[k] for k in ("u", "v") if k in low})
    same_bits(list(op(**mixed)), list(found))
    with FakeTensorMode() as mode:

        def faked(value: Any) -> Any:
            if isinstance(value, EdgeTable) and value.values is not None:
                return replace(value, values=mode.from_tensor(value.values))
            return mode.from_tensor(value) if isinstance(value, Tensor) else value

        fake = op(
            **{
                k: [faked(v) for v in value] if isinstance(value, list) else faked(value)
                for k, value in low.items()
            }
        )
    assert [(t.shape, t.dtype) for t in fake] == [(t.shape, t.dtype) for t in found]


@pytest.mark.parametrize("name", FLOWS)
def test_the_dtypes_of_flows_do_not_mix(name: str) -> None:
    op, arguments = FLOWS[name]
    for dtype in (torch.bfloat16, torch.float32):
        low = of_dtype(arguments(), dtype)
        with pytest.raises(TypeError, match=rf"physcon::{op.__name__}: expected one storage dtype"):
            op(**{**low, "dt": low["dt"].half()})
    low = of_dtype(arguments(), torch.bfloat16)
    with pytest.raises(ValueError, match="without gradients"):
        op(**{**low, "dt": low["dt"].requires_grad_()})
