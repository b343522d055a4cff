# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels of the convolutions on the CPU, under the shim and its sanitizers.

The oracle is the composite in float64 and complex128, dense Fourier matrices, which shares no code
with the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import simt_driver as simt
import simt_spectral as spectral
from op_suite import deviation, normal, seeded
from physcon_ext.ops._faces import assign_by_formula, prescribed
from physcon_ext.ops.composite import COMPOSITES
from simt_spectral import Call


# Rounding of the operands and of sums of at most 128 terms before they are set aside.
LIMIT = {torch.float32: 2e-6, torch.float64: 1e-14}
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(scope="module")
def fibers() -> Path:
    return spectral.build("fibers")


@pytest.fixture(scope="module")
def threads() -> Path:
    return spectral.build("threads")


def wide(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) else value


def filled(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Without what stands for an axis that has nothing."""
    return [t for t in tensors if t.numel()]


def check(program: Path, calls: list[Call]) -> None:
    for call, answer in zip(calls, spectral.run(program, calls), strict=True):
        expected = COMPOSITES[call.op](*map(wide, call.arguments))
        expected = (expected,) if isinstance(expected, Tensor) else expected
        given = [a for a in call.arguments if isinstance(a, Tensor)]
        label = (call.op, [tuple(a.shape) for a in given], call.multiprocessors, call.major)
        pairs = zip(filled(answer.outputs), filled(expected), strict=True)
        for i, (found, value) in enumerate(pairs):
            error = deviation(found, value)
            assert error <= LIMIT[given[0].dtype], (*label, i, error)


def convolution(
    size: tuple[int, ...],
    modes: tuple[int, ...],
    period: tuple[float, ...] | None,
    dtype: torch.dtype,
    *,
    batch: tuple[int, ...] = (2,),
    channels: tuple[int, int] = (3, 2),
    multiprocessors: int = 4,
) -> list[Call]:
    """The forward call of a random problem and its adjoint."""
    g = seeded("cuda", size, modes, batch, channels)
    x, grad = (normal(g, *batch, c, *size).to(dtype) for c in channels)
    weight = (normal(g, *modes, *channels, 2) / channels[0]).to(dtype)
    periods = list(map(float, period or size))
    spectrum = COMPOSITES["spectral_conv"](x, weight, periods)[1]
    back = (grad, spectrum, weight, list(size), periods, True, True)
    return [
        Call("spectral_conv", (x, weight, periods), multiprocessors),
        Call("spectral_conv_backward", back, multiprocessors),
    ]


# One point, one mode, all modes, prime, odd, even; several tiles of points and of wavenumbers;
# periods beyond the points, integer and not
LINES: list[tuple[int, int, float | None]] = [
    (1, 1, None),
    (2, 2, None),
    (1, 3, 4.0),
    (9, 1, None),
    (64, 33, None),
    (67, 34, None),
    (101, 7, 113.7),
    (150, 76, 150.0),
    (263, 5, 300.0),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lines_equal_the_oracle(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for i, (n, m, p) in enumerate(LINES):
        for multiprocessors in (1, 40):  # in one piece, and split over the points
            calls += convolution(
                (n,), (m,), p and (p,), dtype, batch=(1 + i % 2,), multiprocessors=multiprocessors
            )
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


CHANNELS = [((1,), 1, 1), ((1,), 33, 1), ((), 1, 33), ((2, 2), 5, 17), ((35,), 2, 3)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_number_of_channels_and_items(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for batch, c_in, c_out in CHANNELS:
        calls += convolution((37,), (6,), None, dtype, batch=batch, channels=(c_in, c_out))
    check(fibers, calls)


PLANES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...] | None]] = [
    ((6, 5), (2, 3), None),
    ((12, 10), (12, 6), None),
    ((13, 9), (6, 3), (16.0, 9.5)),
    ((3, 70), (2, 20), None),
    ((3, 40), (2, 5), None),  # whole runs of four points, and points one by one
    ((5, 6, 7), (4, 6, 4), None),
    ((4, 3, 20), (2, 2, 9), (5.0, 4.5, 24.0)),
]
# Several tiles of rows and wavenumbers of the last axis, and of those of the others.
TILED_PLANES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...] | None]] = [
    ((130, 131), (4, 66), None),
    ((70, 9), (70, 5), None),
    ((3, 70, 4), (2, 36, 3), None),
    ((66, 4, 5), (66, 2, 3), (70.0, 4.0, 5.0)),
]
# A block per plane needs as many planes as multiprocessors; else one axis after the other.
WHOLE, BY_AXIS = 1, 1000


@pytest.mark.parametrize("multiprocessors", [WHOLE, BY_AXIS], ids=["whole", "by axis"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_planes_and_volumes_equal_the_oracle(
    fibers: Path, dtype: torch.dtype, multiprocessors: int
) -> None:
    calls = []
    for size, modes, period in PLANES:
        calls += convolution(size, modes, period, dtype, multiprocessors=multiprocessors)
    for size, modes, period in TILED_PLANES if multiprocessors == WHOLE else []:
        calls += convolution(
            size, modes, period, dtype, batch=(), channels=(1, 1), multiprocessors=1
        )
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


def test_the_last_axis_of_planes_and_volumes_may_take_the_matrix_units(fibers: Path) -> None:
    """With many modes: within the bound of single precision, coarser where that is allowed."""
    for size, modes in (((5, 60), (4, 30)), ((2, 4, 60), (2, 2, 30))):
        calls = convolution(size, modes, None, torch.float32, multiprocessors=WHOLE)
        check(fibers, calls)
        quick = [replace(call, tf32=True) for call in calls]
        fine, coarse = (spectral.run(fibers, given) for given in (calls, quick))
        for a, b in zip(fine, coarse, strict=True):
            assert not torch.equal(a.outputs[0], b.outputs[0])
            assert deviation(b.outputs[0], a.outputs[0].double()) <= 1e-3


def test_whole_planes_and_volumes_take_three_launches(fibers: Path) -> None:
    """Forwards and backwards; by axis more, and so where no block can hold the panels."""
    for size, modes, _ in ((12, 10), (6, 4), None), ((5, 6, 7), (4, 6, 4), None):
        for multiprocessors, launches in ((WHOLE, 3), (BY_AXIS, 2 * len(size) + 1)):
            calls = convolution(size, modes, None, torch.float32, multiprocessors=multiprocessors)
            assert {a.launches for a in spectral.run(fibers, calls)} == {launches}
    (large, _) = convolution(
        (24, 24, 44), (2, 24, 23), None, torch.float64, batch=(), channels=(1, 1), multiprocessors=1
    )
    assert spectral.run(fibers, [large])[0].launches == 7


# ---- face rules and corrected convolutions -------------------------------------------------------


def rules(
    g: torch.Generator, batch: tuple[int, ...], channels: int, size: tuple[int, ...], kind: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Data and stencils per axis, one kind after the other: broadcast, zero, none, wide."""
    values, stencils = [torch.empty(0)] * 3, [torch.empty(0, dtype=torch.float64)] * 3
    for axis in range(len(size)):
        choice = (axis + kind) % 4
        if choice == 2 or size[axis] < 2:
            continue
        rest = [n for i, n in enumerate(size) if i != axis]
        if choice == 0:
            values[axis] = normal(g, *(1,) * len(batch), 1, 2, *(1,) * len(rest))
        else:
            values[axis] = normal(g, *batch, channels, 2, *rest)
        width = min(3 if choice < 3 else 20, size[axis] - 1)
        stencils[axis] = normal(g, 2, width) * (0.0 if choice == 1 else 0.3)
    return values, stencils


FIELDS = [((2,), (2,)), ((3,), (67,)), ((), (5, 4)), ((2,), (3, 7)), ((2,), (4, 5, 6))]


def face_calls(
    batch: tuple[int, ...], size: tuple[int, ...], kind: int, dtype: torch.dtype
) -> list[Call]:
    """Face rules of a kind on a random field, and the adjoint."""
    g = seeded("faces", kind, size)
    u = normal(g, *batch, 3, *size).to(dtype)
    values, stencils = rules(g, batch, 3, size, kind)
    given = (u, *(v.to(dtype) for v in values), *stencils, len(size))
    return [Call("assign_faces", given), Call("assign_faces_backward", (*given, True))]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_faces_equal_the_oracle(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for kind in range(4):
        for batch, size in FIELDS:
            calls += face_calls(batch, size, kind, dtype)
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


def corrected(
    size: tuple[int, ...],
    modes: tuple[int, ...],
    period: tuple[float, ...] | None,
    dtype: torch.dtype,
    *,
    kind: int = 0,
    axes: Sequence[int] = (0, 1, 2),
    parts: int = 2,
    batch: tuple[int, ...] = (2,),
    channels: tuple[int, int] = (3, 2),
    **cut: int,
) -> list[Call]:
    """A corrected convolution with gains on `axes` and face rules of a kind, and its adjoint."""
    g = seeded("corrected", size, modes, batch, channels, parts)
    c_in, c_out = channels
    x, grad = (normal(g, *batch, c, *size).to(dtype) for c in channels)
    weight = (normal(g, *modes, c_in, c_out, 2) / c_in).to(dtype)
    gains = [torch.empty(0, dtype=torch.float64)] * 3
    for axis in axes:
        if axis < len(size):
            others = weight[..., 0, 0, 0].numel() // modes[axis]
            gains[axis] = normal(g, others, 2 * (c_in + c_out), 2 * c_in, parts) / (2 * c_in)
    values, stencils = rules(g, batch, c_out, size, kind)
    rest = (*gains, *(v.to(dtype) for v in values), *stencils, list(map(float, period or size)))
    _, spectrum, shifts = COMPOSITES["boundary_spectral_conv"](x, weight, *rest)
    back = (grad, spectrum, shifts, weight, *rest, True, True, True, True)
    return [
        Call("boundary_spectral_conv", (x, weight, *rest), **cut),
        Call("boundary_spectral_conv_backward", back, **cut),
    ]


# Two points, one mode, all modes, prime, long, periods beyond the points
CORRECTED_LINES: list[tuple[int, int, float | None]] = [
    (2, 1, None),
    (2, 2, None),
    (9, 1, None),
    (12, 7, None),
    (13, 4, None),
    (67, 5, 70.3),
    (150, 3, 160.0),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("major", [8, 9])
def test_corrected_lines_equal_the_oracle(fibers: Path, major: int, dtype: torch.dtype) -> None:
    calls = []
    for i, (n, m, p) in enumerate(CORRECTED_LINES):
        calls += corrected(
            (n,),
            (m,),
            p and (p,),
            dtype,
            kind=i % 4,
            parts=1 + i % 2,
            multiprocessors=(1, 40)[i % 2],
            major=major,
        )
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_corrected_lines_with_any_number_of_channels(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for batch, c_in, c_out in (((1,), 33, 1), ((), 1, 17), ((2, 3), 5, 9)):
        calls += corrected((16,), (2,), None, dtype, batch=batch, channels=(c_in, c_out))
    calls += corrected((16,), (3,), None, dtype, axes=())
    check(fibers, calls)


CORRECTED_GRIDS: list[
    tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...] | None, tuple[int, ...]]
] = [
    ((7, 6), (4, 4), None, (0, 1)),
    ((6, 8), (6, 5), None, (0, 1)),  # Nyquist on both axes
    ((6, 9), (4, 3), (7.3, 10.0), (1,)),
    ((4, 4, 4), (4, 4, 3), None, (0, 1, 2)),
    ((5, 4, 6), (4, 4, 4), (5.5, 4.0, 6.0), (0, 2)),
    ((5, 6), (2, 2), None, ()),
]


@pytest.mark.parametrize("multiprocessors", [WHOLE, BY_AXIS], ids=["whole", "by axis"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_corrected_grids_equal_the_oracle(
    fibers: Path, dtype: torch.dtype, multiprocessors: int
) -> None:
    calls = []
    for i, (size, modes, period, axes) in enumerate(CORRECTED_GRIDS):
        given: Any = dict(kind=i % 4, axes=axes, parts=1 + i % 2, multiprocessors=multiprocessors)
        calls += corrected(size, modes, period, dtype, **given, major=9 - i // 2 % 2)
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


def test_orbits_of_grids_that_are_transformed_by_axis(fibers: Path) -> None:
    """More multiprocessors than planes, but not than blocks of the orbits."""
    calls = []
    for size, modes, period, axes in CORRECTED_GRIDS[::3]:
        calls += corrected(size, modes, period, torch.float32, axes=axes, multiprocessors=8)
    check(fibers, [call.seeded(seed) for seed, call in enumerate(calls)])


def test_corrected_axes_of_whole_planes_take_three_launches(fibers: Path) -> None:
    """Any of them, with face rules. Backwards five, sums of the data of faces included."""
    for size, modes in (((7, 6), (4, 4)), ((5, 4, 6), (4, 4, 3))):
        d = len(size)
        for axes in (axes for n in range(1, d + 1) for axes in combinations(range(d), n)):
            given: Any = dict(axes=axes, multiprocessors=WHOLE, major=8 + len(axes) % 2)
            calls = corrected(size, modes, None, torch.float32, batch=(), **given)
            forward, backward = (a.launches for a in spectral.run(fibers, calls))
            assert (forward, backward) == (3, 5), (size, axes)


# ---- what a Fourier layer adds -------------------------------------------------------------------


def layer(x: Tensor, z: Tensor, skip: Tensor, bias: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Output and what the activation saw, by formula."""
    values, stencils, d, activated = rest[:3], rest[3:6], rest[6], rest[7]
    u = z + torch.einsum("...ip,io->...op", x.flatten(-d), skip).reshape(z.shape)
    u = assign_by_formula(u + bias.reshape(-1, *(1,) * d), values, stencils, d)
    if not activated:
        return u, u
    return torch.where(prescribed(stencils, z.shape[-d:]), u, torch.nn.functional.gelu(u)), u


def layer_calls(
    i: int,
    batch: tuple[int, ...],
    size: tuple[int, ...],
    channels: tuple[int, int],
    activated: int,
    kind: int,
    dtype: torch.dtype,
) -> list[tuple[Call, list[Tensor]]]:
    """A layer with face rules of a kind and its adjoint, each with what it should return."""
    g, d = seeded("layer", i, activated), len(size)
    c_in, c_out = channels
    x, z, grad = (normal(g, *batch, c, *size) for c in (c_in, c_out, c_out))
    skip, bias = normal(g, c_in, c_out) / c_in, normal(g, c_out)
    values, stencils = rules(g, batch, c_out, size, kind)
    leaves = [t.to(dtype) for t in (x, z, skip, bias, *values)]
    rest = (*stencils, d, activated)
    exact = [t.double().requires_grad_() for t in leaves]
    y, u = layer(*exact, *rest)
    given = (grad.to(dtype), u.detach().to(dtype), leaves[0], *leaves[4:], *rest)
    found = torch.autograd.grad(y, exact[1:], grad.to(dtype).double(), allow_unused=True)
    gradients = [f for f in found if f is not None and f.numel()]
    faces = any(v.numel() for v in values)
    return [
        (Call("pointwise", (*leaves, *rest), 1 + 20 * i), [y, u][: 2 if activated == 2 else 1]),
        (
            Call("pointwise_backward", given, 1 + 20 * i),
            gradients if activated or faces else gradients[1:],
        ),
    ]


def check_layers(program: Path, calls: list[tuple[Call, list[Tensor]]], dtype: torch.dtype) -> None:
    answers = spectral.run(program, [call for call, _ in calls])
    for (call, expected), answer in zip(calls, answers, strict=True):
        for a, b in zip(filled(answer.outputs), expected, strict=True):
            error = deviation(a, b.detach(), torch.ones(1))
            assert error <= LIMIT[dtype], (call.op, a.shape, error)


LAYERS = [((), (33,), 1, 1), ((2,), (70,), 5, 3), ((3,), (9, 7), 33, 2), ((1,), (4, 3, 5), 2, 65)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layers_equal_the_formula_and_its_gradients(fibers: Path, dtype: torch.dtype) -> None:
    calls = []
    for i, (batch, size, c_in, c_out) in enumerate(LAYERS):
        for activated in range(3):
            calls += layer_calls(i, batch, size, (c_in, c_out), activated, i + activated, dtype)
    check_layers(fibers, calls, dtype)


# Points, modes, period, channels, kind of face rule, axis corrected: several tiles of points and of
# channels, one item and more, no face rule, a broadcast, a constant and a wide one
LAYERED: list[tuple[int, int, float | None, tuple[int, int], int, bool]] = [
    (2, 2, None, (1, 1), 0, False),
    (9, 1, None, (3, 2), 0, True),
    (33, 17, None, (2, 70), 1, False),
    (64, 5, 70.5, (33, 3), 2, False),
    (67, 6, None, (5, 65), 0, True),
    (101, 7, 113.7, (4, 4), 2, True),
    (300, 70, None, (2, 3), 0, False),
]


def line_layers(dtype: torch.dtype, *, bare: bool = False) -> list[Call]:
    """Fourier layers on a line, in the launches of their convolution."""
    calls = []
    for i, (n, m, period, (c_in, c_out), kind, gained) in enumerate(LAYERED):
        (call, _) = corrected(
            *((n,), (m,), period and (period,), dtype),
            **dict(kind=kind, axes=(0,) if gained else (), parts=1 + i % 2),
            **dict(batch=(1 + i % 3,), channels=(c_in, c_out)),
        )
        x, weight, *rest, periods = call.arguments
        g = seeded("line layer", i)
        skip = (normal(g, c_in, c_out) / c_in).to(dtype)
        bias = normal(g, c_out).to(dtype)
        if bare:
            skip = bias = torch.empty(0, dtype=dtype)
        for activated, keep in ((False, False), (True, False), (True, True)):
            given = (x, weight, skip, bias, *rest, periods, activated, keep)
            calls.append(Call("fno_block", given, (1, 40)[i % 2], seed=i))
    return calls


@pytest.mark.parametrize("bare", [False, True], ids=["whole", "bare"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layers_of_a_line_equal_the_oracle(fibers: Path, dtype: torch.dtype, bare: bool) -> None:
    check(fibers, line_layers(dtype, bare=bare))


def test_a_layer_of_a_line_takes_three_launches(fibers: Path) -> None:
    calls = line_layers(torch.float32)
    assert {a.launches for a in spectral.run(fibers, calls)} == {3}


def test_a_layer_keeps_what_a_constant_rule_assigns(fibers: Path) -> None:
    """Bit for bit: neither skip nor bias nor activation reach a prescribed end."""
    call = next(
        c for c in line_layers(torch.float32) if c.arguments[7].numel() and all(c.arguments[-2:])
    )
    values, stencils = call.arguments[7], torch.zeros_like(call.arguments[10])
    given = (*call.arguments[:10], stencils, *call.arguments[11:])
    (answer,) = spectral.run(fibers, [Call("fno_block", given)])
    for found in answer.outputs[:2]:
        ends = found[..., [0, -1]]
        assert torch.equal(ends, values.expand_as(ends))


def test_the_tail_of_the_activation_keeps_its_relative_accuracy(fibers: Path) -> None:
    z = torch.linspace(-12, 6, 400).reshape(1, 1, -1)
    nothing, none = torch.empty(0), torch.empty(0, dtype=torch.float64)
    zero, bias = torch.zeros(1, 1), torch.zeros(1)
    rest = (*[nothing] * 3, *[none] * 3, 1, 1)
    (answer,) = spectral.run(fibers, [Call("pointwise", (z, z, zero, bias, *rest))])
    exact = 0.5 * z.double() * torch.special.erfc(-z.double() / math.sqrt(2))
    assert ((answer.outputs[0].double() - exact) / exact).abs().max() <= 2e-6


def test_no_two_threads_race(threads: Path) -> None:
    calls = convolution((67,), (9,), None, torch.float64, multiprocessors=8)
    calls += convolution((6, 5), (2, 3), None, torch.float32, multiprocessors=2)
    calls += corrected((9,), (2,), None, torch.float32, multiprocessors=2)
    small: Any = dict(batch=(), channels=(2, 1), multiprocessors=WHOLE)
    calls += convolution((3, 4, 5), (2, 2, 2), None, torch.float64, **small)
    calls += corrected((4, 5), (2, 2), None, torch.float32, axes=(0, 1), **small)
    check(threads, calls)
    for dtype, size, activated in ((torch.float32, (23,), 1), (torch.float64, (5, 7), 2)):
        check_layers(threads, layer_calls(2, (2,), size, (3, 5), activated, 0, dtype), dtype)
    check(threads, [line_layers(torch.float32)[5], line_layers(torch.float64)[14]])


def test_a_corrected_line_takes_three_launches(fibers: Path) -> None:
    """Analysis, all that lies between, synthesis with the faces; the sums split or not."""
    for multiprocessors in (1, 40):
        (call, _) = corrected((67,), (9,), None, torch.float32, multiprocessors=multiprocessors)
        (answer,) = spectral.run(fibers, [call])
        assert answer.launches <= 3


def test_two_orders_of_threads_give_the_same_bits(fibers: Path) -> None:
    calls = convolution((150,), (9,), None, torch.float32, multiprocessors=16)
    first = spectral.run(fibers, [c.seeded(1) for c in calls])
    second = spectral.run(fibers, [c.seeded(2) for c in calls])
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a.outputs, b.outputs, strict=True):
            assert torch.equal(x, y)


def test_which_cluster_takes_an_orbit_changes_no_bit(fibers: Path) -> None:
    """Neither do clusters that run side by side."""
    calls = corrected((5, 6), (4, 3), None, torch.float32, multiprocessors=WHOLE)
    first, *others = ([c.seeded(seed) for c in calls] for seed in range(4))
    expected = spectral.run(fibers, first)
    for given in others:
        for a, b in zip(expected, spectral.run(fibers, given), strict=True):
            assert all(map(torch.equal, filled(a.outputs), filled(b.outputs)))


def test_an_item_has_the_same_bits_in_any_order_of_the_batch(fibers: Path) -> None:
    (call, _) = convolution((67,), (9,), None, torch.float32, batch=(3,))
    x, weight, periods = call.arguments
    turned = Call("spectral_conv", (x.flip(0), weight, periods))
    a, b = spectral.run(fibers, [call, turned])
    assert torch.equal(a.outputs[0], b.outputs[0].flip(0))


# ---- what is broken on purpose must be found -----------------------------------------------------


def test_blocks_of_a_cluster_that_do_not_wait_are_found(fibers: Path) -> None:
    """Every barrier between the stages of a corrected line matters."""
    name = "boundary_line.cuh"
    text = (simt.KERNELS / name).read_text()
    places = [i for i in range(len(text)) if text.startswith("    cluster.sync();\n", i)]
    assert len(places) == 6  # three per direction
    (call, _) = corrected((12,), (7,), None, torch.float64)
    check(fibers, [call])
    missing = text[: places[0]] + text[places[0] :].replace("    cluster.sync();\n", "", 1)
    program = spectral.build("fibers", {name: missing})
    with pytest.raises((simt.Failure, AssertionError)):
        check(program, [call.seeded(seed) for seed in range(3)])


def test_blocks_of_an_orbit_that_do_not_wait_are_found(fibers: Path) -> None:
    name, barrier = "boundary_orbit.cuh", "    block.cluster.sync();\n"
    text = (simt.KERNELS / name).read_text()
    assert text.count(barrier) == 6  # three per direction
    (call, _) = corrected((5, 6), (4, 3), None, torch.float64, axes=(1,), multiprocessors=WHOLE)
    check(fibers, [call])
    program = spectral.build("fibers", {name: text.replace(barrier, "", 1)})
    with pytest.raises((simt.Failure, AssertionError)):
        check(program, [call.seeded(seed) for seed in range(3)])


@pytest.mark.parametrize(
    ("whole", "broken", "found"),
    [
        # Tasks in the order of the steps, not of the blocks: else all that run wait for none.
        ("c.tickets.take(cluster, reinterpret_cast<unsigned*>(shared_memory()))", None, "endless"),
        ("c.tickets.wait(step - 1, before);", "", None),
    ],
)
def test_orbits_that_do_not_wait_for_the_axis_before_are_found(
    fibers: Path, whole: str, broken: str | None, found: str | None
) -> None:
    name = "boundary_orbit.cuh"
    text = (simt.KERNELS / name).read_text()
    assert text.count(whole) == 1
    given: Any = dict(axes=(0, 1), batch=(), multiprocessors=WHOLE, major=8)
    (call, _) = corrected((5, 6), (4, 3), None, torch.float64, **given)
    calls = [call.seeded(seed) for seed in range(1, 9, 2)]  # two blocks side by side
    check(fibers, calls)
    broken = "blockIdx.x" if broken is None else broken
    program = spectral.build("fibers", {name: text.replace(whole, broken)})
    with pytest.raises((simt.Failure, AssertionError), match=found):
        check(program, calls)


def test_a_panel_that_is_read_too_early_is_found(fibers: Path) -> None:
    """The barrier between the halves of a folded axis and their sums."""
    name = "spectral_plane.cuh"
    text = (simt.KERNELS / name).read_text()
    barrier = "            });\n            __syncthreads();\n"
    assert text.count(barrier) == 1
    (call, _) = convolution((7, 6), (4, 3), None, torch.float64, multiprocessors=WHOLE)
    check(fibers, [call])
    program = spectral.build("fibers", {name: text.replace(barrier, "            });\n")})
    with pytest.raises((simt.Failure, AssertionError)):
        check(program, [call.seeded(seed) for seed in range(3)])


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_a_missing_barrier_is_a_race(threads: Path, skip: int) -> None:
    """The barriers of the product: tile used, tile filled; the first has nothing before it."""
    (call, _) = convolution((150,), (9,), None, torch.float64, multiprocessors=1)
    if skip == 0:
        check(threads, [call.seeded(0, skip)])
        return
    with pytest.raises(simt.Failure, match="data race"):
        spectral.run(threads, [call.seeded(0, skip)])


def test_a_missing_barrier_changes_the_answer(fibers: Path) -> None:
    (call, _) = convolution((150,), (9,), None, torch.float64, multiprocessors=1)
    (whole,) = spectral.run(fibers, [call])
    for skip in (1, 3):
        outputs = []
        for seed in range(3):
            (answer,) = spectral.run(fibers, [call.seeded(seed, skip)])
            outputs.append(answer.outputs[0])
        assert any(not torch.equal(y, whole.outputs[0]) for y in outputs), skip


def test_an_index_off_by_one_is_found(fibers: Path) -> None:
    name = "spectral_tables.cuh"
    text = (simt.KERNELS / name).read_text()
    right = "down(size - 1 - size / 2)"
    assert text.count(right) == 1
    wrong = text.replace(right, right.replace("- 1 -", "-"))
    program = spectral.build("fibers", {name: wrong})
    for call in convolution((31,), (4,), None, torch.float64):
        check(fibers, [call])
        with pytest.raises((simt.Failure, AssertionError)):
            check(program, [call])
