# SPDX-License-Identifier: Apache-2.0
"""Figures of predictions, budgets and fronts (extra ``plot``); matplotlib is imported on use."""

from physcon_ext.plot.budget import budget
from physcon_ext.plot.field import field
from physcon_ext.plot.front import front_density
from physcon_ext.plot.sample import sample_figure
from physcon_ext.plot.space_time import space_time


__all__ = ["budget", "field", "front_density", "sample_figure", "space_time"]
