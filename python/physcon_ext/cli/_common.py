# SPDX-License-Identifier: Apache-2.0
"""What both parsers share: exit codes and sentences."""

from __future__ import annotations

import sys
from enum import IntEnum


class Code(IntEnum):
    """Exit codes of every command."""

    GOOD = 0
    CHECK_FAILED = 1
    WRONG_USAGE = 2
    EXTRA_MISSING = 3
    WRONG_DATA = 4


EXIT_CODES = (
    "Exit codes: 0 good, 1 a check failed, 2 wrong usage, 3 an extra is missing, 4 wrong data."
)
ABOUT = "Conservation laws for probabilistic predictions."
DOCTOR_HELP = "Show versions, devices, active kernels, extras present and missing, with cures."
DEMO_HELP = (
    "Conserve the predictions of a probabilistic model: print a table of conservation error, "
    "MSE, log-likelihood and CRPS before and after, and write figures."
)
GENERATE_HELP = (
    "Write a data set of random samples of an equation, with exact totals, face fluxes, edges and "
    "fronts. A stopped run goes on with --resume."
)
INSPECT_HELP = "Show what is in a data set; --check tests it against its schema and balances."
PLOT_HELP = "Draw one sample of a data set: the field with its front, and its total against b(t)."


def complain(sentence: str) -> None:
    """Print one line on standard error."""
    print(f"physcon: {sentence}", file=sys.stderr)
