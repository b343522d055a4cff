# SPDX-License-Identifier: Apache-2.0
"""Autocast on the CPU: reduced precision enters as float32, float64 is left alone."""

import pytest
import torch
from torch import Tensor

from op_suite import (
    EVERY_ID,
    EVERY_OP,
    TOLERANCE,
    Arguments,
    Op,
    cast,
    deviation,
    differentiable_parameters,
    fields,
    same_bits,
    upstream,
)


LOW = [torch.bfloat16, torch.float16]


def rounded(op: Op, dtype: torch.dtype) -> Arguments:
    """Arguments of the public function, rounded to ``dtype``."""
    return cast(op.arguments(op.free((2,), 9, 2)), dtype)


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_reduced_precision_in_float32_out(op: Op, dtype: torch.dtype) -> None:
    low = rounded(op, dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = fields(op.call(**low))
    expected = fields(op.call(**cast(low, torch.float32)))
    if op.keeps_low:
        expected = {name: value.to(dtype) for name, value in expected.items()}
    same_bits(list(found.values()), list(expected.values()))
    for name in op.outputs:
        assert found[name].dtype == (dtype if op.keeps_low else torch.float32)


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_the_raw_op_has_the_same_rule(op: Op, dtype: torch.dtype) -> None:
    values = op.raw_arguments(op.free((2,), 9, 2))
    low = [v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for v in values]
    with torch.autocast("cpu", dtype=dtype):
        found = op.raw(*low)
    found = (found,) if isinstance(found, Tensor) else found
    assert found[0].dtype == torch.float32


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_mixed_precision_is_brought_together(op: Op) -> None:
    low = rounded(op, torch.bfloat16)
    name = next(iter(low))
    mixed = {**low, name: low[name].float()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fields(op.call(**mixed))
    expected = fields(op.call(**cast(low, torch.float32)))
    same_bits(list(found.values()), list(expected.values()))


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_float64_is_left_alone(op: Op) -> None:
    arguments = rounded(op, torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fields(op.call(**arguments))
    expected = fields(op.call(**arguments))
    same_bits(list(found.values()), list(expected.values()))


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_gradients_come_back_in_the_dtype_of_the_argument(op: Op, dtype: torch.dtype) -> None:
    low = rounded(op, dtype)
    names = differentiable_parameters(low)

    def run(arguments: Arguments, enabled: bool) -> list[Tensor]:
        leaf = {k: v.detach().requires_grad_() if k in names else v for k, v in arguments.items()}
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            found = fields(op.call(**leaf))
        results = [found[name] for name in op.outputs]
        loss = sum((w * o).sum() for w, o in zip(upstream(results), results, strict=True))
        return list(torch.autograd.grad(loss, [leaf[k] for k in names]))

    expected = run(cast(low, torch.float32), enabled=False)
    for name, a, b in zip(names, run(low, enabled=True), expected, strict=True):
        assert a.dtype == dtype, name
        # Computed in float32, rounded once to the dtype of the argument.
        assert deviation(a, b) <= torch.finfo(dtype).eps, name


@pytest.mark.parametrize("op", EVERY_OP, ids=EVERY_ID)
def test_reduced_precision_stays_near_float64(op: Op) -> None:
    """End to end: the error is that of rounding the arguments, not of the arithmetic."""
    exact = op.arguments(op.free((2,), 9, 2, noise="row"))
    for dtype in LOW:
        with torch.autocast("cpu", dtype=dtype):
            found = fields(op.call(**cast(exact, dtype)))
        expected = fields(op.call(**exact))
        for name in op.outputs:
            # Twice the table: two arguments are rounded wherever a product is formed.
            assert deviation(found[name], expected[name]) <= 2 * TOLERANCE[dtype], (name, dtype)
