# SPDX-License-Identifier: Apache-2.0
"""Layouts of constraint rows: dense, disjoint (one row per time or block), banded (differences).

A layout stores weights only. Targets, noise and names belong to the constraint.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from physcon_ext.tensor_map import TensorMap


class Rows(ABC):
    """``r`` rows over ``n`` cells, shared by all items or with leading batch axes."""

    @property
    @abstractmethod
    def weights(self) -> Tensor:
        """The tensor that holds the weights: its dtype and device are those of the rows."""

    @property
    @abstractmethod
    def n_rows(self) -> int: ...

    @property
    @abstractmethod
    def n_cells(self) -> int: ...

    @property
    @abstractmethod
    def batch_shape(self) -> torch.Size: ...

    @abstractmethod
    def dense(self) -> Tensor:
        """Return the rows as a matrix, ``(..., r, n)``."""

    @abstractmethod
    def apply(self, field: Tensor, *, absolute: bool = False) -> Tensor:
        """Return ``G u`` in float64, ``(..., n)`` to ``(..., r)``, or ``|G||u|``."""

    @abstractmethod
    def map(self, function: TensorMap) -> "Rows": ...


@dataclass(frozen=True)
class DenseRows(Rows):
    """A matrix ``(r, n)`` or ``(*batch, r, n)``."""

    matrix: Tensor

    @property
    def weights(self) -> Tensor:
        return self.matrix

    @property
    def n_rows(self) -> int:
        return self.matrix.shape[-2]

    @property
    def n_cells(self) -> int:
        return self.matrix.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        return self.matrix.shape[:-2]

    def dense(self) -> Tensor:
        return self.matrix

    def apply(self, field: Tensor, *, absolute: bool = False) -> Tensor:
        g, u = self.matrix.double(), field.double()
        if absolute:
            g, u = g.abs(), u.abs()
        # Row by row: the sum of the products is pairwise, and the memory is that of the field.
        return torch.stack([(g[..., k, :] * u).sum(-1) for k in range(self.n_rows)], -1)

    def map(self, function: TensorMap) -> "DenseRows":
        return DenseRows(function.shared(self.matrix, 2))


@dataclass(frozen=True)
class DisjointRows(Rows):
    """Rows of which no two share a cell: row ``k`` owns ``cells[offsets[k] : offsets[k + 1]]``."""

    values: Tensor  # (p,) or (*batch, p), in the order of the cells
    cells: Tensor  # (p,) int64
    offsets: Tensor  # (r + 1,) int64
    size: int  # n
    ordered: bool  # the cells are 0, 1, ..., p - 1

    @property
    def weights(self) -> Tensor:
        return self.values

    @property
    def n_rows(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def n_cells(self) -> int:
        return self.size

    @property
    def batch_shape(self) -> torch.Size:
        return self.values.shape[:-1]

    @property
    def order(self) -> Tensor:
        """The cells as the op takes them: empty when they are in order."""
        return self.cells[:0] if self.ordered else self.cells

    @property
    def owner(self) -> Tensor:
        """The row of every listed cell, ``(p,)``."""
        rows = torch.arange(self.n_rows, device=self.offsets.device)
        return torch.repeat_interleave(rows, self.offsets.diff(), output_size=self.cells.shape[0])

    def dense(self) -> Tensor:
        shape = (*self.batch_shape, self.n_rows, self.size)
        flat = self.owner * self.size + self.cells
        zero = self.values.new_zeros(*self.batch_shape, self.n_rows * self.size)
        return zero.index_copy(-1, flat, self.values).reshape(shape)

    def apply(self, field: Tensor, *, absolute: bool = False) -> Tensor:
        products = self.values.double() * field.double()[..., self.cells]
        if absolute:
            products = products.abs()
        zero = products.new_zeros(*products.shape[:-1], self.n_rows)
        return zero.index_add(-1, self.owner, products)

    def map(self, function: TensorMap) -> "DisjointRows":
        moved = function.shared(self.values, 1)
        device = moved.device
        return DisjointRows(
            moved, self.cells.to(device), self.offsets.to(device), self.size, self.ordered
        )


@dataclass(frozen=True)
class BandedRows(Rows):
    """Row ``k`` acts on cells ``k, k + 1, k + 2``: a stencil ``(n - 2, 3)`` or batched."""

    stencil: Tensor

    @property
    def weights(self) -> Tensor:
        return self.stencil

    @property
    def n_rows(self) -> int:
        return self.stencil.shape[-2]

    @property
    def n_cells(self) -> int:
        return self.stencil.shape[-2] + 2

    @property
    def batch_shape(self) -> torch.Size:
        return self.stencil.shape[:-2]

    def dense(self) -> Tensor:
        d = self.stencil
        return sum(
            (torch.nn.functional.pad(torch.diag_embed(d[..., j]), (j, 2 - j)) for j in range(3)),
            start=d.new_zeros(()),
        )

    def apply(self, field: Tensor, *, absolute: bool = False) -> Tensor:
        d, u = self.stencil.double(), field.double()
        if absolute:
            d, u = d.abs(), u.abs()
        return d[..., 0] * u[..., :-2] + d[..., 1] * u[..., 1:-1] + d[..., 2] * u[..., 2:]

    def map(self, function: TensorMap) -> "BandedRows":
        return BandedRows(function.shared(self.stencil, 2))


def find_disjoint(matrix: Tensor) -> DisjointRows | None:
    """Return the rows as `DisjointRows` if no two of them share a cell (in any item).

    Args:
        matrix: ``(r, n)`` or ``(*batch, r, n)``, ``r >= 2``.
    """
    support = (matrix != 0).flatten(0, -3).any(0) if matrix.ndim > 2 else matrix != 0
    if bool((support.sum(0) > 1).any()):
        return None
    owner, cells = support.nonzero(as_tuple=True)
    counts = torch.bincount(owner, minlength=matrix.shape[-2])
    return make_disjoint(matrix[..., owner, cells], cells, counts, matrix.shape[-1])


def make_disjoint(values: Tensor, cells: Tensor, counts: Tensor, size: int) -> DisjointRows:
    """Return `DisjointRows` from cells sorted by row and the number of cells of every row."""
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    ordered = bool((cells == torch.arange(cells.shape[0], device=cells.device)).all())
    return DisjointRows(values, cells, offsets, size, ordered)
