# SPDX-License-Identifier: Apache-2.0
"""One command on a machine with a GPU: is everything right there, and how fast is it?

``python -m bench.gpu_check`` (or ``make gpu-check``) needs no network and takes under ten minutes:
it builds the kernels against the installed torch, for the device that is here, makes small calls of
every kernel, runs the tests marked ``cuda`` with the kernels and with the composites, runs the
sanitizers of the toolkit on small shapes, checks that results repeat bit by bit and survive graph
capture, and measures the ops beside torch, eager, captured and compiled.

``--quick`` builds and says of every kernel by name whether it runs and is right, in a minute or
two; ``--only`` runs some stages again and keeps the rest of an earlier result of the same sources;
``--output`` takes another folder than ``bench/results`` for the result and the log.

Every stage has a time limit and writes its part of the result at once; a stage that fails or is cut
off does not stop the others, and none runs past ten minutes in all. What the device runs is in
processes of its own (`bench.gpu_device`). Without a device the stages that need one say
``no device``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench import gpu_device
from bench.gpu_table import stage_line, table


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results"
BUILD = ROOT / "build/gpu_check"
# Where the package goes when the environment of this Python cannot be written to.
SITE = BUILD / "site"
SCHEMA = 1
NO_DEVICE = "no device"
NOT_ASKED = "not asked for"
INTERRUPTED = "interrupted"
# Seconds for everything, and per stage; what a stage leaves the later ones may use.
WHOLE = 590
LIMITS = {
    "build": 150,
    "quick": 35,
    "tests": 60,
    "composites": 40,
    "checkers": 65,
    "repeatability": 30,
    "benchmark": 125,
    "compiled": 40,
    "counters": 45,
}
QUICK = ("build", "quick")
# Stages without which nothing was proved; a tool that the machine refuses proves nothing wrong.
NEEDED = ("build", "quick", "tests", "composites", "repeatability", "benchmark")
KERNELS = {"PHYSCON_CUDA_KERNELS": "all"}
# Of processes that run side by side, or should have no others beside them.
FEW = {"OMP_NUM_THREADS": "4", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
LINES_KEPT = 200  # of the output of a command in the result
BYTES_KEPT = 1 << 20  # of the output of a command in the log
IDLE = 45  # seconds without news from a process on the device, which then hangs
REFUSED = re.compile(r"ERR_NVGPUCTRPERM|not supported|[Ff]ailed to initialize|LibraryNotLoaded")

STARTED = time.monotonic()
STOPPED = threading.Event()  # by a signal: what is known is still written and shown


class Report:
    """The result, written again after every change, and the log of what the commands said.

    Stages that are not asked for keep what an earlier result of the same sources says of them.
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

    def limit(self, name: str) -> float:
        """Seconds that a stage has: all that the later ones do not need."""
        names = list(LIMITS)
        later = [n for n in names[names.index(name) + 1 :] if n in self.only]
        return max(1.0, WHOLE - (time.monotonic() - STARTED) - sum(LIMITS[n] for n in later))

    def stage(self, name: str, run: Callable[[float], dict[str, Any]], *, needed: bool) -> None:
        """Run one stage, given its seconds; ``needed`` says whether it has what it needs."""
        print(f"==> {name}", flush=True)
        start = time.monotonic()
        if not needed or name not in self.only or STOPPED.is_set():
            reason = NO_DEVICE if not needed else NOT_ASKED
            reason = INTERRUPTED if STOPPED.is_set() else reason
            result: dict[str, Any] = self.earlier.get(name, {"ok": None, "reason": reason})
        else:
            try:
                result = run(self.limit(name))
            except Exception as error:  # the other stages still run
                result = {"ok": False, "reason": f"{type(error).__name__}: {error}"}
            result["seconds"] = round(time.monotonic() - start, 1)
        result = {"name": name, "seconds": 0.0, **result}
        self.data["stages"].append(result)
        self.merge(result.pop("entries", []))
        self._log(name, result.pop("log", ""))
        self.write()
        print(f"    {stage_line(result)}", flush=True)

    def merge(self, entries: Sequence[dict[str, Any]]) -> None:
        """Add what is new of rows that are known, and rows that are not."""
        known = {row_of(e): e for e in self.data["entries"]}
        for entry in entries:
            known[row_of(entry)] = known.get(row_of(entry), {}) | entry
        self.data["entries"] = list(known.values())

    def _log(self, name: str, text: str) -> None:
        if self.path is not None and text:
            with open(self.path.with_suffix(".log"), "a") as file:
                file.write(f"==> {name}\n{text}\n")


def row_of(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry["op"], tuple(entry["shape"]), entry["pass"], entry["dtype"]


def capture(*command: str, limit: float = 20) -> str:
    """The output of a command, or an empty string."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def surroundings() -> dict[str, str]:
    """The environment of every command: the tools of this Python and of CUDA are on its path."""
    folders = [sysconfig.get_path("scripts"), "/usr/local/cuda/bin", os.environ.get("PATH", "")]
    found = {**os.environ, "PATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1"}
    if SITE.is_dir():
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SITE), found.get("PYTHONPATH")]))
    return found


def command(
    limit: float,
    *words: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    watched: Path | None = None,
) -> dict[str, Any]:
    """Run a command for so many seconds at most; its last lines are kept when it fails.

    What the command started itself ends with it: nothing is left to disturb the next stage. With a
    file that is ``watched`` the command also ends when that file has not changed for a while.
    """
    reason = ""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=surroundings() | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        start = time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if time.monotonic() - start > limit:
                    reason = f"cut off after {limit:.0f} s"
                elif STOPPED.is_set():
                    reason = INTERRUPTED
                elif watched is not None and _idle(watched, start) > IDLE:
                    reason = f"no progress for {IDLE} s"
                if reason:
                    break
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # What waits inside the driver cannot be killed, and must not hold up the rest.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        log.seek(max(0, log.seek(0, os.SEEK_END) - BYTES_KEPT))
        text = log.read().decode(errors="replace").strip()
    lines = text.splitlines()
    code = process.returncode
    result: dict[str, Any] = {"ok": code == 0 and not reason, "code": code, "log": text}
    result["summary"] = lines[-1] if lines else ""
    if not result["ok"]:
        ended = f"exit code {code}" if code is None or code >= 0 else f"killed by signal {-code}"
        result["reason"] = reason or ended
        result["output"] = [line[:500] for line in lines[-LINES_KEPT:]]
    return result


def _idle(file: Path, start: float) -> float:
    """Seconds since the file or the command began to exist or the file changed last."""
    since = time.monotonic() - start
    return min(since, time.time() - file.stat().st_mtime) if file.exists() else since


def digest() -> str:
    """Of everything that is built, run and compared here, whatever a repository says of it."""
    found = hashlib.sha256()
    for place in ("CMakeLists.txt", "pyproject.toml", "cmake", "csrc", "python", "bench", "tests"):
        here = ROOT / place
        for file in sorted(here.rglob("*")) if here.is_dir() else [here]:
            if file.suffix in SOURCES:
                found.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return found.hexdigest()[:16]


SOURCES = (".txt", ".toml", ".cmake", ".py", ".cu", ".cuh", ".cpp", ".hpp", ".h", ".in")


def facts(given: str | None) -> dict[str, Any]:
    """Where and with what this ran; nothing here starts CUDA in this process."""
    import torch

    query = "name,driver_version,compute_cap,clocks.sm,clocks.mem,clocks.max.sm"
    smi = capture("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    device: list[str | None] = [*smi.splitlines()[0].split(", ")] if smi else _by_torch()
    revision = capture("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changed = capture(
        *("git", "-C", str(ROOT), "status", "--porcelain"),
        *("--", ".", ":(exclude)bench/results"),  # the record of an earlier run
    )
    nvcc = tool("nvcc")
    sources = digest()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "revision": revision or given or f"sources {sources}",
        "sources": sources,
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


def _by_torch() -> list[str | None]:
    """Name, no driver, and capability of the device that torch finds, or nothing."""
    code = "import torch as t; p = t.cuda.get_device_properties(0); print(p.name, p.major, p.minor)"
    words = capture(sys.executable, "-c", code, limit=60).split()
    return [" ".join(words[:-2]), None, ".".join(words[-2:])] if words else []


def tool(name: str) -> str | None:
    """A program of the toolkit, on the path or where it is usually installed."""
    found = shutil.which(name)
    if found is not None:
        return found
    places = [
        *sorted(Path("/opt/nvidia").glob("nsight-compute/*")),
        *sorted(Path("/usr/local").glob("cuda*/compute-sanitizer")),
        Path("/usr/local/cuda/bin"),
    ]
    usual = [p / name for p in reversed(places) if (p / name).is_file()]
    return str(usual[0]) if usual else None


# ---- stages --------------------------------------------------------------------------------------


def destination() -> tuple[str, ...]:
    """Arguments of pip: editable where this environment may be changed, else in a folder."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    own = sys.prefix != sys.base_prefix or not marker.exists()
    if own and os.access(sysconfig.get_path("purelib"), os.W_OK):
        shutil.rmtree(SITE, ignore_errors=True)
        return "-e", "."
    return "--upgrade", "--target", str(SITE), "."


def build(limit: float, capability: str) -> dict[str, Any]:
    """Install against the torch that is here, for the device that is here, without the network."""
    environment = {
        # Whatever make set for machines with few cores.
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        "CMAKE_GENERATOR": "Ninja"
        if shutil.which("ninja", path=surroundings()["PATH"])
        else "Unix Makefiles",
    }
    nvcc = tool("nvcc")
    if nvcc is None:
        return {"ok": False, "reason": "nvcc not found"}
    print(f"    for compute capability {capability} only", flush=True)
    result = command(
        limit - 20,
        *(sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"),
        *("--no-index", "-v", f"-Cbuild-dir={BUILD}", "-Ccmake.define.PHYSCON_CUDA=ON"),
        # Code of the CPU for the oldest and the newest processors: enough for references.
        "-Ccmake.define.PHYSCON_COMPILER_HAS_avx2=0",
        f"-Ccmake.define.PHYSCON_CUDA_ARCHITECTURES={capability.replace('.', '')}-real",
        *(f"-Ccmake.define.CMAKE_CUDA_COMPILER={nvcc}", *destination()),
        environment=environment,
    )
    code = "import json, physcon_ext as p; print(json.dumps([p.__file__, p.build_info()]))"
    info = command(20, sys.executable, "-c", code)
    result["log"] += f"\n{info.pop('log')}"
    where, found = json.loads(info["summary"]) if info["ok"] else (None, None)
    result |= {"build_info": found, "module": where}
    if result["ok"] and not info["ok"]:
        result |= {"ok": False, "reason": f"what was built cannot be imported: {info['summary']}"}
    if result["ok"] and not found["cuda"]:
        result |= {
            "ok": False,
            "reason": f"{where} holds no CUDA kernels: uninstall that package, or use another "
            "Python",
        }
    return result


def device_tests() -> list[str]:
    """The files with tests marked ``cuda``; the others need not be imported."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [str(f.relative_to(ROOT)) for f in files if "pytest.mark.cuda" in f.read_text()]


def tests(limit: float, kernels: str) -> dict[str, Any]:
    cores = os.cpu_count() or 1
    workers = max(1, min(8, cores // 2))
    # The references on the CPU take most of the time.
    options = ["-n", str(workers)] if importlib.util.find_spec("xdist") else []
    if importlib.util.find_spec("pytest_timeout"):  # a test that hangs costs its worker only
        options += ["--timeout", "40", "--timeout-method", "thread"]
    return command(
        limit,
        *(sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"),
        *("--tb=short", "--durations=10", *options),
        # Another version of a library may warn, or lack what a test file without device imports.
        *("-W", "default", "--continue-on-collection-errors", *device_tests()),
        environment={
            "PHYSCON_CUDA_KERNELS": kernels,
            "PHYSCON_TEST_REQUIRE_CUDA": "1",
            "OMP_NUM_THREADS": str(max(1, cores // workers)),
        },
    )


def refused(result: dict[str, Any], name: str) -> dict[str, Any]:
    """The result, or a skip that quotes the tool where the machine does not let it work."""
    for line in result.get("output", []):
        if REFUSED.search(line):
            return result | {"ok": None, "reason": f"{name}: {line.strip('= ')[:200]}"}
    return result


def checkers(limit: float) -> dict[str, Any]:
    """The toolkit's own checkers, every kernel of ours once on small shapes, all at a time."""
    program = tool("compute-sanitizer")
    if program is None:
        return {"ok": None, "reason": "compute-sanitizer not found"}
    runs = [(c, d) for c in ("memcheck", "racecheck") for d in ("float32", "float64")]

    def run(checked: tuple[str, str]) -> dict[str, Any]:
        check, dtype = checked
        result = command(
            limit,
            *(program, "--tool", check, "--error-exitcode", "9"),
            # Torch's own kernels would take most of the time.
            *("--kernel-name", "kns=physcon"),
            *(sys.executable, "-m", "bench.gpu_check", "--run", "small", "--dtype", dtype),
            # One allocation per tensor: what lies past its end belongs to nobody.
            environment=KERNELS | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        )
        return refused(result, check)

    with ThreadPoolExecutor(len(runs)) as pool:
        found = dict(zip((" ".join(r) for r in runs), pool.map(run, runs), strict=True))
    log = "\n".join(f"-- {name}\n{result.pop('log')}" for name, result in found.items())
    states = [result["ok"] for result in found.values()]
    return {
        "ok": False if False in states else None if None in states else True,
        "checkers": found,
        "reason": "; ".join(f"{k}: {v['reason']}" for k, v in found.items() if not v["ok"]),
        "log": log,
    }


def inner(limit: float, what: str, *words: str) -> dict[str, Any]:
    """A part of `bench.gpu_device` in processes of its own; what they wrote counts in any case.

    One that dies or must be replaced is followed by another, which goes on behind it.
    """
    end, attempts, log = time.monotonic() + limit, 0, []
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        part.touch()
        called = (sys.executable, "-m", "bench.gpu_check", "--run", what, "--part", str(part))
        while True:
            before = part.stat().st_size
            result = command(
                max(1.0, end - time.monotonic()),
                *(*called, *words),
                environment=KERNELS | FEW,
                watched=part,
            )
            attempts += 1
            log.append(result.pop("log"))
            stuck = part.stat().st_size == before
            if result["ok"] or stuck or STOPPED.is_set() or end - time.monotonic() < 5:
                break
        journal = gpu_device.Journal(part)
    for line in journal.lines:
        result |= {k: v for k, v in line.items() if k in ("ceilings", "clocks_under_load")}
    result |= {"log": "\n".join(log), "processes": attempts}
    result["entries"] = journal.entries(result.get("reason", ""))
    wrong = [f"{e['op']} {tuple(e['shape'])}" for e in result["entries"] if e["ok"] is False]
    if result["ok"] and (wrong or not result["entries"]):
        result |= {"ok": False, "reason": f"failed: {', '.join(wrong) or 'nothing ran'}"}
    return result


def quick(limit: float) -> dict[str, Any]:
    """Small calls of every kernel beside the CPU, each op in a process of its own."""
    listed = command(40, sys.executable, "-m", "bench.gpu_check", "--run", "kernels")
    if not listed["ok"]:
        return listed
    kernels = listed["summary"].split()
    ops = [name for name in kernels if not name.endswith("_backward")]
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda op: inner(limit - 10, "quick", "--op", op), ops))
    entries = [entry for part in parts for entry in part["entries"]]
    said = gpu_device.verdicts(entries, kernels)
    print("\n".join(f"    {line}" for line in said), flush=True)
    wrong = [line.split()[0] for line in said if line.split()[1] != "ok"]
    wrong += [op for op, part in zip(ops, parts, strict=True) if not part["ok"] and op not in wrong]
    return {
        "ok": not wrong,
        "kernels": said,
        "calls": entries,
        **({"reason": f"failed: {', '.join(wrong)}"} if wrong else {}),
        "log": "\n".join(part["log"] for part in parts if not part["ok"]),
    }


def repeatability(limit: float) -> dict[str, Any]:
    found = inner(limit, "repeatability")
    return found | {"calls": found.pop("entries"), "entries": []}


def compiled(limit: float) -> dict[str, Any]:
    """The compiler's times join the rows of the benchmark; those of ours beside them do not."""
    found = inner(limit, "compiled")
    kept = ("op", "shape", "pass", "dtype")
    entries = [
        {k: v for k, v in e.items() if k in kept or "torch_compile" in k}
        for e in found.pop("entries")
    ]
    return found | {"entries": entries}


def counters(limit: float) -> dict[str, Any]:
    """Launches of every row, and a summary of the two slowest kernels by the toolkit's profiler."""
    end = time.monotonic() + limit
    seen = inner(limit / 2, "launches")
    rows = seen.pop("entries")
    kept = ("op", "shape", "pass", "dtype", "launches", "kernel_us")
    result = seen | {"entries": [{k: v for k, v in e.items() if k in kept} for e in rows]}
    where: dict[str, tuple[float, int]] = {}
    for entry in rows:
        for kernel, spent in entry.get("kernel_us", {}).items():
            where[kernel] = max(where.get(kernel, (0.0, 0)), (spent, entry["row"]))
    slowest = sorted(where, key=lambda kernel: -where[kernel][0])[:2]
    program = tool("ncu")
    if program is None or not slowest:
        reason = "ncu not found" if slowest else f"no kernels seen; {seen.get('reason', '')}"
        return result | {"ok": None if slowest else False, "reason": reason}
    summaries = {}
    for kernel in slowest:
        done = command(
            max(1.0, (end - time.monotonic()) / (len(slowest) - len(summaries))),
            *(program, "--clock-control", "none", "--launch-count", "1"),
            *("--set", "basic", "--section", "MemoryWorkloadAnalysis"),
            *("--kernel-name", f"regex:{kernel}"),
            *(sys.executable, "-m", "bench.gpu_check", "--run", "once"),
            *("--row", str(where[kernel][1])),
            environment=KERNELS,
        )
        lines = done["log"].splitlines()
        result["log"] += f"\n-- {kernel}\n{done.pop('log')}"
        # Its exit code is that of the program it ran, or not.
        if any("Duration" in line for line in lines):
            done = {"ok": True, "output": lines[-LINES_KEPT:]}
        summaries[kernel] = refused(done, "ncu")
    states = [seen["ok"], *(s["ok"] for s in summaries.values())]
    reasons = [f"{k}: {s['reason']}" for k, s in summaries.items() if not s["ok"]]
    reasons += [seen["reason"]] if "reason" in seen else []
    return result | {
        "ok": False if False in states else None if None in states else True,
        "slowest": slowest,
        "summaries": summaries,
        **({"reason": "; ".join(reasons)} if reasons else {}),
    }


def found_before(path: Path | None, now: dict[str, Any]) -> dict[str, Any]:
    """An earlier result of the same sources on the same device, or nothing."""
    if path is None or not path.exists():
        return {}
    data: dict[str, Any] = json.loads(path.read_text())
    same = all(data.get(k) == now[k] for k in ("sources", "device", "driver", "torch"))
    return data if same else {}


def on_the_device(options: argparse.Namespace) -> None:
    """What `inner` and the tools of the toolkit call."""
    if options.run == "kernels":
        print(*gpu_device.kernels())
    elif options.run == "small":
        gpu_device.small([options.dtype])
    elif options.run == "once":
        gpu_device.once(options.row)
    elif options.run == "quick":
        gpu_device.quick(gpu_device.Journal(options.part), options.op)
    else:
        getattr(gpu_device, options.run)(gpu_device.Journal(options.part))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, help="folder of the result (bench/results)")
    parser.add_argument("--revision", help="of a copy without history")
    names = ", ".join(LIMITS)
    parser.add_argument("--only", nargs="+", choices=LIMITS, metavar="STAGE", help=f"of {names}")
    parser.add_argument("--quick", action="store_true", help=f"only {' and '.join(QUICK)}")
    inside = ("kernels", "small", "once", "quick", "repeatability", "benchmark", "compiled")
    parser.add_argument("--run", choices=(*inside, "launches"), help=argparse.SUPPRESS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--row", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--op", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run all stages; the exit code is 0 when all passed, 1 when one failed, 2 without a device."""
    options = arguments()
    if options.run:
        on_the_device(options)
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: STOPPED.set())
    found = facts(options.revision)
    device = found["device"]
    here = device is not None
    folder = (options.output or RESULTS).absolute()
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", device or "no_device")
    out = folder / f"{name}.json" if here or options.output else None
    chosen = QUICK if options.quick else options.only or tuple(LIMITS)
    report = Report(out, chosen, found_before(out, found))
    report.update(**found)
    where = f"{device or NO_DEVICE}, torch {found['torch']}"
    print(f"{where}, revision {found['revision']}", flush=True)
    stage = report.stage
    stage("build", lambda s: build(s, found["compute_capability"]), needed=here)
    stage("quick", quick, needed=here)
    stage("tests", lambda s: tests(s, "all"), needed=here)
    stage("composites", lambda s: tests(s, "none"), needed=here)
    stage("checkers", checkers, needed=here)
    stage("repeatability", repeatability, needed=here)
    stage("benchmark", lambda s: inner(s, "benchmark"), needed=here)
    stage("compiled", compiled, needed=here)
    stage("counters", counters, needed=here)
    stages = {s["name"]: s["ok"] for s in report.data["stages"]}
    failed = [name for name, ok in stages.items() if ok is False]
    # A changed tree, a failed stage or a missing one says nothing about the revision.
    whole = not failed and all(stages[name] for name in NEEDED)
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
