# SPDX-License-Identifier: Apache-2.0
"""What `bench.gpu_check` runs on the device, in processes of its own.

A kernel that faults takes the process with it, and a capture that fails may spoil the generator of
random numbers: every piece of work is noted in a `Journal` before and after, a process that is no
longer sound ends, and the next one goes on behind the piece that broke. Torch is imported where it
is used.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from bench import gpu_cases, gpu_rows
from bench.gpu_table import compare


UNSOUND = 3  # exit code of a process that must be replaced by a fresh one
ROUNDS = 30
SLOW = 1e-3  # seconds of a call that needs no company in its round
MOST_INPUTS = 32
COPIED, PRODUCT = 1 << 28, 4096  # numbers, and the order of the matrices, of the ceilings
L2_MULTIPLE = 3  # rotating inputs and outputs are this many times the second-level cache
# Largest error of a small call, relative to the largest number of the same result on the CPU in
# float64. Rounding alone gives 1e-6 and 1e-13 there; a wrong index or a missing sum far more.
WRONG = {"float32": 1e-4, "float64": 1e-10}

T = TypeVar("T")


class Journal:
    """Lines of a file that say what was begun, what it gave, and what refused to run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):  # cut off while it was written
                self.lines.append(json.loads(line))

    def write(self, **line: Any) -> None:
        self.lines.append(line)
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def work(self, items: Iterable[T], label: Callable[[T], dict[str, Any]]) -> Iterator[T]:
        """The items that no process has finished, without those at which one died.

        Each must be ended by `end` with its result.
        """
        ended = {line["end"] for line in self.lines if "end" in line}
        died = self._died()
        for row, item in enumerate(items):
            if row in ended:
                continue
            self.row = row
            if row in died:
                self.end(**label(item), ok=False, reason="the process died here")
                continue
            self.write(begin=row, what=label(item))
            yield item

    def _died(self) -> dict[int, dict[str, Any]]:
        """Rows that were begun and neither ended nor left on purpose, and what they were."""
        found: dict[int, dict[str, Any]] = {}
        for line in self.lines:
            if "begin" in line:
                found[line["begin"]] = line["what"]
            for left in ("end", "again"):
                found.pop(line.get(left, -1), None)
        return found

    def entries(self, reason: str) -> list[dict[str, Any]]:
        """All results; what has none failed for this reason."""
        found = [line["entry"] for line in self.lines if "entry" in line]
        lost = {"ok": False, "reason": reason}
        return found + [{"row": row, **what, **lost} for row, what in self._died().items()]

    def end(self, **entry: Any) -> None:
        """The item that was handed out last is done."""
        self.write(end=self.row, entry={"row": self.row, **entry})

    def refused(self, row: int) -> dict[str, str]:
        """What would not run in a row, and why."""
        return {k: v for line in self.lines if line.get("again") == row for k, v in line["why"]}


def sound() -> bool:
    """Whether this process can still use the device and its random numbers."""
    import torch

    try:
        torch.cuda.synchronize()
        return float(torch.rand(1, device="cuda")) < 2.0
    except Exception:
        return False


def reason_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


# ---- small calls ---------------------------------------------------------------------------------


def _noting(ran: set[str]) -> Any:
    """A context in which the ops whose kernels run are added to ``ran``."""
    from physcon_ext.ops import _cuda

    find = _cuda._record

    def noted(op: str, device: int) -> dict[str, Any] | None:
        record = find(op, device)
        if record is not None:
            ran.add(op)
        return record

    return mock.patch.object(_cuda, "_record", noted)


def kernels() -> list[str]:
    """The ops that have a kernel for this device."""
    import torch

    from physcon_ext.ops import _cuda

    name = _cuda.architecture(torch.cuda.get_device_capability())
    return [r["op"] for r in _cuda.table() if r["architecture"] == name]


def small(dtypes: Sequence[str]) -> None:
    """Every kernel of the table once, small and ragged; raises when one was not run."""
    import torch

    ran: set[str] = set()
    with _noting(ran):
        for dtype in dtypes:
            for case in gpu_cases.small(getattr(torch, dtype)):
                print(case.op, case.shape, dtype, flush=True)
                case.run()
    torch.cuda.synchronize()
    missing = set(kernels()) - ran
    if missing:
        raise RuntimeError(f"kernels that were not run: {', '.join(sorted(missing))}")


def _on_host(case: gpu_cases.Case) -> gpu_cases.Case:
    """The same call on the CPU in float64."""
    import torch

    def host(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        copy = value.detach().cpu()
        if not copy.is_floating_point():
            return copy
        return copy.double().requires_grad_(value.requires_grad)

    return replace(case, arguments=tuple(map(host, case.arguments)))


def deviation(found: Any, expected: Any) -> float:
    """Largest error relative to the largest expected number; infinite where either is not."""
    found, expected = found.detach().cpu().double(), expected.detach().double()
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        return float("inf")
    if not expected.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def quick(journal: Journal, op: str) -> None:
    """Small calls of one op beside the CPU: a verdict on its kernel and on that of its adjoint."""
    import torch

    def cases() -> Iterator[tuple[str, gpu_cases.Case]]:
        for name in WRONG:
            for case in gpu_cases.small(getattr(torch, name)):
                if case.op == op:
                    yield name, case

    def label(item: tuple[str, gpu_cases.Case]) -> dict[str, Any]:
        return {"op": op, "shape": item[1].shape, "dtype": item[0], "kernels": [op]}

    for name, case in journal.work(cases(), label):
        ran: set[str] = set()
        entry = label((name, case))
        try:
            with _noting(ran):
                found = case.run()
            torch.cuda.synchronize()
            expected = _on_host(case).run()
            adjoint = sum(isinstance(a, torch.Tensor) and a.requires_grad for a in case.arguments)
            errors = [deviation(a, b) for a, b in zip(found, expected, strict=True)]
            forward = len(errors) - adjoint
            entry["errors"] = {
                op: max(errors[:forward], default=0.0),
                f"{op}_backward": max(errors[forward:], default=0.0),
            }
            entry["kernels"] = sorted(ran)
            wrong = [k for k, e in entry["errors"].items() if not e <= WRONG[name]]
            entry |= {"ok": not wrong}
            if wrong:
                entry["reason"] = f"wrong numbers: {', '.join(wrong)}"
        except Exception as error:
            entry |= {"ok": False, "reason": reason_of(error)}
        journal.end(**entry)
        if not entry["ok"] and not sound():
            raise SystemExit(UNSOUND)


def verdicts(entries: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[str]:
    """A line per kernel: its name, its calls and its largest error, or what went wrong."""
    lines = []
    for kernel in wanted:
        # An op and its adjoint are called together: what stops one says nothing of the other.
        own = [e for e in entries if kernel in (e["op"], f"{e['op']}_backward")]
        ran = [e for e in own if kernel in e["kernels"]]
        broken = next((e for e in own if e["ok"] is False and "errors" not in e), None)
        errors = dict.fromkeys(WRONG, 0.0)
        for e in ran:
            if "errors" in e:
                errors[e["dtype"]] = max(errors[e["dtype"]], e["errors"][kernel])
        if broken is not None:
            said = f"BROKEN  {tuple(broken['shape'])} {broken['dtype']}: {broken['reason']}"
        elif not ran:
            said = "NOT RUN"
        else:
            right = all(errors[name] <= limit for name, limit in WRONG.items())
            numbers = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
            said = f"{'ok' if right else 'WRONG':<7} {len(ran)} calls, error {numbers}"
        lines.append(f"{kernel:<34} {said}")
    return lines


def repeatability(journal: Journal) -> None:
    """The same bits 20 times, for a permuted batch, and from a captured graph."""
    import torch

    def label(case: gpu_cases.Case) -> dict[str, Any]:
        return {"op": case.op, "shape": case.shape}

    for case in journal.work(gpu_cases.repeated(torch.float32), label):
        entry: dict[str, Any] = label(case)
        try:
            first = case.run()
            found = {"repeats": all(all(map(torch.equal, first, case.run())) for _ in range(20))}
            if case.batched is not None:
                order = torch.randperm(case.batched, device="cuda")
                alike = zip(first, case.permuted(order).run(), strict=True)
                found["permuted"] = all(torch.equal(a[order], b) for a, b in alike)
            if case.capturable:
                graph, captured = capture(case.run)
                graph.replay()
                torch.cuda.synchronize()
                found["captured"] = all(map(torch.equal, first, captured))
            entry |= {"ok": all(found.values()), **found}
        except Exception as error:
            entry |= {"ok": False, "reason": reason_of(error)}
        journal.end(**entry)
        if not entry["ok"] and not sound():
            raise SystemExit(UNSOUND)


# ---- measurements --------------------------------------------------------------------------------


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


def capture(run: Callable[[], T]) -> tuple[Any, T]:
    """A graph of what the call launches, and what it returned.

    The stream is current again afterwards, also when the capture fails.
    """
    import torch

    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    gc.collect()
    torch.cuda.synchronize()
    stream.wait_stream(torch.cuda.current_stream())
    refused: Exception | None = None
    try:
        with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream):
            try:
                found = run()
            except Exception as error:
                refused = error
                raise
    except Exception as error:  # that the capture ended says less than why
        raise refused or error from None
    torch.cuda.current_stream().wait_stream(stream)
    return graph, found


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
    return capture(round_)[0].replay, len(inputs)


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
            found[contender.key] = reason_of(error)
            if not sound():
                break
            torch.cuda.empty_cache()
    times: dict[str, list[float]] = {key: [] for key, *_ in ready}
    if len(found) + len(ready) < len(contenders):
        return found  # the rest cannot be measured here any more
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
    """Copy bandwidth in TB/s and matrix products in TFLOP/s, measured now."""
    import torch

    def median(call: Callable[..., Any], *arguments: Any) -> float:
        times = timed([Contender("time", call, False)], [arguments])["time"]
        if isinstance(times, str):
            raise RuntimeError(f"a ceiling could not be measured: {times}")
        return statistics.median(times)

    data = torch.randn(COPIED, device="cuda")
    target = torch.empty_like(data)
    result = {"copy_tb_s": 2 * data.nbytes / median(target.copy_, data) / 1e6}
    del data, target
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        a = torch.randn(PRODUCT, PRODUCT, device="cuda", dtype=dtype)
        spent = median(torch.matmul, a, a)
        result[f"matmul_{str(dtype)[6:]}_tflop_s"] = 2 * PRODUCT**3 / spent / 1e6
    return result


def clocks_under_load() -> list[str]:
    """Clocks, temperature and power of the device while it multiplies matrices."""
    import torch

    a = torch.randn(PRODUCT, PRODUCT, device="cuda")
    for _ in range(300):
        torch.matmul(a, a)
    query = "clocks.sm,clocks.mem,temperature.gpu,power.draw"
    words = ("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    finally:
        torch.cuda.synchronize()
    return done.stdout.splitlines()[0].split(", ") if done.returncode == 0 else []


def precise() -> None:
    """Baselines of the accuracy of float32: no matrix product rounds its operands."""
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def described(measured: gpu_rows.Benchmark) -> dict[str, Any]:
    """What an entry of the record says of its row, but for the numbers."""
    return {
        "op": measured.op,
        "shape": measured.shape,
        "pass": measured.direction,
        "dtype": measured.dtype,
        "bytes": measured.bytes,
        "flops": measured.flops,
        **({"note": measured.note} if measured.note else {}),
        "bars": {k: {"wanted": v, "found": None, "met": False} for k, v in measured.bars.items()},
    }


def benchmark(journal: Journal) -> None:
    """The ops beside torch, eager and captured, and the fraction of the floor."""
    import torch

    precise()
    limits = ceilings()
    journal.write(ceilings=limits, clocks_under_load=clocks_under_load())
    for measured in journal.work(gpu_rows.benchmarks(), described):
        entry = described(measured)
        entry["floor_us"] = max(
            measured.bytes / limits["copy_tb_s"] / 1e6,
            measured.flops / limits["matmul_float32_tflop_s"] / 1e6,
        )
        torch.cuda.reset_peak_memory_stats()
        try:
            inputs = _rotating(measured)
            entry |= measured.errors(inputs[0])
            calls = {"ours": measured.ours, **measured.baselines}
            ways = [
                Contender(f"{name}_graph_us" if graph else f"{name}_us", call, graph)
                # Captures last: one that fails may spoil the process.
                for graph in (False, True)
                for name, call in calls.items()
                if not (graph and name in measured.eager_only)
            ]
            entry |= _measured(journal, ways, inputs)
            compare(entry, measured.bars)
            entry["ok"] = True
            del inputs
        except Exception as error:
            entry |= {"ok": False, "reason": reason_of(error)}
        entry["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        journal.end(**entry)
        _tidy()


def _measured(
    journal: Journal, ways: Sequence[Contender], inputs: list[tuple[Any, ...]]
) -> dict[str, Any]:
    """Minimum and median of every contender, or why there are none.

    Leaves the process when a contender has spoiled it; the next one leaves that contender out.
    """
    refused: dict[str, Any] = journal.refused(journal.row)
    times = timed([way for way in ways if way.key not in refused], inputs)
    if len(times) + len(refused) < len(ways):
        why = [[key, found] for key, found in times.items() if isinstance(found, str)]
        journal.write(again=journal.row, why=why)
        raise SystemExit(UNSOUND)
    return refused | {
        key: found
        if isinstance(found, str)
        else {"min": min(found), "median": statistics.median(found), "rounds": len(found)}
        for key, found in times.items()
    }


def _tidy() -> None:
    """Free what the row held, or leave a process that it has spoiled."""
    import torch

    gc.collect()
    if not sound():
        raise SystemExit(UNSOUND)
    torch.cuda.empty_cache()


def compiled(journal: Journal) -> None:
    """What the compiler makes of the baseline, beside ours in the same rounds."""
    import torch

    precise()
    rows = [m for m in gpu_rows.benchmarks() if (m.direction, m.dtype) == ("forward", "float32")]
    # Rows with bars first: compiling takes seconds each.
    for measured in journal.work(sorted(rows, key=lambda m: not m.bars), described):
        entry = described(measured)
        try:
            # The functions of several rows share their code, which is compiled a few times only.
            torch._dynamo.reset()
            call = torch.compile(measured.baselines["torch"], dynamic=False)
            inputs = _rotating(measured)
            ways = [
                Contender("ours_us", measured.ours, False),
                Contender("torch_compile_us", call, False),
                Contender("ours_graph_us", measured.ours, True),
                Contender("torch_compile_graph_us", call, True),
            ]
            entry |= _measured(journal, ways, inputs)
            compare(entry, {})
            entry["ok"] = True
            del inputs
        except Exception as error:
            entry |= {"ok": False, "reason": reason_of(error)}
        journal.end(**entry)
        _tidy()


def _rotating(measured: gpu_rows.Benchmark) -> list[tuple[Any, ...]]:
    """So many draws that no input is left in the second-level cache when its turn comes again."""
    import torch

    cache = torch.cuda.get_device_properties(0).L2_cache_size
    count = max(2, min(MOST_INPUTS, -(-L2_MULTIPLE * cache // measured.bytes)))
    return [measured.make() for _ in range(count)]


def launches(journal: Journal) -> None:
    """The device's own record of one call of ours per row: launches, and time by kernel."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    precise()
    for measured in journal.work(gpu_rows.benchmarks(), described):
        entry = described(measured)
        try:
            arguments = measured.make()
            measured.ours(*arguments)
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CUDA]) as record:
                measured.ours(*arguments)
                torch.cuda.synchronize()
            entry |= {"ok": True, **_seen(record.events())}
            del arguments
        except Exception as error:
            entry |= {"ok": False, "reason": reason_of(error)}
        journal.end(**entry)
        _tidy()


def _seen(events: Iterable[Any]) -> dict[str, Any]:
    """Launches of any kernels, and microseconds of ours by name."""
    count = 0
    spent: dict[str, float] = {}
    for event in events:
        if not str(event.device_type).endswith("CUDA") or re.match(r"Mem(cpy|set)", event.name):
            continue
        count += 1
        match = re.search(r"physcon::cuda::(?:\w+::)*(\w+_kernel)", event.name)
        if match:
            spent[match[1]] = spent.get(match[1], 0.0) + float(event.self_device_time_total)
    return {"launches": count, "kernel_us": spent}


def once(row: int) -> None:
    """One measured call, warm, for the profiler of the toolkit."""
    import torch

    for at, measured in enumerate(gpu_rows.benchmarks()):
        if at == row:
            measured.ours(*measured.make())
    torch.cuda.synchronize()
