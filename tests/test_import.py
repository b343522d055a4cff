# SPDX-License-Identifier: Apache-2.0
"""What importing the package does, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import physcon_ext
from physcon_ext import _load


ROOT = Path(__file__).resolve().parent.parent


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter that sees no GPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
    )


def test_the_version_has_one_source() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.*?)"', text, re.MULTILINE)
    assert physcon_ext.__version__ == version
    assert metadata.version("physcon-ext") == version
    assert physcon_ext.build_info()["version"] == version


def test_import_is_quiet_and_registers_the_operators() -> None:
    result = run(
        "import torch, physcon_ext; torch.ops.physcon.condition_diagonal.default; "
        "assert not torch.cuda.is_initialized()"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_import_takes_less_than_a_tenth_of_a_second_beyond_torch(tmp_path: Path) -> None:
    code = (
        "import time, torch, numpy; start = time.process_time(); import physcon_ext; "
        "print(time.process_time() - start)"
    )
    # With byte code, as installed packages have it: the first run writes it.
    cache = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    seconds = [float(run(code, **cache).stdout) for _ in range(4)]
    assert min(seconds) < 0.1, seconds


def test_import_needs_no_optional_package() -> None:
    code = """
import sys
for name in ("typer", "rich", "matplotlib", "gpytorch", "scipy", "h5py", "xarray"):
    sys.modules[name] = None
import physcon_ext, physcon_ext.core, physcon_ext.cli, physcon_ext.data, physcon_ext.plot
"""
    result = run(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_second_copy_is_refused() -> None:
    result = run(
        "import torch; library = torch.library.Library('physcon', 'DEF'); "
        "library.define('other(Tensor x) -> Tensor'); import physcon_ext"
    )
    assert result.returncode == 1
    assert "another copy of physcon_ext is loaded in this process" in result.stderr


def test_a_module_that_cannot_be_loaded_says_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    def refuse(name: str) -> object:
        if name == "physcon_ext._C":
            raise OSError("undefined symbol: x")
        raise ModuleNotFoundError(name)

    monkeypatch.delitem(sys.modules, "physcon_ext._C")
    monkeypatch.setattr(_load.importlib, "import_module", refuse)
    monkeypatch.setattr(torch._C, "_dispatch_get_all_op_names", lambda: ["aten::add"])
    with pytest.raises(ImportError, match=r"could not be loaded with torch .*undefined symbol: x"):
        _load.load()
    with pytest.raises(ImportError, match="pip install --no-build-isolation"):
        _load.load()


def test_a_module_older_than_the_sources_is_refused_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _load._SOURCE == ROOT / "csrc/torch/library.cpp"
    newer = tmp_path / "library.cpp"
    newer.write_bytes(_load._SOURCE.read_bytes() + b"// one more op\n")
    monkeypatch.delitem(sys.modules, "physcon_ext._C")
    monkeypatch.setattr("torch._C._dispatch_get_all_op_names", lambda: ["aten::add"])
    monkeypatch.setattr(_load, "_SOURCE", newer)
    with pytest.raises(ImportError, match="rebuild: make setup"):
        _load.load()
    # An installed wheel has no sources beside it, and its parts come from one build.
    monkeypatch.setattr(_load, "_SOURCE", tmp_path / "absent")
    reached = object()
    monkeypatch.setattr(_load.importlib, "import_module", lambda name: reached)
    assert _load.load() is reached


def test_build_info_is_complete_and_plain() -> None:
    info = physcon_ext.build_info()
    assert set(info) == {
        "version", "git_revision", "compiler", "build_type", "flags", "processor", "cuda",
        "cuda_architectures", "cuda_kernels", "torch_built", "torch_built_cuda", "torch_target",
        "torch", "torch_cuda", "isa_available", "isa_active", "python",
    }  # fmt: skip
    assert json.loads(json.dumps(info)) == info
    assert info["isa_available"][0] == "portable"
    assert info["cuda"] is physcon_ext.has_cuda() is False
    assert "fast-math" not in info["flags"] and "march=native" not in info["flags"]


@pytest.mark.parametrize("isa", physcon_ext.build_info()["isa_available"])
def test_the_environment_chooses_the_instruction_set(isa: str) -> None:
    code = """
import torch, physcon_ext
post = physcon_ext.ops.condition_diagonal(
    torch.zeros(1, 37), torch.ones(1, 37), torch.ones(1, 37), torch.ones(1, 1), 0.0
)
print(physcon_ext.build_info()["isa_active"], float(post.mean.sum()))
"""
    name, total = run(code, PHYSCON_ISA=isa).stdout.split()
    assert name == isa
    assert abs(float(total) - 1) < 1e-6


def test_an_instruction_set_that_cannot_run_is_refused_by_name() -> None:
    result = run("import physcon_ext; physcon_ext.build_info()", PHYSCON_ISA="neon9")
    assert result.returncode == 1
    assert "PHYSCON_ISA to be one of portable" in result.stderr
    assert "got neon9" in result.stderr


def test_public_names_exist_and_are_documented() -> None:
    for name in physcon_ext.__all__:
        value = getattr(physcon_ext, name)
        assert name == "__version__" or value.__doc__, name


def test_the_binary_holds_no_path_of_the_build_machine() -> None:
    binary = Path(physcon_ext._load.compiled.__file__).read_bytes()
    assert str(ROOT).encode() not in binary
    assert b"site-packages" not in binary
