# SPDX-License-Identifier: Apache-2.0
"""All benchmark entries, in the order of the table."""

from bench.entries import condition


ENTRIES = [*condition.ENTRIES]
