# SPDX-License-Identifier: Apache-2.0
"""Finite-volume steps on NumPy arrays: the bits of the operator, no copies, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from physcon_ext import core, ops
from physcon_ext.ops import Method


BATCH, STEPS = 3, 9


def case(method: Method, kinds: tuple[str, ...], rows: int, terms: int = 0) -> dict[str, Any]:
    """Arguments with edge values and sources that vary with item, step, stage and place."""
    random = np.random.default_rng(3)
    n, fields = 21, 2 if method.integrator == "verlet" else 1
    stages = {"euler": 1, "ssprk2": 2, "ssprk3": 3, "rkl2": method.stages}.get(method.integrator)
    stages = stages or {"backward_euler": 1, "tr_bdf2": 3, "verlet": 2}[method.integrator]
    state = np.zeros((BATCH, fields, 2, rows, n))
    state[:, 0, 0] = 1 + 0.5 * np.tanh(random.normal(size=(BATCH, rows, n)))
    edges = []
    for place, kind in enumerate(kinds):
        along = rows if place < 2 else n
        values = 0.5 + 0.1 * random.normal(size=(BATCH, STEPS, stages, along))
        edges.append(core.Edge(kind, None if kind in ("periodic", "outflow") else values, 0.7, 0.4))
    found: dict[str, Any] = {
        "state": state,
        "method": method,
        "spacing": [0.1, 0.13],
        "edges": edges,
        "dt": np.array([1e-3, 8e-4, 5e-4]),
        "steps": np.array([STEPS, 0, STEPS - 2]),
        "speed": random.normal(size=(BATCH, 2)),
        "diffusion": np.array([[0.3, 0.9], [0.2, 0.9], [0.4, 0.9]]),
    }
    if terms:
        found["shapes"] = random.normal(size=(BATCH, terms, rows, n))
        found["amplitudes"] = random.normal(size=(BATCH, STEPS, stages, terms))
    return found


@pytest.mark.parametrize(
    ("method", "kinds", "rows", "terms"),
    [
        (Method(transport="burgers"), ("periodic", "periodic"), 1, 0),
        (
            Method(transport="linear", scheme="weno5", integrator="ssprk3"),
            ("value", "outflow", "flux", "value"),
            5,
            0,
        ),
        (
            Method(transport="burgers", scheme="mc", integrator="ssprk2", diffusivity="constant"),
            ("mixed", "value"),
            1,
            2,
        ),
        (Method(diffusivity="power", integrator="rkl2", stages=5), ("value", "mixed"), 1, 0),
        (Method(diffusivity="constant", integrator="tr_bdf2"), ("value", "mixed"), 1, 1),
        (Method(diffusivity="threshold", average="shock"), ("value", "outflow"), 1, 0),
        (Method(diffusivity="constant", integrator="verlet"), ("mixed",) * 4, 4, 0),
    ],
    ids=lambda v: getattr(v, "integrator", None),
)
def test_numpy_arrays_give_the_bits_of_the_operator(
    method: Method, kinds: tuple[str, ...], rows: int, terms: int
) -> None:
    given = case(method, kinds, rows, terms)
    if method.average == "shock":
        given["state"][...] = 0.0
        given["state"][:, 0, 0, 0, :3] = [1.1, 1.0, 0.4]
    before = given["state"].copy()
    ours = core.balance_law(**given)
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
    tensors["edges"] = [
        ops.EdgeTable(e.kind, None if e.values is None else torch.from_numpy(e.values), e.a, e.b)
        for e in given["edges"]
    ]
    theirs = ops.balance_law(**tensors)
    for name in core.Marched._fields:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name).numpy(), name)
    np.testing.assert_array_equal(given["state"], before)
    # One dimension has no outer faces.
    assert ours.outer_flux.shape == (BATCH, rows + 1 if rows > 1 else 0, 21)


def test_shared_and_strided_tables_are_read_in_place() -> None:
    given = case(Method(transport="linear"), ("value", "value"), 1)
    full = core.balance_law(
        **{**given, "edges": [core.Edge("value", np.full((BATCH, STEPS, 1, 1), 0.3))] * 2,
           "speed": np.tile([[0.7, 0.0]], (BATCH, 1))}
    )  # fmt: skip
    backwards = np.full((1, 1, 1, 7), 0.3)[..., ::-3][..., :1]
    shared = core.balance_law(
        **{**given, "edges": [core.Edge("value", backwards)] * 2, "speed": np.array([[0.7, 0.0]])}
    )
    np.testing.assert_array_equal(full.state, shared.state)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"state": np.zeros((3, 1, 1, 21))}, ValueError, r"expected state to be \(batch, 1, 2"),
        ({"state": np.zeros((3, 1, 2, 1, 3))}, ValueError, "expected n to be >= 4, got 3"),
        ({"state": np.zeros((3, 1, 2, 1, 21), np.float32)}, TypeError, "state to have dtype"),
        ({"state": np.zeros((3, 1, 2, 1, 42))[..., ::2]}, ValueError, "to be C-contiguous"),
        ({"spacing": [0.0]}, ValueError, "expected spacings > 0"),
        ({"steps": np.array([1, -1, 1])}, ValueError, "expected steps to be >= 0, got -1"),
        ({"steps": np.array([1.0, 1.0, 1.0])}, TypeError, "steps to have dtype int64"),
        ({"edges": [core.Edge("periodic")]}, ValueError, "1 spacing.s. and 2 edges"),
        (
            {"edges": [core.Edge("periodic"), core.Edge("outflow")]},
            ValueError,
            "expected both edges of an axis to be periodic or none",
        ),
        (
            {"edges": [core.Edge("value", np.ones((2, 1, 1, 1))), core.Edge("outflow")]},
            ValueError,
            "expected the values of edge 0 to be",
        ),
        (
            {"method": Method(transport="linear", diffusivity="constant")},
            ValueError,
            "expected diffusion for constant, got None",
        ),
        (
            {"method": Method(transport="linear", integrator="rkl2", stages=4)},
            ValueError,
            "an odd number >= 3",
        ),
        (
            {"method": Method(transport="linear", integrator="tr_bdf2")},
            ValueError,
            "expected implicit steps for diffusion alone in one dimension",
        ),
        ({"shapes": np.ones((3, 9, 1, 21))}, ValueError, "expected at most 8 source terms"),
    ],
)
def test_what_does_not_fit_is_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = case(Method(transport="linear"), ("periodic", "periodic"), 1)
    given["diffusion"] = None
    if "shapes" in change:
        change = {**change, "amplitudes": np.ones((1, 1, 1, 9))}
    with pytest.raises(error, match=message):
        core.balance_law(**{**given, **change})
