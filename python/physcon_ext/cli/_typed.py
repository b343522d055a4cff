# SPDX-License-Identifier: Apache-2.0
"""What the commands on typer share: user errors in one line, results as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from physcon_ext.cli._common import Code, complain
from physcon_ext.data import DataError
from physcon_ext.fv import SolverError


@contextmanager
def user_errors(wrong_value: Code = Code.WRONG_DATA) -> Iterator[None]:
    """Turn a missing extra, wrong data or values and a failed solver into a line and a code.

    Args:
        wrong_value: Exit code of what is not about the contents of a file.
    """
    try:
        yield
    except ImportError as error:
        complain(str(error))
        raise typer.Exit(Code.EXTRA_MISSING) from error
    except (OSError, DataError) as error:
        complain(str(error))
        raise typer.Exit(Code.WRONG_DATA) from error
    except (ValueError, SolverError) as error:
        complain(str(error))
        raise typer.Exit(wrong_value) from error


def plain(value: Any) -> Any:
    """Turn arrays, tensors and paths of a result into JSON values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"expected a plain value, got {type(value).__name__}")
