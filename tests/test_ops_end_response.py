# SPDX-License-Identifier: Apache-2.0
"""The answers at the ends of an axis against convolutions of unit sources."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap
from torch.library import opcheck

from op_suite import LAYOUTS, deviation, normal, same_bits, seeded
from physcon_ext import ops, reference
from physcon_ext.ops.composite import COMPOSITES


# (modes, size, period): odd, even and prime sizes, Nyquist modes kept and not, periods that are no
# integers.
GRIDS = [
    ((5,), (8,), (8.0,)),
    ((6,), (17,), (23.5,)),
    ((4, 3), (7, 9), (7.0, 11.0)),
    ((6, 5), (6, 8), (6.0, 8.0)),
    ((4, 2, 3), (5, 4, 6), (6.5, 4.0, 9.0)),
]
CASES = [(*grid, axis) for grid in GRIDS for axis in range(len(grid[0]))]
# Sums of at most 6 modes, angles exact to 1 eps.
BOUND = 1e-15

Case = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...], int]


def weights(modes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return normal(seeded("weight", modes), *modes, 3, 5, 2).to(dtype)


def respond(weight: Tensor, case: Case) -> Tensor:
    return ops.end_response(weight, case[3], size=case[1], period=case[2])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sources_at_the_ends_are_answered_there(case: Case) -> None:
    """In each tangential mode the convolution of a source at an end is this at the ends."""
    modes, size, period, axis = case
    d = len(modes)
    weight = weights(modes)
    blocks = respond(weight, case)
    found = torch.view_as_complex(blocks) if d > 1 else blocks.to(torch.complex128)
    source = normal(seeded("source", case), 2, 3, *size[:axis], *size[axis + 1 :])
    for end in range(2):
        x = torch.zeros(2, 3, *size, dtype=torch.float64)
        x.select(2 + axis, -end).copy_(source)
        # Over two whole periods, where tangential modes are orthogonal (P may be half an integer).
        pairs = enumerate(zip(size, period, strict=True))
        wide = [n if a == axis else int(2 * p) for a, (n, p) in pairs]
        y = _evaluate(x, weight, wide, period)
        for goal in range(2):
            block = found[0] if goal == end else found[1] if end == 0 else found[2]
            seen = _tangential(y.select(2 + axis, -goal), weight, axis, period, 2)
            sent = _tangential(source, weight, axis, period, 1)
            expected = torch.einsum("qbi,qio->qbo", sent, block)
            assert deviation(torch.view_as_real(seen), torch.view_as_real(expected)) <= 1e-12


def _tangential(
    lines: Tensor, weight: Tensor, axis: int, period: tuple[float, ...], periods: int
) -> Tensor:
    """Coefficients of the modes of the other axes, ``(Q, batch, channels)``.

    Of a field on ``periods`` whole periods, or of one that is zero beyond what is given.
    """
    d = weight.ndim - 3
    found = lines.to(torch.complex128)
    others = [a for a in range(d) if a != axis]
    for a in others:
        k = _wavenumbers(weight, a)
        n = torch.arange(found.shape[2], dtype=torch.float64)
        wave = torch.exp(-2j * torch.pi * n[:, None] * k / period[a])
        found = torch.tensordot(found, wave / periods, dims=([2], [0]))
    return found.flatten(2).permute(2, 0, 1) if others else found[None]


def _wavenumbers(weight: Tensor, axis: int) -> Tensor:
    count = weight.shape[axis]
    k = torch.arange(count, dtype=torch.float64)
    return k if axis == weight.ndim - 4 else torch.where(k < count // 2, k, k - count)


def _evaluate(x: Tensor, weight: Tensor, sizes: list[int], period: tuple[float, ...]) -> Tensor:
    """The convolution of ``x`` at the first ``sizes`` points, from the definition."""
    d = weight.ndim - 3
    points, modes = "uvw"[:d], "klm"[:d]
    spectrum, out = x.to(torch.complex128), []
    waves = []
    for a in range(d):
        k = _wavenumbers(weight, a)
        n = torch.arange(max(x.shape[2 + a], sizes[a]), dtype=torch.float64)
        waves.append(torch.exp(2j * torch.pi * n[:, None] * k / period[a]))
    for a in range(d):
        spectrum = torch.tensordot(spectrum, waves[a][: x.shape[2 + a]].conj(), dims=([2], [0]))
    mixed = torch.einsum(f"bi{modes},{modes}io->bo{modes}", spectrum, torch.view_as_complex(weight))
    k = _wavenumbers(weight, d - 1)
    mixed = mixed * torch.where((k == 0) | (2 * k == period[-1]), 1.0, 2.0)
    for a in range(d):
        out.append(waves[a][: sizes[a]] / period[a])
    matrices = ",".join(f"{p}{m}" for p, m in zip(points, modes, strict=True))
    return torch.einsum(f"bo{modes},{matrices}->bo{points}", mixed, *out).real


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_agrees_with_the_reference_and_the_composite(case: Case, dtype: torch.dtype) -> None:
    weight = weights(case[0], dtype)
    found = respond(weight, case)
    expected = reference.end_response(weight, case[3], size=case[1], period=case[2])
    assert deviation(found, expected) <= BOUND
    place = (case[3], list(case[1]), list(case[2]))
    composite = COMPOSITES["end_response"](weight, *place)
    assert composite.stride() == found.stride() and deviation(found, composite) <= BOUND
    up = normal(seeded("up", case), *found.shape)
    adjoint = torch.ops.physcon.end_response_backward(up, weight, *place)
    other = COMPOSITES["end_response_backward"](up, weight, *place)
    assert other.stride() == adjoint.stride() and other.dtype == dtype
    assert deviation(adjoint, other) <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_adjoint_is_the_transpose(case: Case) -> None:
    weight = weights(case[0])
    found = respond(weight, case)
    up = normal(seeded("up", case), *found.shape)
    place = (case[3], list(case[1]), list(case[2]))
    pulled = torch.ops.physcon.end_response_backward(up, weight, *place)
    one, other = (found * up).sum(), (weight * pulled).sum()
    assert abs(one - other) <= 1e-14 * (found * up).abs().sum()


@pytest.mark.parametrize("case", [CASES[0], CASES[3]], ids=str)
def test_derivatives_of_every_order_and_mode(case: Case) -> None:
    weight = weights(case[0])[..., :2, :1, :].clone().requires_grad_()

    def function(w: Tensor) -> Tensor:
        return respond(w, case)

    assert gradcheck(function, (weight,), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(lambda w: function(w) ** 2, (weight,))


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=str)
def test_transforms_agree_with_calls_one_by_one(case: Case) -> None:
    many = normal(seeded("many", case), *case[0], 4, 3, 5, 2)
    at = len(case[0])
    found = vmap(lambda w: respond(w, case), in_dims=at)(many)
    one = torch.stack([respond(w, case) for w in many.unbind(at)])
    same_bits([found.contiguous()], [one])

    def loss(w: Tensor) -> Tensor:
        return (respond(w, case) ** 3).sum()

    grads = vmap(grad(loss), in_dims=at)(many)
    expected = torch.stack([grad(loss)(w) for w in many.unbind(at)])
    assert deviation(grads, expected) <= 1e-15
    moved = jvp(lambda w: respond(w, case), (many.select(at, 0),), (many.select(at, 1),))[1]
    same_bits([moved], [one[1]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("recorded", [False, True])
def test_the_raw_ops_are_registered_correctly(dtype: torch.dtype, recorded: bool) -> None:
    case = CASES[2]
    weight = weights(case[0], dtype).requires_grad_(recorded)
    place = (case[3], list(case[1]), list(case[2]))
    opcheck(torch.ops.physcon.end_response.default, (weight, *place))
    up = respond(weight, case).detach().requires_grad_(recorded)
    opcheck(torch.ops.physcon.end_response_backward.default, (up, weight.detach(), *place))


def test_compiled_and_exported_without_a_graph_break() -> None:
    case = CASES[1]
    weight = weights(case[0]).requires_grad_()
    compiled = torch.compile(lambda w: respond(w, case), fullgraph=True, backend="aot_eager")
    y = compiled(weight)
    same_bits([y], [respond(weight, case)])
    same_bits(
        torch.autograd.grad(y.square().sum(), weight),
        torch.autograd.grad(respond(weight, case).square().sum(), weight),
    )

    class Module(torch.nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return respond(w, case)

    program = torch.export.export(Module(), (weight.detach(),))
    same_bits([program.module()(weight.detach())], [y])


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_any_layout(layout: str) -> None:
    case = CASES[2]
    weight = weights(case[0])
    same_bits([respond(LAYOUTS[layout](weight), case)], [respond(weight, case)])


def test_the_same_bits_for_any_number_of_threads() -> None:
    case: Case = ((6, 5), (6, 8), (6.0, 8.0), 1)
    weight = normal(seeded("threads"), 6, 5, 40, 50, 2).float().requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = respond(weight, case)
            results.append([y, *torch.autograd.grad(y.square().sum(), weight)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        same_bits(other, results[0])


_W = torch.zeros(4, 3, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((_W[..., 0], 0, [8], [8.0]), ValueError, r"weight to have shape"),
        ((_W.int(), 0, [8], [8.0]), TypeError, "float32 or float64"),
        ((_W, 1, [8], [8.0]), ValueError, "axis to be at least 0 and less than 1, got 1"),
        ((_W, 0, [8, 8], [8.0]), ValueError, r"size to have one number per axis \(1\), got 2"),
        ((_W, 0, [8], [8.0, 8.0]), ValueError, r"period to have one number per axis \(1\), got 2"),
        ((_W, 0, [8], [7.0]), RuntimeError, "period to be at least the number of points"),
        ((_W, 0, [5], [5.0]), RuntimeError, r"1 to floor\(period / 2\) \+ 1 = 3 modes"),
    ],
)
def test_bad_input_is_named(
    arguments: tuple[Tensor, int, list[int], list[float]], error: type[Exception], message: str
) -> None:
    weight, axis, size, period = arguments
    with pytest.raises(error, match=message):
        ops.end_response(weight, axis, size=size, period=period)
