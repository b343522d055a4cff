# SPDX-License-Identifier: Apache-2.0
"""Measure the operators beside the published formulation and the best plain PyTorch.

Run from the root of the repository: ``python -m bench.run``. Exit codes: 0 done; 1 ``--compare``
found an entry slower by more than 5 %, or a result of ours was wrong; 2 bad usage.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import memory, report
from bench.baselines import Candidate, Update
from bench.entries import ENTRIES
from bench.entry import BenchmarkEntry, Inputs, backward_of
from bench.layers import LayerEntry, measure_layer
from bench.machine import RESULTS, cores, describe, machine_name
from bench.measure import Call, Contender, interleave, machine_rates


ROUNDS = 15
_SCREEN_ROUNDS = 4
_FINALISTS = 3
_PUBLISHED_SECONDS = 20.0  # the published form gets fewer rounds, at least 5, beyond this
_TOLERANCE = {"forward": 1e-5, "forward+backward": 1e-4}
_EPS = torch.finfo(torch.float32).eps

Drawn = tuple[Inputs, tuple[Tensor, Tensor]]


def _draw(entry: BenchmarkEntry, backward: bool, seed: int) -> Drawn:
    """Return fresh inputs and, for the backward pass, gradients of the two results."""
    inputs = entry.setup(seed)
    if not backward:
        return inputs, (inputs.mean, inputs.mean)
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    shape = (entry.batch, entry.n) + ((entry.n,) if entry.output == "covariance" else ())
    cotangents = (
        torch.randn(entry.batch, entry.n, generator=generator),
        torch.randn(shape, generator=generator),
    )
    return inputs.leaves(entry.gradients), cotangents


def _binder(
    entry: BenchmarkEntry, update: Update, backward: bool
) -> Callable[[Inputs, tuple[Tensor, Tensor]], Call]:
    if backward:
        return lambda inputs, cotangents: (
            lambda: backward_of(update, inputs, entry.gradients, cotangents)
        )
    return lambda inputs, cotangents: lambda: update(*inputs)


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).abs().max() / truth.abs().max())


def _seen(gradient: Tensor) -> Tensor:
    """What counts of a gradient: for a dense prior, which is symmetric, its symmetric part."""
    return gradient + gradient.mT if gradient.ndim > 2 else gradient


class _Judge:
    """Compares results with the float64 reference on one fixed draw."""

    def __init__(self, entry: BenchmarkEntry, backward: bool) -> None:
        self.entry, self.backward = entry, backward
        inputs, cotangents = self.drawn = _draw(entry, backward, seed=0)
        exact = inputs.double()
        if backward:
            wide = exact.leaves(entry.gradients)
            pair = (cotangents[0].double(), cotangents[1].double())
            self.truth = backward_of(entry.reference, wide, entry.gradients, pair)
        else:
            self.truth = entry.reference(*exact)

    def errors(self, update: Update) -> dict[str, float]:
        """Return the errors relative to the largest element, and the scaled constraint residual.

        The residual is ``max |G m' - b| / (eps (|G| |m'| + |b|))`` over all rows, eps of float32.
        """
        inputs, cotangents = self.drawn
        if self.backward:
            found = backward_of(update, inputs, self.entry.gradients, cotangents)
            pairs = zip(self.entry.gradients, found, self.truth, strict=True)
            return {name: _relative(_seen(x), _seen(y)) for name, x, y in pairs}
        mean, second = update(*inputs)
        result = {
            "mean": _relative(mean, self.truth[0]),
            self.entry.output: _relative(second, self.truth[1]),
        }
        g, b, m = inputs.rows.double(), inputs.target.double(), mean.double()[..., None]
        residual = (torch.matmul(g, m)[..., 0] - b).abs()
        scale = torch.matmul(g.abs(), m.abs())[..., 0] + b.abs()
        result["residual_eps"] = float((residual / scale).max()) / _EPS
        return result

    def accepts(self, errors: dict[str, float]) -> bool:
        """Tell whether the errors are those of correct float32 arithmetic."""
        limit = _TOLERANCE["forward+backward" if self.backward else "forward"]
        return all(x <= limit for name, x in errors.items() if name != "residual_eps")


def _contenders(
    entry: BenchmarkEntry,
    judge: _Judge,
    candidates: list[Candidate],
    kind: str,
    rounds: int,
) -> list[Contender]:
    """Return the candidates that run, that have a backward if needed, and that are right."""
    accepted = []
    for candidate in candidates:
        if judge.backward and not candidate.differentiable:
            continue
        try:
            errors = judge.errors(candidate.update)
        except RuntimeError as error:
            if not candidate.compiled:
                raise
            print(f"    left out: {candidate.name}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if not judge.accepts(errors):
            print(f"    left out: {candidate.name}: errors {errors}", file=sys.stderr)
            continue
        bind = _binder(entry, candidate.update, judge.backward)
        accepted.append(Contender(candidate.name, kind, bind, rounds, error=errors))
    return accepted


def _fastest(contenders: list[Contender], threads: int) -> list[Contender]:
    return sorted(contenders, key=lambda c: min(c.cpu if threads == 1 else c.wall))


def _with_ratio(ours: dict[str, Any], timing: dict[str, Any], threads: int) -> dict[str, Any]:
    which = "cpu_us" if threads == 1 else "wall_us"
    timing["ratio"] = {k: timing[which][k] / ours[which][k] for k in ("min", "median")}
    timing["ratio_wall"] = {k: timing["wall_us"][k] / ours["wall_us"][k] for k in ("min", "median")}
    return timing


def measure_entry(
    entry: BenchmarkEntry, mode: str, threads: int, *, compiled: bool, gflops: float
) -> dict[str, Any]:
    """Measure one entry in one pass and thread count.

    Args:
        entry: What to measure.
        mode: ``"forward"`` or ``"forward+backward"``.
        threads: Number of threads of torch.
        compiled: Whether to include ``torch.compile``.
        gflops: Float32 matrix product rate at this thread count, for the floor.

    Returns:
        One element of ``entries`` of the result file.
    """
    torch.set_num_threads(threads)
    backward = mode != "forward"
    judge = _Judge(entry, backward)

    def draw(seed: int) -> Drawn:
        return _draw(entry, backward, seed)

    errors = judge.errors(entry.forward)
    ours = Contender("ours", "ours", _binder(entry, entry.forward, backward), ROUNDS, error=errors)

    screened = _contenders(entry, judge, entry.candidates, "torch", _SCREEN_ROUNDS)
    if compiled:
        torch._dynamo.reset()
        screened += _contenders(entry, judge, entry.compiled(threads), "compiled", _SCREEN_ROUNDS)
    interleave(screened, draw, seed=500, warm_up=2)
    ranked = _fastest(screened, threads)
    seen = {c.name: 1e6 * min(c.cpu if threads == 1 else c.wall) for c in ranked}
    finalists = [c for c in ranked if c.kind == "torch"][:_FINALISTS]
    finalists += [c for c in ranked if c.kind == "compiled"][:1]
    for contender in finalists:
        contender.rounds, contender.cpu, contender.wall = ROUNDS, [], []

    everyone = [ours, *finalists]
    if entry.published is not None:
        bind = _binder(entry, entry.published, backward)
        start = time.perf_counter()
        published_errors = judge.errors(entry.published)
        seconds = time.perf_counter() - start
        rounds = max(5, min(ROUNDS, int(_PUBLISHED_SECONDS / seconds)))
        everyone.append(
            Contender("published_dense", "published", bind, rounds, error=published_errors)
        )
    if not backward:
        # The traffic floor: a plain copy that reads and writes as many bytes in all.
        source = torch.ones(entry.bytes_moved // 8)
        target = torch.empty_like(source)
        everyone.append(
            Contender("copy", "copy", lambda i, c: lambda: target.copy_(source), ROUNDS)
        )
    interleave(everyone, draw, seed=1000)

    ours_record = ours.summary()
    which = "cpu" if threads == 1 else "wall"
    baselines: dict[str, Any] = {}
    for kind in ("published", "torch", "compiled"):
        found = _fastest([c for c in everyone if c.kind == kind], threads)
        baselines[kind] = _with_ratio(ours_record, found[0].summary(), threads) if found else None
    record: dict[str, Any] = {
        "name": entry.name,
        "op": entry.op,
        "shape": {"batch": entry.batch, "n": entry.n, "rows": entry.m},
        "rows": "shared" if entry.shared else "item",
        "output": entry.output,
        "gradients": list(entry.gradients) if backward else [],
        "dtype": "float32",
        "mode": "eager",
        "pass": mode,
        "threads": threads,
        "correct": judge.accepts(errors),
        "ours": ours_record,
        "baselines": baselines,
        "screened_us": seen,
        "bytes": None,
        "flops": None,
        "floor_us": None,
        "floor_fraction": None,
        "aim": None if backward else entry.aim,
    }
    if not backward:
        copy = 1e6 * min(getattr(everyone[-1], which))
        arithmetic = entry.flops / gflops / 1e3
        floor = max(copy, arithmetic)
        record |= {
            "bytes": entry.bytes_moved,
            "flops": entry.flops,
            "copy_us": copy,
            "arithmetic_us": arithmetic,
            "floor_us": floor,
            "floor_fraction": floor / ours_record[f"{which}_us"]["min"],
        }
    return record


def _run(
    entries: list[BenchmarkEntry | LayerEntry],
    threads: list[int],
    compiled: bool,
    path: Path | None,
) -> report.Result:
    """Measure the entries; ``path`` is written after each: a broken run leaves something."""
    from physcon_ext import build_info

    rates = [machine_rates(count) for count in threads]
    info = build_info()
    result: report.Result = describe() | {
        "physcon": {key: info[key] for key in ("version", "compiler", "isa_active")},
        "threads": threads,
        "rates": rates,
        "memory": [],
        "entries": [],
    }
    for entry in entries:
        for mode in entry.passes:
            for count, rate in zip(threads, rates, strict=True):
                print(f"  {entry.name}, {mode}, {count} thread(s)", file=sys.stderr, flush=True)
                if isinstance(entry, LayerEntry):
                    result["entries"].append(measure_layer(entry, mode, count))
                    continue
                record = measure_entry(
                    entry,
                    mode,
                    count,
                    compiled=compiled,
                    gflops=rate["matmul_float32_GFLOPps"],
                )
                result["entries"].append(record)
        if path is not None:
            report.save(result, path)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=ENTRIES, help="what to measure; default: all")
    parser.add_argument("--quick", action="store_true", help="four small entries, one thread")
    parser.add_argument("--filter", metavar="TEXT", help="only entries whose name contains TEXT")
    parser.add_argument("--threads", metavar="LIST", help="thread counts, default 1,2")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write the JSON")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="do not measure")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="flag changes above 5 %%")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write all times as CSV")
    return parser


def _chosen(arguments: argparse.Namespace) -> dict[str, list[BenchmarkEntry | LayerEntry]]:
    """Return the entries to measure, by kind."""
    found = {
        kind: [
            entry
            for entry in entries
            if (entry.quick or not arguments.quick) and (arguments.filter or "") in entry.name
        ]
        for kind, entries in ENTRIES.items()
        if arguments.kind in (None, kind)
    }
    found = {kind: entries for kind, entries in found.items() if entries}
    if not found:
        names = (entry.name for entries in ENTRIES.values() for entry in entries)
        raise ValueError(
            f"no entry matches {arguments.filter!r}; the names are\n  " + "\n  ".join(names)
        )
    single = [word for word in ("output", "compare", "csv") if getattr(arguments, word) is not None]
    if len(found) > 1 and single:
        raise ValueError(f"--{single[0]} wants one kind of entries: {' or '.join(found)}")
    return found


def _measured(
    arguments: argparse.Namespace, kind: str, entries: list[BenchmarkEntry | LayerEntry]
) -> report.Result:
    counts = "1" if arguments.quick or cores() == 1 else "1,2"
    try:
        threads = [int(x) for x in (arguments.threads or counts).split(",")]
    except ValueError as error:
        raise ValueError(f"--threads wants numbers such as 1,2; got {arguments.threads}") from error
    whole = not arguments.quick and arguments.filter is None
    path = arguments.output or (RESULTS / f"{machine_name()}-{kind}.json" if whole else None)
    result = _run(entries, threads, not (arguments.quick or arguments.no_compile), path)
    if whole and kind == "conditioning":
        print("  peak memory", file=sys.stderr, flush=True)
        result["memory"] = memory.measure()
    if path is not None:
        report.save(result, path)
        print(f"wrote {path}", file=sys.stderr)
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command; see ``--help``."""
    arguments = _parser().parse_args(argv)
    warnings.filterwarnings("ignore", module=r"torch\.")
    logging.getLogger("torch").setLevel(logging.ERROR)
    bad = False
    try:
        older = report.load(arguments.compare) if arguments.compare else None
        if arguments.source is not None:
            bad = _tell(report.load(arguments.source), older, arguments.csv)
        else:
            for kind, entries in _chosen(arguments).items():
                bad |= _tell(_measured(arguments, kind, entries), older, arguments.csv)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if bad else 0


def _tell(result: report.Result, older: report.Result | None, csv: Path | None) -> bool:
    """Show a result; tell whether something in it is wrong or slower than it was."""
    report.show(result)
    if csv is not None:
        report.write_csv(result, csv)
    wrong = [e["name"] for e in result["entries"] if not e["correct"]]
    for name in wrong:
        print(f"error: our result is outside the float32 tolerance: {name}", file=sys.stderr)
    slower = False
    if older is not None:
        lines, slower = report.compare(older, result)
        print("\n".join(lines))
    return slower or bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
