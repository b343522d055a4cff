# SPDX-License-Identifier: Apache-2.0
"""`GaussianField`: structures, samples, densities, conversions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from physcon_ext import GaussianField, LinearConstraint, conserve, mixture
from physcon_ext.constraints import blocks, smoothness, total


D = torch.float64
N = 6


def low_rank_field(*batch: int) -> GaussianField:
    variance, factor = torch.rand(*batch, N, dtype=D) + 0.2, torch.randn(*batch, 2, N, dtype=D)
    return GaussianField(torch.randn(*batch, N, dtype=D), variance, factor=factor)


def priors(*batch: int) -> dict[str, GaussianField]:
    mean, variance = torch.randn(*batch, N, dtype=D), torch.rand(*batch, N, dtype=D) + 0.2
    root = torch.randn(*batch, N, N, dtype=D)
    return {
        "diagonal": GaussianField(mean, variance),
        "low_rank": low_rank_field(*batch),
        "dense": GaussianField(mean, covariance=root @ root.mT + 0.1 * torch.eye(N, dtype=D)),
    }


def laws() -> dict[str, LinearConstraint]:
    x = torch.linspace(0, 1, N, dtype=D)
    mass = total(x, 0.7)
    noisy = LinearConstraint(torch.randn(2, N, dtype=D), torch.randn(2, dtype=D), 0.3)
    root = torch.randn(2, 2, dtype=D)
    correlated = LinearConstraint(
        torch.randn(2, N, dtype=D), torch.randn(2, dtype=D), root @ root.T
    )
    return {
        "hard": mass,
        "two hard": mass & LinearConstraint(torch.randn(1, N, dtype=D), torch.ones(1, dtype=D)),
        "soft": noisy,
        "mixed": mass & noisy,
        "correlated": mass & correlated,
        "blocks": blocks(torch.tensor([0, 1, 1, 0, 2, -1]), torch.randn(3, dtype=D)),
        "noisy blocks": blocks(
            torch.tensor([0, 1, 1, 0, 0, 1]),
            torch.randn(2, dtype=D),
            noise_variance=torch.tensor([0.2, 0.0], dtype=D),
        ),
        "smooth": smoothness(x, torch.rand(N, dtype=D) + 0.2),
        "smooth and mass": smoothness(x, torch.rand(N, dtype=D) + 0.2) & mass,
    }


def density_on_manifold(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Return the log density of a singular Gaussian by its eigenvalues (pseudo-determinant)."""
    values, vectors = torch.linalg.eigh(sigma)
    kept = values > 1e-10 * values.amax()
    z = (vectors.T @ (x - mean))[kept]
    return -0.5 * ((z**2 / values[kept]) + values[kept].log() + math.log(2 * math.pi)).sum()


@pytest.mark.parametrize("kind", ["diagonal", "low_rank", "dense"])
@pytest.mark.parametrize("law", list(laws()))
class TestPosterior:
    def test_density_is_that_of_the_dense_covariance(self, kind: str, law: str) -> None:
        post = conserve(priors()[kind], laws()[law])
        u = post.sample(3)
        sigma = post.covariance()
        expected = torch.stack([density_on_manifold(x, post.mean, sigma) for x in u])
        torch.testing.assert_close(post.log_prob(u), expected, rtol=1e-8, atol=1e-8)

    def test_prior_minus_factor_is_the_covariance(self, kind: str, law: str) -> None:
        prior = priors()[kind]
        post = conserve(prior, laws()[law])
        rebuilt = prior.covariance() - post.factor.mT @ post.factor
        torch.testing.assert_close(rebuilt, post.covariance(), rtol=0, atol=1e-12)
        diagonal = post.covariance().diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(post.variance, diagonal, rtol=0, atol=1e-13)

    def test_samples_hold_exact_rows_and_have_the_right_distribution(
        self, kind: str, law: str
    ) -> None:
        post = conserve(priors()[kind], laws()[law])
        u = post.sample(40_000, generator=torch.Generator().manual_seed(3))
        assert post.law is not None
        bound = 16 * torch.finfo(D).eps * (post.law.magnitude(u) + post.law.magnitude(post.mean))
        assert bool(((post.law.residual(u).abs() <= bound) | ~post.law.hard).all())
        sigma = post.covariance()
        spread = (sigma.diagonal()[:, None] * sigma.diagonal() + sigma**2).sqrt()
        assert bool(((torch.cov(u.T) - sigma).abs() <= 6 * spread / 200 + 1e-12).all())
        error = (u.mean(0) - post.mean).abs()
        assert bool((error <= 6 * post.variance.sqrt() / 200 + 1e-12).all())


@pytest.mark.parametrize("kind", ["diagonal", "low_rank", "dense"])
def test_prior_density_is_that_of_torch(kind: str) -> None:
    field = priors(3)[kind]
    u = torch.randn(5, 3, N, dtype=D)
    expected = distributions.MultivariateNormal(field.mean, field.covariance()).log_prob(u)
    torch.testing.assert_close(field.log_prob(u), expected, rtol=1e-11, atol=1e-11)


def test_singular_density_integrates_to_one_on_a_line() -> None:
    field = GaussianField(torch.tensor([0.3, -0.1], dtype=D), torch.tensor([0.5, 1.2], dtype=D))
    weights = torch.tensor([2.0, 0.7], dtype=D)
    post = conserve(field, LinearConstraint(weights, 1.0))
    tangent = torch.tensor([-0.7, 2.0], dtype=D) / weights.norm()
    t = torch.linspace(-12, 12, 4001, dtype=D)  # arc length
    line = post.mean + t[:, None] * tangent
    assert abs(float(torch.trapezoid(post.log_prob(line).exp(), t)) - 1) < 1e-10
    assert post.is_singular
    assert float(post.log_prob(post.mean + 1e-3)) == -math.inf


def test_density_leaves_out_certain_cells() -> None:
    mean, variance = torch.zeros(4, dtype=D), torch.tensor([1.0, 0, 2, 3], dtype=D)
    post = conserve(GaussianField(mean, variance), LinearConstraint(torch.ones(4, dtype=D), 1.0))
    kept = [0, 2, 3]
    small = GaussianField(mean[kept], variance[kept])
    small = conserve(small, LinearConstraint(torch.ones(3, dtype=D), 1.0))
    u = post.sample(2)
    torch.testing.assert_close(post.log_prob(u), small.log_prob(u[:, kept]))
    moved = u + torch.tensor([-0.1, 0.1, 0, 0], dtype=D)
    assert bool((post.log_prob(moved) == -math.inf).all())


def test_density_of_redundant_rows_is_that_of_the_independent_ones() -> None:
    field = priors()["diagonal"]
    law = total(torch.linspace(0, 1, N, dtype=D), 0.7)
    once, twice = conserve(field, law), conserve(field, law & law)
    u = once.sample(2)
    torch.testing.assert_close(twice.log_prob(u), once.log_prob(u))


@pytest.mark.parametrize("law", ["hard", "mixed", "smooth and mass"])
def test_density_is_differentiable_through_the_conditioning(law: str) -> None:
    rows = laws()[law]
    u = conserve(priors()["diagonal"], rows).sample(1)[0]

    def value(mean: Tensor, variance: Tensor) -> Tensor:
        return conserve(GaussianField(mean, variance), rows, validate=False).log_prob(u)

    mean = torch.randn(N, dtype=D, requires_grad=True)
    variance = (torch.rand(N, dtype=D) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(value, (mean, variance))


def test_same_generator_state_gives_the_same_samples() -> None:
    post = conserve(priors(2)["low_rank"], laws()["mixed"])
    a = post.sample(3, generator=torch.Generator().manual_seed(1))
    b = post.sample(3, generator=torch.Generator().manual_seed(1))
    assert a.shape == (3, 2, N) and torch.equal(a, b)
    assert post.sample(0).shape == (0, 2, N)


@pytest.mark.parametrize("kind", ["diagonal", "low_rank", "dense"])
def test_distributions_convert_both_ways(kind: str) -> None:
    field = priors(2)[kind]
    back = GaussianField.from_distribution(field.to_distribution())
    torch.testing.assert_close(back.mean, field.mean)
    torch.testing.assert_close(back.covariance(), field.covariance())
    assert type(back.structure) is type(field.structure)


def test_singular_fields_have_no_torch_distribution() -> None:
    with pytest.raises(ValueError, match="expected a covariance of full rank for to_distribution"):
        conserve(priors()["diagonal"], laws()["hard"]).to_distribution()
    with pytest.raises(TypeError, match="got Gamma"):
        GaussianField.from_distribution(distributions.Gamma(1.0, 1.0))


def test_diagnostics_report_residuals_rank_and_chi_squared() -> None:
    field, law = priors()["diagonal"], laws()["smooth and mass"]
    report = conserve(field, law).diagnostics()
    e = law.target - law.rows @ field.mean
    a = law.rows @ field.covariance() @ law.rows.T + torch.diag(law.noise)
    torch.testing.assert_close(report.chi2, e @ torch.linalg.solve(a, e), rtol=1e-10, atol=0)
    torch.testing.assert_close(report.residual_before, -e)
    assert int(report.dof) == law.n_rows and float(report.ulps[-1]) <= 8
    with pytest.raises(ValueError, match="expected a conditioned field for diagnostics"):
        field.diagnostics()


def test_mixture_follows_the_law_of_total_covariance() -> None:
    draws = conserve(priors(4)["dense"], laws()["two hard"])
    whole = mixture(draws, 0)
    expected = draws.covariance().mean(0) + torch.cov(draws.mean.T)
    torch.testing.assert_close(whole.covariance(), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(whole.mean, draws.mean.mean(0))
    rows = draws.law.rows if draws.law else None
    assert float((rows @ whole.covariance()).abs().max()) < 1e-12


def test_mixture_of_conserved_draws_samples_and_scores_on_the_manifold() -> None:
    law = laws()["two hard"]
    whole = mixture(conserve(priors(3)["diagonal"], law), 0)
    u = whole.sample(40_000, generator=torch.Generator().manual_seed(5))
    assert float(law.residual(u).abs().max()) < 1e-13
    sigma = whole.covariance()
    spread = (sigma.diagonal()[:, None] * sigma.diagonal() + sigma**2).sqrt()
    assert bool(((torch.cov(u.T) - sigma).abs() <= 6 * spread / 200 + 1e-12).all())
    expected = torch.stack([density_on_manifold(x, whole.mean, sigma) for x in u[:3]])
    torch.testing.assert_close(whole.log_prob(u[:3]), expected, rtol=1e-9, atol=1e-9)
    again = conserve(whole, law)
    torch.testing.assert_close(again.mean, whole.mean, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(again.variance, whole.variance, rtol=1e-11, atol=1e-13)


def test_mixture_of_a_list_is_the_mixture_of_the_batch() -> None:
    field = priors(3)["diagonal"]
    parts = [GaussianField(field.mean[k], field.variance[k]) for k in range(3)]
    a, b = mixture(parts), mixture(field, -1)
    torch.testing.assert_close(a.covariance(), b.covariance())
    one = mixture(parts[:1])
    torch.testing.assert_close(one.covariance(), torch.diag_embed(field.variance[0]))


def test_mixture_takes_any_batch_axis() -> None:
    field = conserve(priors(2, 3)["diagonal"], laws()["hard"])
    whole = mixture(field, 1)
    assert whole.batch_shape == (2,)
    expected = field.covariance().mean(1) + torch.stack([torch.cov(m.T) for m in field.mean])
    torch.testing.assert_close(whole.covariance(), expected, rtol=0, atol=1e-13)


def test_repr_names_the_structure() -> None:
    assert repr(priors(2)["diagonal"]) == (
        "GaussianField(n=6, batch_shape=(2,), Diagonal, torch.float64)"
    )
