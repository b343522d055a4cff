# SPDX-License-Identifier: Apache-2.0
"""Independent cells."""

import torch
from torch import Tensor

from physcon_ext.covariance.base import (
    LOG_2PI,
    Covariance,
    at_certain_cells,
    noise_like,
)
from physcon_ext.tensor_map import TensorMap


class Diagonal(Covariance):
    """``Sigma = diag(variance)``, variance ``(*batch, n)``, zeros allowed."""

    def __init__(self, variance: Tensor) -> None:
        self._variance = variance

    @property
    def variance(self) -> Tensor:
        return self._variance

    def cross(self, rows: Tensor) -> Tensor:
        return rows * self._variance[..., None, :]

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        scale = self._variance.double().sqrt()[..., None, :]
        return noise_like(self._variance, count, generator) * scale

    def log_prob(self, residual: Tensor) -> Tensor:
        certain = self.certain
        s = torch.where(certain, 1.0, self._variance.double())
        x = torch.where(certain, 0.0, residual.double())
        terms = torch.where(certain, 0.0, x.square() / s + s.log() + LOG_2PI)
        return at_certain_cells(residual, certain, -0.5 * terms.sum(-1))

    def to_dense(self) -> Tensor:
        return torch.diag_embed(self._variance)

    def map(self, function: TensorMap) -> "Diagonal":
        return Diagonal(function.batched(self._variance, 1))
