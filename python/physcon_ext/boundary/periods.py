# SPDX-License-Identifier: Apache-2.0
"""Fourier periods of the axes of a spectral convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias


Period: TypeAlias = "float | Sequence[float | None] | None"


def extended_period(points: int, modes: int) -> int:
    r"""Period that keeps the ends of a non-periodic axis apart.

    .. math:: P = \max(N + 1, \mathrm{round}(\eta (N - 1))), \qquad \eta = \max(1.125, 1 + 2 / m)

    On the circle of the Fourier transform the two ends of an axis are neighbours if ``P = N``, and
    a kernel of few modes cannot tell them apart. With this period the physical period is the same
    at every resolution, and the gap exceeds what ``m`` modes resolve.

    Args:
        points: ``N``.
        modes: ``m``, non-negative wavenumbers kept.

    Returns:
        ``P``, in points.

    Example:
        >>> extended_period(128, 16)
        143
    """
    ratio = max(1.125, 1 + 2 / modes)
    return max(points + 1, round(ratio * (points - 1)))


def axis_periods(
    period: Period,
    sizes: Sequence[int],
    modes: Sequence[int],
    extended: Sequence[bool],
    *,
    who: str,
) -> list[float]:
    """Return the period of every axis in grid points.

    Args:
        period: One for all axes or one per axis: a float is a ratio to the length of the domain,
            an integer a number of grid points, None the default.
        sizes: Points per axis, ``N``.
        modes: Non-negative wavenumbers kept per axis.
        extended: Whether the default is `extended_period`, otherwise ``N``.
        who: Name for messages.

    Raises:
        TypeError: If a period is not a number.
        ValueError: If the number of periods does not fit, one is less than the axis, or there are
            more modes than it resolves.
    """
    given = check_period(period, len(sizes), who=who)
    found: list[float] = []
    for axis, (own, n, m, extend) in enumerate(zip(given, sizes, modes, extended, strict=True)):
        if isinstance(own, int) and own < n:
            raise ValueError(
                f"{who}: expected period to be at least the {n} points of axis {axis}, got {own}; "
                f"a ratio to the length of the domain is a float"
            )
        if own is None:
            points: float = extended_period(n, m) if extend else n
        else:
            points = own if isinstance(own, int) else max(n, round(own * (n - 1)))
        most = points // 2 + (axis == len(sizes) - 1)
        if m > most:
            raise ValueError(
                f"{who}: expected at most {most} modes along axis {axis} with {n} points and "
                f"period {points}, got {m}; take fewer modes or more points"
            )
        found.append(points)
    return found


def check_period(period: Period, axes: int, *, who: str) -> list[float | None]:
    """Return what was given for each axis; raise for what no grid can take."""
    several = isinstance(period, Sequence)
    given = list(period) if isinstance(period, Sequence) else [period] * axes
    if len(given) != axes:
        raise ValueError(
            f"{who}: expected period to be a number or one for each of {axes} axes, got {period!r}"
        )
    for axis, own in enumerate(given):
        place = f"period[{axis}]" if several else "period"
        if own is not None and (isinstance(own, bool) or not isinstance(own, (int, float))):
            raise TypeError(f"{who}: expected {place} to be a number, got {type(own).__name__}")
        if own is not None and not 1.0 <= own < math.inf:
            raise ValueError(
                f"{who}: expected {place} to be a ratio >= 1 or a number of points, got {own}"
            )
    return given
