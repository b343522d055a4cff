# SPDX-License-Identifier: Apache-2.0
"""The published correction equals its literal many-call evaluation, quirk by quirk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
)
from physcon_ext.boundary.published import DEFAULT_QUIRKS, QUIRKS
from physcon_ext.functional import boundary_spectral_conv
from published_layer import (
    dirichlet_layer,
    fourier_layer,
    neumann_layer,
    periodic_layer,
)


F64 = torch.float64
SIZES = {1: ((64,), (8,)), 2: ((20, 13), (8, 4)), 3: ((10, 9, 8), (4, 4, 3))}
CHOICES = [DEFAULT_QUIRKS, frozenset(QUIRKS), frozenset(), *({q} for q in QUIRKS)]


def problem(dims: int, negative: bool = False) -> tuple[Tensor, Tensor]:
    sizes, modes = SIZES[dims]
    weight = torch.rand(*modes, 3, 3, 2, dtype=F64) / 9
    x = torch.randn(4, 3, *sizes, dtype=F64)
    return x, -weight if negative else weight


def assert_same(ours: Tensor, literal: Tensor) -> None:
    scale = float(literal.abs().max())
    assert float((ours - literal).abs().max()) <= 1e-12 * scale


@pytest.mark.parametrize("quirks", CHOICES, ids=lambda q: "+".join(sorted(q)) or "no quirk")
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_dirichlet_layer_is_the_published_one(dims: int, quirks: frozenset[str]) -> None:
    x, weight = problem(dims)
    bc = BoundaryConditions(left=Dirichlet(), right=Dirichlet())
    if dims == 3:
        bc = BoundaryConditions(
            left=Dirichlet(), right=Dirichlet(), bottom=Dirichlet(), top=Dirichlet()
        )
    sizes = SIZES[dims][0]
    values = {}
    for edge in bc.edges:
        axis = bc.edges.index(edge) // 2
        values[edge] = torch.randn(4, 1, *sizes[:axis], *sizes[axis + 1 :], dtype=F64)
    ours = boundary_spectral_conv(x, weight, bc, values, correction="published", quirks=quirks)
    pairs = list(values.values())
    faces = list(zip(pairs[::2], pairs[1::2], strict=True))
    assert_same(ours, dirichlet_layer(fourier_layer(weight), x, faces, quirks))


@pytest.mark.parametrize("quirks", CHOICES, ids=lambda q: "+".join(sorted(q)) or "no quirk")
@pytest.mark.parametrize("dims", [1, 2])
def test_neumann_layer_is_the_published_one(dims: int, quirks: frozenset[str]) -> None:
    x, weight = problem(dims)
    along = Neumann(order=3, direction="x")
    bc = BoundaryConditions(left=along, right=along)
    values = {edge: torch.randn(4, 1, *SIZES[dims][0][1:], dtype=F64) for edge in bc.edges}
    ours = boundary_spectral_conv(x, weight, bc, values, correction="published", quirks=quirks)
    literal = neumann_layer(
        fourier_layer(weight),
        x,
        (values["left"], values["right"]),
        1 / (SIZES[dims][0][0] - 1),
        quirks,
    )
    assert_same(ours, literal)


@pytest.mark.parametrize("dims", [1, 2])
def test_periodic_layer_is_the_published_one(dims: int) -> None:
    x, weight = problem(dims)
    bc = BoundaryConditions(left=Periodic(), right=Periodic())
    ours = boundary_spectral_conv(x, weight, bc, correction="published")
    assert_same(ours, periodic_layer(fourier_layer(weight), x))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_clamps_act_as_published(dims: int) -> None:
    """Weights so small or negative that pivots are replaced."""
    x, weight = problem(dims, negative=dims == 2)
    weight = weight if dims == 2 else weight * (1e-9 if dims == 1 else 1e-5)
    edges = dict.fromkeys(("left", "right", "bottom", "top")[: 4 if dims == 3 else 2], Dirichlet())
    bc = BoundaryConditions(**edges)
    values = dict.fromkeys(edges, 0.5)
    faces = [(torch.tensor(0.5), torch.tensor(0.5))] * (len(edges) // 2)
    for quirks in ({"clamps"}, set()):
        ours = boundary_spectral_conv(x, weight, bc, values, correction="published", quirks=quirks)
        assert_same(ours, dirichlet_layer(fourier_layer(weight), x, faces, quirks))


def test_derivatives_are_those_of_the_literal_layer() -> None:
    x, weight = problem(1)
    bc = BoundaryConditions(left=Dirichlet(0.0), right=Dirichlet(0.0))
    upstream = torch.randn(4, 3, 64, dtype=F64)
    grads = []
    for literal in (False, True):
        a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        if literal:
            zero = torch.zeros((), dtype=F64)
            y = dirichlet_layer(fourier_layer(w), a, [(zero, zero)], DEFAULT_QUIRKS)
        else:
            y = boundary_spectral_conv(a, w, bc, correction="published")
        grads.append(torch.autograd.grad((y * upstream).sum(), (a, w)))
    for ours, theirs in zip(*grads, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-11 * float(theirs.abs().max())


ONE = BoundaryConditions(left=Dirichlet(0.0))
BAD: list[tuple[Callable[[], object], str]] = [
    (
        lambda: boundary_spectral_conv(*problem(1), ONE, correction="published"),
        "the same kind at both ends",
    ),
    (
        lambda: boundary_spectral_conv(
            *problem(1),
            BoundaryConditions(left=Robin(1.0, 1.0, 0.0), right=Robin(1.0, 1.0, 0.0)),
            correction="published",
        ),
        "the same kind at both ends",
    ),
    (
        lambda: boundary_spectral_conv(
            *problem(3),
            BoundaryConditions(left=Neumann(0.0), right=Neumann(0.0)),
            correction="published",
        ),
        "use correction='exact'",
    ),
    (
        lambda: boundary_spectral_conv(
            *problem(1),
            BoundaryConditions(left=Dirichlet(0.0), right=Dirichlet(0.0)),
            correction="published",
            quirks={"slip"},
        ),
        r"quirks among .*got \['slip'\]",
    ),
]


@pytest.mark.parametrize("call,match", BAD)
def test_what_was_never_published_is_refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
