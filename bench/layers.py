# SPDX-License-Identifier: Apache-2.0
"""Layers beside other ways to compute the same: any tensors in, one tensor out.

The protocol is that of :mod:`bench.measure`; records have the fields of the constraint updates, so
that one table and one comparison serve both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.measure import Call, Contender, interleave


Layer = Callable[..., Tensor]

ROUNDS = 15
_TOLERANCE = {"forward": 1e-5, "forward+backward": 1e-4}


@dataclass(frozen=True)
class Baseline:
    """Another way to the same result, or something else to compare the time with.

    Attributes:
        name: What it is.
        kind: ``"published"``, ``"torch"`` or ``"own"``: another op of ours.
        layer: The function.
        same: Whether it must give the same result.
    """

    name: str
    kind: str
    layer: Layer
    same: bool = True


@dataclass(frozen=True)
class LayerEntry:
    """One shape of one layer.

    Attributes:
        name: Unique name, also what ``--filter`` matches.
        op: Name of the op measured.
        shape: Sizes, by name.
        setup: Seed to fresh float32 inputs.
        gradients: Positions of the inputs that get a gradient.
        forward: Ours.
        reference: The same in obvious PyTorch; run on float64 inputs it is the truth.
        baselines: What it is compared with; the fastest of each kind counts.
        passes: What is timed.
        quick: Whether ``--quick`` includes it.
    """

    name: str
    op: str
    shape: dict[str, int]
    setup: Callable[[int], tuple[Tensor, ...]]
    gradients: tuple[int, ...]
    forward: Layer
    reference: Layer
    baselines: tuple[Baseline, ...]
    passes: tuple[str, ...] = ("forward", "forward+backward")
    quick: bool = False


Drawn = tuple[tuple[Tensor, ...], Tensor]


def _draw(entry: LayerEntry, backward: bool, seed: int) -> Drawn:
    """Fresh inputs and, for the backward pass, a gradient of the result."""
    inputs = entry.setup(seed)
    if not backward:
        return inputs, inputs[0]
    leaves = tuple(x.detach().requires_grad_(i in entry.gradients) for i, x in enumerate(inputs))
    with torch.no_grad():
        like = entry.forward(*inputs)
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    return leaves, torch.randn(like.shape, generator=generator)


def _binder(entry: LayerEntry, layer: Layer, backward: bool) -> Callable[[Any, Any], Call]:
    def run(inputs: tuple[Tensor, ...], upstream: Tensor) -> object:
        if not backward:
            return layer(*inputs)
        wanted = [inputs[i] for i in entry.gradients]
        return torch.autograd.grad(layer(*inputs), wanted, upstream, allow_unused=True)

    return lambda inputs, upstream: lambda: run(inputs, upstream)


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).abs().max() / truth.abs().max())


class _Judge:
    """Compares results with the float64 reference on one fixed draw."""

    def __init__(self, entry: LayerEntry, backward: bool) -> None:
        self.entry, self.backward = entry, backward
        self.inputs, self.upstream = _draw(entry, backward, seed=0)
        exact = tuple(
            x.detach().double().requires_grad_(backward and i in entry.gradients)
            for i, x in enumerate(self.inputs)
        )
        self.truth = self._results(entry.reference, exact)

    def _results(self, layer: Layer, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        y = layer(*inputs)
        if not self.backward:
            return [y]
        wanted = [inputs[i] for i in self.entry.gradients]
        return list(torch.autograd.grad(y, wanted, self.upstream.to(y.dtype)))

    def errors(self, layer: Layer) -> dict[str, float]:
        """Errors of the result, or of each gradient, relative to the largest element."""
        found = self._results(layer, self.inputs)
        names = [f"input {i}" for i in self.entry.gradients] if self.backward else ["output"]
        pairs = zip(names, found, self.truth, strict=True)
        return {name: _relative(x, y) for name, x, y in pairs}

    def accepts(self, errors: dict[str, float]) -> bool:
        """Tell whether the errors are those of correct float32 arithmetic."""
        limit = _TOLERANCE["forward+backward" if self.backward else "forward"]
        return all(x <= limit for x in errors.values())


def measure_layer(entry: LayerEntry, mode: str, threads: int) -> dict[str, Any]:
    """Measure one entry in one pass and thread count: one element of ``entries`` of the file."""
    torch.set_num_threads(threads)
    backward = mode != "forward"
    judge = _Judge(entry, backward)
    errors = judge.errors(entry.forward)
    bind = _binder(entry, entry.forward, backward)
    everyone = [Contender("ours", "ours", bind, ROUNDS, error=errors)]
    for baseline in entry.baselines:
        own = judge.errors(baseline.layer) if baseline.same else {}
        bind = _binder(entry, baseline.layer, backward)
        everyone.append(Contender(baseline.name, baseline.kind, bind, ROUNDS, error=own))
    interleave(everyone, lambda seed: _draw(entry, backward, seed), seed=1000)

    which = "cpu_us" if threads == 1 else "wall_us"
    ours = everyone[0].summary()
    found: dict[str, Any] = {"published": None, "torch": None, "compiled": None, "own": None}
    for contender in everyone[1:]:
        timing = contender.summary()
        timing["ratio"] = {k: timing[which][k] / ours[which][k] for k in ("min", "median")}
        timing["ratio_wall"] = {
            k: timing["wall_us"][k] / ours["wall_us"][k] for k in ("min", "median")
        }
        best = found[contender.kind]
        if best is None or timing[which]["min"] < best[which]["min"]:
            found[contender.kind] = timing
    return {
        "name": entry.name,
        "op": entry.op,
        "shape": entry.shape,
        "rows": None,
        "output": None,
        "gradients": [f"input {i}" for i in entry.gradients] if backward else [],
        "dtype": "float32",
        "mode": "eager",
        "pass": mode,
        "threads": threads,
        "correct": judge.accepts(errors),
        "ours": ours,
        "baselines": found,
        "screened_us": {},
        "bytes": None,
        "flops": None,
        "floor_us": None,
        "floor_fraction": None,
    }
