# SPDX-License-Identifier: Apache-2.0
"""A covariance conditioned on rows: the prior, the rows, and nothing of size ``n x n``.

With ``C = G Sigma``, ``A = C G^T + R``: ``Sigma' = Sigma - C^T A^-1 C``. Samples come from
Matheron's rule, ``z + C^T A^-1 (noise - G z)`` with ``z`` from the prior: exact for every ``R``.
"""

from abc import abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from physcon_ext import ops
from physcon_ext.checks import broadcast_shape
from physcon_ext.covariance.base import (
    LOG_2PI,
    Covariance,
    log_determinant,
    mahalanobis,
    masked_cholesky,
    matrix_root,
)
from physcon_ext.covariance.diagonal import Diagonal
from physcon_ext.tensor_map import TensorMap


class Conditioned(Covariance):
    """What conditioning on rows with noise has in common, whatever the layout of the rows.

    Args:
        prior: Covariance before.
        noise: Variance per row ``(*batch, r)``, or a matrix ``(*batch, r, r)``.
        used: Rows that took part, ``(*batch, r)`` bool; the others are implied by them.
        variance: Posterior marginal variance as the op returned it, ``(*batch, n)``.
    """

    def __init__(self, prior: Covariance, noise: Tensor, used: Tensor, variance: Tensor) -> None:
        self.prior = prior
        self.noise = noise
        self.used = used
        self._variance = variance

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor:
        """Return ``x G^T``: ``(*batch, k, n)`` to ``(*batch, k, r)``, float64."""

    @abstractmethod
    def _lift(self, y: Tensor) -> Tensor:
        """Return ``y C``: ``(*batch, k, r)`` to ``(*batch, k, n)``, float64."""

    @abstractmethod
    def _solve(self, y: Tensor) -> Tensor:
        """Return ``y A^-1`` with zeros for rows not used: ``(*batch, k, r)``."""

    @abstractmethod
    def _log_determinant(self) -> Tensor:
        """Return ``log det A`` over the used rows, ``(*batch)``."""

    @abstractmethod
    def _gram_log_determinant(self, hard: Tensor) -> Tensor:
        """Return ``log det G G^T`` over the given rows and the uncertain cells, ``(*batch)``."""

    @property
    def variance(self) -> Tensor:
        return self._variance

    @property
    def certain(self) -> Tensor:
        return self.prior.certain

    @property
    def noise_is_matrix(self) -> bool:
        """Whether the noise is a matrix rather than a variance per row."""
        return self.noise.ndim == self.used.ndim + 1

    @property
    def hard(self) -> Tensor:
        """Used rows without noise, ``(*batch, r)`` bool."""
        own = self.noise.diagonal(dim1=-2, dim2=-1) if self.noise_is_matrix else self.noise
        return self.used & (own == 0)

    def cross(self, rows: Tensor) -> Tensor:
        moved = self.prior.cross(rows).double()
        return (moved - self._lift(self._solve(self._apply(moved)))).to(rows.dtype)

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        z = self.prior.draw(count, generator)
        noise = self._draw_noise(count, generator)
        alpha = self._solve(noise - self._apply(z))
        y = z + self._lift(alpha)
        # One step of residual correction: the rows hold to rounding.
        return y + self._lift(self._solve(noise - self._apply(y) - self._add_noise(alpha)))

    def log_prob(self, residual: Tensor) -> Tensor:
        """Log density; with hard rows, on their manifold with respect to its surface measure.

        ``log N(x; 0, Sigma) + log N(G x; 0, R) - log N(0; 0, A)`` over the soft rows, minus
        half the log determinant of ``G G^T`` of the hard ones. The residual is taken to lie on
        the manifold.
        """
        hard, soft = self.hard, self.used & ~self.hard
        k = (self.used.sum(-1) - soft.sum(-1)).double()
        value = self.prior.log_prob(residual) + 0.5 * (self._log_determinant() + k * LOG_2PI)
        value = value - 0.5 * self._gram_log_determinant(hard)
        return value - 0.5 * self._soft_distance(residual, soft)

    def to_dense(self) -> Tensor:
        unit = torch.eye(self._variance.shape[-1], dtype=torch.float64, device=self.used.device)
        c = self._lift(torch.eye(self.used.shape[-1], dtype=torch.float64, device=self.used.device))
        dense = self.prior.to_dense().double() - c.mT @ self._solve(c.mT).mT
        dense = (dense + dense.mT) / 2
        return torch.where(unit.bool(), self._variance[..., None, :].double(), dense).to(
            self._variance.dtype
        )

    def _draw_noise(self, count: int, generator: torch.Generator | None) -> Tensor:
        shape = (*self.used.shape[:-1], count, self.used.shape[-1])
        unit = torch.randn(shape, generator=generator, dtype=torch.float64, device=self.used.device)
        if self.noise_is_matrix:
            return unit @ matrix_root(self.noise.double()).mT
        return unit * self.noise.double().sqrt()[..., None, :]

    def _add_noise(self, alpha: Tensor) -> Tensor:
        noise = self.noise.double()
        return alpha @ noise if self.noise_is_matrix else alpha * noise[..., None, :]

    def _soft_distance(self, residual: Tensor, soft: Tensor) -> Tensor:
        """Return ``x^T G^T R^-1 G x + log det R`` over the rows with noise."""
        y = torch.where(soft, self._apply(residual.double()[..., None, :])[..., 0, :], 0.0)
        if self.noise_is_matrix:
            low = masked_cholesky(self.noise.double(), soft)
            return mahalanobis(low, y) + log_determinant(low)
        noise = torch.where(soft, self.noise.double(), 1.0)
        return (y.square() / noise + noise.log()).sum(-1)


class ConditionedRows(Conditioned):
    """Conditioned on dense rows, ``(r, n)`` shared or ``(*batch, r, n)``; any prior."""

    def __init__(
        self, prior: Covariance, rows: Tensor, noise: Tensor, used: Tensor, variance: Tensor
    ) -> None:
        super().__init__(prior, noise, used, variance)
        self.rows = rows

    @cached_property
    def prior_cross(self) -> Tensor:
        """``C = G Sigma``, ``(*batch, r, n)``."""
        return self.prior.cross(self.rows)

    @cached_property
    def row_matrix(self) -> Tensor:
        """``A = C G^T + R``, ``(*batch, r, r)`` float64."""
        a = self.prior_cross.double() @ self.rows.double().mT
        noise = self.noise.double()
        return (a + a.mT) / 2 + (noise if self.noise_is_matrix else torch.diag_embed(noise))

    @cached_property
    def _cholesky(self) -> Tensor:
        return masked_cholesky(self.row_matrix, self.used)

    @property
    def hard_rows(self) -> Tensor | None:
        inherited = self.prior.hard_rows
        own = self.rows * self.hard[..., None]
        return own if inherited is None else torch.cat(_same_batch(inherited, own), -2)

    def _apply(self, x: Tensor) -> Tensor:
        return x @ self.rows.double().mT

    def _lift(self, y: Tensor) -> Tensor:
        return y @ self.prior_cross.double()

    def _solve(self, y: Tensor) -> Tensor:
        keep = self.used[..., None, :]
        solved = torch.cholesky_solve(torch.where(keep, y, 0.0).mT, self._cholesky).mT
        return torch.where(keep, solved, 0.0)

    def _log_determinant(self) -> Tensor:
        return log_determinant(self._cholesky)

    def _gram_log_determinant(self, hard: Tensor) -> Tensor:
        rows = torch.where(self.certain[..., None, :], 0.0, self.rows.double())
        return log_determinant(masked_cholesky(rows @ rows.mT, hard))

    def to_dense(self) -> Tensor:
        if isinstance(self.prior, Diagonal):
            mean, target = torch.zeros_like(self._variance), torch.zeros_like(self.used)
            update = ops.condition_diagonal(
                mean,
                self.prior.variance,
                self.rows,
                target.to(mean.dtype),
                self.noise,
                covariance=True,
            )
            return update.covariance
        return super().to_dense()

    def map(self, function: TensorMap) -> "ConditionedRows":
        return ConditionedRows(
            self.prior.map(function),
            function.shared(self.rows, 2),
            function.batched(self.noise, 2 if self.noise_is_matrix else 1),
            function.batched(self.used, 1),
            function.batched(self._variance, 1),
        )


class ConditionedDisjoint(Conditioned):
    """Independent cells conditioned on rows of which no two share a cell; O(n) throughout.

    Args:
        prior: Independent cells.
        weights: Weight of every listed cell, ``(p,)`` or ``(*batch, p)``.
        cells: The listed cells, ``(p,)`` int64.
        owner: The row of every listed cell, ``(p,)`` int64, ascending.
        noise: Variance per row, ``(*batch, r)``.
        used: ``(*batch, r)`` bool.
        variance: Posterior marginal variance, ``(*batch, n)``.
    """

    def __init__(
        self,
        prior: Diagonal,
        weights: Tensor,
        cells: Tensor,
        owner: Tensor,
        noise: Tensor,
        used: Tensor,
        variance: Tensor,
    ) -> None:
        super().__init__(prior, noise, used, variance)
        self.weights, self.cells, self.owner = weights, cells, owner

    def _sums(self, values: Tensor) -> Tensor:
        """Add values of the listed cells into their rows, ``(..., p)`` to ``(..., r)``."""
        zero = values.new_zeros(*values.shape[:-1], self.used.shape[-1])
        return zero.index_add(-1, self.owner, values)

    @cached_property
    def _row_variance(self) -> Tensor:
        w, s = self.weights.double(), self.prior.variance.double()[..., self.cells]
        total = self._sums(w.square() * s) + self.noise.double()
        return torch.where(self.used, total, 1.0)

    @property
    def hard_rows(self) -> Tensor | None:
        rows = self.weights.new_zeros(
            *self.weights.shape[:-1], self.used.shape[-1], self._variance.shape[-1]
        )
        rows[..., self.owner, self.cells] = self.weights
        return rows * self.hard[..., None]

    def _apply(self, x: Tensor) -> Tensor:
        return self._sums(x[..., self.cells] * self.weights.double()[..., None, :])

    def _lift(self, y: Tensor) -> Tensor:
        s = self.prior.variance.double()
        values = (self.weights.double() * s[..., self.cells])[..., None, :] * y[..., self.owner]
        zero = values.new_zeros(*values.shape[:-1], s.shape[-1])
        return zero.index_copy(-1, self.cells, values)

    def _solve(self, y: Tensor) -> Tensor:
        solved = y / self._row_variance[..., None, :]
        return torch.where(self.used[..., None, :], solved, 0.0)

    def _log_determinant(self) -> Tensor:
        return self._row_variance.log().sum(-1)

    def _gram_log_determinant(self, hard: Tensor) -> Tensor:
        random = ~self.certain[..., self.cells]
        gram = self._sums(self.weights.double().square() * random)
        return torch.where(hard, gram, 1.0).log().sum(-1)

    def map(self, function: TensorMap) -> "ConditionedDisjoint":
        prior = self.prior.map(function)
        return ConditionedDisjoint(
            prior if isinstance(prior, Diagonal) else Diagonal(prior.variance),
            function.shared(self.weights, 1),
            self.cells,
            self.owner,
            function.batched(self.noise, 1),
            function.batched(self.used, 1),
            function.batched(self._variance, 1),
        )


class ConditionedBanded(Covariance):
    """Independent cells conditioned on noisy rows over three neighbouring cells; O(n).

    Args:
        prior: Independent cells.
        stencil: Row ``k`` acts on cells ``k, k + 1, k + 2``; ``(n - 2, 3)`` or
            ``(*batch, n - 2, 3)``.
        noise: Variance per row, ``> 0``, ``(*batch, n - 2)``.
        variance: Posterior marginal variance, ``(*batch, n)``.
        band: Cholesky bands of the whitened precision, as the op returned them.
    """

    def __init__(
        self, prior: Diagonal, stencil: Tensor, noise: Tensor, variance: Tensor, band: Tensor
    ) -> None:
        self.prior, self.stencil, self.noise = prior, stencil, noise
        self._variance = variance
        self.band = band

    @property
    def variance(self) -> Tensor:
        return self._variance

    @property
    def certain(self) -> Tensor:
        return self.prior.certain

    def cross(self, rows: Tensor) -> Tensor:
        batched = rows.expand(*self.batch_shape, *rows.shape[-2:])
        return ops.banded_product(self.prior.variance, self.stencil, self.noise, batched)

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        z = self.prior.draw(count, generator)
        noise = self.noise.double()[..., None, :]
        shape = (*z.shape[:-1], noise.shape[-1])
        unit = torch.randn(shape, generator=generator, dtype=z.dtype, device=z.device)
        stencil = self.stencil.double()
        update = ops.condition_banded(
            z,
            self.prior.variance.double()[..., None, :].expand_as(z),
            stencil if stencil.ndim == 2 else stencil[..., None, :, :],
            unit * noise.sqrt(),
            noise.expand(shape),
        )
        return update.mean

    def log_prob(self, residual: Tensor) -> Tensor:
        """Log density. When gradients are asked for, the determinant is computed densely."""
        y = self._second_differences(residual.double())
        distance = (y.square() / self.noise.double()).sum(-1)
        return self.prior.log_prob(residual) + 0.5 * (self._log_determinant() - distance)

    def to_dense(self) -> Tensor:
        n = self._variance.shape[-1]
        return self.cross(torch.eye(n, dtype=self._variance.dtype, device=self._variance.device))

    def map(self, function: TensorMap) -> "ConditionedBanded":
        prior = self.prior.map(function)
        return ConditionedBanded(
            prior if isinstance(prior, Diagonal) else Diagonal(prior.variance),
            function.shared(self.stencil, 2),
            function.batched(self.noise, 1),
            function.batched(self._variance, 1),
            function.batched(self.band, 2),
        )

    def _second_differences(self, x: Tensor) -> Tensor:
        d = self.stencil.double()
        return d[..., 0] * x[..., :-2] + d[..., 1] * x[..., 1:-1] + d[..., 2] * x[..., 2:]

    def _log_determinant(self) -> Tensor:
        """Return ``log det (I + E^T R^-1 E)`` with ``E = D diag(sqrt(variance))``."""
        tensors = (self.prior.variance, self.stencil, self.noise)
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
            return 2 * self.band[..., 0, :].log().sum(-1)
        unit = torch.eye(self._variance.shape[-1], dtype=torch.float64, device=self.band.device)
        d = self._second_differences(unit).mT
        s = self.prior.variance.double()[..., None, :]
        whitened = (d / self.noise.double()[..., None]).mT @ (d * s)
        value: Tensor = torch.linalg.slogdet(unit + whitened).logabsdet
        return value


def _same_batch(*tensors: Tensor) -> list[Tensor]:
    batch = broadcast_shape(*(t.shape[:-2] for t in tensors))
    return [t.expand(*batch, *t.shape[-2:]) for t in tensors]
