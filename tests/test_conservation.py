# SPDX-License-Identifier: Apache-2.0
"""Invariants of conditioning as properties of random meshes, rows and covariances."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from physcon_ext import GaussianField, LinearConstraint, conserve
from physcon_ext.constraints import blocks, smoothness, total


D = torch.float64
seeds = st.integers(0, 2**31 - 1)


def rational_residual(law: LinearConstraint, mean: Tensor) -> list[tuple[float, float]]:
    """Return residual and scale of every row of an unbatched law in exact arithmetic."""
    out = []
    for row, b in zip(law.rows.tolist(), law.target.tolist(), strict=True):
        terms = [Fraction(w) * Fraction(u) for w, u in zip(row, mean.tolist(), strict=True)]
        scale = sum((abs(t) for t in terms), Fraction(abs(b)))
        out.append((float(abs(sum(terms, Fraction(0)) - Fraction(b))), float(scale)))
    return out


def random_field(seed: int, n: int, *batch: int, decades: float = 6.0) -> GaussianField:
    g = torch.Generator().manual_seed(seed)
    spread = decades * torch.rand(*batch, n, generator=g, dtype=D) - decades / 2
    return GaussianField(torch.randn(*batch, n, generator=g, dtype=D), 10**spread)


def random_law(seed: int, n: int, r: int, *batch: int, noise: float = 0.0) -> LinearConstraint:
    g = torch.Generator().manual_seed(seed + 1)
    rows, b = torch.randn(r, n, generator=g, dtype=D), torch.randn(*batch, r, generator=g, dtype=D)
    return LinearConstraint(rows, b, noise)


def close(a: Tensor, b: Tensor, scale: Tensor | float = 1.0, tolerance: float = 1e-9) -> None:
    """Compare relative to the larger of the values and a scale."""
    assert bool(((a - b).abs() <= tolerance * torch.maximum(b.abs(), torch.as_tensor(scale))).all())


@settings(max_examples=60)
@given(seed=seeds, n=st.integers(1, 60), r=st.integers(1, 6), kind=st.sampled_from(["f32", "f64"]))
def test_rows_hold_to_rounding_in_exact_arithmetic(seed: int, n: int, r: int, kind: str) -> None:
    dtype = torch.float32 if kind == "f32" else D
    r = min(r, n)
    law = random_law(seed, n, r).to(dtype=dtype)
    base = random_field(seed, n, decades=2.0 if r > 1 else 12.0).to(dtype=dtype)
    post = conserve(base, law, validate=False)
    status = post.diagnostics().status.tolist()
    for (residual, scale), used in zip(rational_residual(law, post.mean), status, strict=True):
        if used == 0:
            assert residual <= 8 * torch.finfo(dtype).eps * scale


@pytest.mark.parametrize("n", [201, 1_000_000])
def test_one_total_holds_to_rounding_over_twelve_decades(n: int) -> None:
    base = random_field(5, n, decades=12.0)
    law = total(torch.linspace(0, 1, n, dtype=D), 0.4)
    mean = conserve(base, law).mean
    products = [a * b for a, b in zip(law.rows[0].tolist(), mean.tolist(), strict=True)]
    residual = math.fsum(products) - 0.4
    scale = math.fsum(abs(p) for p in products) + 0.4
    assert abs(residual) <= 8 * torch.finfo(D).eps * scale


@given(seed=seeds, n=st.integers(2, 40), blocks_=st.integers(1, 5))
def test_disjoint_rows_hold_to_rounding(seed: int, n: int, blocks_: int) -> None:
    r = min(blocks_, n)
    labels = torch.arange(n)[torch.randperm(n, generator=torch.Generator().manual_seed(seed))] % r
    law = blocks(labels, torch.randn(r, generator=torch.Generator().manual_seed(seed), dtype=D))
    post = conserve(random_field(seed, n, decades=12.0), law)
    for residual, scale in rational_residual(law, post.mean):
        assert residual <= 8 * torch.finfo(D).eps * scale


@given(seed=seeds, n=st.integers(1, 30), r=st.integers(1, 5), noise=st.sampled_from([0.0, 0.1]))
def test_variances_lie_between_zero_and_the_prior(seed: int, n: int, r: int, noise: float) -> None:
    field = random_field(seed, n, decades=12.0)
    post = conserve(field, random_law(seed, n, min(r, n), noise=noise), validate=False)
    assert bool((post.variance >= 0).all()) and bool((post.variance <= field.variance).all())
    scale = field.variance.sqrt()
    unit = post.covariance() / (scale[:, None] * scale)
    assert post.law is not None
    white = post.law.rows * scale
    condition = float(torch.linalg.cond(white / white.norm(dim=-1, keepdim=True))) ** 2
    assert float(torch.linalg.eigvalsh(unit).min()) >= -1e-15 * n * condition


@given(seed=seeds, n=st.integers(2, 20), r=st.integers(1, 3))
def test_conditioning_twice_changes_nothing(seed: int, n: int, r: int) -> None:
    field, law = random_field(seed, n, decades=2.0), random_law(seed, n, min(r, n - 1))
    once = conserve(field, law)
    twice = conserve(once, law)
    size = float(once.mean.abs().max())
    close(twice.mean, once.mean, size)
    close(twice.variance, once.variance, field.variance)
    assert int(twice.diagnostics().dof) == law.n_rows


@given(seed=seeds, n=st.integers(3, 20))
def test_order_of_rows_cells_and_items_does_not_matter(seed: int, n: int) -> None:
    field = random_field(seed, n, 4, decades=2.0)
    law = random_law(seed, n, 3, 4, noise=0.01)
    post = conserve(field, law)
    size = float(post.mean.abs().max())
    g = torch.Generator().manual_seed(seed)
    rows, cells, items = (torch.randperm(k, generator=g) for k in (3, n, 4))
    moved = conserve(
        GaussianField(field.mean[items][:, cells], field.variance[items][:, cells]),
        LinearConstraint(law.rows[rows][:, cells], law.target[items][:, rows], 0.01),
    )
    close(moved.mean, post.mean[items][:, cells], size)
    close(moved.variance, post.variance[items][:, cells], 1e-6)


@given(seed=seeds, n=st.integers(4, 20))
def test_stacked_rows_are_rows_one_after_the_other(seed: int, n: int) -> None:
    field = random_field(seed, n, decades=2.0)
    first, second = random_law(seed, n, 1), random_law(seed + 7, n, 2, noise=0.1)
    post = conserve(field, first & second)
    step = conserve(field, second)
    chained = conserve(GaussianField(step.mean, covariance=step.covariance()), first)
    close(chained.mean, post.mean, float(post.mean.abs().max()))
    close(chained.variance, post.variance, field.variance)


@given(seed=seeds, n=st.integers(2, 12))
def test_redundant_rows_change_nothing(seed: int, n: int) -> None:
    field = random_field(seed, n, decades=2.0)
    parts = blocks(torch.arange(n) % 2, torch.tensor([0.5, -1.0], dtype=D))
    whole = parts & LinearConstraint(torch.ones(n, dtype=D), -0.5)
    a, b = conserve(field, parts), conserve(field, whole)
    assert b.diagnostics().status.tolist() == [0, 0, 1]
    close(b.mean, a.mean, float(a.mean.abs().max()))
    close(b.variance, a.variance, field.variance)


@given(seed=seeds, n=st.integers(1, 10))
def test_as_many_rows_as_cells_determine_the_field(seed: int, n: int) -> None:
    field, law = random_field(seed, n, decades=1.0), random_law(seed, n, n + 2)
    u = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=D)
    law = LinearConstraint(law.rows, law.rows @ u)
    post = conserve(field, law, validate=False)
    condition = float(torch.linalg.cond(law.rows[:n]))
    close(post.mean, u, float(u.abs().max()), 1e-11 * condition**2)


@given(seed=seeds, n=st.integers(2, 30))
def test_small_noise_tends_to_no_noise_and_large_noise_to_the_prior(seed: int, n: int) -> None:
    field, law = random_field(seed, n, decades=2.0), random_law(seed, n, 1)
    hard = conserve(field, law)
    size = float((law.rows.square() * field.variance).sum())
    soft = conserve(field, LinearConstraint(law.rows, law.target, 1e-24 * size))
    close(soft.mean, hard.mean, float(hard.mean.abs().max()), 1e-10)
    close(soft.variance, hard.variance, field.variance, 1e-10)
    vague = conserve(field, LinearConstraint(law.rows, law.target, 1e15 * size))
    close(vague.mean, field.mean, float(field.mean.abs().max()), 1e-10)
    errors = [
        float(law.residual(conserve(field, LinearConstraint(law.rows, law.target, s)).mean).abs())
        for s in (size * 10.0**k for k in range(3, -7, -1))
    ]
    assert errors == sorted(errors, reverse=True)


@given(seed=seeds, scale=st.sampled_from([1e-20, 1e-7, 3.0, 1e20]))
def test_units_do_not_matter(seed: int, scale: float) -> None:
    field, law = random_field(seed, 8, decades=2.0), random_law(seed, 8, 2)
    post = conserve(field, law)
    moved = conserve(
        GaussianField(field.mean * scale, field.variance * scale**2),
        LinearConstraint(law.rows * 7e11, law.target * scale * 7e11),
    )
    close(moved.mean / scale, post.mean, float(post.mean.abs().max()))
    close(moved.variance / scale**2, post.variance, field.variance)


@given(seed=seeds, n=st.integers(3, 30), zero=st.booleans())
def test_smoothness_and_mass_hold_together(seed: int, n: int, zero: bool) -> None:
    field = random_field(seed, n, decades=2.0)
    variance = field.variance.clone()
    variance[n // 2] *= not zero
    gaps = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=D) + 0.1
    x = gaps.cumsum(0)
    law = smoothness(x, variance) & total(x, 1.0)
    post = conserve(GaussianField(field.mean, variance), law)
    dense = conserve(GaussianField(field.mean, covariance=torch.diag(variance)), law)
    close(post.mean, dense.mean, float(dense.mean.abs().max()), 1e-10)
    close(post.variance, dense.variance, variance, 1e-10)
    residual, scale = rational_residual(law, post.mean)[-1]
    assert residual <= 8 * torch.finfo(D).eps * scale


def strided(t: Tensor) -> Tensor:
    return torch.stack([t, t + 1], -1)[..., 0]


def transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT if t.ndim > 1 else t


@pytest.mark.parametrize("view", [strided, transposed, lambda t: t.clone().requires_grad_()])
def test_memory_layout_does_not_matter(view: object) -> None:
    assert callable(view)
    field, law = random_field(3, 7, 4), random_law(3, 7, 2, 4)
    post = conserve(field, law)
    other = conserve(
        GaussianField(view(field.mean), view(field.variance)),
        LinearConstraint(view(law.rows), view(law.target)),
    )
    assert torch.equal(other.mean, post.mean) and torch.equal(other.variance, post.variance)


def test_expanded_and_empty_batches_work() -> None:
    field, law = random_field(3, 7), random_law(3, 7, 2)
    wide = conserve(field.expand((3, 2)), law)
    one = conserve(field, law)
    assert torch.equal(wide.mean, one.mean.expand(3, 2, 7))
    empty = conserve(field.expand((0,)), law)
    assert empty.mean.shape == (0, 7) and empty.sample(2).shape == (2, 0, 7)


def test_nothing_of_size_n_by_n_is_formed() -> None:
    n, r = 1_000_000, 8
    rows = torch.zeros(r, n, dtype=D)
    rows[:, ::3] = torch.randn(r, (n + 2) // 3, dtype=D)
    law = LinearConstraint(rows, torch.ones(r, dtype=D))
    post = conserve(random_field(1, n), law)
    assert post.sample(1).shape == (1, n)  # an n x n matrix would need 8 TB
    assert float(post.diagnostics().ulps.max()) <= 8
