# SPDX-License-Identifier: Apache-2.0
"""What the numbers of `bench.gpu_check` say: ratios, bars, and the table on the terminal."""

from __future__ import annotations

from typing import Any

from bench import gpu_rows


LARGE = 200e6  # bytes from which the floor itself is a bar, for what runs forward
FLOOR = 0.7
# Columns of the table: title and ratio; both sides captured in those with a c.
RATIOS = {
    "torch": "ratio_torch",
    "torch c": "ratio_torch_graph",
    "compiled": "ratio_torch_compile",
    "compiled c": "ratio_torch_compile_graph",
    "publ.": "ratio_published",
    "publ. c": "ratio_published_graph",
    "shifted": "ratio_shifted",
    "plain c": "ratio_plain_graph",
}


def compare(entry: dict[str, Any], bars: dict[str, float]) -> None:
    """Ratios like with like (captured with captured), the fraction of the floor, and the bars."""
    for key, other in list(entry.items()):
        if not key.endswith("_us") or key.startswith("ours") or not isinstance(other, dict):
            continue
        ours = entry.get("ours_graph_us" if key.endswith("_graph_us") else "ours_us")
        if isinstance(ours, dict) and "median" in other:
            entry[f"ratio_{key.removesuffix('_us')}"] = other["median"] / ours["median"]
    # Of several formulations in torch the fastest counts.
    for name in ("ratio_torch", "ratio_torch_graph"):
        ways = {name} | {f"{name.replace('torch', f'torch_{way}')}" for way in gpu_rows.WAYS}
        ratios = [entry[way] for way in ways if way in entry]
        if ratios:
            entry[name] = min(ratios)
    ours, eager = entry.get("ours_graph_us"), entry.get("ours_us")
    if isinstance(ours, dict):
        if "ratio_torch_graph" not in entry and "ratio_torch" in entry and isinstance(eager, dict):
            # None of them can be captured: each side at its best.
            entry["ratio_torch_graph"] = entry["ratio_torch"] * eager["median"] / ours["median"]
            entry["uncaptured"] = True
        if "floor_us" in entry:
            entry["floor_fraction"] = entry["floor_us"] / ours["median"]
    if entry["bytes"] > LARGE and entry["pass"] == "forward" and "floor_us" in entry:
        bars = bars | {"floor_fraction": FLOOR}
    if bars:
        entry["bars"] = {
            name: {"wanted": bar, "found": entry.get(name), "met": entry.get(name, 0.0) >= bar}
            for name, bar in bars.items()
        }


def stage_line(stage: dict[str, Any]) -> str:
    """Name, seconds and verdict."""
    verdict = {True: "ok", False: "FAILED", None: "skipped"}[stage["ok"]]
    return f"{stage['name']:<14} {stage['seconds']:>7} s  {verdict} {stage.get('reason', '')}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"


def _median(entry: dict[str, Any]) -> Any:
    times = entry.get("ours_graph_us")
    return times["median"] if isinstance(times, dict) else None


def table(data: dict[str, Any]) -> str:
    """The stages; a line per row with its ratios; the bars, held or missed."""
    lines = [stage_line(stage) for stage in data["stages"]]
    if not data["entries"]:
        return "\n".join(lines)
    titles = ["us", "floor us", "floor %", *RATIOS, "launches"]
    header = "times of ours captured (c), and ratios to ours"
    lines += ["", f"{header:<74}" + "".join(f"{title:>11}" for title in titles)]
    held: list[str] = []
    for e in data["entries"]:
        label = f"{e['op']} {tuple(e['shape'])} {e['dtype']} {e['pass']}"
        fraction = e.get("floor_fraction")
        cells = [
            *(_number(_median(e)), _number(e.get("floor_us"))),
            _number(None if fraction is None else 100 * fraction),
            *(_number(e.get(name)) for name in RATIOS.values()),
            _number(e.get("launches")),
        ]
        lines.append(f"{label:<74}" + "".join(f"{cell:>11}" for cell in cells))
        if e.get("ok") is False:
            lines.append(f"    FAILED {e.get('reason', '')}")
        for name, bar in e.get("bars", {}).items():
            found, wanted = _number(bar["found"]), _number(bar["wanted"])
            verdict = "held  " if bar["met"] else "MISSED"
            held.append(f"{verdict} {label}: {name} {found}, wanted >= {wanted}")
    met = sum(line.startswith("held") for line in held)
    return "\n".join([*lines, "", f"bars: {met} of {len(held)} held", *held])
