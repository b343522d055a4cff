# SPDX-License-Identifier: Apache-2.0
"""Gradients of large problems, where finite differences do not reach.

The oracle is autograd in float64 through a formula that forms no ``n x n`` matrix, or through the
dense reference where the problem is small enough.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from op_suite import (
    DTYPES,
    OPS,
    Arguments,
    Banded,
    Cross,
    Dense,
    Diagonal,
    Disjoint,
    Op,
    Product,
    cast,
    deviation,
    differentiable_parameters,
    fields,
    gradients,
    light_condition,
    upstream,
)
from physcon_ext import ops


# Sums of up to 5000 x 33 products of data rounded to the dtype, normwise.
LIMIT = {torch.float64: 1e-9, torch.float32: 1e-4}


def light_gradients(op: Op, free: Arguments, count: int) -> dict[str, Tensor]:
    """Gradients of the combination that `gradients` takes, through the light formula."""
    names = differentiable_parameters(free)
    leaf = {k: v.detach().double().requires_grad_() if k in names else v for k, v in free.items()}
    arguments = op.arguments(leaf)
    rows, noise = arguments["rows"], arguments["noise"]
    if "prior_covariance" in arguments:
        prior = arguments["prior_covariance"]
        cross, variance = rows @ prior, prior.diagonal(dim1=-2, dim2=-1)
    else:
        variance = arguments["variance"]
        cross = arguments.get("cross", rows * variance[..., None, :])
    mean, posterior, factor = light_condition(
        arguments["mean"], variance, cross, rows, arguments["target"], noise
    )
    results = [mean, posterior, factor][:count]
    # The same random numbers as for the op: they depend on the shapes only.
    weights = [w.double() for w in upstream(results)]
    loss = sum((w * o).sum() for w, o in zip(weights, results, strict=True))
    return dict(zip(names, torch.autograd.grad(loss, [leaf[k] for k in names]), strict=True))


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == dtype and value.abs().max() > 0
        error = deviation(found[name], value)
        assert error <= LIMIT[dtype], (name, error)


class Three(Diagonal):
    """The diagonal op with mean, variance and factor only."""

    outputs = ("mean", "variance", "factor")

    def arguments(self, free: Arguments) -> Arguments:
        return {**super().arguments(free), "covariance": False}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("noise", ["row", "matrix"])
@pytest.mark.parametrize("r", [1, 8, 33])
@pytest.mark.parametrize(
    ("batch", "n"), [((3,), 300), ((), 5000), ((1,), 5000), ((2, 2), 4097)], ids=str
)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("op", [Three(), Cross()], ids=["condition_diagonal", "condition_cross"])
def test_large_gradients_equal_float64_autograd(
    op: Op, shared: bool, batch: tuple[int, ...], n: int, r: int, noise: str, dtype: torch.dtype
) -> None:
    free = cast(op.free(batch, n, r, shared=shared, noise=noise), dtype)
    compare(gradients(op, free), light_gradients(op, free, 3), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("r", [1, 8, 33])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_large_gradients_of_the_dense_form(shared: bool, r: int, dtype: torch.dtype) -> None:
    class WithoutCovariance(Dense):
        outputs = ("mean", "variance", "factor")

    op = WithoutCovariance()
    free = cast(op.free((2,), 300, r, shared=shared), dtype)
    compare(gradients(op, free), light_gradients(op, free, 3), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "r"), [(300, 8), (5000, 1), (5000, 33)])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_large_gradients_of_disjoint_rows(shared: bool, n: int, r: int, dtype: torch.dtype) -> None:
    """Equal to those of the diagonal op for the same rows written out."""
    op = Disjoint()
    free = cast(op.free((2,), n, r, shared=shared), dtype)
    names = differentiable_parameters(free)
    exact = cast(free, torch.float64)
    leaf = {k: v.clone().requires_grad_() if k in names else v for k, v in exact.items()}
    owner = torch.repeat_interleave(torch.arange(r), leaf["offsets"].diff())
    index = owner * n + leaf["order"]
    flat = leaf["weights"].new_zeros(*leaf["weights"].shape[:-1], r * n)
    rows = flat.index_add(-1, index, leaf["weights"]).unflatten(-1, (r, n))
    mean, variance, factor = light_condition(
        leaf["mean"],
        leaf["variance"],
        rows * leaf["variance"][..., None, :],
        rows,
        leaf["target"],
        leaf["noise"],
    )
    results = [mean, variance, factor.flatten(-2)[..., index]]
    loss = sum((w * o).sum() for w, o in zip(upstream(results), results, strict=True))
    expected = torch.autograd.grad(loss, [leaf[k] for k in names])
    compare(gradients(op, free), dict(zip(names, expected, strict=True)), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", [Banded(), Product()], ids=lambda op: op.name)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_large_gradients_of_three_point_rows(op: Op, shared: bool, dtype: torch.dtype) -> None:
    """Against dense linear algebra on the precision matrix, written here."""
    free = cast(op.free((2,), 300, 3, shared=shared), dtype)
    names = differentiable_parameters(free)
    exact = cast(free, torch.float64)
    leaf = {k: v.clone().requires_grad_() if k in names else v for k, v in exact.items()}
    rows = torch.stack(
        [
            torch.nn.functional.pad(torch.diag_embed(leaf["stencil"][..., i]), (i, 2 - i))
            for i in range(3)
        ]
    ).sum(0)
    weighted = rows / leaf["noise"][..., None]
    precision = torch.diag_embed(1 / leaf["variance"]) + rows.mT @ weighted
    # Not by LU: torch's batched one is wrong once several threads were asked for (torch 2.13).
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    if op.name == "banded_product":
        results = [leaf["x"] @ covariance]
    else:
        residual = leaf["target"] - (rows @ leaf["mean"][..., None])[..., 0]
        moved = leaf["mean"] + (covariance @ weighted.mT @ residual[..., None])[..., 0]
        results = [moved, covariance.diagonal(dim1=-2, dim2=-1)]
    loss = sum((w * o).sum() for w, o in zip(upstream(results), results, strict=True))
    expected = torch.autograd.grad(loss, [leaf[k] for k in names])
    compare(gradients(op, free), dict(zip(names, expected, strict=True)), dtype)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_float32_gradients_equal_float64_gradients(op: Op) -> None:
    free = cast(op.free((3,), 300, 8), torch.float32)
    compare(gradients(op, free), gradients(op, cast(free, torch.float64)), torch.float32)


def test_a_dropped_row_has_no_gradient() -> None:
    free = Diagonal().free((2,), 20, 3, noise="zero")
    free["rows"][:, 2] = free["rows"][:, 0]
    free["target"][:, 2] = free["target"][:, 0]
    op = Three()
    found = gradients(op, free)
    assert bool((found["rows"][:, 2] == 0).all()) and bool((found["target"][:, 2] == 0).all())
    two = {**free, "rows": free["rows"][:, :2], "target": free["target"][:, :2]}
    results = op.function(list(free))(*free.values())
    weights = upstream(results)
    assert bool((results[2][:, 2] == 0).all())
    expected = gradients(op, two, weights=[weights[0], weights[1], weights[2][:, :2]])
    found = gradients(op, free, weights=weights)
    for name in ("mean", "variance"):
        assert deviation(found[name], expected[name]) <= 1e-11, name
    for name in ("rows", "target"):
        assert deviation(found[name][:, :2], expected[name]) <= 1e-11, name


def test_an_item_that_is_not_finite_keeps_its_gradient_to_itself() -> None:
    free = Diagonal().free((3,), 40, 2)
    free["mean"][1, 3] = torch.nan
    op = Three()
    weights = [torch.ones_like(o) for o in op.function(list(free))(*free.values())]
    found = gradients(op, free, weights=weights)
    single = {k: v[2:] for k, v in free.items()}
    expected = gradients(op, single, weights=[w[2:] for w in weights])
    for name, grad in found.items():
        assert torch.equal(grad[2:], expected[name]), name


def test_second_derivatives_of_a_large_problem() -> None:
    """A Hessian-vector product at n = 5000 against the light formula."""
    free = Diagonal().free((), 5000, 4)
    names = list(free)

    def product(function: Callable[..., Sequence[Tensor]]) -> list[Tensor]:
        leaf = {k: v.clone().requires_grad_() for k, v in free.items()}
        mean, variance = function(**leaf)
        loss = (mean**2).sum() + variance.log().sum()
        grads = torch.autograd.grad(loss, list(leaf.values()), create_graph=True)
        directions = upstream(grads)
        slope = sum((d * g).sum() for d, g in zip(directions, grads, strict=True))
        return list(torch.autograd.grad(slope, list(leaf.values())))

    def light(**leaf: Tensor) -> tuple[Tensor, Tensor]:
        cross = leaf["rows"] * leaf["variance"]
        keys = ("rows", "target", "noise")
        first = (leaf["mean"], leaf["variance"], cross)
        return light_condition(*first, *(leaf[k] for k in keys))[:2]

    found = product(lambda **leaf: ops.condition_diagonal(**leaf)[:2])
    for name, a, b in zip(names, found, product(light), strict=True):
        assert deviation(a, b) <= LIMIT[torch.float64], name


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_integer_and_rank_sized_outputs_need_no_gradient(op: Op) -> None:
    free = op.free((2,), 9, 2)
    for name in differentiable_parameters(free):
        free[name] = free[name].requires_grad_()
    for name, value in fields(op.call(**op.arguments(free))).items():
        assert value.requires_grad == (name in op.outputs) or value.numel() == 0, name
