# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::spectral_conv``: dense Fourier matrices, one axis after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def fourier_matrix(n: int, wavenumbers: Tensor, period: float, origin: float = 0.0) -> Tensor:
    r"""``exp(-2 pi i (n - origin) k / period)`` for all points and wavenumbers, ``(n, m)``.

    Args:
        n: Number of points.
        wavenumbers: ``k``, float64, any signs.
        period: ``P`` in points.
        origin: The point with phase zero; multiples of 1/2 keep the reduction of the angle exact.
    """
    points = 2 * torch.arange(n, dtype=torch.float64, device=wavenumbers.device) - 2 * origin
    half_turns = torch.remainder(points[:, None] * wavenumbers, 2 * period) / period
    return torch.exp(-1j * math.pi * half_turns)


def signed_wavenumbers(count: int, device: torch.device) -> Tensor:
    """``0 .. m - 1, -m .. -1`` for ``count = 2 m``."""
    k = torch.arange(count, dtype=torch.float64, device=device)
    return torch.where(k < count // 2, k, k - count)


def spectral_conv(
    x: Tensor, weight: Tensor, *, period: float | Sequence[float] | None = None
) -> Tensor:
    r"""Truncated Fourier transform, channel mixing mode by mode, inverse transform.

    Args:
        x: ``(*batch, in, N_1, .., N_d)``.
        weight: ``(M_1, .., M_d, in, out, 2)``; the last axis is one-sided, the others signed.
        period: ``P >= N`` per axis; the number of points when not given.

    Returns:
        ``(*batch, out, N_1, .., N_d)``, in the dtype of ``x``.
    """
    d = weight.ndim - 3
    sizes = x.shape[-d:]
    if period is None:
        period = [float(n) for n in sizes]
    elif not isinstance(period, Sequence):
        period = [float(period)] * d
    bases = []
    for axis, (n, p) in enumerate(zip(sizes, period, strict=True)):
        m = weight.shape[axis]
        last = axis == d - 1
        k = (
            torch.arange(m, dtype=torch.float64, device=x.device)
            if last
            else signed_wavenumbers(m, x.device)
        )
        bases.append(fourier_matrix(n, k, p))
    points, modes = "uvw"[:d], "klm"[:d]
    matrices = ",".join(p + k for p, k in zip(points, modes, strict=True))
    spectrum = torch.einsum(f"...i{points},{matrices}->...i{modes}", x.to(torch.complex128), *bases)
    mixed = torch.einsum(
        f"...i{modes},{modes}io->...o{modes}",
        spectrum,
        torch.view_as_complex(weight.double().contiguous()),
    )
    k = torch.arange(weight.shape[d - 1], device=x.device)
    hermitian = torch.where((k == 0) | (2 * k == period[-1]), 1.0, 2.0).double()
    inverse = [b.conj() for b in bases]
    y = torch.einsum(
        f"...o{modes},{matrices}->...o{points}", mixed * (hermitian / math.prod(period)), *inverse
    )
    return y.real.to(x.dtype)
