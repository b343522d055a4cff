# SPDX-License-Identifier: Apache-2.0
"""The check for machines with a GPU, as far as it goes without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import gpu_check


ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device is here: make gpu-check")
def test_without_a_device_every_stage_says_so(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    words = [sys.executable, "-m", "bench.gpu_check", "--out", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "nothing was checked on hardware" in done.stdout
    data = json.loads(out.read_text())
    assert [s["name"] for s in data["stages"]] == list(gpu_check.LIMITS)
    assert {s["reason"] for s in data["stages"]} == {gpu_check.NO_DEVICE}
    assert data["valid"] is False and data["entries"] == []


def test_a_stage_that_fails_is_written_down_and_stops_nothing(tmp_path: Path) -> None:
    report = gpu_check.Report(tmp_path / "result.json")

    def broken() -> dict[str, Any]:
        raise RuntimeError("out of order")

    report.stage("tests", broken, needed=True)
    assert json.loads(report.path.read_text())["stages"][0]["reason"].endswith("out of order")
    report.stage("build", lambda: {"ok": True}, needed=True)
    assert [s["ok"] for s in report.data["stages"]] == [False, True]


def test_stages_fit_into_ten_minutes() -> None:
    assert sum(gpu_check.LIMITS.values()) <= 600


def test_the_baselines_solve_the_same_problem() -> None:
    from physcon_ext import ops

    arguments = gpu_check.problem(3, 20, 2, torch.float64, "cpu")
    post = ops.condition_diagonal(*arguments, covariance=True)
    mean, variance = gpu_check.sensible(*arguments)
    torch.testing.assert_close(mean, post.mean)
    torch.testing.assert_close(variance, post.variance)
    mean, covariance = gpu_check.published(*arguments)
    torch.testing.assert_close(mean, post.mean)
    torch.testing.assert_close(covariance, post.covariance)
