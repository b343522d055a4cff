# SPDX-License-Identifier: Apache-2.0
"""Loads torch and then the compiled module, once, and turns loader errors into one sentence."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType

import torch


_NAME = "physcon_ext._C"
# Beside a source tree: the schemas of the operators.
_SOURCE = Path(__file__).resolve().parents[2] / "csrc/torch/library.cpp"


def _built_against() -> str:
    """Say what the installed binary was built against, as far as the build left a note."""
    try:
        return str(importlib.import_module("physcon_ext._built").TEXT)
    except ImportError:
        return "an unknown torch"


def _require_current_schemas() -> None:
    """Refuse a binary that was built from other schemas than those of the source tree in use."""
    if not _SOURCE.is_file():
        return
    try:
        note = importlib.import_module("physcon_ext._built")
    except ImportError:
        return  # nothing was built: the loader says so
    if getattr(note, "SCHEMAS", None) != hashlib.sha256(_SOURCE.read_bytes()).hexdigest():
        raise ImportError(
            "physcon_ext: expected the compiled module to be built from the present "
            "csrc/torch/library.cpp, got one built from another version of it; rebuild: make setup"
        )


def load() -> ModuleType:
    """Import ``physcon_ext._C``, which registers ``torch.ops.physcon``.

    Returns:
        The compiled module.

    Raises:
        ImportError: If another copy of the operators is already registered in this process, or
            if the compiled module is absent, cannot be loaded with the torch that is installed,
            or is older than the source tree that this file belongs to.
    """
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    names = torch._C._dispatch_get_all_op_names()
    registered = sorted(name for name in names if name.startswith("physcon::"))
    if registered:
        raise ImportError(
            "physcon_ext: expected torch.ops.physcon to be empty before loading, got "
            f"{registered[0]}: another copy of physcon_ext is loaded in this process; keep one"
        )
    _require_current_schemas()
    try:
        return importlib.import_module(_NAME)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"physcon_ext: the compiled module, built against {_built_against()}, could not be "
            f"loaded with torch {torch.__version__} (CUDA {torch.version.cuda}): {error}; "
            "rebuild it for this torch with "
            "pip install --no-build-isolation --no-deps --force-reinstall physcon-ext"
        ) from error


compiled = load()
