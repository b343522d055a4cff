# SPDX-License-Identifier: Apache-2.0
"""What becomes of rows that repeat, contradict or cannot be met, and of broken items."""

import pytest
import torch
from torch import Tensor

from op_suite import (
    DTYPES,
    OPS,
    TOLERANCE,
    Op,
    cast,
    deviation,
    fields,
    normal,
    positive,
    same_bits,
    seeded,
)
from physcon_ext import ops, reference


USED, REDUNDANT, INCONSISTENT, INFEASIBLE, SATISFIED, NON_FINITE = range(6)
FORMS = ["diagonal", "cross", "dense"]


def condition(
    form: str, mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: object = 0.0
) -> ops.Conditioned:
    """The same problem through each form, checked against the reference, which drops alike."""
    if form == "diagonal":
        arguments = (mean, variance, rows, target, noise)
    elif form == "cross":
        arguments = (mean, variance, rows * variance[..., None, :], rows, target, noise)
    else:
        arguments = (mean, torch.diag_embed(variance), rows, target, noise)
    post = getattr(ops, f"condition_{form}")(*arguments, factor=True)
    expected = getattr(reference, f"condition_{form}")(*arguments, factor=True)
    assert post.info.tolist() == expected.info.tolist()
    for name in ("mean", "variance", "factor"):
        error = deviation(getattr(post, name), getattr(expected, name))
        assert error <= TOLERANCE[mean.dtype], name
    dropped = post.info != USED
    assert torch.equal(post.cholesky.diagonal(dim1=-2, dim2=-1).isinf(), dropped)
    assert bool((post.factor[dropped] == 0).all()) and bool((post.multipliers[dropped] == 0).all())
    outside = post.cholesky.tril(-1) * (dropped[..., None] | dropped[..., None, :])
    assert bool((outside == 0).all()) and bool((post.cholesky.triu(1) == 0).all())
    return post


def field(dtype: torch.dtype, n: int = 12) -> tuple[Tensor, Tensor]:
    g = seeded("field", n)
    return normal(g, n).to(dtype), positive(g, n).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
class TestRows:
    def test_repeated_rows_are_dropped(self, form: str, dtype: torch.dtype) -> None:
        mean, variance = field(dtype)
        g = seeded("rows")
        a, b = normal(g, 2, 12).to(dtype)
        rows, target = torch.stack([a, a, b, a]), torch.tensor([1, 1, 0.5, 1], dtype=dtype)
        post = condition(form, mean, variance, rows, target)
        assert post.info.tolist() == [USED, REDUNDANT, USED, REDUNDANT]
        two = condition(form, mean, variance, rows[[0, 2]], target[[0, 2]])
        assert deviation(post.mean, two.mean) <= TOLERANCE[dtype]
        assert deviation(post.variance, two.variance) <= TOLERANCE[dtype]

    def test_blocks_and_their_total(self, form: str, dtype: torch.dtype) -> None:
        mean, variance = field(dtype)
        blocks = torch.eye(3, dtype=dtype).repeat_interleave(4, -1)
        rows = torch.cat([blocks, torch.ones(1, 12, dtype=dtype)])
        target = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=dtype)
        assert condition(form, mean, variance, rows, target).info.tolist() == [0, 0, 0, REDUNDANT]
        target[3] = 6.01
        post = condition(form, mean, variance, rows, target)
        assert post.info.tolist() == [0, 0, 0, INCONSISTENT]
        assert (blocks @ post.mean).tolist() == pytest.approx([1, 2, 3], rel=1e-5)
        # The total first: now the last block follows from the others.
        turned = condition(form, mean, variance, rows.flip(0), target.flip(0))
        assert turned.info.tolist() == [0, 0, 0, INCONSISTENT]

    def test_a_contradiction_smaller_than_rounding_is_none(
        self, form: str, dtype: torch.dtype
    ) -> None:
        mean, variance = field(dtype)
        row = torch.ones(1, 12, dtype=dtype)
        eps = torch.finfo(dtype).eps
        for change, status in [(4 * eps, REDUNDANT), (1e5 * eps, INCONSISTENT)]:
            target = torch.tensor([7.0, 7.0 * (1 + change)], dtype=dtype)
            post = condition(form, mean, variance, row.repeat(2, 1), target)
            assert post.info.tolist() == [USED, status]

    def test_rows_of_any_size_count_as_equal(self, form: str, dtype: torch.dtype) -> None:
        mean, variance = field(dtype)
        row = normal(seeded("size"), 12).to(dtype)
        scale = torch.tensor([1.0, 2.0**-20, 2.0**20], dtype=dtype)
        post = condition(form, mean, variance, scale[:, None] * row, scale * 1.5)
        assert post.info.tolist() == [USED, REDUNDANT, REDUNDANT]

    def test_points_without_variance(self, form: str, dtype: torch.dtype) -> None:
        mean, variance = field(dtype)
        variance[:4] = 0
        rows = torch.zeros(3, 12, dtype=dtype)
        rows[0, :4], rows[1, 4:], rows[2, 1] = 1, 1, 2
        target = torch.stack([mean[:4].sum() + 1, mean.new_tensor(2.0), 2 * mean[1]])
        post = condition(form, mean, variance, rows, target)
        assert post.info.tolist() == [INFEASIBLE, USED, SATISFIED]
        assert torch.equal(post.mean[:4], mean[:4])
        assert bool((post.variance[:4] == 0).all())
        noisy = condition(form, mean, variance, rows, target, 0.25)
        assert noisy.info.tolist() == [USED, USED, USED]
        assert torch.equal(noisy.mean[:4], mean[:4])

    def test_noise_makes_repeated_rows_useful(self, form: str, dtype: torch.dtype) -> None:
        mean, variance = field(dtype)
        row = normal(seeded("noisy"), 1, 12).to(dtype)
        target = torch.tensor([1.0, 2.0], dtype=dtype)
        post = condition(form, mean, variance, row.repeat(2, 1), target, 0.5)
        assert post.info.tolist() == [USED, USED]
        one = condition(form, mean, variance, row, target.mean(0, keepdim=True), 0.25)
        assert deviation(post.mean, one.mean) <= TOLERANCE[dtype]
        assert deviation(post.variance, one.variance) <= TOLERANCE[dtype]

    def test_more_rows_than_points(self, form: str, dtype: torch.dtype) -> None:
        mean, variance = field(dtype, 3)
        rows = normal(seeded("more"), 5, 3).to(dtype)
        target = rows @ torch.tensor([1.0, -2.0, 3.0], dtype=dtype)
        post = condition_without_reference(form, mean, variance, rows, target)
        assert post.info.tolist() == [USED, USED, USED, REDUNDANT, REDUNDANT]
        assert post.mean.tolist() == pytest.approx([1, -2, 3], rel=1e3 * torch.finfo(dtype).eps)

    def test_items_of_a_batch_are_judged_one_by_one(self, form: str, dtype: torch.dtype) -> None:
        mean, variance = field(dtype)
        a, b = normal(seeded("items"), 2, 12).to(dtype)
        rows = torch.stack([torch.stack([a, b]), torch.stack([a, a]), torch.stack([a, a])])
        target = torch.tensor([[1, 2], [1, 1], [1, 2]], dtype=dtype)
        post = condition(form, mean.expand(3, 12), variance.expand(3, 12), rows, target)
        assert post.info.tolist() == [[USED, USED], [USED, REDUNDANT], [USED, INCONSISTENT]]


def condition_without_reference(
    form: str, mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor
) -> ops.Conditioned:
    if form == "diagonal":
        return ops.condition_diagonal(mean, variance, rows, target, 0.0)
    if form == "cross":
        return ops.condition_cross(mean, variance, rows * variance, rows, target, 0.0)
    return ops.condition_dense(mean, torch.diag(variance), rows, target, 0.0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_disjoint_rows_have_the_same_codes(dtype: torch.dtype) -> None:
    mean, variance = field(dtype)
    variance[:8] = 0
    one, none = torch.ones(12, dtype=dtype), torch.empty(0, dtype=torch.int64)
    edges = torch.tensor([0, 4, 8, 12])
    target = torch.stack([mean[:4].sum() + 1, mean[4:8].sum(), mean.new_tensor(1.0)])
    post = ops.condition_disjoint(mean, variance, one, none, edges, target, 0.0)
    assert post.info.tolist() == [INFEASIBLE, SATISFIED, USED]
    expected = reference.condition_disjoint(mean, variance, one, none, edges, target, 0.0)
    assert post.info.tolist() == expected.info.tolist()
    assert deviation(post.mean, expected.mean) <= TOLERANCE[dtype]
    assert torch.equal(post.mean[:8], mean[:8])
    assert post.cholesky.isinf().tolist() == [True, True, False]
    assert post.multipliers[:2].tolist() == [0, 0]


BROKEN = [
    (op, name)
    for op in OPS
    for name, value in op.arguments(op.free((2,), 9, 3)).items()
    if isinstance(value, Tensor) and value.is_floating_point()
]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("r", [1, 3])
@pytest.mark.parametrize(("op", "name"), BROKEN, ids=[f"{op.name}-{name}" for op, name in BROKEN])
def test_an_item_that_is_not_finite_is_marked_and_alone(
    op: Op, name: str, r: int, dtype: torch.dtype, value: float
) -> None:
    if "banded" in op.name and name == "noise":
        value = torch.nan  # infinite noise is a row without information
    arguments = cast(op.arguments(op.free((3,), 140, r)), dtype)
    good = fields(op.call(**arguments))
    broken = arguments[name].clone()
    # The listed points of a disjoint problem: the broken one belongs to a row.
    place = int(arguments["order"][5]) if "order" in arguments and broken.shape[-1] == 140 else -1
    broken[1, ..., place] = value
    found = fields(op.call(**{**arguments, name: broken}))
    for other in (0, 2):
        same_bits([v[other] for v in found.values()], [v[other] for v in good.values()])
    if op.name == "condition_cross" and name == "variance":
        # The marginal variance enters no sum: a broken one spoils its own point, and shows there.
        assert found["variance"][1].isfinite().tolist() == [True] * 139 + [False]
        return
    main = found["product"] if "product" in found else found["mean"]
    if op.name in ("condition_disjoint", "banded_product"):
        assert bool(main[1].isnan().any())  # rows (vectors) do not touch each other
    else:
        for output in ("mean", "variance"):
            assert bool(found[output][1].isnan().all()), output
    if "info" in found:
        if op.name == "condition_disjoint":
            assert NON_FINITE in found["info"][1].tolist()
        else:
            assert set(found["info"][1].tolist()) == {NON_FINITE}
