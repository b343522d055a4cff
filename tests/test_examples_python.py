# SPDX-License-Identifier: Apache-2.0
"""The Python examples run and write what they promise."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest


EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "python"


def test_the_insulated_wall_keeps_its_slope_after_one_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    options = ["--epochs", "1", "--seeds", "1", "--samples", "20", "--points", "48"]
    monkeypatch.setattr(sys, "argv", ["heat_insulated.py", *options, "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "heat_insulated.py"), run_name="__main__")
    table = json.loads((tmp_path / "heat_insulated.json").read_text())["models"]
    assert table["corrected"][0]["slope_error_left"] < 1e-4
    assert table["fno"][0]["slope_error_left"] > 1e-2
    assert (tmp_path / "heat_insulated.png").read_bytes().startswith(b"\x89PNG")
