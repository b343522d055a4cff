# SPDX-License-Identifier: Apache-2.0
"""Gains of the published elimination: the written-out steps, derivatives, registration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap
from torch.library import opcheck

from op_suite import deviation, normal, same_bits, seeded
from physcon_ext import ops, reference
from physcon_ext.ops.composite import COMPOSITES


# (Q, C, parts) and (tolerance, modulus, slip): nothing, the pivot or both are replaced.
SHAPES = [(1, 3, 1), (1, 5, 1), (4, 3, 2)]
OPTIONS = [
    (0.0, True, 0.0),
    (1e-7, True, 2.0),
    (0.7, True, 0.5),
    (50.0, True, 2.0),
    (1e-4, False, 0.0),
]
Options = tuple[float, bool, float]


def blocks(shape: tuple[int, int, int]) -> Tensor:
    q, c, parts = shape
    found = normal(seeded("blocks", shape), 3, q, c, c, *(() if parts == 1 else (2,)))
    # K_00 about 3, K_N0 and K_0N about 1: neither pivot is near 0 or near a tolerance.
    first = found if parts == 1 else found[..., 0]
    wanted = torch.tensor([3.0, 1.0, -1.2], dtype=torch.float64)
    first[:, 0, :, 0] += ((wanted - first[:, 0, :, 0].sum(-1)) / c)[:, None]
    return found


def gain(response: Tensor, options: Options) -> Tensor:
    tolerance, modulus, slip = options
    return ops.two_step_gain(response, tolerance=tolerance, modulus=modulus, slip=slip)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_agrees_with_the_reference_and_the_composite(
    shape: tuple[int, int, int], options: Options
) -> None:
    response = blocks(shape)
    tolerance, modulus, slip = options
    found = gain(response, options)
    expected = reference.two_step_gain(response, tolerance=tolerance, modulus=modulus, slip=slip)
    assert deviation(found, expected) <= 1e-14
    composite = COMPOSITES["two_step_gain"](response, *options)
    assert composite.stride() == found.stride() and deviation(found, composite) <= 1e-14
    up = normal(seeded("up", shape), *found.shape)
    pulled = torch.ops.physcon.two_step_gain_backward(up, response, *options)
    other = COMPOSITES["two_step_gain_backward"](up, response, *options)
    assert other.stride() == pulled.stride() and deviation(pulled, other) <= 1e-13


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_derivatives(shape: tuple[int, int, int], options: Options) -> None:
    response = blocks(shape).requires_grad_()

    def function(r: Tensor) -> Tensor:
        return gain(r, options)

    assert gradcheck(function, (response,), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, (response,), fast_mode=True)


def test_transforms_agree_with_calls_one_by_one() -> None:
    many = torch.stack([blocks(SHAPES[2]) * s for s in (1.0, 0.5, -2.0)])
    found = vmap(lambda r: gain(r, OPTIONS[1]))(many)
    assert deviation(found, torch.stack([gain(r, OPTIONS[1]) for r in many])) <= 1e-14

    def loss(r: Tensor) -> Tensor:
        return (gain(r, OPTIONS[1]) ** 3).sum()

    leaf = many[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    assert deviation(grad(loss)(many[0]), expected) <= 1e-12


@pytest.mark.parametrize("recorded", [False, True])
def test_the_raw_ops_are_registered_correctly(recorded: bool) -> None:
    response = blocks(SHAPES[2]).requires_grad_(recorded)
    opcheck(torch.ops.physcon.two_step_gain.default, (response, *OPTIONS[1]))
    up = gain(response, OPTIONS[1]).detach()
    opcheck(torch.ops.physcon.two_step_gain_backward.default, (up, response.detach(), *OPTIONS[1]))


def test_compiled_without_a_graph_break_and_on_any_number_of_threads() -> None:
    response = blocks((6, 40, 2)).requires_grad_()
    compiled = torch.compile(lambda r: gain(r, OPTIONS[1]), fullgraph=True, backend="aot_eager")
    y = gain(response, OPTIONS[1])
    same_bits([compiled(response)], [y])
    pulled = torch.autograd.grad(y.sum(), response)
    same_bits(torch.autograd.grad(compiled(response).sum(), response), pulled)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        same_bits([gain(response, OPTIONS[1])], [y])
    finally:
        torch.set_num_threads(before)


_R = torch.zeros(3, 1, 2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (_R.float(), TypeError, "float64 tensor, got torch.float32"),
        (_R[:2], ValueError, r"\(3, Q, C, C\)"),
        (_R[..., :1], ValueError, r"got \(3, 1, 2, 1\)"),
    ],
)
def test_bad_input_is_named(response: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.two_step_gain(response)
    with pytest.raises(RuntimeError, match="expected response to be float64 of shape"):
        torch.ops.physcon.two_step_gain(response, 0.0, True, 0.0)
