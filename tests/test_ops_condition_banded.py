# SPDX-License-Identifier: Apache-2.0
"""Soft three-point rows: the suite, long fields in extended precision, limits."""

import numpy as np
import pytest
import torch
from torch import Tensor

from op_suite import DTYPES, TOLERANCE, Banded, OpSuite, cast, deviation, long
from physcon_ext import ops, reference


def extended_banded(
    mean: Tensor, variance: Tensor, stencil: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One item in 80-bit arithmetic: dense-free, by the pentadiagonal precision of ``u``."""
    m, s, c, t, v = (long(x) for x in (mean, variance, stencil, target, noise))
    n = len(m)
    d0, d1, d2 = 1 / s, np.zeros(n, np.longdouble), np.zeros(n, np.longdouble)
    right = np.zeros(n, np.longdouble)
    rest = (t - c[:, 0] * m[:-2] - c[:, 1] * m[1:-1] - c[:, 2] * m[2:]) / v
    for i in range(3):
        d0[i : n - 2 + i] += c[:, i] ** 2 / v
        right[i : n - 2 + i] += c[:, i] * rest
    d1[: n - 2] += c[:, 0] * c[:, 1] / v
    d1[1 : n - 1] += c[:, 1] * c[:, 2] / v
    d2[: n - 2] += c[:, 0] * c[:, 2] / v
    # L D L^T without square roots
    for j in range(n):
        for a, b in ((j - 1, j - 2),):
            if a >= 0:
                d0[j] -= d1[a] ** 2 * d0[a]
            if b >= 0:
                d0[j] -= d2[b] ** 2 * d0[b]
        if j + 1 < n:
            if j >= 1:
                d1[j] -= d2[j - 1] * d1[j - 1] * d0[j - 1]
            d1[j] /= d0[j]
            d2[j] /= d0[j]
    x = right
    for j in range(n):
        x[j] -= (d1[j - 1] * x[j - 1] if j >= 1 else 0) + (d2[j - 2] * x[j - 2] if j >= 2 else 0)
    x /= d0
    z = np.zeros((n + 2, 3), np.longdouble)  # z[j, k]: inverse at (j, j + k)
    for j in range(n - 1, -1, -1):
        l1, l2 = d1[j] if j + 1 < n else 0, d2[j] if j + 2 < n else 0
        x[j] -= (l1 * x[j + 1] if j + 1 < n else 0) + (l2 * x[j + 2] if j + 2 < n else 0)
        z[j, 2] = -(l1 * z[j + 1, 1] + l2 * z[j + 2, 0])
        z[j, 1] = -(l1 * z[j + 1, 0] + l2 * z[j + 1, 1])
        z[j, 0] = 1 / d0[j] - l1 * z[j, 1] - l2 * z[j, 2]
    both = [(m + x).astype("float64"), z[:n, 0].astype("float64")]
    return torch.from_numpy(both[0]), torch.from_numpy(both[1])


class TestConditionBanded(OpSuite):
    op = Banded()
    points = 4
    derivatives = [(False, "row", 1), (True, "row", 1)]
    shapes = [
        ((), 3, 1),
        ((2,), 4, 1),
        ((2, 3), 5, 1),
        ((2,), 33, 1),
        ((), 70, 1),
    ]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("n", [3, 4, 127, 4097, 9001])
    def test_equals_extended_precision(self, n: int, dtype: torch.dtype) -> None:
        free = cast(self.op.free((), n), dtype)
        found = ops.condition_banded(**free)
        mean, variance = extended_banded(**free)
        limit = 1e-12 if dtype == torch.float64 else TOLERANCE[dtype]
        assert deviation(found.mean, mean) <= limit
        assert deviation(found.variance, variance) <= limit

    def test_points_without_variance_keep_their_mean(self) -> None:
        free = self.op.free((2,), 30)
        free["variance"][:, ::4] = 0
        post = ops.condition_banded(**free)
        assert torch.equal(post.mean[:, ::4], free["mean"][:, ::4])
        assert torch.equal(post.variance[:, ::4], torch.zeros_like(post.variance[:, ::4]))
        expected = reference.condition_banded(**free)
        assert deviation(post.mean, expected.mean) <= TOLERANCE[torch.float64]
        assert deviation(post.variance, expected.variance) <= TOLERANCE[torch.float64]

    def test_a_row_of_infinite_noise_says_nothing(self) -> None:
        free = self.op.free((2,), 30)
        free["noise"][1, 7] = torch.inf
        post = ops.condition_banded(**free)
        assert post.info.tolist() == [[0], [0]] and post.multipliers[1, 7] == 0
        free["noise"][1, 7], free["stencil"][1, 7], free["target"][1, 7] = 1, 0, 0
        without = ops.condition_banded(**free)
        assert deviation(post.mean, without.mean) <= TOLERANCE[torch.float64]
        assert deviation(post.variance, without.variance) <= TOLERANCE[torch.float64]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_variances_stay_between_zero_and_the_prior(self, dtype: torch.dtype) -> None:
        free = self.op.free((4,), 500)
        free["variance"] = 10 ** (6 * torch.tanh(free["mean"]))  # twelve decades
        free["noise"] = 10 ** (6 * torch.tanh(free["target"]))
        free = cast(free, dtype)
        post = ops.condition_banded(**free)
        assert bool((post.variance >= 0).all())
        # Selected inverse of a matrix >= 1 in float64, then rounded to the dtype.
        assert bool((post.variance <= free["variance"] * (1 + 4 * torch.finfo(dtype).eps)).all())
