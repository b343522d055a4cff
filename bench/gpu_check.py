# SPDX-License-Identifier: Apache-2.0
"""One command on a machine with a GPU: is everything right there, and how fast is it?

``python -m bench.gpu_check`` (or ``make gpu-check``) needs no network and takes under ten minutes:
it builds the kernels against the installed torch, runs the tests marked ``cuda`` with the kernels
and with the composites, runs the sanitizers of the toolkit on small shapes, checks that results
repeat bit by bit and survive graph capture, and measures the ops beside torch, eager and captured.

Every stage has a time limit and writes its part of the result at once; a stage that fails or is cut
off does not stop the others, and none runs past ten minutes in all. ``--only`` runs some of them
again. Without a device the stages that need one say ``no device``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

from bench import gpu_cases


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results"
SCHEMA = 1
NO_DEVICE = "no device"
NOT_ASKED = "not asked for"
# Seconds for everything, and per stage.
WHOLE = 590
LIMITS = {
    "build": 110,
    "tests": 90,
    "composites": 50,
    "checkers": 110,
    "repeatability": 40,
    "benchmark": 145,
    "counters": 45,
}
KERNELS = {"PHYSCON_CUDA_KERNELS": "all"}
LINES_KEPT = 200  # of the output of a command
ROUNDS = 30
SLOW = 2e-3  # seconds of a call that needs no company in its round
MOST_INPUTS = 32
L2_MULTIPLE = 3  # rotating inputs and outputs are this many times the second-level cache

STARTED = time.monotonic()


class Report:
    """The result, written again after every change.

    Stages that are not asked for keep what an earlier result of the same revision says of them.
    """

    def __init__(
        self,
        path: Path | None,
        only: Collection[str] = tuple(LIMITS),
        earlier: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.path, self.only = path, only
        self.earlier = {s["name"]: s for s in earlier.get("stages", [])}
        self.data: dict[str, Any] = {"schema": SCHEMA, "stages": []}
        self.data["entries"] = earlier.get("entries", [])

    def write(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self.data, indent=1) + "\n")
        partial.replace(self.path)

    def update(self, **values: Any) -> None:
        self.data.update(values)
        self.write()

    def stage(self, name: str, run: Callable[[], dict[str, Any]], *, needed: bool) -> None:
        """Run one stage; ``needed`` says whether it has what it needs, else it is skipped."""
        print(f"==> {name}", flush=True)
        start = time.monotonic()
        if not needed or name not in self.only:
            reason = NO_DEVICE if not needed else NOT_ASKED
            result: dict[str, Any] = self.earlier.get(name, {"ok": None, "reason": reason})
        else:
            try:
                result = run()
            except Exception as error:  # the other stages still run
                result = {"ok": False, "reason": f"{type(error).__name__}: {error}"}
            result["seconds"] = round(time.monotonic() - start, 1)
        result = {"name": name, "seconds": 0.0, **result}
        self.data["stages"].append(result)
        self.write()
        verdict = {True: "ok", False: "FAILED", None: "skipped"}[result["ok"]]
        print(f"    {verdict} {result.get('reason', '')} ({result['seconds']} s)", flush=True)


def capture(*command: str, limit: float = 20) -> str:
    """The output of a command, or an empty string."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def remaining(stage: str) -> float:
    """Seconds that a stage has: its own, or what is left of the whole."""
    return max(1.0, min(LIMITS[stage], WHOLE - (time.monotonic() - STARTED)))


def command(
    limit: float,
    *words: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    keep: bool = False,
) -> dict[str, Any]:
    """Run a command for so many seconds at most; its last lines are kept when it fails.

    What the command started itself ends with it: nothing is left to disturb the next stage.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        lines = log.read().strip().splitlines()
    result: dict[str, Any] = {"ok": code == 0, "summary": lines[-1] if lines else ""}
    if code != 0:
        result["reason"] = f"cut off after {limit:.0f} s" if code is None else f"exit code {code}"
    if code != 0 or keep:
        result["output"] = lines[-LINES_KEPT:]
    return result


def facts(given: str | None) -> dict[str, Any]:
    """Where and with what this ran; nothing here starts CUDA in this process."""
    import torch

    query = "name,driver_version,compute_cap,clocks.sm,clocks.mem,clocks.max.sm"
    smi = capture("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    device = smi.splitlines()[0].split(", ") if smi else []
    revision = capture("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changed = capture(
        *("git", "-C", str(ROOT), "status", "--porcelain"),
        *("--", ".", ":(exclude)bench/results"),  # the record of an earlier run
    )
    nvcc = tool("nvcc")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "revision": revision or given,
        # A copy without history cannot tell: whoever names its revision vouches for it.
        "dirty": bool(changed) if revision else None if given is None else False,
        "device": device[0] if device else None,
        "driver": device[1] if device else None,
        "compute_capability": device[2] if device else None,
        "clocks": device[3:],
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "compiler": (capture(nvcc, "--version").splitlines() or [None])[-1] if nvcc else None,
    }


def tool(name: str) -> str | None:
    """A program of the toolkit, on the path or where it is usually installed."""
    found = shutil.which(name)
    if found is not None:
        return found
    places = [Path("/usr/local/cuda/bin"), *sorted(Path("/opt/nvidia").glob("nsight-compute/*"))]
    usual = [p / name for p in reversed(places) if (p / name).is_file()]
    return str(usual[0]) if usual else None


# ---- stages --------------------------------------------------------------------------------------


def build(capability: str) -> dict[str, Any]:
    """Install against the torch that is here, for the device that is here, without the network."""
    environment = {
        # Whatever make set for machines with few cores.
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        "CMAKE_GENERATOR": "Ninja" if shutil.which("ninja") else "Unix Makefiles",
    }
    nvcc = tool("nvcc")
    if nvcc is None:
        return {"ok": False, "reason": "nvcc not found"}
    result = command(
        remaining("build"),
        *(sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"),
        *("--no-index", "-v", "-Cbuild-dir=build/gpu_check", "-Ccmake.define.PHYSCON_CUDA=ON"),
        f"-Ccmake.define.PHYSCON_CUDA_ARCHITECTURES={capability.replace('.', '')}-real",
        *(f"-Ccmake.define.CMAKE_CUDA_COMPILER={nvcc}", "-e", "."),
        environment=environment,
    )
    code = "import json, physcon_ext; print(json.dumps(physcon_ext.build_info()))"
    info = capture(sys.executable, "-c", code, limit=60)
    result["build_info"] = json.loads(info) if info else None
    if result["ok"] and not (info and result["build_info"]["cuda"]):
        result |= {"ok": False, "reason": "what is installed holds no CUDA kernels"}
    return result


def tests(stage: str, kernels: str) -> dict[str, Any]:
    # The references on the CPU take most of the time.
    parallel = ("-n", "4") if importlib.util.find_spec("xdist") else ()
    return command(
        remaining(stage),
        *(sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"),
        *("--tb=short", *parallel),
        # Another version of a library may warn, or lack what a test file without device imports.
        *("-W", "default", "--continue-on-collection-errors", "tests/test_cuda_device.py"),
        environment={"PHYSCON_CUDA_KERNELS": kernels, "PHYSCON_TEST_REQUIRE_CUDA": "1"},
    )


def checkers() -> dict[str, Any]:
    """The toolkit's own checkers, every kernel of ours once on small shapes."""
    program = tool("compute-sanitizer")
    if program is None:
        return {"ok": False, "reason": "compute-sanitizer not found"}
    verdicts = {}
    for check in ("memcheck", "racecheck"):
        verdicts[check] = command(
            min(remaining("checkers"), LIMITS["checkers"] / 2),
            *(program, "--tool", check, "--error-exitcode", "9"),
            # Torch's own kernels would take most of the time.
            *("--kernel-name", "kns=physcon"),
            *(sys.executable, "-m", "bench.gpu_check", "--small"),
            # One allocation per tensor: what lies past its end belongs to nobody.
            environment=KERNELS | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        )
    failed = [f"{k}: {v['reason']}" for k, v in verdicts.items() if not v["ok"]]
    return {"ok": not failed, "checkers": verdicts, "reason": "; ".join(failed)}


def inner(stage: str) -> dict[str, Any]:
    """A part of this file in a process of its own; what it wrote counts even if it is cut off."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        words = (sys.executable, "-m", "bench.gpu_check", f"--{stage}", "--part", str(part))
        result = command(remaining(stage), *words, environment=KERNELS)
        lines = part.read_text().splitlines() if part.exists() else []
    found = [json.loads(line) for line in lines]
    for line in found:
        result |= {k: v for k, v in line.items() if k != "entry"}
    result["entries"] = joined([line["entry"] for line in found if "entry" in line])
    wrong = [e["op"] for e in result["entries"] if e.get("ok") is False]
    if result["ok"] and (wrong or not result["entries"]):
        result |= {"ok": False, "reason": f"wrong: {', '.join(wrong) or 'nothing was measured'}"}
    return result


def joined(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what a later entry of the same row replaces."""
    return list({entry.get("row", -i): entry for i, entry in enumerate(entries, 1)}.values())


def counters(kernels: list[str]) -> dict[str, Any]:
    """A summary of the two slowest kernels by the profiler of the toolkit."""
    program = tool("ncu")
    if program is None:
        return {"ok": False, "reason": "ncu not found"}
    if not kernels:
        return {"ok": False, "reason": "the benchmark named no kernels"}
    return command(
        remaining("counters"),
        # Four launches say enough; the program need not run to its end.
        *(program, "--clock-control", "none", "--launch-count", "4", "--kill", "yes"),
        *("--kernel-name", f"regex:{'|'.join(kernels)}"),
        *(sys.executable, "-m", "bench.gpu_check", "--once"),
        keep=True,
        environment=KERNELS,
    )


# ---- what runs on the device, each in a process of its own ---------------------------------------


def small() -> None:
    """Every kernel of the table once, small and ragged; raises when one was not run."""
    import torch

    from physcon_ext.ops import _cuda

    ran = set()
    find = _cuda._record

    def noted(op: str, device: int) -> dict[str, Any] | None:
        record = find(op, device)
        if record is not None:
            ran.add(op)
        return record

    with mock.patch.object(_cuda, "_record", noted):
        for dtype in (torch.float32, torch.float64):
            for case in gpu_cases.small(dtype):
                print(case.op, case.shape, dtype, flush=True)
                case.run()
    torch.cuda.synchronize()
    name = _cuda.architecture(torch.cuda.get_device_capability())
    missing = {r["op"] for r in _cuda.table() if r["architecture"] == name} - ran
    if missing:
        raise RuntimeError(f"kernels that were not run: {', '.join(sorted(missing))}")


def repeatability(write: Callable[..., None]) -> None:
    """The same bits 20 times, for a permuted batch, and from a captured graph."""
    import torch

    for case in gpu_cases.repeated(torch.float32):
        first = case.run()
        same = all(all(map(torch.equal, first, case.run())) for _ in range(20))
        found = {"repeats": same}
        if case.batched is not None:
            order = torch.randperm(case.batched, device="cuda")
            alike = zip(first, case.permuted(order).run(), strict=True)
            found["permuted"] = all(torch.equal(a[order], b) for a, b in alike)
        if case.capturable:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = case.run()
            graph.replay()
            torch.cuda.synchronize()
            found["captured"] = all(map(torch.equal, first, captured))
        write(entry={"op": case.op, "shape": case.shape, "ok": all(found.values()), **found})


@dataclass(frozen=True)
class Contender:
    """One way to make the calls of a row.

    Attributes:
        key: Where its times go.
        call: From arguments to tensors.
        graph: Whether a round is one captured graph.
    """

    key: str
    call: Callable[..., Any]
    graph: bool


def _round_of(
    contender: Contender, inputs: list[tuple[Any, ...]]
) -> tuple[Callable[[], object], int]:
    """A warm round over all inputs and the number of its calls.

    A round is long enough for the events around it, and its inputs larger than the second-level
    cache.
    """
    import torch

    call = contender.call
    call(*inputs[0])
    torch.cuda.synchronize()
    start = time.monotonic()
    call(*inputs[0])
    torch.cuda.synchronize()
    if time.monotonic() - start > SLOW:  # long calls empty the cache themselves
        inputs = inputs[:1]

    def round_() -> None:
        for arguments in inputs:
            call(*arguments)

    for _ in range(2):
        round_()
    torch.cuda.synchronize()
    if not contender.graph:
        return round_, len(inputs)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        round_()
    return captured.replay, len(inputs)


def timed(
    contenders: Sequence[Contender], inputs: list[tuple[Any, ...]]
) -> dict[str, list[float] | str]:
    """Microseconds per call by device events, the contenders in turn in every round.

    What refuses to run or to be captured has the reason instead.
    """
    import torch

    found: dict[str, list[float] | str] = {}
    ready = []
    for contender in contenders:
        try:
            ready.append((contender.key, *_round_of(contender, inputs)))
        except Exception as error:
            torch.cuda.empty_cache()
            found[contender.key] = f"{type(error).__name__}: {error}"[:200]
    times: dict[str, list[float]] = {key: [] for key, *_ in ready}
    for _ in range(ROUNDS + 3):
        for key, run, count in ready:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            times[key].append(begin.elapsed_time(end) * 1e3 / count)
    return found | {key: values[3:] for key, values in times.items()}


def ceilings() -> dict[str, float]:
    """Copy bandwidth in TB/s and float32 and float64 matrix products in TFLOP/s, measured now."""
    import torch

    data = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(data)
    copy = statistics.median(timed(target.copy_, [(data,)], graph=False))
    result = {"copy_tb_s": 2 * data.nbytes / copy / 1e6}
    for dtype in (torch.float32, torch.float64):
        a = torch.randn(4096, 4096, device="cuda", dtype=dtype)
        product = statistics.median(timed(torch.matmul, [(a, a)], graph=False))
        result[f"matmul_{str(dtype)[6:]}_tflop_s"] = 2 * 4096**3 / product / 1e6
    return result


def benchmark(write: Callable[..., None]) -> None:
    """The ops beside torch: eager, captured and compiled, and the fraction of the floor."""
    import torch

    # Baselines of the accuracy of float32: no matrix product rounds its operands.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    start = time.monotonic()
    limits = ceilings()
    write(ceilings=limits)
    slow: dict[str, float] = {}
    done: list[tuple[gpu_cases.Benchmark, dict[str, Any]]] = []
    for row, measured in enumerate(gpu_cases.benchmarks()):
        inputs = _rotating(measured)
        floor = max(
            measured.bytes / limits["copy_tb_s"] / 1e6,
            measured.flops / limits["matmul_float32_tflop_s"] / 1e6,
        )
        entry: dict[str, Any] = {
            "row": row,
            "op": measured.op,
            "shape": measured.shape,
            "pass": measured.direction,
            "dtype": measured.dtype,
            "bytes": measured.bytes,
            "flops": measured.flops,
            "floor_us": floor,
            **measured.errors(inputs[0]),
        }
        calls = {"ours": measured.ours, **measured.baselines}
        contenders = [
            Contender(f"{name}_graph_us" if graph else f"{name}_us", call, graph)
            for name, call in calls.items()
            for graph in (False, True)
            if not (graph and name in measured.eager_only)
        ]
        entry |= _summaries(timed(contenders, inputs))
        _compare(entry, measured.bars)
        write(entry=entry)
        done.append((measured, entry))
        for name, spent in _kernel_times(measured.ours, inputs[0]).items():
            slow[name] = max(slow.get(name, 0.0), spent)
        del inputs
        torch.cuda.empty_cache()
    write(slowest=sorted(slow, key=lambda k: -slow[k])[:2])
    # Compiling takes seconds each: when everything else is known, while there is time.
    for measured, entry in done:
        if measured.direction != "forward" or time.monotonic() - start > 0.8 * LIMITS["benchmark"]:
            continue
        call = torch.compile(measured.baselines["torch"], dynamic=False)
        inputs = _rotating(measured)
        ways = [
            Contender("torch_compile_us", call, False),
            Contender("torch_compile_graph_us", call, True),
        ]
        entry |= _summaries(timed(ways, inputs))
        _compare(entry, measured.bars)
        write(entry=entry)
        del inputs
        torch.cuda.empty_cache()


def _rotating(measured: gpu_cases.Benchmark) -> list[tuple[Any, ...]]:
    """So many draws that no input is left in the second-level cache when its turn comes again."""
    import torch

    cache = torch.cuda.get_device_properties(0).L2_cache_size
    count = max(2, min(MOST_INPUTS, -(-L2_MULTIPLE * cache // measured.bytes)))
    return [measured.make() for _ in range(count)]


def _summaries(times: dict[str, list[float] | str]) -> dict[str, Any]:
    """Minimum and median, or why there are none."""
    return {
        key: found
        if isinstance(found, str)
        else {"min": min(found), "median": statistics.median(found), "rounds": len(found)}
        for key, found in times.items()
    }


def _compare(entry: dict[str, Any], bars: dict[str, float]) -> None:
    """Ratios like with like (captured with captured), the fraction of the floor, and the bars."""
    for key, other in list(entry.items()):
        if not key.endswith("_us") or key.startswith("ours") or not isinstance(other, dict):
            continue
        ours = entry["ours_graph_us" if key.endswith("_graph_us") else "ours_us"]
        if isinstance(ours, dict):
            entry[f"ratio_{key.removesuffix('_us')}"] = other["median"] / ours["median"]
    # Of several formulations in torch the fastest counts.
    for name in ("ratio_torch", "ratio_torch_graph"):
        ways = {name} | {f"{name.replace('torch', f'torch_{way}')}" for way in gpu_cases.WAYS}
        ratios = [entry[way] for way in ways if way in entry]
        if ratios:
            entry[name] = min(ratios)
    ours = entry["ours_graph_us"]
    if isinstance(ours, dict):
        entry["floor_fraction"] = entry["floor_us"] / ours["median"]
    if entry["bytes"] > 200e6 and entry["pass"] == "forward":
        bars = bars | {"floor_fraction": 0.7}
    entry["bars"] = {
        name: {"wanted": bar, "found": entry.get(name), "met": entry.get(name, 0.0) >= bar}
        for name, bar in bars.items()
    }


def _kernel_times(call: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, float]:
    """Microseconds of each of our kernels in one call, by its name; empty without a profiler."""
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            call(*arguments)
        events = record.key_averages()
        times = {event.key: float(event.self_device_time_total) for event in events}
    except Exception:  # profilers differ between versions and machines; nothing else hangs on it
        return {}
    found: dict[str, float] = {}
    for key, spent in times.items():
        match = re.search(r"physcon::cuda::(\w+_kernel)", key)
        if match:
            found[match[1]] = found.get(match[1], 0.0) + spent
    return found


def once() -> None:
    """Every measured call once, for the profiler."""
    import torch

    for measured in gpu_cases.benchmarks():
        measured.ours(*measured.make())
    torch.cuda.synchronize()


def found_before(path: Path | None, now: dict[str, Any]) -> dict[str, Any]:
    """An earlier result of the same clean revision on the same device, or nothing."""
    if path is None or not path.exists():
        return {}
    data: dict[str, Any] = json.loads(path.read_text())
    same = all(data.get(k) == now[k] for k in ("revision", "device", "driver", "torch"))
    return data if same and now["dirty"] is data.get("dirty") is False else {}


def table(data: dict[str, Any]) -> str:
    """Stages and entries as text."""
    lines = [
        f"{s['name']:<14} {s['seconds']:>7} s  "
        f"{ {True: 'ok', False: 'FAILED', None: 'skipped'}[s['ok']] } {s.get('reason', '')}"
        for s in data["stages"]
    ]
    for e in data["entries"]:
        numbers = [f"{k} {v:.3g}" for k, v in e.items() if isinstance(v, float)]
        label = f"{e['op']} {tuple(e['shape'])} {e['dtype']} {e['pass']}"
        lines.append(f"{label}: {', '.join(numbers)}")
        for name, bar in e["bars"].items():
            verdict = "met" if bar["met"] else "MISSED"
            lines.append(f"    {name} >= {bar['wanted']}: {bar['found']} {verdict}")
    return "\n".join(lines)


def main() -> int:
    """Run all stages; the exit code is 0 when all passed, 1 when one failed, 2 without a device."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="result file (bench/results/<device>.json)")
    parser.add_argument("--revision", help="of a copy without history")
    names = ", ".join(LIMITS)
    parser.add_argument("--only", nargs="+", choices=LIMITS, metavar="STAGE", help=f"of {names}")
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    for part in ("small", "once", "repeatability", "benchmark"):
        parser.add_argument(f"--{part}", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small or options.once:
        (small if options.small else once)()
        return 0
    if options.repeatability or options.benchmark:

        def write(**line: Any) -> None:
            with open(options.part, "a") as file:
                file.write(json.dumps(line) + "\n")

        (repeatability if options.repeatability else benchmark)(write)
        return 0
    found = facts(options.revision)
    device = found["device"]
    name = (device or "no_device").replace(" ", "_")
    out = options.out or (RESULTS / f"{name}.json" if device else None)
    report = Report(out, options.only or tuple(LIMITS), found_before(out, found))
    report.update(**found)
    here = device is not None
    stage = report.stage
    capability = found["compute_capability"]
    stage("build", lambda: build(capability), needed=here)
    stage("tests", lambda: tests("tests", "all"), needed=here)
    stage("composites", lambda: tests("composites", "none"), needed=here)
    stage("checkers", checkers, needed=here)
    stage("repeatability", lambda: inner("repeatability"), needed=here)
    stage("benchmark", lambda: inner("benchmark"), needed=here)
    measured = report.data["stages"][-1]
    report.update(entries=measured.pop("entries", report.data["entries"]))
    stage("counters", lambda: counters(measured.get("slowest", [])), needed=here)
    failed = [s["name"] for s in report.data["stages"] if s["ok"] is False]
    # A changed tree, a failed test or a missing one says nothing about the revision.
    whole = all(s["ok"] for s in report.data["stages"])
    report.update(failed=failed, valid=whole and found["dirty"] is False)
    print(table(report.data))
    print(
        f"failed: {', '.join(failed) or 'nothing'}"
        + ("" if device else f"; {NO_DEVICE}: nothing was checked on hardware")
    )
    if report.path is not None:
        print(f"result: {report.path}")
    return 1 if failed else 0 if device else 2


if __name__ == "__main__":
    sys.exit(main())
