# SPDX-License-Identifier: Apache-2.0
"""Every op on a CUDA device beside the CPU in float64; what runs there is set by the environment.

``PHYSCON_CUDA_KERNELS=all`` runs kernels that are not verified yet, ``none`` the composites.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from bench import gpu_cases
from torch import Tensor

from op_suite import (
    DTYPES,
    OP_IDS,
    OPS,
    TOLERANCE,
    Arguments,
    Op,
    cast,
    deviation,
    fields,
    gradients,
)
from physcon_ext import ops
from physcon_ext.ops import EdgeTable, Method
from test_fv_cavity import random_flow
from test_ops_balance_law import problem


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


@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
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


@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
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


@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
def test_nothing_waits_for_the_device(op: Op) -> None:
    arguments = on_device(cast(op.arguments(op.free((3,), 150, 5)), torch.float32))
    op.call(**arguments)
    torch.cuda.set_sync_debug_mode("error")
    try:
        op.call(**arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


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
