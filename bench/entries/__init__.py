# SPDX-License-Identifier: Apache-2.0
"""All benchmark entries by kind, in the order of the tables."""

from bench.entries import block, boundary, condition, spectral
from bench.entry import BenchmarkEntry
from bench.layers import LayerEntry


ENTRIES: dict[str, list[BenchmarkEntry | LayerEntry]] = {
    "conditioning": [*condition.ENTRIES],
    "convolution": [*spectral.ENTRIES, *block.ENTRIES, *boundary.ENTRIES],
}
