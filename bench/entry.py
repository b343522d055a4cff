# SPDX-License-Identifier: Apache-2.0
"""What a benchmark entry is: inputs, our function, the baselines, and the traffic it must cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.baselines import Candidate, Update


class Inputs(NamedTuple):
    """Arguments of one constraint update; shapes as in :mod:`bench.baselines`."""

    mean: Tensor
    prior: Tensor
    rows: Tensor
    target: Tensor
    noise: Tensor

    def double(self) -> Inputs:
        """Return the same inputs in float64."""
        return Inputs(*(x.double() for x in self))

    def leaves(self, names: tuple[str, ...]) -> Inputs:
        """Return detached inputs, those in ``names`` with ``requires_grad``."""
        return Inputs(
            *(
                x.detach().requires_grad_(f in names)
                for f, x in zip(self._fields, self, strict=True)
            )
        )


@dataclass(frozen=True)
class BenchmarkEntry:
    """One shape of one op.

    Attributes:
        name: Unique name, also what ``--filter`` matches.
        op: Name of the op measured.
        batch: Items.
        n: Cells per item.
        m: Constraint rows per item.
        shared: Whether all items share one set of rows.
        output: ``"variance"`` or ``"covariance"``: the second result.
        device: Where it runs.
        dtype: Dtype of the inputs.
        gradients: Inputs that get a gradient in the backward pass.
        setup: Seed to fresh inputs.
        forward: Ours, as an update function.
        reference: The same in obvious PyTorch; run on float64 inputs it is the truth.
        published: The published dense formulation, or ``None`` where it does not fit into memory.
        candidates: Plain PyTorch formulations.
        compiled: Thread count to formulations wrapped in ``torch.compile``.
        bytes_moved: Least traffic of the forward pass, reads plus writes.
        flops: Least arithmetic of the forward pass.
        aim: Ratio to the best plain PyTorch that the forward pass should have, if one is set.
        passes: What is timed: ``"forward"``, ``"forward+backward"``.
        quick: Whether ``--quick`` includes it.
    """

    name: str
    op: str
    batch: int
    n: int
    m: int
    shared: bool
    output: str
    device: torch.device
    dtype: torch.dtype
    gradients: tuple[str, ...]
    setup: Callable[[int], Inputs]
    forward: Update
    reference: Update
    published: Update | None
    candidates: list[Candidate]
    compiled: Callable[[int], list[Candidate]]
    bytes_moved: int
    flops: int
    passes: tuple[str, ...] = ("forward", "forward+backward")
    quick: bool = False
    aim: float | None = None


def backward_of(
    update: Update, inputs: Inputs, gradients: tuple[str, ...], cotangents: tuple[Tensor, Tensor]
) -> tuple[Tensor, ...]:
    """Run ``update`` and its backward; return the gradients of the inputs named.

    ``inputs`` must come from :meth:`Inputs.leaves`.
    """
    outputs = update(*inputs)
    wanted = [getattr(inputs, name) for name in gradients]
    return torch.autograd.grad(outputs, wanted, cotangents)
