# SPDX-License-Identifier: Apache-2.0
"""`GaussianField`: a prediction with its uncertainty, before and after conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributions

from physcon_ext import ops
from physcon_ext.checks import check_dtype, check_finite, check_not_negative, common_shape, fmt
from physcon_ext.covariance.base import Covariance
from physcon_ext.covariance.dense import Dense
from physcon_ext.covariance.diagonal import Diagonal
from physcon_ext.covariance.low_rank import LowRankPlusDiagonal
from physcon_ext.tensor_map import Cast, Expand, TensorMap


if TYPE_CHECKING:
    from physcon_ext.constraints import LinearConstraint

_WHO = "GaussianField"


@dataclass(frozen=True)
class Diagnostics:
    """What conditioning did, per item.

    Attributes:
        residual_before: ``G m - b``, signed, ``(*batch, r)`` float64.
        residual_after: The same for the posterior mean.
        ulps: ``|residual_after|`` in units of ``eps (|G||m'| + |b|)``, ``(*batch, r)``.
        chi2: ``e^T A^-1 e``, about ``dof`` when prior and law agree, ``(*batch)``.
        dof: Number of rows that took part, the rank, ``(*batch)``.
        status: Row status as in `physcon_ext.reference.RowStatus`, ``(*batch, r)`` int32.
    """

    residual_before: Tensor
    residual_after: Tensor
    ulps: Tensor
    chi2: Tensor
    dof: Tensor
    status: Tensor


@dataclass(frozen=True)
class Origin:
    """Where a conditioned field comes from."""

    prior: GaussianField
    chi2: Tensor
    status: Tensor


class GaussianField:
    r"""A Gaussian over ``n`` cells, with leading batch axes; immutable.

    Args:
        mean: ``(*batch, n)``, float32 or float64, in the unit of the field.
        variance: ``(*batch, n)``, ``>= 0``: independent cells, or the diagonal part next to a
            factor. Zeros are cells known exactly.
        covariance: ``(*batch, n, n)``, symmetric positive semi-definite, instead of variance.
        factor: ``F``, ``(*batch, q, n)``: :math:`\Sigma = diag(variance) + F^T F`.
        validate: Check values; this reads the data. ``False`` checks shapes only.

    Raises:
        TypeError: If an argument is not a float32 or float64 tensor, or dtypes differ.
        ValueError: If shapes do not broadcast, values are not finite, a variance is negative,
            the covariance is not symmetric, or neither or both of variance and covariance are
            given.

    Notes:
        Results of `physcon_ext.conserve` are fields too: their covariance stays in the form
        prior - ``V^T V``, and nothing of size ``n x n`` exists until `covariance` is called.

    Example:
        >>> field = GaussianField(torch.zeros(3), torch.tensor([1.0, 4.0, 0.0]))
        >>> field.log_prob(torch.zeros(3))
        tensor(-2.5310)
    """

    def __init__(
        self,
        mean: Tensor,
        variance: Tensor | None = None,
        *,
        covariance: Tensor | None = None,
        factor: Tensor | None = None,
        validate: bool = True,
    ) -> None:
        check_dtype(_WHO, "mean", mean)
        if mean.ndim == 0 or mean.shape[-1] == 0:
            raise ValueError(
                f"{_WHO}: expected mean to have at least one cell on its last axis, "
                f"got shape {tuple(mean.shape)}"
            )
        given = {"variance": variance, "covariance": covariance, "factor": factor}
        tensors = {name: t for name, t in given.items() if t is not None}
        if (variance is None) == (covariance is None) or (
            covariance is not None and factor is not None
        ):
            raise ValueError(
                f"{_WHO}: expected variance, or variance and factor, or covariance, "
                f"got {' and '.join(tensors) or 'none of them'}"
            )
        for name, tensor in tensors.items():
            check_dtype(_WHO, name, tensor, like=mean, like_name="mean")
        batch = _check_shapes(mean, tensors)
        if validate:
            _check_values(mean, tensors)
        structure: Covariance
        if covariance is not None:
            structure = Dense(covariance)
        elif variance is not None and factor is not None:
            structure = LowRankPlusDiagonal(variance, factor)
        else:
            structure = Diagonal(tensors["variance"])
        self._set(mean.expand(*batch, -1), structure.expand(batch), None, None)

    def _set(
        self,
        mean: Tensor,
        structure: Covariance,
        law: LinearConstraint | None,
        origin: Origin | None,
    ) -> None:
        self._mean, self._structure, self._law, self._origin = mean, structure, law, origin

    @classmethod
    def from_structure(
        cls,
        mean: Tensor,
        structure: Covariance,
        *,
        law: LinearConstraint | None = None,
        origin: Origin | None = None,
    ) -> GaussianField:
        """Build a field from a mean and a structured covariance of the same batch shape."""
        field = cls.__new__(cls)
        field._set(mean, structure, law, origin)
        return field

    @property
    def mean(self) -> Tensor:
        """Mean, ``(*batch, n)``."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Marginal variance, ``(*batch, n)``."""
        return self._structure.variance

    @property
    def structure(self) -> Covariance:
        """The covariance in structured form."""
        return self._structure

    @property
    def prior(self) -> GaussianField | None:
        """The field before conditioning, or None."""
        return self._origin.prior if self._origin else None

    @property
    def law(self) -> LinearConstraint | None:
        """The constraint that the field was conditioned on, or None."""
        return self._law

    @property
    def factor(self) -> Tensor:
        """The low-rank part of the covariance, ``(*batch, q, n)``.

        For a conditioned field ``V``, with covariance = prior covariance - ``V^T V``, one row
        per row of the law, computed on each access (banded and disjoint rows are written out as
        a matrix). For other fields ``F`` with covariance = diagonal + ``F^T F``; no rows if there
        is none.
        """
        if self._origin is None or self._law is None:
            own = getattr(self._structure, "factor", None)
            return (
                own if own is not None else self._mean.new_zeros(*self._mean.shape[:-1], 0, self.n)
            )
        prior, law = self._origin.prior, self._law.map(Expand(self.batch_shape))
        rest = (law.rows, law.target, law.noise)
        if isinstance(prior.structure, Diagonal):
            return ops.condition_diagonal(prior.mean, prior.variance, *rest, factor=True).factor
        cross = prior.structure.cross(law.rows)
        return ops.condition_cross(prior.mean, prior.variance, cross, *rest, factor=True).factor

    @property
    def n(self) -> int:
        """Number of cells."""
        return self._mean.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        """Leading axes."""
        return self._mean.shape[:-1]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of mean and variance."""
        return self._mean.dtype

    @property
    def device(self) -> torch.device:
        """Device of mean and variance."""
        return self._mean.device

    @property
    def is_singular(self) -> bool:
        """Whether the distribution lies on a lower-dimensional set. Reads the data.

        True with rows that hold exactly and with cells that have no variance; `log_prob` is then
        the density on that set.
        """
        hard = self._law is not None and bool(self._law.hard.any())
        return hard or bool(self._structure.certain.any())

    def covariance(self) -> Tensor:
        """Return the covariance as a matrix, ``(*batch, n, n)``: the only place that forms it."""
        return self._structure.to_dense()

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; every one satisfies the exact rows of the law to rounding.

        Matheron's rule: draw from the prior, draw the noise of the rows, and condition the draw.
        The distribution is exactly that of the field, without a factorisation of its covariance.

        Args:
            n: Number of samples.
            generator: Source of randomness; its state decides the samples.

        Returns:
            ``(n, *batch, cells)``, without gradient.
        """
        if n < 0:
            raise ValueError(f"{_WHO}: expected n to be >= 0, got {n}")
        with torch.no_grad():
            draws = self._mean.double()[..., None, :] + self._structure.draw(n, generator)
            return draws.to(self.dtype).movedim(-2, 0)

    def log_prob(self, u: Tensor) -> Tensor:
        r"""Log density at ``u``, ``(..., n)``, differentiable.

        Notes:
            With rows that hold exactly the covariance is singular and the value is the density on
            the manifold :math:`Gu = b` with respect to its surface measure,
            :math:`\log N(u; m, \Sigma) - \log N(b; Gm, G \Sigma G^T) - \frac12 \log\det G G^T`
            in terms of the prior. Off the manifold (beyond 64 eps of the sums involved) it is
            ``-inf``. Rows with noise count as observations. Cells without variance are left out;
            a ``u`` that differs from the mean there has ``-inf``. `is_singular` tells.

        Returns:
            Broadcast batch shape, in the dtype of the field.
        """
        check_dtype(_WHO, "u", u, like=self._mean, like_name="mean")
        if common_shape(u.shape, self._mean.shape) is None:
            raise ValueError(
                f"{_WHO}: expected u to broadcast with mean {tuple(self._mean.shape)}, "
                f"got shape {tuple(u.shape)}"
            )
        value = self._structure.log_prob(u.double() - self._mean.double())
        if self._law is not None:
            with torch.no_grad():
                slack = 64 * torch.finfo(self.dtype).eps * self._law.magnitude(u)
                off = (self._law.residual(u).abs() > slack) & self._law.hard
            value = torch.where(off.any(-1), -torch.inf, value)
        return value.to(self.dtype)

    def diagnostics(self) -> Diagnostics:
        """Return residuals, chi-squared, rank and row status of the conditioning.

        Raises:
            ValueError: If the field has not been conditioned.
        """
        if self._origin is None or self._law is None:
            raise ValueError(f"{_WHO}: expected a conditioned field for diagnostics, got a prior")
        after = self._law.residual(self._mean)
        scale = torch.finfo(self.dtype).eps * self._law.magnitude(self._mean)
        return Diagnostics(
            residual_before=self._law.residual(self._origin.prior.mean),
            residual_after=after,
            ulps=torch.where(scale > 0, after.abs() / scale, after.abs()),
            chi2=self._origin.chi2,
            dof=(self._origin.status == 0).sum(-1),
            status=self._origin.status,
        )

    def expand(self, batch_shape: Sequence[int]) -> GaussianField:
        """Return the field with its batch axes expanded, without copies."""
        return self.map(Expand(tuple(batch_shape)))

    def to(
        self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None
    ) -> GaussianField:
        """Return the field on another device or in another floating-point dtype."""
        return self.map(Cast(None if device is None else torch.device(device), dtype))

    def map(self, function: TensorMap) -> GaussianField:
        """Apply a map to every tensor that the field holds."""
        origin = self._origin and Origin(
            self._origin.prior.map(function),
            function.batched(self._origin.chi2, 0),
            function.batched(self._origin.status, 1),
        )
        return GaussianField.from_structure(
            function.batched(self._mean, 1),
            self._structure.map(function),
            law=self._law and self._law.map(function),
            origin=origin,
        )

    def to_distribution(self) -> distributions.Distribution:
        """Return the field as a ``torch.distributions`` object over the last axis.

        Independent cells give ``Independent(Normal)``, a factor ``LowRankMultivariateNormal``,
        everything else ``MultivariateNormal`` with the dense covariance.

        Raises:
            ValueError: If the field is singular: torch has no such distribution.
        """
        if self.is_singular:
            raise ValueError(
                f"{_WHO}: expected a covariance of full rank for to_distribution, got one with "
                "exact rows or certain cells; use sample and log_prob of the field"
            )
        structure = self._structure
        if isinstance(structure, Diagonal):
            return distributions.Independent(
                distributions.Normal(self._mean, self.variance.sqrt()), 1
            )
        if isinstance(structure, LowRankPlusDiagonal):
            return distributions.LowRankMultivariateNormal(
                self._mean, structure.factor.mT, structure.diagonal
            )
        return distributions.MultivariateNormal(self._mean, self.covariance())

    @classmethod
    def from_distribution(cls, distribution: distributions.Distribution) -> GaussianField:
        """Return a Gaussian ``torch.distributions`` object as a field over its last axis.

        Raises:
            TypeError: If the distribution is not one that `to_distribution` returns, or ``Normal``.
        """
        if isinstance(distribution, distributions.Independent):
            distribution = distribution.base_dist
        if isinstance(distribution, distributions.Normal):
            return cls(distribution.loc, distribution.scale.square())
        if isinstance(distribution, distributions.LowRankMultivariateNormal):
            diagonal, factor = distribution.cov_diag, distribution.cov_factor.mT
            return cls(distribution.loc, diagonal, factor=factor)
        if isinstance(distribution, distributions.MultivariateNormal):
            return cls(distribution.loc, covariance=distribution.covariance_matrix)
        raise TypeError(
            f"{_WHO}: expected distribution to be Normal, Independent(Normal), MultivariateNormal "
            f"or LowRankMultivariateNormal, got {type(distribution).__name__}"
        )

    def __repr__(self) -> str:
        batch = f", batch_shape={tuple(self.batch_shape)}" if self.batch_shape else ""
        law = f", law={self._law}" if self._law is not None else ""
        kind = type(self._structure).__name__
        return f"GaussianField(n={self.n}{batch}, {kind}, {self.dtype}{law})"


def _check_shapes(mean: Tensor, tensors: dict[str, Tensor]) -> torch.Size:
    """Return the common batch shape; raise if the last axes do not match those of the mean."""
    n = mean.shape[-1]
    lead = [mean.shape[:-1]]
    wanted = {
        "variance": ("(*batch, n)", (n,)),
        "covariance": ("(*batch, n, n)", (n, n)),
        "factor": ("(*batch, q, n)", (None, n)),
    }
    for name, tensor in tensors.items():
        text, event = wanted[name]
        ends = tuple(tensor.shape[-len(event) :])
        fits = len(ends) == len(event) and all(
            w in (None, s) for w, s in zip(event, ends, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{_WHO}: expected {name} to have shape {text} with n = {n} as mean "
                f"{tuple(mean.shape)}, got {tuple(tensor.shape)}"
            )
        lead.append(tensor.shape[: -len(event)])
    batch = common_shape(*lead)
    if batch is None:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise ValueError(
            f"{_WHO}: expected batch axes to broadcast, got mean {tuple(mean.shape)}, {shapes}"
        )
    return batch


def _check_values(mean: Tensor, tensors: dict[str, Tensor]) -> None:
    check_finite(_WHO, "mean", mean)
    for name, tensor in tensors.items():
        check_finite(_WHO, name, tensor)
    if "variance" in tensors:
        check_not_negative(_WHO, "variance", tensors["variance"])
    if "covariance" in tensors:
        matrix = tensors["covariance"].detach()
        check_not_negative(_WHO, "the diagonal of covariance", matrix.diagonal(dim1=-2, dim2=-1))
        skew = (matrix - matrix.mT).abs()
        size = matrix.abs().amax() if matrix.numel() else matrix.sum()
        if bool((skew > 64 * torch.finfo(matrix.dtype).eps * size).any()):
            raise ValueError(
                f"{_WHO}: expected covariance to be symmetric, got a difference of "
                f"{fmt(skew.max())} between mirrored entries"
            )
