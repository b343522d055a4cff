# SPDX-License-Identifier: Apache-2.0
"""The NumPy front end: the numbers of the operators, no copies, refusals in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from physcon_ext import core, ops


BATCH, N, R = (2, 3), 11, 3


def arrays(dtype: type[Any], batch: tuple[int, ...] = BATCH) -> dict[str, Any]:
    """A problem with per-item rows and noise."""
    random = np.random.default_rng(0)
    return {
        "mean": random.normal(size=(*batch, N)).astype(dtype),
        "variance": random.uniform(0.1, 2, size=(*batch, N)).astype(dtype),
        "rows": random.normal(size=(*batch, R, N)).astype(dtype),
        "target": random.normal(size=(*batch, R)).astype(dtype),
        "noise": random.uniform(0, 0.3, size=(*batch, R)).astype(dtype),
    }


def tensors(values: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The same problem for the operators."""
    return {name: torch.from_numpy(value) for name, value in values.items()}


def equal(ours: Any, theirs: Any, fields: tuple[str, ...]) -> None:
    for name in fields:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name).numpy(), name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [(), (4,), BATCH, (0,), (1,)])
def test_diagonal_gives_the_bits_of_the_operator(dtype: type[Any], batch: tuple[int, ...]) -> None:
    values = arrays(dtype, batch)
    ours = core.condition_diagonal(**values, factor=True, covariance=True)
    theirs = ops.condition_diagonal(**tensors(values), factor=True, covariance=True)
    assert ours.mean.dtype == dtype
    equal(ours, theirs, core.Conditioned._fields)


def test_shared_arguments_and_a_noise_matrix_give_the_bits_of_the_operator() -> None:
    values = arrays(np.float64)
    half = np.random.default_rng(1).normal(size=(R, R))
    values["rows"], values["noise"] = values["rows"][0, 0].copy(), half @ half.T
    values["target"], values["variance"] = values["target"][0, 0].copy(), values["variance"][0, 0]
    ours = core.condition_diagonal(**values)
    full = tensors(values)
    full["target"] = full["target"].expand(*BATCH, R)
    full["noise"] = full["noise"].expand(*BATCH, R, R)
    theirs = ops.condition_diagonal(**full)
    equal(ours, theirs, ("mean", "variance", "cholesky", "multipliers", "info"))
    assert ours.factor is None and ours.covariance is None


def test_cross_and_dense_give_the_bits_of_the_operators() -> None:
    values = arrays(np.float64)
    half = np.random.default_rng(2).normal(size=(*BATCH, N, N))
    covariance = half @ half.swapaxes(-1, -2)
    variance = np.ascontiguousarray(np.diagonal(covariance, axis1=-2, axis2=-1))
    del values["variance"]
    cross = values["rows"] @ covariance
    ours = core.condition_cross(variance=variance, cross=cross, **values)
    given = tensors({**values, "variance": variance, "cross": cross})
    equal(ours, ops.condition_cross(**given), ("mean", "variance", "cholesky", "info"))
    dense = core.condition_dense(prior_covariance=covariance, **values, factor=True)
    given = tensors({**values, "prior_covariance": covariance})
    theirs = ops.condition_dense(**given, factor=True)
    equal(dense, theirs, ("mean", "variance", "factor", "covariance", "info"))


@pytest.mark.parametrize("listed", [True, False])
def test_disjoint_gives_the_bits_of_the_operator(listed: bool) -> None:
    values = arrays(np.float64)
    random = np.random.default_rng(3)
    order = random.permutation(N)[:9].astype(np.int64) if listed else None
    weights = random.normal(size=9)
    offsets = np.array([0, 4, 5, 9])
    del values["rows"]
    ours = core.condition_disjoint(**values, weights=weights, order=order, offsets=offsets)
    cells = torch.from_numpy(order) if order is not None else torch.empty(0, dtype=torch.int64)
    theirs = ops.condition_disjoint(
        **tensors(values), weights=torch.from_numpy(weights), order=cells,
        offsets=torch.from_numpy(offsets),
    )  # fmt: skip
    equal(ours, theirs, ("mean", "variance", "factor", "cholesky", "multipliers", "info"))


def test_banded_gives_the_bits_of_the_operator() -> None:
    values = arrays(np.float64)
    del values["rows"], values["target"], values["noise"]
    stencil = np.random.default_rng(4).normal(size=(N - 2, 3))
    target, noise = np.zeros((*BATCH, N - 2)), np.full((*BATCH, N - 2), 0.2)
    ours = core.condition_banded(**values, stencil=stencil, target=target, noise=noise)
    given = tensors({**values, "stencil": stencil, "target": target, "noise": noise})
    equal(ours, ops.condition_banded(**given), core.ConditionedBanded._fields)
    shared = core.condition_banded(**values, stencil=stencil, target=target[0, 0], noise=0.2)
    np.testing.assert_array_equal(shared.mean, ours.mean)


def test_results_are_written_where_asked_without_a_copy() -> None:
    values = arrays(np.float64)
    store = np.full((2, *BATCH, N), np.nan)
    post = core.condition_diagonal(**values, mean_out=store[0], variance_out=store[1])
    assert np.shares_memory(post.mean, store) and np.shares_memory(post.variance, store)
    plain = core.condition_diagonal(**values)
    np.testing.assert_array_equal(store, np.stack([plain.mean, plain.variance]))


def test_arguments_are_read_in_place_and_left_alone() -> None:
    values = arrays(np.float64)
    for value in values.values():
        value.flags.writeable = False
    before = {name: value.copy() for name, value in values.items()}
    core.condition_diagonal(**values)
    for name, value in values.items():
        np.testing.assert_array_equal(value, before[name])
    view = core._Call("test", values["mean"]).mean
    assert np.shares_memory(view, values["mean"])


def test_a_large_call_allocates_only_its_outputs() -> None:
    import tracemalloc

    mean, variance = np.zeros(1_000_000), np.ones(1_000_000)
    rows, target = np.ones((1, 1_000_000)), np.ones(1)
    tracemalloc.start()
    post = core.condition_diagonal(mean, variance, rows, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * (post.mean.nbytes + post.variance.nbytes)


def change(name: str, function: Callable[[Any], Any]) -> dict[str, Any]:
    """The arguments of a good call with one of them changed."""
    values = arrays(np.float64)
    values[name] = function(values[name])
    return values


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        (change("mean", list), TypeError, "mean to be a numpy.ndarray, got list"),
        (change("mean", lambda a: a.astype(int)), TypeError, "float32 or float64, got int64"),
        (change("rows", lambda a: a.astype("f4")), TypeError, "rows to have dtype float64, got "),
        (change("mean", lambda a: a.astype(">f8")), TypeError, "mean to have dtype float32 or"),
        (change("variance", lambda a: a[..., ::-1]), ValueError, "variance to be C-contiguous"),
        (change("rows", np.asfortranarray), ValueError, r"numpy.ascontiguousarray\(rows\)"),
        (
            change("target", lambda a: a[..., :2].copy()),
            ValueError,
            r"got \(2, 3, 2\)",
        ),
        (change("variance", lambda a: a[0].copy()), ValueError, "variance to have shape"),
        (change("noise", lambda a: a[0].copy()), ValueError, "noise to have shape"),
        (change("rows", lambda a: a[..., :0, :].copy()), ValueError, "r >= 1"),
        (change("rows", lambda a: None), ValueError, "rows to have shape .* got NoneType"),
        (change("mean", lambda a: a[..., :0].copy()), ValueError, "mean to hold at least 1 point"),
    ],
)
def test_a_wrong_argument_is_refused_with_a_sentence(
    values: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"physcon::core.condition_diagonal: expected .*{text}"):
        core.condition_diagonal(**values)


def test_outputs_that_overlap_or_cannot_be_written_are_refused() -> None:
    values = arrays(np.float64)
    with pytest.raises(ValueError, match="mean_out to share no memory with an input"):
        core.condition_diagonal(**values, mean_out=values["mean"])
    out = np.empty((*BATCH, N))
    with pytest.raises(ValueError, match="variance_out to share no memory"):
        core.condition_diagonal(**values, mean_out=out, variance_out=out)
    with pytest.raises(ValueError, match=r"mean_out to have shape \(2, 3, 11\), got \(11,\)"):
        core.condition_diagonal(**values, mean_out=np.empty(N))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="mean_out to be writeable"):
        core.condition_diagonal(**values, mean_out=out)


def test_indices_of_disjoint_rows_are_checked() -> None:
    values = arrays(np.float64, ())
    del values["rows"]
    given = {**values, "weights": np.ones(3), "offsets": np.array([0, 1, 2, 3])}
    with pytest.raises(ValueError, match=r"order to be in \[0, n\), got 11 at index 2"):
        core.condition_disjoint(**given, order=np.array([0, 1, 11]))
    with pytest.raises(ValueError, match="order to list each point once"):
        core.condition_disjoint(**given, order=np.array([0, 1, 1]))
    given["offsets"] = np.array([0, 2, 1, 3])
    with pytest.raises(ValueError, match="offsets to ascend, got 1 at index 2"):
        core.condition_disjoint(**given, order=None)
    given["offsets"] = np.array([0.0, 1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="offsets to have dtype int64, got float64"):
        core.condition_disjoint(**given, order=None)


def test_banded_rows_need_noise_and_three_points() -> None:
    with pytest.raises(ValueError, match="noise to be variances > 0"):
        core.condition_banded(np.zeros(3), np.ones(3), np.ones((1, 3)), np.zeros(1), 0.0)
    with pytest.raises(ValueError, match="at least 3 points, got 2"):
        core.condition_banded(np.zeros(2), np.ones(2), np.ones((0, 3)), np.zeros(0), 1.0)
