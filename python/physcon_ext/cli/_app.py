# SPDX-License-Identifier: Apache-2.0
"""The commands on typer and rich: the extra ``cli``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.measure import Measurement

import physcon_ext
from physcon_ext.cli import _common, _data, _doctor
from physcon_ext.cli._common import Code
from physcon_ext.cli._typed import plain, user_errors


app = typer.Typer(
    name="physcon",
    help=_common.ABOUT,
    epilog=_common.EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"physcon {physcon_ext.__version__}")
        raise typer.Exit(Code.GOOD)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hold the options that come before the command."""


@app.command(help=_common.DOCTOR_HELP, epilog=_common.EXIT_CODES)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run ``physcon doctor``."""
    raise typer.Exit(_doctor.run(as_json=as_json))


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows one line of progress; silent off a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda text: None
        return
    with console.status("starting") as status:
        yield lambda text: status.update(text)


@app.command(help=_common.DEMO_HELP, epilog=_common.EXIT_CODES)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the figures.", file_okay=False)] = Path(
        "demo"
    ),
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Conserve these predictions instead of fitting a Gaussian process.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress line.")] = False,
) -> None:
    """Run ``physcon demo``."""
    from physcon_ext import demo as demonstration

    with _progress(quiet or as_json) as progress, user_errors():
        if predictions is None:
            result = demonstration.run_demo(out, seed, progress)
        else:
            result = demonstration.run_predictions(predictions, out, seed, progress)
    if as_json:
        print(json.dumps(result, indent=2, default=plain))
        return
    table = demonstration.render_table(result)
    console = Console()
    # A table cut to the width of a pipe or of a narrow window would lose digits.
    unbounded = console.options.update(width=1000)
    console.width = max(console.width, Measurement.get(console, unbounded, table).maximum)
    console.print(table)


app.command(help=_common.GENERATE_HELP, epilog=_common.EXIT_CODES)(_data.generate)
app.command(help=_common.INSPECT_HELP, epilog=_common.EXIT_CODES)(_data.inspect)
app.command(help=_common.PLOT_HELP, epilog=_common.EXIT_CODES)(_data.plot)


def run(words: Sequence[str]) -> int:
    """Run ``physcon`` with typer; see :func:`physcon_ext.cli.main`."""
    try:
        code = app(args=list(words), prog_name="physcon", standalone_mode=True)
    except SystemExit as leaving:
        code = leaving.code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return code if isinstance(code, int) else Code.GOOD
