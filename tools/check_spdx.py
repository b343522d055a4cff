# SPDX-License-Identifier: Apache-2.0
"""Check that every source file begins with the licence tag."""

from __future__ import annotations

import sys

from sources import ROOT, sources


TAG = "SPDX-License-Identifier: Apache-2.0"


def main() -> int:
    """Print the files without the tag; exit code 1 if there are any."""
    bad = []
    for path in sources("all"):
        lines = (ROOT / path).read_text().splitlines()[:2]
        # A script may have its interpreter line first.
        first = lines[1:] if lines and lines[0].startswith("#!") else lines[:1]
        if not (first and TAG in first[0]):
            bad.append(path)
    for path in bad:
        print(f"{path}: the first line is not '{TAG}' in a comment", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
