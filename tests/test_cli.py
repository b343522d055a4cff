# SPDX-License-Identifier: Apache-2.0
"""The command line: help, JSON, exit codes, no traceback for user errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import physcon_ext
from physcon_ext import cli
from physcon_ext.cli import _basic, _doctor
from physcon_ext.cli._common import Code


WITHOUT_EXTRAS = """
import sys
for name in ("typer", "rich", "matplotlib", "gpytorch"):
    sys.modules[name] = None
from physcon_ext.cli import main
sys.exit(main())
"""


def bare(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process where no extra can be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *words], capture_output=True, text=True
    )


@pytest.fixture
def have_typer() -> None:
    pytest.importorskip("typer")


def test_the_installed_command_runs() -> None:
    command = Path(sys.executable).parent / "physcon"
    result = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"physcon {physcon_ext.__version__}\n")


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"], ["demo", "--help"]])
def test_help_lists_the_exit_codes(
    have_typer: None, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == Code.GOOD
    text = " ".join(capsys.readouterr().out.split())
    for part in ("0 good", "1 a check failed", "2 wrong usage", "3 an extra is missing"):
        assert part in text


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["doctor", "--nonsense"], ["demo", "--seed", "-1"]]
)
def test_wrong_usage_is_exit_code_2(
    have_typer: None, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == Code.WRONG_USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_doctor_finds_this_build_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == Code.GOOD
    text = capsys.readouterr().out
    assert physcon_ext.build_info()["isa_active"] in text
    assert "kernels CPU" in text and "condition_diagonal" in text
    assert "check ok" in text and "FAILED" not in text


def test_doctor_json_holds_the_same_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == Code.GOOD
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is True
    assert facts["build"] == physcon_ext.build_info()
    assert facts["operators"]["physcon::condition_diagonal"] == ["CPU", "CUDA"]
    assert {"cli", "plot", "gp", "test", "dev"} <= set(facts["extras"])
    assert facts["extras"]["test"]["pytest"] == pytest.__version__


def test_doctor_names_a_missing_extra_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "matplotlib":
            raise _doctor.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(_doctor.metadata, "version", version)
    facts = _doctor.report()
    assert facts["extras"]["plot"] == {"matplotlib": None}
    assert 'extra plot: matplotlib missing; pip install "physcon-ext[plot]"' in facts["cures"]
    text = _doctor.render(facts)
    assert "matplotlib MISSING" in text and "to do:" in text


def test_doctor_fails_when_a_check_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(field: Any, law: Any) -> Any:
        return field

    monkeypatch.setattr(physcon_ext, "conserve", wrong)
    assert cli.main(["doctor"]) == Code.CHECK_FAILED
    text = capsys.readouterr().out
    assert "check FAILED" in text and "PHYSCON_ISA=portable" in text


def test_without_extras_doctor_and_version_work() -> None:
    version = bare("--version")
    assert (version.returncode, version.stdout) == (0, f"physcon {physcon_ext.__version__}\n")
    doctor = bare("doctor", "--json")
    assert doctor.returncode == 0, doctor.stderr
    assert json.loads(doctor.stdout)["ok"] is True


def test_without_extras_demo_says_what_to_install() -> None:
    result = bare("demo", "--out", "x")
    assert result.returncode == Code.EXTRA_MISSING
    assert 'pip install "physcon-ext[demo]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [["nonsense"], ["doctor", "--nonsense"], []])
def test_without_extras_wrong_usage_is_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _basic.run(words) == Code.WRONG_USAGE
    captured = capsys.readouterr()
    assert "usage: physcon" in captured.out + captured.err


def test_predictions_that_are_no_file_are_wrong_data(
    have_typer: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.npz"
    assert cli.main(["demo", "--predictions", str(missing), "--out", str(tmp_path)]) == 4
    error = capsys.readouterr().err
    assert "missing.npz" in error and "Traceback" not in error


def test_predictions_of_another_layout_are_wrong_data(
    have_typer: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noise.npz"
    path.write_bytes(b"this is not an archive")
    assert cli.main(["demo", "--predictions", str(path), "--out", str(tmp_path)]) == 4
    error = capsys.readouterr().err
    assert error.startswith("physcon: ") and error.count("\n") == 1


def _result(figure: Path) -> dict[str, Any]:
    return {"title": "t", "rows": [], "figures": {"mass": figure}, "score": torch.tensor(0.5)}


def test_demo_passes_its_options_on_and_prints_the_whole_table(
    have_typer: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from physcon_ext import demo

    seen: list[Any] = []

    def run_demo(out: Path, seed: int, progress: Any) -> dict[str, Any]:
        progress("fitting")
        seen.append((out, seed))
        return _result(out / "mass.png")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    from rich.table import Table

    def wide_table(result: dict[str, Any]) -> Table:
        table = Table("method", *(f"column {k}" for k in range(9)))
        table.add_row(result["title"], *(f"{k}.123456789e-01" for k in range(9)))
        return table

    monkeypatch.setattr(demo, "render_table", wide_table)
    assert cli.main(["demo", "--out", str(tmp_path), "--seed", "7"]) == Code.GOOD
    text = capsys.readouterr()
    assert seen == [(tmp_path, 7)]
    assert "8.123456789e-01" in text.out  # wider than the 80 columns of a pipe
    assert text.err == ""  # no progress off a terminal
    assert cli.main(["demo", "--json", "--out", str(tmp_path)]) == Code.GOOD
    assert json.loads(capsys.readouterr().out)["score"] == 0.5


def test_a_missing_extra_of_the_demo_is_exit_code_3(
    have_typer: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from physcon_ext import demo

    def missing(*_: Any) -> dict[str, Any]:
        raise ImportError('gpytorch is missing; pip install "physcon-ext[gp]"')

    monkeypatch.setattr(demo, "run_demo", missing)
    assert cli.main(["demo"]) == Code.EXTRA_MISSING
    assert 'pip install "physcon-ext[gp]"' in capsys.readouterr().err


def test_a_mistake_of_the_program_is_not_hidden(
    have_typer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from physcon_ext import demo

    def broken(*_: Any) -> dict[str, Any]:
        raise KeyError("a bug")

    monkeypatch.setattr(demo, "run_demo", broken)
    with pytest.raises(KeyError):
        cli.main(["demo"])


def test_a_wrong_instruction_set_is_one_sentence() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "physcon_ext.cli", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PHYSCON_ISA": "neon9"},
    )
    assert result.returncode == Code.WRONG_USAGE
    assert "got neon9" in result.stderr and "Traceback" not in result.stderr
