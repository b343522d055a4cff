# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::fno_block``: its parts one after the other, float64 inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.reference.assign_faces import assign_faces
from physcon_ext.reference.boundary_spectral_conv import boundary_spectral_conv


def fno_block(
    x: Tensor,
    weight: Tensor,
    skip: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    activation: str = "gelu",
    period: float | Sequence[float] | None = None,
    gains: Sequence[Tensor | None] | None = None,
    values: Sequence[Tensor | None] | None = None,
    stencils: Sequence[Tensor | None] | None = None,
    recompute: bool = False,
) -> Tensor:
    r"""Convolve, add a matrix product of the channels and a bias, assign faces, activate.

    Args:
        x: ``(*batch, in, N_1, .., N_d)``.
        weight: ``(M_1, .., M_d, in, out, 2)``.
        skip: ``(in, out)``.
        bias: ``(out,)``.
        activation: ``"gelu"`` or ``"none"``.
        period: As in `spectral_conv`.
        gains: As in `boundary_spectral_conv`.
        values: As in `assign_faces`.
        stencils: As in `assign_faces`; faces whose own value does not count are not activated.
        recompute: Changes nothing here.

    Returns:
        ``(*batch, out, N_1, .., N_d)``, in the dtype of ``x``.
    """
    d = weight.ndim - 3
    none: list[Tensor | None] = [None] * d
    periods = period if period is None or isinstance(period, Sequence) else [period] * d
    wide = x.double()
    u = boundary_spectral_conv(wide, weight.double(), gains or none, period=periods)
    if skip is not None:
        u = u + (wide.movedim(-1 - d, -1) @ skip.double()).movedim(-1, -1 - d)
    if bias is not None:
        u = u + bias.double().reshape(-1, *(1,) * d)
    free = torch.ones(u.shape[-d:], dtype=torch.bool, device=u.device)
    if values is not None and stencils is not None:
        u = assign_faces(u, [v if v is None else v.double() for v in values], stencils)
        for axis, stencil in enumerate(stencils):
            for end in range(2):
                if stencil is not None and stencil[end, 0] == 0:
                    free.select(axis, -end).fill_(False)
    if activation == "none":
        return u.to(x.dtype)
    # erfc keeps its digits for negative u.
    gelu = u * torch.special.erfc(-u / 2**0.5) / 2
    return torch.where(free, gelu, u).to(x.dtype)
