# SPDX-License-Identifier: Apache-2.0
"""The reference operations against 50-digit arithmetic that shares no code with them."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor

from physcon_ext import reference
from physcon_ext.reference import RowStatus


D = torch.float64


def exact(mean: Tensor, sigma: Tensor, rows: Tensor, target: Tensor, noise: Tensor) -> tuple:
    """Return posterior mean and covariance in 50 digits, rounded to float64."""
    with mpmath.workdps(50):
        m, s, g, b, r = (mpmath.matrix(t.tolist()) for t in (mean, sigma, rows, target, noise))
        gain = s * g.T * (g * s * g.T + r) ** -1
        moved, cov = m + gain * (b - g * m), s - gain * g * s
        n = len(mean)
        return (
            torch.tensor([float(moved[i]) for i in range(n)], dtype=D),
            torch.tensor([[float(cov[i, j]) for j in range(n)] for i in range(n)], dtype=D),
        )


def problem(n: int, r: int) -> tuple[Tensor, ...]:
    variance = 10 ** (12 * torch.rand(n, dtype=D) - 6)
    return torch.randn(n, dtype=D), variance, torch.randn(r, n, dtype=D), torch.randn(r, dtype=D)


@pytest.mark.parametrize("noise", ["none", "rows", "matrix"])
@pytest.mark.parametrize(("n", "r"), [(1, 1), (6, 1), (7, 3), (5, 5)])
def test_diagonal_prior_agrees_with_extended_precision(n: int, r: int, noise: str) -> None:
    m, s, g, b = problem(n, r)
    determined = noise == "none" and n == r  # exact variance zero, the mean as good as G
    s = s.clamp(0.1, 10) if determined else s
    root = torch.randn(r, r, dtype=D)
    given = {
        "none": torch.zeros(r, dtype=D),
        "rows": torch.rand(r, dtype=D),
        "matrix": root @ root.T,
    }
    value = given[noise]
    dense = value if noise == "matrix" else torch.diag(value)
    mean, cov = exact(m, torch.diag(s), g, b, dense)
    result = reference.condition_diagonal(m, s, g, b, value, factor=True, covariance=True)
    tolerance = 1e-7 if determined else 1e-10
    torch.testing.assert_close(
        result.mean, mean, rtol=1e-9, atol=tolerance * float(mean.abs().max())
    )
    if not determined:
        torch.testing.assert_close(result.variance, cov.diagonal(), rtol=1e-9, atol=0)
    scale = float(s.max())
    torch.testing.assert_close(result.covariance, cov, rtol=0, atol=1e-13 * scale)
    rebuilt = torch.diag(s) - result.factor.T @ result.factor
    torch.testing.assert_close(rebuilt, cov, rtol=0, atol=1e-13 * scale)
    assert bool((result.info == RowStatus.USED).all())


def test_dense_and_cross_agree_with_extended_precision() -> None:
    m, _, g, b = problem(6, 2)
    root = torch.randn(6, 6, dtype=D)
    sigma = root @ root.T
    mean, cov = exact(m, sigma, g, b, 0.3 * torch.eye(2, dtype=D))
    dense = reference.condition_dense(m, sigma, g, b, 0.3)
    cross = reference.condition_cross(m, sigma.diagonal(), g @ sigma, g, b, 0.3)
    for result in (dense, cross):
        torch.testing.assert_close(result.mean, mean, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(result.variance, cov.diagonal(), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(dense.covariance, cov, rtol=1e-12, atol=1e-13)


def test_disjoint_rows_are_the_dense_rows_they_stand_for() -> None:
    m, s, _, b = problem(8, 2)
    w = torch.randn(6, dtype=D)
    order, offsets = torch.tensor([5, 1, 0, 7, 2, 3]), torch.tensor([0, 2, 6])
    rows = torch.zeros(2, 8, dtype=D)
    rows[0, order[:2]], rows[1, order[2:]] = w[:2], w[2:]
    mean, cov = exact(m, torch.diag(s), rows, b, 0.1 * torch.eye(2, dtype=D))
    result = reference.condition_disjoint(m, s, w, order, offsets, b, 0.1)
    torch.testing.assert_close(result.mean, mean, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(result.variance, cov.diagonal(), rtol=1e-10, atol=0)
    d = 0.1 + (rows.square() * s).sum(-1)
    torch.testing.assert_close(result.cholesky, d.sqrt(), rtol=1e-14, atol=0)
    owner = torch.tensor([0, 0, 1, 1, 1, 1])
    torch.testing.assert_close(result.factor, w * s[order] / d.sqrt()[owner], rtol=1e-13, atol=0)


def test_banded_rows_and_their_products_agree_with_extended_precision() -> None:
    n = 7
    m, _, _, b = problem(n, n - 2)
    s = torch.rand(n, dtype=D)
    stencil, noise = torch.randn(n - 2, 3, dtype=D), torch.rand(n - 2, dtype=D) + 0.1
    rows = torch.zeros(n - 2, n, dtype=D)
    for k in range(n - 2):
        rows[k, k : k + 3] = stencil[k]
    mean, cov = exact(m, torch.diag(s), rows, b, torch.diag(noise))
    result = reference.condition_banded(m, s, stencil, b, noise)
    torch.testing.assert_close(result.mean, mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(result.variance, cov.diagonal(), rtol=1e-11, atol=0)
    low = sum(torch.diag(result.band[d, : n - d], -d) for d in range(3))
    e = rows * s.sqrt()
    precision = torch.eye(n, dtype=D) + e.T @ (e / noise[:, None])
    torch.testing.assert_close(low @ low.T, precision, rtol=1e-12, atol=1e-12)
    x = torch.randn(4, n, dtype=D)
    product = reference.banded_product(s, stencil, noise, x)
    torch.testing.assert_close(product, x @ cov, rtol=1e-11, atol=1e-12)


def test_row_status_tells_what_became_of_every_row() -> None:
    m, s, g, b = problem(5, 2)
    s = s.clamp(0.1, 1)
    s[0] = 0
    cell = torch.eye(5, dtype=D)[:1]
    rows = torch.cat([g, g[:1] + g[1:], g[:1] - g[1:], cell, cell])
    target = torch.cat([b, (b[0] + b[1])[None], (b[0] - b[1] + 1)[None], m[:1], m[:1] + 1])
    result = reference.condition_diagonal(m, s, rows, target, 0.0)
    assert result.info.tolist() == [0, 0, 1, 2, 4, 3]
    assert result.cholesky.diagonal().isinf().tolist() == [False, False, True, True, True, True]
    alone = reference.condition_diagonal(m, s, g, b, 0.0)
    torch.testing.assert_close(result.mean, alone.mean, rtol=1e-13, atol=1e-14)


def test_the_rank_of_random_redundant_rows_is_found() -> None:
    for n in range(1, 11):
        variance = 10 ** (2 * torch.rand(50, n, dtype=D) - 1)
        rows, u = torch.randn(50, n + 2, n, dtype=D), torch.randn(50, n, dtype=D)
        target = (rows @ u[..., None])[..., 0]
        target[:25, n] += 1
        info = reference.condition_diagonal(
            torch.zeros(50, n, dtype=D), variance, rows, target, 0.0
        ).info
        condition = torch.linalg.cond(rows[:, :n])
        easy = condition < 30  # beyond, consistency itself is lost in rounding
        assert int(easy.sum()) > 5
        assert bool((info[easy, :n] == RowStatus.USED).all())
        assert bool((info[easy, n + 1] == RowStatus.REDUNDANT).all())
        late = torch.where(torch.arange(50) < 25, RowStatus.INCONSISTENT, RowStatus.REDUNDANT)
        assert torch.equal(info[easy, n], late[easy].to(torch.int32))


def test_a_non_finite_item_touches_no_other() -> None:
    m, s, g, b = problem(4, 2)
    means = torch.stack([m, m])
    means[0, 1] = torch.nan
    result = reference.condition_diagonal(means, s, g, b, 0.0, factor=True, covariance=True)
    alone = reference.condition_diagonal(m, s, g, b, 0.0, factor=True, covariance=True)
    assert result.info.tolist() == [[5, 5], [0, 0]]
    for batched, single in zip(result[:6], alone[:6], strict=True):
        assert bool(batched[0].isnan().all())
        torch.testing.assert_close(batched[1], single, rtol=1e-11, atol=1e-11)


def test_derivatives_are_those_of_the_definition() -> None:
    m, s, g, b = (torch.randn(2, 4), torch.rand(2, 4) + 0.3, torch.randn(2, 4), torch.randn(2, 2))
    tensors = [t.double().requires_grad_() for t in (m, s, g, b, torch.rand(2, 2))]

    def call(*args: Tensor) -> tuple[Tensor, ...]:
        return reference.condition_diagonal(*args, factor=True, covariance=True)[:4]

    assert torch.autograd.gradcheck(call, tensors)
    assert torch.autograd.gradgradcheck(call, tensors)


def test_float32_is_computed_in_float64() -> None:
    m, s, g, b = problem(9, 3)
    low = [t.float() for t in (m, s, g, b)]
    result = reference.condition_diagonal(*low, 0.0)
    wide = reference.condition_diagonal(*(t.double() for t in low), 0.0)
    assert result.mean.dtype == torch.float32
    assert torch.equal(result.mean, wide.mean.float())
    assert torch.equal(result.variance, wide.variance.float())
