# SPDX-License-Identifier: Apache-2.0
"""`conserve` and `project`: every prior and row layout against the dense formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from physcon_ext import GaussianField, LinearConstraint, conserve, mixture, project
from physcon_ext.constraints import blocks, smoothness, total


D = torch.float64


def by_hand(field: GaussianField, law: LinearConstraint) -> tuple[Tensor, Tensor]:
    """Return posterior mean and covariance by the gain formula, for independent rows."""
    sigma, g = field.covariance(), law.rows
    noise = law.noise if law.noise_is_matrix else torch.diag_embed(law.noise)
    cross = g @ sigma
    gain = torch.linalg.solve(cross @ g.mT + noise, cross).mT
    e = law.target - (g @ field.mean[..., None])[..., 0]
    return field.mean + (gain @ e[..., None])[..., 0], sigma - gain @ cross


def priors(n: int, *batch: int) -> list[GaussianField]:
    mean, variance = torch.randn(*batch, n, dtype=D), torch.rand(*batch, n, dtype=D) + 0.2
    root = torch.randn(*batch, n, n, dtype=D)
    return [
        GaussianField(mean, variance),
        GaussianField(mean, variance, factor=torch.randn(*batch, 3, n, dtype=D)),
        GaussianField(mean, covariance=root @ root.mT),
        mixture(GaussianField(mean.expand(4, *mean.shape) + torch.randn(4, *batch, n), variance)),
    ]


def check(field: GaussianField, law: LinearConstraint) -> None:
    post, (mean, cov) = conserve(field, law), by_hand(field, law)
    torch.testing.assert_close(post.mean, mean, rtol=1e-10, atol=1e-11)
    variance = cov.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(post.variance, variance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(post.covariance(), cov, rtol=1e-9, atol=1e-11)
    x = torch.randn(2, field.n, dtype=D)
    torch.testing.assert_close(post.structure.cross(x), x @ cov, rtol=1e-9, atol=1e-10)
    assert post.prior is not None and torch.equal(
        post.prior.mean, field.expand(post.batch_shape).mean
    )


@pytest.mark.parametrize("kind", range(4), ids=["diagonal", "low_rank", "dense", "mixture"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_any_prior_and_any_rows_follow_the_formula(kind: int, batch: tuple[int, ...]) -> None:
    n = 9
    x = torch.rand(n, dtype=D).sort().values
    field = priors(n, *batch)[kind]
    root = torch.randn(2, 2, dtype=D)
    g, b = torch.randn(2, n, dtype=D), torch.randn(*batch, 2, dtype=D)
    mass = total(x, torch.randn(batch, dtype=D))
    labels = torch.tensor([0, 1, 2, 0, 1, -1, 2, 2, 0])
    parts = blocks(labels, torch.randn(*batch, 3, dtype=D), noise_variance=0.1)
    smooth = smoothness(x, torch.rand(*batch, n, dtype=D) + 0.1)
    for law in (
        mass,
        LinearConstraint(g, b, torch.rand(2, dtype=D)),
        LinearConstraint(g, b, (root @ root.T).expand(*batch, 2, 2)),
        LinearConstraint(torch.randn(*batch, 2, n, dtype=D), b),
        parts,
        parts & mass,
        smooth,
        smooth & mass,
        mass & smooth & LinearConstraint(g, b, 0.5),
        smooth & smooth,
    ):
        check(field, law)


def test_batches_of_field_and_law_broadcast() -> None:
    field = priors(5, 3, 1)[0]
    law = LinearConstraint(torch.randn(1, 5, dtype=D), torch.randn(4, 1, dtype=D))
    post = conserve(field, law)
    assert post.batch_shape == (3, 4)
    for i in range(3):
        for j in range(4):
            one = conserve(
                GaussianField(field.mean[i, 0], field.variance[i, 0]),
                LinearConstraint(law.rows, law.target[j]),
            )
            torch.testing.assert_close(post.mean[i, j], one.mean, rtol=1e-13, atol=1e-14)
    assert post.sample(2).shape == (2, 3, 4, 5)


def test_conserving_again_is_conserving_with_both_laws() -> None:
    field = priors(6, 2)[0]
    x = torch.linspace(0, 1, 6, dtype=D)
    first, second = (
        total(x, 0.3),
        LinearConstraint(torch.randn(1, 6, dtype=D), torch.ones(1, dtype=D)),
    )
    a, b = conserve(conserve(field, first), second), conserve(field, first & second)
    assert torch.equal(a.mean, b.mean) and torch.equal(a.variance, b.variance)
    assert a.law is not None and a.law.n_rows == 2 and a.prior is not None
    torch.testing.assert_close(a.covariance(), b.covariance())


def test_project_is_least_squares() -> None:
    mean, g, b = torch.randn(3, 7, dtype=D), torch.randn(2, 7, dtype=D), torch.randn(2, dtype=D)
    law = LinearConstraint(g, b, noise_variance=5.0)  # the noise is ignored
    expected = mean - (mean @ g.T - b) @ torch.linalg.solve(g @ g.T, g)
    torch.testing.assert_close(project(mean, law), expected, rtol=1e-12, atol=1e-13)


def test_project_treats_smoothness_rows_as_exact() -> None:
    x = torch.linspace(0, 1, 5, dtype=D)
    flat = project(torch.randn(5, dtype=D), smoothness(x, torch.ones(5, dtype=D)))
    torch.testing.assert_close(flat.diff().diff(), torch.zeros(3, dtype=D), rtol=0, atol=1e-13)


def test_infeasible_rows_can_be_projected() -> None:
    mean = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2, dtype=D)
    variance = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], dtype=D)
    pair = LinearConstraint(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=D), 5.0)
    law = pair & LinearConstraint(torch.ones(4, dtype=D), 20.0)
    post = conserve(GaussianField(mean, variance), law, on_infeasible="project")
    assert float(law.residual(post.mean).abs().max()) < 1e-14
    assert post.mean[0].tolist() == [2.0, 3.0, 7.0, 8.0]
    assert post.variance[0, :2].tolist() == [0.0, 0.0]
    feasible = conserve(GaussianField(mean[1], variance[1]), law)
    torch.testing.assert_close(post.mean[1], feasible.mean)


def test_infeasible_blocks_can_be_projected() -> None:
    law = blocks(torch.tensor([0, 0, 1]), torch.tensor([3.0, 1.0], dtype=D))
    field = GaussianField(torch.zeros(3, dtype=D), torch.tensor([0.0, 0.0, 1.0], dtype=D))
    post = conserve(field, law, on_infeasible="project")
    assert post.mean.tolist() == [1.5, 1.5, 1.0]


def test_without_validation_bad_rows_are_dropped_and_reported() -> None:
    field = GaussianField(torch.zeros(3, dtype=D), torch.ones(3, dtype=D))
    row = torch.ones(1, 3, dtype=D)
    law = LinearConstraint(row, torch.ones(1, dtype=D)) & LinearConstraint(
        row, torch.full((1,), 2.0, dtype=D)
    )
    post = conserve(field, law, validate=False)
    assert post.diagnostics().status.tolist() == [0, 2]
    assert float(post.mean.sum()) == pytest.approx(1.0, abs=1e-15)


def test_non_finite_items_come_out_as_nan_without_validation() -> None:
    mean = torch.zeros(2, 3, dtype=D)
    mean[0, 1] = torch.nan
    field = GaussianField(mean, torch.ones(2, 3, dtype=D), validate=False)
    law = LinearConstraint(torch.ones(3, dtype=D), 3.0)
    post = conserve(field, law, validate=False)
    assert bool(post.mean[0].isnan().all()) and post.mean[1].tolist() == [1.0, 1.0, 1.0]


def test_fields_move_between_dtypes_and_batches() -> None:
    x = torch.linspace(0, 1, 6, dtype=D)
    for law in (
        total(x, 0.5),
        smoothness(x, torch.ones(6, dtype=D)),
        blocks(torch.arange(6) // 3, torch.ones(2, dtype=D)),
    ):
        post = conserve(priors(6)[0], law).expand((2,)).to(dtype=torch.float32)
        assert post.dtype == torch.float32 and post.sample(3).shape == (3, 2, 6)
        assert post.covariance().shape == (2, 6, 6)


def test_many_blocks_on_many_cells_stay_linear() -> None:
    n, r = 200_000, 20_000
    law = blocks(torch.arange(n) % r, torch.randn(r, dtype=D))
    post = conserve(GaussianField(torch.randn(n, dtype=D), torch.rand(n, dtype=D)), law)
    u = post.sample(2)
    bound = 16 * torch.finfo(D).eps * (law.magnitude(u) + law.magnitude(post.mean))
    assert bool((law.residual(u).abs() <= bound).all())
    assert bool(post.log_prob(u).isfinite().all())
