# SPDX-License-Identifier: Apache-2.0
"""Conservation to rounding and variances without cancellation, by exact arithmetic.

The promise: ``|G m' - b| <= 8 eps (|G| |m'| + |b|)`` for every exact row, ``eps`` of the dtype.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from op_suite import (
    DTYPES,
    TOLERANCE,
    deviation,
    exact_residual,
    extended_condition,
    independent_rows,
    normal,
    positive,
    seeded,
    spd,
)
from physcon_ext import ops


BOUND = 8.0


def decades(g: torch.Generator, n: int) -> Tensor:
    """Variances from 1e-6 to 1e6, every decade alike."""
    return 10 ** (12 * torch.rand(n, generator=g, dtype=torch.float64) - 6)


def worst_ratio(rows: Tensor, mean: Tensor, target: Tensor) -> float:
    """The largest ``|G m - b| / (eps (|G| |m| + |b|))`` over the rows."""
    eps = torch.finfo(mean.dtype).eps
    pairs = zip(*exact_residual(rows, mean, target), strict=True)
    return max(residual / (eps * size) for residual, size in pairs)


def test_the_exact_residual_agrees_with_rational_arithmetic() -> None:
    """The measuring tool itself."""
    g = seeded("tool")
    for dtype in DTYPES:
        rows, mean, target = (t.to(dtype) for t in (normal(g, 3, 50), normal(g, 50), normal(g, 3)))
        mean = (mean * 10 ** (8 * normal(g, 50))).to(dtype)
        residuals, magnitudes = exact_residual(rows, mean, target)
        for k in range(3):
            pairs = list(zip(rows[k].tolist(), mean.tolist(), strict=True))
            exact = sum((Fraction(a) * Fraction(b) for a, b in pairs), -Fraction(target[k].item()))
            size = sum((abs(Fraction(a) * Fraction(b)) for a, b in pairs), Fraction(0))
            assert residuals[k] == abs(float(exact))
            total = float(size + abs(Fraction(target[k].item())))
            assert magnitudes[k] == pytest.approx(total, rel=1e-15)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e8])
@pytest.mark.parametrize(
    ("n", "r"),
    [(1, 1), (201, 1), (200, 8), (129, 33), (400, 128)]
    + [(4097, 3), (9001, 17), (100_000, 8), (1_000_000, 1)],
)
def test_rows_hold_to_rounding(n: int, r: int, offset: float, dtype: torch.dtype) -> None:
    """Variances over twelve decades, rows of every size, a prior mean far from the target."""
    g = seeded("rows", n, r)
    scale = 10 ** (6 * torch.rand(r, 1, generator=g, dtype=torch.float64) - 3)
    rows = (independent_rows(g, r, n) * scale).to(dtype)
    mean = (normal(g, n) + offset).to(dtype)
    target = (normal(g, r) * scale[:, 0] * n**0.5).to(dtype)
    post = ops.condition_diagonal(mean, decades(g, n).to(dtype), rows, target, 0.0)
    assert post.info.tolist() == [0] * r
    assert worst_ratio(rows, post.mean, target) <= BOUND


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_square_systems_over_twelve_decades_hold_to_rounding(
    offset: float, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(1633607890)  # always the same problem
    scale = 10 ** (6 * torch.rand(5, 1, generator=g, dtype=torch.float64) - 3)
    rows = (independent_rows(g, 5, 5) * scale).to(dtype)
    mean, target = (
        (normal(g, 5) + offset).to(dtype),
        (normal(g, 5) * scale[:, 0] * 5**0.5).to(dtype),
    )
    post = ops.condition_diagonal(mean, decades(g, 5).to(dtype), rows, target, 0.0)
    assert worst_ratio(rows, post.mean, target) <= BOUND


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_totals_with_positive_weights_hold_to_rounding(offset: float, dtype: torch.dtype) -> None:
    """Mass of a density on a million cells: the sum is about one, no cancellation forgives."""
    n = 1_000_000
    g = seeded("total")
    weights = (positive(g, 1, n) / n).to(dtype)
    mean = (normal(g, n).abs() + offset).to(dtype)
    for target in (1.0, 1e-6, -3e5):
        b = torch.tensor([target], dtype=dtype)
        post = ops.condition_diagonal(mean, decades(g, n).to(dtype), weights, b, 0.0)
        assert worst_ratio(weights, post.mean, b) <= BOUND


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_every_item_of_a_batch_holds_to_rounding(shared: bool, dtype: torch.dtype) -> None:
    g = seeded("items")
    rows = normal(g, *(() if shared else (40,)), 6, 500).to(dtype)
    mean, target = (normal(g, 40, 500) + 100).to(dtype), normal(g, 40, 6).to(dtype)
    variance = decades(g, 20_000).reshape(40, 500).to(dtype)
    post = ops.condition_diagonal(mean, variance, rows, target, 0.0)
    for i in range(40):
        own = rows if shared else rows[i]
        assert worst_ratio(own, post.mean[i], target[i]) <= BOUND


def test_float32_rows_of_any_number_have_float64_systems() -> None:
    """The sums of rank size are those of float64 arithmetic on the same float32 data."""
    g = seeded("many rows")
    for n, r, unit in [(700, 32, 1.0), (5000, 64, 1e-3), (700, 40, 1e-25)]:
        rows = (independent_rows(g, r, n) * unit).float()
        mean, variance = (normal(g, n) + 50).float(), positive(g, n).float()
        target = (normal(g, r) * unit).float()
        found = ops.condition_diagonal(mean, variance, rows, target, 0.0)
        exact = ops.condition_diagonal(*(t.double() for t in (mean, variance, rows, target)), 0.0)
        assert deviation(found.cholesky, exact.cholesky) <= 1e-13
        assert deviation(found.multipliers, exact.multipliers) <= 1e-10
        assert worst_ratio(rows, found.mean, target) <= BOUND


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "r"), [(1, 1), (300, 1), (300, 16), (20_000, 5)])
def test_rows_hold_to_rounding_for_a_general_prior(n: int, r: int, dtype: torch.dtype) -> None:
    g = seeded("cross", n, r)
    rows = independent_rows(g, r, n).to(dtype)
    mean, target = (normal(g, n) + 1e3).to(dtype), normal(g, r).to(dtype)
    own, low = positive(g, n), normal(g, 3, n)
    cross = rows.double() * own + (rows.double() @ low.T) @ low
    variance = own + (low * low).sum(0)
    post = ops.condition_cross(mean, variance.to(dtype), cross.to(dtype), rows, target, 0.0)
    assert worst_ratio(rows, post.mean, target) <= BOUND
    if n <= 300:
        prior = spd(g, n).to(dtype)
        dense = ops.condition_dense(mean, prior, rows, target, 0.0)
        assert worst_ratio(rows, dense.mean, target) <= BOUND


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [1, 15, 16, 70, 130, 200, 1024])
def test_dense_results_are_symmetric_and_those_of_each_item_alone(
    n: int, dtype: torch.dtype
) -> None:
    """Two items of 1024 points are written past the caches, one alone is not in float32."""
    g = seeded("dense", n)
    r = min(n, 5)
    rows, mean = normal(g, r, n).to(dtype), normal(g, 2, n).to(dtype)
    target, low = normal(g, 2, r).to(dtype), normal(g, 2, 3, n).to(dtype)
    diagonal = positive(g, 2, n).to(dtype)
    dense = torch.diag_embed(diagonal) + low.mT @ low
    dense = (dense + dense.mT) / 2
    for prior, op in (
        (diagonal, lambda m, v, t: ops.condition_diagonal(m, v, rows, t, 0.125, covariance=True)),
        (dense, lambda m, v, t: ops.condition_dense(m, v, rows, t, 0.125)),
    ):
        found = op(mean, prior, target).covariance
        assert torch.equal(found, found.mT)
        wide = prior.double() if prior.ndim == 3 else torch.diag_embed(prior.double())
        cross = rows.double() @ wide
        a = cross @ rows.double().T + 0.125 * torch.eye(r)
        expected = wide - cross.mT @ torch.cholesky_solve(cross, torch.linalg.cholesky(a))
        scale = wide.diagonal(dim1=-2, dim2=-1).sqrt()
        error = (found - expected).abs() / (scale[:, :, None] * scale[:, None, :])
        assert error.max() <= 200 * torch.finfo(dtype).eps
        for i in range(2):
            assert torch.equal(op(mean[i], prior[i], target[i]).covariance, found[i])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "r"), [(1, 1), (5, 5), (1000, 37), (1_000_000, 1000)])
def test_disjoint_rows_hold_to_rounding(n: int, r: int, dtype: torch.dtype) -> None:
    g = seeded("disjoint", n, r)
    weights, mean = normal(g, n).to(dtype), (normal(g, n) + 1e5).to(dtype)
    order, offsets = torch.randperm(n, generator=g), torch.arange(r + 1) * n // r
    target = normal(g, r).to(dtype)
    variance = decades(g, n).to(dtype)
    post = ops.condition_disjoint(mean, variance, weights, order, offsets, target, 0.0)
    for k in range(0, r, max(1, r // 50)):
        part = slice(int(offsets[k]), int(offsets[k + 1]))
        own = post.mean[order[part]]
        assert worst_ratio(weights[None, part], own, target[k : k + 1]) <= BOUND


@settings(max_examples=60)
@given(
    n=st.integers(1, 140),
    data=st.data(),
    scale=st.integers(-9, 9),
    offset=st.floats(-1e6, 1e6),
    wide=st.booleans(),
)
def test_any_problem_holds_to_rounding(
    n: int, data: st.DataObject, scale: int, offset: float, wide: bool
) -> None:
    r = data.draw(st.integers(1, min(n, 12)))
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    dtype = torch.float64 if wide else torch.float32
    rows = (independent_rows(g, r, n) * 10.0**scale).to(dtype)
    mean = (normal(g, n) + offset).to(dtype)
    target = (normal(g, r) * 10.0**scale).to(dtype)
    # Square systems over twelve decades have a test of their own.
    variance = (decades(g, n) if 2 * r <= n else positive(g, n)).to(dtype)
    post = ops.condition_diagonal(mean, variance, rows, target, 0.0, factor=True)
    kept = post.info == 0
    assert kept.any()
    if kept.any():
        assert worst_ratio(rows[kept], post.mean, target[kept]) <= BOUND
    assert bool((post.variance >= 0).all())
    # Rounding of one product: nothing is ever larger than the prior by more than that.
    assert bool((post.variance <= variance * (1 + 4 * torch.finfo(dtype).eps)).all())


# ---- variances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize(("n", "r"), [(1, 1), (2, 1), (201, 1), (131, 3), (700, 8), (4500, 2)])
def test_nearly_determined_points_keep_their_relative_accuracy(
    n: int, r: int, noise: float, dtype: torch.dtype
) -> None:
    """One point per row carries all but 1e-9 (1e-5 in float32) of the variance of its row."""
    g = seeded("dominant", n, r)
    rows = normal(g, r, n)
    variance = positive(g, n) * (1e-9 if dtype == torch.float64 else 1e-5) / n
    hot = torch.randperm(n, generator=g)[:r]
    variance[hot] = positive(g, r)
    for k, cell in enumerate(hot.tolist()):
        rows[:, cell] *= 1e-3
        rows[k, cell] = 1.0
    rows, variance = rows.to(dtype), variance.to(dtype)
    mean, target = normal(g, n).to(dtype), normal(g, r).to(dtype)
    post = ops.condition_diagonal(mean, variance, rows, target, noise * 1e-6)
    noise_used = torch.tensor(noise * 1e-6, dtype=dtype).double()
    expected = extended_condition(mean, variance, None, rows, target, noise_used)["variance"]
    found = post.variance.double().numpy()
    limit = 1e-10 if dtype == torch.float64 else 1e-5
    if n == 1 and noise == 0:  # determined completely: what is left is the rounding of one sum
        assert 0 <= found[0] <= torch.finfo(dtype).eps * variance[0]
        return
    assert np.all(expected > 0)
    error = np.abs(found / expected - 1).astype(float)
    assert error.max() <= limit, (int(error.argmax()), float(error.max()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_dominant_point_of_a_disjoint_row(dtype: torch.dtype) -> None:
    """The published failure of the subtraction: true 2.00e-6, subtracted 1.91e-6 in float32."""
    variance = torch.full((1000,), 2e-9, dtype=dtype)
    variance[0] = 1.0
    one, none = torch.ones(1000, dtype=dtype), torch.empty(0, dtype=torch.int64)
    edges, target = torch.tensor([0, 1000]), torch.ones(1, dtype=dtype)
    expected = extended_condition(0 * one, variance, None, one[None], target, 0.0)["variance"]
    limit = 1e-10 if dtype == torch.float64 else 1e-5
    for post in (
        ops.condition_disjoint(0 * one, variance, one, none, edges, target, 0.0),
        ops.condition_diagonal(0 * one, variance, one[None], target, 0.0),
    ):
        assert abs(post.variance[0].item() / float(expected[0]) - 1) <= limit


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "r"), [(50, 50), (300, 1), (300, 20), (9001, 4)])
def test_variances_lie_between_zero_and_the_prior(n: int, r: int, dtype: torch.dtype) -> None:
    g = seeded("between", n, r)
    variance, rows = decades(g, n).to(dtype), independent_rows(g, r, n).to(dtype)
    variance[::7] = 0
    if r == n:
        variance[::7] = 1e-6
    post = ops.condition_diagonal(
        normal(g, n).to(dtype), variance, rows, normal(g, r).to(dtype), 0.0, factor=True
    )
    assert bool((post.variance >= 0).all())
    assert bool((post.variance <= variance * (1 + 4 * torch.finfo(dtype).eps)).all())
    assert torch.equal(post.variance[variance == 0], variance[variance == 0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_unit_of_a_row_does_not_matter(dtype: torch.dtype) -> None:
    """Rows, target and noise in another unit: the same posterior."""
    g = seeded("unit")
    for r in (1, 5):
        mean, variance = normal(g, 300).to(dtype), positive(g, 300).to(dtype)
        rows, target = normal(g, r, 300).to(dtype), normal(g, r).to(dtype)
        noise = positive(g, r).to(dtype)
        expected = ops.condition_diagonal(mean, variance, rows, target, noise)
        for power in (-60, -12, 12, 60):
            unit = 2.0**power
            found = ops.condition_diagonal(
                mean, variance, rows * unit, target * unit, noise * unit * unit
            )
            assert deviation(found.mean, expected.mean) <= TOLERANCE[dtype], power
            assert deviation(found.variance, expected.variance) <= TOLERANCE[dtype], power
            assert torch.equal(found.info, expected.info)
        exact = ops.condition_diagonal(mean, variance, rows, target, 0.0)
        for power in (-80, 80):  # the square of such a row is beyond the range of float32
            unit = 2.0**power
            found = ops.condition_diagonal(mean, variance, rows * unit, target * unit, 0.0)
            assert deviation(found.mean, exact.mean) <= TOLERANCE[dtype], power
            assert deviation(found.variance, exact.variance) <= TOLERANCE[dtype], power


@pytest.mark.parametrize("r", [1, 4])
@pytest.mark.parametrize("form", ["diagonal", "cross", "dense"])
def test_vanishing_noise_is_continuous(form: str, r: int) -> None:
    """1e-12 of the row's own standard deviation as noise, or none: equal to 1e-10."""
    g = seeded("limit", r)
    mean, variance = normal(g, 80), positive(g, 80)
    rows, target = normal(g, r, 80), normal(g, r)
    own = (rows * rows * variance).sum(-1)
    results = []
    for noise in (torch.zeros(r, dtype=torch.float64), 1e-24 * own):
        if form == "diagonal":
            post = ops.condition_diagonal(mean, variance, rows, target, noise)
        elif form == "cross":
            post = ops.condition_cross(mean, variance, rows * variance, rows, target, noise)
        else:
            post = ops.condition_dense(mean, torch.diag(variance), rows, target, noise)
        results.append(post)
    assert deviation(results[1].mean, results[0].mean) <= 1e-10
    assert deviation(results[1].variance, results[0].variance, variance) <= 1e-10


def test_conditioning_twice_changes_nothing_and_order_does_not_matter() -> None:
    g = seeded("twice")
    mean, variance = normal(g, 200), decades(g, 200)
    rows, target = normal(g, 6, 200), normal(g, 6)
    once = ops.condition_diagonal(mean, variance, rows, target, 0.0, covariance=True)
    again = ops.condition_dense(once.mean, once.covariance, rows, target, 0.0)
    size = (rows.abs() @ once.mean.abs()).max()
    assert (rows @ again.mean - target).abs().max() <= 8 * 2.3e-16 * size
    assert deviation(again.mean, once.mean) <= 1e-11
    assert deviation(again.variance, once.variance, variance) <= 1e-11
    order = torch.randperm(6, generator=g)
    turned = ops.condition_diagonal(mean, variance, rows[order], target[order], 0.0)
    assert deviation(turned.mean, once.mean) <= 1e-11
    assert deviation(turned.variance, once.variance) <= 1e-11
