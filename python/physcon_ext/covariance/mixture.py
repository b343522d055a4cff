# SPDX-License-Identifier: Apache-2.0
"""The covariance of a mixture: the mean of the covariances plus the spread of the means."""

import math
from functools import reduce

import torch
from torch import Tensor

from physcon_ext.covariance.base import (
    LOG_2PI,
    Covariance,
    log_determinant,
    mahalanobis,
    noise_like,
)
from physcon_ext.covariance.dense import Dense
from physcon_ext.tensor_map import TensorMap


class Mixture(Covariance):
    """``mean_s Sigma_s + between^T between``, by the law of total covariance.

    Args:
        components: The ``Sigma_s``, all of the same batch shape.
        between: Centred means over ``sqrt(S - 1)``, ``(*batch, S, n)``.
        shared_rows: Rows that annihilate every component and ``between``, ``(..., k, n)``.
    """

    def __init__(
        self, components: tuple[Covariance, ...], between: Tensor, shared_rows: Tensor | None
    ) -> None:
        self.components = components
        self.between = between
        self._shared_rows = shared_rows
        self._variance = self._mean([c.variance for c in components]) + between.square().sum(-2)

    @property
    def variance(self) -> Tensor:
        return self._variance

    @property
    def hard_rows(self) -> Tensor | None:
        return self._shared_rows

    def cross(self, rows: Tensor) -> Tensor:
        within = self._mean([c.cross(rows) for c in self.components])
        return within + (rows @ self.between.mT) @ self.between

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        # A sum of independent draws: its covariance is exactly the mean of the covariances.
        within = reduce(torch.add, (c.draw(count, generator) for c in self.components))
        between = noise_like(self.between[..., 0], count, generator) @ self.between.double()
        return within / math.sqrt(len(self.components)) + between

    def log_prob(self, residual: Tensor) -> Tensor:
        """Log density from the dense matrix; on the manifold of the shared rows if there are any.

        The orthogonal projector on those rows is added to the matrix: it has no effect on a
        residual in the manifold and turns the pseudo-determinant into a determinant.
        """
        rows = self._shared_rows
        if rows is None:
            return Dense(self.to_dense()).log_prob(residual)
        _, size, basis = torch.linalg.svd(rows.double(), full_matrices=False)
        kept = size > size.amax(-1, keepdim=True) * 1e-12
        basis = basis * kept[..., None]
        scale = self._variance.double().mean(-1)
        dense = self.to_dense().double() + scale[..., None, None] * (basis.mT @ basis)
        low = torch.linalg.cholesky(dense)
        rank = kept.sum(-1).double()
        constant = log_determinant(low) - rank * scale.log()
        constant = constant + (dense.shape[-1] - rank) * LOG_2PI
        along = residual.double() - _project(residual.double(), basis)
        value: Tensor = -0.5 * (mahalanobis(low, along) + constant)
        return value

    def to_dense(self) -> Tensor:
        within = self._mean([c.to_dense() for c in self.components])
        return within + self.between.mT @ self.between

    def map(self, function: TensorMap) -> "Mixture":
        rows = self._shared_rows
        return Mixture(
            tuple(c.map(function) for c in self.components),
            function.batched(self.between, 2),
            None if rows is None else function.shared(rows, 2),
        )

    def _mean(self, tensors: list[Tensor]) -> Tensor:
        return reduce(torch.add, tensors) / len(tensors)


def _project(x: Tensor, basis: Tensor) -> Tensor:
    """Return the part of ``x`` in the span of the orthonormal rows of the basis."""
    along = (basis @ x[..., None])[..., 0]
    return (basis.mT @ along[..., None])[..., 0]
