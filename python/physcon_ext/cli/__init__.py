# SPDX-License-Identifier: Apache-2.0
"""The command line ``physcon``: with typer where it is installed, else the parts that need less."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``physcon``.

    Args:
        arguments: Words after the command; those of the process by default.

    Returns:
        The exit code: 0 good, 1 a check failed, 2 wrong usage, 3 an extra is missing, 4 wrong
        data.

    Example:
        >>> main(["--version"])
        physcon 0.1.0
        0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from physcon_ext.cli import _app as front
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "rich", "click"}:
            raise
        from physcon_ext.cli import _basic

        return int(_basic.run(words))
    return int(front.run(words))
