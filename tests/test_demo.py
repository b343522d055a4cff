# SPDX-License-Identifier: Apache-2.0
"""The demo on a small set-up, the table, the figures, and what happens without the extras."""

import copy
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import physcon_ext as px
from physcon_ext import demo, plot
from physcon_ext.demo import common, experiment
from physcon_ext.demo.black_box import fit_ensemble, predict_cells
from physcon_ext.pde import Diffusion, Stefan


SMALL = experiment.Setup(
    cells=40, layout=(6, 6), members=3, share=0.7, steps=4, ahead=2, samples=200
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("gpytorch")
    pytest.importorskip("matplotlib")
    steps: list[str] = []
    out = tmp_path_factory.mktemp("demo")
    made = experiment.run(out, 0, steps.append, setup=SMALL)
    assert len(steps) == 4
    return made


def test_the_conserved_rows_conserve_to_rounding(result: dict[str, Any]) -> None:
    model, conserved = result["rows"][0::2], result["rows"][1::2]
    assert [row["method"] for row in model] == ["model"] * 3
    for before, after in zip(model, conserved, strict=True):
        assert before["problem"] == after["problem"]
        assert abs(before["conservation_error"]) > 1e-4
        assert abs(after["conservation_error"]) < 1e-14


def test_the_result_survives_json_and_renders(result: dict[str, Any]) -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    again = json.loads(json.dumps(result))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(demo.render_table(again))
    text = console.export_text()
    for word in ("Stefan, u* = 0.6", "conserved", "likeli-", "Porous medium, m = 3", "seed 0"):
        assert word in text
    assert "…" not in text


def test_three_figures_are_written(result: dict[str, Any]) -> None:
    assert set(result["figures"]) == {"total_mass", "profiles", "front_position"}
    for path in result["figures"].values():
        assert Path(path).read_bytes().startswith(b"\x89PNG")
        assert Path(path).stat().st_size > 20_000


def test_the_same_seed_gives_the_same_numbers_and_another_seed_does_not(
    result: dict[str, Any], tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    one = experiment.CASES[2:]
    again = experiment.run(tmp_path, 0, lambda text: None, setup=SMALL, cases=one)
    other = experiment.run(tmp_path, 1, lambda text: None, setup=SMALL, cases=one)
    assert again["rows"] == result["rows"][4:]
    assert again["fronts"]["stefan"] == result["fronts"]["stefan"]
    assert other["rows"] != again["rows"]
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_every_output_time_and_every_sample_conserves() -> None:
    pytest.importorskip("gpytorch")
    outcome = experiment.solve(experiment.CASES[1], SMALL, 0)
    scale = outcome.law.magnitude(outcome.after.mean)
    assert (outcome.law.residual(outcome.after.mean).abs() <= 1e-14 * (1 + scale)).all()
    samples = outcome.after.sample(3, generator=torch.Generator().manual_seed(0))
    assert (outcome.law.residual(samples).abs() < 1e-12).all()
    assert (common.total_deviation(outcome.after, outcome.law) < 1e-7).all()
    assert (common.total_deviation(outcome.before, outcome.law) > 1e-4).all()


def test_observations_cover_every_box_of_the_grid_up_to_the_present() -> None:
    case = experiment.Case(Stefan(u_star=0.6), 0.05)
    setup = experiment.Setup(layout=(4, 5), noise=0.0)
    t, x, u = experiment.observe(case, setup, torch.Generator().manual_seed(0)).unbind(-1)
    boxes = (t / 0.05 * 4).floor() * 5 + (x * 5).floor()
    assert sorted(boxes.tolist()) == [float(k) for k in range(20)]
    assert torch.equal(u, case.problem.values(t, x))


def test_the_black_box_interpolates_a_smooth_field_without_noise() -> None:
    pytest.importorskip("gpytorch")
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(60, 2, generator=generator, dtype=torch.float64)
    values = torch.sin(3 * points[:, 1]) * torch.exp(-points[:, 0])
    processes = fit_ensemble(points, values, members=2, share=0.9, generator=generator)
    edges = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    t = torch.tensor([0.4, 0.6], dtype=torch.float64)
    mean, covariance = predict_cells(processes, edges, t, (1.0, 1.0))
    assert mean.shape == (2, 2, 8)
    assert covariance.shape == (2, 2, 8, 8)
    average = (torch.cos(3 * edges[:-1]) - torch.cos(3 * edges[1:])) / (3 * edges.diff())
    assert (mean - torch.exp(-t)[:, None] * average).abs().max() < 0.02
    assert torch.equal(covariance, covariance.mT)
    assert torch.linalg.eigvalsh(covariance).min() > -1e-8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0, "share": 0.5}, r"expected members to be >= 1, got 0"),
        ({"members": 1, "share": 1.5}, r"expected share to be in \(0, 1\], got 1.5"),
    ],
)
def test_bad_ensembles_are_named(options: dict[str, Any], message: str) -> None:
    points = torch.rand(4, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        fit_ensemble(points, points[:, 0], generator=torch.Generator(), **options)


def test_a_negative_seed_is_named(tmp_path: Path) -> None:
    pytest.importorskip("gpytorch")
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="expected seed to be >= 0, got -1"):
        demo.run_demo(tmp_path, seed=-1)


def test_the_table_marks_better_and_worse_scores(result: dict[str, Any]) -> None:
    pytest.importorskip("rich")
    worse = copy.deepcopy(result)
    model, conserved = worse["rows"][0], worse["rows"][1]
    conserved.update(mse=2 * model["mse"], crps=0.5 * model["crps"])
    table = demo.render_table(worse)
    cells = {str(column.header): list(column.cells)[1] for column in table.columns}
    assert str(cells["MSE"]).startswith("[red]")
    assert str(cells["CRPS"]).startswith("[green]")
    assert str(cells["conser-\nvation\nerror"]).startswith("[green]")


def test_a_field_is_drawn_as_a_line_or_as_cells_on_the_given_axes() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    mean, variance = torch.tensor([0.0, 1.0, 4.0]), torch.tensor([1.0, 4.0, 0.0])
    x = torch.tensor([0.0, 1.0, 3.0])
    assert plot.field(x, mean, variance, width=2.0, ax=ax) is ax
    assert np.array_equal(ax.lines[0].get_ydata(), [0.0, 1.0, 4.0])
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == -3.0
    assert corners[:, 1].max() == 5.0
    edges = torch.tensor([0.0, 1.0, 3.0, 4.0])
    assert plot.field(edges, mean.requires_grad_(), variance, ax=ax) is ax
    assert np.array_equal(ax.patches[0].get_data().edges, [0.0, 1.0, 3.0, 4.0])
    with pytest.raises(ValueError, match=r"expected x to have 3 points or 4 edges, got 2"):
        plot.field(edges[:2], mean, ax=ax)


def test_a_budget_is_drawn_with_its_band() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    t = torch.tensor([0.0, 1.0])
    assert plot.budget(t, t + 1, torch.ones(2), width=1.0, label="total", ax=ax) is ax
    assert np.array_equal(ax.lines[0].get_ydata(), [1.0, 2.0])
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == 3.0


def test_the_area_of_a_front_density_is_the_share_of_samples_with_a_front() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    positions = torch.tensor([0.2, 0.3, 0.35, torch.nan])
    assert plot.front_density(positions, bins=5, limits=(0.0, 0.5), ax=ax) is ax
    values, edges, _ = ax.patches[0].get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx(0.75)
    with pytest.raises(ValueError, match="to hold a finite value, got none"):
        plot.front_density(torch.tensor([torch.nan]), ax=ax)


def test_front_positions_of_a_certain_step_are_exact() -> None:
    x = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    step = px.GaussianField((x < 0.5).double(), torch.zeros(10, dtype=torch.float64))
    found = common.front_positions(step, x, 0.5, 4, torch.Generator().manual_seed(0))
    assert found.tolist() == pytest.approx([0.5] * 4)
    summary = common.front_summary(torch.cat([found, found.new_tensor([torch.nan])]), 0.4)
    assert summary["share_with_front"] == pytest.approx(0.8)
    assert summary["error"] == pytest.approx(0.1)


def test_only_the_smooth_problem_has_no_front(result: dict[str, Any]) -> None:
    assert set(result["fronts"]) == {"porous_medium", "stefan"}
    assert isinstance(experiment.CASES[0].problem, Diffusion)


def _run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )


HIDE = (
    "import sys, importlib.util as u\n"
    "find = u.find_spec\n"
    "u.find_spec = lambda name, package=None: None if name == {name!r} else find(name, package)\n"
    "sys.modules[{name!r}] = None\n"
)


def test_importing_the_demo_imports_no_extra() -> None:
    done = _run_python(
        "import sys, physcon_ext.demo, physcon_ext.plot\n"
        "print([m for m in ('matplotlib', 'gpytorch', 'rich') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("name", "call", "cure"),
    [
        ("gpytorch", "demo.run_demo(Path('unused'))", 'pip install "physcon-ext[gp]"'),
        ("matplotlib", "plot.budget([0], [0])", 'pip install "physcon-ext[plot]"'),
        ("rich", "demo.render_table({})", 'pip install "physcon-ext[cli]"'),
    ],
)
def test_a_missing_extra_is_one_line_with_the_cure(name: str, call: str, cure: str) -> None:
    done = _run_python(
        HIDE.format(name=name)
        + "from pathlib import Path\nfrom physcon_ext import demo, plot\n"
        + f"try:\n    {call}\nexcept ImportError as error:\n    print(error)\n"
    )
    assert done.stdout.strip().endswith(cure), done.stderr
    assert done.stdout.count("\n") == 1
