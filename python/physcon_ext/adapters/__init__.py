# SPDX-License-Identifier: Apache-2.0
"""Bridges to other libraries, one file each; importing them never imports the library."""

from physcon_ext.adapters import neuralop


__all__ = ["neuralop"]
