# SPDX-License-Identifier: Apache-2.0
"""Products with the covariance that three-point rows leave: the suite and symmetry."""

import numpy as np
import pytest
import torch

from op_suite import DTYPES, TOLERANCE, OpSuite, Product, cast, deviation, long
from physcon_ext import ops


class TestBandedProduct(OpSuite):
    op = Product()
    points = 4
    derivatives = [(False, "row", 1), (True, "row", 3)]
    shapes = [
        ((), 3, 1),
        ((2,), 4, 3),
        ((2, 3), 5, 2),
        ((2,), 33, 33),
        ((), 70, 7),
    ]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_unit_vectors_give_the_variance_of_the_conditioned_field(
        self, dtype: torch.dtype
    ) -> None:
        free = cast(self.op.free((2,), 200, 1), dtype)
        unit = torch.eye(200, dtype=dtype).expand(2, 200, 200)
        prior = {k: free[k] for k in ("variance", "stencil", "noise")}
        covariance = ops.banded_product(**prior, x=unit)
        zero = free["variance"].new_zeros(2, 200)
        post = ops.condition_banded(zero, **prior, target=zero[:, 2:])
        diagonal = covariance.diagonal(dim1=-2, dim2=-1)
        assert deviation(diagonal, post.variance) <= TOLERANCE[dtype]
        assert deviation(covariance, covariance.mT) <= TOLERANCE[dtype]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("n", [127, 128, 4097, 9001])
    def test_long_fields_solve_the_equations(self, n: int, dtype: torch.dtype) -> None:
        """``(S^-1 + D^T R^-1 D) y = x`` in extended precision."""
        free = cast(self.op.free((), n, 2), dtype)
        y = long(ops.banded_product(**free))
        s, c, v, x = (long(free[k]) for k in ("variance", "stencil", "noise", "x"))
        d = (c[:, 0] * y[:, :-2] + c[:, 1] * y[:, 1:-1] + c[:, 2] * y[:, 2:]) / v
        right = y / s
        for i in range(3):
            right[:, i : n - 2 + i] += c[:, i] * d
        # The entries of the operator are below 1 / 0.2 + 3 * 16 / 0.2 = 250 here.
        assert np.abs(right - x).max() <= 250 * torch.finfo(dtype).eps * np.abs(x).max()

    def test_no_vectors(self) -> None:
        free = self.op.free((2,), 9, 1)
        assert ops.banded_product(**{**free, "x": free["x"][:, :0]}).shape == (2, 0, 9)
