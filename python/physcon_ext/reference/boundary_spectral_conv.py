# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::boundary_spectral_conv``: dense DFT matrices, complex128 inside.

Phases start at the first grid point and nothing is folded, so that it shares no trick with the
compiled op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.reference.assign_faces import assign_faces


def boundary_spectral_conv(
    x: Tensor,
    weight: Tensor,
    gains: Sequence[Tensor | None],
    *,
    period: Sequence[float] | None = None,
    values: Sequence[Tensor | None] | None = None,
    stencils: Sequence[Tensor | None] | None = None,
) -> Tensor:
    r"""Convolve in mode space after shifting the end points of the input along chosen axes.

    .. math:: X = F x, \qquad [\delta_0\ \delta_N](q) = [a_0\ a_N\ y_0\ y_N](q)\, \Gamma(q),
              \qquad X(k, q) \mathrel{+}= \delta_0(q) + \delta_N(q) e^{-i \omega_k (N - 1)},
              \qquad y = F^{-1} (X W)

    Args:
        x: ``(*batch, C_in, N_1..N_d)``.
        weight: ``(M_1, .., M_d, C_in, C_out, 2)``, real and imaginary part last; the last mode
            axis counts wavenumbers ``0..M_d - 1``, the others signed ones in FFT order.
        gains: Per axis ``Gamma`` of shape ``(Q, 2 (C_in + C_out), 2 C_in, 2)``, ``Q`` the modes of
            the other axes, or None: the axis is not corrected.
        period: Fourier period per axis in grid points, ``>= N``; the number of points by default.
        values: Faces to assign at the end, as in `assign_faces`.
        stencils: Their stencils.

    Returns:
        ``(*batch, C_out, N_1..N_d)`` in the dtype of ``x``.

    Notes:
        ``a`` are the transforms of the end lines of the input, the shifts of earlier axes
        included, ``y`` those of the output before this axis is corrected. Axes in order. With one
        dimension the imaginary part of the gain does not count.
        Differentiable by autograd to any order; runs on any device.
    """
    dims = weight.ndim - 3
    sizes = x.shape[x.ndim - dims :]
    waves = [_wavenumbers(m, a == dims - 1) for a, m in enumerate(weight.shape[:dims])]
    periods = [float(p) for p in (period or sizes)]
    bases = [
        _waves(k, torch.arange(n), p).to(x.device)
        for k, n, p in zip(waves, sizes, periods, strict=True)
    ]
    scales = [
        _hermitian(k, p, a == dims - 1) for a, (k, p) in enumerate(zip(waves, periods, strict=True))
    ]
    w = torch.view_as_complex(weight.double().contiguous())
    letters = "pqr"[:dims]

    def mix(v: Tensor) -> Tensor:
        return torch.einsum(f"...i{letters},{letters}io->...o{letters}", v, w)

    def ends(v: Tensor, axis: int) -> list[Tensor]:
        """Tangential transforms of the real field at both ends of an axis."""
        found = []
        for n in (0, sizes[axis] - 1):
            row = _waves(-waves[axis], torch.tensor([n]), periods[axis])[0] * scales[axis]
            line = torch.tensordot(v, row.to(v.device), dims=([v.ndim - dims + axis], [0]))
            found.append(_real_field(line, axis, waves, periods))
        return found

    spectrum = _transform(x.to(torch.complex128), bases)
    shift = torch.zeros_like(spectrum)
    for axis, gain in enumerate(gains):
        if gain is None:
            continue
        others = [b for a, b in enumerate(bases) if a != axis]
        at = x.ndim - dims + axis
        lines = [
            _transform(x.select(at, n).to(torch.complex128), others) + moved
            for n, moved in zip((0, -1), ends(shift, axis), strict=True)
        ]
        seen = torch.cat([*lines, *ends(mix(spectrum + shift), axis)], dim=x.ndim - dims - 1)
        matrix = _complex_gain(gain, dims)
        channels = seen.reshape(*seen.shape[: x.ndim - dims], -1).movedim(x.ndim - dims - 1, -1)
        moved = torch.einsum("...qi,qio->...qo", channels, matrix).movedim(-1, x.ndim - dims - 1)
        moved = moved.reshape(*moved.shape[: x.ndim - dims], *(b.shape[1] for b in others))
        first, last = moved.chunk(2, dim=x.ndim - dims - 1)
        impulse = bases[axis][sizes[axis] - 1].reshape(-1, *(1,) * (dims - 1 - axis))
        shift = shift + first.unsqueeze(at) + last.unsqueeze(at) * impulse
    out = mix(spectrum + shift)
    for axis in reversed(range(dims)):
        inverse = bases[axis].conj() * scales[axis].to(x.device)
        out = torch.tensordot(out, inverse, dims=([out.ndim - 1 - (dims - 1 - axis)], [1]))
        out = out.movedim(-1, x.ndim - dims + axis)
    y = out.real.to(x.dtype)
    return y if values is None or stencils is None else assign_faces(y, values, stencils)


def _wavenumbers(count: int, one_sided: bool) -> Tensor:
    if one_sided:
        return torch.arange(count)
    return torch.cat([torch.arange(count // 2), torch.arange(-(count // 2), 0)])


def _waves(wavenumbers: Tensor, points: Tensor, period: float) -> Tensor:
    """``exp(-i omega_k n)``, (points, wavenumbers), angles reduced before they are scaled."""
    turns = torch.remainder((points[:, None] * wavenumbers).double(), period) / period
    return torch.polar(torch.ones_like(turns), -2 * math.pi * turns)


def _hermitian(wavenumbers: Tensor, period: float, one_sided: bool) -> Tensor:
    """Weight of every mode in the inverse transform."""
    weights = torch.ones(len(wavenumbers), dtype=torch.float64)
    if one_sided:
        weights[(wavenumbers > 0) & (2 * wavenumbers != period)] = 2
    return weights / period


def _transform(x: Tensor, bases: Sequence[Tensor]) -> Tensor:
    for axis, basis in enumerate(bases):
        at = x.ndim - len(bases) + axis
        x = torch.tensordot(x, basis, dims=([at], [0])).movedim(-1, at)
    return x


def _complex_gain(gain: Tensor, dims: int) -> Tensor:
    gain = gain.double()
    if dims == 1 or gain.shape[-1] == 1:
        return gain[..., 0].to(torch.complex128)
    return torch.view_as_complex(gain.contiguous())


def _real_field(v: Tensor, axis: int, waves: list[Tensor], periods: list[float]) -> Tensor:
    """Transform of ``Re`` of the field of ``v``, where the inverse drops imaginary parts."""
    dims = len(waves)
    rest = [a for a in range(dims) if a != axis]
    signed = [a for a in rest if a != dims - 1]
    mirror = v.conj()
    for a in signed:
        at = v.ndim - len(rest) + rest.index(a)
        k = waves[a]
        partner = torch.where(2 * k == -periods[a], k, -k)
        kept = torch.isin(partner, k)
        index = torch.where(kept, partner % len(k), torch.zeros_like(k))
        shape = (-1, *(1,) * (v.ndim - 1 - at))
        mirror = mirror.index_select(at, index) * kept.double().reshape(shape)
    average = (v + mirror) / 2
    if axis == dims - 1:
        return average
    last = waves[-1]
    return torch.where((last == 0) | (2 * last == periods[-1]), average, v)
