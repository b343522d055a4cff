# SPDX-License-Identifier: Apache-2.0
"""The layer of a Fourier neural operator beside its parts in PyTorch.

Convolution by FFT, truncation, mixing and inverse FFT, a pointwise matrix, a bias and the exact
GELU. The pointwise matrix as a matrix product, as a convolution of size 1 and as an einsum; the
fastest counts. Inputs are standard normal, weights of the convolution uniform in [0, 1) / C^2,
those of the matrix normal with variance 1 / C.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, gelu

from bench.entries.boundary import fourier_convolution
from bench.entries.spectral import plane_in_corners
from bench.layers import Baseline, Layer, LayerEntry


def _convolution(x: Tensor, weight: Tensor) -> Tensor:
    return (fourier_convolution if x.ndim == 3 else plane_in_corners)(x, weight)


def by_product(x: Tensor, weight: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Pointwise matrix as a batched matrix product."""
    product = (skip.mT @ x.flatten(2)).view(x.shape[0], -1, *x.shape[2:])
    return gelu(_convolution(x, weight) + product + bias.view(-1, *(1,) * (x.ndim - 2)))


def by_convolution(x: Tensor, weight: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Pointwise matrix as a convolution of size 1, bias included: the usual layer."""
    kernel = skip.mT.reshape(*skip.mT.shape, *(1,) * (x.ndim - 2))
    pointwise = (conv1d if x.ndim == 3 else conv2d)(x, kernel, bias)
    return gelu(_convolution(x, weight) + pointwise)


def by_einsum(x: Tensor, weight: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Pointwise matrix as an einsum."""
    product = torch.einsum("bi...,io->bo...", x, skip)
    return gelu(_convolution(x, weight) + product + bias.view(-1, *(1,) * (x.ndim - 2)))


def our_parts(x: Tensor, weight: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Our convolution, the rest by PyTorch."""
    from physcon_ext import ops

    product = (skip.mT @ x.flatten(2)).view(x.shape[0], -1, *x.shape[2:])
    y = ops.spectral_conv(x, weight)
    return gelu(y + product + bias.view(-1, *(1,) * (x.ndim - 2)))


def _ours(x: Tensor, weight: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    from physcon_ext import ops

    return ops.fno_block(x, weight, skip, bias)


def _reference(x: Tensor, weight: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    from physcon_ext import reference

    return reference.fno_block(x, weight, skip, bias)


_BASELINES: dict[str, Layer] = {
    "matrix product": by_product,
    "1x1 convolution": by_convolution,
    "einsum": by_einsum,
}


def _entry(batch: int, channels: int, size: tuple[int, ...], modes: tuple[int, ...]) -> LayerEntry:
    kept = (*(2 * m for m in modes[:-1]), modes[-1])

    def setup(seed: int) -> tuple[Tensor, ...]:
        g = torch.Generator().manual_seed(seed)
        return (
            torch.randn(batch, channels, *size, generator=g),
            torch.rand(*kept, channels, channels, 2, generator=g) / channels**2,
            torch.randn(channels, channels, generator=g) / channels**0.5,
            torch.randn(channels, generator=g),
        )

    text = ", ".join(["x".join(map(str, size)), "x".join(map(str, modes))])
    axes = "xyz"
    return LayerEntry(
        name=f"Fourier layer ({batch}, {channels}, {text})",
        op="fno_block",
        shape={
            "batch": batch,
            "channels": channels,
            **{f"n_{a}": n for a, n in zip(axes, size, strict=False)},
            **{f"modes_{a}": m for a, m in zip(axes, modes, strict=False)},
        },
        setup=setup,
        gradients=(0, 1, 2, 3),
        forward=_ours,
        reference=_reference,
        baselines=(
            *(Baseline(name, "torch", layer) for name, layer in _BASELINES.items()),
            Baseline("our convolution", "own", our_parts),
        ),
    )


ENTRIES = [
    _entry(20, 64, (1024,), (16,)),
    _entry(20, 64, (500,), (16,)),
    _entry(8, 64, (8192,), (16,)),
    _entry(20, 32, (64, 64), (12, 12)),
]
