# SPDX-License-Identifier: Apache-2.0
"""The convolutions on a device by whole Fourier transforms, and when that is the faster way.

The spectrum is that of the compiled op: phases about the centre of each axis, layout
``(M_1, .., M_d, *batch, channels, 2)``; precision is that of the input.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physcon_ext.ops._boundary_formula import Correction, correction_of
from physcon_ext.ops.composite.block import Tensors, Ways, block, block_backward
from physcon_ext.ops.composite.boundary import convolve, convolve_backward
from physcon_ext.ops.composite.spectral import conjugate, mix, periods_of
from physcon_ext.reference.spectral_conv import signed_wavenumbers


Pair = tuple[Tensor, Tensor]
Index = tuple[Any, ...]

_VARIABLE = "PHYSCON_SPECTRAL_PATH"
# Rates of an H200 that a design reaches: float32 multiply-adds outside the matrix units (flop/s)
# and device memory (byte/s).
_ARITHMETIC, _MEMORY = 60e12, 4.3e12
# Passes over the input of one convolution by 1, 2 and 3 axes of whole transforms: each transform
# reads and writes, half spectra are cleared, and the inverse copies what it is given.
_PASSES = (7.0, 10.3, 13.6)
# Lengths with other prime factors are transformed by longer ones.
_FACTORS, _OTHER_LENGTH = (2, 3, 5, 7), 3.0


def prefers_fft(size: Sequence[int], modes: Sequence[int], period: Sequence[float]) -> bool:
    """Whether whole transforms take less time on a device than products with Fourier matrices.

    Per value of one channel and in both directions, the last axis folded: the products take
    ``4 m + sum_a 16 m_1 .. m_a / (N_1 .. N_{a-1})`` operations, the axes from the last to the
    first, or the time of their traffic; whole transforms take that of theirs. For one axis the two
    meet near ``m = 7 * 4 * 60 / (4 * 4.3) = 98``. These are counts, not measurements.

    The environment variable ``PHYSCON_SPECTRAL_PATH`` (``matrix``, ``fft``, ``auto``) decides
    instead where a transform of that period exists.

    Args:
        size: Points per axis.
        modes: Kept modes per axis, the last one-sided.
        period: Fourier period per axis in points.

    Raises:
        RuntimeError: If the variable has an unknown value.
    """
    forced = os.environ.get(_VARIABLE) or "auto"
    if forced not in ("matrix", "fft", "auto"):
        raise RuntimeError(
            f"physcon_ext: expected {_VARIABLE} to be matrix, fft or auto, got {forced!r}"
        )
    if forced == "auto":
        return _counts_prefer_fft(tuple(size), tuple(modes), tuple(period))
    return forced == "fft" and _have_transforms(period)


def _have_transforms(period: Sequence[float]) -> bool:
    """Only whole numbers of points are the period of a discrete transform."""
    return all(p == int(p) for p in period)


@functools.lru_cache(maxsize=1024)
def _counts_prefer_fft(
    size: tuple[int, ...], modes: tuple[int, ...], period: tuple[float, ...]
) -> bool:
    if not _have_transforms(period):
        return False
    operations, numbers = 4.0 * modes[-1], 2 * modes[-1] / size[-1]  # per value
    moved = 2.0 + 2 * numbers
    for n, m in zip(size[-2::-1], modes[-2::-1], strict=True):
        operations += 8.0 * m * numbers  # both directions, 8 for a complex product, 2 per number
        numbers *= m / n
        moved += 4 * numbers
    products = max(operations / _ARITHMETIC, 4 * moved / _MEMORY)
    longer = math.prod(period) / math.prod(size)
    smooth = all(_is_smooth(int(p)) for p in period)
    passes = _PASSES[len(size) - 1] * longer * (1.0 if smooth else _OTHER_LENGTH)
    return products > 4 * passes / _MEMORY


def _is_smooth(n: int) -> bool:
    for prime in _FACTORS:
        while n % prime == 0:
            n //= prime
    return n == 1


class _Grid:
    """Where the kept modes lie in a whole spectrum, their phases and weights."""

    def __init__(
        self, size: Sequence[int], modes: Sequence[int], period: Sequence[float], like: Tensor
    ) -> None:
        device, self.axes = like.device, len(size)
        self.period = [int(p) for p in period]
        self.inside: Index = (..., *(slice(0, n) for n in size))
        self.dims = tuple(range(-self.axes, 0))
        waves = [signed_wavenumbers(m, device) for m in modes[:-1]]
        waves.append(torch.arange(modes[-1], dtype=torch.float64, device=device))
        at: list[Tensor] = []
        turns = torch.zeros((), dtype=torch.float64, device=device)
        for axis, (k, n, p) in enumerate(zip(waves, size, self.period, strict=True)):
            shape = [-1 if a == axis else 1 for a in range(self.axes)]
            at.append(k.remainder(p).long().reshape(shape))
            # w_k c = pi k (N - 1) / P, reduced before it is rounded
            turns = turns + ((k * (n - 1)).remainder(2 * p) / p).reshape(shape)
        self.kept: Index = (..., *at)
        dtype = torch.complex64 if like.dtype == torch.float32 else torch.complex128
        self.phase = torch.polar(torch.ones_like(turns), math.pi * turns).to(dtype)
        last = torch.arange(modes[-1], device=device)
        twice = torch.where((last == 0) | (2 * last == self.period[-1]), 1.0, 2.0)
        self.weight = (twice.double() / math.prod(self.period)).to(like.dtype)

    def analyse(self, x: Tensor, *, weighted: bool = False) -> Tensor:
        """The truncated centred transform, complex, ``(M_1, .., M_d, *batch, channels)``."""
        whole = torch.fft.rfftn(x, s=self.period, dim=self.dims)
        found = whole[self.kept] * self.phase
        if weighted:
            found = found * self.weight
        return found.movedim(self.dims, tuple(range(self.axes)))

    def synthesise(self, spectrum: Tensor, *, weighted: bool = False) -> Tensor:
        """The adjoint of `analyse` with the same flag, real ``(*batch, channels, N_1, .., N_d)``.

        The inverse transform applies the weights itself.
        """
        moved = spectrum.movedim(tuple(range(self.axes)), self.dims) * conjugate(self.phase)
        if not weighted:
            moved = moved / self.weight
        half = self.period[-1] // 2 + 1
        whole = moved.new_zeros(*moved.shape[: -self.axes], *self.period[:-1], half)
        whole[self.kept] = moved
        if self.axes > 1:
            whole = torch.fft.ifftn(whole, dim=self.dims[:-1])
        # Libraries differ in what they make of an imaginary part here: there is none.
        whole[..., 0].imag.zero_()
        if self.period[-1] % 2 == 0:
            whole[..., -1].imag.zero_()
        y = torch.fft.irfft(whole, n=self.period[-1], dim=-1)
        return y[self.inside]


def _pairs(values: Tensor) -> Tensor:
    return torch.view_as_real(values.contiguous())


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.contiguous())


def spectral_conv(x: Tensor, weight: Tensor, period: list[float]) -> Pair:
    """Output and truncated spectrum, as the compiled op."""
    d = weight.ndim - 3
    size = x.shape[-d:]
    grid = _Grid(size, weight.shape[:d], periods_of(size, period), x)
    spectrum = grid.analyse(x)
    y = grid.synthesise(mix(spectrum, _complex(weight), d), weighted=True)
    return y.contiguous(), _pairs(spectrum)


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
    d = len(size)
    modes = weight.shape[:d]
    grid = _Grid(size, modes, periods_of(size, period), grad)
    upstream = grid.analyse(grad, weighted=True)
    x_bar = weight_bar = grad.new_empty(0)
    if x_needed:
        adjoint = conjugate(_complex(weight).transpose(-1, -2))
        x_bar = grid.synthesise(mix(upstream, adjoint, d)).contiguous()
    if weight_needed:
        given = conjugate(_complex(spectrum)).reshape(*modes, -1, weight.shape[-3])
        flat = upstream.reshape(*modes, given.shape[d], weight.shape[-2])
        weight_bar = _pairs(given.transpose(-1, -2) @ flat)
    return x_bar, weight_bar


@dataclass(frozen=True)
class _WholeCorrection(Correction):
    """A corrected convolution by whole transforms of a dtype; what lies between is complex128."""

    dtype: torch.dtype

    def _grid(self, like: Tensor) -> _Grid:
        return _Grid(self.size, self.modes, self.period, like.new_empty(0, dtype=self.dtype))

    def analyse(self, x: Tensor, *, weighted: bool = False) -> Tensor:
        spectrum = self._grid(x).analyse(x.to(self.dtype), weighted=weighted)
        return spectrum.to(torch.complex128)

    def synthesise(self, spectrum: Tensor, *, weighted: bool = False) -> Tensor:
        dtype = torch.complex64 if self.dtype == torch.float32 else torch.complex128
        return self._grid(spectrum).synthesise(spectrum.to(dtype), weighted=weighted)


def _correction(field: Tensor, weight: Tensor, rest: Sequence[Any]) -> _WholeCorrection:
    gains, period = rest[:3], rest[9]
    call = correction_of(field.shape[-len(period) :], weight, gains, period)
    return _WholeCorrection(**vars(call), dtype=field.dtype)


def boundary_spectral_conv(x: Tensor, weight: Tensor, *rest: Any) -> Tensors:
    """Output, spectrum of the input, record of the corrections, as the compiled op."""
    return convolve(_correction(x, weight, rest), x, weight, *rest)


def boundary_spectral_conv_backward(
    grad: Tensor, spectrum: Tensor, shifts: Tensor, weight: Tensor, *rest: Any
) -> Tensors:
    """Gradients of the input, the weight, the gains and the face data."""
    call = _correction(grad, weight, rest)
    return convolve_backward(call, grad, spectrum, shifts, weight, *rest)


def _ways(dtype: torch.dtype) -> Ways:
    return Ways(
        spectral_conv,
        spectral_conv_backward,
        boundary_spectral_conv,
        boundary_spectral_conv_backward,
        dtype,
    )


def fno_block(x: Tensor, *rest: Any) -> Tensors:
    """Output, what the activation saw, spectrum, record of the corrections, as the compiled op."""
    return block(_ways(x.dtype), x, *rest)


def fno_block_backward(grad: Tensor, *rest: Any) -> Tensors:
    """Gradients of the input, the weight, the matrix, the bias, the gains and the face data."""
    return block_backward(_ways(grad.dtype), grad, *rest)
