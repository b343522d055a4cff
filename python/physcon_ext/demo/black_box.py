# SPDX-License-Identifier: Apache-2.0
"""The black box of the demo: a small ensemble of exact Gaussian processes from gpytorch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


def require_gpytorch() -> None:
    """Raise one sentence with the cure when gpytorch is missing.

    Raises:
        ImportError: If gpytorch cannot be imported.
    """
    if find_spec("gpytorch") is None:
        raise ImportError('physcon_ext.demo: gpytorch is missing; pip install "physcon-ext[gp]"')


def fit_ensemble(
    points: Tensor, values: Tensor, *, members: int, share: float, generator: torch.Generator
) -> list[Any]:
    """Gaussian processes with a Matern-5/2 kernel, each fitted to a random part of the data.

    A single process with a stationary kernel is as sure of itself across a front as anywhere else.
    The spread between processes that saw different observations is widest where the data decide
    most, at the front; the law of total covariance turns it into one covariance.

    Args:
        points: Where the field was observed, ``(n, d)``, scaled to about [0, 1], float64.
        values: Observations with noise, ``(n,)``, float64.
        members: Number of processes, at least 1.
        share: Part of the observations that each process sees, in (0, 1].
        generator: Chooses the parts.

    Returns:
        The fitted processes, in evaluation mode, for :func:`predict_cells`.

    Raises:
        ImportError: If gpytorch is missing.
        ValueError: If ``members`` or ``share`` is outside its range.

    Notes:
        Length scale per axis, output scale, constant mean and noise maximise the marginal
        likelihood (L-BFGS, fixed start); the processes know nothing but the observations.
    """
    if members < 1:
        raise ValueError(f"fit_ensemble: expected members to be >= 1, got {members}")
    if not 0.0 < share <= 1.0:
        raise ValueError(f"fit_ensemble: expected share to be in (0, 1], got {share}")
    require_gpytorch()
    n = points.shape[0]
    seen = max(2, round(share * n))
    parts = [torch.randperm(n, generator=generator)[:seen] for _ in range(members)]
    return [_fit(points[part], values[part]) for part in parts]


def predict_cells(
    processes: list[Any], edges: Tensor, times: Tensor, scale: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Averages over cells of every process: the mean and the full covariance between the cells.

    Args:
        processes: From :func:`fit_ensemble`, over points ``(t, x)`` divided by ``scale``.
        edges: Faces of the cells, ``(n + 1,)``, float64.
        times: Times, ``(k,)``, float64.
        scale: Units of time and of position in which the processes were fitted.

    Returns:
        Mean ``(members, k, n)`` and covariance ``(members, k, n, n)`` of the cell averages, noise
        of the observations not included, float64.

    Notes:
        A cell average is taken with two Gauss points, fourth order in the cell width.
    """
    width = edges.diff()
    offset = torch.tensor([-1.0, 1.0], dtype=torch.float64) / (2.0 * 3.0**0.5)
    x = (edges[:-1, None] + width[:, None] * (0.5 + offset)).flatten()
    t = times[:, None].expand(-1, x.numel())
    points = torch.stack([t / scale[0], x.expand_as(t) / scale[1]], dim=-1)
    predictions = [_predict(process, points) for process in processes]
    return torch.stack([m for m, _ in predictions]), torch.stack([c for _, c in predictions])


def _fit(points: Tensor, values: Tensor) -> Any:
    import gpytorch

    kernel = gpytorch.kernels.ScaleKernel(
        gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=points.shape[-1])
    )
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(1e-6)
    )
    process = gpytorch.models.ExactGP(points, values, likelihood)
    process.kernel, process.mean = kernel, gpytorch.means.ConstantMean()
    process.forward = lambda x: gpytorch.distributions.MultivariateNormal(
        process.mean(x), process.kernel(x)
    )
    process.double()
    kernel.base_kernel.lengthscale = 0.4
    kernel.outputscale = 0.3
    likelihood.noise = 1e-3

    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, process)
    optimiser: Any = torch.optim.LBFGS(
        process.parameters(), max_iter=100, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value: Tensor = -evidence(process(points), values)
        torch.autograd.backward(value)
        return value

    process.train()
    optimiser.step(loss)  # the step runs the whole optimisation
    return process.eval()


def _predict(process: Any, points: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        prediction = process(points)
        mean, covariance = prediction.mean, prediction.covariance_matrix
    halves = covariance.unflatten(-1, (-1, 2)).mean(-1).unflatten(-2, (-1, 2)).mean(-2)
    return mean.unflatten(-1, (-1, 2)).mean(-1), (halves + halves.mT) / 2
