# SPDX-License-Identifier: Apache-2.0
"""Print the build tools to install with pip: those the system lacks or has too old."""

from __future__ import annotations

import re
import shutil
import subprocess


CMAKE_MINIMUM = (3, 21)


def cmake_is_usable() -> bool:
    """Tell whether the cmake on the path is new enough."""
    path = shutil.which("cmake")
    if path is None:
        return False
    text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    return match is not None and (int(match[1]), int(match[2])) >= CMAKE_MINIMUM


def main() -> None:
    """Print the names, one line; ``pip`` itself when nothing is missing."""
    missing = []
    if not cmake_is_usable():
        missing.append("cmake>=3.21")
    if shutil.which("ninja") is None:
        missing.append("ninja")
    print(*(missing or ["pip"]))


if __name__ == "__main__":
    main()
