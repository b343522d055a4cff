# SPDX-License-Identifier: Apache-2.0
"""The commands that work with the hard dependencies alone, on the parser of the library."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import physcon_ext
from physcon_ext.cli import _common, _doctor
from physcon_ext.cli._common import Code


_NEED_DATA = {
    "generate": _common.GENERATE_HELP,
    "inspect": _common.INSPECT_HELP,
    "plot": _common.PLOT_HELP,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("physcon", description=_common.ABOUT)
    parser.epilog = _common.EXIT_CODES
    version = f"physcon {physcon_ext.__version__}"
    parser.add_argument("--version", action="store_true", help="Show the version and exit.")
    parser.set_defaults(version_text=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    doctor = commands.add_parser("doctor", help=_common.DOCTOR_HELP, epilog=_common.EXIT_CODES)
    doctor.add_argument("--json", action="store_true", help="Print JSON.")
    for name, text in _NEED_DATA.items():
        commands.add_parser(name, help=f"{text} (needs the extras cli and data)", add_help=False)
    commands.add_parser("demo", help=f"{_common.DEMO_HELP} (needs the extra demo)", add_help=False)
    return parser


def run(words: Sequence[str]) -> int:
    """Run ``physcon`` without typer; see :func:`physcon_ext.cli.main`."""
    parser = _parser()
    try:
        options, rest = parser.parse_known_args(words)
        if rest and options.command not in ("demo", *_NEED_DATA):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
    except SystemExit as leaving:
        return int(leaving.code or 0)
    if options.version:
        print(options.version_text)
        return Code.GOOD
    if options.command == "doctor":
        return _doctor.run(as_json=options.json)
    if options.command == "demo":
        _common.complain(
            "physcon demo needs typer, rich, matplotlib and gpytorch: "
            'pip install "physcon-ext[demo]"'
        )
        return Code.EXTRA_MISSING
    if options.command in _NEED_DATA:
        _common.complain(
            f"physcon {options.command} needs typer, rich and h5py: "
            'pip install "physcon-ext[cli,data]"'
        )
        return Code.EXTRA_MISSING
    parser.print_help()
    return Code.WRONG_USAGE
