# SPDX-License-Identifier: Apache-2.0
"""``torch.func``: every transform agrees with ``torch.autograd``; vmap never falls back to a loop.

Warnings are errors in this test run, so the "performance drop" warning of a loop fails a test.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from op_suite import (
    DTYPES,
    EVERY_ID,
    EVERY_OP,
    Arguments,
    Dense,
    Diagonal,
    Op,
    cast,
    deviation,
    differentiable_parameters,
    normal,
    same_bits,
    seeded,
    upstream,
)
from physcon_ext import ops


INDEX = ("order", "offsets")
Function = Callable[..., tuple[Tensor, ...]]


def stacked(op: Op, count: int) -> list[Arguments]:
    """``count`` problems of the same shape with different numbers."""
    first = op.free((), 7, 2)
    g = seeded("stacked", op.name, count)
    result = []
    for _ in range(count):
        other = dict(first)
        for name in differentiable_parameters(first):
            value = first[name]
            if name == "prior_covariance" or (name == "noise" and value.ndim == 2):
                other[name] = value * float(1 + torch.rand(1, generator=g))
            else:
                other[name] = value * (1 + 0.3 * torch.rand(value.shape, generator=g))
        result.append(other)
    return result


def mapped_dims(names: Sequence[str], mapped: set[str], at: int = 0) -> tuple[int | None, ...]:
    return tuple(at if name in mapped else None for name in names)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("where", ["front", "back"])
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_vmap_equals_a_loop(op: Op, where: str, dtype: torch.dtype) -> None:
    problems = [cast(p, dtype) for p in stacked(op, 3)]
    names = list(problems[0])
    mapped = set(names) - set(INDEX)
    axis = 0 if where == "front" else -1
    inputs = [
        torch.stack([p[k] for p in problems], axis) if k in mapped else problems[0][k]
        for k in names
    ]
    function = op.function(names)
    found = vmap(function, in_dims=mapped_dims(names, mapped, axis))(*inputs)
    expected = [
        torch.stack(o) for o in zip(*(function(*p.values()) for p in problems), strict=True)
    ]
    if op.name == "condition_cross":  # its arguments come out of a batched matrix product
        for a, b in zip(found, expected, strict=True):
            assert deviation(a, b) <= 100 * torch.finfo(dtype).eps
    else:
        same_bits(found, expected)


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_vmap_over_one_argument_leaves_the_others_shared(op: Op) -> None:
    problems = stacked(op, 3)
    names = list(problems[0])
    function = op.function(names)
    for name in differentiable_parameters(problems[0]):
        inputs = [
            torch.stack([p[name] for p in problems]) if k == name else problems[0][k] for k in names
        ]
        found = vmap(function, in_dims=mapped_dims(names, {name}))(*inputs)
        for i, p in enumerate(problems):
            expected = function(*{**problems[0], name: p[name]}.values())
            for a, b in zip(found, expected, strict=True):
                assert deviation(a[i], b) <= 1e-13, name


@pytest.mark.parametrize("rows_mapped", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["single", "batch"])
def test_vmap_over_a_batch_with_shared_rows(batch: tuple[int, ...], rows_mapped: bool) -> None:
    """Rows ``(r, n)`` stay shared inside the mapped call, whether each call has its own or not."""
    g = seeded("shared rows", batch)
    op = Diagonal()
    free = op.free(batch, 9, 2, shared=True)
    mean = torch.stack([free["mean"] + normal(g, *batch, 9) for _ in range(4)])
    rows = torch.stack([free["rows"] + 0.1 * normal(g, 2, 9) for _ in range(4)])

    def loss(mean: Tensor, rows: Tensor) -> Tensor:
        rest = (free["target"], free["noise"])
        post = ops.condition_diagonal(mean, free["variance"], rows, *rest)
        return (post.mean**2).sum() + (post.variance**2).sum()

    dims = (0, 0 if rows_mapped else None)
    argument = rows if rows_mapped else rows[0]
    found = vmap(loss, in_dims=dims)(mean, argument)
    slopes = vmap(grad(loss, argnums=(0, 1)), in_dims=dims)(mean, argument)
    for i in range(4):
        own = rows[i] if rows_mapped else rows[0]
        assert found[i].item() == pytest.approx(loss(mean[i], own).item(), rel=1e-13)
        expected = grad(loss, argnums=(0, 1))(mean[i], own)
        for a, b in zip(slopes, expected, strict=True):
            assert a[i].shape == b.shape and deviation(a[i], b) <= 1e-13


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_nested_vmap_equals_a_flat_batch(op: Op) -> None:
    problems = stacked(op, 6)
    names = list(problems[0])
    mapped = set(names) - set(INDEX) - set(op.unbatched)
    inputs = [
        torch.stack([p[k] for p in problems]).unflatten(0, (2, 3))
        if k in mapped
        else problems[0][k]
        for k in names
    ]
    dims = mapped_dims(names, mapped)
    function = op.function(names)
    found = vmap(vmap(function, in_dims=dims), in_dims=dims)(*inputs)
    flat = [v.flatten(0, 1) if k in mapped else v for k, v in zip(names, inputs, strict=True)]
    for a, b in zip(found, function(*flat), strict=True):
        assert deviation(a.flatten(0, 1), b) <= 1e-13


def scalar_function(op: Op, free: Arguments) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """A non-linear scalar of all outputs, as a function of the floating parameters only."""
    names = list(free)
    leaves = differentiable_parameters(free)
    function = op.function(names)
    weights = upstream(function(*free.values()))

    def scalar(*values: Tensor) -> Tensor:
        given = {**free, **dict(zip(leaves, values, strict=True))}
        results = function(*(given[k] for k in names))
        return sum(
            ((w * o).sum() + (o**2).sum() for w, o in zip(weights, results, strict=True)),
            torch.zeros((), dtype=torch.float64),
        )

    return scalar, tuple(free[k] for k in leaves)


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_grad_and_hessian_equal_autograd(op: Op, shared: bool) -> None:
    scalar, inputs = scalar_function(op, op.free((2,), 4, 2, shared=shared))
    numbers = tuple(range(len(inputs)))
    expected = torch.autograd.functional.jacobian(scalar, inputs)
    for a, b in zip(grad(scalar, argnums=numbers)(*inputs), expected, strict=True):
        assert deviation(a, b) <= 1e-12
    second = torch.autograd.functional.hessian(scalar, inputs)
    for i, row in enumerate(hessian(scalar, argnums=numbers)(*inputs)):
        for j, block in enumerate(row):
            scale = max(second[i][i].abs().max(), second[j][j].abs().max())
            assert deviation(block, second[i][j], scale) <= 1e-11, (i, j)


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_jacobians_in_both_modes_equal_autograd(op: Op, shared: bool) -> None:
    free = op.free((2,), 5, 2, shared=shared)
    names, leaves = list(free), differentiable_parameters(free)
    function = op.function(names)

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        given = {**free, **dict(zip(leaves, values, strict=True))}
        return function(*(given[k] for k in names))

    inputs = tuple(free[k] for k in leaves)
    numbers = tuple(range(len(inputs)))
    expected = torch.autograd.functional.jacobian(outputs, inputs)
    for transform in (jacrev, jacfwd):
        found = transform(outputs, argnums=numbers)(*inputs)
        for i, row in enumerate(found):
            for j, block in enumerate(row):
                # Some blocks are exactly zero; the identity in d mean / d mean gives the size.
                error = deviation(block, expected[i][j], torch.ones(1))
                assert error <= 1e-12, (transform.__name__, i, leaves[j], error)


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_jvp_is_not_silently_zero_and_agrees_with_vjp(op: Op) -> None:
    """``<w, J t> = <J' w, t>``, with a tangent in every parameter and in each one alone."""
    free = op.free((2,), 9, 2)
    names, leaves = list(free), differentiable_parameters(free)
    function = op.function(names)

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        given = {**free, **dict(zip(leaves, values, strict=True))}
        return function(*(given[k] for k in names))

    inputs = tuple(free[k] for k in leaves)
    g = seeded("tangents", op.name)
    tangents = tuple(normal(g, *x.shape) for x in inputs)
    results, pull = vjp(outputs, *inputs)
    weights = tuple(upstream(results))
    pulled = pull(weights)
    for chosen in [set(leaves), *({name} for name in leaves)]:
        direction = tuple(
            t if name in chosen else torch.zeros_like(t)
            for name, t in zip(leaves, tangents, strict=True)
        )
        same, moved = jvp(outputs, inputs, direction)
        same_bits(same, results)
        forward = sum(float((w * d).sum()) for w, d in zip(weights, moved, strict=True))
        backward = sum(float((p * t).sum()) for p, t in zip(pulled, direction, strict=True))
        assert abs(backward) > 1e-3
        assert forward == pytest.approx(backward, rel=1e-10)


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_float32_transforms_keep_the_dtype(op: Op) -> None:
    free = cast(op.free((2,), 9, 2), torch.float32)
    names = list(free)
    leaves = differentiable_parameters(free)
    function = op.function(names)

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        given = {**free, **dict(zip(leaves, values, strict=True))}
        return function(*(given[k] for k in names))

    inputs = tuple(free[k] for k in leaves)
    wide = tuple(x.double() for x in inputs)
    tangents = tuple(torch.ones_like(x) for x in inputs)
    _, moved = jvp(outputs, inputs, tangents)
    _, expected = jvp(outputs, wide, tuple(t.double() for t in tangents))
    for a, b in zip(moved, expected, strict=True):
        assert a.dtype == torch.float32 and deviation(a, b) <= 1e-4
    _, pull = vjp(outputs, *inputs)
    for a, x in zip(pull(tuple(torch.ones_like(m) for m in moved)), inputs, strict=True):
        assert a.dtype == torch.float32 and a.shape == x.shape


def test_vmap_over_index_lists_is_refused() -> None:
    order = torch.arange(4).expand(3, 4)
    offsets = torch.tensor([0, 2, 4])
    one = torch.ones(4, dtype=torch.float64)

    def call(order: Tensor) -> Tensor:
        return ops.condition_disjoint(one, one, one, order, offsets, one[:2], 0.0).mean

    with pytest.raises(ValueError, match="not to be mapped by vmap"):
        vmap(call)(order)


def test_per_sample_gradients_through_a_dense_prior() -> None:
    free = Dense().free((), 6, 2)
    means = torch.stack([free["mean"] + i for i in range(3)])

    def loss(prior: Tensor, mean: Tensor) -> Tensor:
        rest = (free["rows"], free["target"], free["noise"])
        return (ops.condition_dense(mean, prior, *rest).covariance ** 2).sum() + (
            ops.condition_dense(mean, prior, *rest).mean ** 2
        ).sum()

    prior = free["prior_covariance"]
    found = vmap(grad(loss), in_dims=(None, 0))(prior, means)
    for i in range(3):
        assert deviation(found[i], grad(loss)(prior, means[i])) <= 1e-13
