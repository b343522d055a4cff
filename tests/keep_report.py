# SPDX-License-Identifier: Apache-2.0
"""Runs a compiler and keeps what it writes to the standard error beside the object file.

A launcher of CMake: the report of the assembler is there for objects that need no new compilation.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the command in the arguments."""
    words = sys.argv[1:]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode == 0 and "-c" in words and "-o" in words:
        Path(f"{words[words.index('-o') + 1]}.report").write_text(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
