# SPDX-License-Identifier: Apache-2.0
"""Print the requirements of one extra of pyproject.toml, one a line, for ``pip install -r``."""

from __future__ import annotations

import sys
from importlib.metadata import requires


def main() -> None:
    """Read the extra from the metadata of the installed package."""
    marker = f"extra == '{sys.argv[1]}'"
    for requirement in requires("physcon-ext") or []:
        text, _, condition = requirement.partition(";")
        parts = [part.strip() for part in condition.replace('"', "'").split(" and ")]
        if marker in parts:
            rest = " and ".join(part for part in parts if part != marker)
            print(f"{text.strip()} ; {rest}" if rest else text.strip())


if __name__ == "__main__":
    main()
