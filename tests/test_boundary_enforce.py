# SPDX-License-Identifier: Apache-2.0
"""Assigned boundaries: exactness per dtype and kind, corners, grids, derivatives, bad calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from boundary_cases import CASES, check_exactness
from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    boundary_rules,
    corner_mismatch,
    end_weights,
    enforce,
)


F64 = torch.float64


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("corner", ["priority", "average", "solve"])
def test_conditions_hold_on_every_face(name: str, corner: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    u, values = case.field(dtype), case.values(dtype)
    before = u.clone()
    out = enforce(u, case.bc, values, corner=corner)
    check_exactness(out, case.bc, values)
    assert torch.equal(u, before)
    inside = tuple(slice(1, -1) if a < case.bc.n_axes else slice(None) for a in range(u.ndim - 2))
    assert torch.equal(out[(..., *inside)], u[(..., *inside)])


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_prescribed_and_periodic_ends_are_exact_in_half_precision(half: torch.dtype) -> None:
    for name in ("both ends given", "periodic"):
        case = CASES[name]
        values = case.values(half)
        out = enforce(case.field(half), case.bc, values)
        assert out.dtype == half
        check_exactness(out, case.bc, values)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_differences_promote_half_precision_unless_told_otherwise(half: torch.dtype) -> None:
    case = CASES["value and slope"]
    u, values = case.field(half), case.values(half)
    out = enforce(u, case.bc, values)
    assert out.dtype == torch.float32
    check_exactness(out, case.bc, values)
    assert enforce(u, case.bc, values, dtype=half).dtype == half


def test_robin_has_both_limits(dtype: torch.dtype) -> None:
    u, g = torch.randn(3, 2, 20, dtype=dtype), torch.randn(3, 1, dtype=dtype)
    value = enforce(u, BoundaryConditions(left=Robin(2.0, 0.0)), {"left": g})
    expected = enforce(u, BoundaryConditions(left=Dirichlet()), {"left": g / 2})
    assert torch.equal(value, expected)
    slope = enforce(u, BoundaryConditions(right=Robin(0.0, 4.0)), {"right": g})
    expected = enforce(u, BoundaryConditions(right=Neumann()), {"right": g / 4})
    torch.testing.assert_close(slope, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_a_slope_along_x_is_minus_the_outward_one_at_the_low_end() -> None:
    u = torch.randn(3, 1, 20, dtype=F64)
    along = BoundaryConditions(left=Neumann(1.5, direction="x"), right=Neumann(0.5, direction="x"))
    outward = BoundaryConditions(left=Neumann(-1.5), right=Neumann(0.5))
    assert torch.equal(enforce(u, along), enforce(u, outward))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_stencils_follow_the_given_points(order: int) -> None:
    points = (0.3 + torch.rand(12, dtype=F64)).cumsum(0)
    u = (points**order - 2 * points).expand(1, 1, 12).clone()
    slope = [order * p ** (order - 1) - 2 for p in (points[0], points[-1])]
    bc = BoundaryConditions(left=Neumann(order=order), right=Neumann(order=order))
    wrong = u.clone()
    wrong[..., 0], wrong[..., -1] = 7.0, -7.0
    out = enforce(wrong, bc, {"left": -slope[0], "right": slope[1]}, grid=points)
    torch.testing.assert_close(out, u, rtol=1e-11, atol=1e-11)
    row = boundary_rules(bc, [12], points)["right"].row
    assert torch.equal(row, end_weights(points, order, upper=True))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_error_of_a_neumann_end_falls_with_the_order(order: int) -> None:
    errors = []
    for n in (33, 65):
        x = torch.linspace(0, 1, n, dtype=F64)
        u = torch.sin(2 * x)[None, None]
        bc = BoundaryConditions(right=Neumann(2 * float(torch.cos(torch.tensor(2.0, dtype=F64)))))
        bc = BoundaryConditions(right=Neumann(bc.values()["right"], order=order))
        errors.append(float((enforce(u, bc) - u).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2.0 ** (order + 1), rel=0.15)


CORNERS = BoundaryConditions(
    left=Dirichlet(1.0), right=Neumann(0.0, order=1), bottom=Dirichlet(3.0), top=Neumann(2.0)
)


def test_dirichlet_faces_own_their_corners_and_later_axes_those_among_equals() -> None:
    out = enforce(torch.zeros(1, 1, 9, 8, dtype=F64), CORNERS)[0, 0]
    assert torch.equal(out[0, 1:], torch.ones(7, dtype=F64))
    assert torch.equal(out[:, 0], torch.full((9,), 3.0, dtype=F64))
    swapped = ["top", "right", "bottom", "left"]
    assert enforce(torch.zeros(1, 1, 9, 8), CORNERS, corner=swapped)[0, 0, 0, 0] == 1.0


def test_corners_can_be_averaged_or_solved() -> None:
    u = torch.randn(2, 1, 9, 8, dtype=F64)
    last_x = enforce(u, CORNERS, corner=["bottom", "top", "left", "right"])
    last_y = enforce(u, CORNERS, corner=["left", "right", "bottom", "top"])
    average = enforce(u, CORNERS, corner="average")
    solve = enforce(u, CORNERS, corner="solve")
    both = [a[..., -1, -1] for a in (last_x, last_y)]
    torch.testing.assert_close(average[..., -1, -1], (both[0] + both[1]) / 2)
    rules = boundary_rules(CORNERS, (9, 8))
    weight = [float(rules[edge].row[0]) ** 2 for edge in ("right", "top")]
    least = (weight[0] * both[0] + weight[1] * both[1]) / sum(weight)
    torch.testing.assert_close(solve[..., -1, -1], least)
    # Two Dirichlet faces: their mean; Dirichlet against Neumann: the former.
    for out in (average, solve):
        assert torch.equal(out[..., 0, 0], torch.full((2, 1), 2.0, dtype=F64))
        assert torch.equal(out[..., 0, -1], torch.ones(2, 1, dtype=F64))


def test_consistent_corners_meet_both_conditions() -> None:
    x, y = torch.linspace(0, 1, 9, dtype=F64)[:, None], torch.linspace(0, 1, 8, dtype=F64)
    u = (x**2 + 3 * x * y - y**3)[None, None]
    bc = BoundaryConditions(right=Neumann(order=3), top=Neumann(order=3))
    values = {"right": 2 + 3 * y, "top": (3 * x - 3)[:, 0]}
    wrong = u + torch.zeros_like(u).index_fill(-1, torch.tensor(7), 1.0)
    for corner in ("priority", "average", "solve"):
        out = enforce(wrong, bc, values, corner=corner)
        torch.testing.assert_close(out, u, rtol=1e-12, atol=1e-12)
    assert float(corner_mismatch(wrong, bc, values)["right", "top"]) <= 1e-12


def test_mismatch_at_corners_is_reported() -> None:
    found = corner_mismatch(torch.zeros(1, 1, 9, 8), CORNERS)
    assert set(found) == {
        ("left", "bottom"),
        ("left", "top"),
        ("right", "bottom"),
        ("right", "top"),
    }
    assert float(found["left", "bottom"]) == 2.0


def test_enforcement_is_differentiable_in_field_and_data() -> None:
    case = CASES["all kinds in 2-D"]
    u = case.field(F64, channels=1, batch=1)[..., :7, :6].requires_grad_()
    bc = BoundaryConditions(
        left=Dirichlet(), right=Neumann(order=2), bottom=Periodic(0.3), top=Periodic(0.3)
    )
    g = [torch.randn(1, 1, 6, dtype=F64, requires_grad=True) for _ in range(2)]

    def run(field: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return enforce(field, bc, {"left": a, "right": b})

    assert torch.autograd.gradcheck(run, (u, *g))
    assert torch.autograd.gradgradcheck(run, (u, *g))


@pytest.mark.parametrize("corner", ["priority", "solve"])
def test_a_box_changes_over_time_as_at_every_time(corner: str) -> None:
    case = CASES["all kinds in 3-D"]
    times = 4
    u = torch.randn(3, 2, *case.sizes, times, dtype=F64)
    values = {
        e: torch.randn(*v.shape, times, dtype=F64)[:1] if e == "left" else v.unsqueeze(-1)
        for e, v in case.values(F64).items()
    }
    found = enforce(u, case.bc, values, corner=corner)
    for t in range(times):
        now = {e: v[..., t if v.shape[-1] == times else 0] for e, v in values.items()}
        assert torch.equal(found[..., t], enforce(u[..., t], case.bc, now, corner=corner))


U = torch.zeros(2, 1, 8)
BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: enforce(U[..., :4], BoundaryConditions(left=Neumann(0.0), right=Neumann(0.0))),
        ValueError,
        "at least 5 points along the axis of edge 'left' for a stencil of order 3, got 4",
    ),
    (
        lambda: enforce(U, BoundaryConditions(left=Robin(11 / 6 * 7, -1.0, 0.0))),
        ValueError,
        "Robin condition at 'left' to determine the end value",
    ),
    (
        lambda: enforce(U.int(), BoundaryConditions(left=Dirichlet(0.0))),
        TypeError,
        "floating-point tensor, got torch.int32",
    ),
    (
        lambda: enforce(U[0], BoundaryConditions(left=Dirichlet(0.0))),
        ValueError,
        r"a field \(batch, channels, \*space\) with at least 1 space axes",
    ),
    (
        lambda: enforce(U, BoundaryConditions(left=Dirichlet(0.0)), corner="last"),
        ValueError,
        "corner to be 'priority', 'average', 'solve' or a list of edges, got 'last'",
    ),
    (
        lambda: enforce(U, BoundaryConditions(left=Dirichlet(0.0)), corner=["left", "right"]),
        ValueError,
        "corner to list every edge with a condition once",
    ),
    (
        lambda: enforce(U, BoundaryConditions(left=Neumann(0.0)), grid=torch.arange(7.0)),
        ValueError,
        "8 grid points along the axis of edge 'left'",
    ),
    (
        lambda: enforce(U, BoundaryConditions(left=Neumann(0.0)), grid=-torch.arange(8.0)),
        ValueError,
        "grid points .* that ascend",
    ),
    (
        lambda: enforce(U, BoundaryConditions(left=Neumann(0.0)), grid=[0.0, 1.0]),  # type: ignore[list-item]
        TypeError,
        "grid to be a torch.Tensor or one per axis, got float",
    ),
    (
        lambda: enforce(U[..., :1], BoundaryConditions(left=Periodic(), right=Periodic())),
        ValueError,
        "at least 2 points along the axis of edge 'left', got 1",
    ),
    (
        lambda: enforce(U, Dirichlet(0.0)),  # type: ignore[arg-type]
        TypeError,
        "bc to be BoundaryConditions, got Dirichlet; name the edge",
    ),
]


@pytest.mark.parametrize("call,error,match", BAD)
def test_bad_calls_say_what_is_wrong(
    call: Callable[[], object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call()
