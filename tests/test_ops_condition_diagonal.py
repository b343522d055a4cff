# SPDX-License-Identifier: Apache-2.0
"""Independent points, any rows: the suite, extended precision, large problems."""

import pytest
import torch

from op_suite import (
    DTYPES,
    TOLERANCE,
    Diagonal,
    OpSuite,
    cast,
    deviation,
    extended_condition,
)
from physcon_ext import ops


class TestConditionDiagonal(OpSuite):
    op = Diagonal()
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
        ("n", "r"),
        [(1, 1), (127, 2), (128, 8), (129, 33), (600, 128)]
        + [(4095, 1), (4096, 16), (4097, 3), (9001, 1), (9001, 33)],
    )
    def test_equals_extended_precision(
        self, noise: str, n: int, r: int, dtype: torch.dtype
    ) -> None:
        """Across the block (128 points) and the chunk (4096 points) of the kernels."""
        free = cast(self.op.free((), n, r, noise=noise), dtype)
        found = ops.condition_diagonal(**free, factor=True)
        oracle = extended_condition(cross=None, **free)
        # Float64: 1e-12, what a backward stable solve can give for these well-conditioned rows.
        limit = 1e-12 if dtype == torch.float64 else TOLERANCE[dtype]
        for name, expected in oracle.items():
            scale = free["variance"] if name == "variance" else None
            value = torch.from_numpy(expected.astype("float64"))
            allowed = 1e-11 if name == "multipliers" else limit
            assert deviation(getattr(found, name), value, scale) <= allowed, name

    @pytest.mark.parametrize("want", [(False, False), (True, False), (False, True), (True, True)])
    def test_outputs_on_demand_do_not_change_the_others(self, want: tuple[bool, bool]) -> None:
        free = self.op.free((2,), 131, 5)
        factor, covariance = want
        full = ops.condition_diagonal(**free, factor=True, covariance=True)
        part = ops.condition_diagonal(**free, factor=factor, covariance=covariance)
        assert torch.equal(part.mean, full.mean) and torch.equal(part.variance, full.variance)
        assert part.covariance.shape == (2, 131 if covariance else 0, 131)
        assert part.factor.shape == (2, 5 if factor or covariance else 0, 131)
        if factor or covariance:
            assert torch.equal(part.factor, full.factor)
        dense = torch.diag_embed(free["variance"]) - full.factor.mT @ full.factor
        assert deviation(full.covariance, dense) <= TOLERANCE[torch.float64]
        assert torch.equal(full.covariance, full.covariance.mT)
        assert torch.equal(full.covariance.diagonal(dim1=-2, dim2=-1), full.variance)
