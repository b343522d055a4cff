# SPDX-License-Identifier: Apache-2.0
"""Quadrature weights on points in any order, or on cells."""

from typing import Literal, get_args

import torch
from torch import Tensor

from physcon_ext.checks import check_dtype, check_finite, first_index, fmt


Rule = Literal["trapezoid", "right", "simpson", "midpoint", "cell"]


def quadrature(
    x: Tensor,
    *,
    rule: Rule = "trapezoid",
    domain: tuple[float, float] | None = None,
    allow_partial: bool = False,
) -> Tensor:
    r"""Weights ``w`` with ``sum(w * u)`` an approximation of the integral of ``u``.

    Args:
        x: Points ``(..., n)`` in any order, or for ``rule="cell"`` the ``n + 1`` edges of the
            cells in ascending order.
        rule: ``"trapezoid"``; ``"right"`` (the width of the interval to the left of a point);
            ``"simpson"`` (parabolas on pairs of intervals, non-uniform; for an odd number of
            intervals the last one takes the parabola through the last three points; exact for
            quadratics); ``"midpoint"`` (points are cell centres, edges half-way between them,
            the outer ones mirrored or at the ends of the domain); ``"cell"`` (cell averages:
            the widths, exact).
        domain: Interval that the points must span.
        allow_partial: Accept points that do not reach the ends of the domain.

    Returns:
        Weights in the order of the points, ``(..., n)``, in the unit of ``x``.

    Raises:
        TypeError: If ``x`` is not a float32 or float64 tensor.
        ValueError: If the rule is unknown, there are too few points, points coincide where the
            rule forbids it, or the points do not span the domain.

    Example:
        >>> quadrature(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.5000, 1.5000, 1.0000])
    """
    who = "quadrature"
    check_dtype(who, "x", x)
    if rule not in get_args(Rule):
        raise ValueError(f"{who}: expected rule to be one of {get_args(Rule)}, got {rule!r}")
    least = {"simpson": 3, "cell": 2, "midpoint": 1 if domain else 2}.get(rule, 2)
    if x.ndim == 0 or x.shape[-1] < least:
        raise ValueError(
            f"{who}: expected x to have at least {least} points for rule {rule!r}, "
            f"got shape {tuple(x.shape)}"
        )
    check_finite(who, "x", x)
    nodes, place = x.double().sort(dim=-1, stable=True)
    if domain is not None and rule != "midpoint" and not allow_partial:
        _check_span(who, nodes, domain)
    gaps = nodes.diff(dim=-1)
    if rule == "cell":
        if bool((x.diff(dim=-1) <= 0).any()):
            index = first_index(x.diff(dim=-1) <= 0)
            following = (*index[:-1], index[-1] + 1)
            raise ValueError(
                f"{who}: expected the cell edges x to ascend, got {fmt(x[index])} followed by "
                f"{fmt(x[following])} at index {index[-1]}"
            )
        return gaps.to(x.dtype)
    if rule == "trapezoid":
        weights = _half_sums(gaps)
    elif rule == "right":
        weights = torch.nn.functional.pad(gaps, (1, 0))
    elif rule == "simpson":
        if bool((gaps <= 0).any()):
            index = first_index(gaps <= 0)
            raise ValueError(
                f"{who}: expected the points x to be distinct for rule 'simpson', "
                f"got {fmt(nodes[index])} twice"
            )
        weights = _simpson(gaps)
    else:
        weights = _midpoint(nodes, gaps, domain)
    return torch.empty_like(weights).scatter_(-1, place, weights).to(x.dtype)


def _half_sums(gaps: Tensor) -> Tensor:
    pad = torch.nn.functional.pad
    return (pad(gaps, (1, 0)) + pad(gaps, (0, 1))) / 2


def _midpoint(nodes: Tensor, gaps: Tensor, domain: tuple[float, float] | None) -> Tensor:
    inner = (nodes[..., 1:] + nodes[..., :-1]) / 2
    if domain is None:
        low, high = nodes[..., :1] - gaps[..., :1] / 2, nodes[..., -1:] + gaps[..., -1:] / 2
    else:
        low, high = (
            torch.full_like(nodes[..., :1], domain[0]),
            torch.full_like(nodes[..., :1], domain[1]),
        )
    return torch.cat([low, inner, high], -1).diff(dim=-1)


def _simpson(gaps: Tensor) -> Tensor:
    """Integrate the parabola through three points, for pairs of gaps ``h0, h1``."""
    odd = gaps.shape[-1] % 2
    even = gaps[..., : gaps.shape[-1] - odd]
    h0, h1 = even[..., 0::2], even[..., 1::2]
    both = h0 + h1
    weights = gaps.new_zeros(*gaps.shape[:-1], gaps.shape[-1] + 1)
    last = even.shape[-1]
    weights[..., 0:last:2] += both / 6 * (2 - h1 / h0)
    weights[..., 1:last:2] += both**3 / (6 * h0 * h1)
    weights[..., 2 : last + 1 : 2] += both / 6 * (2 - h0 / h1)
    if odd:  # the parabola through the last three points, over the last gap only
        h0, h1 = gaps[..., -2], gaps[..., -1]
        weights[..., -1] += h1 * (2 * h1 + 3 * h0) / (6 * (h0 + h1))
        weights[..., -2] += h1 * (h1 + 3 * h0) / (6 * h0)
        weights[..., -3] -= h1**3 / (6 * h0 * (h0 + h1))
    return weights


def _check_span(who: str, nodes: Tensor, domain: tuple[float, float]) -> None:
    low, high = float(domain[0]), float(domain[1])
    slack = 1e-6 * (high - low)
    first, last = nodes[..., 0], nodes[..., -1]
    if bool(((first - low).abs() > slack).any()) or bool(((last - high).abs() > slack).any()):
        raise ValueError(
            f"{who}: expected x to span the domain ({fmt(low)}, {fmt(high)}), got points from "
            f"{fmt(first.max())} to {fmt(last.min())}; pass allow_partial=True if that is meant"
        )
