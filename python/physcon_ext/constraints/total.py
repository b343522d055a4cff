# SPDX-License-Identifier: Apache-2.0
"""One row: the integral of the field over the domain."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.checks import check_dtype
from physcon_ext.constraints.linear import LinearConstraint, as_like, one_row
from physcon_ext.constraints.quadrature import Rule, quadrature


def total(
    x: Tensor | Sequence[Tensor] | None,
    b: Tensor | float,
    *,
    rule: Rule = "trapezoid",
    volumes: Tensor | None = None,
    domain: tuple[float, float] | None = None,
    allow_partial: bool = False,
    noise_variance: Tensor | float = 0.0,
    name: str = "total",
    validate: bool = True,
) -> LinearConstraint:
    r"""The total is known: :math:`\sum_i w_i u_i = b`.

    Args:
        x: Points ``(n,)`` or ``(*batch, n)`` in any order; the ``n + 1`` cell edges for
            ``rule="cell"``; one tensor ``(n,)`` per axis of a grid, whose points count in the order
            of ``flatten()``; None when ``volumes`` are given.
        b: The total, a number, ``()`` or ``(*batch,)``, in the unit of ``u`` times that of ``x``.
        rule: See `quadrature`. A rule for points leaves the quadrature error of the true field
            in the constraint: use cell averages with ``"cell"`` or ``volumes`` where you can.
        volumes: Volumes of the cells instead of ``x`` and a rule, of any shape; 2-D and 3-D cells
            are counted in the order of ``flatten()``. A cell of volume 0 takes no part.
        domain: Interval that the points must span; of a grid every axis.
        allow_partial: Accept points that do not reach the ends of the domain.
        noise_variance: Variance of ``b``, a number, ``()`` or ``(*batch,)``; 0 holds exactly.
        name: Name of the row in messages.
        validate: Check values.

    Returns:
        A constraint of one row.

    Raises:
        TypeError, ValueError: See `quadrature` and `LinearConstraint`.

    Example:
        >>> import torch
        >>> total(torch.linspace(0, 1, 5), 0.5).rows
        tensor([[0.1250, 0.2500, 0.2500, 0.2500, 0.1250]])
    """
    if (x is None) == (volumes is None):
        got = "neither" if x is None else "both"
        raise ValueError(f"total: expected exactly one of x and volumes, got {got}")
    if volumes is not None:
        check_dtype("total", "volumes", volumes)
        weights = volumes.flatten()
    elif isinstance(x, Tensor):
        weights = quadrature(x, rule=rule, domain=domain, allow_partial=allow_partial)
    elif x is not None:
        axes = [
            quadrature(points, rule=rule, domain=domain, allow_partial=allow_partial)
            for points in x
        ]
        weights = functools.reduce(torch.outer, axes).flatten()
    target, noise = one_row(as_like("total", "b", b, weights), noise_variance)
    return LinearConstraint(weights[..., None, :], target, noise, names=name, validate=validate)
