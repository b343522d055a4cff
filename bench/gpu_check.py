# SPDX-License-Identifier: Apache-2.0
"""One command on a machine with a GPU: is everything right there, and how fast is it?

``python -m bench.gpu_check`` (or ``make gpu-check``) needs no network and takes under ten minutes:
it builds the kernels against the installed torch, runs the tests marked ``cuda`` with the kernels
and with the composites, runs the sanitizers of the toolkit on small shapes, checks that results
repeat bit by bit and survive graph capture, and measures the ops beside torch, eager and captured.

Every stage has a time limit and writes its part of the result at once; a stage that fails or is cut
off does not stop the others. Without a device the stages that need one say ``no device``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results"
SCHEMA = 1
NO_DEVICE = "no device"
# Seconds per stage; together under ten minutes.
LIMITS = {
    "build": 180,
    "tests": 120,
    "composites": 60,
    "checkers": 80,
    "repeatability": 30,
    "benchmark": 110,
    "counters": 20,
}
KERNELS = {"PHYSCON_CUDA_KERNELS": "all"}
ROUNDS = 30
L2_MULTIPLE = 3  # rotating inputs are this many times the second-level cache


class Report:
    """The result, written again after every change."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.data: dict[str, Any] = {"schema": SCHEMA, "stages": [], "entries": []}

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
        if not needed:
            result: dict[str, Any] = {"ok": None, "reason": NO_DEVICE}
        else:
            try:
                result = run()
            except subprocess.TimeoutExpired:
                result = {"ok": False, "reason": f"cut off after {LIMITS[name]} s"}
            except Exception as error:  # the other stages still run
                result = {"ok": False, "reason": f"{type(error).__name__}: {error}"}
        result = {"name": name, "seconds": round(time.monotonic() - start, 1), **result}
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


def command(name: str, *words: str, **environment: str) -> dict[str, Any]:
    """Run a command inside the limit of a stage; its last lines are kept when it fails."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMITS[name],
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    result: dict[str, Any] = {"ok": done.returncode == 0, "summary": lines[-1] if lines else ""}
    if done.returncode:
        result["reason"] = f"exit code {done.returncode}"
        result["output"] = lines[-40:]
    return result


def facts() -> dict[str, Any]:
    """Where and with what this ran; nothing here starts CUDA in this process."""
    import torch

    query = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm"
    smi = capture("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    device = smi.splitlines()[0].split(", ") if smi else []
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "revision": capture("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "dirty": bool(capture("git", "-C", str(ROOT), "status", "--porcelain")),
        "device": device[0] if device else None,
        "driver": device[1] if device else None,
        "clocks": device[2:],
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "compiler": (capture("nvcc", "--version").splitlines() or [None])[-1],
    }


# ---- stages --------------------------------------------------------------------------------------


def build() -> dict[str, Any]:
    """Install against the torch that is here, with kernels, without the network."""
    result = command(
        "build",
        *(sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"),
        *("-Ccmake.define.PHYSCON_CUDA=ON", "-Cbuild-dir=build/gpu_check", "-e", "."),
        CMAKE_BUILD_PARALLEL_LEVEL=os.environ.get(
            "CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1)
        ),
    )
    code = "import json, physcon_ext; print(json.dumps(physcon_ext.build_info()))"
    info = capture(sys.executable, "-c", code, limit=60)
    result["build_info"] = json.loads(info) if info else None
    result["ok"] = result["ok"] and bool(info) and result["build_info"]["cuda"]
    return result


def tests(stage: str, kernels: str) -> dict[str, Any]:
    return command(
        stage,
        *(sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", "tests"),
        PHYSCON_CUDA_KERNELS=kernels,
        PHYSCON_TEST_REQUIRE_CUDA="1",
    )


def checkers() -> dict[str, Any]:
    """The toolkit's own checkers, every kernel once on small shapes."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        return {"ok": False, "reason": "compute-sanitizer not found"}
    verdicts = {}
    for check in ("memcheck", "racecheck"):
        words = (tool, "--tool", check, "--error-exitcode", "9", sys.executable, "-m")
        try:
            verdicts[check] = command("checkers", *words, "bench.gpu_check", "--small", **KERNELS)
        except subprocess.TimeoutExpired:
            verdicts[check] = {"ok": False, "reason": "cut off"}
    return {"ok": all(v["ok"] for v in verdicts.values()), "checkers": verdicts}


def inner(stage: str, option: str) -> dict[str, Any]:
    """A part of this file in a process of its own, which hands back JSON on its last line."""
    result = command(stage, sys.executable, "-m", "bench.gpu_check", option, **KERNELS)
    if result["ok"]:
        result |= json.loads(result.pop("summary"))
    return result


def counters() -> dict[str, Any]:
    tool = shutil.which("ncu")
    if tool is None:
        return {"ok": False, "reason": "ncu not found"}
    return command(
        "counters",
        *(tool, "--clock-control", "none", "--launch-count", "2", "--kernel-name"),
        *("regex:condition_marginal_kernel", sys.executable, "-m", "bench.gpu_check", "--small"),
        **KERNELS,
    )


# ---- what runs on the device, each in a process of its own ---------------------------------------


def problem(batch: int, n: int, r: int, dtype: Any, device: str) -> tuple[Any, ...]:
    """Fresh random arguments of ``condition_diagonal``; rows per item only for one row."""
    import torch

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, device=device, dtype=dtype)

    rows = normal(batch, r, n) if r == 1 else normal(r, n)
    noise = torch.full((batch, r), 1e-3, device=device, dtype=dtype)
    variance = torch.rand(batch, n, device=device, dtype=dtype) + 0.1
    return normal(batch, n), variance, rows, normal(batch, r), noise


def small() -> None:
    """Every kernel once, forward and backward, small and ragged."""
    import torch

    from physcon_ext import ops

    for dtype in (torch.float32, torch.float64):
        for batch, n, r in ((3, 67, 1), (2, 300, 5), (1, 5003, 3), (2, 150, 90)):
            arguments = [t.requires_grad_() for t in problem(batch, n, r, dtype, "cuda")]
            mean, variance, rows, target, noise = arguments
            post = ops.condition_diagonal(*arguments, factor=True, covariance=n < 1000)
            (post.mean.sum() + post.variance.sum() + post.factor.sum()).backward()
            cross = (rows * variance[..., None, :]).detach()
            ops.condition_cross(mean, variance, cross, rows, target, noise).mean.sum().backward()
            if n < 1000:
                prior = torch.diag_embed(variance.detach())
                ops.condition_dense(mean, prior, rows, target, noise).mean.sum().backward()
            edges = torch.linspace(0, n, r + 1, device="cuda").long()
            order = torch.randperm(n, device="cuda")
            weights = torch.randn(n, device="cuda", dtype=dtype)
            ops.condition_disjoint(
                mean, variance, weights, order, edges, target, noise
            ).mean.sum().backward()
    torch.cuda.synchronize()


def repeatability() -> dict[str, Any]:
    """The same bits 20 times, for a permuted batch, and from a captured graph."""
    import torch

    from physcon_ext import ops

    found = {}
    for batch, n, r in ((500, 201, 1), (64, 1024, 8), (2, 50_000, 16)):
        arguments = problem(batch, n, r, torch.float32, "cuda")
        first = ops.condition_diagonal(*arguments, factor=True)
        same = all(
            all(map(torch.equal, first, ops.condition_diagonal(*arguments, factor=True)))
            for _ in range(20)
        )
        order = torch.randperm(batch, device="cuda")
        turned = [t if i == 2 and t.ndim == 2 else t[order] for i, t in enumerate(arguments)]
        permuted = ops.condition_diagonal(*turned, factor=True)
        alike = all(torch.equal(a[order], b) for a, b in zip(first, permuted, strict=True))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = ops.condition_diagonal(*arguments, factor=True)
        graph.replay()
        torch.cuda.synchronize()
        replayed = all(map(torch.equal, first, captured))
        found[f"{batch},{n},{r}"] = {"repeats": same, "permuted": alike, "captured": replayed}
    return {"ok": all(all(v.values()) for v in found.values()), "shapes": found}


def sensible(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Any:
    """The update by Cholesky factor and triangular solve, as one would write it in torch."""
    import torch

    cross = rows * variance[..., None, :]
    low = torch.linalg.cholesky_ex(cross @ rows.mT + torch.diag_embed(noise))[0]
    v = torch.linalg.solve_triangular(low, cross, upper=False)
    e = target - (rows @ mean[..., None])[..., 0]
    y = torch.linalg.solve_triangular(low, e[..., None], upper=False)
    return mean + (v.mT @ y)[..., 0], variance - v.square().sum(-2)


def published(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Any:
    """The dense formulation in double precision."""
    import torch

    g, s = rows.double(), torch.diag_embed(variance.double())
    gram = g @ s @ g.mT + torch.diag_embed(noise.double())
    gain = s @ g.mT @ torch.linalg.inv_ex(gram)[0]
    e = target.double() - (g @ mean.double()[..., None])[..., 0]
    posterior = s - gain @ g @ s
    return mean + (gain @ e[..., None])[..., 0].to(mean.dtype), posterior.to(mean.dtype)


def timed(call: Callable[..., Any], inputs: list[tuple[Any, ...]], *, graph: bool) -> list[float]:
    """Microseconds of ``ROUNDS`` calls by device events, over rotating inputs."""
    import torch

    for arguments in inputs[:3]:
        call(*arguments)
    torch.cuda.synchronize()
    if graph:
        runs = []
        for arguments in inputs:
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured):
                call(*arguments)
            runs.append(captured.replay)
    else:
        runs = [lambda a=arguments: call(*a) for arguments in inputs]
    times = []
    for i in range(ROUNDS + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        runs[i % len(runs)]()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return times[3:]


def ceilings() -> dict[str, float]:
    """Copy bandwidth in TB/s and float32 and float64 matrix products in TFLOP/s, measured now."""
    import torch

    data = torch.randn(1 << 28, device="cuda")
    copy = statistics.median(timed(lambda x: x.clone(), [(data,)], graph=False))
    result = {"copy_tb_s": 2 * data.nbytes / copy / 1e6}
    for dtype in (torch.float32, torch.float64):
        a = torch.randn(4096, 4096, device="cuda", dtype=dtype)
        product = statistics.median(timed(torch.matmul, [(a, a)], graph=False))
        result[f"matmul_{str(dtype)[6:]}_tflop_s"] = 2 * 4096**3 / product / 1e6
    return result


SHAPES = [(10_000, 201, 1), (1000, 1024, 8), (64, 10_000, 16), (1, 100_000, 64)]


def benchmark() -> dict[str, Any]:
    """Marginal update beside torch: eager, captured and compiled, and the fraction of the floor."""
    import torch

    from physcon_ext import ops

    torch.set_float32_matmul_precision("highest")
    limits = ceilings()
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    entries = []
    for batch, n, r in SHAPES:
        one = problem(batch, n, r, torch.float32, "cuda")
        size = sum(t.nbytes for t in one)
        count = max(2, min(32, -(-L2_MULTIPLE * cache // size)))
        inputs = [one] + [problem(batch, n, r, torch.float32, "cuda") for _ in range(count - 1)]
        moved = size + 8 * batch * n
        flops = batch * (2 * n * r * r + 6 * n * r)
        floor = max(
            moved / limits["copy_tb_s"] / 1e6, flops / limits["matmul_float32_tflop_s"] / 1e6
        )
        wide = sensible(*(t.double() for t in one))
        post = ops.condition_diagonal(*one)
        calls: dict[str, tuple[Callable[..., Any], bool]] = {
            "ours": (ops.condition_diagonal, False),
            "ours_graph": (ops.condition_diagonal, True),
            "torch": (sensible, False),
            "torch_graph": (sensible, True),
            "torch_compile": (torch.compile(sensible), False),
        }
        if batch * n * n <= 1 << 28:
            calls["published"] = (published, False)
        entry: dict[str, Any] = {
            "op": "condition_diagonal",
            "shape": [batch, n, r],
            "dtype": "float32",
            "bytes": moved,
            "flops": flops,
            "floor_us": floor,
            "error": float((post.mean - wide[0]).abs().max() / wide[0].abs().max()),
            "baseline_error": float(
                (sensible(*one)[0] - wide[0]).abs().max() / wide[0].abs().max()
            ),
        }
        for name, (call, graph) in calls.items():
            try:
                times = timed(call, inputs, graph=graph)
                entry[f"{name}_us"] = {"min": min(times), "median": statistics.median(times)}
            except Exception as error:  # a baseline that cannot be captured is a result, too
                entry[f"{name}_us"] = f"{type(error).__name__}: {error}"[:200]
        ours = entry["ours_graph_us"]
        if isinstance(ours, dict):
            entry["floor_fraction"] = floor / ours["median"]
            for name in ("torch", "torch_graph", "torch_compile", "published"):
                other = entry.get(f"{name}_us")
                if isinstance(other, dict):
                    entry[f"ratio_{name}"] = other["median"] / ours["median"]
        entries.append(entry)
    return {"ok": True, "ceilings": limits, "entries": entries}


def table(data: dict[str, Any]) -> str:
    """Stages and entries as text."""
    lines = [
        f"{s['name']:<14} {s['seconds']:>7} s  "
        f"{ {True: 'ok', False: 'FAILED', None: 'skipped'}[s['ok']] } {s.get('reason', '')}"
        for s in data["stages"]
    ]
    for e in data["entries"]:
        numbers = [f"{k} {v:.2f}" for k, v in e.items() if isinstance(v, float)]
        lines.append(f"{e['op']} {tuple(e['shape'])}: {', '.join(numbers)}")
    return "\n".join(lines)


def main() -> int:
    """Run all stages; the exit code is 0 when all passed, 1 when one failed, 2 without a device."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="result file (bench/results/<device>.json)")
    parser.add_argument("--skip-build", action="store_true", help="use what is installed")
    for part in ("small", "repeatability", "benchmark"):
        parser.add_argument(f"--{part}", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small:
        small()
        return 0
    if options.repeatability or options.benchmark:
        print(json.dumps(repeatability() if options.repeatability else benchmark()))
        return 0
    found = facts()
    device = found["device"]
    name = (device or "no_device").replace(" ", "_")
    report = Report(options.out or (RESULTS / f"{name}.json" if device else None))
    report.update(**found)
    report.stage("build", build, needed=device is not None and not options.skip_build)
    report.stage("tests", lambda: tests("tests", "all"), needed=device is not None)
    report.stage("composites", lambda: tests("composites", "none"), needed=device is not None)
    report.stage("checkers", checkers, needed=device is not None)
    stage = report.stage
    stage(
        "repeatability",
        lambda: inner("repeatability", "--repeatability"),
        needed=device is not None,
    )
    stage("benchmark", lambda: inner("benchmark", "--benchmark"), needed=device is not None)
    for result in report.data["stages"]:
        report.update(entries=report.data["entries"] + result.pop("entries", []))
    stage("counters", counters, needed=device is not None)
    failed = [s["name"] for s in report.data["stages"] if s["ok"] is False]
    # A changed tree or a failed test says nothing about the revision.
    report.update(failed=failed, valid=not (failed or found["dirty"] or device is None))
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
