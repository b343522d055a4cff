# SPDX-License-Identifier: Apache-2.0
"""One-sided finite-difference weights on any points (B. Fornberg, Math. Comp. 51, 1988)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def derivative_weights(points: Sequence[float] | Tensor, at: float, derivative: int = 1) -> Tensor:
    r"""Weights of the derivative of the polynomial through given points.

    .. math:: u^{(r)}(x_0) \approx \sum_j w_j\, u(p_j), \qquad
              \text{exact for polynomials of degree} \le q

    Args:
        points: ``q + 1`` distinct points in any order, ``q >= derivative``.
        at: The point :math:`x_0`, in the unit of the points.
        derivative: ``r``, at least 0.

    Returns:
        ``(q + 1,)`` float64 weights on the CPU, in the inverse ``r``-th power of the unit.

    Raises:
        ValueError: If there are too few points or two of them coincide.

    Example:
        >>> derivative_weights([0.0, 1.0, 2.0], 0.0)
        tensor([-1.5000,  2.0000, -0.5000], dtype=torch.float64)
    """
    values = points.detach().double().cpu().tolist() if isinstance(points, Tensor) else points
    return torch.tensor(_fornberg([float(v) for v in values], at, derivative), dtype=torch.float64)


def _fornberg(p: Sequence[float], at: float, derivative: int) -> list[float]:
    """The recursion, on numbers: nothing for a tracer to see."""
    who = "derivative_weights"
    if derivative < 0:
        raise ValueError(f"{who}: expected derivative to be >= 0, got {derivative}")
    if len(p) <= derivative:
        raise ValueError(
            f"{who}: expected more than {derivative} points for derivative {derivative}, "
            f"got {len(p)}"
        )
    if len(set(p)) != len(p):
        raise ValueError(f"{who}: expected distinct points, got {p}")
    # w[j][r] weights the value at p[j] in derivative r of the polynomial through p[0..i].
    w = [[0.0] * (derivative + 1) for _ in p]
    w[0][0] = 1.0
    scale, distance = 1.0, p[0] - at
    for i in range(1, len(p)):
        last, distance, product = distance, p[i] - at, 1.0
        for j in range(i):
            gap = p[i] - p[j]
            product *= gap
            if j == i - 1:
                for r in range(derivative, 0, -1):
                    w[i][r] = scale * (r * w[j][r - 1] - last * w[j][r]) / product
                w[i][0] = -scale * last * w[j][0] / product
            for r in range(derivative, 0, -1):
                w[j][r] = (distance * w[j][r] - r * w[j][r - 1]) / gap
            w[j][0] = distance * w[j][0] / gap
        scale = product
    return [row[derivative] for row in w]


def outward_weights(order: int, spacing: float = 1.0) -> Tensor:
    r"""Weights of the outward derivative at the end of a uniform grid.

    .. math:: \partial_n u \approx \frac1h \sum_{j=0}^{q} s_j u^{(j)} + O(h^q), \qquad
              u^{(j)} \text{ being the value } j \text{ points inwards}

    The same weights serve both ends: the mirror image changes the sign of the derivative along
    the axis, and so does the outward normal.

    Args:
        order: ``q``, at least 1.
        spacing: ``h > 0``.

    Returns:
        ``(q + 1,)`` float64, ``s / h``.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> outward_weights(2)
        tensor([ 1.5000, -2.0000,  0.5000], dtype=torch.float64)
    """
    return torch.tensor(uniform_row(order, spacing), dtype=torch.float64)


def uniform_row(order: int, spacing: float) -> tuple[float, ...]:
    """Return `outward_weights` as numbers."""
    if order < 1:
        raise ValueError(f"outward_weights: expected order to be >= 1, got {order}")
    if not spacing > 0.0:
        raise ValueError(f"outward_weights: expected spacing to be > 0, got {spacing}")
    return tuple(-w / spacing for w in _fornberg([float(j) for j in range(order + 1)], 0.0, 1))


def end_weights(points: Tensor, order: int, *, upper: bool) -> Tensor:
    """Weights of the outward derivative at one end of an ascending grid.

    Args:
        points: ``(n,)``, ascending, ``n > order``; spacing of any kind.
        order: Number of points besides the end point.
        upper: The end with the largest point, otherwise the one with the smallest.

    Returns:
        ``(order + 1,)`` float64; entry ``j`` weights the value ``j`` points inwards.

    Raises:
        ValueError: If there are too few points.

    Example:
        >>> end_weights(torch.tensor([0.0, 1.0, 3.0]), 1, upper=True)
        tensor([ 0.5000, -0.5000], dtype=torch.float64)
    """
    return torch.tensor(end_row(points, order, upper=upper), dtype=torch.float64)


def end_row(points: Tensor, order: int, *, upper: bool) -> tuple[float, ...]:
    """Return `end_weights` as numbers."""
    if points.shape[0] <= order:
        raise ValueError(
            f"end_weights: expected more than {order} points for a stencil of order {order}, "
            f"got {points.shape[0]}"
        )
    ends = points.detach().double().flip(0) if upper else points.detach().double()
    near = ends[: order + 1].cpu().tolist()
    return tuple(w if upper else -w for w in _fornberg(near, near[0], 1))
