# SPDX-License-Identifier: Apache-2.0
"""The check for machines with a GPU, as far as it goes without one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bench import gpu_cases, gpu_check, gpu_convolutions, gpu_device, gpu_rows, gpu_table, tables


ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device is here: make gpu-check")
def test_without_a_device_every_stage_says_so(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bench.gpu_check", "--output", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "nothing was checked on hardware" in done.stdout
    data = json.loads((tmp_path / "no_device.json").read_text())
    assert [s["name"] for s in data["stages"]] == list(gpu_check.LIMITS)
    assert {s["reason"] for s in data["stages"]} == {gpu_check.NO_DEVICE}
    assert data["valid"] is False and data["entries"] == []


def test_a_stage_that_fails_is_written_down_and_stops_nothing(tmp_path: Path) -> None:
    report = gpu_check.Report(tmp_path / "result.json")

    def broken(_: float) -> dict[str, Any]:
        raise RuntimeError("out of order")

    report.stage("tests", broken, needed=True)
    assert json.loads(report.path.read_text())["stages"][0]["reason"].endswith("out of order")
    report.stage("build", lambda _: {"ok": True, "log": "compiled"}, needed=True)
    assert "compiled" in (tmp_path / "result.log").read_text()
    assert [s["ok"] for s in report.data["stages"]] == [False, True]


def test_stages_fit_into_ten_minutes() -> None:
    assert sum(gpu_check.LIMITS.values()) <= gpu_check.WHOLE <= 600


def test_a_stage_has_the_time_that_the_later_ones_do_not_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits, whole = gpu_check.LIMITS, gpu_check.WHOLE
    monkeypatch.setattr(gpu_check, "STARTED", time.monotonic())
    report = gpu_check.Report(None)
    assert report.limit("build") == pytest.approx(
        whole - sum(limits.values()) + limits["build"], 0.1
    )
    monkeypatch.setattr(gpu_check, "STARTED", time.monotonic() - 100)
    after = sum(s for name, s in limits.items() if name not in ("build", "quick"))
    assert report.limit("quick") == pytest.approx(whole - 100 - after, 0.1)
    alone = gpu_check.Report(None, ["benchmark"])
    assert alone.limit("benchmark") == pytest.approx(whole - 100, 0.1)
    monkeypatch.setattr(gpu_check, "STARTED", time.monotonic() - whole - 10)
    assert report.limit("tests") == 1.0


def test_an_interruption_ends_the_stages_and_keeps_what_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "STOPPED", threading.Event())
    report = gpu_check.Report(tmp_path / "result.json")

    def stopped(_: float) -> dict[str, Any]:
        gpu_check.STOPPED.set()
        return gpu_check.command(50, "sh", "-c", "echo begun; sleep 60")

    report.stage("build", lambda _: {"ok": True}, needed=True)
    report.stage("quick", stopped, needed=True)
    report.stage("tests", lambda _: {"ok": True}, needed=True)
    written = json.loads(report.path.read_text())["stages"]
    assert [s["ok"] for s in written] == [True, False, None]
    assert written[1]["reason"] == written[2]["reason"] == gpu_check.INTERRUPTED


def test_stages_can_be_run_again_alone(tmp_path: Path) -> None:
    report = gpu_check.Report(tmp_path / "result.json", ["tests"])
    report.stage("build", lambda _: {"ok": True}, needed=True)
    report.stage("tests", lambda _: {"ok": True}, needed=True)
    assert [(s["ok"], s.get("reason")) for s in report.data["stages"]] == [
        (None, gpu_check.NOT_ASKED),
        (True, None),
    ]
    again = gpu_check.Report(tmp_path / "result.json", ["build"], report.data)
    again.stage("build", lambda _: {"ok": False}, needed=True)
    again.stage("tests", lambda _: {"ok": False}, needed=True)
    assert [s["ok"] for s in again.data["stages"]] == [False, True]


def test_only_a_result_of_the_same_sources_is_continued(tmp_path: Path) -> None:
    now = {"sources": "a", "device": "d", "driver": "1", "torch": "2", "dirty": False}
    path = tmp_path / "result.json"
    assert gpu_check.found_before(path, now) == {}
    path.write_text(json.dumps(now))
    assert gpu_check.found_before(path, now | {"dirty": True}) == now
    for other in ({"sources": "b"}, {"driver": "2"}, {"torch": "3"}):
        assert gpu_check.found_before(path, now | other) == {}


def test_a_copy_without_history_is_known_by_its_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "csrc").mkdir()
    for name in ("CMakeLists.txt", "pyproject.toml", "csrc/a.cu"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_check, "capture", lambda *words, **_: "")
    monkeypatch.setattr(gpu_check, "_by_torch", lambda: ["a device", None, "9.0"])
    found = gpu_check.facts(None)
    assert found["revision"] == f"sources {found['sources']}" and found["dirty"] is None
    assert (found["device"], found["compute_capability"]) == ("a device", "9.0")
    assert gpu_check.facts("named")["revision"] == "named"
    (tmp_path / "csrc/a.cu").write_text("changed")
    assert gpu_check.digest() != found["sources"]


def test_what_a_command_says_is_kept_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "BYTES_KEPT", 1000)
    result = gpu_check.command(20, "sh", "-c", "yes | head -100000; printf '\\377end'; kill -9 $$")
    assert not result["ok"] and result["reason"] == "killed by signal 9"
    assert result["summary"].endswith("end") and len(result["log"]) <= 1000


def test_a_command_that_makes_no_progress_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "IDLE", 1)
    part = tmp_path / "part"
    begin = "echo 1 >> part; sleep 0.7; echo 2 >> part; sleep 0.7; echo 3 >> part; sleep 60"
    start = time.monotonic()
    result = gpu_check.command(50, "sh", "-c", begin.replace("part", str(part)), watched=part)
    assert time.monotonic() - start < 20 and result["reason"] == "no progress for 1 s"
    assert part.read_text().split() == ["1", "2", "3"]


PIECES = """
import json, os, sys
from pathlib import Path
from bench import gpu_device
journal = gpu_device.Journal(Path(sys.argv[1]))
for piece in journal.work(range(5), lambda piece: {"op": str(piece), "shape": []}):
    refused = journal.refused(journal.row)
    if piece == 1:
        os.abort()
    if piece == 4:
        raise SystemExit(0)
    if piece == 3 and not refused:
        journal.write(again=3, why=[["graph", "no capture"]])
        raise SystemExit(gpu_device.UNSOUND)
    journal.end(op=str(piece), shape=[], ok=True, refused=refused)
"""


def test_a_process_that_dies_is_followed_by_one_that_goes_on_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = gpu_check.command

    def command(limit: float, *words: str, **rest: Any) -> dict[str, Any]:
        return run(limit, sys.executable, "-c", PIECES, words[words.index("--part") + 1], **rest)

    monkeypatch.setattr(gpu_check, "command", command)
    found = gpu_check.inner(60, "benchmark")
    assert found["processes"] == 3 and found["ok"] is False and "1 ()" in found["reason"]
    assert "4 ()" in found["reason"]  # begun and not ended
    assert [(e["row"], e["ok"]) for e in found["entries"]] == [
        (row, row not in (1, 4)) for row in range(5)
    ]
    assert found["entries"][3]["refused"] == {"graph": "no capture"}


def test_a_tool_that_the_machine_refuses_is_no_failure() -> None:
    said = ["==ERROR== ERR_NVGPUCTRPERM - no permission to read counters"]
    for lines, ok in ((said, None), (["========= Invalid write"], False)):
        assert gpu_check.refused({"ok": False, "output": lines, "reason": ""}, "ncu")["ok"] is ok


def test_every_kernel_gets_a_verdict_by_its_name() -> None:
    right = {
        "op": "a",
        "shape": [3],
        "dtype": "float32",
        "ok": True,
        "kernels": ["a", "a_backward"],
    }
    right["errors"] = {"a": 1e-6, "a_backward": 0.5}
    dead = {"op": "b", "shape": [4], "dtype": "float64", "ok": False, "reason": "died"}
    lines = gpu_device.verdicts([right, dead | {"kernels": ["b"]}], ["a", "a_backward", "b", "c"])
    assert [line.split()[:2] for line in lines] == [
        ["a", "ok"],
        ["a_backward", "WRONG"],
        ["b", "BROKEN"],
        ["c", "NOT"],
    ]


def test_the_baselines_solve_the_same_problem() -> None:
    from physcon_ext import ops

    arguments = gpu_cases.problem(3, 20, 2, torch.float64, "cpu")
    post = ops.condition_diagonal(*arguments, covariance=True)
    mean, variance = gpu_rows.sensible(*arguments)
    torch.testing.assert_close(mean, post.mean)
    torch.testing.assert_close(variance, post.variance)
    for a, b in zip(gpu_rows.by_inverse(*arguments), (mean, variance), strict=True):
        torch.testing.assert_close(a, b)
    mean, covariance = gpu_rows.published(*arguments)
    torch.testing.assert_close(mean, post.mean)
    torch.testing.assert_close(covariance, post.covariance)


def test_one_row_is_a_division() -> None:
    arguments = gpu_cases.problem(3, 20, 1, torch.float64, "cpu")
    expected = gpu_rows.sensible(*arguments)
    for a, b in zip(gpu_rows.closed_form(*arguments), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_dense_baseline_solves_the_same_problem() -> None:
    from physcon_ext import ops

    mean, variance, rows, target, noise = gpu_cases.problem(3, 20, 2, torch.float64, "cpu")
    for prior in (variance, variance.diag_embed() + 0.1):
        whole = prior if prior.ndim == 3 else prior.diag_embed()
        post = ops.condition_dense(mean, whole, rows, target, noise, covariance=True)
        for baseline in (gpu_rows.sensible_dense, gpu_rows.dense_by_inverse):
            found = baseline(mean, prior, rows, target, noise)
            torch.testing.assert_close(found[0], post.mean)
            torch.testing.assert_close(found[1], post.covariance)


def test_a_command_that_does_not_end_is_ended_with_all_it_started() -> None:
    start = time.monotonic()
    result = gpu_check.command(1, "sh", "-c", "echo begun; sleep 100 & sleep 100")
    assert time.monotonic() - start < 20
    assert result["ok"] is False and result["reason"] == "cut off after 1 s"
    assert result["output"] == ["begun"] and result["code"] is not None


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
    gpu_table.compare(entry, {"ratio_torch_graph": 3.0, "ratio_published": 200.0})
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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Events that count what has been called so far instead of time."""
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
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2_000_000_000)
    monkeypatch.setattr(gpu_device, "sound", lambda: True)
    return order


def test_contenders_take_turns_and_one_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch, clock: list[str]
) -> None:
    def fails(_: int) -> None:
        raise ValueError("no room")

    calls = {"a": lambda _: clock.append("a"), "c": fails, "b": lambda _: clock.append("b")}
    contenders = [gpu_device.Contender(key, call, False) for key, call in calls.items()]
    found = gpu_device.timed(contenders, [(1,), (2,)])
    assert found["c"] == "ValueError: no room"
    # One call in the unit of the clock.
    assert found["a"] == found["b"] == [1e3] * gpu_device.ROUNDS
    rounds = "".join(clock)[-4 * (gpu_device.ROUNDS + 3) :]
    assert rounds == "aabb" * (gpu_device.ROUNDS + 3)
    monkeypatch.setattr(gpu_device, "sound", lambda: False)
    assert gpu_device.timed(contenders, [(1,)]) == {"c": "ValueError: no room"}


def test_the_next_process_leaves_out_what_spoiled_the_one_before(
    monkeypatch: pytest.MonkeyPatch, clock: list[str], tmp_path: Path
) -> None:
    def fails(_: int) -> None:
        raise ValueError("no capture")

    ways = [gpu_device.Contender("a", lambda _: clock.append("a"), False)]
    ways += [gpu_device.Contender("b", fails, False), gpu_device.Contender("c", print, False)]
    journal = gpu_device.Journal(tmp_path / "part")
    next(journal.work([0], lambda _: {}))
    monkeypatch.setattr(gpu_device, "sound", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu_device._measured(journal, ways, [(1,)])
    assert ended.value.code == gpu_device.UNSOUND
    monkeypatch.setattr(gpu_device, "sound", lambda: True)
    journal = gpu_device.Journal(tmp_path / "part")
    assert next(journal.work([0], lambda _: {})) == 0
    found = gpu_device._measured(journal, ways, [(1,)])
    assert found["b"] == "ValueError: no capture" and found["a"]["median"] == 1e3


def test_ceilings_are_measured(monkeypatch: pytest.MonkeyPatch, clock: list[str]) -> None:
    on_the_cpu(monkeypatch)
    monkeypatch.setattr(gpu_device, "COPIED", 1000)
    monkeypatch.setattr(gpu_device, "PRODUCT", 8)
    real = gpu_device.timed
    monkeypatch.setattr(
        gpu_device, "timed", lambda *a: {k: [2.0] * len(v) for k, v in real(*a).items()}
    )
    found = gpu_device.ceilings()
    assert found["copy_tb_s"] == 2 * 4000 / 2.0 / 1e6
    assert found["matmul_float64_tflop_s"] == 2 * 8**3 / 2.0 / 1e6


def test_a_baseline_that_cannot_be_captured_counts_as_it_is() -> None:
    entry: dict[str, Any] = {
        "bytes": 1,
        "pass": "forward",
        "ours_us": {"median": 4.0},
        "ours_graph_us": {"median": 2.0},
        "torch_us": {"median": 12.0},
        "torch_graph_us": "RuntimeError: not while capturing",
    }
    gpu_table.compare(entry, {"ratio_torch_graph": 3.0})
    assert entry["ratio_torch_graph"] == 6.0 and entry["uncaptured"]
    assert entry["bars"]["ratio_torch_graph"]["met"]


def test_every_row_of_section_four_has_its_bars() -> None:
    """Baselines and bars, forward and with gradients; 0.8 of the bars with them."""
    found = {
        (row.op, row.shape, row.direction): row.bars
        for row in gpu_rows.benchmarks()
        if row.dtype == "float32"
    }
    line, layer = "spectral_conv", "boundary_spectral_conv"
    expected: dict[tuple[str, tuple[int, ...]], dict[str, float]] = {
        ("condition_diagonal", (10_000, 201, 1)): {"torch_graph": 8, "published": 200},
        ("condition_diagonal", (1000, 1024, 8)): {"torch_graph": 8, "published": 200},
        ("condition_diagonal", (64, 10_000, 16)): {"torch_graph": 8, "published": 200},
        ("condition_diagonal, dense", (1000, 1024, 8)): {"torch_graph": 2},
        ("condition_dense", (256, 512, 16)): {"torch_graph": 1.5},
        (line, (20, 64, 1024, 16)): {"torch": 5, "torch_graph": 3},
        (line, (256, 64, 8192, 16)): {"torch": 3.5},
        (line, (256, 64, 8192, 64)): {"torch": 2.5},
        (line, (16, 64, 128, 128, 12, 12)): {"torch": 4, "shifted": 5},
        (line, (16, 64, 256, 256, 32, 32)): {"torch": 4, "shifted": 5},
        (layer, (20, 64, 1024, 16)): {
            "published": 20,
            "published_graph": 10,
            "plain_graph": 1 / 1.15,
        },
        ("fno_block", (20, 64, 1024, 16)): {"torch": 5},
    }
    for (op, shape), bars in expected.items():
        for direction, factor in (("forward", 1.0), ("forward+backward", 0.8)):
            wanted = {f"ratio_{name}": factor * bar for name, bar in bars.items()}
            assert found[op, shape, direction] == pytest.approx(wanted), (op, shape, direction)


def test_every_row_of_the_benchmark_is_measured_and_written(
    monkeypatch: pytest.MonkeyPatch, clock: list[str], tmp_path: Path
) -> None:
    """With small arrays on the CPU and a clock that stands still."""
    on_the_cpu(monkeypatch)
    full = gpu_cases.problem

    def problem(batch: int, n: int, r: int, dtype: Any, device: str) -> Any:
        return full(min(batch, 3), min(n, 40), min(r, 3), dtype, "cpu")

    def timed(contenders: Any, inputs: Any) -> dict[str, list[float]]:
        for one in contenders:
            one.call(*inputs[0])
        return {c.key: [2.0 if c.graph else 3.0] * gpu_device.ROUNDS for c in contenders}

    def dense_problem() -> Any:
        mean, variance, rows, target, noise = problem(3, 40, 3, torch.float32, "cpu")
        return mean, variance.diag_embed() + 0.1, rows, target, noise

    monkeypatch.setattr(gpu_cases, "problem", problem)
    monkeypatch.setattr(gpu_rows, "_dense_problem", dense_problem)
    bars_of = gpu_convolutions.LINES[0][1]
    monkeypatch.setattr(gpu_convolutions, "LINES", (((2, 4, 64, 5), bars_of),))
    monkeypatch.setattr(gpu_convolutions, "PLANES", ((2, 3, 16, 4),))
    monkeypatch.setattr(gpu_convolutions, "VOLUME", (2, 3, 8, 3))
    monkeypatch.setattr(gpu_convolutions, "LAYER", (2, 4, 64, 5))
    gpu_convolutions._bases.cache_clear()
    monkeypatch.setattr(gpu_device, "timed", timed)
    rates = {"copy_tb_s": 4.0, "matmul_float32_tflop_s": 50.0}
    monkeypatch.setattr(gpu_device, "ceilings", lambda: rates)
    monkeypatch.setattr(gpu_device, "clocks_under_load", lambda: ["1980 MHz"])
    device = SimpleNamespace(L2_cache_size=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch, "compile", lambda call, dynamic: call)
    parts = {}
    for part in ("benchmark", "compiled"):
        journal = gpu_device.Journal(tmp_path / part)
        getattr(gpu_device, part)(journal)
        parts[part] = [line["entry"] for line in journal.lines if "entry" in line]
        assert all(entry["ok"] for entry in parts[part]), part
    entries = parts["benchmark"]
    rows = list(gpu_rows.benchmarks())
    named = [(e["op"], e["pass"], e["dtype"]) for e in entries]
    assert named == [(r.op, r.direction, r.dtype) for r in rows]
    assert len({gpu_check.row_of(e) for e in entries}) == len(rows)
    assert sum(dtype == "bfloat16" for *_, dtype in named) == 11
    for row in rows:
        other = {f"torch_{way}" for way in gpu_rows.WAYS}
        assert {n for n in row.baselines if n.startswith("torch")} <= {"torch", *other}
    compiled = {gpu_check.row_of(e) for e in parts["compiled"]}
    chosen = [e for e in entries if (e["pass"], e["dtype"]) == ("forward", "float32")]
    assert compiled == {gpu_check.row_of(e) for e in chosen}
    assert all("ratio_torch_compile_graph" in e for e in parts["compiled"])
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
    report = {"stages": [{"name": "benchmark", "seconds": 1.0, "ok": True}], "entries": entries}
    assert gpu_table.table(report).count("MISSED") > 0
    record = report | {"valid": True, "device": "a device"}
    (tmp_path / "record.json").write_text(json.dumps(record))
    page = tables.with_tables(f"<!-- table {tmp_path / 'record.json'} -->\n<!-- end -->")
    assert page.count("| forward |") == sum(r.direction == "forward" for r in rows)
    (tmp_path / "record.json").write_text(json.dumps(record | {"valid": False}))
    with pytest.raises(ValueError, match="not for publication"):
        tables.with_tables(page)
