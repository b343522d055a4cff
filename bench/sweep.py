# SPDX-License-Identifier: Apache-2.0
"""Spectral convolutions of random shapes beside the fastest plain PyTorch: is any of them slower?

Run from the root of the repository: ``python -m bench.sweep [--seed S] [--points K] [--dtype D]``.
Shapes are drawn evenly in the logarithm: batch 1 to 64, channels 1 to 128, 8 to 8192 points; a
quarter of them keep every wavenumber, a quarter at most 16, some a single one; sizes are powers of
two, products of small primes, or anything. One in eight has two or three axes. Forward, and forward
with both gradients, one thread, thread-CPU time, everyone once per round in random order, minimum
of 15; points that look slower than ``LIMIT`` are measured again with more rounds. Exit code 1 if
one stays below. ``--output FILE`` stores all points.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.entries.boundary import fourier_convolution
from bench.entries.spectral import matrix_product, padded_inverse, plane_at_once, plane_in_corners
from bench.layers import Layer
from bench.machine import describe
from bench.measure import Call, sample
from physcon_ext import ops


LIMIT = 0.95
ROUNDS, MORE_ROUNDS = 15, 60
_SAMPLE_SECONDS = 1e-3
_MOST_VALUES, _MOST_WEIGHTS = 2**21, 2**22
PASSES = ("forward", "forward+backward")


def corners(x: Tensor, weight: Tensor) -> Tensor:
    """Any number of axes; every corner of the spectrum mixed apart."""
    d = weight.ndim - 3
    axes = tuple(range(-d, 0))
    w = torch.view_as_complex(weight)
    spectrum = torch.fft.rfftn(x, dim=axes)
    out = spectrum.new_zeros(x.shape[0], weight.shape[-2], *spectrum.shape[-d:])
    last = slice(0, weight.shape[d - 1])
    halves = [(slice(0, m // 2), slice(-(m // 2), None)) for m in weight.shape[: d - 1]]
    for signs in product(*halves):
        at = (slice(None), slice(None), *signs, last)
        out[at] = torch.einsum("bi...,...io->bo...", spectrum[at], w[(*signs, last)])
    return torch.fft.irfftn(out, s=x.shape[-d:], dim=axes)


_PLAIN: dict[int, tuple[Layer, ...]] = {
    1: (fourier_convolution, padded_inverse, matrix_product),
    2: (plane_in_corners, plane_at_once),
    3: (corners,),
}


def _size(draw: random.Random, low: float, high: float) -> int:
    """A number of points: a power of two, a product of small primes, or anything."""
    n = math.exp(draw.uniform(math.log(low), math.log(high)))
    kind = draw.choice(("power", "power", "small primes", "anything"))
    if kind == "power":
        return int(2 ** round(math.log2(n)))
    if kind == "anything":
        return round(n)
    smooth = [2**a * 3**b * 5**c for a in range(1, 14) for b in range(3) for c in range(4)]
    return min((s for s in smooth if low <= s <= high), key=lambda s: abs(math.log(s / n)))


def _kept(draw: random.Random, most: int) -> int:
    kind = draw.choice(("all", "few", "any", "any"))
    if kind == "all":
        return most
    few = min(most, 16)
    return draw.randint(1, few) if kind == "few" else draw.randint(1, most)


def _shape(draw: random.Random) -> dict[str, Any]:
    """One point of the sweep, small enough to be measured in seconds."""
    while True:
        axes = 1 if draw.random() < 7 / 8 else draw.choice((2, 3))
        highest = {1: 8192, 2: 256, 3: 48}[axes]
        size = [_size(draw, 8, highest) for _ in range(axes)]
        modes = [2 * _kept(draw, n // 2) for n in size[:-1]] + [_kept(draw, size[-1] // 2 + 1)]
        batch = round(math.exp(draw.uniform(0, math.log(64))))
        channels = round(math.exp(draw.uniform(0, math.log(128))))
        values = batch * channels * math.prod(size)
        if values <= _MOST_VALUES and channels**2 * math.prod(modes) <= _MOST_WEIGHTS:
            return {"batch": batch, "channels": channels, "size": size, "modes": modes}


def _calls(shape: dict[str, Any], backward: bool, dtype: torch.dtype) -> list[Call]:
    """Ours first, then plain PyTorch."""
    batch, channels = shape["batch"], shape["channels"]
    x = torch.randn(batch, channels, *shape["size"], dtype=dtype)
    w = torch.rand(*shape["modes"], channels, channels, 2, dtype=dtype) / channels**2
    layers = (ops.spectral_conv, *_PLAIN[len(shape["size"])])
    if not backward:
        return [partial(layer, x, w) for layer in layers]
    upstream = torch.randn_like(x)
    leaves = (x.requires_grad_(), w.requires_grad_())

    def both(layer: Layer) -> Callable[[], object]:
        return lambda: torch.autograd.grad(layer(*leaves), leaves, upstream)

    return [both(layer) for layer in layers]


def _times(calls: list[Call], rounds: int, order: random.Random) -> list[float]:
    """Minimum of thread-CPU seconds of each call."""
    repeats = []
    for call in calls:
        call()
        repeats.append(min(40, 1 + int(_SAMPLE_SECONDS / max(sample(call, 1)[0], 1e-6))))
    best = [math.inf] * len(calls)
    for _ in range(rounds):
        for i in order.sample(range(len(calls)), len(calls)):
            calls[i]()  # whoever ran before has emptied the caches
            best[i] = min(best[i], sample(calls[i], repeats[i])[0])
    return best


def measure(shape: dict[str, Any], dtype: torch.dtype, order: random.Random) -> dict[str, Any]:
    """Return one record: the shape, our microseconds and the ratio to the fastest, per pass."""
    sizes, modes = shape["size"], shape["modes"]
    whole = torch.ops.physcon.spectral_uses_fft(
        sizes, modes, [float(n) for n in sizes], dtype == torch.float64
    )
    record = shape | {"whole_transforms": whole, "us": {}, "ratio": {}}
    for name in PASSES:
        calls = _calls(shape, name != "forward", dtype)
        best = _times(calls, ROUNDS, order)
        if min(best[1:]) < LIMIT * best[0]:
            again = _times(calls, MORE_ROUNDS, order)
            best = [min(a, b) for a, b in zip(best, again, strict=True)]
        record["us"][name] = round(1e6 * best[0], 2)
        record["ratio"][name] = round(min(best[1:]) / best[0], 3)
    return record


def slower(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points where plain PyTorch wins by more than the limit."""
    return [p for p in points if min(p["ratio"].values()) < LIMIT]


def main(argv: list[str] | None = None) -> int:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=570, help="stop after this long")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--output", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    draw, order = random.Random(arguments.seed), random.Random(1)
    points: list[dict[str, Any]] = []
    start = time.monotonic()
    while len(points) < arguments.points and time.monotonic() - start < arguments.seconds:
        point = measure(_shape(draw), getattr(torch, arguments.dtype), order)
        points.append(point)
        if slower([point]):
            print(json.dumps(point), flush=True)
    for name in PASSES:
        ratios = sorted(p["ratio"][name] for p in points)
        print(f"{name}: least {ratios[0]}, median {ratios[len(ratios) // 2]}")
    print(f"{len(slower(points))} of {len(points)} points below {LIMIT}")
    if arguments.output is not None:
        head = describe() | {"dtype": arguments.dtype, "seed": arguments.seed, "limit": LIMIT}
        lines = ",\n".join(json.dumps(point) for point in points)
        text = json.dumps(head | {"sweep": []}, indent=1).replace("[]", f"[\n{lines}\n]")
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 1 if slower(points) else 0


if __name__ == "__main__":
    sys.exit(main())
