# SPDX-License-Identifier: Apache-2.0
"""The layers of the Fourier neural operator in one op beside the same layers in parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from op_suite import DTYPES, deviation
from physcon_ext import ops
from physcon_ext.boundary import BoundaryConditions, Dirichlet, Neumann, Outflow, Periodic
from physcon_ext.models import FNO


DIRICHLET = BoundaryConditions(left=Dirichlet(0.3), right=Dirichlet(-0.2))
MIXED = BoundaryConditions(left=Dirichlet(0.3), right=Neumann(0.2, order=2))
PLANE = BoundaryConditions(left=Dirichlet(0.3), right=Neumann(0.2, order=2), top=Dirichlet(1.0))
CIRCLE = BoundaryConditions(left=Periodic(), right=Periodic())
# options, axes, layers of 3 whose activation is in the op, whose sum is
CASES: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "plain": (dict(boundary=None), 1, 2, 3),
    "smooth": (dict(boundary=MIXED), 1, 2, 3),
    "exact": (dict(boundary=DIRICHLET, correction="exact"), 1, 2, 3),
    "one-sided": (
        dict(boundary=BoundaryConditions(left=Dirichlet(1.0)), correction="overwrite"),
        1,
        2,
        3,
    ),
    "outflow": (
        dict(
            boundary=BoundaryConditions(left=Dirichlet(1.0), right=Outflow()),
            correction="overwrite",
            hidden_rule="unit",
        ),
        1,
        2,
        3,
    ),
    "unit": (dict(boundary=MIXED, correction="exact", hidden_rule="unit"), 1, 2, 3),
    "unassigned": (dict(boundary=MIXED, correction="exact", hidden_rule="none"), 1, 2, 3),
    "halved": (dict(boundary=MIXED, correction="exact"), 1, 0, 3),
    "plane": (dict(boundary=PLANE, correction="exact", hidden_rule="unit"), 2, 2, 3),
    "periodic": (dict(boundary=CIRCLE, correction="exact"), 1, 0, 0),
    "published": (dict(boundary=DIRICHLET, correction="published"), 1, 0, 0),
}
BOUND = {torch.float32: 5e-6, torch.float64: 1e-13}


def build(options: dict[str, Any], dims: int, dtype: torch.dtype) -> tuple[FNO, Tensor]:
    torch.manual_seed(3)
    model = FNO((5, 4)[:dims], 1, 1, 6, n_layers=3, **options).to(dtype)
    return model, torch.randn(2, 1, *(40, 21)[:dims], dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", list(CASES))
def test_one_op_and_its_parts_agree_to_rounding(
    case: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, dims, activated, summed = CASES[case]
    model, x = build(options, dims, dtype)
    seen: list[str] = []
    op = ops.fno_block

    def counted(*arguments: Any, **rest: Any) -> Tensor:
        seen.append(rest["activation"])
        return op(*arguments, **rest)

    monkeypatch.setattr(ops, "fno_block", counted)
    parameters = list(model.parameters())
    y = model(x)
    found = [y, *torch.autograd.grad(y.square().sum(), parameters)]
    assert len(seen) == summed and seen.count("gelu") == activated
    monkeypatch.setattr(FNO, "_fused", lambda *_, **__: None)
    y = model(x)
    expected = [y, *torch.autograd.grad(y.square().sum(), parameters)]
    scale = max(g.abs().max() for g in expected[1:])
    for a, b in zip(found, expected, strict=True):
        assert deviation(a, b, scale.reshape(1) * 1e-3) <= BOUND[dtype]


def test_hooks_and_replaced_layers_are_respected() -> None:
    model, x = build(dict(boundary=None), 1, torch.float64)
    expected = model(x)
    calls: list[int] = []
    model.skips[1].register_forward_hook(lambda *_: calls.append(1))
    model.convs[0].register_forward_pre_hook(lambda *_: calls.append(0))
    assert deviation(model(x), expected) <= 1e-14
    assert calls == [0, 1]
    model.skips[2] = torch.nn.Identity()
    assert deviation(model(x), expected) > 1e-3
