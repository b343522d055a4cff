# SPDX-License-Identifier: Apache-2.0
"""What a covariance must be able to do; everything else in the package is built from this."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from physcon_ext.checks import broadcast_shape
from physcon_ext.tensor_map import Expand, Select, TensorMap


LOG_2PI = math.log(2 * math.pi)

Self = TypeVar("Self", bound="Covariance")


class Covariance(ABC):
    """The covariance of ``n`` cells, with leading batch axes, held in structured form.

    Vectors lie along the last axis and several of them along the axis before it:
    ``(*batch, k, n)``. Nothing forms an ``n x n`` matrix except `to_dense`.
    """

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """Marginal variance, ``(*batch, n)``."""

    @abstractmethod
    def cross(self, rows: Tensor) -> Tensor:
        """Return ``rows @ Sigma`` for rows ``(k, n)`` or ``(*batch, k, n)``."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Return zero-mean samples, ``(*batch, count, n)``, float64."""

    @abstractmethod
    def log_prob(self, residual: Tensor) -> Tensor:
        """Return the log density of ``N(0, Sigma)`` at residuals ``(..., *batch, n)``, float64."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """Return the matrix, ``(*batch, n, n)``."""

    @abstractmethod
    def map(self: Self, function: TensorMap) -> Self:
        """Apply a map to every tensor that is held."""

    @property
    def certain(self) -> Tensor:
        """Cells without any prior variance, ``(*batch, n)``; conditioning does not add to them."""
        return self.variance == 0

    @property
    def hard_rows(self) -> Tensor | None:
        """Rows that annihilate the covariance, ``(..., k, n)``, or None if there are none."""
        return None

    @property
    def batch_shape(self) -> torch.Size:
        """Leading axes."""
        return self.variance.shape[:-1]

    def expand(self: Self, batch_shape: Sequence[int]) -> Self:
        """Return the covariance with its batch axes expanded, without copies."""
        return self.map(Expand(batch_shape))

    def select(self: Self, axis: int, index: int) -> Self:
        """Return one item along a batch axis counted from the right, ``axis >= 1``."""
        return self.map(Select(axis, index))


def noise_like(x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Return standard normal numbers ``(*batch, count, n)`` for ``x`` of shape ``(*batch, n)``."""
    shape = (*x.shape[:-1], count, x.shape[-1])
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=x.device)


def at_certain_cells(residual: Tensor, certain: Tensor, value: Tensor) -> Tensor:
    """Return ``value``, or ``-inf`` where the residual is not zero in a cell without variance."""
    return torch.where(((residual != 0) & certain).any(-1), -torch.inf, value)


def matrix_root(matrix: Tensor) -> Tensor:
    """Return ``B`` with ``B B^T`` the matrix: Cholesky, or eigenvectors if it is singular."""
    root: Tensor
    root, info = torch.linalg.cholesky_ex(matrix)
    if bool((info > 0).any()):
        values, vectors = torch.linalg.eigh(matrix)
        root = vectors * values.clamp(min=0).sqrt()[..., None, :]
    return root


def masked_cholesky(matrix: Tensor, keep: Tensor) -> Tensor:
    """Return the lower factor of the kept rows and columns, with unit rows elsewhere."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(keep, diagonal, torch.ones_like(diagonal)).detach().sqrt()
    both = keep[..., :, None] & keep[..., None, :]
    unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    scaled = torch.where(both, matrix / (scale[..., :, None] * scale[..., None, :]), unit)
    low: Tensor = torch.linalg.cholesky(scaled)
    return low * scale[..., :, None]


def log_determinant(cholesky: Tensor) -> Tensor:
    """Return the log determinant of ``L L^T``."""
    return 2 * cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def mahalanobis(cholesky: Tensor, residual: Tensor) -> Tensor:
    """Return ``|L^-1 residual|^2`` for residuals ``(..., *batch, r)``."""
    shape = broadcast_shape(residual.shape[:-1], cholesky.shape[:-2])
    low = cholesky.expand(*shape, *cholesky.shape[-2:])
    x = residual.expand(*shape, -1)[..., None]
    white: Tensor = torch.linalg.solve_triangular(low, x, upper=False)
    return white.square().sum((-2, -1))
