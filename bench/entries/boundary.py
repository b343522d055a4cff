# SPDX-License-Identifier: Apache-2.0
"""Corrected spectral convolutions in one dimension, both ends prescribed.

``layer``: the published correction from the weights to the assigned field, against the published
procedure, which calls the convolution once per entry of the kernel and once per step, seven times
in all; gains are made anew from the weights with each call, as in training, or kept as long as
the weights stay the same, as in inference. ``gains given``: the op alone, against the plain
convolution of ours; the gains are those of the regularised block elimination.

Inputs are standard normal, weights as at the start of training: uniform in [0, 1) / C^2.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.layers import Baseline, LayerEntry


if TYPE_CHECKING:
    from physcon_ext.boundary import BoundaryConditions


def fourier_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """The plain convolution in PyTorch: FFT, truncation, mixing, zeros, inverse FFT."""
    n, m = x.shape[-1], weight.shape[0]
    spectrum = torch.fft.rfft(x)
    out = spectrum.new_zeros(x.shape[0], weight.shape[2], n // 2 + 1)
    w = torch.view_as_complex(weight)
    out[:, :, :m] = torch.einsum("bim,mio->bom", spectrum[:, :, :m], w)
    return torch.fft.irfft(out, n=n)


def published_layer(x: Tensor, weight: Tensor, values: Tensor) -> Tensor:
    """The published procedure at full batch: four entries of the kernel, three steps."""

    def entry(source: int, goal: int) -> Tensor:
        impulse = torch.zeros_like(x)
        impulse[:, :, source] = 1
        return fourier_convolution(impulse, weight)[0, 0, goal]

    def clamped(value: Tensor) -> Tensor:
        return torch.where(value.abs() < 1e-7, torch.full_like(value, 1e-7), value)

    k00, kn0, k0n, knn = entry(0, 0), entry(0, -1), entry(-1, 0), entry(-1, -1)
    k00, knn = clamped(k00), clamped(knn)
    y = fourier_convolution(x, weight)
    first, last = x[:, :, 0], x[:, :, -1]
    ratio = k0n / knn
    pivot = clamped(k00 - kn0 * ratio)
    moved = x.clone()
    moved[:, :, 0] = 2 * first - (y[:, :, 0] - ratio * y[:, :, -1] + k0n * last) / pivot
    after = fourier_convolution(moved, weight)[:, :, -1]
    moved = moved.clone()
    moved[:, :, -1] = 2 * last - after / knn
    out = fourier_convolution(moved, weight).clone()
    out[:, :, 0], out[:, :, -1] = values[:, :, 0], values[:, :, 1]
    return out


class _Layer:
    """The corrected layer; the gains of one weight tensor may be kept, as `nn` does."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._bc: BoundaryConditions | None = None
        self._weight: weakref.ref[Tensor] | None = None
        self._gains: list[Tensor | None] | None = None

    def __call__(self, x: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        from physcon_ext.boundary import BoundaryConditions, Dirichlet
        from physcon_ext.functional import boundary_spectral_conv, correction_gains

        if self._bc is None:
            self._bc = BoundaryConditions(left=Dirichlet(), right=Dirichlet())
        data = {"left": values[:, :, 0], "right": values[:, :, 1]}
        if self._keep and (self._weight is None or self._weight() is not weight):
            self._gains = correction_gains(weight, self._bc, [x.shape[-1]], correction="published")
            self._weight = weakref.ref(weight)
        return boundary_spectral_conv(
            x, weight, self._bc, data, correction="published", gains=self._gains
        )


def _given(period: float) -> Callable[..., Tensor]:
    stencil = torch.zeros(2, 1, dtype=torch.float64)

    def call(x: Tensor, weight: Tensor, values: Tensor, gain: Tensor) -> Tensor:
        from physcon_ext import ops

        return ops.boundary_spectral_conv(
            x, weight, [gain], period=period, values=[values], stencils=[stencil]
        )

    return call


def _plain(period: float) -> Callable[..., Tensor]:
    def call(x: Tensor, weight: Tensor, values: Tensor, gain: Tensor) -> Tensor:
        from physcon_ext import ops

        return ops.spectral_conv(x, weight, period=period)

    return call


def _reference(period: float) -> Callable[..., Tensor]:
    stencil = torch.zeros(2, 1, dtype=torch.float64)

    def call(x: Tensor, weight: Tensor, values: Tensor, gain: Tensor) -> Tensor:
        from physcon_ext import reference

        return reference.boundary_spectral_conv(
            x, weight, [gain], period=[period], values=[values], stencils=[stencil]
        )

    return call


def _entries(n: int, *, batch: int = 20, channels: int = 64, modes: int = 16) -> list[LayerEntry]:
    shape = {"batch": batch, "channels": channels, "n": n, "modes": modes}
    period = float(round(1.125 * (n - 1)))

    def setup(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        weight = torch.rand(modes, channels, channels, 2, generator=g) / channels**2
        x = torch.randn(batch, channels, n, generator=g)
        return x, weight, torch.randn(batch, 1, 2, generator=g)

    def with_gain(period: float) -> Callable[[int], tuple[Tensor, ...]]:
        def make(seed: int) -> tuple[Tensor, ...]:
            from physcon_ext.boundary import correction_gain, end_response

            x, weight, values = setup(seed)
            response = end_response(weight, 0, sizes=[n], period=[period])
            return x, weight, values, correction_gain(response)

        return make

    sizes = f"{batch}, {channels}, {n}, {modes}"
    return [
        *(
            LayerEntry(
                name=f"corrected layer, gains {'kept' if keep else 'made'} ({sizes})",
                op="boundary_spectral_conv",
                shape=shape,
                setup=setup,
                gradients=(0, 1),
                forward=_Layer(keep=keep),
                reference=published_layer,
                baselines=(Baseline("seven calls", "published", published_layer),),
                passes=("forward",) if keep else ("forward", "forward+backward"),
                quick=n == 500 and not keep,
            )
            for keep in (False, True)
        ),
        *(
            LayerEntry(
                name=f"corrected convolution, gains given, period {p:g} ({sizes})",
                op="boundary_spectral_conv",
                shape=shape,
                setup=with_gain(p),
                gradients=(0, 1, 3),
                forward=_given(p),
                reference=_reference(p),
                baselines=(Baseline("spectral_conv", "own", _plain(p), same=False),),
            )
            for p in (float(n), period)
        ),
    ]


ENTRIES = [entry for n in (500, 512, 1000, 1024) for entry in _entries(n)]
