# SPDX-License-Identifier: Apache-2.0
"""A number of steps of the lid-driven cavity: public wrapper of ``torch.ops.physcon.cavity``."""

from __future__ import annotations

import torch
from torch import Tensor

from physcon_ext.ops._storage import register_fake, stored
from physcon_ext.reference.cavity import CavityStep


_NAME = "physcon::cavity"
_OP = torch.ops.physcon.cavity.default


@stored(_NAME, always=True, computed=torch.float64)
def cavity(
    u: Tensor, v: Tensor, *, lid: Tensor, viscosity: Tensor, dt: Tensor, steps: Tensor
) -> CavityStep:
    r"""Take every flow of a batch through its own number of equal steps.

    .. math:: u_t + (u u)_x + (u v)_y = -p_x + \nu \Delta u, \quad
              v_t + (u v)_x + (v v)_y = -p_y + \nu \Delta v, \quad u_x + v_y = 0

    Args:
        u: ``(batch, n + 1, n)`` float64, or float32, bfloat16 or float16 beside arguments of its
            dtype, float32 or float64; on the faces across x of the unit square, ``n`` even and at
            least 8; 0 at the first and the last face.
        v: ``(batch, n, n + 1)``, on the faces across y; 0 at the first and the last face.
        lid: ``(batch,)`` speed of the wall at ``y = 1``, along x.
        viscosity: ``(batch,)`` ``nu > 0``.
        dt: ``(batch,)`` step of each flow.
        steps: ``(batch,)`` int64, number of steps of each flow.

    Returns:
        Velocities after the steps; pressure and momentum fluxes integrated over them.

    Raises:
        RuntimeError: If shapes or dtypes do not fit.
        TypeError: If bfloat16 and float16 come together, or with a float32 ``u``.
        ValueError: If an argument requires a gradient.

    Notes:
        Storage: whatever the dtype of ``u``, steps are taken in float64 and every result is rounded
        to it once, at the end. Rounded velocities have a divergence of its rounding: a run in
        several calls keeps its accuracy in float64 only.
        Conservation: volume, the divergence being rounding; momentum, by fluxes.
        Determinism: a flow belongs to one thread; the same bits for any batch and thread count.
        Cost: three projections in a step, ``6 n^3`` operations in all at matrix product speed.
    """
    if any(t.requires_grad for t in (u, v, lid, viscosity, dt)):
        raise ValueError(f"{_NAME}: expected arguments without gradients, got requires_grad=True")
    return CavityStep(*_OP(u, v, lid, viscosity, dt, steps))


@register_fake(_NAME)
def _fake(
    u: Tensor, v: Tensor, lid: Tensor, viscosity: Tensor, dt: Tensor, steps: Tensor
) -> tuple[Tensor, ...]:
    batch, n = u.shape[0], u.shape[2]
    cell, vertex = (batch, n, n), (batch, n + 1, n + 1)
    shapes = (u.shape, v.shape, cell, cell, vertex, vertex, cell)
    return tuple(u.new_empty(shape) for shape in shapes)
