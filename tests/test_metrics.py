# SPDX-License-Identifier: Apache-2.0
"""Metrics against independent formulas: integration, double loops, plain statistics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from physcon_ext import metrics
from physcon_ext.constraints import total


D = torch.float64


def prediction(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(*shape, dtype=D),
        torch.rand(*shape, dtype=D) + 0.1,
        torch.randn(*shape, dtype=D),
    )


def test_conservation_error_has_four_forms() -> None:
    x = torch.linspace(0, 1, 5, dtype=D)
    law = total(x, torch.tensor([1.0, -2.0], dtype=D))
    mean = torch.randn(2, 5, dtype=D)
    ce = torch.trapezoid(mean, x) - law.target[:, 0]
    size = torch.maximum(torch.trapezoid(mean.abs(), x), law.target[:, 0].abs())
    expected = {"signed": ce, "abs": ce.abs(), "squared": ce**2, "relative": ce.abs() / size}
    for kind, value in expected.items():
        got = metrics.conservation_error(mean, law, kind=kind, reduce=False)
        torch.testing.assert_close(got[:, 0], value)
        torch.testing.assert_close(metrics.conservation_error(mean, law, kind=kind), value.mean())


def test_gaussian_crps_is_the_integral_of_its_definition() -> None:
    m, v, u = prediction(4)
    t = torch.linspace(-30, 30, 2_000_001, dtype=D)
    for k in range(4):
        cdf = 0.5 * (1 + torch.erf((t - m[k]) / (2 * v[k]).sqrt()))
        expected = torch.trapezoid((cdf - (t >= u[k]).double()) ** 2, t)
        got = metrics.crps_gaussian(m[k : k + 1], v[k : k + 1], u[k : k + 1])
        torch.testing.assert_close(got, expected, rtol=0, atol=5e-5)


def test_gaussian_crps_is_the_absolute_error_at_zero_variance() -> None:
    m, _, u = prediction(2, 3)
    v = torch.zeros(2, 3, dtype=D, requires_grad=True)
    value = metrics.crps_gaussian(m, v, u)
    torch.testing.assert_close(value, (m - u).abs().mean())
    value.backward()
    assert v.grad is not None and bool(v.grad.isfinite().all())
    torch.testing.assert_close(
        metrics.crps_gaussian(m, torch.full_like(m, 1e-24), u), value.detach()
    )


@pytest.mark.parametrize("fair", [True, False])
@pytest.mark.parametrize("members", [1, 2, 7])
def test_ensemble_crps_and_energy_score_are_their_double_sums(fair: bool, members: int) -> None:
    x, u, w = (
        torch.randn(members, 2, 3, dtype=D),
        torch.randn(2, 3, dtype=D),
        torch.rand(3, dtype=D),
    )
    pairs = max(members * (members - 1), 1) if fair else members**2
    crps, energy = torch.zeros(2, 3, dtype=D), torch.zeros(2, dtype=D)
    for a in x:
        crps += (a - u).abs() / members
        energy += ((a - u) ** 2 * w).sum(-1).sqrt() / members
        for b in x:
            crps -= (a - b).abs() / (2 * pairs)
            energy -= ((a - b) ** 2 * w).sum(-1).sqrt() / (2 * pairs)
    got = metrics.crps_ensemble(x, u, fair=fair, reduce=False)
    torch.testing.assert_close(got, crps.mean(-1))
    weighted = metrics.crps_ensemble(x, u, fair=fair, weights=w)
    torch.testing.assert_close(weighted, ((crps * w).sum(-1) / w.sum()).mean())
    got = metrics.energy_score(x, u, fair=fair, weights=w, reduce=False)
    torch.testing.assert_close(got, energy)


def test_fair_ensemble_crps_is_unbiased_for_the_gaussian_one() -> None:
    m, v, u = prediction(1)
    x = m + v.sqrt() * torch.randn(4, 200_000, 1, dtype=D)
    got = metrics.crps_ensemble(x, u.expand(200_000, 1))
    torch.testing.assert_close(got, metrics.crps_gaussian(m, v, u), rtol=0, atol=5e-3)


def test_likelihood_is_that_of_torch() -> None:
    m, v, u = prediction(3, 5)
    expected = torch.distributions.Normal(m, v.sqrt()).log_prob(u)
    torch.testing.assert_close(metrics.log_likelihood(m, v, u), expected.mean())
    torch.testing.assert_close(metrics.nll(m, v, u, reduce=False), -expected.mean(-1))
    zero = torch.zeros(1, dtype=D)
    assert float(metrics.nll(zero, zero, zero)) == -math.inf
    assert float(metrics.nll(zero, zero, zero + 1)) == math.inf


def test_errors_are_means_over_points_then_items() -> None:
    m, _, u = prediction(3, 5)
    w = torch.rand(5, dtype=D)
    torch.testing.assert_close(metrics.mse(m, u), ((m - u) ** 2).mean())
    torch.testing.assert_close(metrics.rmse(m, u), ((m - u) ** 2).mean(-1).sqrt().mean())
    weighted = ((m - u) ** 2 * w).sum(-1) / w.sum()
    torch.testing.assert_close(metrics.mse(m, u, weights=w, reduce=False), weighted)


def test_float32_is_summed_in_float64() -> None:
    u = torch.rand(100_000)
    expected = math.fsum(float(x) ** 2 for x in u.double()) / 100_000
    assert float(metrics.mse(u, torch.zeros(1))) == pytest.approx(expected, rel=6e-8)


def test_calibration_of_a_perfect_forecast() -> None:
    m, v, _ = prediction(200, 500)
    u = m + v.sqrt() * torch.randn_like(m)
    assert float(metrics.coverage(m, v, u)) == pytest.approx(0.95, abs=0.005)
    assert float(metrics.coverage(m, v, u, level=0.5)) == pytest.approx(0.5, abs=0.01)
    assert float(metrics.interval_width(v)) == pytest.approx(
        float(2 * 1.959964 * v.sqrt().mean()), rel=1e-6
    )
    assert float(metrics.rmsce(m, v, u)) < 0.03
    assert float(metrics.rmsce(m, v, u, levels="quantile")) < 0.05


def test_calibration_error_is_its_formula() -> None:
    m, v, u = prediction(1, 40)
    z = ((u - m) / v.sqrt())[0]
    normal = torch.distributions.Normal(0.0, 1.0)
    errors = []
    for j in range(1, 10):
        half = float(normal.icdf(torch.tensor(0.5 + j / 20, dtype=D)))
        errors.append(float((z.abs() <= half).double().mean()) - j / 10)
    expected = math.sqrt(sum(e**2 for e in errors) / 9)
    assert float(metrics.rmsce(m, v, u)) == pytest.approx(expected, abs=1e-12)
    both = float(metrics.rmsce(m, v, u, interior=False))
    assert both == pytest.approx(expected * math.sqrt(9 / 11), abs=1e-12)


def test_n_merci_is_zero_when_the_spread_is_the_error() -> None:
    m, _, u = prediction(6, 4)
    e = (m - u).abs().sum(-1)
    v = (e**2 / 4)[:, None].expand(6, 4)
    assert abs(float(metrics.n_merci(m, v, u))) < 1e-12
    s = torch.rand(6, dtype=D) + 0.5
    scale = torch.quantile(e / s, 0.95)
    expected = ((scale * s).mean() - e.mean()) / (e.max() - e.mean())
    torch.testing.assert_close(metrics.n_merci(m, (s**2 / 4)[:, None].expand(6, 4), u), expected)


def test_correlations_are_those_of_values_and_of_ranks() -> None:
    m, v, u = prediction(2, 30)
    expected = [
        torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(v, (m - u) ** 2, strict=True)
    ]
    got = metrics.variance_error_correlation(m, v, u, reduce=False)
    torch.testing.assert_close(got, torch.stack(expected))
    ranks = [x.argsort(-1).argsort(-1).double() for x in (v, (m - u).abs())]
    expected = [torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(*ranks, strict=True)]
    got = metrics.variance_error_correlation(m, v, u, method="spearman", reduce=False)
    torch.testing.assert_close(got, torch.stack(expected))


def test_tied_ranks_share_their_mean() -> None:
    v = torch.tensor([1.0, 1.0, 2.0, 3.0], dtype=D)
    e = torch.tensor([1.0, 2.0, 3.0, 3.0], dtype=D)
    a, b = torch.tensor([[1.5, 1.5, 3, 4], [1, 2, 3.5, 3.5]], dtype=D)
    expected = torch.corrcoef(torch.stack([a, b]))[0, 1]
    got = metrics.variance_error_correlation(torch.zeros(4, dtype=D), v, e, method="spearman")
    torch.testing.assert_close(got, expected)


def test_shock_detectors_find_the_front() -> None:
    x = torch.linspace(0, 1, 201, dtype=D)
    front = 0.2351
    u = torch.where(x <= front, 1 - x, 0.0).expand(3, 201)
    jump = metrics.shock_position(u, x, detector="largest_jump")
    torch.testing.assert_close(jump, torch.full((3,), 0.2375, dtype=D))
    threshold = metrics.shock_position(u, x, level=0.3)
    left, right = 1 - 0.235, 0.0
    expected = 0.235 + 0.005 * (left - 0.3) / (left - right)
    torch.testing.assert_close(threshold, torch.full((3,), expected, dtype=D))
    published = metrics.shock_position(u, x, detector="published")
    torch.testing.assert_close(published, torch.full((3,), 48 / 201, dtype=D))
    assert float(metrics.shock_position(torch.ones(201, dtype=D), x, detector="published")) == 0.0
    assert math.isnan(float(metrics.shock_position(torch.ones(201, dtype=D), x, level=0.5)))


def test_threshold_takes_the_last_crossing_and_a_linear_profile_is_exact() -> None:
    x = torch.linspace(0, 1, 11, dtype=D)
    assert float(metrics.shock_position(1 - x, x, level=0.33)) == pytest.approx(0.67, abs=1e-14)
    u = torch.tensor([1.0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=D)
    assert float(metrics.shock_position(u, x)) == pytest.approx(0.35, abs=1e-14)


def test_shock_error_is_bias_spread_and_score() -> None:
    x = torch.randn(50, 2, dtype=D)
    error = metrics.shock_error(x, 0.3)
    torch.testing.assert_close(error.bias, x.mean(0) - 0.3)
    torch.testing.assert_close(error.std, x.std(0))
    expected = metrics.crps_ensemble(x[:, :, None], torch.full((2, 1), 0.3, dtype=D), reduce=False)
    torch.testing.assert_close(error.crps, expected)


@pytest.mark.parametrize("name", ["nll", "crps_gaussian"])
def test_scores_are_differentiable(name: str) -> None:
    tensors = [t.requires_grad_() for t in prediction(2, 3)]
    assert torch.autograd.gradcheck(getattr(metrics, name), tensors)


def test_ensemble_scores_are_differentiable() -> None:
    x, u = torch.randn(4, 2, 3, dtype=D, requires_grad=True), torch.randn(2, 3, dtype=D)
    for score in (metrics.crps_ensemble, metrics.energy_score):
        assert torch.autograd.gradcheck(lambda s, f=score: f(s, u), (x,))
