# SPDX-License-Identifier: Apache-2.0
"""Data sets of random samples, written sample by sample and resumable at any moment."""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from physcon_ext._load import compiled
from physcon_ext.data.layout import (
    DONE,
    FORMAT,
    FORMAT_VERSION,
    STATUS,
    DataError,
    SampleWriter,
    as_stored,
    checksum,
    checksum_path,
    create,
    read_config,
    require_h5py,
    size_of,
)
from physcon_ext.data.records import Column, Grid, exact_record, make_grid
from physcon_ext.data.schema import open_file
from physcon_ext.data.streams import SampleStream, sample_seed
from physcon_ext.pde import Equation, PlaneProblem, Problem, Wave, equation


SPLIT = {"train": 0.8, "valid": 0.1, "test": 0.1}
# Sample numbers are handed to a worker this many at a time, and so many batches wait for it.
_BATCH = 8
_WAITING = 3
_SECONDS_PER_LOG_LINE = 2.0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Samples in the file.
        samples: Samples that it will hold.
        size: Size of the file in bytes, exact from the start.
        rate: Samples per second of this run, 0 before the first one.
        remaining: Seconds to go, infinite before the first sample.
    """

    done: int
    samples: int
    size: int
    rate: float = 0.0
    remaining: float = float("inf")


@dataclass(frozen=True)
class Report:
    """What a run of :func:`generate` did.

    Attributes:
        file: The file.
        samples: Samples in it, all complete.
        written: Samples computed by this run; fewer than ``samples`` after a resume.
        size: Size of the file in bytes.
        seconds: Wall time of the run.
        log: The log, one JSON object a line.
    """

    file: Path
    samples: int
    written: int
    size: int
    seconds: float
    log: Path


@dataclass(frozen=True)
class Estimate:
    """What a run of :func:`generate` would need.

    Attributes:
        file: The file that it would write.
        samples: Samples that it would hold.
        size: Size of the file in bytes, exact.
        free: Free space of the disk in bytes.
        seconds: Time that the run would take, from that of the first sample.
    """

    file: Path
    samples: int
    size: int
    free: int
    seconds: float


@dataclass(frozen=True)
class _Plan:
    """Everything that determines the samples."""

    kind: type[Equation]
    ranges: Mapping[str, tuple[float, float]]
    grid: Grid
    seed: int
    dtype: str
    points: bool
    route: str
    choices: Mapping[str, Any]

    def equation(self, index: int) -> Equation:
        return self.kind.draw(SampleStream(sample_seed(self.seed, index)), self.ranges)

    def record(self, index: int) -> tuple[list[Column], dict[str, Any]]:
        """Columns of a sample, and the settings of the solver that made it, if one did."""
        drawn = self.equation(index)
        if self.route == "exact":
            return exact_record(drawn, self.grid, self.points), {}
        from physcon_ext.data.solved import solved_record

        return solved_record(drawn, self.grid, self.choices)

    def parts(self, index: int) -> tuple[list[bytes], list[int]]:
        """Raw numbers of each dataset of a sample, and their checksums."""
        columns, _ = self.record(index)
        parts = [as_stored(column, self.dtype).tobytes() for column in columns]
        return parts, [checksum(part) for part in parts]


def generate(
    equation_name: str,
    samples: int,
    file: str | Path,
    *,
    cells: int | None = None,
    times: int | Sequence[float] | Tensor | None = None,
    params: Mapping[str, float | tuple[float, float]] | None = None,
    seed: int = 0,
    workers: int | None = None,
    resume: bool = False,
    dtype: str = "float32",
    points: bool = False,
    route: str | None = None,
    solver: Mapping[str, Any] | None = None,
    split: Mapping[str, float] | None = None,
    log: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Write a data set of random samples of an equation.

    Args:
        equation_name: A name of :data:`physcon_ext.pde.EQUATIONS`.
        samples: Number of samples, at least 1.
        file: The HDF5 file to write.
        cells: Cells per axis; the usual number of the equation when None.
        times: Output times, increasing from 0 or later, or their number, equally spaced over the
            usual duration.
        params: By name of a parameter, ``(low, high)`` to draw from uniformly, or a fixed number.
        seed: Seed of the data set, at least 0. Sample ``i`` depends on the seed and on ``i``
            alone.
        workers: Threads that compute samples; one per processor when None.
        resume: Continue a file that an earlier run with the same settings left unfinished; start
            it if there is none.
        dtype: ``"float32"`` or ``"float64"``, of fields and fluxes; grids, parameters and totals
            are always float64. Everything is computed in float64.
        points: Also store the point values on the faces (one-dimensional exact solutions).
        route: ``"exact"``: from the exact solution; ``"fv"``: by the default scheme of
            :mod:`physcon_ext.fv`, started from the exact cell averages. ``exact`` where it exists
            when None.
        solver: With the route ``fv``, what to take instead of the defaults of the solver: by name
            ``scheme``, ``average``, ``integrator`` or ``cfl``, where it has them.
        split: Shares of consecutive samples by name of the part; 0.8, 0.1, 0.1 for ``train``,
            ``valid``, ``test`` by default.
        log: One JSON object a line; ``FILE.log.jsonl`` when None.
        progress: Called with the state of the run, at the start and after each sample.

    Returns:
        What was done.

    Raises:
        ImportError: If h5py is missing.
        FileExistsError: If the file exists and ``resume`` is False.
        BlockingIOError: If another process writes the file.
        OSError: If the disk is too small or full. A file that was begun can be resumed.
        ValueError: If an argument is out of range, a step would be unstable, or a parameter makes
            the solution end before the last time.
        DataError: If the file to resume is damaged or was made with other settings.

    Notes:
        Conservation: totals, sources and face fluxes integrated over each interval are stored with
        every sample and balance to rounding.
        Determinism: the bytes of the finished file do not depend on the number of workers, nor on
        whether and how often the run was stopped and resumed.
        Interruption: at every moment the file is readable. A sample counts once its status is
        set, after its numbers; a resumed run checks the checksums of finished samples and computes
        again those that fail.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> report = generate("stefan", 3, f"{folder.name}/stefan.h5", cells=20, times=5)
        >>> report.samples, report.written
        (3, 3)
        >>> folder.cleanup()
    """
    require_h5py()
    start = time.perf_counter()
    path = _place(file)
    threads = _threads(workers)
    plan, parts = _plan(
        equation_name, samples, cells, times, params, seed, dtype, points, route, solver, split
    )
    log_path = path.with_name(path.name + ".log.jsonl") if log is None else Path(log)
    pattern, used = plan.record(0)
    settings = _settings(plan, parts, samples, used)
    missing = _prepare(path, plan, parts, pattern, settings, resume)
    size = path.stat().st_size
    state = Progress(samples - len(missing), samples, size)
    with (
        log_path.open("a", encoding="utf-8") as lines,
        SampleWriter(path, [column.path for column in pattern]) as writer,
    ):
        _say(lines, "start", file=str(path), done=state.done, size=size, **settings)
        if progress is not None:
            progress(state)
        try:
            for index in missing:
                writer.clear(index)
            last_line = start
            for count, (index, (raw, checks)) in enumerate(_computed(plan, missing, threads), 1):
                writer.write(index, raw, checks)
                now = time.perf_counter()
                rate = count / (now - start)
                done = samples - len(missing) + count
                state = Progress(done, samples, size, rate, (samples - done) / rate)
                if progress is not None:
                    progress(state)
                if now - last_line >= _SECONDS_PER_LOG_LINE:
                    last_line = now
                    _say(lines, "progress", done=done, rate=rate, remaining=state.remaining)
        except BaseException as error:
            _say(lines, "stopped", done=state.done, reason=f"{type(error).__name__}: {error}")
            raise
        seconds = time.perf_counter() - start
        _say(lines, "end", written=len(missing), seconds=seconds)
    return Report(path, samples, len(missing), size, seconds, log_path)


def estimate(
    equation_name: str,
    samples: int,
    file: str | Path,
    *,
    cells: int | None = None,
    times: int | Sequence[float] | Tensor | None = None,
    params: Mapping[str, float | tuple[float, float]] | None = None,
    seed: int = 0,
    workers: int | None = None,
    dtype: str = "float32",
    points: bool = False,
    route: str | None = None,
    solver: Mapping[str, Any] | None = None,
    split: Mapping[str, float] | None = None,
) -> Estimate:
    """Say what :func:`generate` would need, and check its arguments, without making the file.

    Args:
        equation_name: As in :func:`generate`, and so all that follow.
        samples: Number of samples, at least 1.
        file: The HDF5 file that would be written; its folder must exist.
        cells: Cells per axis.
        times: Output times, or their number.
        params: Ranges of parameters.
        seed: Seed of the data set.
        workers: Threads that compute samples.
        dtype: Type of fields and fluxes.
        points: Whether point values are stored too.
        route: ``"exact"`` or ``"fv"``.
        solver: Choices about the solver.
        split: Shares of the parts.

    Returns:
        Exact size of the file, free space, expected time.

    Raises:
        ImportError, ValueError: As :func:`generate`.
        OSError: If the folder of the file does not exist or cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> name = f"{folder.name}/stefan.h5"
        >>> expected = estimate("stefan", 10, name, cells=20, times=5)
        >>> expected.size == generate("stefan", 10, name, cells=20, times=5).size
        True
        >>> folder.cleanup()
    """
    require_h5py()
    path, threads = _place(file), _threads(workers)
    plan, parts = _plan(
        equation_name, samples, cells, times, params, seed, dtype, points, route, solver, split
    )
    pattern, used = plan.record(0)
    start = time.perf_counter()
    plan.parts(0)
    seconds = (time.perf_counter() - start) * samples / min(threads, samples)
    settings = _settings(plan, parts, samples, used)
    seeds = np.zeros(samples, dtype=np.uint64)
    size = size_of(path, _attributes(settings), plan.grid.columns(), pattern, seeds, parts)
    return Estimate(path, samples, size, shutil.disk_usage(path.parent).free, seconds)


def _place(file: str | Path) -> Path:
    path = Path(file)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"generate: expected the folder {path.parent} of {path.name} to exist; make it first"
        )
    return path


def _threads(workers: int | None) -> int:
    threads = torch.get_num_threads() if workers is None else workers
    if threads < 1:
        raise ValueError(f"generate: expected workers to be >= 1, got {threads}")
    return threads


def _plan(
    name: str,
    samples: int,
    cells: int | None,
    times: int | Sequence[float] | Tensor | None,
    params: Mapping[str, float | tuple[float, float]] | None,
    seed: int,
    dtype: str,
    points: bool,
    route: str | None,
    solver: Mapping[str, Any] | None,
    split: Mapping[str, float] | None,
) -> tuple[_Plan, dict[str, NDArray[np.int64]]]:
    kind = equation(name)
    for word, value, least in (("samples", samples, 1), ("seed", seed, 0), ("cells", cells, 1)):
        if value is not None and value < least:
            raise ValueError(f"generate: expected {word} to be >= {least}, got {value}")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"generate: expected dtype to be float32 or float64, got {dtype!r}")
    chosen = _route(kind, route, points)
    if solver and chosen == "exact":
        raise ValueError(
            f"generate: expected no {', '.join(solver)} with the route exact, which has no steps; "
            f"the route fv takes them"
        )
    moments = _times(kind, times)
    grid = make_grid(kind(), kind.usual_cells if cells is None else cells, moments)
    plan = _Plan(kind, kind.ranges(params), grid, seed, dtype, points, chosen, solver or {})
    last = moments[-1].item()
    for index in range(samples):
        drawn = plan.equation(index)
        if drawn.last_time < last:
            raise ValueError(
                f"generate: expected times up to {drawn.last_time:.6g}, the end of the solution of "
                f"sample {index} ({drawn.title}), got {last:.6g}; give earlier times or another "
                f"range of parameters"
            )
    return plan, _parts(samples, SPLIT if split is None else split)


def _route(kind: type[Equation], route: str | None, points: bool) -> str:
    known = ("exact", "fv") if issubclass(kind, (Problem, PlaneProblem, Wave)) else ("fv",)
    chosen = known[0] if route is None else route
    if chosen not in known:
        raise ValueError(
            f"generate: expected route to be {' or '.join(known)} for {kind.name}, got {chosen!r}"
        )
    if points and not (chosen == "exact" and issubclass(kind, Problem)):
        raise ValueError(
            f"generate: expected point values of {kind.name} by the route {chosen}, which has none"
        )
    return chosen


def _times(kind: type[Equation], times: int | Sequence[float] | Tensor | None) -> Tensor:
    if times is None or isinstance(times, int):
        count = kind.usual_times if times is None else times
        if count < 2:
            raise ValueError(f"generate: expected at least 2 times, got {count}")
        return torch.linspace(0.0, kind.duration, count, dtype=torch.float64)
    moments = torch.as_tensor(times, dtype=torch.float64)
    rising = moments.ndim == 1 and moments.numel() >= 2 and bool((moments.diff() > 0).all())
    if not (rising and bool(moments.isfinite().all()) and moments[0] >= 0):
        raise ValueError(
            f"generate: expected times to be at least 2 finite, increasing numbers from 0 on, "
            f"got {moments.tolist()}"
        )
    return moments


def _parts(samples: int, split: Mapping[str, float]) -> dict[str, NDArray[np.int64]]:
    """Consecutive samples of each part; rounding goes to the later parts."""
    total = sum(split.values())
    if not split or min(split.values()) < 0 or not total > 0:
        raise ValueError(f"generate: expected split to hold shares >= 0, got {dict(split)}")
    ends = np.floor(np.cumsum([0.0, *split.values()]) / total * samples + 1e-9).astype(np.int64)
    ends[-1] = samples
    return {
        name: np.arange(low, high, dtype=np.int64)
        for name, low, high in zip(split, ends[:-1], ends[1:], strict=True)
    }


def _settings(
    plan: _Plan, parts: Mapping[str, NDArray[np.int64]], samples: int, solver: Mapping[str, Any]
) -> dict[str, Any]:
    times = plan.grid.times
    return {
        "equation": plan.kind.name,
        "samples": samples,
        "cells": [faces.numel() - 1 for faces in plan.grid.faces],
        "times": {"count": times.numel(), "first": times[0].item(), "last": times[-1].item()},
        "ranges": {name: list(ends) for name, ends in plan.ranges.items()},
        "route": plan.route,
        **({"solver": dict(solver)} if solver else {}),
        "seed": plan.seed,
        "dtype": plan.dtype,
        "points": plan.points,
        "split": {name: len(indices) for name, indices in parts.items()},
    }


def _attributes(settings: Mapping[str, Any]) -> dict[str, str | int]:
    kind = equation(settings["equation"])
    versions = {
        "physcon_ext": compiled.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "h5py": require_h5py().__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "equation": kind.name,
        "formula": kind.formula,
        "spatial_dims": kind.spatial_dims,
        "dtype": settings["dtype"],
        "seed": settings["seed"],
        "config": json.dumps(settings),
        "created_with": json.dumps(versions),
        "licence": "CC0-1.0",
        "citation": "made with physcon_ext",
    }


def _prepare(
    path: Path,
    plan: _Plan,
    parts: Mapping[str, NDArray[np.int64]],
    pattern: Sequence[Column],
    settings: Mapping[str, Any],
    resume: bool,
) -> list[int]:
    """Make the file, or check the one to resume; return the samples that it lacks."""
    samples: int = settings["samples"]
    if not path.exists():
        seeds = np.array([sample_seed(plan.seed, k) for k in range(samples)], dtype=np.uint64)
        create(path, _attributes(settings), plan.grid.columns(), pattern, seeds, parts)
        return list(range(samples))
    if not resume:
        raise FileExistsError(f"{path}: exists already; resume it, remove it, or give another name")
    with open_file(path) as file:
        made = read_config(file)
        for key, value in settings.items():
            if made.get(key) != value:
                raise DataError(
                    f"{path}: expected {key} {made.get(key)} of the unfinished file, got {value}; "
                    f"resume with the settings it was begun with"
                )
        if not np.array_equal(file["/time/t"][...], plan.grid.times.numpy()):
            raise DataError(f"{path}: expected the times of the unfinished file, got others")
        return [k for k in range(samples) if not _complete(file, pattern, k)]


def _complete(file: Any, pattern: Sequence[Column], index: int) -> bool:
    """Whether a sample is marked as done and its numbers are those that were written."""
    if int(file[STATUS][index]) != DONE:
        return False
    return all(
        checksum(file[column.path][index].tobytes()) == file[checksum_path(column.path)][index]
        for column in pattern
    )


def _computed(
    plan: _Plan, indices: Sequence[int], threads: int
) -> Iterator[tuple[int, tuple[list[bytes], list[int]]]]:
    """Samples in the order of their indices, computed by threads a little ahead."""
    batches = iter([indices[k : k + _BATCH] for k in range(0, len(indices), _BATCH)])

    def compute(batch: Sequence[int]) -> list[tuple[int, tuple[list[bytes], list[int]]]]:
        return [(index, plan.parts(index)) for index in batch]

    # A sample is computed by one thread, so that its bits do not depend on their number.
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[list[tuple[int, tuple[list[bytes], list[int]]]]]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(compute, batch))
            if len(waiting) > _WAITING * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def _say(lines: Any, event: str, **facts: Any) -> None:
    """Add one line to the log."""
    record = {"time": time.time(), "event": event, **facts}
    lines.write(json.dumps(record, default=str, allow_nan=False) + "\n")
    lines.flush()
