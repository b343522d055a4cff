# SPDX-License-Identifier: Apache-2.0
"""Builds the module with its CUDA kernels, where a CUDA compiler is, and reads what came of it.

Nothing here needs a device. One CMake build serves every test: objects for each architecture with
warnings as errors, the reports of the assembler, the machine code, and a module to load.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/cuda_check"
STORED = ROOT / "tests/cuda_resources.json"
ARCHITECTURES = ("sm_80", "sm_90")
Resources = dict[str, dict[str, int]]


def compiler() -> str | None:
    """The CUDA compiler, or None."""
    usual = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.exists() else None)


def lacking() -> str | None:
    """Why the kernels cannot be built here, or None."""
    if compiler() is None:
        return "no CUDA compiler (nvcc) here"
    for tool in ("cmake", "ninja"):
        if shutil.which(tool) is None:
            return f"{tool} not found"
    return None


def build(target: str) -> Path:
    """Bring a target of the build up to date and return the build folder.

    Raises:
        RuntimeError: If a file does not compile; warnings are errors.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pybind11 = _output(sys.executable, "-m", "pybind11", "--cmakedir").strip()
        _output(
            *("cmake", "-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja"),
            *("-DPHYSCON_BUILD_PYTHON=ON", "-DPHYSCON_CUDA=ON", "-DPHYSCON_WERROR=ON"),
            # The code of the CPU is tested elsewhere: one instruction set, quickly compiled.
            *("-DPHYSCON_COMPILER_HAS_avx2=0", "-DPHYSCON_COMPILER_HAS_avx512=0"),
            *("-DCMAKE_CXX_FLAGS=-O1", "-DCMAKE_CUDA_FLAGS=-O3 -Xptxas -v"),
            f"-DCMAKE_CUDA_COMPILER={compiler()}",
            f"-DCMAKE_CUDA_COMPILER_LAUNCHER={sys.executable};{ROOT / 'tests/keep_report.py'}",
            *(f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}"),
        )
        _output("ninja", "-C", str(BUILD), f"-j{os.cpu_count() or 1}", target)
    return BUILD


def objects() -> list[Path]:
    """The object files of the kernels, newly made where sources changed."""
    folder = build("physcon_cuda_objects") / "CMakeFiles/physcon_cuda_objects.dir/csrc/core/cuda"
    return [folder / f"{p.name}.o" for p in sorted((ROOT / "csrc/core/cuda").glob("*.cu"))]


def package() -> Path:
    """A folder to put on ``PYTHONPATH``: the package with the module that holds the kernels."""
    made = build("_C")
    target = made / "package/physcon_ext"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        ROOT / "python/physcon_ext", target, ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    (module,) = made.glob("_C*.so")
    for file in (module, made / "generated/_built.py"):
        shutil.copy2(file, target / file.name)
    return target.parent


def parse(text: str) -> Resources:
    """The report of ``-Xptxas -v``: ``{"sm_90 name": {registers, stack, spills, shared}}``."""
    found: Resources = {}
    name = ""
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            name = f"{match[2]} {match[1]}"
            found[name] = {"registers": 0, "stack": 0, "spills": 0, "shared": 0}
        elif name and (match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill", line)):
            # Functions that were not inlined report as well: the largest counts.
            values = found[name]
            values["stack"] = max(values["stack"], int(match[1]))
            values["spills"] = max(values["spills"], int(match[2]))
        elif name and (match := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            found[name] |= {"registers": int(match[1]), "shared": int(shared[1]) if shared else 0}
    return found


def resources() -> Resources:
    """What every kernel uses on every architecture; shared memory counts where it is static."""
    merged: Resources = {}
    for file in objects():
        merged |= parse(Path(f"{file}.report").read_text())
    return merged


def disassembler() -> str | None:
    """``cuobjdump`` with its ``nvdisasm``: of the toolkit, of a wheel, or of Triton; or None."""
    folders = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep)]
    folders.append(Path(compiler() or "/").resolve().parent)
    for site in map(Path, sys.path):
        folders += [*site.glob("nvidia/*/bin"), site / "triton/backends/nvidia/bin"]
    for folder in folders:
        if (folder / "cuobjdump").exists() and (folder / "nvdisasm").exists():
            return str(folder / "cuobjdump")
    return None


def instructions() -> dict[str, Counter[str]]:
    """How often each instruction stands in the machine code: ``{"sm_90 kernel": {"DFMA": 7}}``.

    Modifiers are part of the name (``ATOMG.E.ADD.STRONG.GPU``).
    """
    tool = disassembler()
    assert tool is not None
    folder = str(Path(tool).parent)
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    found: dict[str, Counter[str]] = {}
    for file in objects():
        name = architecture = ""
        for line in _output(tool, "-sass", str(file), PATH=path).splitlines():
            if match := re.match(r"\s*arch = (\w+)", line):
                architecture = match[1]
            elif match := re.match(r"\s*Function : (\w+)", line):
                name = f"{architecture} {match[1]}"
                found[name] = Counter()
            elif match := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", line):
                found[name][match[1]] += 1
    return found


def _output(*words: str, **environment: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


if __name__ == "__main__":  # store what the compiler says now
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(resources().items())]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
