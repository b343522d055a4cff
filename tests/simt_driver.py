# SPDX-License-Identifier: Apache-2.0
"""Builds the CUDA kernels for the CPU, under the SIMT shim, and runs problems through them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


ROOT = Path(__file__).parents[1]
SHIM = ROOT / "tests/cuda_shim"
KERNELS = ROOT / "csrc/core/cuda"
BUILD = ROOT / "build/cuda_shim"
COMPILER = os.environ.get("CXX", "g++")
FLAGS = [
    *("-x", "c++", "-std=c++17", "-O1", "-g1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"),
    *("-Wno-unknown-pragmas", '-DPHYSCON_CUDA_ARCHITECTURES="host"'),
]
MODES = {
    # Fibers in random order; shared memory and outputs start as NaN.
    "fibers": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    # A thread of the system per device thread.
    "threads": ["-fsanitize=thread", "-DSIMT_THREADS", "-pthread"],
}
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
OPS = {
    "condition_diagonal": 0,
    "condition_cross": 0,
    "condition_dense": 0,
    "condition_diagonal_backward": 1,
    "condition_cross_backward": 1,
    "condition_disjoint": 2,
    "condition_disjoint_backward": 3,
    "condition_banded": 4,
    "condition_banded_backward": 5,
    "banded_product": 6,
}


def build(
    mode: str,
    changed: dict[str, str] | None = None,
    *,
    driver: str = "driver.cpp",
    kernels: str = "*.cu",
    sanitized: bool = False,
) -> Path:
    """Compile the kernels, the shim and a driver; ``changed`` maps kernel files to new text.

    What a change reaches is compiled without sanitizers, several times as quickly, unless it is to
    be ``sanitized``. A driver may do with some of the ``kernels``, a pattern of file names.
    Programs and object files are kept in ``build/`` by all that they are made of.
    """
    if shutil.which(COMPILER) is None:
        raise RuntimeError(f"{COMPILER} not found; set CXX to a C++17 compiler with sanitizers")
    texts = {p.name: p.read_text() for p in KERNELS.iterdir()}
    texts |= {p.name: p.read_text() for p in SHIM.iterdir()}
    interface = {p.name: p.read_text() for p in KERNELS.parent.glob("*.hpp")}
    right = texts | interface
    texts = right | (changed or {})
    units = [n for n in texts if fnmatch(n, kernels)] + ["simt.cpp", f"{mode}.cpp", driver]
    flags = dict.fromkeys(units, MODES[mode])
    for unit in units:
        if not sanitized and _parts(unit, texts) != _parts(unit, right):
            flags[unit] = ["-O0", *(flag for flag in MODES[mode] if "sanitize" not in flag)]
    keys = {u: _hash(repr((COMPILER, FLAGS, flags[u], _parts(u, texts)))) for u in units}
    folder = BUILD / f"{mode}-{_hash(repr(sorted(keys.items())))}"
    program = folder / "driver"
    objects = BUILD / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    with open(BUILD / f"lock-{mode}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.exists():
            return program
        copy = folder / "core/cuda"
        copy.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / "core" / name if name in interface else copy / name).write_text(text)
        options = [*FLAGS, f"-I{copy}", f"-I{folder}", f"-I{folder / 'core'}"]

        def compile_one(unit: str) -> Path:
            target = objects / f"{keys[unit]}.o"
            if not target.exists():
                partial = target.with_suffix(".part")
                _run([COMPILER, *options, *flags[unit], "-c", str(copy / unit), "-o", str(partial)])
                partial.rename(target)
            return target

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            compiled = list(pool.map(compile_one, units))
        partial = folder / "driver.part"
        _run([COMPILER, *MODES[mode], "-rdynamic", *map(str, compiled), "-ldl", "-o", str(partial)])
        partial.rename(program)
    return program


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parts(unit: str, texts: dict[str, str]) -> list[tuple[str, str]]:
    """All that a unit is made of: names and texts."""
    seen: dict[str, str] = {}
    waiting = [unit]
    while waiting:
        name = waiting.pop()
        if name in texts and name not in seen:
            seen[name] = texts[name]
            waiting += [Path(p).name for p in re.findall(r'#include ["<]([^">]+)', texts[name])]
    return sorted(seen.items())


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")


@dataclass(frozen=True)
class Plan:
    """How a call is cut; ``threads=0`` leaves it to the entry point, for 4 multiprocessors."""

    threads: int = 0
    warps: bool = False
    splits: int = 1
    in_shared: bool = True
    slots: int = 1
    seed: int = 0
    skip: int = -1


@dataclass
class Problem:
    """One call of a raw op: its name, its arguments on the CPU, and how to run it."""

    op: str
    arguments: tuple[Any, ...]
    plan: Plan = field(default_factory=Plan)

    def seeded(self, seed: int, skip: int = -1) -> Problem:
        """The same problem in another order of threads, perhaps without one barrier."""
        return Problem(self.op, self.arguments, replace(self.plan, seed=seed, skip=skip))


@dataclass
class Answer:
    """What a call returned, and how.

    Attributes:
        outputs: What it returned.
        barriers: That a thread passed in the longest launch.
        kernels: That ran: their names to the linker, and threads of a block.
        launches: How many of them belong to the call, and not to the tables of its grid.
    """

    outputs: list[Tensor]
    barriers: int
    kernels: list[tuple[str, int]]
    launches: int


class Failure(RuntimeError):
    """The program stopped: a sanitizer or the shim found something."""


def run(program: Path, problems: Sequence[Problem]) -> list[Answer]:
    """Run problems in one process.

    Raises:
        Failure: If a sanitizer or the shim stops the program.
    """
    return run_encoded(program, [_encode(problem) for problem in problems])


Encoded = tuple[bytes, list[tuple[tuple[int, ...], torch.dtype]]]


def run_encoded(program: Path, calls: Sequence[Encoded]) -> list[Answer]:
    """Run problems that are given as bytes, with shapes and dtypes of what comes back."""
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [str(program)],
        input=b"".join(data for data, _ in calls),
        capture_output=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        report = done.stderr.decode(errors="replace")
        # The first lines say what was found; names of nested lambdas may fill all of the last.
        raise Failure(report if len(report) <= 8000 else f"{report[:4000]} ... {report[-4000:]}")
    answers, at = [], 0
    for _, outputs in calls:
        barriers, named, length = struct.unpack_from("<3q", done.stdout, at)
        at += 24
        ran = [line.split() for line in done.stdout[at : at + named].decode().splitlines()]
        kernels = [(name, int(threads)) for name, threads, _ in ran]
        launches = sum(int(counts) for *_, counts in ran)
        at += named
        error = done.stdout[at : at + length].decode()
        at += length
        if error:
            raise Failure(error)
        found = []
        for shape, dtype in outputs:
            (size,) = struct.unpack_from("<q", done.stdout, at)
            at += 8
            bytes_ = bytearray(done.stdout[at : at + size])
            data = torch.frombuffer(bytes_, dtype=dtype) if size else torch.empty(0, dtype=dtype)
            found.append(data.reshape(shape))
            at += size
        answers.append(Answer(found, barriers, kernels, launches))
    assert at == len(done.stdout)
    return answers


def _encode(problem: Problem) -> Encoded:
    """Bytes for the driver, and shapes and dtypes of what comes back."""
    op, a = problem.op, problem.arguments
    double, index = torch.float64, torch.int32
    rank_sized: list[tuple[tuple[int, ...], torch.dtype]]
    support, matrix = 0, False
    arrays: list[Tensor | None]
    if op.startswith("condition_disjoint"):
        back = op.endswith("backward")
        mean, weights = (a[3], a[5]) if back else (a[0], a[2])
        order, offsets = (a[6], a[7]) if back else (a[5], a[6])
        batch, n = mean.shape[:-1], mean.shape[-1]
        support, rank = weights.shape[-1], offsets.numel() - 1
        shared, dtype = weights.ndim == 1 and len(batch) > 0, mean.dtype
        listed = order if order.numel() else None
        if back:
            arrays = [*a[:6], listed, offsets, a[10], a[11]]
            sizes = [(n,), (n,), (support,), (rank,), (rank,)]
            outputs = [((*batch, *s), dtype) for s in sizes]
        else:
            arrays = [*a[:5], listed, offsets]
            outputs = [((*batch, *s), dtype) for s in [(n,), (n,), (support,)]]
            outputs += [((*batch, rank), t) for t in (double, double, index)]
    elif "banded" in op:
        back, product = op.endswith("backward"), op == "banded_product"
        like, stencil = (a[2], a[4]) if back else (a[0], a[1 if product else 2])
        batch, n, dtype = like.shape[:-1], like.shape[-1], like.dtype
        rank = a[3].shape[-2] if product else 0
        shared = stencil.ndim == 2 and len(batch) > 0
        if product:
            arrays = [*a]
            outputs = [((*batch, rank, n), dtype)]
        elif back:
            arrays = [*a[:2], *a[3:5], *a[6:]]
            sizes = [(n,), (n,), (n - 2, 3), (n - 2,), (n - 2,)]
            outputs = [((*batch, *s), dtype) for s in sizes]
        else:
            arrays = [*a]
            outputs = [((*batch, n), dtype)] * 2
            outputs += [((*batch, 3, n), double), ((*batch, n - 2), double), ((*batch, 1), index)]
    elif op.endswith("backward"):
        cross = op == "condition_cross_backward"
        mean, rows = a[3], a[6] if cross else a[5]
        batch, n, rank, dtype = mean.shape[:-1], mean.shape[-1], rows.shape[-2], mean.dtype
        shared = rows.ndim == 2 and len(batch) > 0
        arrays = [*a[:5], a[5] if cross else None, rows, *a[-3:-1]]
        lead = batch if not shared else ()
        outputs = [((*batch, n), dtype)] * 2
        outputs += [((*batch, rank, n) if cross else (0,), dtype), ((*lead, rank, n), dtype)]
        outputs += [((*batch, rank), dtype), ((*batch, rank, rank), dtype)]
    else:
        dense, cross = op == "condition_dense", op == "condition_cross"
        mean = a[0]
        rows, target, noise = a[3:6] if cross else a[2:5]
        batch, n, rank, dtype = mean.shape[:-1], mean.shape[-1], rows.shape[-2], mean.dtype
        shared, matrix = rows.ndim == 2 and len(batch) > 0, noise.ndim > target.ndim
        variance = None if dense else a[1]
        prior = [a[2] if cross else None, a[1] if dense else None]
        arrays = [mean, variance, *prior, rows, target, noise]
        outputs = [((*batch, n), dtype), ((*batch, n), dtype), ((*batch, rank, n), dtype)]
        whole = not cross and dtype.itemsize > 2
        outputs += [((*batch, n, n) if whole else (0,), dtype)]
        outputs += [((*batch, rank, n) if dense else (0,), dtype)]
        rank_sized = [((*batch, rank, rank), double), ((*batch, rank), double)]
        outputs += [*rank_sized, ((*batch, rank), index)]
    plan = problem.plan
    header = struct.pack(
        "<16q",
        *(OPS[op], TYPES[dtype], batch.numel(), n, rank, support, matrix, shared),
        *(plan.threads, plan.warps, plan.splits, plan.in_shared, plan.slots, plan.seed, plan.skip),
        4,
    )
    return header + array_bytes(arrays), outputs


def array_bytes(arrays: Sequence[Tensor | None]) -> bytes:
    """Every array as a byte count and its bytes; None counts as empty."""
    parts = []
    for array in arrays:
        data = b"" if array is None else _bytes(array)
        parts += [struct.pack("<q", len(data)), data]
    return b"".join(parts)


def _bytes(array: Tensor) -> bytes:
    array = array.detach().contiguous()
    return (array.view(torch.int16) if array.dtype.itemsize == 2 else array).numpy().tobytes()
