# SPDX-License-Identifier: Apache-2.0
"""The same bits on every run, for any number of threads and any split of the batch."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from op_suite import (
    DTYPES,
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
    same_bits,
    upstream,
)


class Slim(Diagonal):
    """Without the dense covariance, whose adjoint is a matrix product of the framework."""

    outputs = ("mean", "variance", "factor")

    def arguments(self, free: Arguments) -> Arguments:
        return {**super().arguments(free), "covariance": False}


class GivenCross(Cross):
    """The cross covariance given, not computed by a matrix product of the framework."""

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        given = super().arguments(super().free(batch, n, r, shared=shared, noise=noise))
        del given["factor"]
        return given

    def arguments(self, free: Arguments) -> Arguments:
        return {**free, "factor": True}


# (op, (batch, n, r)): one block, many chunks of 4096 points, more items than threads and fewer
CASES: list[tuple[Op, tuple[int, int, int]]] = [
    *[(Slim(), shape) for shape in [(5, 300, 1), (3, 9001, 3), (2, 20000, 16), (1, 20000, 40)]],
    *[(Slim(), shape) for shape in [(7, 130, 40), (1, 12289, 1), (33, 64, 3)]],
    *[
        (GivenCross(), shape)
        for shape in [(3, 9001, 3), (1, 20000, 16), (2, 4097, 1), (5, 130, 40)]
    ],
    *[(Dense(), shape) for shape in [(3, 140, 3), (1, 300, 16), (2, 257, 40)]],
    *[(Disjoint(), shape) for shape in [(3, 20000, 40), (1, 20000, 3), (2, 9001, 1)]],
    *[(Banded(), shape) for shape in [(3, 2000, 1), (1, 20000, 1)]],
    *[(Product(), shape) for shape in [(3, 2000, 3), (1, 9001, 16), (2, 500, 1)]],
]
IDS = [f"{op.name}-B{b}-n{n}-r{r}" for op, (b, n, r) in CASES]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def everything(op: Op, free: Arguments) -> tuple[list[Tensor], dict[str, Tensor]]:
    return list(fields(op.call(**op.arguments(free))).values()), gradients(op, free)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize(("op", "shape"), CASES, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(
    op: Op, shape: tuple[int, int, int], shared: bool, dtype: torch.dtype
) -> None:
    b, n, r = shape
    free = cast(op.free((b,), n, r, shared=shared), dtype)
    torch.set_num_threads(1)
    outputs, grads = everything(op, free)
    for count in (2, 3, 2):
        torch.set_num_threads(count)
        again, grads_again = everything(op, free)
        same_bits(again, outputs)
        if op.name == "condition_dense":
            # Its adjoint ends in matrix products of the framework, which sum in an order of
            # their own for every number of threads: equal to rounding only.
            for name, grad in grads_again.items():
                assert deviation(grad, grads[name]) <= 100 * torch.finfo(dtype).eps, name
        else:
            same_bits(list(grads_again.values()), list(grads.values()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize(("op", "shape"), CASES, ids=IDS)
def test_any_split_of_the_batch_gives_the_same_bits(
    op: Op, shape: tuple[int, int, int], shared: bool, dtype: torch.dtype
) -> None:
    b, n, r = shape
    b = max(b, 2)
    free = cast(op.free((b,), n, r, shared=shared), dtype)
    names = differentiable_parameters(free)
    batched = [k for k in names if free[k].shape[:1] == (b,) and not _is_shared(k, shared)]
    outputs = list(fields(op.call(**op.arguments(free))).values())
    results = op.function(list(free))(*free.values())
    weights = upstream(results)
    grads = gradients(op, free, weights=weights)
    for i in range(b if b <= 7 else 3):
        one = {k: v[i : i + 1] if k in batched else v for k, v in free.items()}
        single = list(fields(op.call(**op.arguments(one))).values())
        same_bits(single, [v[i : i + 1] for v in outputs])
        own = gradients(op, one, weights=[w[i : i + 1] for w in weights])
        if op.name == "condition_dense":
            continue  # part of its adjoint is a matrix product of the framework
        for name in batched:
            assert torch.equal(own[name], grads[name][i : i + 1]), name


def _is_shared(name: str, shared: bool) -> bool:
    return shared and name in ("rows", "weights", "stencil")


@pytest.mark.parametrize(("op", "shape"), CASES, ids=IDS)
def test_deterministic_algorithms_change_nothing(op: Op, shape: tuple[int, int, int]) -> None:
    b, n, r = shape
    free = op.free((b,), n, r)
    outputs, grads = everything(op, free)
    torch.use_deterministic_algorithms(True)
    try:
        again, grads_again = everything(op, free)
    finally:
        torch.use_deterministic_algorithms(False)
    same_bits(again, outputs)
    same_bits(list(grads_again.values()), list(grads.values()))
