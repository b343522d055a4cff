# SPDX-License-Identifier: Apache-2.0
"""boundary_spectral_conv: the dense elimination, the reference, derivatives, precision."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap
from torch.library import opcheck

import physcon_ext
from op_suite import LAYOUTS, deviation, normal, same_bits, seeded
from physcon_ext import ops, reference
from physcon_ext.boundary import correction_gain, end_response, scalar_gain
from physcon_ext.ops.composite import COMPOSITES


Maybe = list[Tensor | None]

# sizes, modes, period
GRIDS: list[tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]] = [
    ((2,), (1,), (2,)),
    ((2,), (2,), (2,)),
    ((8,), (5,), (8,)),  # Nyquist
    ((13,), (4,), (13,)),  # prime
    ((12,), (4,), (15,)),
    ((11,), (5,), (13.7,)),
    ((33,), (9,), (41.25,)),
    ((7, 6), (4, 4), (7, 6)),
    ((6, 8), (6, 5), (6, 8)),  # Nyquist on both axes
    ((6, 9), (4, 3), (7.3, 10)),
    ((4, 5, 6), (4, 4, 3), (5, 6, 8)),
    ((4, 4, 4), (4, 4, 3), (4, 4, 4)),  # Nyquist on all axes
    ((5, 4, 6), (4, 4, 4), (5.5, 4, 6)),
]
GRID_IDS = ["x".join(map(str, n)) + f"-P{p[-1]}" for n, _, p in GRIDS]


def problem(
    grid: tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]],
    *,
    batch: tuple[int, ...] = (2,),
    channels: tuple[int, int] = (3, 2),
    axes: Sequence[int] | None = None,
    parts: int = 2,
    faces: bool = False,
) -> tuple[Tensor, Tensor, Maybe, Maybe, Maybe]:
    """Input, weight, gains, face data and stencils, all random, float64."""
    sizes, modes, period = grid
    g = seeded("boundary", grid, batch, channels, axes, parts, faces)
    c_in, c_out = channels
    x = normal(g, *batch, c_in, *sizes)
    weight = normal(g, *modes, c_in, c_out, 2) / c_in
    gains: Maybe = [None] * len(sizes)
    values: Maybe = [None] * len(sizes)
    stencils: Maybe = [None] * len(sizes)
    for axis in range(len(sizes)) if axes is None else axes:
        others = math.prod(modes) // modes[axis]
        gains[axis] = normal(g, others, 2 * (c_in + c_out), 2 * c_in, parts) / (2 * c_in)
        if faces:
            rest = [n for a, n in enumerate(sizes) if a != axis]
            values[axis] = normal(g, *batch, 1, 2, *rest)
            stencils[axis] = normal(g, 2, min(3, sizes[axis] - 1))
    return x, weight, gains, values, stencils


def to(dtype: torch.dtype, values: Maybe) -> Maybe:
    return [None if v is None else v.to(dtype) for v in values]


def three(group: Maybe, dtype: torch.dtype) -> list[Tensor]:
    """As the raw op takes it: three tensors, empty ones for None."""
    filled = [*group, *[None] * (3 - len(group))]
    return [torch.empty(0, dtype=dtype) if t is None else t.to(dtype) for t in filled]


def flat(
    call: Callable[..., Tensor], given: tuple[Tensor, Tensor, Maybe, Maybe, Maybe], period: Any
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The op as a function of its differentiable tensors, and those."""
    x, weight, gains, values, stencils = given
    leaves = [x, weight, *(t for t in (*gains, *values) if t is not None)]

    def apply(x: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
        left = iter(rest)
        g, v = ([None if t is None else next(left) for t in group] for group in (gains, values))
        return call(x, weight, g, period=period, values=v, stencils=stencils)

    return apply, leaves


def both(
    call: Callable[..., Tensor],
    given: tuple[Tensor, Tensor, Maybe, Maybe, Maybe],
    period: Any,
    upstream: Tensor,
) -> list[Tensor]:
    """The output and the gradients of everything."""
    apply, leaves = flat(call, given, period)
    leaves = [t.detach().clone().requires_grad_() for t in leaves]
    y = apply(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream.to(y.dtype))]


# ---- what it computes ----------------------------------------------------------------------------


def dense_kernel(weight: Tensor, n: int, period: float) -> Tensor:
    """``K``, (n, C_in, n, C_out): the answer at every point to a source at every point."""
    c_in = weight.shape[-3]
    sources = torch.eye(n * c_in, dtype=torch.float64).reshape(n, c_in, n, c_in)
    sources = sources.permute(0, 1, 3, 2).reshape(n * c_in, c_in, n)
    answers = reference.boundary_spectral_conv(sources, weight, [None], period=[period])
    return answers.reshape(n, c_in, -1, n).movedim(-1, 2)


def eliminated(kernel: Tensor, target: str) -> Tensor:
    """The kernel after elimination: sources at the ends replaced so that both boundary columns
    depend on nothing but their own end."""
    n, c = kernel.shape[:2]
    ends = [0, n - 1]
    system = kernel[ends][:, :, ends].reshape(2 * c, 2 * c)
    own = kernel[0, :, 0]
    across, back = kernel[0, :, n - 1], kernel[n - 1, :, 0]
    wanted = torch.zeros(n, c, 2, c, dtype=torch.float64)
    wanted[0, :, 0] = own - across @ torch.linalg.solve(own, back) if target == "left" else own
    wanted[n - 1, :, 1] = own
    missing = (wanted - kernel[:, :, ends]).reshape(n * c, 2 * c)
    moved = torch.linalg.solve(system.T, missing.T).T.reshape(n, c, 2 * c)
    sources = torch.eye(n * c, dtype=torch.float64).reshape(n * c, n * c)
    change = torch.zeros(n * c, n, c, dtype=torch.float64)
    change[:, ends] = moved.reshape(n * c, 2, c)
    return ((sources + change.reshape(n * c, n * c)) @ kernel.reshape(n * c, n * c)).reshape(
        kernel.shape
    )


@pytest.mark.parametrize("target", ["joint", "left"])
@pytest.mark.parametrize(
    ("n", "m", "period"), [(9, 5, 9.0), (10, 4, 10.0), (11, 4, 14.0), (8, 4, 9.3)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_dense_elimination_of_the_kernel_matrix(
    channels: int, n: int, m: int, period: float, target: Any
) -> None:
    g = seeded("dense", channels, n, m, period)
    weight = normal(g, m, channels, channels, 2)
    kernel = dense_kernel(weight, n, period)
    corrected = eliminated(kernel, target)
    # Rows of the eliminated kernel: the ends answer to their own end only.
    assert corrected[1:, :, 0].abs().max() <= 1e-9 * kernel.abs().max()
    x = normal(g, 4, channels, n)
    expected = torch.einsum("bin,niko->bok", x, corrected)
    response = end_response(weight, 0, sizes=[n], period=[period])
    gain = correction_gain(response, target=target, ridge=0.0)
    system = kernel[[0, n - 1]][:, :, [0, n - 1]].reshape(2 * channels, 2 * channels)
    limit = 1e-14 * float(torch.linalg.cond(system)) + 1e-12
    found = ops.boundary_spectral_conv(x, weight, [gain], period=period)
    assert deviation(found, expected) <= limit
    found = reference.boundary_spectral_conv(x, weight, [gain], period=[period])
    assert deviation(found, expected) <= limit


@pytest.mark.parametrize(
    ("grid", "axis"), [(g, a) for g in GRIDS[7:] for a in range(len(g[0]))], ids=str
)
def test_ends_of_the_output_answer_to_their_own_end_in_several_axes(grid: Any, axis: int) -> None:
    sizes, modes, period = grid
    dims = len(sizes)
    x, weight, *_ = problem(grid, channels=(2, 2))
    response = end_response(weight, axis, sizes=sizes, period=period)
    gains: Maybe = [None] * dims
    gains[axis] = correction_gain(response, ridge=0.0)
    condition = max(
        float(torch.linalg.cond(torch.cat([torch.cat([d, h], -1), torch.cat([a, d], -1)], -2)))
        for d, h, a in zip(response.same, response.across, response.back, strict=True)
    )
    if condition > 1e9:
        pytest.skip("a system without an exact elimination")
    found = ops.boundary_spectral_conv(x, weight, gains, period=period)
    # Change the input anywhere but at one end: that end of the output must not change.
    at = x.ndim - dims + axis
    for end in (0, sizes[axis] - 1):
        other = normal(seeded("other", grid), *x.shape)
        other.select(at, end).copy_(x.select(at, end))
        again = ops.boundary_spectral_conv(other, weight, gains, period=period)
        change = (again - found).select(at, end).abs().max() / found.abs().max()
        assert change <= 1e-13 * condition


@pytest.mark.parametrize("faces", [False, True], ids=["", "faces"])
@pytest.mark.parametrize("parts", [2, 1], ids=["complex", "real"])
@pytest.mark.parametrize("grid", GRIDS, ids=GRID_IDS)
def test_it_agrees_with_the_reference(grid: Any, parts: int, faces: bool) -> None:
    dims = len(grid[0])
    for chosen in {(0,), tuple(range(dims)), (dims - 1,)}:
        given = problem(grid, axes=chosen, parts=parts, faces=faces)
        shape = (*given[0].shape[: -dims - 1], 2, *grid[0])
        up = normal(seeded("up", grid), *shape)
        exact = both(reference.boundary_spectral_conv, given, grid[2], up)
        found = both(ops.boundary_spectral_conv, given, grid[2], up)
        for a, b in zip(found, exact, strict=True):
            assert deviation(a, b) <= 1e-12
        x, weight, gains, values, stencils = given
        single = (x.float(), weight.float(), gains, to(torch.float32, values), stencils)
        rounded = (
            single[0].double(),
            single[1].double(),
            gains,
            to(torch.float64, single[3]),
            stencils,
        )
        exact = both(reference.boundary_spectral_conv, rounded, grid[2], up.float().double())
        found = both(ops.boundary_spectral_conv, single, grid[2], up.float())
        for a, b in zip(found, exact, strict=True):
            # Up to three corrections in a row, gains of size one.
            assert deviation(a, b) <= 5e-6


def test_without_gains_it_is_the_plain_convolution() -> None:
    x, weight, gains, *_ = problem(GRIDS[4], axes=[])
    found = ops.boundary_spectral_conv(x, weight, gains, period=15)
    assert deviation(found, ops.spectral_conv(x, weight, period=15)) <= 1e-14
    x, weight, gains, *_ = problem(GRIDS[9])
    nothing: Maybe = [torch.zeros_like(gain) for gain in gains]
    found = ops.boundary_spectral_conv(x, weight, nothing, period=GRIDS[9][2])
    assert deviation(found, ops.spectral_conv(x, weight, period=GRIDS[9][2])) <= 1e-14


@pytest.mark.parametrize("grid", [GRIDS[5], GRIDS[9], GRIDS[12]], ids=str)
def test_prescribed_faces_are_stored_as_given(grid: Any) -> None:
    x, weight, gains, values, stencils = problem(grid, faces=True)
    zero: Maybe = [torch.zeros_like(s) for s in stencils]
    plain = ops.boundary_spectral_conv(x, weight, gains, period=grid[2])
    found = ops.boundary_spectral_conv(
        x, weight, gains, period=grid[2], values=values, stencils=zero
    )
    same_bits([found], [ops.assign_faces(plain, values, zero)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_a_face_gradient_holds_goes_to_the_data_alone(bad: float) -> None:
    given = problem(GRIDS[5], faces=True)
    zero: Maybe = [torch.zeros_like(s) for s in given[4]]
    up = normal(seeded("up"), 2, 2, 11)
    clean = both(ops.boundary_spectral_conv, (*given[:4], zero), GRIDS[5][2], up)
    up[0, 1, -1] = bad
    found = both(ops.boundary_spectral_conv, (*given[:4], zero), GRIDS[5][2], up)
    for a, b in zip(found[:-1], clean[:-1], strict=True):
        assert deviation(a, b) <= 1e-14
    assert not found[-1][0, 0, 1].isfinite()


# ---- precision -----------------------------------------------------------------------------------


def initial_weight(g: torch.Generator, m: int, channels: int) -> Tensor:
    """As the layers of the published programs begin."""
    return torch.rand(m, channels, channels, 2, generator=g, dtype=torch.float64) / channels**2


@pytest.mark.parametrize("draw", range(8))
@pytest.mark.parametrize("n", [128, 500, 1024, 8192])
@pytest.mark.parametrize("kind", ["scalar", "block"])
def test_float32_is_as_accurate_as_a_plain_convolution(kind: str, n: int, draw: int) -> None:
    """Where both ends are neighbours on the circle, differences of end values are tiny."""
    g = seeded("precision", kind, n, draw)
    m, channels = 16, 8
    weight = initial_weight(g, m, channels).float()
    points = torch.linspace(0, 1, n, dtype=torch.float64)
    waves = torch.arange(1, 6, dtype=torch.float64)[:, None] * points * math.pi
    x = (normal(g, 4, channels, 5) @ torch.cos(waves) + 0.1 * normal(g, 4, channels, n)).float()
    period = float(n) if kind == "scalar" else float(round(1.125 * (n - 1)))
    response = end_response(weight.double(), 0, sizes=[n], period=[period])
    gain = scalar_gain(response) if kind == "scalar" else correction_gain(response)
    found = ops.boundary_spectral_conv(x, weight, [gain], period=period)
    exact = ops.boundary_spectral_conv(x.double(), weight.double(), [gain], period=period)
    assert deviation(found, exact) <= 2e-6


@pytest.mark.parametrize("n", [128, 1024])
@pytest.mark.parametrize("kind", ["scalar", "ridge", "no ridge", "no ridge, neighbours"])
def test_float32_gradients_are_accurate_however_large_the_shifts(kind: str, n: int) -> None:
    """Without a ridge shifts and gradients at the ends outweigh the rest by orders."""
    g = seeded("gradients", kind, n)
    m, channels = 16, 16
    weight = initial_weight(g, m, channels).float()
    x, up = normal(g, 4, channels, n).float(), normal(g, 4, channels, n)
    near = kind in ("scalar", "no ridge, neighbours")
    period = float(n) if near else float(round(1.125 * (n - 1)))
    response = end_response(weight.double(), 0, sizes=[n], period=[period])
    ridge = 0.1 if kind == "ridge" else 0.0
    gain = scalar_gain(response) if kind == "scalar" else correction_gain(response, ridge=ridge)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaves = [x.to(dtype), weight.to(dtype), gain.clone()]
        inputs = [t.requires_grad_() for t in leaves]
        y = ops.boundary_spectral_conv(inputs[0], inputs[1], [inputs[2]], period=period)
        found.append(torch.autograd.grad(y, inputs, up.to(dtype)))
    for a, b in zip(*found, strict=True):
        assert deviation(a, b) <= 2e-6


# ---- derivatives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(2, 1), (1, 2)], ids=str)
@pytest.mark.parametrize(
    "grid",
    [((6,), (3,), (7.3,)), ((4, 5), (4, 3), (4, 6)), ((3, 4, 3), (2, 2, 2), (3, 4, 4.5))],
    ids=["1", "2", "3"],
)
def test_gradients_of_every_order(grid: Any, channels: tuple[int, int]) -> None:
    apply, leaves = flat(
        ops.boundary_spectral_conv, problem(grid, channels=channels, faces=True), grid[2]
    )
    inputs = tuple(t.requires_grad_() for t in leaves)
    assert gradcheck(apply, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(apply, inputs, fast_mode=True)


def test_transforms_agree_with_calls_one_by_one() -> None:
    grid = GRIDS[9]
    x, weight, gains, values, stencils = problem(grid, batch=(3, 2), faces=True)

    def call(x: Tensor, weight: Tensor, values: list[Tensor]) -> Tensor:
        return ops.boundary_spectral_conv(
            x, weight, gains, period=grid[2], values=values, stencils=stencils
        )

    found = vmap(call, in_dims=(0, None, 0))(x, weight, values)
    one = [call(x[i], weight, [v[i] for v in values]) for i in range(3)]
    same_bits([found], [torch.stack(one)])
    shared = [v[0] for v in values]
    found = vmap(call, in_dims=(0, None, None))(x, weight, shared)
    assert deviation(found, torch.stack([call(x[i], weight, shared) for i in range(3)])) <= 1e-14
    weights = torch.stack([weight, 2 * weight, -weight])
    found = vmap(call, in_dims=(None, 0, None))(x[0], weights, shared)
    assert deviation(found, torch.stack([call(x[0], w, shared) for w in weights])) <= 1e-14

    def loss(weight: Tensor, x: Tensor, values: list[Tensor]) -> Tensor:
        return (call(x, weight, values) ** 3).sum()

    per_item = vmap(grad(loss), in_dims=(None, 0, 0))(weight, x, values)
    for i in range(3):
        single = grad(loss)(weight, x[i], [v[i] for v in values])
        assert deviation(per_item[i], single) <= 1e-12
    twice = grad(lambda w: grad(loss)(w, x[0], shared).square().sum())(weight)
    leaf = weight.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(leaf, x[0], shared), leaf, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), leaf)
    assert deviation(twice, expected) <= 1e-11


def test_compiled_and_exported_without_a_graph_break() -> None:
    grid = GRIDS[9]
    given = problem(grid, faces=True)
    apply, leaves = flat(ops.boundary_spectral_conv, given, grid[2])
    compiled = torch.compile(apply, fullgraph=True, backend="aot_eager")
    ours = [t.clone().requires_grad_() for t in leaves]
    theirs = [t.clone().requires_grad_() for t in leaves]
    y, expected = compiled(*ours), apply(*theirs)
    same_bits([y], [expected])
    same_bits(
        torch.autograd.grad(y.square().sum(), ours),
        torch.autograd.grad(expected.square().sum(), theirs),
    )

    class Layer(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return apply(x, *leaves[1:4])

    plain = problem(grid)
    apply, leaves = flat(ops.boundary_spectral_conv, plain, grid[2])
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(Layer(), (plain[0],), dynamic_shapes=({0: batch},))
    wide = normal(seeded("export"), 5, *plain[0].shape[1:])
    same_bits([program.module()(wide)], [Layer()(wide)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("grid", [GRIDS[5], GRIDS[9]], ids=["1", "2"])
def test_the_raw_ops_are_registered_correctly(grid: Any, dtype: torch.dtype) -> None:
    x, weight, gains, values, stencils = problem(grid, faces=True)
    tensors = [
        x.to(dtype).requires_grad_(),
        weight.to(dtype).requires_grad_(),
        *(g.requires_grad_() if g.numel() else g for g in three(gains, torch.float64)),
        *three(values, dtype),
        *three(stencils, torch.float64),
    ]
    period = [float(p) for p in grid[2]]
    op = torch.ops.physcon.boundary_spectral_conv.default
    opcheck(op, (*tensors, period))
    y, spectrum, shifts = op(*tensors, period)
    saved = [t.detach() for t in (spectrum, shifts, *tensors[1:])]
    adjoint = torch.ops.physcon.boundary_spectral_conv_backward.default
    opcheck(adjoint, (y.detach(), *saved, period, True, True, True, True))


def test_the_backward_pass_keeps_the_spectrum_and_not_the_input() -> None:
    n, m, channels = 1024, 16, 8
    x = torch.randn(4, channels, n, requires_grad=True)
    weight = torch.randn(m, channels, channels, 2, requires_grad=True)
    gain = torch.randn(1, 4 * channels, 2 * channels, 2, dtype=torch.float64)
    kept: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        ops.boundary_spectral_conv(x, weight, [gain])
    own = {t.data_ptr() for t in (weight, gain)}
    size = sum(t.numel() * t.element_size() for t in kept if t.data_ptr() not in own)
    record = 6 * channels * 8 * 4  # end values and shifts in double precision
    assert size <= 2 * m / n * x.numel() * 4 + record


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("grid", [GRIDS[i] for i in (2, 5, 8, 11, 12)], ids=str)
def test_the_composite_for_other_devices_gives_the_same_numbers(
    grid: Any, dtype: torch.dtype
) -> None:
    for axes, parts in [((0,), 1), (tuple(range(len(grid[0]))), 2)]:
        x, weight, gains, values, stencils = problem(grid, axes=axes, parts=parts, faces=True)
        arguments = [
            x.to(dtype),
            weight.to(dtype),
            *three(gains, torch.float64),
            *three(values, dtype),
            *three(stencils, torch.float64),
            [float(p) for p in grid[2]],
        ]
        ours = torch.ops.physcon.boundary_spectral_conv(*arguments)
        theirs = COMPOSITES["boundary_spectral_conv"](*arguments)
        up = normal(seeded("up", grid), *ours[0].shape).to(dtype)
        rest = (*arguments[1:], True, True, True, True)
        adjoint = torch.ops.physcon.boundary_spectral_conv_backward
        composite = COMPOSITES["boundary_spectral_conv_backward"]
        pairs = [*zip(ours, theirs, strict=True)]
        pairs += zip(adjoint(up, *ours[1:], *rest), composite(up, *theirs[1:], *rest), strict=True)
        for a, b in pairs:
            assert a.dtype == b.dtype and a.stride() == b.stride()
            assert deviation(a, b) <= (1e-12 if dtype == torch.float64 else 1e-5)


# ---- dtypes, layouts, threads --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_computes_in_float32_and_returns_the_dtype_of_the_input(
    dtype: torch.dtype,
) -> None:
    grid = GRIDS[9]
    x, weight, gains, values, stencils = problem(grid, faces=True)
    x, values = x.to(dtype), to(dtype, values)
    zero: Maybe = [torch.zeros_like(s) for s in stencils]
    with torch.autocast("cpu", dtype=dtype):
        found = ops.boundary_spectral_conv(
            x, weight.float(), gains, period=grid[2], values=values, stencils=zero
        )
    assert found.dtype == dtype
    exact = ops.boundary_spectral_conv(
        x.float(),
        weight.float(),
        gains,
        period=grid[2],
        values=to(torch.float32, values),
        stencils=zero,
    )
    assert torch.equal(found, exact.to(dtype))
    assert torch.equal(found[..., -1], values[-1][:, :, 1].expand_as(found[..., -1]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout: str) -> None:
    move = LAYOUTS[layout]
    x, weight, gains, values, stencils = problem(GRIDS[9], faces=True)
    expected = ops.boundary_spectral_conv(
        x, weight, gains, period=GRIDS[9][2], values=values, stencils=stencils
    )
    found = ops.boundary_spectral_conv(
        move(x),
        move(weight),
        [move(t) for t in gains],
        period=GRIDS[9][2],
        values=[move(t) for t in values],
        stencils=[move(t) for t in stencils],
    )
    same_bits([found], [expected])


def test_empty_batches_have_empty_results_and_zero_gradients() -> None:
    given = problem(GRIDS[9], batch=(0,), faces=True)
    y, *grads = both(ops.boundary_spectral_conv, given, GRIDS[9][2], torch.zeros(0, 2, 6, 9))
    assert y.shape == (0, 2, 6, 9)
    assert all(not g.any() for g in grads)


THREADS = [
    ((300,), (16,), (337.5,)),
    ((40, 32), (12, 9), (40, 32)),
    ((9, 8, 10), (6, 4, 4), (9, 10, 12)),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("grid", THREADS, ids=["1", "2", "3"])
def test_the_same_bits_for_any_number_of_threads(grid: Any, dtype: torch.dtype) -> None:
    x, weight, gains, values, stencils = problem(grid, batch=(5,), channels=(5, 7), faces=True)
    given = (x.to(dtype), weight.to(dtype), gains, to(dtype, values), stencils)
    up = normal(seeded("up"), 5, 7, *grid[0])
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(both(ops.boundary_spectral_conv, given, grid[2], up))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        same_bits(other, results[0])


@pytest.mark.parametrize("grid", THREADS, ids=["1", "2", "3"])
def test_any_split_of_the_batch_gives_the_same_bits(grid: Any) -> None:
    given = problem(grid, batch=(5,), channels=(5, 7), faces=True)
    up = normal(seeded("up"), 5, 7, *grid[0])
    whole = both(ops.boundary_spectral_conv, given, grid[2], up)
    for i in range(5):
        one = (given[0][i : i + 1], *given[1:3], [v[i : i + 1] for v in given[3]], given[4])
        single = both(ops.boundary_spectral_conv, one, grid[2], up[i : i + 1])
        same_bits(single[:2], [t[i : i + 1] for t in whole[:2]])


def results(dtype: torch.dtype) -> list[Tensor]:
    found = []
    for grid in THREADS:
        x, weight, gains, values, stencils = problem(grid, batch=(3,), channels=(5, 7), faces=True)
        given = (x.to(dtype), weight.to(dtype), gains, to(dtype, values), stencils)
        up = normal(seeded("up"), 3, 7, *grid[0])
        found += both(ops.boundary_spectral_conv, given, grid[2], up)
        found.append(ops.end_response(given[1], 0, size=grid[0], period=grid[2]))
        # The whole layer, whose pass over the output is code of its own.
        skip, bias = normal(seeded("skip"), 5, 7), normal(seeded("bias"), 7)
        leaf = [t.to(dtype).requires_grad_() for t in (x, weight, skip, bias)]
        rest = {"gains": gains, "values": given[3], "stencils": stencils}
        y = ops.fno_block(*leaf, period=grid[2], **rest)
        found += [y.detach(), *torch.autograd.grad(y, leaf, up.to(dtype))]
    return found


@pytest.mark.parametrize("isa", list(physcon_ext.build_info()["isa_available"]))
def test_each_instruction_set_gives_the_same_numbers(isa: str, tmp_path: Path) -> None:
    code = (
        "import sys, torch, test_ops_boundary_spectral_conv as t\n"
        "found = {d: t.results(d) for d in (torch.float64, torch.float32)}\n"
        "torch.save(found, sys.argv[1])\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PHYSCON_ISA": isa, "PYTHONPATH": path}
    out = tmp_path / "found.pt"
    subprocess.run([sys.executable, "-c", code, str(out)], env=environment, check=True, timeout=300)
    for dtype, found in torch.load(out).items():
        for a, b in zip(found, results(dtype), strict=True):
            assert deviation(a, b) <= (1e-12 if dtype == torch.float64 else 1e-5)


# ---- bad input -----------------------------------------------------------------------------------

_X, _W = torch.zeros(2, 3, 8), torch.zeros(4, 3, 2, 2)
_G = torch.zeros(1, 10, 6, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("x", "weight", "gains", "error", "message"),
    [
        (_X, _W, [], ValueError, "1 entries, one per axis"),
        (_X, _W, [_G, None], ValueError, "1 entries, one per axis"),
        (_X, _W, [_G.float()], TypeError, "float64 tensor"),
        (_X, _W, [1.0], TypeError, "float64 tensor"),
        (_X, _W, [_G[:, :-1]], ValueError, r"\(1, 10, 6, 2\)"),
        (_X, _W, [_G[0]], ValueError, r"\(1, 10, 6, 2\)"),
        (_X[..., :1], _W[:1], [_G], ValueError, "at least 2 points"),
        (_X.half(), _W.bfloat16(), [_G], TypeError, "one storage dtype"),
        (_X, _W.double(), [_G], TypeError, "same dtype"),
        (_X[:, :2], _W, [_G], ValueError, "expected x to have shape"),
    ],
)
def test_bad_input_is_named(
    x: Tensor, weight: Tensor, gains: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.boundary_spectral_conv(x, weight, gains)


def test_the_raw_op_checks_shapes_itself() -> None:
    empty, none = torch.empty(0), torch.empty(0, dtype=torch.float64)
    rest = (none, none, empty, empty, empty, none, none, none, [8.0])
    op = torch.ops.physcon.boundary_spectral_conv
    with pytest.raises(RuntimeError, match="expected gain_0 to have shape"):
        op(_X, _W, _G[:, :3], *rest)
    with pytest.raises(RuntimeError, match="expected gain_1 to be empty"):
        op(_X, _W, _G, _G, *rest[1:])
