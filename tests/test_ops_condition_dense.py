# SPDX-License-Identifier: Apache-2.0
"""A dense prior: the suite, symmetry, and what is returned on demand."""

import pytest
import torch

from op_suite import DTYPES, TOLERANCE, Dense, OpSuite, cast, deviation
from physcon_ext import ops


class TestConditionDense(OpSuite):
    op = Dense()
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
    @pytest.mark.parametrize("n", [127, 128, 129, 513])
    def test_the_covariance_is_exactly_symmetric(self, n: int, dtype: torch.dtype) -> None:
        post = ops.condition_dense(**cast(self.op.arguments(self.op.free((2,), n, 9)), dtype))
        assert torch.equal(post.covariance, post.covariance.mT)
        assert torch.equal(post.covariance.diagonal(dim1=-2, dim2=-1), post.variance)

    @pytest.mark.parametrize("want", [(False, False), (True, False), (False, True)])
    def test_outputs_on_demand_do_not_change_the_others(self, want: tuple[bool, bool]) -> None:
        arguments = self.op.arguments(self.op.free((2,), 131, 5))
        full = ops.condition_dense(**arguments)
        factor, covariance = want
        part = ops.condition_dense(**{**arguments, "factor": factor, "covariance": covariance})
        assert torch.equal(part.mean, full.mean) and torch.equal(part.variance, full.variance)
        assert part.factor.shape == (2, 5 if factor else 0, 131)
        assert part.covariance.shape == (2, 131 if covariance else 0, 131)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_the_posterior_is_positive_semidefinite_to_rounding(self, dtype: torch.dtype) -> None:
        arguments = cast(self.op.arguments(self.op.free((3,), 120, 40, noise="zero")), dtype)
        post = ops.condition_dense(**arguments)
        smallest = torch.linalg.eigvalsh(post.covariance.double()).min().item()
        largest = torch.linalg.eigvalsh(arguments["prior_covariance"].double()).max().item()
        # Every entry carries a rounding; a symmetric perturbation moves eigenvalues by its norm.
        assert smallest >= -120 * torch.finfo(dtype).eps * largest

    def test_a_diagonal_prior_equals_the_diagonal_op(self) -> None:
        free = self.op.free((2,), 140, 6)
        variance = free["prior_covariance"].diagonal(dim1=-2, dim2=-1).clone()
        rest = (free["rows"], free["target"], free["noise"])
        mean = free["mean"]
        found = ops.condition_dense(mean, torch.diag_embed(variance), *rest, factor=True)
        expected = ops.condition_diagonal(mean, variance, *rest, factor=True, covariance=True)
        for name in ("mean", "variance", "factor", "covariance", "cholesky", "multipliers"):
            error = deviation(getattr(found, name), getattr(expected, name))
            assert error <= TOLERANCE[torch.float64], name
