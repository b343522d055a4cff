# SPDX-License-Identifier: Apache-2.0
"""`LinearConstraint`: what is known about linear functionals of a field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor

from physcon_ext.checks import (
    broadcast_shape,
    check_dtype,
    check_finite,
    check_not_negative,
    common_shape,
    first_index,
    fmt,
)
from physcon_ext.constraints.rows import BandedRows, DenseRows, DisjointRows, Rows, find_disjoint
from physcon_ext.tensor_map import Cast, TensorMap


_WHO = "LinearConstraint"


@dataclass(frozen=True)
class Group:
    """Rows of one layout with their targets, noise and names."""

    rows: Rows
    target: Tensor  # (..., r)
    noise: Tensor  # (..., r), or (..., r, r) when matrix
    matrix: bool
    names: tuple[str, ...]

    def map(self, function: TensorMap) -> Group:
        """Apply a map to every tensor."""
        return Group(
            self.rows.map(function),
            function.batched(self.target, 1),
            function.batched(self.noise, 2 if self.matrix else 1),
            self.matrix,
            self.names,
        )

    def exact(self) -> Group:
        """Return the same rows and targets without noise; banded rows become a matrix."""
        rows = DenseRows(self.rows.dense()) if isinstance(self.rows, BandedRows) else self.rows
        return Group(rows, self.target, torch.zeros_like(self.target), False, self.names)


class LinearConstraint:
    r"""Rows ``b = G u + noise``, noise ``~ N(0, R)``; ``R = 0`` is a law that holds exactly.

    Args:
        G: Rows, ``(r, n)`` shared or ``(*batch, r, n)``. One row may be given as ``(n,)``; then
            ``b`` has no row axis: ``()`` or ``(*batch,)``.
        b: Right-hand side, ``(*batch, r)``, in the unit of ``G u``; or a number for one row.
        noise_variance: ``R``: 0, a number, a variance per row (broadcast to ``b``), or a
            symmetric matrix ``(..., r, r)`` with one axis more than ``b``.
        names: Names for messages: one per row, or one word that gets an index.
        validate: Check values and look for rows with disjoint support, which the compiled update
            treats in O(n). This reads the data; ``False`` skips both.

    Raises:
        TypeError: If an argument is not a tensor, or dtypes or devices differ.
        ValueError: If shapes do not fit, a value is not finite, a variance is negative, or a
            row has no weight.

    Notes:
        Constraints are values. ``law1 & law2`` holds the rows of both and keeps their layouts:
        dense, disjoint (`blocks`), banded (`smoothness`). Disjoint rows mixed with dense rows
        are written out as a matrix when a field is conditioned; banded rows never are, as long
        as the prior has independent cells.

    Example:
        >>> law = LinearConstraint(torch.full((1, 4), 0.25), torch.tensor([1.0]))
        >>> law.residual(torch.zeros(4))
        tensor([-1.], dtype=torch.float64)
    """

    groups: tuple[Group, ...]

    def __init__(
        self,
        G: Tensor,
        b: Tensor | float,
        noise_variance: Tensor | float = 0.0,
        *,
        names: str | Sequence[str] | None = None,
        validate: bool = True,
    ) -> None:
        check_dtype(_WHO, "G", G)
        if G.ndim == 0:
            raise ValueError(f"{_WHO}: expected G to have shape (r, n) or (n,), got ()")
        target = as_like(_WHO, "b", b, G)
        if G.ndim == 1:
            G = G[None]
            target, noise_variance = one_row(target, noise_variance)
        elif target.ndim == 0 and G.shape[-2] == 1:
            target = target[None]
        rows: Rows = DenseRows(G)
        group = make_group(_WHO, rows, target, noise_variance, names, validate=validate)
        if validate:
            check_finite(_WHO, "G", G)
            empty = ~(G != 0).any(-1)
            if bool(empty.any()):
                index = first_index(empty)
                raise ValueError(
                    f"{_WHO}: expected every row of G to have a non-zero weight, got none in "
                    f"{row_label(group.names, index[-1])}"
                )
            if not (group.matrix or G.requires_grad) and rows.n_rows > 1:
                rows = find_disjoint(G) or rows
        self.groups = (Group(rows, group.target, group.noise, group.matrix, group.names),)

    @classmethod
    def from_groups(cls, groups: Sequence[Group]) -> LinearConstraint:
        """Build a constraint from checked groups of rows."""
        law = cls.__new__(cls)
        law.groups = tuple(groups)
        return law

    def __and__(self, other: LinearConstraint) -> LinearConstraint:
        """Return the constraint that holds the rows of both, in order."""
        if not isinstance(other, LinearConstraint):
            return NotImplemented
        same_space(_WHO, self, "other law", other)
        return LinearConstraint.from_groups(self.groups + other.groups)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return sum(g.rows.n_rows for g in self.groups)

    @property
    def n_cells(self) -> int:
        """Number of cells that a row weighs."""
        return self.groups[0].rows.n_cells

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.groups[0].rows.weights.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.groups[0].rows.weights.device

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the rows."""
        return tuple(name for g in self.groups for name in g.names)

    @cached_property
    def batch_shape(self) -> torch.Size:
        """Leading axes of the rows, the targets and the noise together."""
        shapes = [g.rows.batch_shape for g in self.groups]
        shapes += [g.target.shape[:-1] for g in self.groups]
        shapes += [g.noise.shape[: g.noise.ndim - (2 if g.matrix else 1)] for g in self.groups]
        return broadcast_shape(*shapes)

    @cached_property
    def rows(self) -> Tensor:
        """All rows as one matrix, ``(r, n)`` if shared by the batch, else ``(*batch, r, n)``."""
        dense = [g.rows.dense() for g in self.groups]
        batch = broadcast_shape(*(d.shape[:-2] for d in dense))
        return torch.cat([d.expand(*batch, *d.shape[-2:]) for d in dense], -2)

    @cached_property
    def target(self) -> Tensor:
        """``b``, ``(*batch, r)``."""
        return torch.cat([g.target.expand(*self.batch_shape, -1) for g in self.groups], -1)

    @property
    def noise_is_matrix(self) -> bool:
        """Whether the noise of some rows is correlated."""
        return any(g.matrix for g in self.groups)

    @cached_property
    def noise(self) -> Tensor:
        """``R``: variances ``(*batch, r)``, or a matrix ``(*batch, r, r)`` if any is one."""
        if not self.noise_is_matrix:
            return torch.cat([g.noise.expand(*self.batch_shape, -1) for g in self.groups], -1)
        blocks = [g.noise if g.matrix else torch.diag_embed(g.noise) for g in self.groups]
        blocks = [x.expand(*self.batch_shape, *x.shape[-2:]) for x in blocks]
        return reduce(_block_diagonal, blocks)

    @property
    def hard(self) -> Tensor:
        """Rows without noise, bool, ``(*batch, r)``."""
        own = self.noise.diagonal(dim1=-2, dim2=-1) if self.noise_is_matrix else self.noise
        return own == 0

    def residual(self, field: Tensor) -> Tensor:
        """Return ``G u - b``, signed, per row.

        Args:
            field: ``(..., n)``.

        Returns:
            ``(..., r)`` float64: products and sums are formed in float64 whatever the input.
        """
        return self._per_row(field, lambda g, applied: applied - g.target.double())

    def magnitude(self, field: Tensor) -> Tensor:
        """Return ``|G||u| + |b|``, the scale of the rounding in a residual, ``(..., r)``."""
        return self._per_row(field, lambda g, size: size + g.target.double().abs(), absolute=True)

    def to(
        self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None
    ) -> LinearConstraint:
        """Return the constraint on another device or in another floating-point dtype."""
        return self.map(Cast(None if device is None else torch.device(device), dtype))

    def exact(self) -> LinearConstraint:
        """Return the same rows and targets without noise; banded rows become a matrix."""
        return LinearConstraint.from_groups([g.exact() for g in self.groups])

    def map(self, function: TensorMap) -> LinearConstraint:
        """Apply a map to every tensor."""
        return LinearConstraint.from_groups([g.map(function) for g in self.groups])

    def label(self, index: int) -> str:
        """Return how messages name a row: ``row 'mass[3]' (index 3)``."""
        return row_label(self.names, index)

    def __repr__(self) -> str:
        kinds = {DenseRows: "dense", DisjointRows: "disjoint", BandedRows: "banded"}
        parts = [f"{g.rows.n_rows} {kinds[type(g.rows)]}" for g in self.groups]
        batch = f", batch_shape={tuple(self.batch_shape)}" if self.batch_shape else ""
        return f"LinearConstraint({' & '.join(parts)}, n_cells={self.n_cells}{batch})"

    def _per_row(
        self,
        field: Tensor,
        combine: Callable[[Group, Tensor], Tensor],
        *,
        absolute: bool = False,
    ) -> Tensor:
        if not isinstance(field, Tensor):
            raise TypeError(
                f"{_WHO}: expected field to be a torch.Tensor, got {type(field).__name__}"
            )
        if field.ndim == 0 or field.shape[-1] != self.n_cells:
            raise ValueError(
                f"{_WHO}: expected field to have {self.n_cells} cells on its last axis, "
                f"got shape {tuple(field.shape)}"
            )
        parts = [combine(g, g.rows.apply(field, absolute=absolute)) for g in self.groups]
        batch = broadcast_shape(*(p.shape[:-1] for p in parts))
        return torch.cat([p.expand(*batch, -1) for p in parts], -1)


def make_group(
    who: str,
    rows: Rows,
    target: Tensor,
    noise_variance: Tensor | float,
    names: str | Sequence[str] | None,
    *,
    validate: bool,
    default_name: str = "row",
) -> Group:
    """Check target, noise and names against the rows and return them together."""
    r = rows.n_rows
    if r == 0 or rows.n_cells == 0:
        raise ValueError(
            f"{who}: expected at least one row and one cell, got {r} rows of {rows.n_cells} cells"
        )
    if target.ndim == 0 or target.shape[-1] != r:
        raise ValueError(
            f"{who}: expected b to have {r} values on its last axis, one per row, "
            f"got shape {tuple(target.shape)}"
        )
    noise = as_like(who, "noise_variance", noise_variance, rows.weights)
    matrix = noise.ndim == target.ndim + 1
    event = (r, r) if matrix else (r,)
    if matrix and noise.shape[-2:] != event:
        raise ValueError(
            f"{who}: expected noise_variance with one axis more than b to be a matrix "
            f"({r}, {r}) per item, got shape {tuple(noise.shape)}"
        )
    if not matrix and not _fits(noise.shape, target.shape):
        raise ValueError(
            f"{who}: expected noise_variance to broadcast to the shape of b {tuple(target.shape)}, "
            f"got shape {tuple(noise.shape)}"
        )
    noise = noise.expand(*noise.shape[: max(noise.ndim - len(event), 0)], *event)
    lead = [rows.batch_shape, target.shape[:-1], noise.shape[: noise.ndim - len(event)]]
    if common_shape(*lead) is None:
        raise ValueError(
            f"{who}: expected the leading axes of G, b and noise_variance to broadcast, got "
            + ", ".join(str(tuple(s)) for s in lead)
        )
    if validate:
        check_finite(who, "b", target)
        check_finite(who, "noise_variance", noise)
        check_noise(who, noise, matrix=matrix)
    return Group(rows, target, noise, matrix, row_names(who, names, r, default_name))


def one_row(target: Tensor, noise: Tensor | float) -> tuple[Tensor, Tensor | float]:
    """Add the row axis to a target and a noise that are given without it."""
    if not isinstance(noise, Tensor) or noise.ndim == 0:
        return target[..., None], noise
    shape = common_shape(target.shape, noise.shape)
    if shape is None:
        raise ValueError(
            f"{_WHO}: expected b and noise_variance of one row to broadcast, "
            f"got shapes {tuple(target.shape)} and {tuple(noise.shape)}"
        )
    return target.expand(shape)[..., None], noise.expand(shape)[..., None]


def check_noise(who: str, noise: Tensor, *, matrix: bool) -> None:
    """Raise if a variance is negative or a matrix is not symmetric positive semi-definite."""
    if not matrix:
        check_not_negative(who, "noise_variance", noise)
        return
    size = noise.detach().double().abs().amax((-2, -1)) if noise.numel() else noise.sum()
    tolerance = 64 * torch.finfo(noise.dtype).eps * noise.shape[-1] * size
    skew = (noise - noise.mT).detach().abs().amax((-2, -1)) if noise.numel() else noise.sum()
    if bool((skew > tolerance).any()):
        raise ValueError(
            f"{who}: expected noise_variance to be symmetric, got a difference of "
            f"{fmt(skew.max())} between mirrored entries"
        )
    lowest = torch.linalg.eigvalsh(noise.detach().double())[..., 0]
    if bool((lowest < -tolerance).any()):
        raise ValueError(
            f"{who}: expected noise_variance to be positive semi-definite, "
            f"got an eigenvalue {fmt(lowest.min())}"
        )


def as_like(who: str, name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """Return a number as a tensor, or a tensor after checking its dtype and device."""
    if isinstance(value, bool) or not isinstance(value, (Tensor, int, float)):
        raise TypeError(
            f"{who}: expected {name} to be a torch.Tensor or a number, got {type(value).__name__}"
        )
    if not isinstance(value, Tensor):
        return torch.tensor(value, dtype=like.dtype, device=like.device)
    check_dtype(who, name, value, like=like, like_name="the rows")
    return value


def same_space(who: str, law: LinearConstraint, name: str, other: LinearConstraint) -> None:
    """Raise if two constraints differ in cells, dtype, device or cannot be batched together."""
    if other.n_cells != law.n_cells:
        raise ValueError(
            f"{who}: expected both laws to have the same number of cells, "
            f"got {law.n_cells} and {other.n_cells}"
        )
    if (other.dtype, other.device) != (law.dtype, law.device):
        raise TypeError(
            f"{who}: expected both laws to have the same dtype and device, got {law.dtype} on "
            f"{law.device} and {other.dtype} on {other.device}; use law.to(...)"
        )
    if common_shape(law.batch_shape, other.batch_shape) is None:
        raise ValueError(
            f"{who}: expected the batch axes of both laws to broadcast, "
            f"got {tuple(law.batch_shape)} and {tuple(other.batch_shape)} for the {name}"
        )


def row_names(
    who: str, names: str | Sequence[str] | None, count: int, default: str
) -> tuple[str, ...]:
    """Return one name per row."""
    if names is None or isinstance(names, str):
        word = names or default
        return (word,) if count == 1 else tuple(f"{word}[{k}]" for k in range(count))
    if len(names) != count:
        raise ValueError(f"{who}: expected names to have {count} entries, got {len(names)}")
    return tuple(str(name) for name in names)


def row_label(names: Sequence[str], index: int) -> str:
    """Return how messages name a row."""
    return f"row '{names[index]}' (index {index})"


def _fits(shape: torch.Size, into: torch.Size) -> bool:
    """Whether a noise per row broadcasts against b: batch axes may be added, the row axis not."""
    if len(shape) == 0:
        return True
    return shape[-1] in (1, into[-1]) and common_shape(shape[:-1], into[:-1]) is not None


def _block_diagonal(a: Tensor, b: Tensor) -> Tensor:
    upper = torch.nn.functional.pad(a, (0, b.shape[-1]))
    lower = torch.nn.functional.pad(b, (a.shape[-1], 0))
    return torch.cat([upper, lower], -2)
