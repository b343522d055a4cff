# SPDX-License-Identifier: Apache-2.0
"""Spectral convolution: dense Fourier matrices as oracle, derivatives, periods, layouts."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from op_suite import DTYPES, LAYOUTS, deviation, normal, same_bits, seeded
from physcon_ext import ops, reference


# (N, M, period): 1-D to 3-D; odd, even, prime, one point; all modes, one mode, Nyquist; P > N
# integer and not, even and odd; several vectors of points and of wavenumbers
GRIDS: list[tuple[tuple[int, ...], tuple[int, ...], float | tuple[float, ...] | None]] = [
    ((1,), (1,), None),
    ((2,), (2,), None),
    ((3,), (1,), None),
    ((8,), (5,), None),
    ((101,), (51,), None),
    ((100,), (16,), None),
    ((300,), (151,), None),
    ((1,), (3,), 4.0),
    ((100,), (17,), 125.0),
    ((100,), (17,), 126.0),
    ((37,), (9,), 46.25),
    ((90,), (91,), 180.0),
    ((500,), (33,), 640.0),
    ((12, 10), (12, 6), None),
    ((13, 9), (6, 3), (16.0, 9.0)),
    ((31, 34), (12, 18), (38.5, 34.0)),
    ((5, 6, 7), (4, 6, 4), None),
    ((4, 3, 20), (2, 2, 9), (5.0, 4.5, 24.0)),
]
IDS = [
    "x".join(map(str, n)) + "-m" + "x".join(map(str, m)) + (f"-P{p}" if p else "")
    for n, m, p in GRIDS
]
# Sums of N terms in blocks of 256 and of M terms, pairwise in neither: a few eps, never more.
BOUND = {torch.float32: 1e-6, torch.float64: 2e-15}


def problem(
    size: tuple[int, ...],
    modes: tuple[int, ...],
    batch: tuple[int, ...] = (2,),
    channels: tuple[int, int] = (3, 2),
) -> tuple[Tensor, Tensor]:
    g = seeded("spectral", size, modes, batch, channels)
    return normal(g, *batch, channels[0], *size), normal(g, *modes, *channels, 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "modes", "period"), GRIDS, ids=IDS)
def test_values_and_gradients_equal_dense_fourier_matrices(
    size: tuple[int, ...], modes: tuple[int, ...], period: float, dtype: torch.dtype
) -> None:
    x, w = (t.to(dtype).requires_grad_() for t in problem(size, modes))
    y = ops.spectral_conv(x, w, period=period)
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    expected = reference.spectral_conv(*wide, period=period)
    assert deviation(y, expected) <= BOUND[dtype]
    g = normal(seeded("upstream"), *y.shape)
    found = torch.autograd.grad(y, (x, w), g.to(dtype))
    exact = torch.autograd.grad(expected, wide, g.to(dtype).double())
    for a, b in zip(found, exact, strict=True):
        assert deviation(a, b) <= BOUND[dtype]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_any_layout_gives_the_same_bits(layout: str) -> None:
    x, w = problem((20, 30), (6, 9), (2, 2))
    y = ops.spectral_conv(x, w)
    same_bits([ops.spectral_conv(LAYOUTS[layout](x), LAYOUTS[layout](w))], [y])


@pytest.mark.parametrize(
    ("size", "modes", "period"),
    [((8,), (5,), 8.0), ((7,), (4,), 9.5), ((5, 3), (4, 2), (6.0, 3.0))],
    ids=["1d", "1d-period", "2d"],
)
def test_gradients_of_every_order_and_mode(
    size: tuple[int, ...], modes: tuple[int, ...], period: float | tuple[float, ...]
) -> None:
    x, w = (t.requires_grad_() for t in problem(size, modes, (2,), (1, 2)))

    def function(x: Tensor, w: Tensor) -> Tensor:
        return ops.spectral_conv(x, w, period=period)

    assert gradcheck(function, (x, w), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, (x, w))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grad", [False, True], ids=["frozen", "grad"])
def test_opcheck(grad: bool, dtype: torch.dtype) -> None:
    x, w = (t.to(dtype).requires_grad_(grad) for t in problem((8, 9), (4, 5)))
    period = [8.0, 10.5]
    report = opcheck(torch.ops.physcon.spectral_conv.default, (x, w, period))
    assert set(report.values()) == {"SUCCESS"} and len(report) == 4, report
    x, w = x.detach(), w.detach()
    y, spectrum = torch.ops.physcon.spectral_conv.default(x, w, period)
    arguments = (y, spectrum, w, [8, 9], period, True, True)
    report = opcheck(torch.ops.physcon.spectral_conv_backward.default, arguments)
    assert set(report.values()) == {"SUCCESS"} and len(report) == 4, report
