# SPDX-License-Identifier: Apache-2.0
"""What a result must say about the machine and the revision it was measured on. No host names."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def cpu_model() -> str:
    """Return the name of the processor, as the system states it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_name() -> str:
    """Return a short name such as ``amd-epyc-2c-avx512``."""
    model = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*$", " ", cpu_model().lower())
    slug = re.sub(r"[^a-z0-9]+", "-", model).strip("-") or "cpu"
    isa = re.sub(r"[^a-z0-9]+", "", torch.backends.cpu.get_cpu_capability().lower())
    return f"{slug}-{cores()}c-{isa}"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def revision() -> tuple[str, bool]:
    """Return the commit and whether anything but recorded results differs from it."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)bench/results")
    return commit or "unknown", commit is None or changes != ""


def describe() -> dict[str, Any]:
    """Return the head of a result file."""
    commit, dirty = revision()
    return {
        "schema": 1,
        "machine": machine_name(),
        "revision": commit,
        "dirty": dirty,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "device": "cpu",
        "cpu": cpu_model(),
        "cores": cores(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
