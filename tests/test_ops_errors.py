# SPDX-License-Identifier: Apache-2.0
"""Bad calls: which exception, and that the sentence names the argument, the wish and the value."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from op_suite import OP_IDS, OPS, Arguments, Banded, Cross, Dense, Diagonal, Disjoint, Op, Product


Change = Callable[[Arguments], Arguments]
OF = {op.name.removeprefix("condition_"): op for op in OPS}


def valid(op: Op) -> Arguments:
    return op.arguments(op.free((2,), 9, 3))


def replace(**values: Any) -> Change:
    """New values; a callable is applied to the old one."""

    def change(arguments: Arguments) -> Arguments:
        new = {k: v(arguments[k]) if callable(v) else v for k, v in values.items()}
        return {**arguments, **new}

    return change


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


BAD: list[tuple[Op, Change, type[Exception], str]] = [
    # shapes
    (
        Diagonal(),
        replace(variance=ones(2, 8)),
        ValueError,
        "variance to have shape (..., 9), got (2, 8)",
    ),
    (
        Diagonal(),
        replace(rows=ones(3, 8)),
        ValueError,
        "rows to have shape (..., 3, 9), got (3, 8)",
    ),
    (
        Diagonal(),
        replace(rows=ones(9)),
        ValueError,
        "rows to have shape (..., r, n), r >= 1, got (9,)",
    ),
    (
        Diagonal(),
        replace(rows=ones(0, 9)),
        ValueError,
        "rows to have shape (..., r, n), r >= 1, got (0, 9)",
    ),
    (
        Diagonal(),
        replace(target=ones(2, 4), noise=0.0),
        ValueError,
        "target to have shape (..., 3), got (2, 4)",
    ),
    (Diagonal(), replace(noise=ones(2, 4)), ValueError, "noise to have shape (..., 3), got (2, 4)"),
    (
        Diagonal(),
        replace(noise=ones(2, 3, 4)),
        ValueError,
        "noise to have shape (..., 3, 3), got (2, 3, 4)",
    ),
    (
        Diagonal(),
        replace(mean=torch.tensor(1.0, dtype=torch.float64)),
        ValueError,
        "mean to have shape (..., n), n >= 1, got ()",
    ),
    (
        Diagonal(),
        replace(mean=ones(2, 0)),
        ValueError,
        "mean to have shape (..., n), n >= 1, got (2, 0)",
    ),
    (
        Diagonal(),
        replace(mean=ones(5, 9)),
        ValueError,
        "batch axes that broadcast, got mean (5, 9), variance (2, 9)",
    ),
    (
        Cross(),
        replace(cross=ones(2, 2, 9)),
        ValueError,
        "cross to have shape (..., 3, 9), got (2, 2, 9)",
    ),
    (Cross(), replace(cross=ones(5, 3, 9)), ValueError, "batch axes that broadcast"),
    (
        Dense(),
        replace(prior_covariance=ones(2, 9)),
        ValueError,
        "prior_covariance to have shape (..., 9, 9), got (2, 9)",
    ),
    (
        Dense(),
        replace(prior_covariance=ones(2, 9, 8)),
        ValueError,
        "prior_covariance to have shape (..., 9, 9), got (2, 9, 8)",
    ),
    (
        Disjoint(),
        replace(weights=torch.tensor(1.0, dtype=torch.float64)),
        ValueError,
        "weights (..., p)",
    ),
    (Disjoint(), replace(offsets=torch.tensor([0])), ValueError, "at least 2 offsets"),
    (
        Disjoint(),
        replace(target=ones(2, 4), noise=0.0),
        ValueError,
        "target to have shape (..., 3), got (2, 4)",
    ),
    (
        Banded(),
        replace(mean=ones(2, 2)),
        ValueError,
        "mean to have shape (..., n), n >= 3, got (2, 2)",
    ),
    (
        Banded(),
        replace(stencil=ones(7, 2)),
        ValueError,
        "stencil to have shape (..., 7, 3), got (7, 2)",
    ),
    (Banded(), replace(noise=ones(2, 9)), ValueError, "noise to have shape (..., 7), got (2, 9)"),
    (Product(), replace(variance=ones(2, 2)), ValueError, "variance (..., n) with n >= 3"),
    (Product(), replace(x=ones(9)), ValueError, "x (..., k, n), got (2, 9) and (9,)"),
    (Product(), replace(x=ones(2, 3, 8)), ValueError, "x to have shape (..., 3, 9), got (2, 3, 8)"),
    # noise as a number
    (Diagonal(), replace(noise=-1.0), ValueError, "noise to be >= 0, got -1.0"),
    (Cross(), replace(noise=-0.5), ValueError, "noise to be >= 0, got -0.5"),
    (Dense(), replace(noise=float("nan")), ValueError, "noise to be >= 0, got nan"),
    (Disjoint(), replace(noise=-2), ValueError, "noise to be >= 0, got -2"),
    (Banded(), replace(noise=-1e-3), ValueError, "noise to be >= 0, got -0.001"),
    (Diagonal(), replace(noise="1"), TypeError, "noise to be a tensor or a number, got str"),
    (Diagonal(), replace(noise=None), TypeError, "noise to be a tensor or a number, got NoneType"),
    (Diagonal(), replace(noise=True), TypeError, "noise to be a tensor or a number, got bool"),
    # index lists
    (
        Disjoint(),
        replace(order=lambda t: t.int()),
        TypeError,
        "order to be an int64 tensor with one axis",
    ),
    (Disjoint(), replace(order=[0, 1]), TypeError, "order to be an int64 tensor with one axis"),
    (
        Disjoint(),
        replace(offsets=lambda t: t.double()),
        TypeError,
        "offsets to be an int64 tensor with one axis",
    ),
    (
        Disjoint(),
        replace(offsets=lambda t: t[None]),
        TypeError,
        "offsets to be an int64 tensor with one axis",
    ),
    (
        Disjoint(),
        replace(order=lambda t: t[:-1]),
        RuntimeError,
        "expected order to have 8 entries (or none), got 7",
    ),
    (
        Disjoint(),
        replace(order=lambda t: t.clone().fill_(0)),
        RuntimeError,
        "expected disjoint rows, got cell 0 twice",
    ),
    (
        Disjoint(),
        replace(order=lambda t: t + 2),
        RuntimeError,
        "expected order to index 9 cells, got",
    ),
    (
        Disjoint(),
        replace(order=lambda t: t - 9),
        RuntimeError,
        "expected order to index 9 cells, got",
    ),
    (
        Disjoint(),
        replace(offsets=torch.tensor([0, 5, 2, 8])),
        RuntimeError,
        "expected offsets to ascend, got a step down at 1",
    ),
    (
        Disjoint(),
        replace(offsets=torch.tensor([1, 2, 3, 8])),
        RuntimeError,
        "expected offsets to run from 0 to 8, got 1 to 8",
    ),
    (
        Disjoint(),
        replace(offsets=torch.tensor([0, 2, 3, 7])),
        RuntimeError,
        "expected offsets to run from 0 to 8, got 0 to 7",
    ),
]


@pytest.mark.parametrize(
    ("op", "change", "error", "text"), BAD, ids=[f"{i}-{b[0].name}" for i, b in enumerate(BAD)]
)
def test_bad_arguments_are_refused_in_one_sentence(
    op: Op, change: Change, error: type[Exception], text: str
) -> None:
    arguments = valid(op)
    op.call(**arguments)
    with pytest.raises(error, match=re.escape(text)) as caught:
        op.call(**change(arguments))
    assert f"physcon::{op.name}" in str(caught.value)


TENSORS = [
    (op, name)
    for op in OPS
    for name, value in valid(op).items()
    if isinstance(value, Tensor) and value.is_floating_point()
]
TENSOR_IDS = [f"{op.name}-{name}" for op, name in TENSORS]


@pytest.mark.parametrize(("op", "name"), TENSORS, ids=TENSOR_IDS)
def test_every_argument_must_be_a_tensor(op: Op, name: str) -> None:
    arguments = valid(op)
    wrong = arguments[name].tolist()
    with pytest.raises(TypeError, match=rf"physcon::{op.name}: expected {name} to be .*, got list"):
        op.call(**{**arguments, name: wrong})


@pytest.mark.parametrize(("op", "name"), TENSORS, ids=TENSOR_IDS)
def test_dtypes_must_agree(op: Op, name: str) -> None:
    arguments = valid(op)
    with pytest.raises(TypeError, match="to have the same dtype, got torch.float") as caught:
        op.call(**{**arguments, name: arguments[name].float()})
    assert name in str(caught.value) or "torch.float32" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex128], ids=str)
@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
def test_other_dtypes_are_refused_by_name(op: Op, dtype: torch.dtype) -> None:
    arguments = {
        k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v
        for k, v in valid(op).items()
    }
    with pytest.raises(TypeError, match=rf"physcon::{op.name}: expected .* got {dtype}"):
        op.call(**arguments)


@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
def test_devices_must_agree(op: Op) -> None:
    """Those of indices too: a kernel would follow an address of the other device."""
    arguments = valid(op)
    for name in (k for k, v in arguments.items() if isinstance(v, Tensor)):
        with pytest.raises(ValueError, match="same device, got .*meta|same device, got .*cpu"):
            op.call(**{**arguments, name: arguments[name].to("meta")})


@pytest.mark.parametrize("op", OPS, ids=OP_IDS)
def test_the_raw_op_checks_shapes_and_dtypes_too(op: Op) -> None:
    """Whoever calls ``torch.ops.physcon`` directly gets an error, never a wrong read."""
    values = list(op.raw_arguments(op.free((2,), 9, 3)))
    op.raw(*values)
    for i, value in enumerate(values):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        short = [v[..., :-1] if j == i else v for j, v in enumerate(values)]
        with pytest.raises(RuntimeError, match=rf"physcon::{op.name}: expected"):
            op.raw(*short)
        mixed = [v.float() if j == i else v for j, v in enumerate(values)]
        with pytest.raises(RuntimeError, match=rf"physcon::{op.name}: expected"):
            op.raw(*mixed)
    whole = [v.int() if isinstance(v, Tensor) and v.is_floating_point() else v for v in values]
    with pytest.raises(RuntimeError, match=f"physcon::{op.name}"):
        op.raw(*whole)
