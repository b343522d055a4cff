# SPDX-License-Identifier: Apache-2.0
"""Say in one line each what is missing before anything is installed, and how to get it.

Runs under the system's Python, whatever its version.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig


def problems():
    """Return one sentence with a cure for each thing that is missing."""
    version = "{}.{}".format(*sys.version_info[:2])
    found = []
    if sys.version_info < (3, 10):
        found.append(
            f"Python 3.10 or newer is needed, got {version}: install one and run "
            "make PYTHON=python3.12 ..."
        )
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        found.append("the module venv is missing: sudo apt install python3-venv")
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        found.append("the header Python.h is missing: sudo apt install python3-dev")
    compilers = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    if not any(shutil.which(name.split()[0]) for name in compilers if name):
        found.append("a C++ compiler is missing: sudo apt install g++")
    return found


def main():
    """Print the problems; exit code 1 if there are any."""
    found = problems()
    for problem in found:
        sys.stderr.write("physcon_ext: " + problem + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
