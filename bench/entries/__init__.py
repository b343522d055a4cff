# SPDX-License-Identifier: Apache-2.0
"""All benchmark entries, in the order of the table."""

from bench.entries import block, boundary, condition, spectral
from bench.entry import BenchmarkEntry
from bench.layers import LayerEntry


ENTRIES: list[BenchmarkEntry | LayerEntry] = [
    *condition.ENTRIES,
    *spectral.ENTRIES,
    *block.ENTRIES,
    *boundary.ENTRIES,
]
