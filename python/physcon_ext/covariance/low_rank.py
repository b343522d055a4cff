# SPDX-License-Identifier: Apache-2.0
"""A few directions of joint uncertainty on top of independent cells."""

import torch
from torch import Tensor

from physcon_ext.covariance.base import (
    LOG_2PI,
    Covariance,
    log_determinant,
    noise_like,
)
from physcon_ext.tensor_map import TensorMap


class LowRankPlusDiagonal(Covariance):
    """``Sigma = diag(diagonal) + factor^T factor``, ``(*batch, n)`` and ``(*batch, q, n)``."""

    def __init__(self, diagonal: Tensor, factor: Tensor) -> None:
        self.diagonal = diagonal
        self.factor = factor
        self._variance = diagonal + factor.square().sum(-2)

    @property
    def variance(self) -> Tensor:
        return self._variance

    def cross(self, rows: Tensor) -> Tensor:
        return rows * self.diagonal[..., None, :] + (rows @ self.factor.mT) @ self.factor

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        cells = (
            noise_like(self.diagonal, count, generator)
            * self.diagonal.double().sqrt()[..., None, :]
        )
        return cells + noise_like(self.factor[..., 0], count, generator) @ self.factor.double()

    def log_prob(self, residual: Tensor) -> Tensor:
        if bool((self.diagonal <= 0).any()):
            raise ValueError(
                "GaussianField: expected variance to be > 0 for log_prob with a factor, got 0; "
                "use GaussianField(mean, covariance=field.covariance())"
            )
        # |(x - z F)/sqrt(D)|^2 + |z|^2 at its minimum over z: a sum of squares, no cancellation.
        d, f = self.diagonal.double(), self.factor.double()
        x = residual.double()
        inner = (f / d[..., None, :]) @ f.mT
        low = torch.linalg.cholesky(inner + torch.eye(f.shape[-2], dtype=f.dtype, device=f.device))
        moment = ((x / d)[..., None, :] @ f.mT)[..., 0, :]
        z = torch.cholesky_solve(moment[..., None], low)[..., 0]
        rest = x - (z[..., None, :] @ f)[..., 0, :]
        distance = (rest.square() / d).sum(-1) + z.square().sum(-1)
        constant = d.log().sum(-1) + log_determinant(low) + d.shape[-1] * LOG_2PI
        return -0.5 * (distance + constant)

    def to_dense(self) -> Tensor:
        return torch.diag_embed(self.diagonal) + self.factor.mT @ self.factor

    def map(self, function: TensorMap) -> "LowRankPlusDiagonal":
        return LowRankPlusDiagonal(
            function.batched(self.diagonal, 1), function.batched(self.factor, 2)
        )
