# SPDX-License-Identifier: Apache-2.0
"""One way to expand, select, move or cast objects that hold several tensors with batch axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class TensorMap(Protocol):
    """A change of every tensor of an object.

    ``batched`` is for tensors that belong to single items; ``shared`` for weights that may have
    no batch axes, and then serve all items: those keep their shape.
    """

    def batched(self, tensor: Tensor, trailing: int) -> Tensor:
        """Map a tensor whose last ``trailing`` axes are not batch axes."""

    def shared(self, tensor: Tensor, trailing: int) -> Tensor:
        """Map a tensor that all items may share."""


@dataclass(frozen=True)
class Expand:
    """Expand the batch axes, without copies."""

    batch_shape: Sequence[int]

    def batched(self, tensor: Tensor, trailing: int) -> Tensor:
        return tensor.expand(*self.batch_shape, *tensor.shape[tensor.ndim - trailing :])

    def shared(self, tensor: Tensor, trailing: int) -> Tensor:
        return tensor if tensor.ndim == trailing else self.batched(tensor, trailing)


@dataclass(frozen=True)
class Select:
    """Take one item along a batch axis, counted from the right: 1 is the last batch axis.

    A tensor that does not have the axis is the same for all its items.
    """

    axis: int
    index: int

    def batched(self, tensor: Tensor, trailing: int) -> Tensor:
        place = tensor.ndim - trailing - self.axis
        if place < 0:
            return tensor
        return tensor.select(place, self.index if tensor.shape[place] > 1 else 0)

    shared = batched


@dataclass(frozen=True)
class Cast:
    """Move to a device, cast to a dtype. Masks and indices keep their dtype."""

    device: torch.device | None = None
    dtype: torch.dtype | None = None

    def batched(self, tensor: Tensor, trailing: int) -> Tensor:
        return tensor.to(
            device=self.device, dtype=self.dtype if tensor.is_floating_point() else None
        )

    shared = batched
