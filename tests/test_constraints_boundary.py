# SPDX-License-Identifier: Apache-2.0
"""Boundary conditions as rows of a constraint."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import physcon_ext as px
from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    Robin,
    enforce,
)
from physcon_ext.constraints import boundary


F64 = torch.float64
X = torch.linspace(0, 2, 9, dtype=F64)


def test_rows_vanish_on_enforced_fields() -> None:
    bc = BoundaryConditions(
        left=Robin(1.0, 0.5, 2.0),
        right=Outflow(),
        bottom=Dirichlet(),
        top=Neumann(1.0, order=2),
        extent=(2.0, 1.0),
    )
    y = torch.linspace(0, 1, 7, dtype=F64)
    g = torch.randn(3, 9, dtype=F64)
    u = enforce(torch.randn(3, 1, 9, 7, dtype=F64), bc, {"bottom": g[:, None]})
    law = boundary([X, y], bc, {"y_lo": g})
    residual = law.residual(u.flatten(1))
    off = [k for k, name in enumerate(law.names) if not name.endswith(("[0]", "[8]", "[6]"))]
    assert residual.shape == (3, 2 * 7 + 2 * 9)
    assert float(residual[:, off].abs().max()) <= 1e-12


def test_rows_are_those_of_the_given_points() -> None:
    points = torch.tensor([0.0, 1.0, 3.0, 4.0], dtype=F64)
    law = boundary(points, BoundaryConditions(right=Neumann(2.0, order=2)))
    u = points**2 - 6 * points + 1  # slope 2 at the end
    assert float(law.residual(u).abs().max()) <= 1e-14


def test_periodic_rows_tie_the_ends() -> None:
    law = boundary(X, BoundaryConditions(left=Periodic(), right=Periodic()))
    field = px.GaussianField(torch.randn(9, dtype=F64), torch.ones(9, dtype=F64))
    post = px.conserve(field, law).mean
    assert float((post[0] - post[-1]).abs()) <= 1e-15
    assert torch.equal(post[1:-1], field.mean[1:-1])


def test_values_per_sample_and_along_the_edge() -> None:
    one = boundary(X, BoundaryConditions(left=Dirichlet()), {"left": torch.ones(5, dtype=F64)})
    assert one.batch_shape == (5,)
    edge = torch.randn(4, 7, dtype=F64)
    axes = [X, torch.linspace(0, 1, 7, dtype=F64)]
    two = boundary(axes, BoundaryConditions(right=Dirichlet()), {"right": edge})
    assert torch.equal(two.target, edge)
    assert two.names[:2] == ("right[0]", "right[1]")


def test_contradictory_corners_are_refused_by_conserve() -> None:
    bc = BoundaryConditions(left=Dirichlet(1.0), bottom=Dirichlet(2.0))
    law = boundary([X, X], bc)
    field = px.GaussianField(torch.zeros(81, dtype=F64), torch.ones(81, dtype=F64))
    with pytest.raises(ValueError, match=r"bottom\[0\]"):
        px.conserve(field, law)
    agreed = boundary([X, X], bc, {"left": 2.0})
    assert float(px.conserve(field, agreed).mean.reshape(9, 9)[0, 0]) == pytest.approx(2.0)


def test_given_values_win_over_functions_of_time() -> None:
    law = boundary(X, BoundaryConditions(left=Dirichlet(lambda t: t)), {"left": 2.0})
    assert law.target.tolist() == [2.0]


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: boundary(X, BoundaryConditions()), ValueError, "at least one edge"),
    (
        lambda: boundary(X, BoundaryConditions(left=Dirichlet())),
        ValueError,
        "a value for edge 'left', got none",
    ),
    (
        lambda: boundary(X, BoundaryConditions(top=Dirichlet(0.0))),
        ValueError,
        "at least 2 space axes for edge 'top', got 1",
    ),
    (
        lambda: boundary(X[None], BoundaryConditions(left=Dirichlet(0.0))),
        ValueError,
        r"points of axis 0 to have shape \(n,\)",
    ),
    (
        lambda: boundary(
            [X, X], BoundaryConditions(left=Dirichlet()), {"left": torch.ones(4, dtype=F64)}
        ),
        ValueError,
        r"broadcast to \(\*batch, \*edge\) with edge \(9,\), got shape \(4,\)",
    ),
    (
        lambda: boundary(X, BoundaryConditions(left=Dirichlet(0.0)), {"up": 1.0}),
        TypeError,
        "an edge among",
    ),
    (
        lambda: boundary(X, Dirichlet(0.0)),  # type: ignore[arg-type]
        TypeError,
        "bc to be BoundaryConditions, got Dirichlet",
    ),
    (
        lambda: boundary(X, BoundaryConditions(left=Dirichlet()), {"left": True}),
        TypeError,
        "edge 'left' to be a number or a torch.Tensor, got bool",
    ),
    (
        lambda: boundary(X, BoundaryConditions(left=Dirichlet(lambda t: t))),
        ValueError,
        "a value for edge 'left', got a function of time; give values",
    ),
]


@pytest.mark.parametrize("call,error,match", BAD)
def test_bad_calls_say_what_is_wrong(
    call: Callable[[], object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call()
