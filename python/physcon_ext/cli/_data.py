# SPDX-License-Identifier: Apache-2.0
"""``physcon generate``, ``inspect`` and ``plot``."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from physcon_ext import data
from physcon_ext.cli._common import Code, complain
from physcon_ext.cli._typed import plain, user_errors
from physcon_ext.pde import EQUATIONS


_INTERRUPTED = 130
_JSON = typer.Option("--json", help="Print JSON.")


def generate(
    equation: Annotated[str, typer.Argument(help=f"One of {', '.join(EQUATIONS)}.")],
    out: Annotated[Path, typer.Option(help="File to write.", metavar="FILE.h5")],
    samples: Annotated[int, typer.Option(help="Number of samples.")],
    cells: Annotated[int | None, typer.Option(help="Cells per axis.")] = None,
    times: Annotated[
        str | None,
        typer.Option(metavar="N|START:END:N", help="Output times, equally spaced."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH|NAME=VALUE",
            help="Draw a parameter from a range, or fix it. May be repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed; sample i depends on it and on i alone.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Threads; all processors by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished file.")] = False,
    dtype: Annotated[str, typer.Option(help="float32 or float64, of the fields.")] = "float32",
    points: Annotated[
        bool, typer.Option("--points", help="Store point values on the faces too (1-D).")
    ] = False,
    route: Annotated[
        str | None, typer.Option(help="exact or fv; exact where it exists by default.")
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Scheme of transport, route fv (godunov ... weno5).")
    ] = None,
    average: Annotated[
        str | None, typer.Option(help="Face average of nonlinear diffusion, route fv.")
    ] = None,
    integrator: Annotated[str | None, typer.Option(help="Time stepping, route fv.")] = None,
    cfl: Annotated[
        float | None, typer.Option(help="Step over its stability limit, route fv.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, print size and time, write nothing.")
    ] = False,
    as_json: Annotated[bool, _JSON] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Run ``physcon generate``."""
    state = data.Progress(0, samples, 0)
    chosen = {"scheme": scheme, "average": average, "integrator": integrator, "cfl": cfl}
    with user_errors(Code.WRONG_USAGE):
        settings: dict[str, Any] = {
            "cells": cells,
            "times": _times(times),
            "params": dict(_parameter(text) for text in param or ()),
            "seed": seed,
            "workers": workers,
            "dtype": dtype,
            "points": points,
            "route": route,
            "solver": {name: value for name, value in chosen.items() if value is not None},
        }
        if dry_run:
            expected = data.estimate(equation, samples, out, **settings)
            _show_estimate(expected, as_json)
            raise typer.Exit(Code.GOOD if expected.size <= expected.free else Code.CHECK_FAILED)
    with (
        _bar(quiet or as_json, equation) as show,
        user_errors(Code.WRONG_USAGE),
        _interrupts() as stop_if_asked,
    ):

        def progress(now: data.Progress) -> None:
            nonlocal state
            state = now
            show(now)
            stop_if_asked()

        try:
            report = data.generate(
                equation, samples, out, resume=resume, progress=progress, **settings
            )
        except KeyboardInterrupt as error:
            complain(f"stopped; {out} holds {state.done} of {samples} samples; go on with --resume")
            raise typer.Exit(_INTERRUPTED) from error
    if as_json:
        print(json.dumps(asdict(report), default=plain))
        return
    rate = report.written / report.seconds
    print(
        f"{report.file}: {report.samples} samples, {_bytes(report.size)}; {report.written} written "
        f"in {report.seconds:.1f} s, {rate:.3g} a second"
    )


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Yield a function that raises ``KeyboardInterrupt`` once the user has asked to stop.

    Python raises it wherever the program happens to be, and compiled callbacks drop it there. A
    second interrupt raises at once.
    """
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    def stop_if_asked() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


def _show_estimate(expected: data.Estimate, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(expected), default=plain))
        return
    verdict = "" if expected.size <= expected.free else "TOO LARGE: "
    print(
        f"{verdict}{expected.file}: {expected.samples} samples, {_bytes(expected.size)} "
        f"({expected.size} bytes) of {_bytes(expected.free)} free, about {expected.seconds:.0f} s; "
        f"nothing written"
    )


@contextmanager
def _bar(quiet: bool, title: str) -> Iterator[Callable[[data.Progress], None]]:
    """Yield a function that moves a progress bar with rate and remaining time."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda state: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, rate="")

        def show(state: data.Progress) -> None:
            bar.update(
                task,
                description=f"{title}, {_bytes(state.size)}",
                total=state.samples,
                completed=state.done,
                rate=f"{state.rate:.0f}/s" if state.rate else "",
            )

        yield show


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def _times(text: str | None) -> int | torch.Tensor | None:
    if text is None:
        return None
    try:
        if ":" not in text:
            return int(text)
        start, end, count = text.split(":")
        return torch.linspace(float(start), float(end), int(count), dtype=torch.float64)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"generate: expected --times N or START:END:N, got {text!r}") from error


def _parameter(text: str) -> tuple[str, float | tuple[float, float]]:
    name, _, choice = text.partition("=")
    try:
        ends = tuple(float(end) for end in choice.split(":"))
    except ValueError:
        ends = ()
    if len(ends) == 1:
        return name, ends[0]
    if len(ends) == 2:
        return name, (ends[0], ends[1])
    raise ValueError(f"generate: expected --param NAME=LOW:HIGH or NAME=VALUE, got {text!r}")


def inspect(
    file: Annotated[Path, typer.Argument(help="A data set.")],
    check: Annotated[
        bool, typer.Option("--check", help="Test schema, checksums and balances.")
    ] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Run ``physcon inspect``."""
    with user_errors():
        facts = data.describe(file)
        report = data.check(file) if check else None
    if report is not None:
        facts["check"] = {
            "ok": report.ok,
            "missing": report.missing,
            "findings": [str(finding) for finding in report.findings],
            "worst": report.worst,
        }
    if as_json:
        print(json.dumps(facts, indent=2, default=plain))
    else:
        _show(facts)
    raise typer.Exit(Code.GOOD if report is None or report.ok else Code.CHECK_FAILED)


def _show(facts: dict[str, Any]) -> None:
    times = facts["times"]
    print(f"{facts['file']}: {facts['equation']}, {facts.get('formula', '')}")
    print(
        f"  {facts['complete']} of {facts['samples']} samples, {_bytes(facts['size'])}, "
        f"{facts['dtype']}, seed {facts['seed']}"
    )
    print(
        f"  cells {' x '.join(map(str, facts['cells']))}, {times['count']} times from "
        f"{times['first']:g} to {times['last']:g}"
    )
    config = facts["config"] or {}
    if "route" in config:
        solver = ", ".join(f"{k} {v}" for k, v in config.get("solver", {}).items() if v is not None)
        print(f"  route {config['route']}" + (f": {solver}" if solver else ""))
    for name, (low, high) in facts["parameters"].items():
        print(f"  {name} from {low:g} to {high:g}")
    print("  split " + ", ".join(f"{name} {count}" for name, count in facts["split"].items()))
    table = Table("dataset", "shape", "type", "unit", "description")
    for name, row in facts["datasets"].items():
        shape = " x ".join(map(str, row["shape"]))
        table.add_row(name, shape, row["dtype"], row["units"], row["description"])
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
    if "check" not in facts:
        return
    found = facts["check"]
    for law, share in sorted(found["worst"].items()):
        print(f"  {'ok' if share <= 1 else 'FAILED'}: {law}: {share:.2g} of what rounding allows")
    for finding in found["findings"]:
        print(f"  FAILED: {finding}")
    print("check passed" if found["ok"] else f"check failed: {len(found['findings'])} findings")


def plot(
    file: Annotated[Path, typer.Argument(help="A data set.")],
    sample: Annotated[int, typer.Option(help="Index of the sample.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write; beside the file by default.")
    ] = None,
    field: Annotated[str | None, typer.Option(help="Field to draw; the first if left out.")] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Run ``physcon plot``."""
    with user_errors():
        from physcon_ext.plot import sample_figure

        target = file.with_suffix(".png") if out is None else out
        sample_figure(file, sample, field=field).savefig(target)
    print(json.dumps({"picture": str(target)}) if as_json else str(target))
