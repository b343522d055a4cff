# SPDX-License-Identifier: Apache-2.0
"""The commands ``generate``, ``inspect`` and ``plot``: output, exit codes, user errors."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
import torch


h5py = pytest.importorskip("h5py")
pytest.importorskip("typer")

from physcon_ext import cli, data, fv  # noqa: E402
from physcon_ext.cli import _basic  # noqa: E402
from physcon_ext.cli._common import Code  # noqa: E402


Capture = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    return cli.main(list(words))


def generate(path: Path, *words: str) -> int:
    return run("generate", "stefan", "--out", str(path), "--samples", "3", "--cells", "10", *words)


@pytest.fixture
def good(tmp_path: Path, capsys: Capture) -> Path:
    path = tmp_path / "a.h5"
    assert generate(path, "--times", "5") == Code.GOOD
    capsys.readouterr()
    return path


@pytest.mark.parametrize("command", ["generate", "inspect", "plot"])
def test_help_is_complete(command: str, capsys: Capture) -> None:
    assert run(command, "--help") == Code.GOOD
    text = " ".join(capsys.readouterr().out.split())
    assert "--json" in text and "Exit codes: 0 good" in text


def test_generate_does_what_the_options_say(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.h5"
    words = ["--param", "u_star=0.5:0.55", "--param", "k_max=0.5", "--times", "0.01:0.05:4"]
    assert generate(path, *words, "--seed", "8", "--dtype", "float64", "--json") == Code.GOOD
    captured = capsys.readouterr()
    assert captured.err == ""  # no progress off a terminal
    report = json.loads(captured.out)
    assert (report["samples"], report["written"]) == (3, 3)
    assert report["size"] == path.stat().st_size
    with h5py.File(path) as file:
        assert file["/fields/u"].shape == (3, 4, 10) and file["/fields/u"].dtype == "float64"
        assert file["/time/t"][...].tolist() == pytest.approx([0.01, 0.07 / 3, 0.11 / 3, 0.05])
        assert (
            (file["/parameters/u_star"][...] >= 0.5) & (file["/parameters/u_star"][...] <= 0.55)
        ).all()
        assert set(file["/parameters/k_max"][...]) == {0.5}
    again = data.generate(
        "stefan", 3, tmp_path / "b.h5", cells=10, times=torch.linspace(0.01, 0.05, 4).double(),
        params={"u_star": (0.5, 0.55), "k_max": 0.5}, seed=8, dtype="float64",
    )  # fmt: skip
    assert again.size == report["size"]


def test_a_dry_run_tells_the_exact_size_and_writes_nothing(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    assert generate(path, "--dry-run", "--json") == Code.GOOD
    expected = json.loads(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []
    assert generate(path, "--dry-run") == Code.GOOD
    assert f"({expected['size']} bytes) of " in capsys.readouterr().out
    assert generate(path) == Code.GOOD
    assert path.stat().st_size == expected["size"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 10})())
    assert generate(path, "--dry-run") == Code.CHECK_FAILED
    assert "TOO LARGE" in capsys.readouterr().out


def test_choices_about_the_solver_are_used_and_recorded(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.h5"
    words = ["generate", "burgers", "--out", str(path), "--samples", "2", "--cells", "16"]
    words += ["--times", "0:1.5:4", "--route", "fv", "--scheme", "godunov", "--cfl", "0.25"]
    assert run(*words) == Code.GOOD
    capsys.readouterr()
    assert run("inspect", str(path), "--check") == Code.GOOD
    assert "route fv: integrator euler, cfl 0.25, scheme godunov" in capsys.readouterr().out
    with h5py.File(path) as file:
        steps = file["/solver/steps"][...]
        # dt <= 0.25 h / a with h = 1/8 and 1 <= a <= 4.
        assert ((steps >= 16) & (steps <= 64)).all()
    changed = [*words[:-1], "0.5", "--resume"]
    assert run(*changed) == Code.WRONG_DATA
    assert "expected solver" in capsys.readouterr().err


def test_generate_resumes(good: Path, capsys: Capture) -> None:
    assert generate(good, "--times", "5") == Code.WRONG_DATA
    assert "exists already; resume it" in capsys.readouterr().err
    assert generate(good, "--times", "5", "--resume", "--json") == Code.GOOD
    assert json.loads(capsys.readouterr().out)["written"] == 0
    assert generate(good, "--times", "6", "--resume") == Code.WRONG_DATA
    assert "of the unfinished file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "stephan", "--samples", "1"], "did you mean 'stefan'?"),
        (["generate", "stefan", "--samples", "1", "--param", "ustar=1"], "did you mean 'u_star'?"),
        (["generate", "stefan", "--samples", "1", "--param", "u_star=0.5:2"], "in (0, 1), got 2.0"),
        (["generate", "stefan", "--samples", "1", "--param", "u_star"], "--param NAME=LOW:HIGH"),
        (["generate", "stefan", "--samples", "1", "--times", "a"], "--times N or START:END:N"),
        (["generate", "stefan", "--samples", "0"], "expected samples to be >= 1, got 0"),
        (["generate", "stefan", "--samples", "1", "--times", "0:5:3"], "expected times up to"),
        (["generate", "stefan", "--samples", "1", "--cfl", "0.5"], "no cfl with the route exact"),
        (
            ["generate", "stefan", "--samples", "1", "--route", "fv", "--cfl", "1.5"],
            "expected cfl <= 1, the stability limit of shock average with euler, got 1.5",
        ),
        (
            ["generate", "heat", "--samples", "1", "--route", "fv", "--scheme", "weno5"],
            "expected choices among integrator, cfl for the solver of heat, got 'scheme'",
        ),
        (
            ["generate", "burgers", "--samples", "1", "--route", "fv", "--scheme", "wno5"],
            "did you mean 'weno5'?",
        ),
    ],
)
def test_wrong_settings_are_one_line_and_exit_code_2(
    tmp_path: Path, words: list[str], message: str, capsys: Capture
) -> None:
    assert run(*words, "--out", str(tmp_path / "x.h5")) == Code.WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("physcon: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "x.h5").exists()


def test_inspect_shows_and_checks(good: Path, capsys: Capture) -> None:
    assert run("inspect", str(good)) == Code.GOOD
    text = capsys.readouterr().out
    assert "3 of 3 samples" in text and "/fluxes/u/x" in text and "u_star from 0." in text
    assert run("inspect", str(good), "--check") == Code.GOOD
    assert "check passed" in capsys.readouterr().out
    assert run("inspect", str(good), "--check", "--json") == Code.GOOD
    facts = json.loads(capsys.readouterr().out)
    assert facts["check"]["ok"] and facts["check"]["findings"] == []
    with h5py.File(good, "r+") as file:
        file["/fields/u"][1, 2, 3] += 0.1
    assert run("inspect", str(good), "--check") == Code.CHECK_FAILED
    text = capsys.readouterr().out
    assert "FAILED: /fields/u, sample 1: the checksum does not match" in text
    assert "check failed" in text


def test_wrong_files_are_exit_code_4(good: Path, tmp_path: Path, capsys: Capture) -> None:
    cut = tmp_path / "cut.h5"
    cut.write_bytes(good.read_bytes()[:-100])
    for path, message in ((cut, "is truncated"), (tmp_path / "none.h5", "no such file")):
        for command in ("inspect", "plot"):
            assert run(command, str(path)) == Code.WRONG_DATA
            error = capsys.readouterr().err
            assert error.startswith("physcon: ") and error.count("\n") == 1
            assert path.name in error and message in error


def test_plot_draws_field_front_and_total(good: Path, tmp_path: Path, capsys: Capture) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    picture = tmp_path / "p.png"
    assert run("plot", str(good), "--sample", "2", "--out", str(picture), "--json") == Code.GOOD
    assert json.loads(capsys.readouterr().out) == {"picture": str(picture)}
    assert picture.read_bytes().startswith(b"\x89PNG")
    from physcon_ext.plot import sample_figure, space_time

    figure = sample_figure(good, 2)
    history, total = figure.axes[0], figure.axes[1]
    with h5py.File(good) as file:
        drawn = history.collections[0].get_array()
        assert abs(drawn.reshape(5, 10) - file["/fields/u"][2]).max() < 1e-7
        front = file["/shocks/u/position"][2, :, 0]
        assert history.lines[0].get_xdata() == pytest.approx(front)
        target = file["/conserved/u/target"][2]
        assert total.lines[0].get_ydata() == pytest.approx(target)
    assert run("plot", str(good), "--sample", "9") == Code.WRONG_DATA
    assert "expected a sample below 3, got 9" in capsys.readouterr().err
    assert run("plot", str(good), "--field", "v") == Code.WRONG_DATA
    assert "expected a field among u, got 'v'" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"expected values of shape \(2, 3\)"):
        space_time(torch.arange(4), torch.arange(2), torch.zeros(3, 3))


def test_two_dimensional_samples_are_drawn_too(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    path = tmp_path / "w.h5"
    words = ["--samples", "1", "--cells", "6", "--times", "4", "--out", str(path)]
    assert run("generate", "wave", *words) == Code.GOOD
    assert run("plot", str(path)) == Code.GOOD
    assert path.with_suffix(".png").exists()


@pytest.mark.parametrize("command", ["generate", "inspect", "plot"])
def test_without_extras_the_commands_say_what_to_install(command: str, capsys: Capture) -> None:
    assert _basic.run([command, "something", "--samples", "3"]) == Code.EXTRA_MISSING
    assert 'pip install "physcon-ext[cli,data]"' in capsys.readouterr().err


def test_a_failed_solver_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise fv.SolverError("fv.burgers: expected a bounded solution")

    monkeypatch.setattr(data, "generate", fail)
    assert generate(tmp_path / "a.h5") == Code.WRONG_USAGE
    assert "expected a bounded solution" in capsys.readouterr().err


def test_without_h5py_generate_is_exit_code_3(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert generate(tmp_path / "a.h5") == Code.EXTRA_MISSING
    assert 'pip install "physcon-ext[data]"' in capsys.readouterr().err


def command(path: Path, samples: int) -> list[str]:
    words = ["generate", "stefan", "--samples", str(samples), "--cells", "200", "--out", str(path)]
    return [sys.executable, "-m", "physcon_ext.cli", *words]


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until some samples are done."""
    for _ in range(6000):
        assert process.poll() is None, "ended too early"
        if path.exists() and data.describe(path)["complete"] >= 8:
            return
        time.sleep(0.01)


def test_an_interrupt_is_one_line_and_the_file_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    process = subprocess.Popen(command(path, 1000), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for(path, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert b"go on with --resume" in error and b"Traceback" not in error
    report = data.check(path)
    assert report.ok and 0 < report.missing < 1000


def test_a_terminal_shows_a_bar_with_rate_and_size(tmp_path: Path) -> None:
    keeper, terminal = pty.openpty()
    process = subprocess.Popen(
        command(tmp_path / "a.h5", 60), stderr=terminal, stdout=subprocess.PIPE
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(keeper, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    process.communicate()
    assert process.returncode == 0
    assert b"stefan, " in shown and b"MB" in shown and b"/s" in shown and b"/60" in shown
