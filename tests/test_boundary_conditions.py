# SPDX-License-Identifier: Apache-2.0
"""The boundary vocabulary: kinds, edges, values and one-sided differences."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch

from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
    boundary_values,
    derivative_weights,
    end_weights,
    outward_weights,
)


# Textbook weights of the outward derivative, times the spacing.
TABLE = {
    1: [1, -1],
    2: [3 / 2, -2, 1 / 2],
    3: [11 / 6, -3, 3 / 2, -1 / 3],
    4: [25 / 12, -4, 3, -4 / 3, 1 / 4],
    5: [137 / 60, -5, 5, -10 / 3, 5 / 4, -1 / 5],
    6: [147 / 60, -6, 15 / 2, -20 / 3, 15 / 4, -6 / 5, 1 / 6],
}


@pytest.mark.parametrize("order", list(TABLE))
def test_uniform_weights_are_those_of_the_table(order: int) -> None:
    expected = torch.tensor(TABLE[order], dtype=torch.float64)
    torch.testing.assert_close(outward_weights(order), expected, rtol=4e-15, atol=0)
    torch.testing.assert_close(outward_weights(order, 0.1), expected / 0.1, rtol=4e-15, atol=0)


@pytest.mark.parametrize("order", range(1, 9))
@pytest.mark.parametrize("upper", [False, True])
def test_end_weights_are_exact_for_polynomials_on_any_grid(order: int, upper: bool) -> None:
    gaps = 0.5 + torch.rand(order + 3, dtype=torch.float64)
    points = gaps.cumsum(0) / gaps.sum()
    weights = end_weights(points, order, upper=upper)
    inwards = points.flip(0) if upper else points
    sign = 1.0 if upper else -1.0
    for degree in range(order + 1):
        values = inwards[: order + 1] ** degree
        slope = sign * degree * inwards[0] ** max(degree - 1, 0) if degree else 0.0
        scale = float((weights.abs() * values.abs()).sum())
        assert abs(float((weights * values).sum() - slope)) <= 1e-14 * scale


def test_higher_derivatives_and_interpolation_are_exact() -> None:
    points = torch.tensor([0.3, -0.2, 1.1, 0.7, 2.0], dtype=torch.float64)
    cubic = 2 * points**3 - points
    assert float((derivative_weights(points, 0.5, 0) * cubic).sum()) == pytest.approx(-0.25)
    assert float((derivative_weights(points, 0.5, 2) * cubic).sum()) == pytest.approx(6.0)
    assert float((derivative_weights(points, 0.5, 3) * cubic).sum()) == pytest.approx(12.0)


def test_edges_have_two_names_and_a_fixed_order() -> None:
    one = BoundaryConditions(top=Neumann(), left=Dirichlet())
    other = BoundaryConditions(y_hi=Neumann(), x_lo=Dirichlet())
    assert one.edges == other.edges == ("left", "top")
    assert one.n_axes == 2
    assert isinstance(one["x_lo"], Dirichlet) and one["x_hi"] is None
    assert one.axis(1)[0] is None and isinstance(one.axis(1)[1], Neumann)


def test_values_come_from_the_condition_the_call_or_a_function_of_time() -> None:
    bc = BoundaryConditions(left=Dirichlet(lambda t: 3 * t), right=Neumann(1.0), top=Outflow())
    assert bc.values(2.0) == {"left": 6.0, "right": 1.0}
    u = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    found = boundary_values(bc, {"x_lo": torch.arange(5.0), "right": 7}, u, n_axes=2)
    assert found["left"].shape == (1, 1, 5) and found["left"].dtype == torch.float64
    assert found["right"].item() == 7 and found["top"].item() == 0
    assert boundary_values(bc.at(2.0), None, u, n_axes=2)["left"].item() == 6


@pytest.mark.parametrize("shape", [(), (2, 1, 1), (3, 1), (5,), (2, 1, 5), (2, 3, 5), (1, 3, 1)])
def test_values_broadcast_over_samples_channels_and_the_edge(shape: tuple[int, ...]) -> None:
    value = torch.randn(shape)
    bc = BoundaryConditions(left=Dirichlet())
    found = boundary_values(bc, {"left": value}, torch.zeros(2, 3, 4, 5), n_axes=2)["left"]
    assert found.ndim == 3
    assert torch.equal(found.expand(2, 3, 5), value.expand(2, 3, 5))


def test_conditions_survive_copies() -> None:
    bc = BoundaryConditions(
        left=Robin(1.0, 2.0, torch.ones(2, 1)), right=Dirichlet(3.0), extent=(2.0,)
    )
    for twin in (copy.deepcopy(bc), pickle.loads(pickle.dumps(bc))):
        assert repr(twin) == repr(bc)
        assert twin.extent(0) == 2.0


U = torch.zeros(4, 2, 8)
LEFT = BoundaryConditions(left=Dirichlet())
BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Neumann(order=0), ValueError, "Neumann: expected order to be >= 1, got 0"),
    (lambda: Neumann(order=2.0), TypeError, "order to be an integer, got float"),  # type: ignore[arg-type]
    (lambda: Neumann(direction="in"), ValueError, "direction to be 'outward' or 'x', got 'in'"),  # type: ignore[arg-type]
    (lambda: Robin(0, 0), ValueError, "a or b to differ from 0"),
    (lambda: Robin(float("nan"), 1), ValueError, "a to be finite, got nan"),
    (lambda: Dirichlet("1"), TypeError, "value to be a number, a torch.Tensor"),  # type: ignore[arg-type]
    (lambda: Dirichlet(float("inf")), ValueError, "value to be finite, got inf"),
    (lambda: Periodic(2.0), ValueError, r"share to be in \[0, 1\], got 2.0"),
    (lambda: BoundaryConditions(left=Periodic()), ValueError, "at 'left' and not at 'right'"),
    (
        lambda: BoundaryConditions(bottom=Dirichlet(), top=Periodic()),
        ValueError,
        "at 'top' and not at 'bottom'",
    ),
    (
        lambda: BoundaryConditions(left=Dirichlet(), x_lo=Dirichlet()),
        ValueError,
        "edge 'left' once, got it again as 'x_lo'",
    ),
    (lambda: BoundaryConditions(up=Dirichlet()), TypeError, "an edge among left, .*got 'up'"),
    (lambda: BoundaryConditions(left=1.0), TypeError, "left to be Dirichlet.*got float"),  # type: ignore[arg-type]
    (lambda: BoundaryConditions(extent=0.0), ValueError, "extent to be positive"),
    (lambda: BoundaryConditions(extent="1"), TypeError, "extent to be a number or one per axis"),  # type: ignore[arg-type]
    (
        lambda: BoundaryConditions(left=Dirichlet(lambda t: t)).values(),
        ValueError,
        "a time for edge 'left'",
    ),
    (
        lambda: boundary_values(BoundaryConditions(left=Dirichlet()), None, U, n_axes=1),
        ValueError,
        r"a value for edge 'left' \(Dirichlet\), got none",
    ),
    (
        lambda: boundary_values(BoundaryConditions(left=Outflow()), {"left": 1}, U, n_axes=1),
        ValueError,
        r"'left', which has a condition \(outflow\) without a value",
    ),
    (
        lambda: boundary_values(BoundaryConditions(left=Dirichlet(0)), {"right": 1}, U, n_axes=1),
        ValueError,
        "'right', which has no condition",
    ),
    (
        lambda: boundary_values(
            BoundaryConditions(left=Dirichlet()), {"left": torch.ones(4)}, U, n_axes=1
        ),
        ValueError,
        r"edge 'left' to broadcast to .*= \(4, 2\), got shape \(4,\); one value per sample has "
        r"shape \(4, 1\)",
    ),
    (
        lambda: boundary_values(BoundaryConditions(top=Dirichlet(0)), None, U, n_axes=1),
        ValueError,
        "at least 2 space axes for edge 'top', got 1",
    ),
    (
        lambda: boundary_values(LEFT, torch.ones(2), U, n_axes=1),  # type: ignore[arg-type]
        TypeError,
        "values by edge, as in .*, got Tensor",
    ),
    (
        lambda: boundary_values(LEFT, {"left": float("nan")}, U, n_axes=1),
        ValueError,
        "edge 'left' to be finite, got nan",
    ),
    (
        lambda: boundary_values(LEFT, {"left": torch.ones(1) * 1j}, U, n_axes=1),
        TypeError,
        "edge 'left' to be a real dense tensor, got torch.complex64",
    ),
    (
        lambda: boundary_values(LEFT, {"left": U.numpy()}, U, n_axes=1),  # type: ignore[dict-item]
        TypeError,
        "a torch.Tensor, got ndarray; torch.as_tensor makes one",
    ),
    (lambda: derivative_weights([0.0, 0.0], 0.0), ValueError, "distinct points"),
    (lambda: derivative_weights([0.0], 0.0), ValueError, "more than 1 points"),
    (lambda: end_weights(torch.arange(3.0), 3, upper=True), ValueError, "more than 3 points"),
    (lambda: outward_weights(1, 0.0), ValueError, "spacing to be > 0"),
]


@pytest.mark.parametrize("call,error,match", BAD)
def test_bad_calls_say_what_is_wrong(
    call: Callable[[], object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call()
