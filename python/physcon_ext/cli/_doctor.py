# SPDX-License-Identifier: Apache-2.0
"""``physcon doctor``: what is present, what is missing, and how to get it. No optional import."""

from __future__ import annotations

import json
import re
from importlib import metadata
from typing import Any

import numpy
import torch

import physcon_ext
from physcon_ext.cli._common import Code, complain


def _operators() -> dict[str, list[str]]:
    """Map each registered operator to the devices it has a kernel for."""
    names = sorted(
        name
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("physcon::") and not name.endswith("_backward")
    )
    return {
        name: [
            key
            for key in ("CPU", "CUDA")
            if torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
        ]
        for name in names
    }


def _extras() -> dict[str, dict[str, str | None]]:
    """Map each extra to its distributions and their installed versions (None: missing)."""
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in metadata.requires("physcon-ext") or []:
        text, _, marker = requirement.partition(";")
        match = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        name = re.match(r"[\w.-]+", text.strip())
        if match is None or name is None or name[0] == "physcon-ext":
            continue
        try:
            version: str | None = metadata.version(name[0])
        except metadata.PackageNotFoundError:
            version = None
        extras.setdefault(match[1], {})[name[0]] = version
    return extras


def _check(dtype: torch.dtype) -> dict[str, Any]:
    """Conserve a small field and compare the residual with the bound of the operator."""
    x = torch.linspace(0, 1, 200, dtype=dtype)
    field = physcon_ext.GaussianField(torch.exp(-x), 0.01 + x * x)
    law = physcon_ext.constraints.total(x, torch.tensor(0.5, dtype=dtype))
    mean = physcon_ext.conserve(field, law).mean
    residual = float(law.residual(mean).abs().max())
    bound = 8 * torch.finfo(dtype).eps * (float(x.diff().sum() * mean.abs().max()) + 0.5)
    name = f"conserve a total, {str(dtype).removeprefix('torch.')}"
    return {"name": name, "residual": residual, "bound": bound, "ok": residual <= bound}


def _check_boundary(dtype: torch.dtype) -> dict[str, Any]:
    """Hold a value and a slope in a corrected convolution and compare with the stated bound."""
    boundary = physcon_ext.boundary
    bc = boundary.BoundaryConditions(left=boundary.Dirichlet(1.0), right=boundary.Neumann(2.0))
    x = torch.linspace(0, 1, 64, dtype=dtype).expand(1, 2, -1)
    weight = torch.linspace(-1, 1, 64, dtype=dtype).reshape(8, 2, 2, 2)
    y = physcon_ext.functional.boundary_spectral_conv(x, weight, bc)
    row = boundary.boundary_rules(bc, [64])["right"].row
    slope = y.double().flip(-1)[..., : len(row)] @ row
    residual = float(torch.maximum((slope - 2.0).abs(), (y[..., 0] - 1.0).abs()).max())
    bound = torch.finfo(dtype).eps * (8 * float(y.abs().max()) * float(row[0]) + 2.0)
    name = f"hold a boundary, {str(dtype).removeprefix('torch.')}"
    return {"name": name, "residual": residual, "bound": bound, "ok": residual <= bound}


def _devices() -> list[str]:
    """Name the processor's threads and every CUDA device that torch sees."""
    found = [f"CPU, {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        found.append(f"cuda:{index}, {torch.cuda.get_device_name(index)}")
    return found


def report() -> dict[str, Any]:
    """Collect everything that ``physcon doctor`` shows.

    Returns:
        Plain values, ready for JSON: ``build``, ``numpy``, ``devices``, ``operators``,
        ``checks``, ``extras``, ``cures`` (a sentence for each thing missing) and ``ok``.
    """
    build = physcon_ext.build_info()
    extras = _extras()
    dtypes = (torch.float32, torch.float64)
    checks = [check(dtype) for check in (_check, _check_boundary) for dtype in dtypes]
    cures = [
        f'extra {extra}: {", ".join(missing)} missing; pip install "physcon-ext[{extra}]"'
        for extra, found in extras.items()
        if (missing := [name for name, version in found.items() if version is None])
    ]
    if torch.cuda.device_count() and not build["cuda"]:
        cures.append(
            "CUDA: torch sees a device, this build has no CUDA kernels: operators run as torch "
            "operations there; build with PHYSCON_CUDA=ON for kernels"
        )
    cures += [
        f"check failed: {check['name']}, residual {check['residual']:.2e} above "
        f"{check['bound']:.2e}; run with PHYSCON_ISA=portable and report the difference"
        for check in checks
        if not check["ok"]
    ]
    return {
        "build": build,
        "numpy": str(numpy.__version__),
        "devices": _devices(),
        "operators": _operators(),
        "checks": checks,
        "extras": extras,
        "cures": cures,
        "ok": all(check["ok"] for check in checks),
    }


def render(facts: dict[str, Any]) -> str:
    """Lay out the facts of :func:`report` as text."""
    build = facts["build"]
    cuda = f"kernels for {build['cuda_architectures']}" if build["cuda"] else "no kernels built"
    rows = [
        ("physcon_ext", f"{build['version']} {build['git_revision']}".strip()),
        ("Python", build["python"]),
        ("numpy", facts["numpy"]),
        (
            "torch",
            f"{build['torch']} (built against {build['torch_built']}, runs from "
            f"{build['torch_target']} on)",
        ),
        ("compiler", f"{build['compiler']}, {build['build_type']}, {build['flags']}"),
        (
            "instruction set",
            f"{build['isa_active']} (available: "
            f"{', '.join(build['isa_available'])}; PHYSCON_ISA overrides)",
        ),
        ("CUDA", cuda),
        ("devices", "; ".join(facts["devices"])),
    ]
    by_state: dict[str, list[str]] = {}
    for kernel in build["cuda_kernels"]:
        verified = kernel["verified"] or "unverified"
        state = f"{kernel['architecture']} {verified}, runs the {kernel['runs']}"
        by_state.setdefault(state, []).append(kernel["op"])
    rows += [("CUDA kernels", f"{state}: {', '.join(ops)}") for state, ops in by_state.items()]
    by_device: dict[str, list[str]] = {}
    for name, devices in facts["operators"].items():
        by_device.setdefault("+".join(devices) or "none", []).append(name.split("::")[1])
    rows += [(f"kernels {devices}", ", ".join(names)) for devices, names in by_device.items()]
    for check in facts["checks"]:
        verdict = "ok" if check["ok"] else "FAILED"
        bound = f"residual {check['residual']:.1e}, bound {check['bound']:.1e}"
        rows.append((f"check {verdict}", f"{check['name']}: {bound}"))
    for extra, found in facts["extras"].items():
        listing = ", ".join(f"{name} {version or 'MISSING'}" for name, version in found.items())
        rows.append((f"extra {extra}", listing))
    lines = [f"{label:<16} {text}" for label, text in rows]
    if facts["cures"]:
        lines += ["", "to do:"] + [f"  {cure}" for cure in facts["cures"]]
    return "\n".join(lines)


def run(*, as_json: bool) -> int:
    """Print the report; the exit code is 1 when one of the checks failed."""
    try:
        physcon_ext.build_info()
    except RuntimeError as error:  # PHYSCON_ISA asks for what cannot run here
        complain(str(error))
        return Code.WRONG_USAGE
    facts = report()
    print(json.dumps(facts, indent=2) if as_json else render(facts))
    return Code.GOOD if facts["ok"] else Code.CHECK_FAILED
