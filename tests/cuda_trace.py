# SPDX-License-Identifier: Apache-2.0
"""Loads the package under the torch of this interpreter and traces ops on fake CUDA tensors.

A program of its own, run by tests under any torch, with or without CUDA; no GPU is needed. Reads
calls as JSON from the standard input (``{"op", "arguments", "outputs", "composite"}``, a tensor as
``{"shape", "dtype", "host"}``) and writes as JSON what it ran under.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


DEVICE = torch.device("cuda:0")


def decode(value: Any) -> Any:
    """A fake tensor for a description, which stays on the host if it says so."""
    if isinstance(value, dict):
        dtype = getattr(torch, value["dtype"])
        if "values" in value:
            return torch.tensor(value["values"], dtype=dtype)
        return torch.empty(value["shape"], dtype=dtype, device=DEVICE)
    return [decode(v) for v in value] if isinstance(value, list) else value


def check(op: str, how: str, result: Any, expected: list[dict[str, Any]]) -> None:
    found = [result] if isinstance(result, torch.Tensor) else list(result)
    if len(found) != len(expected):
        raise AssertionError(f"{op} {how}: {len(found)} results, expected {len(expected)}")
    for i, (t, e) in enumerate(zip(found, expected, strict=True)):
        got = (list(t.shape), str(t.dtype)[6:], t.device, t.is_contiguous())
        if got != (e["shape"], e["dtype"], DEVICE, True):
            raise AssertionError(f"{op} {how}, output {i}: {got}, expected {e}")


def stream_getter() -> bool:
    """Whether this torch brings the function that gives the kernels their stream."""
    library = Path(torch.__file__).parent / "lib/libtorch_cuda.so"
    return library.exists() and hasattr(
        ctypes.CDLL(str(library)), "aoti_torch_get_current_cuda_stream"
    )


def main() -> None:
    """Trace all calls; an exception says what went wrong."""
    # An editable installation of the package would answer before the path does.
    sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__module__.startswith("_editable")]
    import physcon_ext
    from physcon_ext.ops.composite import COMPOSITES

    calls = json.load(sys.stdin)
    for call in calls:
        op = call["op"]
        with FakeTensorMode(allow_non_fake_inputs=True):
            arguments = decode(call["arguments"])
            result = getattr(torch.ops.physcon, op).default(*arguments)
            check(op, "registered", result, call["outputs"])
            # A CPU build of torch makes fake CUDA tensors, but no views of them.
            if call["composite"] and torch.version.cuda:
                check(op, "composite", COMPOSITES[op](*arguments), call["outputs"])
        for name in (f"physcon::{op}", f"physcon_cuda::{op}"):
            known = name in torch._C._dispatch_get_all_op_names()
            if known and not torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA"):
                raise AssertionError(f"{name}: nothing is registered for CUDA tensors")
    json.dump(
        {
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda,
            "stream": stream_getter(),
            "module": physcon_ext._C.__file__,
            "kernels": physcon_ext.build_info()["cuda"],
            "architectures": physcon_ext.build_info()["cuda_architectures"],
            "traced": sorted({call["op"] for call in calls}),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
