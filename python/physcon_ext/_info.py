# SPDX-License-Identifier: Apache-2.0
"""Facts about the compiled module and the process it runs in."""

from __future__ import annotations

import platform
from typing import Any

import torch

from physcon_ext import _C
from physcon_ext.ops import _cuda as kernels


def build_info() -> dict[str, Any]:
    """Describe the build, the torch it runs under and the instruction set in use.

    Returns:
        A dictionary of plain values: ``version``, ``git_revision`` (empty outside a clone),
        ``compiler``, ``build_type``, ``flags``, ``processor``, ``cuda`` (True when CUDA kernels
        are part of the build), ``cuda_architectures``, ``cuda_kernels`` (per kernel and
        architecture: ``op``, ``architecture``, ``verified`` with the revision at which it passed
        on hardware or None, ``largest_rank`` with 0 for any, and ``runs``: ``kernel`` or
        ``composite``), ``torch_built`` and ``torch_built_cuda``
        (the torch of the build), ``torch_target`` (the oldest torch the binary runs under),
        ``torch`` and ``torch_cuda`` (the torch of this process), ``isa_available`` and
        ``isa_active`` (instruction sets: ``portable``, ``avx2``, ``avx512``), ``python``.

    Raises:
        RuntimeError: If the environment variable ``PHYSCON_ISA`` names an instruction set that
            is unknown or that cannot run here, or ``PHYSCON_CUDA_KERNELS`` has an unknown value.

    Example:
        >>> build_info()["isa_active"] in build_info()["isa_available"]
        True
    """
    info = _C.build_info()
    info["cuda_kernels"] = [
        {**entry, "runs": "kernel" if kernels.runs(entry) else "composite"}
        for entry in kernels.table()
    ]
    info["torch"] = str(torch.__version__)
    info["torch_cuda"] = torch.version.cuda
    info["python"] = platform.python_version()
    return info


def has_cuda() -> bool:
    """Tell whether CUDA kernels are part of this build; does not initialise CUDA.

    Returns:
        True if the operators have CUDA kernels.

    Example:
        >>> has_cuda()
        False
    """
    return bool(_C.build_info()["cuda"])
