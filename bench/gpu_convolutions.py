# SPDX-License-Identifier: Apache-2.0
"""The convolutions among the measurements of `bench.gpu_check`, with their bars.

Baselines are those of the CPU tables, and for planes the formulation that shifts the spectrum to
its centre and back. Torch is imported where it is used.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

from bench.gpu_cases import Tensors, spectral_launches
from bench.gpu_rows import Benchmark


Size = tuple[int, ...]
Function = Callable[..., Tensors]


def _single(layer: Callable[..., Any]) -> Function:
    """A layer as a function that returns a tuple."""
    return lambda *arguments: (layer(*arguments),)


def _pass(call: Function, direction: str) -> Function:
    """Forward, or with gradients of the first two arguments, the field and the weight."""
    if direction == "forward":
        return call

    def run(*arguments: Any) -> Tensors:
        import torch

        leaves = [a.detach().requires_grad_() for a in arguments[:2]]
        results = call(*leaves, *arguments[2:])
        return torch.autograd.grad(results, leaves, [torch.ones_like(r) for r in results])

    return run


def _in_several(call: Function) -> Function:
    """The same in a launch for every stage."""

    def run(*arguments: Any) -> Tensors:
        with spectral_launches("several"):
            return call(*arguments)

    return run


def _errors(ours: Function, baseline: Function) -> Callable[[Tensors], dict[str, float]]:
    """Largest relative error of the first result, beside the baseline in float64."""

    def of(arguments: Tensors) -> dict[str, float]:
        wide = baseline(*(a.double() for a in arguments))[0]
        found = {"error": ours, "baseline_error": baseline}
        return {
            name: float((call(*arguments)[0] - wide).abs().max() / wide.abs().max())
            for name, call in found.items()
        }

    return of


def shifted_plane(x: Any, weight: Any) -> Any:
    """Two axes, the spectrum shifted to its centre and back around the mixing."""
    import torch

    kept, m = weight.shape[0], weight.shape[1]
    spectrum = torch.fft.fftshift(torch.fft.rfft2(x), dim=-2)
    first = spectrum.shape[-2] // 2 - kept // 2
    w = torch.fft.fftshift(torch.view_as_complex(weight), dim=0)
    out = spectrum.new_zeros(x.shape[0], weight.shape[3], *spectrum.shape[-2:])
    part = spectrum[:, :, first : first + kept, :m]
    out[:, :, first : first + kept, :m] = torch.einsum("bixy,xyio->boxy", part, w)
    return torch.fft.irfft2(torch.fft.ifftshift(out, dim=-2), s=x.shape[-2:])


def volume_at_once(x: Any, weight: Any) -> Any:
    """Three axes, the kept corners of the spectrum in one gather."""
    import torch

    first, second, last = weight.shape[:3]
    spectrum = torch.fft.rfftn(x, dim=(-3, -2, -1))
    at = [
        # On the device from the start: a copy from the host could not be captured.
        torch.cat([torch.arange(*ends, device=x.device) for ends in ((0, m // 2), (-m // 2, 0))])
        for m in (first, second)
    ]
    kept = (..., at[0][:, None], at[1][None, :], slice(0, last))
    mixed = torch.einsum("bixyz,xyzio->boxyz", spectrum[kept], torch.view_as_complex(weight))
    out = spectrum.new_zeros(x.shape[0], weight.shape[4], *spectrum.shape[-3:])
    out[kept] = mixed
    return torch.fft.irfftn(out, s=x.shape[-3:], dim=(-3, -2, -1))


def _rounding(call: Function) -> Function:
    """A call for which matrix products may round their operands to TF32."""

    def run(*arguments: Any) -> Tensors:
        import torch

        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            return call(*arguments)
        finally:
            torch.set_float32_matmul_precision(before)

    return run


@functools.cache
def _bases(n: int, m: int, dtype: Any) -> Tensors:
    """Cosines and sines from values to wavenumbers, (n, 2 m), and back, (2 m, n)."""
    import torch

    k = torch.arange(m, device="cuda")
    turns = torch.arange(n, device="cuda")[:, None] * k % n
    angles = turns.double() * (2 * math.pi / n)
    weight = torch.where((k == 0) | (2 * k == n), 1.0, 2.0).double() / n
    there = torch.cat([angles.cos(), -angles.sin()], 1)
    return there.to(dtype), (there * weight.repeat(2)).mT.contiguous().to(dtype)


def by_matrices(x: Any, weight: Any) -> Any:
    """One axis, the truncated transforms as products with matrices: the formula alone."""
    import torch

    n, m = x.shape[-1], weight.shape[0]
    there, back = _bases(n, m, x.dtype)
    parts = (x @ there).unflatten(-1, (2, m))
    spectrum = torch.complex(parts[..., 0, :], parts[..., 1, :]).permute(2, 0, 1)
    mixed = (spectrum @ torch.view_as_complex(weight)).permute(1, 2, 0)
    return torch.cat([mixed.real, mixed.imag], -1) @ back


def _field(batch: int, channels: int, size: Size, modes: Size) -> Tensors:
    """Fresh input and weight; ``modes`` counts non-negative wavenumbers."""
    import torch

    kept = (*(2 * m for m in modes[:-1]), modes[-1])
    weight = torch.rand(*kept, channels, channels, 2, device="cuda") / channels**2
    return torch.randn(batch, channels, *size, device="cuda"), weight


def _work(batch: int, channels: int, size: Size, modes: Size) -> tuple[int, float]:
    """Bytes that one convolution must move and its operations, transforms folded."""
    kept = math.prod(modes) * 2 ** (len(modes) - 1)
    points = math.prod(size)
    moved = 8 * batch * channels * points + 8 * channels**2 * kept + 8 * batch * channels * kept
    flops = 4.0 * batch * channels * points * modes[-1] + 8.0 * batch * channels**2 * kept
    inner = modes[-1]  # complex numbers per point of the axes before
    for axis in reversed(range(len(size) - 1)):
        flops += 8.0 * batch * channels * math.prod(size[: axis + 1]) * modes[axis] * inner
        inner *= 2 * modes[axis]
    return moved, flops


def _rows(
    op: str,
    shape: Size,
    make: Callable[[], Tensors],
    ours: Function,
    baselines: dict[str, Function],
    bars: dict[str, float],
    work: tuple[int, float],
) -> Iterator[Benchmark]:
    """Forward, and forward with backward at 0.8 of the bars."""
    for direction in ("forward", "forward+backward"):
        once = direction == "forward"
        calls = {name: _pass(call, direction) for name, call in baselines.items()}
        exact = calls.get("published", calls["torch"])
        if len(shape) == 4:  # batch, channels, points and modes of a line
            calls["several"] = _in_several(_pass(ours, direction))
        yield Benchmark(
            *(op, shape, direction, make, _pass(ours, direction), calls),
            {name: bar if once else 0.8 * bar for name, bar in bars.items()},
            bytes=work[0] * (1 if once else 2),
            flops=work[1] * (1 if once else 2.5),
            errors=_errors(_pass(ours, direction), exact),
        )


LINES: tuple[tuple[Size, dict[str, float]], ...] = (
    ((20, 64, 1024, 16), {"ratio_torch": 5.0, "ratio_torch_graph": 3.0}),
    ((256, 64, 8192, 16), {"ratio_torch": 3.5}),
    ((256, 64, 8192, 64), {"ratio_torch": 2.5}),
)
PLANES: tuple[Size, ...] = ((16, 64, 128, 12), (16, 64, 256, 32))
VOLUME: Size = (8, 32, 64, 8)
LAYER: Size = (20, 64, 1024, 16)  # of the corrected convolution and of the Fourier layer


def benchmarks() -> Iterator[Benchmark]:
    """The rows of the convolutions."""
    from bench.entries.boundary import fourier_convolution
    from bench.entries.spectral import (
        matrix_product,
        padded_inverse,
        plane_at_once,
        plane_in_corners,
    )
    from physcon_ext import ops

    plain = _single(ops.spectral_conv)
    for (batch, channels, n, m), bars in LINES:
        size, modes = (n,), (m,)
        yield from _rows(
            "spectral_conv",
            (batch, channels, n, m),
            lambda a=(batch, channels, size, modes): _field(*a),
            plain,
            {
                "torch": _single(fourier_convolution),
                "torch_padded": _single(padded_inverse),
                "torch_product": _single(matrix_product),
                "matrices": _single(by_matrices),
            },
            bars,
            _work(batch, channels, size, modes),
        )
    # Beside what rounds as well; the matrix units leave the memory as the floor.
    (batch, channels, n, m), _ = LINES[-1]
    work = _work(batch, channels, (n,), (m,))[0], 0.0
    yield from _rows(
        "spectral_conv, TF32",
        (batch, channels, n, m),
        lambda a=(batch, channels, (n,), (m,)): _field(*a),
        _rounding(plain),
        {"torch": _rounding(_single(by_matrices))},
        {},
        work,
    )
    for batch, channels, n, m in PLANES:
        size, modes = (n, n), (m, m)
        yield from _rows(
            "spectral_conv",
            (batch, channels, *size, *modes),
            lambda a=(batch, channels, size, modes): _field(*a),
            plain,
            {
                "torch": _single(plane_in_corners),
                "torch_joined": _single(plane_at_once),
                "shifted": _single(shifted_plane),
            },
            {"ratio_torch": 4.0, "ratio_shifted": 5.0},
            _work(batch, channels, size, modes),
        )
    batch, channels, n, m = VOLUME
    size, modes = (n,) * 3, (m,) * 3
    yield from _rows(
        "spectral_conv",
        (batch, channels, *size, *modes),
        lambda: _field(batch, channels, size, modes),
        plain,
        {"torch": _single(volume_at_once)},
        {"ratio_torch": 4.0},
        _work(batch, channels, size, modes),
    )
    yield from _corrected()
    yield from _corrected_plane()
    yield from _block()


def _corrected_plane() -> Iterator[Benchmark]:
    """A plane corrected along its first axis, with prescribed ends, beside the plain convolution.

    The gains are random: what is measured does not depend on them.
    """
    import torch

    from bench.entries.spectral import plane_in_corners
    from physcon_ext import ops

    batch, channels, n, m = PLANES[0]
    size, modes = (n, n), (m, m)

    def make() -> Tensors:
        x, weight = _field(batch, channels, size, modes)
        values = torch.randn(batch, channels, 2, n, device="cuda")
        gain = torch.randn(m, 4 * channels, 2 * channels, 2, device="cuda") / (100 * channels)
        stencil = torch.zeros(2, 1, dtype=torch.float64, device="cuda")
        return x, weight, values, gain.double(), stencil

    def ours(x: Any, weight: Any, values: Any, gain: Any, stencil: Any) -> Tensors:
        faces: dict[str, Any] = {"values": [values, None], "stencils": [stencil, None]}
        return (ops.boundary_spectral_conv(x, weight, [gain, None], **faces),)

    baselines: dict[str, Function] = {
        "torch": lambda x, weight, *_: (plane_in_corners(x, weight),),
        "plain": lambda x, weight, *_: (ops.spectral_conv(x, weight),),
    }
    yield Benchmark(
        *("boundary_spectral_conv", (batch, channels, *size, *modes), "forward", make, ours),
        baselines,
        {"ratio_plain_graph": 1 / 1.5},
        bytes=_work(batch, channels, size, modes)[0],
        flops=_work(batch, channels, size, modes)[1],
        errors=_errors(ours, ours),
    )


def _corrected() -> Iterator[Benchmark]:
    """The corrected layer; forward its gains belong to the weight and are made before."""
    import torch

    from bench.entries.boundary import fourier_convolution, published_layer
    from physcon_ext import ops
    from physcon_ext.boundary import BoundaryConditions, Dirichlet
    from physcon_ext.functional import boundary_spectral_conv, correction_gains

    batch, channels, n, m = LAYER
    bc = BoundaryConditions(left=Dirichlet(), right=Dirichlet())

    def make() -> Tensors:
        x, weight = _field(batch, channels, (n,), (m,))
        values = torch.randn(batch, channels, 2, device="cuda")
        # Made on the host, once per weight.
        (gain,) = correction_gains(weight.cpu(), bc, [n], correction="published")
        stencil = torch.zeros(2, 1, dtype=torch.float64, device="cuda")
        return x, weight, values, gain.to(x.device), stencil

    def ours(x: Any, weight: Any, values: Any, gain: Any, stencil: Any) -> Tensors:
        return (ops.boundary_spectral_conv(x, weight, [gain], values=[values], stencils=[stencil]),)

    baselines: dict[str, Function] = {
        "torch": lambda x, weight, *_: (fourier_convolution(x, weight),),
        "published": lambda x, weight, values, *_: (published_layer(x, weight, values),),
        "plain": lambda x, weight, *_: (ops.spectral_conv(x, weight),),
    }
    bars = {
        "ratio_published": 20.0,
        "ratio_published_graph": 10.0,
        "ratio_plain_graph": 1 / 1.15,
    }
    work = _work(batch, channels, (n,), (m,))
    rows = _rows("boundary_spectral_conv", LAYER, make, ours, baselines, bars, work)
    yield next(rows)  # forward: the gains belong to the weight

    def trained(x: Any, weight: Any, values: Any, *_: Any) -> Tensors:
        """The gains made anew and differentiated through, as a step of training does."""
        data = {"left": values[:, :, 0], "right": values[:, :, 1]}
        return (boundary_spectral_conv(x, weight, bc, data, correction="published"),)

    direction = "forward+backward"
    exact = _pass(baselines["published"], direction)
    yield Benchmark(
        *("boundary_spectral_conv", LAYER, direction, make, _pass(trained, direction)),
        {"published": exact, "plain": _pass(baselines["plain"], direction)},
        {name: 0.8 * bar for name, bar in bars.items()},
        bytes=2 * work[0],
        flops=2.5 * work[1],
        errors=_errors(_pass(trained, direction), exact),
        note="ours makes the gains from the weight in every call",
    )


def _block() -> Iterator[Benchmark]:
    """The Fourier layer: convolution, matrix, bias, activation."""
    import torch

    from bench.entries.boundary import fourier_convolution
    from physcon_ext import ops

    batch, channels, n, m = LAYER

    def make() -> Tensors:
        skip = torch.randn(channels, channels, device="cuda") / channels**0.5
        bias = torch.randn(channels, device="cuda")
        return (*_field(batch, channels, (n,), (m,)), skip, bias)

    def baseline(x: Any, weight: Any, skip: Any, bias: Any) -> Tensors:
        product = torch.baddbmm(bias[:, None], skip.T.expand(x.shape[0], -1, -1), x)
        return (torch.nn.functional.gelu(fourier_convolution(x, weight) + product),)

    def by_conv1d(x: Any, weight: Any, skip: Any, bias: Any) -> Tensors:
        product = torch.nn.functional.conv1d(x, skip.T[..., None], bias)
        return (torch.nn.functional.gelu(fourier_convolution(x, weight) + product),)

    moved, flops = _work(batch, channels, (n,), (m,))
    yield from _rows(
        "fno_block",
        LAYER,
        make,
        _single(ops.fno_block),
        {"torch": baseline, "torch_conv1d": by_conv1d},
        {"ratio_torch": 5.0},
        (moved, flops + 2.0 * batch * channels**2 * n),
    )
