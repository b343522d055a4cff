# SPDX-License-Identifier: Apache-2.0
"""assign_faces: bits of prescribed faces, residuals of one-sided rules, corners, derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap
from torch.library import opcheck

from op_suite import LAYOUTS, deviation, normal, same_bits, seeded
from physcon_ext import ops, reference
from physcon_ext.ops.composite import COMPOSITES


ALL = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SIZES = [(9,), (2,), (6, 7), (5, 6, 7)]
# Outward derivative of third order, times the spacing.
THIRD = torch.tensor([11 / 6, -3, 3 / 2, -1 / 3], dtype=torch.float64)

Maybe = list[Tensor | None]


def problem(
    sizes: Sequence[int],
    *,
    batch: tuple[int, ...] = (2,),
    channels: int = 3,
    width: int = 2,
    axes: Sequence[int] | None = None,
    spread: str = "full",
) -> tuple[Tensor, Maybe, Maybe]:
    """A field and random rules. ``spread``: along which axes the data vary."""
    g = seeded("faces", sizes, batch, channels, width, spread)
    u = normal(g, *batch, channels, *sizes)
    values: Maybe = [None] * len(sizes)
    stencils: Maybe = [None] * len(sizes)
    for axis in range(len(sizes)) if axes is None else axes:
        rest = [n for a, n in enumerate(sizes) if a != axis]
        shape = {
            "full": (*batch, channels, 2, *rest),
            "item": (*batch, 1, 2, *(1 for _ in rest)),
            "channel": (*(1 for _ in batch), channels, 2, *(1 for _ in rest)),
            "edge": (*(1 for _ in batch), 1, 2, *rest),
        }[spread]
        values[axis] = normal(g, *shape)
        stencils[axis] = normal(g, 2, min(width, sizes[axis] - 1))
    return u, values, stencils


def to(dtype: torch.dtype, values: Maybe) -> Maybe:
    return [None if v is None else v.to(dtype) for v in values]


def zeros_like(stencils: Maybe) -> Maybe:
    return [None if s is None else torch.zeros_like(s) for s in stencils]


@pytest.mark.parametrize("spread", ["full", "item", "channel", "edge"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_it_agrees_with_the_reference(
    sizes: tuple[int, ...], spread: str, dtype: torch.dtype
) -> None:
    u, values, stencils = problem(sizes, spread=spread)
    found = ops.assign_faces(u.to(dtype), to(dtype, values), stencils)
    expected = reference.assign_faces(u.to(dtype), to(dtype, values), stencils)
    assert found.dtype == dtype
    # Three roundings a face, carried on by the stencils of up to two later axes.
    assert deviation(found, expected) <= 10 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_prescribed_faces_hold_the_bits_of_the_data(
    sizes: tuple[int, ...], dtype: torch.dtype
) -> None:
    u, values, stencils = problem(sizes)
    u, values = u.to(dtype), to(dtype, values)
    found = ops.assign_faces(u, values, zeros_like(stencils))
    at = u.ndim - len(sizes)
    last = len(sizes) - 1
    for end, n in enumerate((0, -1)):
        assert torch.equal(found.select(at + last, n), values[last].select(at, end))
    inside = (..., *(slice(1, -1) for _ in sizes))
    assert torch.equal(found[inside], u[inside])


def test_later_axes_own_the_corners() -> None:
    u, values, stencils = problem((4, 5))
    found = ops.assign_faces(u, values, zeros_like(stencils))
    for i, j in itertools.product((0, -1), (0, -1)):
        assert torch.equal(found[..., i, j], values[1][..., j, i])
        assert not torch.equal(found[..., i, j], values[0][..., i, j])


@pytest.mark.parametrize("sizes", [(64,), (24, 20), (10, 11, 12)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (1.0, 1.0), (3.0, 0.5)])
def test_neumann_and_robin_rules_leave_a_rounding_residual(
    sizes: tuple[int, ...], dtype: torch.dtype, a: float, b: float
) -> None:
    h = 1 / (sizes[0] - 1)
    u, values, _ = problem(sizes, axes=[0])
    u, data = u.to(dtype), values[0].to(dtype)
    s = THIRD / h
    pivot = a + b * s[0]
    stencil = torch.cat([torch.zeros(1, dtype=torch.float64), -b * s[1:] / pivot])
    rest: Maybe = [None] * (len(sizes) - 1)
    scaled = (data.double() / pivot).to(dtype)
    found = ops.assign_faces(u, [scaled, *rest], [stencil.expand(2, -1), *rest]).double()
    at = u.ndim - len(sizes)
    largest = max(found.abs().max().item(), scaled.abs().max().item())
    for end in range(2):
        lines = [found.select(at, j if end == 0 else sizes[0] - 1 - j) for j in range(4)]
        flux = a * lines[0] + b * sum(w * line for w, line in zip(s, lines, strict=True))
        residual = (flux - pivot * scaled.select(at, end).double()).abs().max()
        # The rounding of the face value itself, and that of evaluating the residual.
        floor = {torch.float32: 1.2e-7, torch.float64: 2e-15}[dtype]
        assert residual <= (abs(a) + abs(b) * s[0]) * largest * floor


def test_one_sided_rules_keep_the_other_end() -> None:
    u, values, _ = problem((8,))
    keep = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    data = values[0].clone()
    data[..., 1] = 0
    found = ops.assign_faces(u, [data], [keep])
    assert torch.equal(found[..., 1:], u[..., 1:])
    assert torch.equal(found[..., 0], data[..., 0])


def test_nothing_but_the_faces_is_read_where_the_rule_prescribes() -> None:
    u, values, stencils = problem((6, 7))
    u[..., 0, :], u[..., :, -1] = float("nan"), float("inf")
    u[..., -1, :], u[..., :, 0] = float("inf"), float("nan")
    found = ops.assign_faces(u, values, zeros_like(stencils))
    assert found.isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout: str) -> None:
    move = LAYOUTS[layout]
    u, values, stencils = problem((6, 7))
    expected = ops.assign_faces(u, values, stencils)
    moved: list[Maybe] = [[move(v) for v in group] for group in (values, stencils)]
    same_bits([ops.assign_faces(move(u), *moved)], [expected])


def test_data_that_vary_along_some_batch_axes_only() -> None:
    u, values, stencils = problem((5,), batch=(2, 3))
    values = [values[0][:, :1]]
    found = ops.assign_faces(u, values, stencils)
    assert deviation(found, reference.assign_faces(u, values, stencils)) <= 1e-15


def test_empty_batches() -> None:
    u, values, stencils = problem((5, 4), batch=(0,))
    assert ops.assign_faces(u, values, stencils).shape == (0, 3, 5, 4)


# ---- derivatives ---------------------------------------------------------------------------------


def function(values: Maybe, stencils: Maybe) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The op of (u, *given values)."""
    given = [v for v in values if v is not None]

    def apply(u: Tensor, *data: Tensor) -> Tensor:
        rest = iter(data)
        return ops.assign_faces(u, [None if v is None else next(rest) for v in values], stencils)

    return apply, given


GRADIENTS = [((5,), "full"), ((5,), "channel"), ((4, 5), "item"), ((4, 3, 5), "edge")]


@pytest.mark.parametrize(("sizes", "spread"), GRADIENTS, ids=str)
def test_gradients(sizes: tuple[int, ...], spread: str) -> None:
    u, values, stencils = problem(sizes, channels=2, spread=spread)
    apply, given = function(values, stencils)
    inputs = tuple(t.requires_grad_() for t in (u, *given))
    assert gradcheck(apply, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(apply, inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_adjoint_is_the_transpose(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    u, values, stencils = problem(sizes, width=3)
    apply, given = function(to(dtype, values), stencils)
    leaves = [t.clone().requires_grad_() for t in (u.to(dtype), *given)]
    y = apply(*leaves)
    up = normal(seeded("up", sizes), *y.shape).to(dtype)
    found = torch.autograd.grad(y, leaves, up)
    wide, _ = function(values, stencils)
    reference_leaves = [t.detach().double().requires_grad_() for t in leaves]

    def plain(v: Tensor, *data: Tensor) -> Tensor:
        rest = iter(data)
        return reference.assign_faces(
            v, [None if t is None else next(rest) for t in values], stencils
        )

    expected = torch.autograd.grad(plain(*reference_leaves), reference_leaves, up.double())
    for a, b in zip(found, expected, strict=True):
        # Each face adds once to each of its points.
        assert deviation(a, b) <= 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("spread", ["full", "channel"])
def test_transforms_agree_with_calls_one_by_one(spread: str) -> None:
    u, values, stencils = problem((4, 5), batch=(3, 2), spread=spread)
    mapped = [0 if v is not None and v.shape[0] == 3 else None for v in values]

    def call(field: Tensor, data: list[Tensor]) -> Tensor:
        return ops.assign_faces(field, data, stencils)

    inner = [v if m == 0 else v[0] for v, m in zip(values, mapped, strict=True)]
    found = vmap(call, in_dims=(0, mapped))(u, inner)
    one = [
        call(u[i], [v[i] if m == 0 else v for v, m in zip(inner, mapped, strict=True)])
        for i in range(3)
    ]
    same_bits([found], [torch.stack(one)])

    def loss(data: list[Tensor], field: Tensor) -> Tensor:
        return (call(field, data) ** 3).sum()

    per_item = vmap(grad(loss), in_dims=(mapped, 0))(inner, u)
    for i in range(3):
        data = [v[i] if m == 0 else v for v, m in zip(inner, mapped, strict=True)]
        for a, b in zip(per_item, grad(loss)(data, u[i]), strict=True):
            assert deviation(a[i], b) <= 1e-14

    first = [v[0] if m == 0 else v for v, m in zip(inner, mapped, strict=True)]
    moved = jvp(lambda field: call(field, first), (u[0],), (u[1],))[1]
    blank = [torch.zeros_like(v) for v in first]
    assert deviation(moved, call(u[1], blank)) <= 1e-15


def test_compiled_without_a_graph_break() -> None:
    u, values, stencils = problem((6, 7))
    compiled = torch.compile(ops.assign_faces, fullgraph=True, backend="aot_eager")
    leaves = [u.clone().requires_grad_(), *(v.clone().requires_grad_() for v in values)]
    y = compiled(leaves[0], leaves[1:], stencils)
    same_bits([y], [ops.assign_faces(u, values, stencils)])
    expected = [t.detach().clone().requires_grad_() for t in leaves]
    loss = ops.assign_faces(expected[0], expected[1:], stencils).square().sum()
    same_bits(torch.autograd.grad(y.square().sum(), leaves), torch.autograd.grad(loss, expected))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_raw_ops_are_registered_correctly(dtype: torch.dtype) -> None:
    u, values, stencils = problem((4, 5), axes=[1], spread="channel")
    empty, none = torch.empty(0, dtype=dtype), torch.empty(0, dtype=torch.float64)
    data = [empty, values[1].to(dtype), empty]
    rows = [none, stencils[1], none]
    arguments = [u.to(dtype).requires_grad_(), empty, data[1].requires_grad_(), empty, *rows, 2]
    opcheck(torch.ops.physcon.assign_faces.default, tuple(arguments))
    arguments[2] = data[1].detach()
    opcheck(torch.ops.physcon.assign_faces_backward.default, (*arguments, True))


@pytest.mark.parametrize("spread", ["full", "item", "channel", "edge"])
def test_the_same_bits_for_any_number_of_threads(spread: str) -> None:
    u, values, stencils = problem((40, 50), batch=(8,), channels=9, spread=spread)
    apply, given = function(values, stencils)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [t.clone().requires_grad_() for t in (u, *given)]
            y = apply(*leaves)
            results.append([y, *torch.autograd.grad((y**2).sum(), leaves)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        same_bits(other, results[0])


@pytest.mark.parametrize("spread", ["full", "channel"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_composite_for_other_devices_gives_the_same_numbers(
    sizes: tuple[int, ...], spread: str
) -> None:
    u, values, stencils = problem(sizes, spread=spread)
    absent = [torch.empty(0, dtype=torch.float64)] * (3 - len(sizes))
    arguments = (*values, *absent, *stencils, *absent, len(sizes))
    pairs = [
        (torch.ops.physcon.assign_faces(u, *arguments), COMPOSITES["assign_faces"](u, *arguments)),
        *zip(
            torch.ops.physcon.assign_faces_backward(u, *arguments, True),
            COMPOSITES["assign_faces_backward"](u, *arguments, True),
            strict=True,
        ),
    ]
    for a, b in pairs:
        assert a.dtype == b.dtype and a.stride() == b.stride()
        assert deviation(a, b) <= 1e-14


# ---- bad input -----------------------------------------------------------------------------------

_S = torch.zeros(2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("u", "values", "stencils", "error", "message"),
    [
        (torch.zeros(2, 3, 5), [], [], ValueError, "1 to 3 axes"),
        (torch.zeros(3, 5), [None] * 2, [None] * 2, ValueError, "field"),
        (torch.zeros(2, 3, 5), [torch.zeros(2, 3, 2)], [None], TypeError, "two tensors or None"),
        (torch.zeros(2, 3, 5), [torch.zeros(2, 3, 3)], [_S], ValueError, "to have shape"),
        (torch.zeros(2, 3, 5), [torch.zeros(2, 3, 1)], [_S], ValueError, "to have shape"),
        (torch.zeros(2, 3, 5), [torch.zeros(2, 3, 2)], [_S.float()], TypeError, "torch.float64"),
        (torch.zeros(2, 3, 5), [torch.zeros(2, 3, 2)], [_S[0]], ValueError, r"\(2, q \+ 1\)"),
        (torch.zeros(2, 3, 2), [torch.zeros(2, 3, 2)], [_S], ValueError, "lower order"),
        (torch.zeros(2, 3, 5), [torch.zeros(2, 3, 2).double()], [_S], TypeError, "like the field"),
        (
            torch.zeros(2, 3, 5).half(),
            [torch.zeros(2, 3, 2).bfloat16()],
            [_S],
            TypeError,
            "one storage dtype",
        ),
        (torch.zeros(2, 3, 5).int(), [torch.zeros(2, 3, 2)], [_S], TypeError, "float32 or float64"),
    ],
)
def test_bad_input_is_named(
    u: Tensor, values: Maybe, stencils: Maybe, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.assign_faces(u, values, stencils)


def test_the_raw_op_checks_shapes_itself() -> None:
    empty, none = torch.empty(0), torch.empty(0, dtype=torch.float64)
    bad = (torch.zeros(2, 3, 5), torch.zeros(2, 4, 2), empty, empty, _S, none, none, 1)
    with pytest.raises(RuntimeError, match="expected values_0 to have shape"):
        torch.ops.physcon.assign_faces(*bad)
