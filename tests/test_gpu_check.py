# SPDX-License-Identifier: Apache-2.0
"""The check for machines with a GPU, as far as it goes without one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bench import gpu_cases, gpu_check, gpu_convolutions, tables


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
    assert sum(gpu_check.LIMITS.values()) <= gpu_check.WHOLE <= 600


def test_no_stage_outlives_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = gpu_check.LIMITS["tests"]
    monkeypatch.setattr(gpu_check, "STARTED", time.monotonic())
    assert gpu_check.remaining("tests") == limit
    monkeypatch.setattr(gpu_check, "STARTED", time.monotonic() - gpu_check.WHOLE + 10)
    assert 1 <= gpu_check.remaining("tests") <= 10


def test_stages_can_be_run_again_alone(tmp_path: Path) -> None:
    report = gpu_check.Report(tmp_path / "result.json", ["tests"])
    report.stage("build", lambda: {"ok": True}, needed=True)
    report.stage("tests", lambda: {"ok": True}, needed=True)
    assert [(s["ok"], s.get("reason")) for s in report.data["stages"]] == [
        (None, gpu_check.NOT_ASKED),
        (True, None),
    ]
    again = gpu_check.Report(tmp_path / "result.json", ["build"], report.data)
    again.stage("build", lambda: {"ok": False}, needed=True)
    again.stage("tests", lambda: {"ok": False}, needed=True)
    assert [s["ok"] for s in again.data["stages"]] == [False, True]


def test_only_a_result_of_the_same_clean_revision_is_continued(tmp_path: Path) -> None:
    now = {"revision": "a", "device": "d", "driver": "1", "torch": "2", "dirty": False}
    path = tmp_path / "result.json"
    assert gpu_check.found_before(path, now) == {}
    path.write_text(json.dumps(now))
    assert gpu_check.found_before(path, now) == now
    for other in ({"revision": "b"}, {"driver": "2"}, {"dirty": True}, {"dirty": None}):
        assert gpu_check.found_before(path, now | other) == {}


def test_what_the_profiler_says_is_kept() -> None:
    result = gpu_check.command(10, "sh", "-c", "echo counted; echo done", keep=True)
    assert result["ok"] and result["output"] == ["counted", "done"]


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
        "torch_product_us": {"min": 1.0, "median": 4.0},
        "torch_compile_us": {"min": 1.0, "median": 2.0},
        "published_us": "RuntimeError: no",
    }
    gpu_check._compare(entry, {"ratio_torch_graph": 3.0, "ratio_published": 200.0})
    # The faster of two formulations; what the compiler makes of one stands beside it.
    assert entry["ratio_torch"] == 2.0 and entry["ratio_torch_graph"] == 3.0
    assert entry["ratio_torch_compile"] == 1.0
    met = {name: bar["met"] for name, bar in entry["bars"].items()}
    assert met == {"ratio_torch_graph": True, "ratio_published": False, "floor_fraction": True}


def test_the_formulations_of_the_convolutions_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_cpu(monkeypatch)
    monkeypatch.setattr(gpu_convolutions, "LINES", (((2, 4, 32, 17), {}), ((2, 4, 33, 5), {})))
    monkeypatch.setattr(gpu_convolutions, "PLANES", ((2, 3, 16, 4),))
    monkeypatch.setattr(gpu_convolutions, "VOLUME", (2, 3, 8, 3))
    monkeypatch.setattr(gpu_convolutions, "LAYER", (2, 4, 64, 5))
    gpu_convolutions._bases.cache_clear()
    for row in gpu_convolutions.benchmarks():
        if row.op in ("spectral_conv", "fno_block"):
            arguments = row.make()
            for name, call in row.baselines.items():
                for a, b in zip(call(*arguments), row.ours(*arguments), strict=True):
                    torch.testing.assert_close(a, b, msg=f"{row.op} {row.direction} {name}")
    gpu_convolutions._bases.cache_clear()


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


def test_the_tests_for_a_device_call_every_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small, and on the CPU: what they compare is then equal, if they are right themselves."""
    import test_cuda_device as device
    from physcon_ext.ops import _cuda
    from test_cuda_kernels import Calls

    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor.clone())
    monkeypatch.setattr(device, "SHAPES", [((2,), 9, 3)])
    with Calls() as calls:
        for op in device.OPS:
            device.test_numbers_and_gradients_equal_those_of_the_cpu(op, False, torch.float32)
        for op in device.EVERY_OP:
            device.test_sixteen_bits_are_those_of_float32_rounded_once(op, torch.bfloat16)
            device.test_no_items_are_no_work(op)
        for name in device.CONVOLUTIONS:
            device.test_convolutions_and_their_gradients_equal_those_of_the_cpu(
                name, device.FIELDS[2], "several", torch.float32, monkeypatch
            )
        device.test_responses_and_gains_equal_those_of_the_cpu(device.FIELDS[2])
        device.test_finite_volume_steps_equal_those_of_the_cpu(*device.LAWS[0])
        device.test_cavity_steps_equal_those_of_the_cpu()
    assert set(_cuda.COMPOSITE_OPS) <= {name for name, _ in calls.seen}


def test_contenders_take_turns_and_one_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = len(order)

        def record(self) -> None:
            self.at = len(order)

        def synchronize(self) -> None: ...

        def elapsed_time(self, end: Event) -> float:
            return float(end.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)

    def fails(_: int) -> None:
        raise ValueError("no room")

    calls = {"a": lambda _: order.append("a"), "b": lambda _: order.append("b"), "c": fails}
    contenders = [gpu_check.Contender(key, call, False) for key, call in calls.items()]
    found = gpu_check.timed(contenders, [(1,), (2,)])
    assert found["c"] == "ValueError: no room"
    assert found["a"] == found["b"] == [1e3] * gpu_check.ROUNDS  # one call in the unit of the clock
    rounds = "".join(order)[-4 * (gpu_check.ROUNDS + 3) :]
    assert rounds == "aabb" * (gpu_check.ROUNDS + 3)


def test_every_row_of_the_benchmark_is_measured_and_written(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """With small arrays on the CPU and a clock that stands still."""
    on_the_cpu(monkeypatch)
    full = gpu_cases.problem

    def problem(batch: int, n: int, r: int, dtype: Any, device: str) -> Any:
        return full(min(batch, 3), min(n, 40), min(r, 3), dtype, "cpu")

    def timed(contenders: Any, inputs: Any) -> dict[str, list[float]]:
        for one in contenders:
            one.call(*inputs[0])
        return {c.key: [2.0 if c.graph else 3.0] * gpu_check.ROUNDS for c in contenders}

    def dense_problem() -> Any:
        mean, variance, rows, target, noise = problem(3, 40, 3, torch.float32, "cpu")
        return mean, variance.diag_embed() + 0.1, rows, target, noise

    monkeypatch.setattr(gpu_cases, "problem", problem)
    monkeypatch.setattr(gpu_cases, "_dense_problem", dense_problem)
    bars_of = gpu_convolutions.LINES[0][1]
    monkeypatch.setattr(gpu_convolutions, "LINES", (((2, 4, 64, 5), bars_of),))
    monkeypatch.setattr(gpu_convolutions, "PLANES", ((2, 3, 16, 4),))
    monkeypatch.setattr(gpu_convolutions, "VOLUME", (2, 3, 8, 3))
    monkeypatch.setattr(gpu_convolutions, "LAYER", (2, 4, 64, 5))
    gpu_convolutions._bases.cache_clear()
    monkeypatch.setattr(gpu_check, "timed", timed)
    rates = {"copy_tb_s": 4.0, "matmul_float32_tflop_s": 50.0}
    monkeypatch.setattr(gpu_check, "ceilings", lambda: rates)
    device = SimpleNamespace(L2_cache_size=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch, "compile", lambda call, dynamic: call)
    written: list[dict[str, Any]] = []
    gpu_check.benchmark(lambda **line: written.append(line))
    entries = gpu_check.joined([line["entry"] for line in written if "entry" in line])
    assert written[0] == {"ceilings": rates} and any("slowest" in line for line in written)
    rows = list(gpu_cases.benchmarks())
    named = [(e["op"], e["pass"], e["dtype"]) for e in entries]
    assert named == [(r.op, r.direction, r.dtype) for r in rows]
    assert sum(dtype == "bfloat16" for *_, dtype in named) == 11
    for row, entry in zip(rows, entries, strict=True):
        assert ("ratio_torch_compile_graph" in entry) == (row.direction == "forward")
        other = {f"torch_{way}" for way in gpu_cases.WAYS}
        assert {n for n in row.baselines if n.startswith("torch")} <= {"torch", *other}
    for entry in entries:
        label = (entry["op"], entry["shape"], entry["pass"])
        texts = [v for k, v in entry.items() if k.endswith("_us") and isinstance(v, str)]
        assert not texts, (*label, texts)
        limit = 1e-3 if entry["dtype"] == "float32" else 1e-2
        assert max(entry["error"], entry["baseline_error"]) < limit, label
        assert all(entry.get(bar) is not None for bar in entry["bars"]), label
    bars = {name for entry in entries for name in entry["bars"]}
    ratios = {f"ratio_{k}" for k in ("torch", "torch_graph", "shifted", "published")}
    graphs = {"ratio_published_graph", "ratio_plain_graph"}
    assert bars == ratios | graphs | {"floor_fraction"}
    json.dumps(written)
    report = {"stages": [{"name": "benchmark", "seconds": 1.0, "ok": True}], "entries": entries}
    assert gpu_check.table(report).count("MISSED") > 0
    record = report | {"valid": True, "device": "a device"}
    (tmp_path / "record.json").write_text(json.dumps(record))
    page = tables.with_tables(f"<!-- table {tmp_path / 'record.json'} -->\n<!-- end -->")
    assert page.count("| forward |") == sum(r.direction == "forward" for r in rows)
    (tmp_path / "record.json").write_text(json.dumps(record | {"valid": False}))
    with pytest.raises(ValueError, match="not for publication"):
        tables.with_tables(page)
