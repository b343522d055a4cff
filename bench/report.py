# SPDX-License-Identifier: Apache-2.0
"""Result files as tables: on the terminal, in the README, as CSV, and against an older file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


Result = dict[str, Any]

CHANGE = 0.05  # relative change of our time that a comparison flags
_KINDS = ("published", "torch", "compiled")
_LAYER_KINDS = ("published", "torch", "own")


def clock(entry: dict[str, Any]) -> str:
    """Return the time that counts: thread-CPU at one thread, wall time at more."""
    return "cpu_us" if entry["threads"] == 1 else "wall_us"


def load(path: Path) -> Result:
    """Read a result file.

    Raises:
        ValueError: If the file is missing, is no JSON or has another schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read results from {path}: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != 1:
        raise ValueError(f"{path} is not a result file of schema 1")
    return found


def save(result: Result, path: Path) -> None:
    """Write a result file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(_rounded(result), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_rounded(x) for x in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _time(microseconds: float) -> str:
    if microseconds < 1000.0:
        return f"{microseconds:.0f} us"
    return f"{microseconds / 1000.0:.3g} ms"


def _ratio(entry: dict[str, Any], kind: str) -> str:
    found = entry["baselines"].get(kind)
    if found is None:
        return "-"
    low, middle = found["ratio"]["min"], found["ratio"]["median"]
    return f"{_factor(low)} ({_factor(middle)})"


def _aim(entry: dict[str, Any]) -> str:
    """The ratio to plain PyTorch aimed at, and the highest that anything can have.

    At the floor the ratio is that of the PyTorch time to the floor: what lies above cannot be had.
    """
    best, floor = entry["baselines"].get("torch"), entry["floor_us"]
    if best is None or floor is None:
        return "-"
    limit = f"{_factor(best[clock(entry)]['min'] / floor)}x"
    aim = entry.get("aim")
    return f"({limit})" if aim is None else f"{_factor(aim)}x ({limit})"


def _factor(ratio: float) -> str:
    """Three digits without an exponent."""
    return f"{ratio:.0f}" if ratio >= 100.0 else f"{ratio:.3g}"


def rows(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the terminal table, one row per entry, pass, threads."""
    header = ["shape (B, N, r)", "pass", "thr", "ours", "/ published", "/ torch", "/ compiled"]
    header += ["/ plain op", "floor", "aim (limit)", "best torch"]
    table = []
    for entry in result["entries"]:
        best = entry["baselines"].get("torch")
        fraction = entry["floor_fraction"]
        table.append(
            [
                entry["name"],
                "fwd" if entry["pass"] == "forward" else "fwd+bwd",
                str(entry["threads"]),
                _time(entry["ours"][clock(entry)]["min"]),
                *(_ratio(entry, kind) for kind in (*_KINDS, "own")),
                "-" if fraction is None else f"{100 * fraction:.0f} %",
                _aim(entry),
                "-" if best is None else best["name"],
            ]
        )
    return header, table


def plain_table(header: list[str], table: list[list[str]]) -> str:
    """Return the table as aligned text."""
    widths = [max(len(row[i]) for row in [header, *table]) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, ["-" * width for width in widths], *table]
    ]
    return "\n".join(lines)


def show(result: Result) -> None:
    """Print the results: a rich table where rich is installed, aligned text otherwise."""
    header, table = rows(result)
    title = f"{result['machine']}, revision {result['revision'][:10]}, torch {result['torch']}"
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title)
        print(plain_table(header, table))
    else:
        pretty = Table(title=title, title_justify="left")
        for i, name in enumerate(header):
            pretty.add_column(name, justify="left" if i in (0, 1, 10) else "right", no_wrap=i > 0)
        for row in table:
            pretty.add_row(*row)
        console = Console()
        if not console.is_terminal:  # a pipe has no width of its own: give the table its room
            console = Console(width=180)
        console.print(pretty)
    print("Ratios: time of the baseline over ours, of minima (of medians). One thread: thread-CPU")
    print(
        "time; two threads: wall time. floor: share of max(traffic, arithmetic) at the rates below."
    )
    print("aim (limit): ratio to PyTorch aimed at, and the ratio that a result at the floor has.")
    for rate in result["rates"]:
        print("  " + _rates(rate))
    for line in memory_lines(result):
        print("  " + line)
    if result["dirty"]:
        print("The working tree differs from the revision: these figures are not for publication.")


def _rates(rate: dict[str, float]) -> str:
    return (
        f"{rate['threads']:.0f} thread(s): copy {rate['copy_256MiB_GBps']:.1f} GB/s (256 MiB), "
        f"{rate['copy_4MiB_GBps']:.1f} (4 MiB), {rate['copy_256KiB_GBps']:.1f} (256 KiB); "
        f"matrix product {rate['matmul_float32_GFLOPps']:.0f} GFLOP/s float32, "
        f"{rate['matmul_float64_GFLOPps']:.0f} float64"
    )


def memory_lines(result: Result) -> list[str]:
    """Return sentences on the growth of peak memory with the number of cells."""
    found = result.get("memory") or []
    if len(found) < 2:
        return []
    first, last = found[0], found[-1]
    span = last["n"] - first["n"]
    lines = []
    for mode in ("forward", "forward+backward"):
        slope = (last[mode] - first[mode]) / span
        steps = [
            (b[mode] - a[mode]) / (b["n"] - a["n"])
            for a, b in zip(found[:-1], found[1:], strict=True)
        ]
        lines.append(
            f"peak memory beyond the inputs, {mode}, m = {first['m']}: {slope:.1f} bytes per cell "
            f"from n = {first['n']} to {last['n']} (steps {min(steps):.1f} to {max(steps):.1f}); "
            "the two results take 8"
        )
    return lines


def write_csv(result: Result, path: Path) -> None:
    """Write one line per entry, pass, thread count and contender."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            "entry pass threads kind name rounds cpu_min_us cpu_median_us wall_min_us "
            "wall_median_us error residual_eps".split()
        )
        for entry in result["entries"]:
            found = [entry["ours"], *filter(None, entry["baselines"].values())]
            for timing in found:
                errors = dict(timing["error"])
                residual = errors.pop("residual_eps", "")
                writer.writerow(
                    [
                        entry["name"],
                        entry["pass"],
                        entry["threads"],
                        timing["kind"],
                        timing["name"],
                        timing["rounds"],
                        *(timing["cpu_us"][k] for k in ("min", "median")),
                        *(timing["wall_us"][k] for k in ("min", "median")),
                        max(errors.values(), default=""),
                        residual,
                    ]
                )


def compare(old: Result, new: Result) -> tuple[list[str], bool]:
    """Compare our times entry by entry.

    Returns:
        Lines to print, and whether any entry became slower by more than 5 %. The change of the
        ratio to plain PyTorch stands beside it: where that stays, the machine was slower, not we.
    """
    before = {(e["name"], e["pass"], e["threads"]): e for e in old["entries"]}
    lines, slower = [], False
    if old["machine"] != new["machine"]:
        lines.append(f"note: different machines, {old['machine']} and {new['machine']}")
    for entry in new["entries"]:
        key = (entry["name"], entry["pass"], entry["threads"])
        label = f"{key[0]}, {key[1]}, {key[2]} thread(s)"
        if key not in before:
            lines.append(f"new      {label}")
            continue
        past = before.pop(key)
        which = clock(entry)
        change = entry["ours"][which]["min"] / past["ours"][which]["min"] - 1.0
        word = "same    " if abs(change) <= CHANGE else "SLOWER  " if change > 0 else "faster  "
        slower |= change > CHANGE
        text = f"{word} {label}: {100 * change:+.1f} %"
        if entry["baselines"].get("torch") and past["baselines"].get("torch"):
            a, b = (e["baselines"]["torch"]["ratio"]["min"] for e in (past, entry))
            text += f", ratio to torch {a:.3g} -> {b:.3g}"
        lines.append(text)
    lines += [f"missing  {name}, {mode}, {threads} thread(s)" for name, mode, threads in before]
    return lines, slower


def readme_table(result: Result, source: str) -> str:
    """Return the table for the README: ratios at one thread, forward / forward + backward.

    Args:
        result: What a run found.
        source: The file that holds it, for the reader.
    """
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    layers: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in result["entries"]:
        if entry["threads"] == 1 and entry["rows"] is None:
            layers.setdefault(entry["name"], {})[entry["pass"]] = entry
        elif entry["threads"] == 1:
            cells.setdefault(entry["name"], {})[entry["pass"]] = entry
    lines = []
    if cells:
        lines += [
            "| B, N, r | result | time | published dense | PyTorch, eager | `torch.compile` "
            "| floor | aim (limit) |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
    for passes in cells.values():
        forward, both = passes.get("forward"), passes.get("forward+backward")
        if forward is None:
            continue
        shape = forward["shape"]
        per_item = " (rows per item)" if forward["rows"] == "item" else ""
        prior = "dense -> dense" if forward["op"] == "condition_dense" else "diagonal -> dense"
        kind = "mean + variance" if forward["output"] == "variance" else prior
        ratios = _both_ratios((forward, both), _KINDS)
        time = _time(forward["ours"]["cpu_us"]["min"])
        floor = f"{100 * forward['floor_fraction']:.0f} %"
        name = f"{shape['batch']}, {shape['n']}, {shape['rows']}{per_item}"
        lines.append(
            f"| {name} | {kind} | {time} | {' | '.join(ratios)} | {floor} | {_aim(forward)} |"
        )
    if layers:
        lines += [
            "| layer (B, C, N, modes) | time | published procedure | PyTorch, eager | plain op |",
            "| --- | --- | --- | --- | --- |",
        ]
    for name, passes in layers.items():
        forward, both = passes.get("forward"), passes.get("forward+backward")
        time = _time((forward or both or {})["ours"]["cpu_us"]["min"])
        ratios = _both_ratios((forward, both), _LAYER_KINDS)
        lines.append(f"| {name} | {time} | {' | '.join(ratios)} |")
    # An entry that was measured again later names its own revision.
    revisions = {result["revision"]: None} | {
        entry["revision"]: None for entry in result["entries"] if "revision" in entry
    }
    one = result["rates"][0]
    legend = (
        "Time of the baseline over ours, float32, one thread, forward / forward + backward, ratios "
        f"of minima over interleaved rounds on {result['cpu']} ({result['isa']}), torch "
        f"{result['torch']}, revision{'s' * (len(revisions) > 1)} "
        f"{', '.join(name[:10] for name in revisions)}."
    )
    if cells:
        legend += (
            " A dash: the dense form needs tens of gigabytes, or the baseline does not exist. "
            "Floor: share of the time that the least traffic at the speed of a plain copy of as "
            "many bytes, or the least arithmetic at "
            f"{one['matmul_float32_GFLOPps']:.0f} GFLOP/s, would take. Aim: the forward ratio to "
            "PyTorch that was wanted; limit: the ratio that a result at the floor would have, "
            "which nothing can exceed."
        )
    lines += ["", f"{legend} All figures: `{source}`."]
    return "\n".join(lines)


def _both_ratios(passes: tuple[dict[str, Any] | None, ...], kinds: tuple[str, ...]) -> list[str]:
    """Ratios of minima per kind of baseline, forward / forward + backward."""
    cells = [
        " / ".join(
            f"{_factor(e['baselines'][k]['ratio']['min'])}x" if e["baselines"].get(k) else "-"
            for e in passes
            if e is not None
        )
        for k in kinds
    ]
    return ["-" if set(cell) <= set("- /") else cell for cell in cells]
