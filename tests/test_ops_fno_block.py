# SPDX-License-Identifier: Apache-2.0
"""The Fourier layer in one op: its parts as oracle, accuracy of the activation, derivatives."""

from __future__ import annotations

from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from op_suite import DTYPES, LAYOUTS, deviation, normal, same_bits, seeded
from physcon_ext import ops, reference


# (sizes, modes, channels in and out, period): blocks of 64 points and their rests, pieces of 1024,
# tiles of 6 channels and their rests, one point, one channel, one to three axes
GRIDS: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, int], float | None]] = [
    ((1,), (1,), (1, 1), None),
    ((37,), (5,), (2, 3), 46.25),
    ((64,), (9,), (6, 7), None),
    ((130,), (20,), (17, 33), None),
    ((2100,), (3,), (3, 13), None),
    ((12, 10), (6, 4), (5, 4), None),
    ((5, 6, 7), (4, 2, 3), (3, 8), None),
]
IDS = ["x".join(map(str, n)) + f"-c{c[0]}.{c[1]}" for n, _, c, _ in GRIDS]
# Sums of N terms in blocks of 256, of M terms and of as many channels; gradients of the matrix and
# of the bias sum over all points in blocks of 64. The oracle rounds as well.
BOUND = {torch.float32: 2e-6, torch.float64: 1e-14}


def problem(
    size: tuple[int, ...],
    modes: tuple[int, ...],
    channels: tuple[int, int] = (3, 2),
    batch: tuple[int, ...] = (2,),
) -> list[Tensor]:
    """x, weight, skip, bias."""
    g = seeded("block", size, modes, batch, channels)
    c_in, c_out = channels
    return [
        normal(g, *batch, c_in, *size),
        normal(g, *modes, c_in, c_out, 2),
        normal(g, c_in, c_out) / c_in**0.5,
        normal(g, c_out),
    ]


def faces_of(
    batch: tuple[int, ...], channels: int, size: tuple[int, ...]
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """First axis: a datum, and a rule with two points; last of several: the first end alone."""
    g = seeded("faces", size)
    values: list[Tensor | None] = [None] * len(size)
    stencils: list[Tensor | None] = [None] * len(size)
    values[0] = normal(g, *batch, channels, 2, *size[1:])
    stencils[0] = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.5, -0.5]], dtype=torch.float64)
    if len(size) > 1:
        value = normal(g, *(1 for _ in batch), 1, 2, *(1 for _ in size[1:]))
        value.select(len(batch) + 1, 1).zero_()
        values[-1] = value
        stencils[-1] = torch.tensor([[0.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
    return values, stencils


def gains_of(
    size: tuple[int, ...], modes: tuple[int, ...], channels: tuple[int, int]
) -> list[Tensor | None]:
    g, (c_in, c_out) = seeded("gains", size), channels
    others = torch.Size(modes[1:]).numel()
    gain = normal(g, others, 2 * (c_in + c_out), 2 * c_in, 2) / (4 * (c_in + c_out))
    return [gain, *[None] * (len(size) - 1)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ["gelu", "none"])
@pytest.mark.parametrize(("size", "modes", "channels", "period"), GRIDS, ids=IDS)
def test_values_and_gradients_equal_the_parts_one_after_the_other(
    size: tuple[int, ...],
    modes: tuple[int, ...],
    channels: tuple[int, int],
    period: float | None,
    activation: str,
    dtype: torch.dtype,
) -> None:
    own = [t.to(dtype).requires_grad_() for t in problem(size, modes, channels, (3,))]
    wide = [t.detach().double().requires_grad_() for t in own]
    options: dict[str, Any] = dict(activation=activation, period=period)
    y = ops.fno_block(*own, **options)
    expected = reference.fno_block(*wide, **options)
    assert deviation(y, expected) <= BOUND[dtype]
    g = normal(seeded("upstream"), *y.shape).to(dtype)
    found = torch.autograd.grad(y, own, g)
    exact = torch.autograd.grad(expected, wide, g.double())
    for a, b in zip(found, exact, strict=True):
        assert deviation(a, b) <= BOUND[dtype]


@pytest.mark.parametrize("given", ["skip", "bias", "neither"])
def test_matrix_and_bias_may_be_missing(given: str) -> None:
    x, w, s, b = problem((40,), (6,))
    skip, bias = s if given == "skip" else None, b if given == "bias" else None
    y = ops.fno_block(x, w, skip, bias)
    assert deviation(y, reference.fno_block(x, w, skip, bias)) <= BOUND[torch.float64]


FACED = [((20,), (5,)), ((9, 8), (4, 3)), ((6, 5, 7), (2, 4, 3))]


@pytest.mark.parametrize("corrected", [False, True], ids=["plain", "corrected"])
@pytest.mark.parametrize("activation", ["gelu", "none"])
@pytest.mark.parametrize(("size", "modes"), FACED, ids=["1d", "2d", "3d"])
def test_faces_and_corrections_equal_the_parts_one_after_the_other(
    size: tuple[int, ...], modes: tuple[int, ...], activation: str, corrected: bool
) -> None:
    tensors = [t.requires_grad_() for t in problem(size, modes)]
    values, stencils = faces_of((2,), 2, size)
    gains = gains_of(size, modes, (3, 2)) if corrected else None
    leaves = [*tensors, *(v.requires_grad_() for v in values if v is not None)]
    leaves += [] if gains is None else [gains[0].requires_grad_()]
    options: dict[str, Any] = dict(activation=activation, values=values, stencils=stencils)
    options["gains"] = gains
    y = ops.fno_block(*tensors, **options)
    expected = reference.fno_block(*tensors, **options)
    assert deviation(y, expected) <= BOUND[torch.float64]
    g = normal(seeded("upstream"), *y.shape)
    found, exact = torch.autograd.grad(y, leaves, g), torch.autograd.grad(expected, leaves, g)
    for a, b in zip(found, exact, strict=True):
        assert deviation(a, b) <= BOUND[torch.float64]


def test_prescribed_ends_keep_their_bits_and_free_ends_are_activated() -> None:
    x, w, s, b = (t.float() for t in problem((50,), (7,)))
    values = torch.tensor([[[-0.7, 0.0]]])
    stencil = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    y = ops.fno_block(x, w, s, b, values=[values], stencils=[stencil])
    assert bool((y[..., 0] == values[0, 0, 0]).all())
    same_bits([y[..., 1:]], [ops.fno_block(x, w, s, b)[..., 1:]])


# ---- the activation ------------------------------------------------------------------------------


def activated(u: Tensor) -> tuple[Tensor, Tensor]:
    """GELU of one line of any length, and its derivative, through the op alone."""
    weight = torch.zeros(1, 1, 1, 2, dtype=u.dtype)
    x = u.reshape(1, -1).clone().requires_grad_()
    y = ops.fno_block(x, weight, torch.ones(1, 1, dtype=u.dtype))
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach().flatten(), slope.flatten()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_activation_keeps_its_digits_in_the_tail(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    reach = 12.8 if dtype == torch.float32 else 37.0
    u = torch.cat([torch.linspace(-reach, reach, 1001), torch.logspace(-20, 0.5, 200)]).to(dtype)
    u = torch.cat([u, -u])
    y, slope = activated(u)
    with mpmath.workdps(40):
        exact = [mpmath.mpf(float(v)) for v in u]
        below = [mpmath.erfc(-v / mpmath.sqrt(2)) / 2 for v in exact]
        values = [v * p for v, p in zip(exact, below, strict=True)]
        slopes = [p + v * mpmath.npdf(v) for v, p in zip(exact, below, strict=True)]
        worst = max(
            abs(mpmath.mpf(float(a)) - e) / abs(e) for a, e in zip(y, values, strict=True) if e != 0
        )
        gap = max(abs(mpmath.mpf(float(a)) - e) for a, e in zip(slope, slopes, strict=True))
    assert worst <= 4 * info.eps
    assert gap <= 2 * info.eps


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_activation_of_huge_infinite_and_missing_numbers(dtype: torch.dtype) -> None:
    inf, nan = torch.inf, torch.nan
    u = torch.tensor([0.0, -60.0, 60.0, 1e30, -1e30], dtype=dtype)
    y, slope = activated(u)
    assert y.tolist() == [0.0, 0.0, 60.0, u[3].item(), 0.0]
    assert slope.tolist() == [0.5, 0.0, 1.0, 1.0, 0.0]
    # The convolution spreads what is not finite; a bias alone does not.
    x, w = torch.zeros(1, 1, 4, dtype=dtype), torch.zeros(1, 1, 3, 2, dtype=dtype)
    y = ops.fno_block(x, w, None, torch.tensor([inf, -inf, nan], dtype=dtype))[0]
    assert bool((y[0] == inf).all()) and bool((y[1] == 0).all()) and bool(y[2].isnan().all())


# ---- derivatives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["kept", "recomputed", "faced"])
def test_gradients_of_every_order_and_mode(case: str) -> None:
    inputs = [t.requires_grad_() for t in problem((5,), (2,), (1, 2))]
    stencils = None
    if case == "faced":
        values, stencils = faces_of((2,), 2, (5,))
        gains = gains_of((5,), (2,), (1, 2))
        inputs += [values[0].requires_grad_(), gains[0].requires_grad_()]

    def function(*tensors: Tensor) -> Tensor:
        rest: dict[str, Any] = {"recompute": case == "recomputed"}
        if case == "faced":
            rest = dict(values=[tensors[4]], stencils=stencils, gains=[tensors[5]])
        return ops.fno_block(*tensors[:4], **rest)

    assert gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
    if case != "recomputed":  # second derivatives never see the difference
        assert gradgradcheck(function, inputs)


def test_recomputing_keeps_less_and_gives_the_same_gradients() -> None:
    inputs = [t.float().requires_grad_() for t in problem((256,), (8,), (4, 5))]
    kept: dict[bool, int] = {}
    found = {}
    for recompute in (False, True):
        memory = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, seen=memory: seen.setdefault(t.data_ptr(), t), lambda t: t
        ):
            y = ops.fno_block(*inputs, recompute=recompute)
        kept[recompute] = sum(t.numel() for t in memory.values())
        found[recompute] = torch.autograd.grad(y.square().sum(), inputs)
    x, *parameters = inputs
    spectrum = x.numel() * 2 * 8 // 256
    assert kept[True] == sum(t.numel() for t in (x, *parameters)) + spectrum
    assert kept[False] == kept[True] + y.numel()
    same_bits(found[True], found[False])


def test_nothing_is_kept_without_a_gradient() -> None:
    x, w, s, b = problem((30,), (4,))
    empty = x.new_empty(0)
    nothing = [empty] * 3 + [empty] * 3 + [empty] * 3
    _, field, *_ = torch.ops.physcon.fno_block.default(x, w, s, b, *nothing, [], True, False)
    assert field.numel() == 0


def raw(
    size: tuple[int, ...], modes: tuple[int, ...], dtype: torch.dtype, *, faced: bool
) -> tuple[Tensor, ...]:
    tensors = [t.to(dtype) for t in problem(size, modes)]
    data, rows = tensors[0].new_empty(0), torch.empty(0, dtype=torch.float64)
    gains, values, stencils = [rows] * 3, [data] * 3, [rows] * 3
    if faced:
        given, rules = faces_of((2,), 2, size)
        for axis, (value, stencil) in enumerate(zip(given, rules, strict=True)):
            if value is not None:
                values[axis], stencils[axis] = value.to(dtype), stencil
        gains[0] = gains_of(size, modes, (3, 2))[0]
    return (*tensors, *gains, *values, *stencils)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("keep", [False, True], ids=["recomputed", "kept"])
@pytest.mark.parametrize("faced", [False, True], ids=["free", "faced"])
def test_opcheck(faced: bool, keep: bool, dtype: torch.dtype) -> None:
    arguments = raw((8, 9), (4, 5), dtype, faced=faced)
    leaves = [t.clone().requires_grad_(i < 10 and t.numel() > 0) for i, t in enumerate(arguments)]
    period = [8.0, 10.5]
    report = opcheck(torch.ops.physcon.fno_block.default, (*leaves, period, True, keep))
    assert set(report.values()) == {"SUCCESS"} and len(report) == 4, report
    y, field, spectrum, shifts = torch.ops.physcon.fno_block.default(*arguments, period, True, keep)
    backward = torch.ops.physcon.fno_block_backward.default
    given = (torch.ones_like(y), field, spectrum, shifts, *arguments, period, True)
    report = opcheck(backward, (*given, *[True] * 6))
    assert set(report.values()) == {"SUCCESS"} and len(report) == 4, report


# ---- transforms and modes ------------------------------------------------------------------------


def test_vmap_equals_a_loop() -> None:
    x, w, s, b = problem((12,), (4,), (3, 2), (4, 2))
    whole = ops.fno_block(x, w, s, b)
    found = torch.func.vmap(lambda u: ops.fno_block(u, w, s, b))(x)
    assert deviation(found, whole) <= 1e-14
    rest = raw((12,), (4,), torch.float64, faced=False)[4:]
    op = torch.ops.physcon.fno_block.default
    found = torch.func.vmap(lambda u: op(u, w, s, b, *rest, [], True, True)[0])(x)
    same_bits([found], [whole])
    weights = torch.stack([w, 2 * w, -w])
    found = torch.func.vmap(lambda v: ops.fno_block(x, v, s, b))(weights)
    loop = torch.stack([ops.fno_block(x, v, s, b) for v in weights])
    assert deviation(found, loop) <= 1e-14


def test_transforms_agree_with_autograd() -> None:
    inputs = tuple(problem((9,), (3,)))

    def loss(*t: Tensor) -> Tensor:
        return ops.fno_block(*t).square().sum()

    found = torch.func.grad(loss, (0, 1, 2, 3))(*inputs)
    leaves = [t.clone().requires_grad_() for t in inputs]
    for a, b in zip(found, torch.autograd.grad(loss(*leaves), leaves), strict=True):
        assert deviation(a, b) <= 1e-14


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_any_layout_gives_the_same_bits(layout: str) -> None:
    tensors = problem((20, 30), (6, 9), (4, 3))
    moved = [LAYOUTS[layout](t) for t in tensors]
    same_bits([ops.fno_block(*moved)], [ops.fno_block(*tensors)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "modes"), [((1500,), (9,)), ((40, 30), (6, 9))], ids=["1d", "2d"])
def test_threads_and_batch_splits_leave_every_bit(
    size: tuple[int, ...], modes: tuple[int, ...], dtype: torch.dtype
) -> None:
    tensors = [t.to(dtype).requires_grad_() for t in problem(size, modes, (7, 9), (5,))]

    def everything(x: Tensor) -> list[Tensor]:
        y = ops.fno_block(x, *tensors[1:])
        g = normal(seeded("upstream"), 5, *y.shape[1:]).to(dtype)[: len(x)]
        return [y, *torch.autograd.grad(y, (x, *tensors[1:]), g)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = everything(tensors[0])
        for count in (2, 3):
            torch.set_num_threads(count)
            same_bits(everything(tensors[0]), expected)
    finally:
        torch.set_num_threads(before)
    for count in (1, 2):
        part = tensors[0][:count].detach().requires_grad_()
        same_bits(everything(part)[:2], [v[:count] for v in expected[:2]])


@pytest.mark.parametrize("faced", [False, True], ids=["plain", "corrected"])
def test_an_exported_program_takes_any_batch(faced: bool) -> None:
    size, modes = (9, 8), (4, 3)
    x, *parameters = problem(size, modes)
    # Data of the faces are shared by the items, so that the batch may vary.
    values, stencils = faces_of((1,), 2, size)
    options: dict[str, Any] = {}
    if faced:
        options = {"gains": gains_of(size, modes, (3, 2)), "values": values, "stencils": stencils}

    class Layer(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.fno_block(x, *parameters, **options)

    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Layer(), (x,), dynamic_shapes=({0: batch},))
    assert "physcon.fno_block" in str(program.graph)
    for items in (1, 2, 7):
        other = normal(seeded("export", items), items, *x.shape[1:])
        same_bits([program.module()(other)], [Layer()(other)])


def test_empty_batches() -> None:
    x, w, s, b = (t.requires_grad_() for t in problem((8,), (3,)))
    y = ops.fno_block(x[:0], w, s, b)
    assert y.shape == (0, 2, 8)
    for grad in torch.autograd.grad(y.sum(), (w, s, b)):
        assert bool((grad == 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_single_precision_inside_autocast(
    dtype: torch.dtype,
) -> None:
    tensors = [t.to(dtype) for t in problem((64,), (6,))]
    with torch.autocast("cpu", dtype):
        y = ops.fno_block(*tensors)
    assert y.dtype == dtype
    same_bits([y], [ops.fno_block(*(t.float() for t in tensors)).to(dtype)])


BAD = [
    (dict(skip=torch.zeros(2, 3)), r"skip to have shape \(3, 2\)"),
    (dict(bias=torch.zeros(3)), r"bias to have shape \(2,?\)"),
    (dict(x=torch.zeros(1, 4, 8)), r"x to have shape"),
    (dict(period=7.5), r"period to be at least the number of points"),
    (dict(values=[torch.zeros(1, 2, 3)], stencils=[torch.zeros(2, 1).double()]), "to have shape"),
    (dict(gains=[torch.zeros(1, 3, 6, 2).double()]), r"gains?[\[_]0\]? to have shape"),
]


@pytest.mark.parametrize(("changed", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = dict(
        x=torch.zeros(1, 3, 8), weight=torch.zeros(5, 3, 2, 2), skip=None, bias=None
    )
    given |= changed
    with pytest.raises(ValueError, match=f"physcon::fno_block: expected .*{message}"):
        ops.fno_block(**given)
    empty, rows = torch.empty(0), torch.empty(0, dtype=torch.float64)
    lists = [
        [*(given.get(name) or []), *[nothing] * 3][:3]
        for name, nothing in (("gains", rows), ("values", empty), ("stencils", rows))
    ]
    tensors = [empty if given[k] is None else given[k] for k in ("x", "weight", "skip", "bias")]
    period = [given["period"]] if "period" in given else []
    with pytest.raises(RuntimeError, match="physcon::.*: expected"):
        arguments = [*tensors, *lists[0], *lists[1], *lists[2], period, True, False]
        torch.ops.physcon.fno_block.default(*arguments)


def test_an_unknown_activation_is_named() -> None:
    x, w, s, b = problem((8,), (3,))
    with pytest.raises(ValueError, match="activation to be one of .*, got 'relu'"):
        ops.fno_block(x, w, s, b, activation="relu")
