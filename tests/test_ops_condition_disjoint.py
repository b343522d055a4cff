# SPDX-License-Identifier: Apache-2.0
"""Rows with disjoint support: the suite, index lists, many rows."""

import pytest
import torch
from torch import Tensor

from op_suite import DTYPES, TOLERANCE, Disjoint, OpSuite, cast, deviation, normal, positive, seeded
from physcon_ext import ops


def dense_rows(weights: Tensor, order: Tensor, offsets: Tensor, n: int) -> Tensor:
    cells = order if order.numel() else torch.arange(weights.shape[-1])
    rows = weights.new_zeros(offsets.numel() - 1, n)
    for k in range(offsets.numel() - 1):
        part = slice(int(offsets[k]), int(offsets[k + 1]))
        rows[k, cells[part]] = weights[part]
    return rows


class TestConditionDisjoint(OpSuite):
    op = Disjoint()
    shapes = [
        ((), 1, 1),
        ((3,), 1, 1),
        ((), 5, 5),
        ((2, 3), 33, 2),
        ((2,), 127, 8),
        ((2,), 128, 16),
        ((), 129, 17),
        ((2,), 33, 33),
        ((), 400, 128),
        ((), 600, 1),
    ]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(("n", "r"), [(4095, 3), (4097, 1), (9001, 33), (20000, 128)])
    def test_equals_the_op_for_any_rows(self, n: int, r: int, dtype: torch.dtype) -> None:
        """Large problems against the diagonal op, which has an oracle of its own."""
        free = cast(self.op.free((), n, r), dtype)
        found = ops.condition_disjoint(**free)
        rows = dense_rows(free["weights"], free["order"], free["offsets"], n)
        rest = (free["target"], free["noise"])
        expected = ops.condition_diagonal(
            free["mean"].double(),
            free["variance"].double(),
            rows.double(),
            *(t.double() for t in rest),
        )
        for name in ("mean", "variance", "multipliers"):
            error = deviation(getattr(found, name), getattr(expected, name))
            assert error <= TOLERANCE[dtype], name
        root = expected.cholesky.diagonal(dim1=-2, dim2=-1)
        assert deviation(found.cholesky, root) <= TOLERANCE[torch.float64]

    def test_an_empty_order_means_the_points_in_order(self) -> None:
        free = self.op.free((2,), 50, 4, noise="row")
        none = torch.empty(0, dtype=torch.int64)
        identity = torch.arange(free["weights"].shape[-1])
        found = ops.condition_disjoint(**{**free, "order": none})
        expected = ops.condition_disjoint(**{**free, "order": identity})
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)

    def test_points_outside_every_row_keep_their_values(self) -> None:
        free = self.op.free((2,), 60, 4)
        post = ops.condition_disjoint(**free)
        outside = torch.ones(60, dtype=torch.bool)
        outside[free["order"]] = False
        assert int(outside.sum()) == 10
        assert torch.equal(post.mean[:, outside], free["mean"][:, outside])
        assert torch.equal(post.variance[:, outside], free["variance"][:, outside])
        assert not bool((post.mean[:, ~outside] == free["mean"][:, ~outside]).any())

    def test_a_row_without_points(self) -> None:
        """It says 0 = b: satisfied for b = 0, infeasible otherwise, used with noise."""
        g = seeded("empty row")
        mean, variance = normal(g, 4), positive(g, 4)
        none = torch.empty(0, dtype=torch.int64)
        offsets = torch.tensor([0, 2, 2, 2, 2, 4])
        target = torch.tensor([1.0, 0.0, 2.0, 3.0, 1.0], dtype=torch.float64)
        noise = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.0], dtype=torch.float64)
        post = ops.condition_disjoint(
            mean, variance, torch.ones(4, dtype=torch.float64), none, offsets, target, noise
        )
        assert post.info.tolist() == [0, 4, 3, 0, 0]
        assert post.cholesky.isinf().tolist() == [False, True, True, False, False]
        assert post.multipliers[3].item() == pytest.approx(6.0, rel=1e-15)
        assert post.mean.reshape(2, 2).sum(-1).tolist() == pytest.approx([1.0, 1.0], rel=1e-15)
