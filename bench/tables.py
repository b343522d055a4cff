# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of README.md from the recorded results.

Run from the root of the repository: ``python -m bench.tables``. A table stands between
``<!-- table FILE -->`` and ``<!-- end -->``, FILE being the record that it shows.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from bench import report


ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def with_tables(document: str) -> str:
    """Return the document with every table made anew from its record."""
    return _BLOCK.sub(lambda block: f"{block[1]}{_table(block[2])}\n{block[3]}", document)


def _table(source: str) -> str:
    record = json.loads((ROOT / source).read_text(encoding="utf-8"))
    if "stages" in record:
        return _gpu(record)
    if "entries" in record:
        return report.readme_table(record, source)
    for key, show in (
        ("ns_per_cell_step", _finite_volume),
        ("models", _trained_models),
        ("sweep", _sweep),
    ):
        if key in record:
            return show(record)
    raise ValueError(f"{source}: no table is known for a record with the keys {sorted(record)}")


def _gpu(record: dict[str, Any]) -> str:
    """Captured microseconds, ratios eager and captured, of what ``bench.gpu_check`` recorded."""
    if not record["valid"]:
        raise ValueError(f"the record of {record['device']} is not valid: not for publication")
    header = ("op", "shape", "pass", "us", "floor", "torch", "torch, captured", "published")
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for entry in record["entries"]:
        ours = entry["ours_graph_us"]
        cells = [
            f"{ours['median']:.3g}" if isinstance(ours, dict) else "-",
            f"{entry['floor_fraction']:.0%}" if "floor_fraction" in entry else "-",
            *(
                f"{entry[name]:.3g}" if name in entry else "-"
                for name in ("ratio_torch", "ratio_torch_graph", "ratio_published")
            ),
        ]
        shape = ", ".join(map(str, entry["shape"]))
        dtype = entry.get("dtype", "float32")
        kind = "" if dtype == "float32" else f" {dtype}"
        what = f"`{entry['op']}`{kind} | ({shape}) | {entry['pass']}"
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _finite_volume(record: dict[str, Any]) -> str:
    """Nanoseconds per cell and step, who against which scheme."""
    one, wall = record["ns_per_cell_step"], record["ns_wall_all_cores"]
    schemes = {"godunov": "Godunov", "van_leer": "van Leer", "weno5": "WENO5"}
    lines = {
        "here": [one[f"ours {scheme}"] for scheme in schemes],
        f"here, {record['cores']} cores": [wall[scheme] for scheme in schemes],
        "PyClaw (Fortran)": [one.get(f"pyclaw {scheme}") for scheme in schemes],
        "NumPy, loop over samples": [one.get(f"numpy loop {scheme}") for scheme in schemes],
        "py-pde, Euler step of central differences": [one.get("py-pde central"), None, None],
    }
    text = [f"| | {' | '.join(schemes.values())} |", "| --- | --- | --- | --- |"]
    for who, values in lines.items():
        cells = ["-" if value is None else f"{float(f'{value:.2g}'):g}" for value in values]
        text.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(text)


def _trained_models(record: dict[str, Any]) -> str:
    """Errors of the models of ``examples/python/heat_insulated.py``, seed by seed."""
    names = {
        "fno": "Fourier neural operator",
        "fno, longer period": "the same with a longer Fourier period",
        "corrected": "corrected",
    }
    text = ["| | error | slope error |", "| --- | --- | --- |"]
    for model, seeds in record["models"].items():
        error = ", ".join(f"{100 * seed['relative_l2']:.2f} %" for seed in seeds)
        slope = ", ".join(f"{seed['slope_error_left']:.1g}" for seed in seeds)
        text.append(f"| {names[model]} | {error} | {slope} |")
    return "\n".join(text)


def _sweep(record: dict[str, Any]) -> str:
    """Ratios to the fastest plain PyTorch over random shapes, per pass."""
    points, limit = record["sweep"], record["limit"]
    text = [
        f"| {len(points)} random shapes, {record['dtype']} | least | median | below {limit}x |",
        "| --- | --- | --- | --- |",
    ]
    for mode in points[0]["ratio"]:
        ratios = sorted(point["ratio"][mode] for point in points)
        below = sum(ratio < limit for ratio in ratios)
        middle = ratios[len(ratios) // 2]
        text.append(f"| {mode} | {ratios[0]:.2f}x | {middle:.2f}x | {below} |")
    return "\n".join(text)


def main() -> int:
    """Rewrite README.md in place."""
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
