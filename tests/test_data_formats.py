# SPDX-License-Identifier: Apache-2.0
"""Other layouts: PDEBench, The Well, xarray; and the gallery that draws what is in a file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


h5py = pytest.importorskip("h5py")

from physcon_ext import data, pde  # noqa: E402
from physcon_ext.data.layout import SampleWriter  # noqa: E402


ROOT = Path(__file__).resolve().parent.parent


def make(path: Path, name: str, **settings: Any) -> Path:
    data.generate(name, 5, path, **{"cells": 12, "times": 6, "seed": 2, "workers": 1, **settings})
    return path


def test_pdebench_round_trip_keeps_fields_and_names_what_is_lost(tmp_path: Path) -> None:
    first = make(tmp_path / "a.h5", "diffusion")
    lost = data.to_pdebench(first, tmp_path / "pdebench.h5")
    with h5py.File(first) as a, h5py.File(tmp_path / "pdebench.h5") as b:
        assert set(b) == {"tensor", "x-coordinate", "t-coordinate"}
        assert b["tensor"].dtype == np.float32
        assert np.array_equal(a["/fields/u"][...], b["tensor"][...])
        stored = {
            name
            for name in data.describe(first)["datasets"]
            if name not in ("/fields/u", "/grid/x", "/time/t", "/provenance/status")
        }
    assert stored <= set(lost)  # every other dataset is listed
    assert "float64 rounded to float32" in lost
    lacking = data.from_pdebench(tmp_path / "pdebench.h5", tmp_path / "c.h5", periodic=True)
    assert any(text.startswith("fluxes") for text in lacking)
    assert any(text.startswith("kind of the fields") for text in lacking)
    report = data.check(tmp_path / "c.h5")
    assert report.ok, report.findings
    with h5py.File(first) as a, h5py.File(tmp_path / "c.h5") as c:
        assert np.array_equal(a["/fields/u"][...], c["/fields/u"][...])
        np.testing.assert_allclose(c["/grid/x_faces"][...], a["/grid/x_faces"][...], atol=1e-6)
        np.testing.assert_allclose(c["/time/t"][...], a["/time/t"][...], atol=1e-7)
        assert c["/grid/x"].attrs["periodic"] and not c["/fields/u"].attrs["conserved"]
    item = data.PDEDataset(tmp_path / "c.h5")[3]
    assert item["x"].shape == (1, 12) and item["conserved"] == {} and item["bc"] == {}


def test_pdebench_takes_two_dimensions_several_fields_and_vectors(tmp_path: Path) -> None:
    wave = make(tmp_path / "wave.h5", "wave", dtype="float64")
    data.to_pdebench(wave, tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as file:
        assert set(file) == {"u", "v", "x-coordinate", "y-coordinate", "t-coordinate"}
    data.from_pdebench(tmp_path / "w.h5", tmp_path / "back.h5", equation="wave")
    assert data.check(tmp_path / "back.h5").ok
    with h5py.File(wave) as a, h5py.File(tmp_path / "back.h5") as b:
        assert np.array_equal(a["/fields/v"][...].astype(np.float32), b["/fields/v"][...])
    cavity = make(tmp_path / "cavity.h5", "cavity")
    lost = data.to_pdebench(cavity, tmp_path / "cav.h5")
    with h5py.File(cavity) as a, h5py.File(tmp_path / "cav.h5") as b:
        assert np.array_equal(a["/vectors/velocity"][..., 1], b["velocity_y"][...])
    assert "/fields/vorticity" in lost  # it lives on the vertices


def test_the_well_round_trip_keeps_fields_scalars_and_kinds_of_edges(tmp_path: Path) -> None:
    for name in ("diffusion", "stefan", "advection", "wave", "cavity"):
        first = make(tmp_path / f"{name}.h5", name)
        there, back = tmp_path / f"{name}_well.h5", tmp_path / f"{name}_back.h5"
        lost = data.to_well(first, there)
        assert any(path.startswith(("/conserved", "/fluxes")) for path in lost)
        with h5py.File(first) as a, h5py.File(there) as b:
            assert b.attrs["n_trajectories"] == 5 and b.attrs["grid_type"] == "cartesian"
            axes = [axis.decode() if isinstance(axis, bytes) else axis
                    for axis in b["dimensions"].attrs["spatial_dims"]]  # fmt: skip
            assert len(axes) == b.attrs["n_spatial_dims"] == pde.equation(name).spatial_dims
            for order in range(3):
                group = b[f"t{order}_fields"]
                assert len(group.attrs["field_names"]) == len(group)
                for values in group.values():
                    assert values.shape[:2] == (5, 6) and values.attrs["dim_varying"].all()
            kinds = {edge: part.attrs["bc_type"] for edge, part in b["boundary_conditions"].items()}
            expected = {
                "diffusion": {"x_lo": "PERIODIC", "x_hi": "PERIODIC"},
                "stefan": {"x_lo": "WALL", "x_hi": "WALL"},
                "advection": {"x_lo": "WALL", "x_hi": "OPEN"},
            }
            assert kinds == expected.get(
                name, dict.fromkeys(("x_lo", "x_hi", "y_lo", "y_hi"), "WALL")
            )
            assert b["boundary_conditions/x_hi/mask"][...].tolist() == [False] * 11 + [True]
        data.from_well(there, back)
        report = data.check(back)
        assert report.ok, report.findings
        with h5py.File(first) as a, h5py.File(back) as c:
            assert c.attrs["equation"] == name
            path = "/vectors/velocity" if name == "cavity" else "/fields/u"
            assert np.array_equal(a[path][...], c[path][...])
            for key in c["/parameters"]:
                want = a[f"/parameters/{key}"][...].astype(np.float32)
                assert np.array_equal(want, c[f"/parameters/{key}"][...])
            assert c["/grid/x"].attrs["periodic"] == (name == "diffusion")


def test_incomplete_samples_stay_behind(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h5", "advection")
    with SampleWriter(path, []) as writer:
        writer.clear(3)
    for convert in (data.to_pdebench, data.to_well):
        lost = convert(path, tmp_path / f"{convert.__name__}.h5")
        assert "1 incomplete samples" in lost
    with h5py.File(tmp_path / "to_pdebench.h5") as file:
        assert len(file["tensor"]) == 4


@pytest.mark.parametrize(
    ("change", "reader", "message"),
    [
        (lambda f: f.__delitem__("x-coordinate"), data.from_pdebench, "expected fields"),
        (lambda f: f["x-coordinate"].write_direct(np.geomspace(1, 9, 12, dtype="f4")),
         data.from_pdebench, "equally spaced coordinates along x"),
        (lambda f: f.create_dataset("extra", data=np.zeros((4, 6, 12))), data.from_pdebench,
         "expected shape"),
        (lambda f: None, data.from_well, "expected dimensions and t0_fields"),
    ],
)  # fmt: skip
def test_foreign_files_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[Any], None], reader: Callable[..., Any], message: str
) -> None:
    path = make(tmp_path / "a.h5", "advection")
    data.to_pdebench(path, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        change(file)
    with pytest.raises(data.DataError, match=message):
        reader(tmp_path / "b.h5", tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()


def test_existing_and_absent_files_are_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h5", "advection")
    data.to_pdebench(path, tmp_path / "b.h5")
    with pytest.raises(FileExistsError):
        data.to_pdebench(path, tmp_path / "b.h5")
    with pytest.raises(FileExistsError, match="exists already"):
        data.from_pdebench(tmp_path / "b.h5", path)
    with pytest.raises(FileNotFoundError, match="none.h5: no such file"):
        data.from_well(tmp_path / "none.h5", tmp_path / "c.h5")
    with pytest.raises(data.DataError, match="layout of PDEBench or The Well are read by"):
        data.to_well(tmp_path / "b.h5", tmp_path / "c.h5")


@pytest.mark.parametrize("name", ["stefan", "wave", "cavity", "periodic_burgers"])
def test_xarray_sees_the_numbers_with_their_names(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / "a.h5", name)
    labelled = data.as_xarray(path)
    flat = pde.equation(name).spatial_dims == 2
    with h5py.File(path) as file:
        for key in ("u", "velocity", "fluxes/u/x", "conserved/u/total", "parameters/cosine"):
            stored = next(
                (p for p in (f"/fields/{key}", f"/vectors/{key}", f"/{key}") if p in file), None
            )
            if stored is not None:
                assert np.array_equal(labelled[key].values, file[stored][...])
        assert labelled["volume"].dims == (("x", "y") if flat else ("x",))
        assert np.array_equal(labelled["t"].values, file["/time/t"][...])
    if name == "stefan":
        assert labelled["u"].dims == ("sample", "t", "x")
        assert labelled["fluxes/u/x"].dims == ("sample", "interval", "x_faces")
        assert labelled["shocks/u/position"].dims == ("sample", "t", "front")
        total = (labelled["u"] * labelled["volume"]).sum("x")
        np.testing.assert_allclose(total, labelled["conserved/u/total"], rtol=1e-6)
        assert isinstance(labelled["u"].values.base, np.memmap)  # not read before it is used
        near = labelled["u"].sel(t=0.05, method="nearest")
        assert near.shape == (5, 12)
    if name == "wave":
        assert labelled["boundary/u/y_lo/trace"].dims == ("sample", "t", "x")
        assert labelled["fluxes/v/y"].dims == ("sample", "interval", "x", "y_faces")
    if name == "cavity":
        assert labelled["velocity"].dims == ("sample", "t", "x", "y", "component")
        assert labelled["vorticity"].dims == ("sample", "t", "x_faces", "y_faces")
    with SampleWriter(path, []) as writer:
        writer.clear(0)
    assert data.as_xarray(path).sizes["sample"] == 4


def test_a_compressed_copy_is_read_like_the_original(tmp_path: Path) -> None:
    original, copy = tmp_path / "a.h5", tmp_path / "b.h5"
    data.generate("advection", 3, original, cells=16, times=5)
    with h5py.File(original) as source, h5py.File(copy, "w") as target:
        target.attrs.update(source.attrs)

        def put(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                packed = {"compression": "gzip", "chunks": True} if item.size else {}
                target.create_dataset(name, data=item[...], **packed)
            else:
                target.create_group(name)
            target[name].attrs.update(item.attrs)

        source.visititems(put)
        assert target["/fields/u"].chunks is not None
    report = data.check(copy)
    assert report.ok, report.findings
    for a, b in zip(data.PDEDataset(original), data.PDEDataset(copy), strict=True):
        assert torch.equal(a["x"], b["x"]) and torch.equal(a["flux"]["x"], b["flux"]["x"])
    with pytest.raises(data.DataError, match="to be contiguous, got chunks"):
        data.generate("advection", 3, copy, cells=16, times=5, resume=True)


def test_without_xarray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.h5", "advection")
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r'pip install "physcon-ext\[xarray\]"'):
        data.as_xarray(path)


def test_the_gallery_draws_every_equation(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "examples/python/gallery.py")
    assert spec is not None and spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    pictures = gallery.draw(tmp_path, cells=16, times=5)
    assert [p.stem for p in pictures] == list(pde.EQUATIONS)
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert (ROOT / "docs/figures" / picture.name).exists()
        assert f"](figures/{picture.name})" in (ROOT / "docs/gallery.md").read_text()
