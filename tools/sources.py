# SPDX-License-Identifier: Apache-2.0
"""Print the source files of one language: ``c`` (C and C++), ``python`` or ``all``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (".ci", "bench", "cmake", "csrc", "examples", "python", "tests", "tools")
TOP = ("CMakeLists.txt", "Makefile", "pyproject.toml", ".pre-commit-config.yaml", ".clang-format")
C = {".c", ".h", ".cpp", ".hpp", ".cu", ".cuh"}
PYTHON = {".py", ".pyi"}
OTHER = {".cmake", ".in", ".sh", ".txt", ".toml", ".yaml", ".yml", ".f90"}
LANGUAGES = {"c": C, "python": PYTHON, "all": C | PYTHON | OTHER}


def sources(language: str) -> Iterator[Path]:
    """Yield the files of ``language``, sorted, relative to the repository root."""
    suffixes = LANGUAGES[language]
    if language == "all":
        yield from (Path(name) for name in TOP if (ROOT / name).exists())
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            hidden = any(part == "__pycache__" for part in path.parts)
            if path.is_file() and not hidden and (path.suffix in suffixes or path.name == "run"):
                if path.suffix in suffixes or language == "all":
                    yield path.relative_to(ROOT)


if __name__ == "__main__":
    print(*sources(sys.argv[1]))
