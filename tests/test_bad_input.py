# SPDX-License-Identifier: Apache-2.0
"""Bad input: which error, which argument, what was expected, what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from physcon_ext import GaussianField, LinearConstraint, conserve, metrics, mixture, project
from physcon_ext.constraints import blocks, quadrature, smoothness, total


Z, ONE = torch.zeros(3), torch.ones(3)
NAN = torch.tensor([0.0, float("nan"), 1.0])
ROW = torch.ones(1, 3)
FIELD = GaussianField(Z, ONE)
LAW = LinearConstraint(ROW, torch.ones(1))
SKEW = torch.tensor([[1.0, 0.5], [0.0, 1.0]])


def law(*args: Any, **kwargs: Any) -> Callable[[], object]:
    return lambda: LinearConstraint(*args, **kwargs)


def field(*args: Any, **kwargs: Any) -> Callable[[], object]:
    return lambda: GaussianField(*args, **kwargs)


CASES: list[tuple[Callable[[], object], type[Exception], str]] = [
    (field([1.0], ONE), TypeError, "expected mean to be a torch.Tensor, got list"),
    (field(Z, 1.0), TypeError, "expected variance to be a torch.Tensor, got float"),
    (field(Z.int(), ONE), TypeError, "expected mean to be float32 or float64, got torch.int32"),
    (field(Z.half(), ONE.half()), TypeError, "mean to be float32 or float64, got torch.float16"),
    (
        field(Z.to_sparse(), ONE),
        TypeError,
        "mean to be a dense tensor, got layout torch.sparse_coo",
    ),
    (
        field(Z, ONE.double()),
        TypeError,
        "variance and mean to have the same dtype, got torch.float64",
    ),
    (field(Z, ONE.to("meta")), ValueError, "variance and mean to be on the same device, got meta"),
    (field(torch.tensor(1.0), ONE), ValueError, "mean to have at least one cell"),
    (field(Z[:0], ONE[:0]), ValueError, "mean to have at least one cell on its last axis"),
    (field(Z), ValueError, "or covariance, got none of them"),
    (field(Z, ONE, covariance=torch.eye(3)), ValueError, "got variance and covariance"),
    (field(Z, factor=ROW), ValueError, "or covariance, got factor"),
    (field(Z, torch.ones(4)), ValueError, "variance to have shape (*batch, n) with n = 3"),
    (field(Z, covariance=torch.eye(4)), ValueError, "covariance to have shape (*batch, n, n)"),
    (field(Z, ONE, factor=ONE), ValueError, "factor to have shape (*batch, q, n)"),
    (
        field(Z.expand(2, 3), ONE.expand(5, 3)),
        ValueError,
        "batch axes to broadcast, got mean (2, 3)",
    ),
    (field(NAN, ONE), ValueError, "GaussianField: expected mean to be finite, got nan at index 1"),
    (field(Z, NAN), ValueError, "expected variance to be finite, got nan at index 1"),
    (
        field(Z, -ONE.expand(2, 3)),
        ValueError,
        "expected variance to be >= 0, got -1.0 at index (0, 0)",
    ),
    (
        field(Z[:2], covariance=SKEW),
        ValueError,
        "covariance to be symmetric, got a difference of 0.5",
    ),
    (field(Z, covariance=-torch.eye(3)), ValueError, "the diagonal of covariance to be >= 0"),
    (lambda: FIELD.sample(-1), ValueError, "expected n to be >= 0, got -1"),
    (
        lambda: FIELD.log_prob(torch.ones(4)),
        ValueError,
        "u to broadcast with mean (3,), got shape (4,)",
    ),
    (lambda: FIELD.log_prob(ONE.double()), TypeError, "u and mean to have the same dtype"),
    (law([1.0], ONE), TypeError, "LinearConstraint: expected G to be a torch.Tensor, got list"),
    (law(torch.tensor(1.0), 1.0), ValueError, "G to have shape (r, n) or (n,), got ()"),
    (law(ROW, "1"), TypeError, "expected b to be a torch.Tensor or a number, got str"),
    (law(ROW, torch.ones(1).double()), TypeError, "b and the rows to have the same dtype"),
    (law(ROW, torch.ones(2)), ValueError, "b to have 1 values on its last axis, one per row"),
    (law(ROW[:0], torch.ones(0)), ValueError, "at least one row and one cell, got 0 rows of 3"),
    (law(ROW, torch.ones(1), True), TypeError, "noise_variance to be a torch.Tensor or a number"),
    (law(ROW, torch.ones(1), -1.0), ValueError, "noise_variance to be >= 0, got -1.0"),
    (law(ROW, torch.ones(1), float("inf")), ValueError, "noise_variance to be finite, got inf"),
    (
        law(ROW, torch.ones(1), ONE),
        ValueError,
        "noise_variance to broadcast to the shape of b (1,)",
    ),
    (law(ROW, torch.ones(1), torch.eye(2)), ValueError, "matrix (1, 1) per item, got shape (2, 2)"),
    (law(torch.eye(2), Z[:2], SKEW), ValueError, "noise_variance to be symmetric"),
    (
        law(torch.eye(2), Z[:2], -torch.eye(2)),
        ValueError,
        "positive semi-definite, got an eigenvalue -1",
    ),
    (law(NAN[None], torch.ones(1)), ValueError, "expected G to be finite, got nan at index (0, 1)"),
    (
        law(ROW, torch.tensor([float("inf")])),
        ValueError,
        "expected b to be finite, got inf at index 0",
    ),
    (
        law(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), Z[:2], names="mass"),
        ValueError,
        "every row of G to have a non-zero weight, got none in row 'mass[1]' (index 1)",
    ),
    (law(ROW, torch.ones(1), names=["a", "b"]), ValueError, "names to have 1 entries, got 2"),
    (
        law(ROW.expand(2, 1, 3), torch.ones(5, 1)),
        ValueError,
        "leading axes of G, b and noise_variance",
    ),
    (law(Z + 1, torch.ones(2), torch.ones(5)), ValueError, "b and noise_variance of one row"),
    (
        lambda: LAW & LinearConstraint(torch.ones(1, 4), ONE[:1]),
        ValueError,
        "number of cells, got 3 and 4",
    ),
    (
        lambda: LAW & LAW.to(dtype=torch.float64),
        TypeError,
        "laws to have the same dtype and device",
    ),
    (
        lambda: LinearConstraint(ROW, torch.ones(2, 1)) & LinearConstraint(ROW, torch.ones(5, 1)),
        ValueError,
        "batch axes of both laws to broadcast, got (2,) and (5,)",
    ),
    (lambda: LAW.residual(torch.ones(4)), ValueError, "field to have 3 cells on its last axis"),
    (lambda: LAW.residual(3), TypeError, "expected field to be a torch.Tensor, got int"),
    (lambda: conserve(Z, LAW), TypeError, "expected field to be a GaussianField, got Tensor"),
    (lambda: conserve(FIELD, ROW), TypeError, "expected law to be a LinearConstraint, got Tensor"),
    (
        lambda: conserve(FIELD, LAW, on_infeasible="ignore"),
        ValueError,
        "on_infeasible to be 'error' or 'project', got 'ignore'",
    ),
    (
        lambda: conserve(FIELD, LinearConstraint(torch.ones(1, 4), ONE[:1])),
        ValueError,
        "field and law to have the same number of cells, got 3 and 4",
    ),
    (
        lambda: conserve(FIELD, LAW.to(dtype=torch.float64)),
        TypeError,
        "use law.to(dtype=field.dtype)",
    ),
    (
        lambda: conserve(FIELD, LAW.to("meta")),
        ValueError,
        "law to be on the same device, got cpu and meta",
    ),
    (
        lambda: conserve(FIELD.expand((2,)), LinearConstraint(ROW, torch.ones(5, 1))),
        ValueError,
        "batch axes of field and law to broadcast, got (2,) and (5,)",
    ),
    (
        lambda: conserve(GaussianField(NAN.expand(2, 3), ONE, validate=False), LAW),
        ValueError,
        "to be finite, got NaN or infinity at batch index 0",
    ),
    (lambda: project(NAN, LAW), ValueError, "project: expected mean to be finite"),
    (lambda: mixture([]), ValueError, "mixture: expected at least one field, got 0"),
    (lambda: mixture([FIELD, 1]), TypeError, "GaussianField objects, got int at index 1"),
    (
        lambda: mixture(FIELD),
        ValueError,
        "dim to be a batch axis of a field with batch shape (), got 0",
    ),
    (
        lambda: mixture(FIELD.expand((0,))),
        ValueError,
        "expected at least one draw along dim 0, got 0",
    ),
    (
        lambda: mixture([FIELD, GaussianField(Z[:2], ONE[:2])]),
        ValueError,
        "mixture: expected fields with the same cells, dtype and device",
    ),
    (
        lambda: mixture([FIELD.expand((2,)), FIELD.expand((3,))]),
        ValueError,
        "mixture: expected batch shapes to broadcast, got (2,), (3,)",
    ),
    (lambda: total(Z, 1.0, volumes=ONE), ValueError, "exactly one of x and volumes, got both"),
    (lambda: total(None, 1.0), ValueError, "exactly one of x and volumes, got neither"),
    (lambda: quadrature(ONE[:1]), ValueError, "x to have at least 2 points for rule 'trapezoid'"),
    (lambda: quadrature(Z, rule="gauss"), ValueError, "expected rule to be one of"),
    (
        lambda: quadrature(Z, rule="simpson"),
        ValueError,
        "points x to be distinct for rule 'simpson'",
    ),
    (
        lambda: quadrature(-torch.arange(3.0), rule="cell"),
        ValueError,
        "cell edges x to ascend, got -0",
    ),
    (lambda: quadrature(NAN), ValueError, "quadrature: expected x to be finite"),
    (lambda: blocks(Z, ONE), TypeError, "labels to be an integer tensor, got torch.float32"),
    (
        lambda: blocks(torch.tensor([0, 2]), ONE[:2]),
        ValueError,
        "labels to be < 2, the number of values",
    ),
    (
        lambda: blocks(torch.tensor([0, 0]), ONE[:2]),
        ValueError,
        "to have a cell, got none in block 1",
    ),
    (
        lambda: blocks(torch.tensor([0, 1]), ONE[:2], volumes=ONE),
        ValueError,
        "same number of cells",
    ),
    (
        lambda: blocks(torch.tensor([0, 1]), ONE[:2], volumes=torch.tensor([1.0, 0.0])),
        ValueError,
        "every block to have a non-zero volume",
    ),
    (
        lambda: blocks(torch.tensor([0, 1]), ONE[:2], noise_variance=torch.eye(2)),
        ValueError,
        "noise_variance to be a variance per row, got shape (2, 2)",
    ),
    (lambda: smoothness(Z[:2], ONE[:2]), ValueError, "x to have shape (n,) with n >= 3, got (2,)"),
    (
        lambda: smoothness(Z, ONE),
        ValueError,
        "expected x to ascend, got 0 followed by 0 at index 0",
    ),
    (
        lambda: smoothness(torch.arange(3.0), ONE, rho=1.5),
        ValueError,
        "rho to be in [0, 1], got 1.5",
    ),
    (lambda: smoothness(torch.arange(3.0), ONE, h_ref=0.0), ValueError, "h_ref to be > 0, got 0.0"),
    (
        lambda: smoothness(torch.arange(3.0), -ONE),
        ValueError,
        "variance to be >= 0, got -1.0 at index 0",
    ),
    (lambda: smoothness(torch.arange(3.0), ONE[:2]), ValueError, "variance to have 3 values"),
    (lambda: metrics.mse(Z, torch.ones(2)), ValueError, "mse: expected shapes to broadcast"),
    (lambda: metrics.mse(torch.tensor(1.0), Z), ValueError, "mean to have at least one axis"),
    (lambda: metrics.coverage(Z, ONE, Z, level=1.0), ValueError, "level to be in (0, 1), got 1.0"),
    (lambda: metrics.n_merci(Z, ONE, Z), ValueError, "n_merci: expected at least two items"),
    (lambda: metrics.conservation_error(Z, LAW, kind="max"), ValueError, "kind to be one of"),
    (lambda: metrics.shock_position(Z, ONE[:2]), ValueError, "expected x to have shape (3,)"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_bad_input_is_named(case: int) -> None:
    call, error, text = CASES[case]
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_contradicting_rows_are_named_with_residual_and_tolerance() -> None:
    parts = blocks(torch.tensor([0, 0, 1]), torch.tensor([1.0, 2.0]), names=["left", "right"])
    both = parts & LinearConstraint(torch.ones(3), 4.0, names="mass[t=0.05]")
    text = r"conserve: row 'mass\[t=0.05\]' \(index 2\) contradicts rows 'left', 'right': "
    with pytest.raises(ValueError, match=text + r"residual 1, tolerance [\d.]+e-05"):
        conserve(FIELD, both)


def test_infeasible_rows_are_named() -> None:
    text = (
        r"row 'mass' \(index 0\) at batch index 1 cannot be met: its cells have zero variance and "
        r"it has zero noise, residual 3, tolerance .*on_infeasible='project'"
    )
    for law in (
        LinearConstraint(ONE, 3.0, names="mass"),
        blocks(torch.zeros(3).int(), 3 * ONE[:1], names="mass"),
    ):
        with pytest.raises(ValueError, match=text):
            conserve(GaussianField(Z, torch.stack([ONE, Z])), law)


def test_what_looks_odd_but_is_fine_works() -> None:
    LinearConstraint(ROW, torch.ones(1), validate=False)
    assert conserve(FIELD, LAW & LAW).diagnostics().status.tolist() == [0, 1]
    certain = GaussianField(ONE, Z)
    assert torch.equal(conserve(certain, LinearConstraint(ONE, 3.0)).mean, ONE)
    assert conserve(FIELD.expand((0,)), LAW).mean.shape == (0, 3)
