# SPDX-License-Identifier: Apache-2.0
"""Figures of predictions, budgets and fronts (extra ``plot``); matplotlib is imported on use."""

from physcon_ext.plot.budget import budget
from physcon_ext.plot.field import field
from physcon_ext.plot.front import front_density


__all__ = ["budget", "field", "front_density"]
