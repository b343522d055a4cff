# SPDX-License-Identifier: Apache-2.0
"""Rows with disjoint support, and their adjoint, in torch operations: ``O(p log p)``, float64."""

from __future__ import annotations

import torch
from torch import Tensor

from physcon_ext.ops.composite.rank_system import JOSEPH_LEVERAGE
from physcon_ext.reference.row_system import RowStatus


_CORRECTIONS = 2


class Rows:
    """Where the listed points are, and sums over the points of each row."""

    def __init__(self, op: str, n: int, support: int, order: Tensor, offsets: Tensor) -> None:
        listed = torch.arange(support, device=offsets.device)
        if order.numel() not in (0, support):
            raise RuntimeError(
                f"{op}: expected order to have {support} entries (or none), got {order.numel()}"
            )
        self.cells = order if order.numel() else listed
        self.offsets = offsets
        self.owner = torch.searchsorted(offsets[1:].contiguous(), listed, right=True)
        # Checked where the indices are, without waiting for the answer.
        ascends = (offsets.diff() >= 0).all() & (offsets[0] == 0) & (offsets[-1] == support)
        torch._assert_async(
            ascends, f"{op}: expected offsets to ascend from 0 to the number of weights, {support}"
        )
        inside = (self.cells >= 0) & (self.cells < n)
        torch._assert_async(inside.all(), f"{op}: expected order to index {n} cells")
        counts = torch.zeros(n, dtype=torch.int64, device=offsets.device)
        counts = counts.index_add(0, self.cells.clamp(0, max(n - 1, 0)), torch.ones_like(listed))
        torch._assert_async((counts <= 1).all(), f"{op}: expected disjoint rows, got a cell twice")

    def sums(self, values: Tensor) -> Tensor:
        """Sums over each row, ``(..., p)`` to ``(..., r)``: pairwise, the same order every time."""
        count = values.shape[-1]
        if count == 0:
            return values.new_zeros(*values.shape[:-1], self.offsets.numel() - 1)
        step = 1
        while step < count:  # entry i becomes the sum of the last 2 step entries of its row
            same = self.owner[step:] == self.owner[:-step]
            before = torch.where(same, values[..., :-step], 0.0)
            values = torch.cat([values[..., :step], values[..., step:] + before], -1)
            step *= 2
        last = values[..., (self.offsets[1:] - 1).clamp(min=0)]
        return torch.where(self.offsets.diff() > 0, last, 0.0)

    def spread(self, values: Tensor) -> Tensor:
        """The value of the row of each listed point, ``(..., r)`` to ``(..., p)``."""
        return values[..., self.owner]

    def place(self, everywhere: Tensor, listed: Tensor) -> Tensor:
        """Points of a row take the listed values, the others keep theirs."""
        return everywhere.index_copy(-1, self.cells, listed.to(everywhere.dtype))


def condition_disjoint(
    mean: Tensor,
    variance: Tensor,
    weights: Tensor,
    target: Tensor,
    noise: Tensor,
    order: Tensor,
    offsets: Tensor,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_disjoint``."""
    rows = Rows("physcon::condition_disjoint", mean.shape[-1], weights.shape[-1], order, offsets)
    eps = torch.finfo(mean.dtype).eps
    w, b, noise = weights.double(), target.double(), noise.double()
    m, s = mean.double()[..., rows.cells], variance.double()[..., rows.cells]
    d = rows.sums(w * w * s) + noise
    e = b - rows.sums(w * m)
    finite = d.isfinite() & e.isfinite()
    used = finite & (d > 0)
    satisfied = e.abs() <= 64 * eps * (rows.sums((w * m).abs()) + b.abs())
    info = torch.where(satisfied, int(RowStatus.SATISFIED), int(RowStatus.INFEASIBLE))
    info = torch.where(used, int(RowStatus.USED), info)
    info = torch.where(finite, info, int(RowStatus.NON_FINITE)).to(torch.int32)
    inverse = torch.where(used, 1 / d, 0.0)
    alpha = torch.where(used, e * inverse, 0.0)
    moved = m + rows.spread(alpha) * w * s
    for _ in range(_CORRECTIONS):  # of the mean itself: a far prior mean would round again
        rest = b - rows.sums(w * moved) - noise * alpha
        delta = torch.where(used, rest * inverse, 0.0)
        alpha, moved = alpha + delta, moved + rows.spread(delta) * w * s
    own = w * w * s
    leverage = own * rows.spread(inverse)
    # At most one point of a row has so high a leverage: what is left of it is the sum of the rest.
    dominant = leverage > JOSEPH_LEVERAGE
    rest = rows.spread(rows.sums(torch.where(dominant, 0.0, own)) + noise)
    left = s * torch.where(dominant, rest * rows.spread(inverse), 1 - leverage)
    root = torch.where(used, d, 1.0).sqrt()
    v = w * s * rows.spread(torch.where(used, 1 / root, 0.0))

    broken = rows.spread(~finite)
    kept = rows.spread(used)

    def listed(value: Tensor, prior: Tensor) -> Tensor:
        return torch.where(kept, value, prior).masked_fill(broken, torch.nan)

    return (
        rows.place(mean, listed(moved, m)),
        rows.place(variance, listed(left, s)),
        v.masked_fill(broken, torch.nan).to(mean.dtype),
        torch.where(used, root, torch.inf).masked_fill(~finite, torch.nan),
        alpha.masked_fill(~finite, torch.nan),
        info,
    )


def condition_disjoint_backward(
    grad_mean: Tensor,
    grad_variance: Tensor,
    grad_factor: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    weights: Tensor,
    order: Tensor,
    offsets: Tensor,
    target: Tensor,
    noise: Tensor,
    cholesky: Tensor,
    multipliers: Tensor,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_disjoint_backward``."""
    rows = Rows(
        "physcon::condition_disjoint_backward", mean.shape[-1], weights.shape[-1], order, offsets
    )
    w = weights.double()
    m, s = mean.double()[..., rows.cells], variance.double()[..., rows.cells]
    p, q = grad_mean.double()[..., rows.cells], grad_variance.double()[..., rows.cells]
    f = torch.zeros_like(s) if grad_factor is None else grad_factor.double()
    c, inverse = w * s, 1 / cholesky
    squares, mixed = rows.sums(c * c * q), rows.sums(c * f)
    gain = rows.sums(c * p) * inverse.square()
    adjoint = inverse.square() * (squares * inverse.square() - 0.5 * mixed * inverse)
    adjoint = adjoint - gain * multipliers
    a, ab = rows.spread(gain), rows.spread(adjoint)
    scale = rows.spread(inverse)
    cross = rows.spread(multipliers) * p + ab * w + scale * (f - 2 * q * s * scale * w)
    dtype = mean.dtype
    return (
        rows.place(grad_mean, p - a * w),
        rows.place(grad_variance, q + cross * w),
        (s * (cross + ab * w) - a * m).to(dtype),
        gain.to(dtype),
        adjoint.to(dtype),
    )
