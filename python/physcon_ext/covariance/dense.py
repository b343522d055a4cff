# SPDX-License-Identifier: Apache-2.0
"""A covariance given as a matrix."""

import torch
from torch import Tensor

from physcon_ext.covariance.base import (
    LOG_2PI,
    Covariance,
    at_certain_cells,
    log_determinant,
    mahalanobis,
    matrix_root,
    noise_like,
)
from physcon_ext.tensor_map import TensorMap


class Dense(Covariance):
    """A symmetric positive semi-definite matrix, ``(*batch, n, n)``."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @property
    def variance(self) -> Tensor:
        return self.matrix.diagonal(dim1=-2, dim2=-1)

    def cross(self, rows: Tensor) -> Tensor:
        return rows @ self.matrix

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw with the Cholesky factor, or the eigenvectors when the matrix is singular."""
        return noise_like(self.variance, count, generator) @ matrix_root(self.matrix.double()).mT

    def log_prob(self, residual: Tensor) -> Tensor:
        certain = self.certain
        out = certain[..., :, None] | certain[..., None, :]
        unit = torch.eye(certain.shape[-1], dtype=torch.float64, device=certain.device)
        low, info = torch.linalg.cholesky_ex(torch.where(out, unit, self.matrix.double()))
        if bool((info > 0).any()):
            raise ValueError(
                "GaussianField: expected covariance to be positive definite for log_prob, "
                "got a singular matrix"
            )
        x = torch.where(certain, 0.0, residual.double())
        constant = log_determinant(low) + (~certain).sum(-1).double() * LOG_2PI
        return at_certain_cells(residual, certain, -0.5 * (mahalanobis(low, x) + constant))

    def to_dense(self) -> Tensor:
        return self.matrix

    def map(self, function: TensorMap) -> "Dense":
        return Dense(function.batched(self.matrix, 2))
