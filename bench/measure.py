# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing: every contender once per round, on the same fresh inputs.

A *sample* is the mean of a few back-to-back calls, enough of them to last about two milliseconds,
after one call that is not timed: whoever ran before has emptied the caches and the allocator.
Thread-CPU time is the measure at one thread: it does not count what other processes take. It says
nothing about a second thread, so two threads are compared by wall time.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.entry import Inputs


Call = Callable[[], object]

WARM_UP_ROUNDS = 3
_SAMPLE_SECONDS = 2e-3
_MOST_REPEATS = 40


@dataclass
class Contender:
    """One thing to time. ``bind`` makes the timed call from the inputs of a round."""

    name: str
    kind: str  # "ours", "published", "torch", "compiled" or "copy"
    bind: Callable[[Inputs, tuple[Tensor, Tensor]], Call]
    rounds: int
    repeats: int = 1
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    error: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return minimum and median in microseconds, for the record."""
        return {
            "name": self.name,
            "kind": self.kind,
            "rounds": len(self.wall),
            "cpu_us": {"min": 1e6 * min(self.cpu), "median": 1e6 * statistics.median(self.cpu)},
            "wall_us": {"min": 1e6 * min(self.wall), "median": 1e6 * statistics.median(self.wall)},
            "error": self.error,
        }


def sample(call: Call, repeats: int) -> tuple[float, float]:
    """Return thread-CPU and wall seconds per call, averaged over ``repeats`` calls."""
    wall, cpu = time.perf_counter(), time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats


def interleave(
    contenders: list[Contender],
    draw: Callable[[int], tuple[Inputs, tuple[Tensor, Tensor]]],
    *,
    seed: int,
    warm_up: int = WARM_UP_ROUNDS,
) -> None:
    """Fill the samples of all contenders, A/B/A/B, each round on fresh inputs.

    Args:
        contenders: What to time; each takes part in its first ``rounds`` rounds.
        draw: Seed to inputs and cotangents.
        seed: First seed; round ``k`` uses ``seed + k``.
        warm_up: Rounds before the first that counts. Contenders of fewer than 15 rounds, that is
            the slow ones, warm up once.
    """
    rounds = max(c.rounds for c in contenders)
    order = random.Random(seed)
    collecting = gc.isenabled()
    try:
        for number in range(-warm_up, rounds):
            inputs, cotangents = draw(seed + number)
            gc.collect()
            gc.disable()
            # A new order each round, so that nobody always follows the same contender.
            for contender in order.sample(contenders, len(contenders)):
                slow = contender.rounds < rounds
                if number >= contender.rounds or (slow and number < -1):
                    continue
                call = contender.bind(inputs, cotangents)
                if not slow:
                    call()
                cpu, wall = sample(call, contender.repeats)
                if number < 0:
                    wanted = int(_SAMPLE_SECONDS / max(wall, 1e-9)) + 1
                    contender.repeats = min(_MOST_REPEATS, wanted)
                else:
                    contender.cpu.append(cpu)
                    contender.wall.append(wall)
            gc.enable()
    finally:
        if collecting:
            gc.enable()


def _best(call: Call, rounds: int) -> float:
    call()
    return min(sample(call, 1)[1] for _ in range(rounds))


def copy_rate(size: int) -> float:
    """Return read plus written bytes per second of a copy between two buffers of ``size`` bytes."""
    source = torch.ones(size // 4)
    target = torch.empty_like(source)
    repeats = max(1, 2**22 // size)

    def call() -> None:
        for _ in range(repeats):
            target.copy_(source)

    return 2 * size * repeats / _best(call, 15)


def matmul_rate(dtype: torch.dtype, size: int = 768) -> float:
    """Return floating-point operations per second of a square matrix product."""
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    out = torch.empty_like(a)
    return 2.0 * size**3 / _best(lambda: torch.mm(a, b, out=out), 15)


def machine_rates(threads: int) -> dict[str, float]:
    """Return copy rates of three buffer sizes (GB/s) and matrix product rates (GFLOP/s)."""
    torch.set_num_threads(threads)
    return {
        "threads": float(threads),
        "copy_256MiB_GBps": copy_rate(2**28) / 1e9,
        "copy_4MiB_GBps": copy_rate(2**22) / 1e9,
        "copy_256KiB_GBps": copy_rate(2**18) / 1e9,
        "matmul_float32_GFLOPps": matmul_rate(torch.float32) / 1e9,
        "matmul_float64_GFLOPps": matmul_rate(torch.float64) / 1e9,
    }
