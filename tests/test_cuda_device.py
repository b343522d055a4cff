# SPDX-License-Identifier: Apache-2.0
"""Every op on a CUDA device beside the CPU in float64; what runs there is set by the environment.

``PHYSCON_CUDA_KERNELS=all`` runs kernels that are not verified yet, ``none`` the composites.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from bench import gpu_cases
from torch import Tensor

from op_suite import (
    DTYPES,
    EVERY_ID,
    EVERY_OP,
    OP_IDS,
    OPS,
    TOLERANCE,
    Arguments,
    Op,
    cast,
    deviation,
    fields,
    gradients,
    normal,
    seeded,
)
from physcon_ext import ops
from physcon_ext.ops import EdgeTable, Method
from test_fv_cavity import random_flow
from test_ops_balance_law import problem
from test_ops_boundary_spectral_conv import GRIDS
from test_ops_boundary_spectral_conv import problem as field_problem


pytestmark = pytest.mark.cuda

SHAPES = [((), 7, 1), ((40,), 201, 1), ((3, 2), 41, 5), ((2,), 1000, 17), ((1,), 200, 33)]


def on_device(values: Arguments) -> Arguments:
    return {k: v.cuda() if isinstance(v, Tensor) else v for k, v in values.items()}


def compare(found: Any, expected: Any, dtype: torch.dtype) -> None:
    for name, value in expected.items():
        got = found[name].cpu()
        if value.dtype == torch.int32:
            assert torch.equal(got, value), name
        else:
            error = deviation(got, value, torch.ones(1))
            assert error <= 10 * TOLERANCE[dtype], (name, error)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
def test_numbers_and_gradients_equal_those_of_the_cpu(
    op: Op, shared: bool, dtype: torch.dtype
) -> None:
    for batch, n, r in SHAPES:
        free = cast(op.free(batch, n, r, shared=shared, noise=op.noises[-1]), dtype)
        wide = cast(free, torch.float64)
        compare(
            fields(op.call(**op.arguments(on_device(free)))),
            fields(op.call(**op.arguments(wide))),
            dtype,
        )
        names = [k for k, v in free.items() if isinstance(v, Tensor) and v.is_floating_point()]
        results = op.function(list(free))(*free.values())
        g = torch.Generator().manual_seed(1)
        weights = [torch.randn(o.shape, generator=g, dtype=torch.float64) for o in results]
        found = gradients(op, on_device(free), weights=[w.to(dtype).cuda() for w in weights])
        expected = gradients(op, wide, weights=weights)
        compare(found, {k: expected[k] for k in names}, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_convolutions_and_layers_equal_those_of_the_cpu(dtype: torch.dtype) -> None:
    """Lines, planes and volumes, ragged against every tile; gradients as well."""
    names = {"spectral_conv", "boundary_spectral_conv", "assign_faces", "fno_block"}
    seen = set()
    for case in (c for c in gpu_cases.small(dtype) if c.op in names):
        seen.add(case.op)
        wide = tuple(
            a.detach().cpu().double().requires_grad_(a.requires_grad) for a in case.arguments
        )
        expected = replace(case, arguments=wide).run()
        for i, (found, value) in enumerate(zip(case.run(), expected, strict=True)):
            error = deviation(found.cpu(), value, torch.ones(1))
            assert error <= 10 * TOLERANCE[dtype], (case.op, case.shape, i, error)
    assert seen == names


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_layouts_streams_and_repeats_change_no_bit(op: Op) -> None:
    arguments = on_device(cast(op.arguments(op.free((3,), 150, 5)), torch.float32))
    first = fields(op.call(**arguments))
    strided = {
        k: v.repeat_interleave(2, -1)[..., ::2] if isinstance(v, Tensor) and v.ndim else v
        for k, v in arguments.items()
    }
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        elsewhere = fields(op.call(**arguments))
    side.synchronize()
    for other in (fields(op.call(**arguments)), fields(op.call(**strided)), elsewhere):
        for name, value in first.items():
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_a_captured_graph_gives_the_same_bits_on_new_data(op: Op) -> None:
    arguments = on_device(cast(op.arguments(op.free((3,), 150, 5)), torch.float32))
    op.call(**arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fields(op.call(**arguments))
    for value in arguments.values():
        if isinstance(value, Tensor) and value.is_floating_point():
            value.mul_(1.25)
    graph.replay()
    torch.cuda.synchronize()
    for name, value in fields(op.call(**arguments)).items():
        assert torch.equal(value, captured[name]), name


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_nothing_waits_for_the_device(op: Op) -> None:
    arguments = on_device(cast(op.arguments(op.free((3,), 150, 5)), torch.float32))
    op.call(**arguments)
    torch.cuda.set_sync_debug_mode("error")
    try:
        op.call(**arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Small, with periods of all kinds and Nyquist wavenumbers; then larger than the tiles of a kernel.
FIELDS = [
    *GRIDS,
    ((67,), (9,), (67,)),
    ((130,), (66,), (130,)),
    ((1024,), (16,), (1024,)),
    ((1000,), (501,), (1000,)),  # whole transforms
    ((70, 40), (12, 9), (70, 40)),
    ((19, 67), (10, 33), (20, 67.5)),
    ((9, 10, 34), (4, 6, 9), (9, 10, 40)),
]
FIELD_IDS = ["x".join(map(str, n)) + f"-P{p[-1]}" for n, _, p in FIELDS]
# Sums of tens of numbers, by matrices; the gradients sum over a batch as well.
FIELD_LIMIT = {torch.float32: 1e-5, torch.float64: 1e-12}
CONVOLUTIONS = ("spectral_conv", "assign_faces", "boundary_spectral_conv", "fno_block")
Call = Callable[[list[Tensor]], Tensor]


def convolution(op: str, grid: Any, **given: Any) -> tuple[list[Tensor], Call]:
    """Float64 arguments of an op on fields that have a gradient, and the op as their function."""
    corrected = op in ("boundary_spectral_conv", "fno_block")
    x, weight, gains, values, stencils = field_problem(grid, channels=(5, 3), faces=True, **given)
    g, axes = seeded("device", op, grid), len(grid[0])
    optional = (gains if corrected else []) + ([] if op == "spectral_conv" else values)
    kernel = [] if op == "assign_faces" else [weight]
    rest = [normal(g, 5, 3), normal(g, 3)] if op == "fno_block" else []
    leaves = [x, *kernel, *[t for t in optional if t is not None], *rest]

    def call(given: list[Tensor]) -> Tensor:
        x, *left = given
        stored = [None if s is None else s.to(x.device) for s in stencils]
        if op == "assign_faces":
            return ops.assign_faces(x, left, stored)
        weight, *left = left
        if op == "spectral_conv":
            return ops.spectral_conv(x, weight, period=grid[2])
        named: dict[str, Any] = dict(
            gains=left[:axes], values=left[axes : 2 * axes], stencils=stored, period=grid[2]
        )
        if op == "fno_block":
            return ops.fno_block(x, weight, *left[2 * axes :], **named)
        return ops.boundary_spectral_conv(x, weight, named.pop("gains"), **named)

    return leaves, call


def in_dtype(op: str, axes: int, leaves: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Gains are float64 whatever the dtype of the field."""
    kept = range(2, 2 + axes) if op in ("boundary_spectral_conv", "fno_block") else ()
    return [t if i in kept else t.to(dtype) for i, t in enumerate(leaves)]


def with_gradients(call: Call, leaves: list[Tensor], upstream: Tensor) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in leaves]
    y = call(leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream.to(y.dtype))]


# Convolutions on a line run in one launch too.
LAUNCHES = [
    pytest.param(op, grid, launches, id=f"{op}-{name}-{launches}")
    for op in CONVOLUTIONS
    for grid, name in zip(FIELDS, FIELD_IDS, strict=True)
    for launches in ("one", "several")
    if launches == "several" or (len(grid[0]) == 1 and op != "assign_faces")
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "grid", "launches"), LAUNCHES)
def test_convolutions_and_their_gradients_equal_those_of_the_cpu(
    op: str, grid: Any, launches: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSCON_SPECTRAL_LAUNCHES", launches)
    compare_with_cpu(op, grid, dtype)


# Whole planes and volumes need as many as there are multiprocessors: 240 and 400 of them.
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grid", [g for g in FIELDS if len(g[0]) > 1], ids=str)
@pytest.mark.parametrize("op", CONVOLUTIONS)
def test_whole_planes_and_volumes_equal_those_of_the_cpu(
    op: str, grid: Any, dtype: torch.dtype
) -> None:
    compare_with_cpu(op, grid, dtype, batch=(80,))


def compare_with_cpu(op: str, grid: Any, dtype: torch.dtype, **given: Any) -> None:
    leaves, call = convolution(op, grid, **given)
    narrow = in_dtype(op, len(grid[0]), leaves, dtype)
    exact = [t.double() for t in narrow]
    shape = call(exact).shape
    upstream = normal(seeded("device upstream", op, grid), *shape).to(dtype)
    expected = with_gradients(call, exact, upstream.double())
    on_cuda = [t.cuda() for t in narrow]
    found = with_gradients(call, on_cuda, upstream.cuda())
    again = with_gradients(call, on_cuda, upstream.cuda())
    for i, (a, b, repeated) in enumerate(zip(found, expected, again, strict=True)):
        assert torch.equal(a, repeated), i
        error = deviation(a.cpu(), b)
        assert error <= FIELD_LIMIT[dtype], (i, error)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grid", [FIELDS[0], FIELDS[-2]], ids=str)
@pytest.mark.parametrize("op", CONVOLUTIONS)
def test_tensors_may_begin_at_any_number(op: str, grid: Any, dtype: torch.dtype) -> None:
    """Views of a longer tensor, as those of one buffer of all parameters."""
    leaves, call = convolution(op, grid)
    aligned = [t.cuda() for t in in_dtype(op, len(grid[0]), leaves, dtype)]
    moved = [torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape) for t in aligned]
    assert any(t.data_ptr() % 16 for t in moved)
    results = []
    for given in (aligned, moved):
        given = [t.requires_grad_() for t in given]
        y = call(given)
        results.append([y, *torch.autograd.grad(y, given, torch.ones_like(y))])
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        assert torch.equal(a, b), i


@pytest.mark.parametrize("grid", [g for g in FIELDS if len(g[0]) < 3], ids=str)
def test_responses_and_gains_equal_those_of_the_cpu(grid: Any) -> None:
    sizes, modes, period = grid
    g = seeded("device response", grid)
    weight = normal(g, *modes, 3, 3, 2)
    weight[(0,) * len(sizes)] += 3.0

    def gain(given: list[Tensor]) -> Tensor:
        (kernel,) = given
        response = ops.end_response(kernel, 0, size=sizes, period=period)
        return ops.two_step_gain(response, tolerance=1e-7)

    upstream = normal(g, *gain([weight]).shape)
    expected = with_gradients(gain, [weight], upstream)
    found = with_gradients(gain, [weight.cuda()], upstream.cuda())
    for a, b in zip(found, expected, strict=True):
        assert deviation(a.cpu(), b) <= 1e-9  # the elimination magnifies rounding


LAWS = [
    (Method(transport="burgers", scheme="weno5", integrator="ssprk3"), ("periodic",) * 4, 5),
    (Method(transport="linear", scheme="mc", integrator="ssprk2"), ("value", "outflow") * 2, 1),
    (Method(diffusivity="power", average="modified"), ("value", "mixed") * 2, 5),
    (Method(diffusivity="constant", integrator="rkl2", stages=5), ("value", "flux") * 2, 4),
    (Method(diffusivity="constant", integrator="verlet"), ("value", "mixed") * 2, 4),
    (Method(diffusivity="power", integrator="tr_bdf2"), ("value", "mixed") * 2, 1),
    (Method(diffusivity="constant", integrator="backward_euler"), ("periodic",) * 4, 1),
]


def law_on_device(arguments: Arguments) -> Arguments:
    edges = [
        EdgeTable(e.kind, None if e.values is None else e.values.cuda(), e.a, e.b)
        for e in arguments["edges"]
    ]
    return {**on_device(arguments), "edges": edges}


@pytest.mark.parametrize(("method", "kinds", "rows"), LAWS)
def test_finite_volume_steps_equal_those_of_the_cpu(
    method: Method, kinds: tuple[str, ...], rows: int
) -> None:
    arguments = problem(method, kinds, rows=rows, n=70)
    expected, found = (ops.balance_law(**a) for a in (arguments, law_on_device(arguments)))
    again = ops.balance_law(**law_on_device(arguments))
    for i, (a, b, c) in enumerate(zip(found, expected, again, strict=True)):
        assert torch.equal(a, c), i
        a, b = (t.sum(2) if i == 0 else t for t in (a.cpu(), b))
        if b.numel():
            assert float((a - b).abs().max()) <= 1e-11 * max(1.0, float(b.abs().max())), i


def test_cavity_steps_equal_those_of_the_cpu() -> None:
    arguments = random_flow(3, 20)
    expected, found = (ops.cavity(**a) for a in (arguments, on_device(arguments)))
    for name, a, b in zip(found._fields, found, expected, strict=True):
        a = a.cpu()
        if name == "pressure":  # up to a constant
            a, b = (p - p.mean((1, 2), keepdim=True) for p in (a, b))
        assert float((a - b).abs().max()) <= 1e-12, name


def test_mixed_devices_are_an_error() -> None:
    op = OPS[0]
    arguments = on_device(op.arguments(op.free((2,), 9, 3)))
    arguments["target"] = arguments["target"].cpu()
    with pytest.raises(ValueError, match="to be on the same device"):
        op.call(**arguments)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_sixteen_bits_are_those_of_float32_rounded_once(op: Op, dtype: torch.dtype) -> None:
    long = [((1,), 5000, 3)] if op.name == "condition_diagonal" else []  # split over blocks
    for batch, n, r in [((3,), 150, 5), *long]:
        low = on_device(cast(op.arguments(op.free(batch, n, r)), dtype))
        wide = cast(low, torch.float32)
        found, expected = fields(op.call(**low)), fields(op.call(**wide))
        for name, value in expected.items():
            value = value.to(dtype) if value.dtype == torch.float32 else value
            assert torch.equal(found[name], value), name
        names = [k for k, v in low.items() if isinstance(v, Tensor) and v.is_floating_point()]
        grads = []
        for given in (low, wide):
            leaf = {k: v.detach().requires_grad_() if k in names else v for k, v in given.items()}
            answer = fields(op.call(**leaf))
            results = [answer[name] for name in op.outputs]
            grads.append(
                torch.autograd.grad(
                    results, [leaf[k] for k in names], [torch.ones_like(o) for o in results]
                )
            )
        for name, a, b in zip(names, *grads, strict=True):
            assert torch.equal(a, b.to(dtype)), name


def test_a_compiled_graph_may_make_the_tables_of_a_grid() -> None:
    """What outlives the graph is not in its memory pool, where it would be taken for a leak."""
    pytest.importorskip("triton")
    g = torch.Generator().manual_seed(4)
    x, weight = torch.randn(2, 4, 2999, generator=g).cuda(), torch.randn(9, 4, 4, 2).cuda()
    compiled = torch.compile(lambda t: ops.spectral_conv(t, weight) + 1, mode="reduce-overhead")
    found = [compiled(x).clone() for _ in range(4)]
    expected = (ops.spectral_conv(x.cpu().double(), weight.cpu().double()) + 1).cpu()
    for y in found:
        assert deviation(y.cpu(), expected) <= FIELD_LIMIT[torch.float32]


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_no_items_are_no_work(op: Op) -> None:
    arguments = on_device(cast(op.arguments(op.free((0,), 150, 5)), torch.float32))
    for name, value in fields(op.call(**arguments)).items():
        assert value.numel() == 0, name


def test_running_out_of_memory_leaves_nothing_behind() -> None:
    """Neither a result nor a table nor an error that the next call would find."""
    g = torch.Generator().manual_seed(3)
    x, weight = torch.randn(2, 4, 3001, generator=g).cuda(), torch.randn(9, 4, 4, 2).cuda()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    held = torch.cuda.memory_reserved() + (64 << 20)
    torch.cuda.set_per_process_memory_fraction(held / total)
    try:
        large = x.new_empty(1).expand(50_000, 4, 3001)
        with pytest.raises(RuntimeError):
            ops.spectral_conv(large, weight)
        points = x.new_ones(1).expand(1_000_000, 200)
        with pytest.raises(RuntimeError):
            ops.condition_diagonal(points, points, points[:1], points[:, :1], 0.0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    torch.cuda.synchronize()
    found, again = ops.spectral_conv(x, weight), ops.spectral_conv(x, weight)
    assert torch.equal(found, again)
    expected = ops.spectral_conv(x.cpu().double(), weight.cpu().double())
    assert deviation(found.cpu(), expected) <= FIELD_LIMIT[torch.float32]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device only")
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_a_call_runs_on_the_device_of_its_tensors(op: Op) -> None:
    arguments = cast(op.arguments(op.free((3,), 150, 5)), torch.float32)
    first = fields(op.call(**on_device(arguments)))
    other = {k: v.to("cuda:1") if isinstance(v, Tensor) else v for k, v in arguments.items()}
    with torch.cuda.device(0):
        found = fields(op.call(**other))
        assert torch.cuda.current_device() == 0
    for name, value in first.items():
        assert found[name].device == torch.device("cuda:1")
        assert torch.equal(found[name].cpu(), value.cpu()), name


def test_fields_on_several_devices_are_an_error() -> None:
    x, weight = torch.ones(1, 2, 9).cuda(), torch.ones(3, 2, 2, 2)
    with pytest.raises(ValueError, match="to be on the same device"):
        ops.spectral_conv(x, weight)
    with pytest.raises(ValueError, match="to be on the same device"):
        ops.fno_block(x, weight.cuda(), torch.eye(2))
