# SPDX-License-Identifier: Apache-2.0
"""The finite-volume steps on NumPy arrays; public as ``physcon_ext.core.balance_law``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from physcon_ext import _C
from physcon_ext.reference.balance_law import (
    AVERAGES,
    DIFFUSIVITIES,
    EDGE_KINDS,
    INTEGRATORS,
    RECONSTRUCTIONS,
    TRANSPORTS,
    Method,
    stage_count,
)


Reals = NDArray[np.float64]

_NAME = "physcon::core.balance_law"


class Edge(NamedTuple):
    """Condition at one edge.

    Attributes:
        kind: ``periodic``, ``value`` (u = g), ``mixed`` (a u + b du/dn = g, outward), ``outflow``
            or ``flux`` (F = g along the axis).
        values: ``g``, ``(batch or 1, steps or 1, stages or 1, along or 1)``, float64, any strides.
        a: Weight of the value.
        b: Weight of the outward slope.
    """

    kind: str
    values: Reals | None = None
    a: float = 1.0
    b: float = 0.0


class Marched(NamedTuple):
    """State after the steps and what flowed meanwhile.

    Attributes:
        state: As the argument.
        inner_flux: ``(batch, rows, n + 1)``, integrated over the steps, along the axis.
        outer_flux: ``(batch, rows + 1, n)``; empty in one dimension.
        source: ``(batch, terms)``, amplitudes integrated over the steps.
        info: ``(batch,)`` int32, steps whose nonlinear solve did not converge.
    """

    state: Reals
    inner_flux: Reals
    outer_flux: Reals
    source: Reals
    info: NDArray[np.int32]


def balance_law(
    state: Reals,
    *,
    method: Method,
    spacing: Sequence[float],
    edges: Sequence[Edge],
    dt: Reals,
    steps: NDArray[np.int64],
    speed: Reals | None = None,
    diffusion: Reals | None = None,
    shapes: Reals | None = None,
    amplitudes: Reals | None = None,
) -> Marched:
    r"""Take every item of a batch through its own number of equal finite-volume steps.

    .. math:: u_t + \nabla\cdot f(u) = \nabla\cdot(k(u) \nabla u) + \sum_s a_s(t)\, \sigma_s(x)

    Args:
        state: ``(batch, fields, 2, rows, n)`` float64, C-contiguous: cell averages and their
            rounding rests (0 at the start); ``n >= 4`` cells along the inner axis, 1 or at least 4
            along the outer one. Two fields (``u`` and ``u_t``) for ``verlet``, otherwise one.
        method: What is solved, and how; see :class:`physcon_ext.ops.Method`.
        spacing: Cell width along the inner and, in two dimensions, the outer axis.
        edges: Inner low, inner high and, in two dimensions, outer low, outer high.
        dt: ``(batch,)`` step of each item.
        steps: ``(batch,)`` int64, number of steps of each item, ``>= 0``.
        speed: ``(batch, 2)`` or ``(1, 2)``, inner and outer: ``a`` of ``f = a u`` or of
            ``f = a u^2 / 2``; 1 if left out.
        diffusion: ``(batch, 2)`` or ``(1, 2)``: ``k``; or the exponent of ``k = u^m``; or ``k`` and
            its threshold. Needed with a diffusivity.
        shapes: ``(batch or 1, terms, rows, n)`` cell averages of the source terms, at most 8.
        amplitudes: ``(batch or 1, steps or 1, stages or 1, terms)``, any strides.

    Returns:
        The state after the steps, the face fluxes and the amplitudes integrated over them.

    Raises:
        TypeError: If an array is not float64 (``steps``: int64).
        ValueError: If shapes, kinds or choices do not fit.

    Notes:
        Conservation, stability and cost are those of :func:`physcon_ext.ops.balance_law`, of which
        this is the NumPy form; one thread, the GIL released. Bits are the same.

    Example:
        >>> wave = np.sin(np.linspace(0, 6, 8))
        >>> state = np.stack([wave, 0 * wave]).reshape(1, 1, 2, 1, 8)
        >>> out = balance_law(
        ...     state, method=Method(transport="linear"), spacing=[1.0], dt=np.ones(1),
        ...     edges=[Edge("periodic")] * 2, steps=np.ones(1, dtype=np.int64),
        ... )
        >>> bool(np.allclose(out.state[0, 0, 0, 0], np.roll(wave, 1)))  # one cell per step
        True
    """
    fields = 2 if method.integrator == "verlet" else 1
    if not isinstance(state, np.ndarray) or state.ndim != 5 or state.shape[1:3] != (fields, 2):
        raise ValueError(
            f"{_NAME}: expected state to be (batch, {fields}, 2, rows, n) for {method.integrator}, "
            f"got {getattr(state, 'shape', type(state).__name__)}"
        )
    batch, _, _, rows, n = state.shape
    dims = 1 if rows == 1 else 2
    if len(spacing) < dims or len(edges) < 2 * dims:
        raise ValueError(
            f"{_NAME}: expected {dims} spacing(s) and {2 * dims} edges for rows = {rows}, got "
            f"{len(spacing)} and {len(edges)}"
        )
    if method.diffusivity != "none" and diffusion is None:
        raise ValueError(f"{_NAME}: expected diffusion for {method.diffusivity}, got None")
    needed = (max(1, int(steps.max())) if batch else 1, stage_count(method))
    known = [*edges[: 2 * dims], *[Edge("outflow")] * (4 - 2 * dims)]
    tables = [
        _table(f"the values of edge {k}", edge.values, (batch, *needed, rows if k < 2 else n))
        for k, edge in enumerate(known)
    ]
    if shapes is None or amplitudes is None:
        shapes, amplitudes = np.empty((1, 0, rows, n)), np.empty((1, 1, 1, 0))
    terms = shapes.shape[1]
    if shapes.shape[2:] != (rows, n):
        raise ValueError(
            f"{_NAME}: expected shapes to be (batch, terms, {rows}, {n}), got {shapes.shape}"
        )
    one = np.ones((1, 2))
    out = Marched(
        np.empty_like(state),
        np.empty((batch, rows, n + 1)),
        np.empty((batch, rows + 1 if dims == 2 else 0, n)),
        np.empty((batch, terms)),
        np.empty(batch, dtype=np.int32),
    )
    _C.balance_law(
        state,
        np.array([spacing[0], spacing[dims - 1]], dtype=np.float64),
        one if speed is None else speed,
        one if diffusion is None else diffusion,
        tables,
        np.array([[edge.a, edge.b] for edge in known], dtype=np.float64),
        shapes,
        _table("amplitudes", amplitudes, (batch, *needed, terms)),
        dt,
        steps,
        [
            TRANSPORTS.index(method.transport),
            RECONSTRUCTIONS.index(method.scheme),
            DIFFUSIVITIES.index(method.diffusivity),
            AVERAGES.index(method.average),
            INTEGRATORS.index(method.integrator),
            *(EDGE_KINDS.index(edge.kind) for edge in known),
        ],
        needed[1],
        *out,
    )
    return out


def _table(name: str, values: Reals | None, shape: tuple[int, ...]) -> Reals:
    """Repeat a table along its axes of length 1, without a copy."""
    given = np.zeros((1, 1, 1, 1)) if values is None else values
    try:
        return np.broadcast_to(given, shape)
    except ValueError as error:
        raise ValueError(
            f"{_NAME}: expected {name} to be (batch, steps, stages, places) = {shape} or 1 along "
            f"an axis, got {given.shape}"
        ) from error
