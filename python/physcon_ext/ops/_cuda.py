# SPDX-License-Identifier: Apache-2.0
"""What an op runs on a CUDA tensor: the composite implementation in torch operations."""

from __future__ import annotations

import torch

from physcon_ext.ops.composite import COMPOSITES


def register() -> None:
    """Give every op an implementation for CUDA tensors."""
    for name, composite in COMPOSITES.items():
        torch.library.impl(f"physcon::{name}", "CUDA", composite)
