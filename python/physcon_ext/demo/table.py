# SPDX-License-Identifier: Apache-2.0
"""The table in the terminal."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from rich.table import Table


HEADINGS = {  # broken so that the table fits in 80 columns
    "conservation error": "conser-\nvation\nerror",
    "log-likelihood": "log-\nlikeli-\nhood",
    "coverage": "cover-\nage",
    "Pearson": "Pear-\nson",
    "Spearman": "Spear-\nman",
}


def render(result: dict[str, Any]) -> Table:
    """Body of :func:`physcon_ext.demo.render_table`."""
    if find_spec("rich") is None:
        raise ImportError('physcon_ext.demo: rich is missing; pip install "physcon-ext[cli]"')
    from rich import box
    from rich.table import Table

    by_problem = "problem" in result["rows"][0]
    table = Table(
        title=result["title"],
        caption="\n".join(caption_lines(result)),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1) if by_problem else 0,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
    if by_problem:
        table.add_column("problem", no_wrap=True)
    table.add_column("prediction", no_wrap=by_problem)
    for column in result["columns"]:
        heading = HEADINGS.get(column["title"], column["title"])
        table.add_column(heading, justify="right", no_wrap=True)

    reference: dict[str, Any] = {}
    previous = None
    for index, row in enumerate(result["rows"]):
        new_problem = index == 0 or (by_problem and row["problem"] != previous)
        if new_problem:
            reference, previous = row, row.get("problem")
        cells = [row["problem"] if new_problem else ""] if by_problem else []
        cells.append(row["method"])
        for column in result["columns"]:
            text = cell_text(row, column)
            verdict = None if new_problem else better(row, reference, column)
            cells.append(text if verdict is None else f"[{colour(verdict)}]{text}[/]")
        following = result["rows"][index + 1 :]
        last = by_problem and bool(following) and following[0]["problem"] != row["problem"]
        table.add_row(*cells, end_section=last)
    return table


def cell_text(row: dict[str, Any], column: dict[str, Any]) -> str:
    """A score in the format of its column; an error within rounding has no digits to show."""
    value = row[column["key"]]
    if column["better"] == "zero" and abs(value) < 1e-14:
        return f"{value:+.0e}"
    return format(value, column["format"])


def better(row: dict[str, Any], reference: dict[str, Any], column: dict[str, Any]) -> bool | None:
    """Whether a score beats that of the reference row; None where that is not a question."""
    new, old = row[column["key"]], reference[column["key"]]
    if column["better"] == "zero":
        return bool(abs(new) < abs(old))
    if column["better"] == "low":
        return bool(new < old)
    if column["better"] == "high":
        return bool(new > old)
    return None


def colour(verdict: bool) -> str:
    """Colour of a better or a worse score."""
    return "green" if verdict else "red"


def caption_lines(result: dict[str, Any]) -> list[str]:
    """Notes, colours, seed and time."""
    lines = list(result["notes"])
    lines.append("green: better than the model, red: worse")
    lines.append(f"seed {result['seed']}, {result['seconds']:.1f} s")
    return lines
