# SPDX-License-Identifier: Apache-2.0
"""Check files for a final newline, trailing blanks, conflict marks and a size above 1 MB.

Without arguments: every source file and every document of the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sources import ROOT, sources


LARGEST = 1_000_000


def problems(path: Path) -> list[str]:
    """Return one sentence for each problem of a file."""
    if path.stat().st_size > LARGEST:
        return [f"{path}: larger than 1 MB"]
    data = path.read_bytes()
    if b"\0" in data or not data:
        return []
    found = [] if data.endswith(b"\n") else [f"{path}: no newline at the end"]
    for number, line in enumerate(data.splitlines(), 1):
        if line != line.rstrip():
            found.append(f"{path}:{number}: blanks at the end of the line")
        if line.startswith((b"<<<<<<< ", b">>>>>>> ")):
            found.append(f"{path}:{number}: conflict mark")
    return found


def main() -> int:
    """Print the problems; exit code 1 if there are any."""
    paths = [Path(name) for name in sys.argv[1:]]
    if not paths:
        paths = [ROOT / path for path in sources("all")] + sorted(ROOT.glob("*.md"))
    found = [sentence for path in paths for sentence in problems(path)]
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
