# SPDX-License-Identifier: Apache-2.0
"""Stored predictions of a published model give the published table, and bad files are named."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from physcon_ext.demo import predictions, run_predictions


# Averages over 20 functions: CE, LL, MSE, CRPS, coverage, Pearson, Spearman, as printed.
PUBLISHED = {
    "model, mixture of draws": ("-1.2949e-02 3.5414 5.3706e-03 1.4497e-02 0.995 0.671 0.672"),
    "HardC": "0 1.9790 5.1657e-03 2.0659e-02 0.525 0.657 0.394",
    "conserved, per draw": "0 3.5625 1.8577e-03 1.0430e-02 0.999 0.355 0.684",
    "conserved once, diagonal": "0 3.5614 1.8229e-03 1.0445e-02 0.997 0.327 0.681",
    "conserved once, diagonal + between draws": (
        "0 3.5579 1.8810e-03 1.0607e-02 0.997 0.339 0.688"
    ),
    "per draw, quadrature noise 8.66e-04": (
        "-3.541e-04 3.5624 1.8932e-03 1.0467e-02 0.998 0.358 0.684"
    ),
    "per draw, total = trapezoid of the truth": (
        "+1.4492e-03 3.5627 1.7444e-03 1.0334e-02 0.999 0.351 0.688"
    ),
}
KEYS = ("log_likelihood", "mse", "crps", "coverage", "pearson", "spearman")
FORMATS = (".4f", ".4e", ".4e", ".3f", ".3f", ".3f")


def shared_file() -> Path:
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("PHYSCON_SHARED") or root.parent / "shared")
    return folder / "data" / "stefan_anp_predictions.npz"


@pytest.fixture(scope="module")
def published() -> predictions.Predictions:
    path = shared_file()
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the repository; PHYSCON_SHARED names its folder")
    return predictions.load(path)


@pytest.fixture(scope="module")
def rows(published: predictions.Predictions) -> dict[str, dict[str, Any]]:
    table, clamped = predictions.score_all(published)
    assert clamped == 0
    return {row["method"]: row for row in table}


@pytest.mark.parametrize("method", list(PUBLISHED))
def test_the_published_table_is_reproduced_to_its_digits(
    rows: dict[str, dict[str, Any]], method: str
) -> None:
    assert list(rows) == list(PUBLISHED)
    error, *scores = PUBLISHED[method].split()
    row = rows[method]
    assert [format(row[k], f) for k, f in zip(KEYS, FORMATS, strict=True)] == scores
    if error == "0":
        assert row["conservation_error_largest"] < 1e-15
    else:
        digits = len(error.split("e")[0].split(".")[1])
        assert float(format(row["conservation_error"], f".{digits}e")) == float(error)


def test_single_precision_gives_the_same_scores_to_four_digits(
    published: predictions.Predictions, rows: dict[str, dict[str, Any]]
) -> None:
    tensors = {
        key: getattr(published, key).float() for key in ("x", "mean", "variance", "truth", "mass")
    }
    single = predictions.Predictions(
        path=published.path, t=published.t, u_star=published.u_star, **tensors
    )
    table, _ = predictions.score_all(single)
    for row in table[:5]:
        for key in ("log_likelihood", "mse", "crps"):
            assert row[key] == pytest.approx(rows[row["method"]][key], rel=2e-4)


def small(**changes: Any) -> dict[str, Any]:
    """A file of 2 functions, 3 draws and 11 points: a line that drops to zero."""
    x = np.linspace(0.0, 1.0, 11)
    truth = np.tile(np.where(x <= 0.5, 1.0 - 0.5 * x, 0.0), (2, 1))
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x": x,
        "t": np.float64(0.1),
        "mean": (truth[:, None] + 0.05 * draw.standard_normal((2, 3, 11))).astype(np.float32),
        "std": np.full((2, 3, 11), 0.05, dtype=np.float32),
        "truth": truth,
        "mass": np.full(2, 0.44),
    }
    arrays.update(changes)
    return {key: value for key, value in arrays.items() if value is not None}


def save(folder: Path, arrays: dict[str, Any], **options: Any) -> Path:
    path = folder / "predictions.npz"
    np.savez(path, **arrays, **options)
    return path


def test_a_file_without_the_optional_keys_is_conserved(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run_predictions(save(tmp_path, small()), tmp_path / "new" / "figures")
    methods = [row["method"] for row in result["rows"]]
    assert methods == [m for m in PUBLISHED if "quadrature noise" not in m]
    assert any("no u_star" in note for note in result["notes"])
    assert result["rows"][2]["conservation_error_largest"] < 1e-15
    for path in result["figures"].values():
        assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert set(result["figures"]) == {"total_mass", "profiles", "front_position"}
    assert result["fronts"]["after"]["truth"] == pytest.approx(0.55)


def test_one_draw_and_one_function_are_enough(tmp_path: Path) -> None:
    arrays = small()
    cut = {"mean": arrays["mean"][:1, :1], "std": arrays["std"][:1, :1]}
    cut |= {"truth": arrays["truth"][:1], "mass": arrays["mass"][:1], "u_star": np.float64(0.75)}
    table, _ = predictions.score_all(predictions.load(save(tmp_path, small(**cut))))
    per_draw, once = table[2], table[3]
    assert per_draw["mse"] == pytest.approx(once["mse"], rel=1e-12)
    assert len(table) == 7


def test_small_variances_are_raised_for_the_scores_and_counted(tmp_path: Path) -> None:
    std = np.full((2, 3, 11), 0.05)
    arrays = small(std=std)
    arrays["std"][0, :, 4] = 1e-6
    arrays["mean"][0, :, 4] = arrays["mean"][0, 0, 4]
    _, clamped = predictions.score_all(predictions.load(save(tmp_path, arrays)))
    assert clamped > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": None}, r"expected the keys x, t, mean.*got no mean"),
        ({"mass": None, "t": None}, r"got no mass and no t"),
        ({"mean": np.zeros((2, 11))}, r"expected mean to have the axes \[function, draw, n\]"),
        ({"std": np.ones((2, 3, 10))}, r"expected std to have shape \(2, 3, 11\) to match mean"),
        ({"truth": np.zeros((3, 11))}, r"expected truth to have shape \(2, 11\)"),
        ({"mass": np.zeros(3)}, r"expected mass to have shape \(2,\)"),
        ({"x": np.linspace(0, 1, 11)[::-1]}, r"expected x to be strictly increasing, got 1.0"),
        ({"std": np.full((2, 3, 11), -0.1)}, r"expected std to be >= 0, got -0.1 at index"),
        ({"mass": np.array([0.4, np.nan])}, r"expected mass to be finite, got nan at index \(1,\)"),
        ({"u_star": np.float64(np.inf)}, r"expected u_star to be finite"),
        ({"u_star": np.zeros(2)}, r"expected u_star to have the axes \[\], got shape \(2,\)"),
        ({"t": np.array("now")}, r"expected t to hold real numbers, got dtype"),
        ({"mean": np.zeros((2, 3, 11), complex)}, r"expected mean to hold real numbers"),
        ({"mean": np.zeros((0, 3, 11)), "std": np.zeros((0, 3, 11)), "truth": np.zeros((0, 11)),
          "mass": np.zeros(0)}, r"at least 1 function, 1 draw and 2 points"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_named_with_its_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save(tmp_path, small(**changes))
    with pytest.raises(ValueError, match=message) as caught:
        predictions.load(path)
    assert str(path) in str(caught.value)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, small(mass=np.array([{}, {}], dtype=object)))
    with pytest.raises(ValueError, match=r"without pickled objects.*allow_pickle"):
        predictions.load(path)


def _text(path: Path) -> None:
    path.write_text("time,value\n")


def _single_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mean.npy", "not an array")


@pytest.mark.parametrize("write", [_text, _single_array, _other_zip])
def test_a_file_of_another_kind_is_named(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "other.npz"
    write(path)
    with pytest.raises(ValueError, match=r"other\.npz: expected"):
        predictions.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz: expected an \.npz file"):
        predictions.load(tmp_path / "nothing.npz")


def test_figures_of_a_seed_have_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = save(tmp_path, small())
    first, second = (run_predictions(path, tmp_path / name, seed=3) for name in "ab")
    for name, figure in first["figures"].items():
        assert Path(figure).read_bytes() == Path(second["figures"][name]).read_bytes()
    assert first["rows"] == second["rows"]
    assert torch.get_num_threads() >= 1
