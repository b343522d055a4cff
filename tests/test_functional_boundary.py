# SPDX-License-Identifier: Apache-2.0
"""The corrected convolution as a function: exact ends, elimination, resolution, periods."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from boundary_cases import CASES, check_exactness
from physcon_ext import functional, reference
from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    end_response,
)
from physcon_ext.functional import boundary_spectral_conv, correction_gains, spectral_conv


F64 = torch.float64
MODES = {1: (4,), 2: (4, 3), 3: (4, 4, 3)}
BOTH = BoundaryConditions(left=Dirichlet(), right=Dirichlet())


def weights(dims: int, dtype: torch.dtype, channels: int = 2, out: int = 2) -> Tensor:
    return torch.randn(*MODES[dims], channels, out, 2, dtype=F64).to(dtype)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("correction", ["exact", "overwrite", "smooth"])
def test_conditions_hold_whatever_the_weights(
    name: str, correction: functional.Correction, dtype: torch.dtype
) -> None:
    case = CASES[name]
    x, values = case.field(dtype), case.values(dtype)
    weight = weights(len(case.sizes), dtype)
    y = boundary_spectral_conv(x, weight, case.bc, values, correction=correction)
    assert y.dtype == dtype
    check_exactness(y, case.bc, values)


@pytest.mark.parametrize("sizes", [(15,), (9, 8), (7, 6, 5)])
@pytest.mark.parametrize("period", [None, 1.0, 1.5])
def test_without_ridge_the_ends_forget_the_interior(
    sizes: tuple[int, ...], period: float | None
) -> None:
    """What the elimination leaves at the last corrected axis depends on the ends alone."""
    dims = len(sizes)
    edges = ("left", "right", "bottom", "top", "front", "back")
    for axis in range(dims):
        bc = BoundaryConditions(**dict.fromkeys(edges[2 * axis : 2 * axis + 2], Dirichlet()))
        weight, at = weights(dims, F64), 2 + axis
        x = torch.randn(2, 2, *sizes, dtype=F64)
        inside = torch.randn_like(x.narrow(at, 1, sizes[axis] - 2))
        other = torch.cat([x.narrow(at, 0, 1), inside, x.narrow(at, sizes[axis] - 1, 1)], at)
        y, z = (
            boundary_spectral_conv(v, weight, bc, ridge=0.0, assign=False, period=period)
            for v in (x, other)
        )
        plain = spectral_conv(x, weight, period=period)
        bound = 1e-9 * float(y.abs().max())
        for end in (0, -1):
            assert float((y - z).select(at, end).abs().max()) <= bound
        assert float((y - plain).abs().max()) > 1e-3 * float(plain.abs().max())


def test_the_ridge_bounds_the_shifts() -> None:
    """||delta|| <= ||r|| / (2 lambda) for any weights."""
    weight = torch.rand(8, 16, 16, 2, dtype=F64)
    x = torch.randn(4, 16, 64, dtype=F64)
    (gain,) = correction_gains(weight, BOTH, [64], period=80, ridge=0.1)
    assert gain is not None
    found = end_response(weight, 0, sizes=[64], period=[80])
    rows = [torch.cat([found.same, found.across], -1), torch.cat([found.back, found.same], -1)]
    shift = 0.1 * float(torch.cat(rows, -2).norm()) / 32**0.5
    solve = -gain[0, 32:, :, 0]
    assert float(torch.linalg.matrix_norm(solve, 2)) <= (1 + 1e-12) / (2 * shift)
    y = boundary_spectral_conv(x, weight, BOTH, dict.fromkeys(BOTH.edges, 0.0))
    assert bool(y.isfinite().all())


def test_diagnostics_tell_a_bad_system_from_a_good_one() -> None:
    """Ends that are neighbours on the circle, against the extended period; change against dense."""
    weight = torch.rand(8, 4, 4, 2, dtype=F64) / 16 + torch.eye(4, dtype=F64)[..., None] / 8
    x = torch.randn(3, 4, 256, dtype=F64)
    bad = functional.correction_diagnostics(x, weight, BOTH, period=1.0, ridge=0.0)
    good = functional.correction_diagnostics(x, weight, BOTH)
    assert bad.condition[0] is not None and good.condition[0] is not None
    assert float(bad.condition[0]) > 20 * float(good.condition[0])
    plain = boundary_spectral_conv(x, weight, BOTH, correction="overwrite", assign=False)
    exact = boundary_spectral_conv(x, weight, BOTH, assign=False)
    expected = (exact - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)
    torch.testing.assert_close(good.change, expected)
    channel = BoundaryConditions(left=Periodic(), right=Periodic(), top=Dirichlet())
    found = functional.correction_diagnostics(
        torch.randn(2, 2, 12, 9, dtype=F64), weights(2, F64), channel
    )
    assert found.condition[0] is None
    assert found.condition[1] is not None and found.condition[1].shape == (4,)


@pytest.mark.parametrize("channels,out", [(2, 5), (5, 2)])
def test_input_and_output_channels_may_differ(channels: int, out: int) -> None:
    weight = weights(1, F64, channels, out)
    x = torch.randn(3, channels, 20, dtype=F64)
    y = boundary_spectral_conv(x, weight, BOTH, {"left": 1.0, "right": 2.0})
    assert y.shape == (3, out, 20) and torch.equal(y[..., 0], torch.ones(3, out, dtype=F64))


def test_gains_can_be_made_once() -> None:
    case = CASES["all kinds in 2-D"]
    x, values, weight = case.field(F64), case.values(F64), weights(2, F64)
    gains = correction_gains(weight, case.bc, case.sizes)
    ours = boundary_spectral_conv(x, weight, case.bc, values, gains=gains)
    assert torch.equal(ours, boundary_spectral_conv(x, weight, case.bc, values))


@pytest.mark.parametrize("pivot", ["block", "scalar"])
@pytest.mark.parametrize("target", ["joint", "left", "right"])
def test_every_option_keeps_the_ends_exact(pivot: str, target: str) -> None:
    case = CASES["value and slope"]
    x, values = case.field(F64), case.values(F64)
    y = boundary_spectral_conv(
        x,
        weights(1, F64),
        case.bc,
        values,
        pivot=pivot,
        target=target,  # type: ignore[arg-type]
    )
    check_exactness(y, case.bc, values)


def test_periodic_axes_are_transformed_without_their_last_point() -> None:
    bc = BoundaryConditions(left=Periodic(), right=Periodic())
    weight, x = weights(1, F64), torch.randn(3, 2, 33, dtype=F64)
    y = boundary_spectral_conv(x, weight, bc)
    spectrum = torch.fft.rfft(x[..., :-1])[..., :4]
    mixed = torch.einsum("bik,kio->bok", spectrum, torch.view_as_complex(weight))
    expected = torch.fft.irfft(mixed, n=32)
    torch.testing.assert_close(y[..., :-1], expected)
    assert torch.equal(y[..., 0], y[..., -1])


def test_periodic_layers_are_shift_equivariant() -> None:
    bc = BoundaryConditions(left=Periodic(), right=Periodic())
    weight, x = weights(1, F64), torch.randn(3, 2, 32, dtype=F64)

    def closed(v: Tensor) -> Tensor:
        return torch.cat([v, v[..., :1]], -1)

    y = boundary_spectral_conv(closed(x), weight, bc)[..., :-1]
    moved = boundary_spectral_conv(closed(x.roll(5, -1)), weight, bc)[..., :-1]
    torch.testing.assert_close(moved, y.roll(5, -1))


@pytest.mark.parametrize("correction", ["exact", "smooth", "overwrite"])
def test_the_interior_converges_with_the_resolution(correction: functional.Correction) -> None:
    """The same weights on N, 2N, 4N points: what changes falls with the spacing."""
    bc = BoundaryConditions(left=Dirichlet(0.5), right=Neumann(1.0))
    weight = weights(1, F64, 3, 3) / 3

    def run(n: int) -> Tensor:
        x = torch.linspace(0, 1, n, dtype=F64)
        a = torch.stack([torch.sin(2 * x), torch.cos(3 * x), x**2])[None]
        y = boundary_spectral_conv(a, weight, bc, correction=correction, period=1.25)
        return y[..., :: (n - 1) // 64][..., 8:-8]

    coarse, middle, fine = run(129), run(257), run(513)
    change = [float((a - b).abs().max()) for a, b in ((coarse, middle), (middle, fine))]
    assert change[1] <= 0.65 * change[0]


@pytest.mark.parametrize("correction", ["exact", "smooth"])
def test_gradients_pass_the_correction(correction: functional.Correction) -> None:
    bc = BoundaryConditions(left=Dirichlet(), right=Robin(1.0, 0.5, order=2))
    x = torch.randn(2, 2, 7, dtype=F64, requires_grad=True)
    weight = torch.randn(2, 2, 2, 2, dtype=F64, requires_grad=True)
    g = torch.randn(2, 1, dtype=F64, requires_grad=True)

    def run(a: Tensor, w: Tensor, data: Tensor) -> Tensor:
        return boundary_spectral_conv(a, w, bc, {"left": data, "right": 2.0}, correction=correction)

    assert torch.autograd.gradcheck(run, (x, weight, g))


def test_gradients_pass_the_correction_in_two_dimensions() -> None:
    bc = BoundaryConditions(left=Dirichlet(0.0), right=Dirichlet(0.0), top=Neumann(0.0, order=1))
    x = torch.randn(1, 1, 4, 4, dtype=F64, requires_grad=True)
    weight = torch.randn(2, 2, 1, 1, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, w: boundary_spectral_conv(a, w, bc), (x, weight))


@pytest.mark.parametrize("n,modes", [(64, 16), (1024, 16), (8192, 16)])
@pytest.mark.parametrize("correction", ["exact", "published"])
def test_float32_is_accurate_at_every_size(
    n: int, modes: int, correction: functional.Correction
) -> None:
    """Worst of eight draws, relative to the largest value, against float64."""
    for _ in range(8):
        weight = torch.rand(modes, 4, 4, 2, dtype=torch.float32) / 16
        x = torch.randn(2, 4, n // 8).repeat_interleave(8, -1)
        values = {"left": 1.0, "right": -1.0}
        y = boundary_spectral_conv(x, weight, BOTH, values, correction=correction)
        exact = boundary_spectral_conv(
            x.double(), weight.double(), BOTH, values, correction=correction
        )
        assert float((y - exact).abs().max()) <= 2e-6 * float(exact.abs().max())


def test_plain_convolution_is_the_op() -> None:
    x, weight = torch.randn(2, 2, 17, 9, dtype=F64), weights(2, F64)
    for period, expected in ((None, None), (1.5, [24, 12]), ([20, None], [20, 9])):
        ours = spectral_conv(x, weight, period=period)
        torch.testing.assert_close(ours, reference.spectral_conv(x, weight, period=expected))


X, W = torch.randn(2, 2, 16), torch.randn(4, 2, 2, 2)
ZERO = dict.fromkeys(BOTH.edges, 0.0)
BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: spectral_conv(X, W[..., 0]), ValueError, "weight to have shape"),
    (lambda: spectral_conv(X[:, :1], W), ValueError, r"x to have shape \(\*batch, 2, N_1..N_1\)"),
    (lambda: spectral_conv(X, W.double()), TypeError, "same dtype"),
    (lambda: spectral_conv(X, W, period=8), ValueError, "at least the 16 points of axis 0, got 8"),
    (lambda: spectral_conv(X, W, period=0.5), ValueError, "a ratio >= 1"),
    (lambda: spectral_conv(X, W, period=(2.0, 2.0)), ValueError, "one for each of 1 axes, got"),
    (lambda: spectral_conv(X, W, period="2"), TypeError, "to be a number, got str"),  # type: ignore[arg-type]
    (
        lambda: boundary_spectral_conv(X, W, BOTH, ZERO, correction="hard"),  # type: ignore[arg-type]
        ValueError,
        "correction to be one of .*got 'hard'",
    ),
    (
        lambda: boundary_spectral_conv(X, W, BOTH, ZERO, target="middle"),  # type: ignore[arg-type]
        ValueError,
        "target among .*got 'middle'",
    ),
    (
        lambda: boundary_spectral_conv(X, W, BOTH, ZERO, ridge=-1.0),
        ValueError,
        "ridge to be >= 0 and finite, got -1.0",
    ),
    (
        lambda: boundary_spectral_conv(X, W, BOTH, {"left": 0.0}),
        ValueError,
        "a value for edge 'right'",
    ),
    (
        lambda: boundary_spectral_conv(X, W, None, ZERO),  # type: ignore[arg-type]
        TypeError,
        "bc to be BoundaryConditions, got NoneType",
    ),
    (
        lambda: boundary_spectral_conv(X[0], W, BOTH, ZERO),
        ValueError,
        r"x to have shape \(batch, 2, N_1..N_1\) .*got \(2, 16\); join or add batch axes",
    ),
    (
        lambda: boundary_spectral_conv(X, W.repeat(4, 1, 1, 1), BOTH, ZERO),
        ValueError,
        "at most 9 modes along axis 0 with 16 points and period 17, got 16; take fewer",
    ),
    (
        lambda: boundary_spectral_conv(X.to_sparse(), W, BOTH, ZERO),
        TypeError,
        "x to be a dense tensor",
    ),
    (
        lambda: boundary_spectral_conv(X, W, BOTH, ZERO, correction="published", quirks="clamps"),
        TypeError,
        "quirks to be a set of names, got 'clamps'",
    ),
    (lambda: spectral_conv(X, W, period=float("inf")), ValueError, "a ratio >= 1 .*, got inf"),
    (lambda: correction_gains(W, BOTH, [16, 16]), ValueError, "sizes to have 1 entries"),
]


@pytest.mark.parametrize("call,error,match", BAD)
def test_bad_calls_say_what_is_wrong(
    call: Callable[[], object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call()
