# SPDX-License-Identifier: Apache-2.0
"""A number of finite-volume steps for a batch: public wrapper of ``torch.ops.physcon.balance_law``.

The op makes training data and reference solutions, so it has no derivatives; it is a torch op, not
a NumPy one, because batches, devices and threads are those of the tensors around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.reference.balance_law import (
    AVERAGES,
    DIFFUSIVITIES,
    EDGE_KINDS,
    INTEGRATORS,
    RECONSTRUCTIONS,
    TRANSPORTS,
    Advanced,
    EdgeTable,
    Method,
    stage_count,
)


_NAME = "physcon::balance_law"
_OP = torch.ops.physcon.balance_law.default


@dataclass(frozen=True)
class _Packed:
    """Tables and choices in the form of the op."""

    tables: list[Tensor]
    weights: Tensor
    choices: Tensor


@stored(_NAME, always=True, computed=torch.float64)
def balance_law(
    state: Tensor,
    *,
    method: Method,
    spacing: Sequence[float],
    speed: Tensor,
    diffusion: Tensor,
    edges: Sequence[EdgeTable],
    dt: Tensor,
    steps: Tensor,
    shapes: Tensor | None = None,
    amplitudes: Tensor | None = None,
) -> Advanced:
    r"""Take every item of a batch through its own number of equal finite-volume steps.

    .. math:: u_t + \nabla\cdot f(u) = \nabla\cdot(k(u) \nabla u) + \sum_s a_s(t)\, \sigma_s(x)

    Args:
        state: ``(batch, fields, 2, rows, n)`` float64, or float32, bfloat16 or float16 beside
            arguments of its dtype, float32 or float64: cell averages and their rounding rests;
            ``n >= 4`` cells along the inner axis, 1 or at least 4 along the outer one. Two fields
            (``u`` and ``u_t``) for ``verlet``, otherwise one.
        method: What is solved, and how.
        spacing: Cell width along the inner and the outer axis.
        speed: ``(batch, 2)``, inner and outer: speed ``a`` of ``f = a u`` or factor of
            ``f = a u^2 / 2``.
        diffusion: ``(batch, 2)``: ``k``; or the exponent ``m`` of ``k = u^m``; or ``k_max`` and the
            threshold of ``k = k_max [u >= threshold]``. Unused columns are ignored.
        edges: Inner low, inner high, outer low, outer high, with values at every stage of every
            step; in one dimension the last two are ignored.
        dt: ``(batch,)`` step of each item.
        steps: ``(batch,)`` int64, number of steps of each item, ``>= 0``.
        shapes: ``(batch, terms, rows, n)`` cell averages of the source terms, at most 8.
        amplitudes: ``(batch, steps, stages, terms)``.

    Returns:
        The state after the steps, the face fluxes and the source amplitudes integrated over them.

    Raises:
        RuntimeError: If shapes or dtypes do not fit.
        TypeError: If bfloat16 and float16 come together, or with a float32 state.
        ValueError: If an argument requires a gradient.

    Notes:
        Storage: whatever the dtype of ``state``, steps are taken in float64; averages, rests,
        fluxes and amplitudes are each rounded to it once, at the end. A run in several calls keeps
        its accuracy in float64 only.
        Conservation: cells change by the returned fluxes alone; both are compensated sums, so the
        balance of any number of steps holds to some ten eps of the largest term.
        Determinism: an item belongs to one thread; the same bits for any batch and thread count.
        Cost: per cell and evaluation 0.3 ns for Godunov, 3.8 ns for WENO5 (one AVX-512 core).
        Steps are taken as given: `physcon_ext.fv` chooses stable ones.
    """
    if any(t.requires_grad for t in (state, speed, diffusion, dt)):
        raise ValueError(f"{_NAME}: expected arguments without gradients, got requires_grad=True")
    batch, rows, n = state.shape[0], state.shape[-2], state.shape[-1]
    # The length of the tables is theirs: asking a device for the number of steps would wait for it.
    needed = (1, stage_count(method))
    packed = _pack(state, method, edges, needed)
    if shapes is None or amplitudes is None:
        shapes = state.new_empty((batch, 0, rows, n))
        amplitudes = state.new_empty((batch, *needed, 0))
    out = _OP(
        state,
        torch.tensor(spacing, dtype=torch.float64),
        speed,
        diffusion,
        *packed.tables,
        packed.weights,
        shapes,
        amplitudes,
        dt,
        steps,
        packed.choices,
        needed[1],
    )
    return Advanced(*out)


def _pack(
    state: Tensor, method: Method, edges: Sequence[EdgeTable], needed: tuple[int, int]
) -> _Packed:
    batch, rows, n = state.shape[0], state.shape[-2], state.shape[-1]
    tables, weights, kinds = [], [], []
    for place in range(4):
        edge = edges[place] if place < len(edges) else EdgeTable("outflow")
        along = rows if place < 2 else n
        values = state.new_zeros((1, 1, 1, 1)) if edge.values is None else edge.values
        sizes = [k if s == 1 else s for s, k in zip(values.shape[1:3], needed, strict=True)]
        tables.append(values.expand(batch, *sizes, along))
        weights.append([edge.a, edge.b])
        kinds.append(EDGE_KINDS.index(edge.kind))
    choices = [
        TRANSPORTS.index(method.transport),
        RECONSTRUCTIONS.index(method.scheme),
        DIFFUSIVITIES.index(method.diffusivity),
        AVERAGES.index(method.average),
        INTEGRATORS.index(method.integrator),
        *kinds,
    ]
    return _Packed(
        tables, torch.tensor(weights, dtype=torch.float64), torch.tensor(choices, dtype=torch.int64)
    )


@register_fake(_NAME)
def _fake(
    state: Tensor,
    spacing: Tensor,
    speed: Tensor,
    diffusion: Tensor,
    inner_low: Tensor,
    inner_high: Tensor,
    outer_low: Tensor,
    outer_high: Tensor,
    edge_weights: Tensor,
    shapes: Tensor,
    amplitudes: Tensor,
    dt: Tensor,
    steps: Tensor,
    choices: Tensor,
    stages: int,
) -> tuple[Tensor, ...]:
    batch, _, _, rows, n = state.shape
    return (
        state.new_empty(state.shape),
        state.new_empty((batch, rows, n + 1)),
        state.new_empty((batch, rows + 1 if rows > 1 else 0, n)),
        state.new_empty((batch, shapes.shape[1])),
        state.new_empty((batch,), dtype=torch.int32),
    )
