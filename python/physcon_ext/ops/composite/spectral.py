# SPDX-License-Identifier: Apache-2.0
"""`spectral_conv` by dense Fourier matrices, one axis after the other, complex128 inside.

The spectrum is that of the compiled op: phases about the centre of each axis, layout
``(M_1, .., M_d, *batch, channels, 2)``. Everything here is differentiable to any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from physcon_ext.reference.spectral_conv import fourier_matrix, signed_wavenumbers


Pair = tuple[Tensor, Tensor]


def conjugate(z: Tensor) -> Tensor:
    """A conjugate in memory, not a flag: nothing resolves a flag inside a dispatch mode."""
    return torch.complex(z.real, -z.imag)


def _bases(size: Sequence[int], modes: Sequence[int], period: Sequence[float], like: Tensor) -> Any:
    d = len(size)
    found = []
    for axis in range(d):
        m = modes[axis]
        k = (
            torch.arange(m, dtype=torch.float64, device=like.device)
            if axis == d - 1
            else signed_wavenumbers(m, like.device)
        )
        found.append(fourier_matrix(size[axis], k, period[axis], (size[axis] - 1) / 2))
    return found


def _hermitian(modes: Sequence[int], period: Sequence[float], like: Tensor) -> Tensor:
    k = torch.arange(modes[-1], device=like.device)
    return torch.where((k == 0) | (2 * k == period[-1]), 1.0, 2.0).double() / math.prod(period)


_POINTS, _MODES = "uvw", "klm"


def analyse(
    x: Tensor, modes: Sequence[int], period: Sequence[float], *, weighted: bool = False
) -> Tensor:
    """The truncated centred transform, complex128, ``(M_1, .., M_d, *batch, channels)``."""
    d = len(period)
    points, wave = _POINTS[:d], _MODES[:d]
    matrices = ",".join(p + k for p, k in zip(points, wave, strict=True))
    bases = _bases(x.shape[-d:], modes, period, x)
    found = torch.einsum(f"...{points},{matrices}->...{wave}", x.to(torch.complex128), *bases)
    if weighted:
        found = found * _hermitian(modes, period, x)
    return found.movedim(tuple(range(-d, 0)), tuple(range(d)))


def synthesise(
    spectrum: Tensor, size: Sequence[int], period: Sequence[float], *, weighted: bool = False
) -> Tensor:
    """The adjoint of `analyse` with the same flag: float64 ``(*batch, channels, N_1, .., N_d)``."""
    d = len(period)
    points, wave = _POINTS[:d], _MODES[:d]
    matrices = ",".join(p + k for p, k in zip(points, wave, strict=True))
    bases = [conjugate(b) for b in _bases(size, spectrum.shape[:d], period, spectrum)]
    moved = spectrum.movedim(tuple(range(d)), tuple(range(-d, 0)))
    if weighted:
        moved = moved * _hermitian(spectrum.shape[:d], period, spectrum)
    return torch.einsum(f"...{wave},{matrices}->...{points}", moved, *bases).real


def mix(spectrum: Tensor, weight: Tensor, d: int) -> Tensor:
    """``Y = X W`` mode by mode; complex, ``(M_1, .., M_d, *batch, channels)``."""
    wave = _MODES[:d]
    return torch.einsum(f"{wave}...i,{wave}io->{wave}...o", spectrum, weight)


def as_complex(pairs: Tensor) -> Tensor:
    """Real and imaginary part on the last axis to complex128."""
    return torch.complex(pairs[..., 0].double(), pairs[..., 1].double())


def as_pairs(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `as_complex`."""
    return torch.stack((values.real, values.imag), -1).to(dtype)


def adjoint(
    grad: Tensor, spectrum: Tensor, weight: Tensor, size: Sequence[int], period: Sequence[float]
) -> Pair:
    d = len(period)
    wave = _MODES[:d]
    upstream = analyse(grad, weight.shape[:d], period, weighted=True)
    adjoint = conjugate(as_complex(weight).transpose(-1, -2))
    x_bar = synthesise(mix(upstream, adjoint, d), size, period)
    # All batch axes as one, in the middle: (M_1, .., M_d, batch, channels).
    modes = weight.shape[:d]
    x_flat = as_complex(spectrum).reshape(*modes, -1, weight.shape[-3])
    y_flat = upstream.reshape(*modes, x_flat.shape[d], weight.shape[-2])
    weight_bar = torch.einsum(f"{wave}bi,{wave}bo->{wave}io", conjugate(x_flat), y_flat)
    return x_bar.to(grad.dtype), as_pairs(weight_bar, weight.dtype)


def periods_of(size: Sequence[int], period: Sequence[float]) -> list[float]:
    """The given periods, or the number of points."""
    return list(period) if len(period) else [float(n) for n in size]


def spectral_conv(x: Tensor, weight: Tensor, period: list[float]) -> Pair:
    """Output and truncated spectrum, as the compiled op."""
    d = weight.ndim - 3
    size = x.shape[-d:]
    periods = periods_of(size, period)
    spectrum = analyse(x, weight.shape[:d], periods)
    y = synthesise(mix(spectrum, as_complex(weight), d), size, periods, weighted=True)
    return y.to(x.dtype), as_pairs(spectrum, x.dtype)


def spectral_conv_backward(
    grad: Tensor,
    spectrum: Tensor,
    weight: Tensor,
    size: list[int],
    period: list[float],
    x_needed: bool,
    weight_needed: bool,
) -> Pair:
    """Gradients of ``x`` and ``weight``; empty where not needed."""
    x_bar, weight_bar = adjoint(grad, spectrum, weight, size, periods_of(size, period))
    nothing = grad.new_empty(0)
    return x_bar if x_needed else nothing, weight_bar if weight_needed else nothing
