# SPDX-License-Identifier: Apache-2.0
"""Constraint rows: quadrature, blocks, smoothness, stacking, residuals."""

from __future__ import annotations

import math

import pytest
import torch

from physcon_ext import GaussianField, LinearConstraint, conserve
from physcon_ext.boundary import BoundaryConditions, Dirichlet, Neumann
from physcon_ext.constraints import blocks, boundary, quadrature, smoothness, total
from physcon_ext.constraints.rows import BandedRows, DenseRows, DisjointRows


D = torch.float64


def points(n: int) -> torch.Tensor:
    return torch.sort(torch.rand(n, dtype=D)).values


@pytest.mark.parametrize(
    ("rule", "degree"), [("trapezoid", 1), ("simpson", 2), ("right", 0), ("midpoint", 0)]
)
@pytest.mark.parametrize("n", [3, 4, 5, 8, 11])
def test_rules_integrate_polynomials_of_their_degree(rule: str, degree: int, n: int) -> None:
    x = points(n)
    low, high = (0.0, 1.0) if rule == "midpoint" else (float(x[0]), float(x[-1]))
    w = quadrature(x, rule=rule, domain=(low, high))
    for k in range(degree + 1):
        expected = (high ** (k + 1) - low ** (k + 1)) / (k + 1)
        assert math.isclose(float((w * x**k).sum()), expected, rel_tol=1e-12)


@pytest.mark.parametrize("rule", ["trapezoid", "simpson", "right", "midpoint"])
def test_unsorted_points_get_the_weights_of_the_sorted_ones(rule: str) -> None:
    x, order = points(9), torch.randperm(9)
    assert torch.equal(quadrature(x[order], rule=rule), quadrature(x, rule=rule)[order])


def test_trapezoid_and_right_have_the_published_weights() -> None:
    x = torch.tensor([0.0, 1.0, 3.0, 3.5])
    assert quadrature(x).tolist() == [0.5, 1.5, 1.25, 0.25]
    assert quadrature(x, rule="right").tolist() == [0.0, 1.0, 2.0, 0.5]


def test_cells_and_volumes_give_exact_totals() -> None:
    edges = torch.tensor([0.0, 1.0, 3.0])
    assert total(edges, 1.0, rule="cell").rows.tolist() == [[1.0, 2.0]]
    volumes = torch.rand(3, 4, dtype=D)
    law = total(None, torch.tensor([2.0, 3.0], dtype=D), volumes=volumes)
    assert torch.equal(law.rows[0], volumes.flatten())
    assert law.batch_shape == (2,)


def test_a_total_over_a_grid_goes_with_boundary_rows() -> None:
    x, y = torch.linspace(0, 1, 9, dtype=D), torch.linspace(0, 2, 7, dtype=D) ** 2
    area = total([x, y], 0.0).residual(torch.ones(63, dtype=D))
    torch.testing.assert_close(area, torch.full_like(area, 4.0))
    bc = BoundaryConditions(left=Dirichlet(1.0), top=Neumann(0.0, order=2))
    law = boundary([x, y], bc) & total([x, y], 2.0)
    mean = torch.randn(3, 63, dtype=D)
    post = conserve(GaussianField(mean, torch.ones_like(mean)), law)
    assert float(law.residual(post.mean).abs().max()) < 1e-12


def test_points_may_differ_from_item_to_item() -> None:
    x = torch.stack([points(6), points(6)])
    law = total(x, torch.tensor([1.0, 2.0], dtype=D), noise_variance=torch.tensor(0.5, dtype=D))
    for k in range(2):
        assert torch.equal(law.rows[k, 0], quadrature(x[k]))


def test_a_noise_per_item_goes_with_one_shared_total() -> None:
    law = total(points(5), 1.0, noise_variance=torch.tensor([0.1, 0.2, 0.3], dtype=D))
    assert law.batch_shape == (3,)
    assert law.noise.tolist() == [[0.1], [0.2], [0.3]]


def test_domain_must_be_spanned_unless_partial_is_allowed() -> None:
    x = torch.linspace(0, 0.9, 5)
    with pytest.raises(
        ValueError, match=r"x to span the domain \(0, 1\), got points from 0 to 0.9"
    ):
        total(x, 1.0, domain=(0.0, 1.0))
    assert total(x, 1.0, domain=(0.0, 1.0), allow_partial=True).n_rows == 1


def test_blocks_are_disjoint_rows_with_the_totals_of_the_labels() -> None:
    labels = torch.tensor([2, 0, -1, 1, 0, 2])
    volumes, b = torch.rand(6, dtype=D), torch.randn(4, 3, dtype=D)
    law = blocks(labels, b, volumes=volumes)
    dense = torch.stack([torch.where(labels == k, volumes, 0) for k in range(3)])
    assert isinstance(law.groups[0].rows, DisjointRows)
    assert torch.equal(law.rows, dense)
    u = torch.randn(4, 6, dtype=D)
    torch.testing.assert_close(law.residual(u), u @ dense.T - b, rtol=1e-14, atol=1e-15)
    assert law.names == ("block[0]", "block[1]", "block[2]")


@pytest.mark.parametrize("batch", [(), (2,)])
def test_disjoint_support_is_found(batch: tuple[int, ...]) -> None:
    g = torch.zeros(*batch, 2, 5)
    g[..., 0, 3], g[..., 1, 1], g[..., 1, 4] = 2.0, 1.0, -1.0
    law = LinearConstraint(g, torch.zeros(2))
    assert isinstance(law.groups[0].rows, DisjointRows)
    assert torch.equal(law.rows, g)
    g[..., 0, 4] = 1.0
    assert isinstance(LinearConstraint(g, torch.zeros(2)).groups[0].rows, DenseRows)


def published_variance(s: torch.Tensor, rho: float) -> torch.Tensor:
    a, b, c = s[:-2], s[1:-1], s[2:]
    cross = -4 * rho * (a * b).sqrt() - 4 * rho * (b * c).sqrt() + 2 * rho**2 * (a * c).sqrt()
    return a + 4 * b + c + cross


def test_smoothness_on_a_uniform_grid_is_the_published_form() -> None:
    s = torch.rand(8, dtype=D) + 0.1
    law = smoothness(torch.linspace(0, 1, 8, dtype=D), s, rho=0.9)
    assert isinstance(law.groups[0].rows, BandedRows)
    assert torch.equal(law.rows[0], torch.tensor([1.0, -2, 1, 0, 0, 0, 0, 0], dtype=D))
    torch.testing.assert_close(law.noise, published_variance(s, 0.9), rtol=1e-13, atol=0)


def test_smoothness_on_any_grid_is_the_variance_under_correlated_neighbours() -> None:
    x, s, h_ref, rho = points(7), torch.rand(7, dtype=D) + 0.1, 0.05, 0.9
    law = smoothness(x, s, rho, h_ref=h_ref)
    rows = law.rows
    slope = torch.stack([torch.ones_like(x), x])
    torch.testing.assert_close(rows @ slope.T, torch.zeros(5, 2, dtype=D), rtol=0, atol=1e-13)
    distance = (x[:, None] - x[None]).abs()
    sigma = rho ** (distance / h_ref) * (s[:, None] * s[None]).sqrt()
    torch.testing.assert_close(law.noise, (rows @ sigma @ rows.T).diagonal(), rtol=1e-11, atol=0)


def test_smoothness_guards_small_variances_and_drops_certain_rows() -> None:
    x = torch.linspace(0, 1, 7, dtype=D)
    ones = torch.ones(7, dtype=D)
    torch.testing.assert_close(smoothness(x, ones, rho=1.0).noise, 6e-6 * ones[:5])
    s = torch.tensor([0.0, 0, 0, 0, 1, 1, 1], dtype=D)
    law = smoothness(x, s)
    assert law.rows.abs().sum(-1).tolist() == [0.0, 0.0, 4.0, 4.0, 4.0]
    assert bool((law.noise > 0).all())


def test_smoothness_has_finite_gradients_at_zero_variance() -> None:
    s = torch.tensor([0.0, 0, 1, 1, 2], dtype=D, requires_grad=True)
    smoothness(torch.linspace(0, 1, 5, dtype=D), s).noise.sum().backward()
    assert s.grad is not None and bool(s.grad.isfinite().all())


def test_stacked_laws_keep_layouts_names_and_noise() -> None:
    x = torch.linspace(0, 1, 6, dtype=D)
    mass = total(x, 1.0, name="mass")
    soft = LinearConstraint(
        torch.randn(2, 6, dtype=D), torch.zeros(2, dtype=D), torch.eye(2, dtype=D), names="m"
    )
    law = mass & smoothness(x, torch.ones(6, dtype=D)) & soft
    assert law.n_rows == 7
    assert [type(g.rows) for g in law.groups] == [DenseRows, BandedRows, DenseRows]
    assert law.names[0] == "mass" and law.names[-1] == "m[1]"
    assert law.noise.shape == (7, 7) and law.noise[0, 0] == 0
    u = torch.randn(3, 6, dtype=D)
    torch.testing.assert_close(law.residual(u), u @ law.rows.T - law.target)
    assert repr(law) == "LinearConstraint(1 dense & 4 banded & 2 dense, n_cells=6)"


def test_residual_of_float32_is_summed_in_float64() -> None:
    g, u = torch.rand(1, 10_000), torch.rand(10_000)
    law = LinearConstraint(g, torch.zeros(1))
    expected = math.fsum(a * b for a, b in zip(g[0].tolist(), u.tolist(), strict=True))
    assert abs(float(law.residual(u)) - expected) < 1e-13 * expected


def test_laws_move_between_dtypes() -> None:
    law = blocks(torch.tensor([0, 1, 1]), torch.ones(2)).to(dtype=D)
    assert law.dtype == D and law.residual(torch.ones(3, dtype=D)).tolist() == [0.0, 1.0]
