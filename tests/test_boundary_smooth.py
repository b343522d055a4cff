# SPDX-License-Identifier: Apache-2.0
"""Smooth conditioning on boundary rows: it is the covariance update, exact, and has its limits."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import physcon_ext as px
from boundary_cases import CASES, check_exactness
from physcon_ext import ops
from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    condition_on_boundary,
    default_length,
    enforce,
)
from physcon_ext.boundary.smooth import KERNELS, covariance


F64 = torch.float64


@pytest.mark.parametrize("name", list(CASES))
def test_conditions_hold_on_every_face(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    u, values = case.field(dtype), case.values(dtype)
    before = u.clone()
    check_exactness(condition_on_boundary(u, case.bc, values), case.bc, values)
    assert torch.equal(u, before)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "bc",
    [
        BoundaryConditions(left=Dirichlet(1.0), right=Dirichlet(-2.0)),
        BoundaryConditions(left=Neumann(0.5, order=2), right=Robin(1.0, 2.0, 3.0)),
        BoundaryConditions(right=Neumann(0.5, direction="x")),
        BoundaryConditions(left=Periodic(), right=Periodic()),
    ],
)
def test_it_is_the_covariance_update_with_boundary_rows(
    kernel: str, bc: BoundaryConditions
) -> None:
    x = torch.linspace(0, 1, 25, dtype=F64)
    u = torch.randn(3, 1, 25, dtype=F64)
    prior = covariance(x, 0.2, kernel)  # type: ignore[arg-type]
    law = px.constraints.boundary(x, bc)
    rows = law.rows
    found = ops.condition_cross(
        u[:, 0],
        prior.diagonal().expand(3, -1),
        (rows @ prior).expand(3, -1, -1),
        rows,
        law.target.expand(3, -1),
        0.0,
    )
    ours = condition_on_boundary(u, bc, length=0.2, kernel=kernel)  # type: ignore[arg-type]
    scale = float(ours.abs().max())
    # The jitter of 1e-10 of the rows' variance is the difference.
    torch.testing.assert_close(ours[:, 0], found.mean, rtol=0, atol=2e-9 * scale)


@pytest.mark.parametrize("sizes", [(7, 6), (5, 4, 6)])
def test_whole_faces_are_conditioned_together(sizes: tuple[int, ...]) -> None:
    """One axis after the other is conditioning on all faces with a product covariance."""
    edges = ("left", "right", "bottom", "top", "front", "back")[: 2 * len(sizes)]
    kinds = [Dirichlet(), Neumann(order=1), Robin(1.0, 0.5, order=1), Dirichlet()]
    bc = BoundaryConditions(**dict(zip(edges, itertools.cycle(kinds), strict=False)))
    axes = [torch.linspace(0, 1, n, dtype=F64) for n in sizes]
    # Data of one field agree where faces meet.
    truth = torch.randn(1, 1, *sizes, dtype=F64)
    law = px.constraints.boundary(axes, bc, dict.fromkeys(edges, 0.0))
    stated = law.rows @ truth.flatten()
    values, start = {}, 0
    for edge in edges:
        axis = edges.index(edge) // 2
        shape = sizes[:axis] + sizes[axis + 1 :]
        count = torch.Size(shape).numel()
        values[edge] = stated[start : start + count].reshape(shape)
        start += count
    prior = torch.ones(1, 1, dtype=F64)
    for points in axes:
        prior = torch.kron(prior, covariance(points, 0.3, "matern12"))
    u = torch.randn(2, 1, *sizes, dtype=F64)
    law = px.constraints.boundary(axes, bc, values)
    field = px.GaussianField(u.flatten(1), covariance=prior.expand(2, -1, -1))
    expected = px.conserve(field, law).mean.reshape_as(u)
    ours = condition_on_boundary(u, bc, values, length=0.3, kernel="matern12")
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-7)


def test_a_short_length_changes_the_ends_alone() -> None:
    case = CASES["both ends given"]
    u, values = case.field(F64), case.values(F64)
    expected = enforce(u, case.bc, values)
    torch.testing.assert_close(condition_on_boundary(u, case.bc, values, length=1e-4), expected)


def test_a_long_length_interpolates_the_residual_linearly() -> None:
    case = CASES["both ends given"]
    u, values = case.field(F64), case.values(F64)
    x = torch.linspace(0, 1, 33, dtype=F64)
    residual = [values[edge] - u[..., at] for edge, at in (("left", 0), ("right", -1))]
    expected = u + residual[0][..., None] * (1 - x) + residual[1][..., None] * x
    ours = condition_on_boundary(u, case.bc, values, length=100.0)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_the_correction_converges_with_the_grid() -> None:
    """A smooth field gets the same correction at every resolution, up to the stencil's error."""
    bc = BoundaryConditions(left=Dirichlet(1.0), right=Neumann(2.0, order=4))

    def corrected(points: int) -> Tensor:
        x = torch.linspace(0, 1, points, dtype=F64)
        return condition_on_boundary(torch.sin(3 * x)[None, None], bc, length=0.1)

    finest = corrected(1025)
    errors = [
        float((corrected(n) - finest[..., :: 1024 // (n - 1)]).abs().max()) for n in (33, 65, 129)
    ]
    assert errors[0] > 7 * errors[1] > 49 * errors[2]
    assert errors[2] <= 1e-4


def test_fields_that_satisfy_their_conditions_stay() -> None:
    case = CASES["value and slope"]
    values = case.values(F64)
    u = enforce(case.field(F64), case.bc, values)
    torch.testing.assert_close(condition_on_boundary(u, case.bc, values), u, rtol=1e-12, atol=1e-12)


def test_it_is_differentiable_in_field_data_and_length() -> None:
    bc = BoundaryConditions(left=Dirichlet(), right=Neumann(order=2))
    u = torch.randn(2, 1, 9, dtype=F64, requires_grad=True)
    g = torch.randn(2, 1, dtype=F64, requires_grad=True)
    length = torch.tensor(0.2, dtype=F64, requires_grad=True)

    def run(field: Tensor, data: Tensor, l: Tensor) -> Tensor:  # noqa: E741
        return condition_on_boundary(field, bc, {"left": data, "right": 0.5}, length=l)

    assert torch.autograd.gradcheck(run, (u, g, length))


def test_lengths_default_to_the_size_of_the_domain() -> None:
    bc = BoundaryConditions(left=Dirichlet(), bottom=Neumann(), extent=(2.0, 4.0))
    assert [default_length(bc, axis) for axis in (0, 1)] == pytest.approx([0.3, 0.2])


U = torch.zeros(2, 1, 8)
BC = BoundaryConditions(left=Dirichlet(0.0))
BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: condition_on_boundary(U, BC, kernel="gauss"),  # type: ignore[arg-type]
        ValueError,
        "kernel to be one of .*got 'gauss'",
    ),
    (
        lambda: condition_on_boundary(U, BC, length=-1.0),
        ValueError,
        "length to be positive and finite, got -1.0",
    ),
    (
        lambda: condition_on_boundary(
            U[..., None], BoundaryConditions(left=Dirichlet(0.0), top=Dirichlet(0.0)), length=()
        ),
        ValueError,
        "one length or one for each of 2 axes, got 0",
    ),
]


@pytest.mark.parametrize("call,error,match", BAD)
def test_bad_calls_say_what_is_wrong(
    call: Callable[[], object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call()
