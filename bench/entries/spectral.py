# SPDX-License-Identifier: Apache-2.0
"""Spectral convolutions in one and two dimensions beside FFT, truncation, mixing, inverse FFT.

Three plain formulations, of which the fastest counts: zeros for the wavenumbers that are dropped,
padding left to the inverse transform, mixing as a batched matrix product. Weights are complex for
all of them from the start (a view). Inputs are standard normal, weights uniform in [0, 1) / C^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.entries.boundary import fourier_convolution
from bench.layers import Baseline, Layer, LayerEntry


def padded_inverse(x: Tensor, weight: Tensor) -> Tensor:
    """One axis; the inverse transform pads with zeros itself."""
    spectrum = torch.fft.rfft(x)[:, :, : weight.shape[0]]
    mixed = torch.einsum("bim,mio->bom", spectrum, torch.view_as_complex(weight))
    return torch.fft.irfft(mixed, n=x.shape[-1])


def matrix_product(x: Tensor, weight: Tensor) -> Tensor:
    """One axis; mixing as a batched matrix product over the modes."""
    n, m = x.shape[-1], weight.shape[0]
    spectrum = torch.fft.rfft(x)
    out = spectrum.new_zeros(x.shape[0], weight.shape[2], n // 2 + 1)
    mixed = spectrum[:, :, :m].permute(2, 0, 1) @ torch.view_as_complex(weight)
    out[:, :, :m] = mixed.permute(1, 2, 0)
    return torch.fft.irfft(out, n=n)


def plane_in_corners(x: Tensor, weight: Tensor) -> Tensor:
    """Two axes; both corners of the spectrum mixed apart, as in the first neural operators."""
    w = torch.view_as_complex(weight)
    m, k = weight.shape[0] // 2, weight.shape[1]
    spectrum = torch.fft.rfft2(x)
    out = spectrum.new_zeros(x.shape[0], weight.shape[3], *spectrum.shape[-2:])
    for rows, part in ((slice(0, m), w[:m]), (slice(-m, None), w[m:])):
        out[:, :, rows, :k] = torch.einsum("bixy,xyio->boxy", spectrum[:, :, rows, :k], part)
    return torch.fft.irfft2(out, s=x.shape[-2:])


def plane_at_once(x: Tensor, weight: Tensor) -> Tensor:
    """Two axes; both corners joined before one mixing."""
    m, k = weight.shape[0] // 2, weight.shape[1]
    spectrum = torch.fft.rfft2(x)
    kept = torch.cat([spectrum[:, :, :m, :k], spectrum[:, :, -m:, :k]], 2)
    mixed = torch.einsum("bixy,xyio->boxy", kept, torch.view_as_complex(weight))
    out = spectrum.new_zeros(x.shape[0], weight.shape[3], *spectrum.shape[-2:])
    out[:, :, :m, :k], out[:, :, -m:, :k] = mixed[:, :, :m], mixed[:, :, m:]
    return torch.fft.irfft2(out, s=x.shape[-2:])


def _ours(x: Tensor, weight: Tensor) -> Tensor:
    from physcon_ext import ops

    return ops.spectral_conv(x, weight)


def _reference(x: Tensor, weight: Tensor) -> Tensor:
    from physcon_ext import reference

    return reference.spectral_conv(x, weight)


_LINE: dict[str, Layer] = {
    "zeros, einsum": fourier_convolution,
    "padded inverse": padded_inverse,
    "matrix product": matrix_product,
}
_PLANE: dict[str, Layer] = {"corners": plane_in_corners, "at once": plane_at_once}


def _entry(
    batch: int, channels: int, size: tuple[int, ...], modes: tuple[int, ...], *, quick: bool = False
) -> LayerEntry:
    kept = (*(2 * m for m in modes[:-1]), modes[-1])

    def setup(seed: int) -> tuple[Tensor, ...]:
        g = torch.Generator().manual_seed(seed)
        weight = torch.rand(*kept, channels, channels, 2, generator=g) / channels**2
        return torch.randn(batch, channels, *size, generator=g), weight

    plain = _LINE if len(size) == 1 else _PLANE
    text = ", ".join(["x".join(map(str, size)), "x".join(map(str, modes))])
    axes = "xyz"
    return LayerEntry(
        name=f"spectral convolution ({batch}, {channels}, {text})",
        op="spectral_conv",
        shape={
            "batch": batch,
            "channels": channels,
            **{f"n_{a}": n for a, n in zip(axes, size, strict=False)},
            **{f"modes_{a}": m for a, m in zip(axes, modes, strict=False)},
        },
        setup=setup,
        gradients=(0, 1),
        forward=_ours,
        reference=_reference,
        baselines=tuple(Baseline(name, "torch", layer) for name, layer in plain.items()),
        quick=quick,
    )


ENTRIES = [
    _entry(20, 64, (1024,), (16,), quick=True),
    _entry(20, 64, (1000,), (16,)),
    _entry(8, 64, (8192,), (16,)),
    _entry(20, 64, (1024,), (64,)),
    _entry(20, 64, (1024,), (513,)),
    _entry(20, 32, (64, 64), (12, 12)),
    _entry(4, 64, (128, 128), (12, 12)),
    _entry(2, 32, (256, 256), (12, 12)),
]
