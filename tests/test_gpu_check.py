# SPDX-License-Identifier: Apache-2.0
"""The check for machines with a GPU, as far as it goes without one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import gpu_cases, gpu_check


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

    arguments = gpu_cases.problem(3, 20, 2, torch.float64, "cpu")
    post = ops.condition_diagonal(*arguments, covariance=True)
    mean, variance = gpu_cases.sensible(*arguments)
    torch.testing.assert_close(mean, post.mean)
    torch.testing.assert_close(variance, post.variance)
    mean, covariance = gpu_cases.published(*arguments)
    torch.testing.assert_close(mean, post.mean)
    torch.testing.assert_close(covariance, post.covariance)


def test_the_dense_baseline_solves_the_same_problem() -> None:
    from physcon_ext import ops

    mean, variance, rows, target, noise = gpu_cases.problem(3, 20, 2, torch.float64, "cpu")
    for prior in (variance, variance.diag_embed() + 0.1):
        whole = prior if prior.ndim == 3 else prior.diag_embed()
        post = ops.condition_dense(mean, whole, rows, target, noise, covariance=True)
        found = gpu_cases.sensible_dense(mean, prior, rows, target, noise)
        torch.testing.assert_close(found[0], post.mean)
        torch.testing.assert_close(found[1], post.covariance)


def test_a_command_that_does_not_end_is_ended_with_all_it_started() -> None:
    start = time.monotonic()
    result = gpu_check.command(1, "sh", "-c", "echo begun; sleep 100 & sleep 100")
    assert time.monotonic() - start < 20
    assert result["ok"] is False and result["reason"] == "cut off after 1 s"
    assert result["output"] == ["begun"]


def test_bars_compare_like_with_like() -> None:
    times = {"min": 1.0, "median": 2.0}
    entry: dict[str, Any] = {
        "bytes": 3e8,
        "pass": "forward",
        "floor_us": 1.5,
        "ours_us": times,
        "ours_graph_us": {"min": 1.0, "median": 1.5},
        "torch_us": {"min": 1.0, "median": 5.0},
        "torch_graph_us": {"min": 1.0, "median": 4.5},
        "published_us": "RuntimeError: no",
    }
    gpu_check._compare(entry, {"ratio_torch_graph": 3.0, "ratio_published": 200.0})
    assert entry["ratio_torch"] == 2.5 and entry["ratio_torch_graph"] == 3.0
    met = {name: bar["met"] for name, bar in entry["bars"].items()}
    assert met == {"ratio_torch_graph": True, "ratio_published": False, "floor_fraction": True}


def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets device code of the cases run here: what it asks of a device is made on the CPU."""
    for name in ("randn", "rand", "full", "linspace", "randperm", "arange", "zeros", "ones"):
        made = getattr(torch, name)

        def on_host(*a: Any, made: Any = made, **k: Any) -> Any:
            return made(*a, **{**k, "device": "cpu"})

        monkeypatch.setattr(torch, name, on_host)


def test_small_and_repeated_cases_run_and_permute(monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_cpu(monkeypatch)
    for case in (*gpu_cases.small(torch.float64), *gpu_cases.repeated(torch.float32)):
        first = case.run()
        assert all(bool(t.isfinite().all()) for t in first), case.op
        if case.batched is not None:
            order = torch.randperm(case.batched)
            for a, b in zip(first, case.permuted(order).run(), strict=True):
                assert torch.equal(a[order], b), case.op


def test_every_kernel_has_a_small_case(monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_cpu(monkeypatch)
    from physcon_ext.ops import _cuda
    from test_cuda_kernels import Calls

    with Calls() as calls:
        for case in gpu_cases.small(torch.float32):
            case.run()
    assert {r["op"] for r in _cuda.table()} <= {name for name, _ in calls.seen}
