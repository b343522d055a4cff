# SPDX-License-Identifier: Apache-2.0
"""Spectral convolutions on NumPy arrays: the numbers of the operators, refusals in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from physcon_ext import core, ops
from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    correction_gain,
    end_response,
    scalar_gain,
)
from physcon_ext.boundary.gains import Clamp, end_system
from physcon_ext.boundary.periods import axis_periods
from physcon_ext.models import FNO


# (modes, size, period)
GRIDS = [
    ((6,), (17,), (20.5,)),
    ((4, 5), (9, 8), (9.0, 11.0)),
    ((4, 2, 3), (5, 4, 6), (6.5, 4.0, 9.0)),
]
Grid = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]
BATCH = (2, 3)


def problem(grid: Grid, channels: tuple[int, int] = (3, 2), dtype: Any = np.float64) -> Any:
    random = np.random.default_rng(len(grid[0]))
    x = random.normal(size=(*BATCH, channels[0], *grid[1])).astype(dtype)
    return x, random.normal(size=(*grid[0], *channels, 2)).astype(dtype)


def faces(grid: Grid, channels: int, dtype: Any) -> tuple[list[Any], list[Any]]:
    """Data that vary along everything on the first axis, and are shared on the last."""
    random = np.random.default_rng(7)
    d = len(grid[1])
    values: list[Any] = [None] * d
    stencils: list[Any] = [None] * d
    values[0] = random.normal(size=(*BATCH, channels, 2, *grid[1][1:])).astype(dtype)
    stencils[0] = np.array([[0.0, 0.5, 0.1], [0.0, 0.0, 0.0]])
    if d > 1:
        values[-1] = random.normal(size=(1, 1, 1, 2, *(1,) * (d - 1))).astype(dtype)
        stencils[-1] = np.zeros((2, 1))
    return values, stencils


def tensors(values: list[Any]) -> list[torch.Tensor | None]:
    return [None if v is None else torch.from_numpy(v) for v in values]


@pytest.mark.parametrize("ends", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("channels", [(3, 3), (2, 4), (4, 2)], ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=["1d", "2d", "3d"])
def test_gains_are_those_of_the_elimination(
    grid: Grid, channels: tuple[int, int], ends: tuple[bool, bool]
) -> None:
    """Both solve systems of condition C^2 / ridge^2, about 1e3, in float64."""
    modes, size, period = grid
    weight = problem(grid, channels)[1]
    for axis in range(len(modes)):
        answer = end_response(torch.from_numpy(weight), axis, sizes=size, period=period)
        expected = correction_gain(answer, ends=ends).numpy()
        found = core.correction_gain(weight, axis, size=size, period=period, ends=ends)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("ends", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("channels", [(3, 3), (2, 4), (4, 2)], ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=["1d", "2d", "3d"])
def test_gains_without_a_ridge_eliminate_exactly(
    grid: Grid, channels: tuple[int, int], ends: tuple[bool, bool]
) -> None:
    """Orthogonal and triangular factors here, LU or singular values there: eps times condition."""
    modes, size, period = grid
    weight = problem(grid, channels)[1]
    for axis in range(len(modes)):
        answer = end_response(torch.from_numpy(weight), axis, sizes=size, period=period)
        expected = correction_gain(answer, ends=ends, ridge=0.0).numpy()
        found = core.correction_gain(weight, axis, size=size, period=period, ends=ends, ridge=0.0)
        system = end_system(answer) if all(ends) else answer.same
        condition = float(torch.linalg.cond(system).max())
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error <= 100 * 2.2e-16 * condition


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_weights_that_vanish_leave_the_ends_alone(ridge: float) -> None:
    weight = np.zeros((4, 4, 3, 3, 2), dtype=np.float32)
    assert not core.correction_gain(weight, 0, size=[8, 8], period=[9.0, 9.0], ridge=ridge).any()


@pytest.mark.parametrize("ends", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grid", GRIDS, ids=["1d", "2d", "3d"])
def test_published_gains_are_those_of_the_two_steps(
    grid: Grid, dtype: Any, ends: tuple[bool, bool]
) -> None:
    modes, size, period = grid
    weight = problem(grid, (3, 3), dtype)[1]
    tried = ((0.0, True, False), (1e-4, False, True), (1e3, True, False))
    for axis in range(len(modes)):
        answer = end_response(torch.from_numpy(weight), axis, sizes=size, period=period)
        for tolerance, modulus, slipped in tried:
            if slipped and not all(ends):
                continue
            clamp = Clamp(tolerance, modulus=modulus)
            expected = scalar_gain(answer, ends=ends, clamp=clamp, index_slip=slipped).numpy()
            found = core.published_gain(
                weight,
                axis,
                size=size,
                period=period,
                ends=ends,
                tolerance=tolerance,
                modulus=modulus,
                slip=2.0 if slipped else 0.0,
            )
            assert found.shape == expected.shape
            # One end: a sum of three numbers in another order, over what cancellation leaves.
            assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grid", GRIDS, ids=["1d", "2d", "3d"])
def test_the_corrected_layer_gives_the_bits_of_the_operator(grid: Grid, dtype: Any) -> None:
    modes, size, period = grid
    x, weight = problem(grid, dtype=dtype)
    gains: list[Any] = [None] * len(modes)
    gains[0] = core.correction_gain(weight, 0, size=size, period=period)
    values, stencils = faces(grid, 2, dtype)
    found = core.spectral_conv(
        x, weight, period=period, gains=gains, values=values, stencils=stencils
    )
    expected = ops.boundary_spectral_conv(
        torch.from_numpy(x),
        torch.from_numpy(weight),
        tensors(gains),
        period=period,
        values=tensors(values),
        stencils=tensors(stencils),
    )
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected.numpy())
    plain = ops.spectral_conv(torch.from_numpy(x), torch.from_numpy(weight), period=period)
    np.testing.assert_array_equal(core.spectral_conv(x, weight, period=period), plain.numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grid", GRIDS, ids=["1d", "2d", "3d"])
def test_faces_get_the_bits_of_the_operator(grid: Grid, dtype: Any) -> None:
    u = problem(grid, dtype=dtype)[0]
    values, stencils = faces(grid, 3, dtype)
    expected = ops.assign_faces(torch.from_numpy(u), tensors(values), tensors(stencils)).numpy()
    np.testing.assert_array_equal(core.assign_faces(u, values, stencils), expected)
    assert core.assign_faces(u, values, stencils, u_out=u) is u
    np.testing.assert_array_equal(u, expected)


def test_the_given_array_receives_the_result_and_empty_batches_are_fine() -> None:
    x, weight = problem(GRIDS[0])
    out = np.empty((*BATCH, 2, 17))
    assert core.spectral_conv(x, weight, period=[20.5], y_out=out) is out
    np.testing.assert_array_equal(out, core.spectral_conv(x, weight, period=[20.5]))
    assert core.spectral_conv(x[:, :0], weight).shape == (2, 0, 2, 17)


_X, _W = problem(GRIDS[0])
_ONE = [np.zeros((*BATCH, 2, 2))]
_ROW = [np.zeros((2, 1))]

BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: core.spectral_conv([1.0], _W), TypeError, "x to be a numpy.ndarray, got list"),
    (lambda: core.spectral_conv(_X.astype(int), _W), TypeError, "float32 or float64, got int64"),
    (lambda: core.spectral_conv(_X, _W.astype(np.float32)), TypeError, "dtype float64, got float3"),
    (lambda: core.spectral_conv(_X[..., ::2], _W), ValueError, "x to be C-contiguous, got strides"),
    (lambda: core.spectral_conv(_X[:, :, :2].copy(), _W), ValueError, r"\(\*batch, 3, N_1..N_1\)"),
    (lambda: core.spectral_conv(_X, _W[0]), ValueError, "weight to have shape"),
    (lambda: core.spectral_conv(_X, _W, period=[16.0]), ValueError, "period to be at least"),
    (lambda: core.spectral_conv(_X, _W, period=[17.0, 1.0]), ValueError, "as many periods"),
    (lambda: core.spectral_conv(_X, _W, gains=[]), ValueError, "gains to have 1 entries, got 0"),
    (lambda: core.spectral_conv(_X, _W, gains=_ONE), ValueError, "gains to hold 60 elements"),
    (lambda: core.spectral_conv(_X, _W, values=_ONE), ValueError, "to be given together"),
    (
        lambda: core.spectral_conv(_X, _W, values=[_ONE[0][0]], stencils=_ROW),
        ValueError,
        r"values\[0\] to have shape",
    ),
    (
        lambda: core.spectral_conv(_X, _W, values=[np.zeros((*BATCH, 2, 1))], stencils=_ROW),
        ValueError,
        r"size 2 \(or 1\) along their axis 2, got 1",
    ),
    (lambda: core.spectral_conv(_X, _W, y_out=_X), ValueError, "y_out to have shape"),
    (
        lambda: core.spectral_conv(_X, np.zeros((6, 3, 3, 2)), y_out=_X),
        ValueError,
        "y_out to share no memory",
    ),
    (lambda: core.assign_faces(_X, [], []), ValueError, "1 to 3 values"),
    (
        lambda: core.assign_faces(_X, [np.zeros((1, 1, 1, 2))], [np.zeros((2, 17))]),
        ValueError,
        "less face.width",
    ),
    (
        lambda: core.correction_gain(_W, 1, size=[17], period=[17.0]),
        ValueError,
        "1 sizes and periods and an axis below 1",
    ),
    (
        lambda: core.correction_gain(_W, 0, size=[17], period=[17.0], ridge=-0.1),
        ValueError,
        "ridge to be finite and not negative",
    ),
    (
        lambda: core.published_gain(_W, size=[17], period=[17.0]),
        ValueError,
        "as many channels out as in",
    ),
    (
        lambda: core.published_gain(_W[:, :2].copy(), size=[17], period=[17.0], tolerance=-1.0),
        ValueError,
        "tolerance to be finite and not negative",
    ),
    (
        lambda: core.correction_gain(_W, 0, size=[17], period=[17.0], ends=(False, False)),
        ValueError,
        "ends to correct",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[m for _, _, m in BAD])
def test_bad_input_is_named(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["gelu", "none"])
@pytest.mark.parametrize("grid", GRIDS, ids=["1d", "2d", "3d"])
def test_convolution_and_pointwise_map_are_the_layer_of_the_operator(
    grid: Grid, activation: Any, dtype: Any
) -> None:
    _, size, period = grid
    x, weight = problem(grid, dtype=dtype)
    x = x.reshape(6, 3, *size)
    random = np.random.default_rng(3)
    skip, bias = random.normal(size=(3, 2)).astype(dtype), random.normal(size=2).astype(dtype)
    values, stencils = faces(grid, 2, dtype)
    values = [None if v is None else v.reshape(-1, *v.shape[2:]) for v in values]
    z = core.spectral_conv(x, weight, period=period)
    call = {"activation": activation, "values": values, "stencils": stencils}
    y = core.pointwise(z, x, skip, bias, **call)
    expected = ops.fno_block(
        torch.from_numpy(x),
        torch.from_numpy(weight),
        torch.from_numpy(skip),
        torch.from_numpy(bias),
        activation=activation,
        period=period,
        values=tensors(values),
        stencils=tensors(stencils),
    ).numpy()
    assert np.array_equal(y, expected)
    assert core.pointwise(z, x, skip, bias, y_out=z, **call) is z
    assert np.array_equal(z, expected)


def test_a_trained_network_runs_on_arrays_alone() -> None:
    """Float64 on both sides, the same operations but for the lifting: a few units of rounding."""
    torch.manual_seed(0)
    bc = BoundaryConditions(left=Dirichlet(), right=Dirichlet())
    model = FNO(
        (6,), 1, 1, 8, n_layers=3, boundary=bc, correction="exact", hidden_rule="none"
    ).double()
    x = torch.randn(4, 1, 40, dtype=torch.float64)
    ends = {"left": torch.randn(4, 1), "right": torch.randn(4, 1)}
    ends = {edge: value.double() for edge, value in ends.items()}
    with torch.no_grad():
        expected = model(x, ends).numpy()

    def mapped(layer: Any, h: Any, activation: Any, z: Any = None) -> Any:
        matrix = np.ascontiguousarray(layer.weight.detach().numpy()[..., 0].T)
        z = np.zeros((len(h), matrix.shape[1], 40)) if z is None else z
        return core.pointwise(z, h, matrix, layer.bias.detach().numpy(), activation=activation)

    edges = [np.broadcast_to(ends[e].numpy()[:, :, None], (4, 1, 40)) for e in ends]
    line = np.broadcast_to(np.linspace(0, 1, 40), (4, 1, 40))
    h = np.concatenate([x.numpy(), *edges, line], 1)
    period = axis_periods(None, [40], (6,), [True], who="test")
    h = mapped(model.lifting[2], mapped(model.lifting[0], h, "gelu"), "none")
    for k, (conv, skip) in enumerate(zip(model.convs, model.skips, strict=True)):
        weight = np.ascontiguousarray(conv.weight.detach().numpy())
        gain = core.correction_gain(weight, 0, size=[40], period=period)
        z = core.spectral_conv(h, weight, period=period, gains=[gain])
        h = mapped(skip, h, "gelu" if k < 2 else "none", z)
    u = mapped(model.projection[2], mapped(model.projection[0], h, "gelu"), "none")
    values = np.stack([ends["left"].numpy(), ends["right"].numpy()], 2)
    u = core.assign_faces(u, [values], [np.zeros((2, 1))])
    assert np.array_equal(u[..., [0, -1]], values)
    assert np.abs(u - expected).max() <= 1e-12 * np.abs(expected).max()


UNKNOWN: Any = "relu"
Z, X2, S2 = np.zeros((2, 3, 5)), np.zeros((2, 4, 5)), np.zeros((4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: core.pointwise(Z[0]), "expected z to have shape (batch, out, N_1, .., N_d)"),
        (lambda: core.pointwise(Z, X2), "expected x and skip to be given together"),
        (lambda: core.pointwise(Z, X2, S2.T.copy()), "expected skip to have shape (in, 3)"),
        (lambda: core.pointwise(Z, X2[:1], S2), "expected x to have shape (2, 4, 5)"),
        (lambda: core.pointwise(Z, bias=np.zeros(2)), "expected bias to have shape (3,)"),
        (lambda: core.pointwise(Z, activation=UNKNOWN), "'gelu' or 'none', got 'relu'"),
        (lambda: core.pointwise(Z, y_out=Z[::-1].copy()[:1]), "expected y_out to have shape"),
    ],
)
def test_a_wrong_pointwise_call_says_what_was_expected(
    call: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value)
