# SPDX-License-Identifier: Apache-2.0
"""Layers that respect boundary conditions."""

from physcon_ext.nn.boundary import BoundaryEnforced, BoundaryLayer
from physcon_ext.nn.spectral_conv import SpectralConv


__all__ = ["BoundaryEnforced", "BoundaryLayer", "SpectralConv"]
