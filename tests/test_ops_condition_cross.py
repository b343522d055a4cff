# SPDX-License-Identifier: Apache-2.0
"""A general prior by its variance and cross covariance: the suite and large problems."""

import pytest
import torch

from op_suite import (
    DTYPES,
    TOLERANCE,
    Cross,
    OpSuite,
    cast,
    deviation,
    extended_condition,
)
from physcon_ext import ops


class TestConditionCross(OpSuite):
    op = Cross()
    shapes = [
        ((), 1, 1),
        ((3,), 1, 1),
        ((), 5, 5),
        ((2, 3), 33, 2),
        ((2,), 70, 3),
        ((2,), 64, 7),
        ((1,), 127, 8),
        ((2,), 128, 16),
        ((), 129, 17),
        ((2,), 33, 33),
        ((), 200, 128),
    ]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(
        ("n", "r"), [(127, 2), (129, 33), (600, 128), (4097, 3), (4096, 16), (9001, 1)]
    )
    def test_equals_extended_precision(
        self, noise: str, n: int, r: int, dtype: torch.dtype
    ) -> None:
        arguments = cast(self.op.arguments(self.op.free((), n, r, noise=noise)), dtype)
        found = ops.condition_cross(**arguments)
        del arguments["factor"]
        oracle = extended_condition(**arguments)
        limit = 1e-12 if dtype == torch.float64 else TOLERANCE[dtype]
        for name, expected in oracle.items():
            scale = arguments["variance"] if name == "variance" else None
            value = torch.from_numpy(expected.astype("float64"))
            # A = C G^T of rounded C is symmetric up to the rounding of the dtype, and which
            # triangle is used shows at that level in everything that is solved with it.
            allowed = max(limit, 1e-11 if dtype == torch.float64 else limit)
            assert deviation(getattr(found, name), value, scale) <= allowed, name

    def test_the_factor_on_demand_does_not_change_the_others(self) -> None:
        arguments = self.op.arguments(self.op.free((2,), 131, 5))
        full = ops.condition_cross(**arguments)
        part = ops.condition_cross(**{**arguments, "factor": False})
        assert part.factor.shape == (2, 0, 131)
        assert torch.equal(part.mean, full.mean) and torch.equal(part.variance, full.variance)

    def test_a_diagonal_prior_equals_the_diagonal_op(self) -> None:
        free = self.op.free((2,), 300, 6)
        mean, variance, rows = free["mean"], free["own"], free["rows"]
        cross = rows * variance[..., None, :]
        rest = (free["target"], free["noise"])
        found = ops.condition_cross(mean, variance, cross, rows, *rest, factor=True)
        expected = ops.condition_diagonal(mean, variance, rows, *rest, factor=True)
        for name in ("mean", "variance", "factor", "cholesky", "multipliers"):
            error = deviation(getattr(found, name), getattr(expected, name))
            assert error <= TOLERANCE[torch.float64], name
