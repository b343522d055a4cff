# SPDX-License-Identifier: Apache-2.0
"""Data sets: contents, determinism, interruption, checks, loading."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


h5py = pytest.importorskip("h5py")

from physcon_ext import data, pde  # noqa: E402
from physcon_ext.data import generator, layout, streams  # noqa: E402
from physcon_ext.data.schema import open_file  # noqa: E402


SMALL: dict[str, Any] = {"cells": 12, "times": 7, "seed": 3, "workers": 1}
EXACT = [name for name in pde.EQUATIONS if name != "cavity"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make(path: Path, name: str = "stefan", samples: int = 6, **changed: Any) -> data.Report:
    return data.generate(name, samples, path, **{**SMALL, **changed})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXACT)
def test_every_equation_makes_a_file_that_passes_the_check(
    tmp_path: Path, name: str, dtype: str
) -> None:
    path = tmp_path / "a.h5"
    one_dimensional = pde.equation(name).spatial_dims == 1
    report = make(path, name, 3, dtype=dtype, points=one_dimensional)
    assert (report.samples, report.written, report.size) == (3, 3, path.stat().st_size)
    found = data.check(path)
    assert found.ok, [str(f) for f in found.findings]
    assert (found.samples, found.missing) == (3, 0)
    assert any("total differs" in law for law in found.worst)
    facts = data.describe(path)
    assert facts["equation"] == name and facts["complete"] == 3
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize("name", pde.EQUATIONS)
def test_the_solvers_make_files_that_pass_the_check_and_come_near_the_exact_ones(
    tmp_path: Path, name: str
) -> None:
    solved, exact = tmp_path / "solved.h5", tmp_path / "exact.h5"
    size = {"cells": 24, "times": 5, "dtype": "float64"}
    make(solved, name, 2, route="fv", **size)
    found = data.check(solved)
    assert found.ok, [str(f) for f in found.findings]
    config = data.describe(solved)["config"]
    assert config["route"] == "fv" and 0 < config["solver"]["cfl"] <= 1
    if name == "cavity":
        with h5py.File(solved) as file:
            lid = file["/parameters/lid"][...]
            np.testing.assert_allclose(file["/conserved/vorticity/total"][:, -1], -lid, rtol=1e-13)
            assert file["/vectors/velocity"].shape == (2, 5, 24, 24, 2)
            inside = np.diff(file["/fields/u"][...], axis=2) + np.diff(
                file["/fields/v"][...], axis=3
            )
            assert np.abs(inside).max() < 1e-13  # no volume is lost
            # Momentum between two faces changes by the fluxes around it.
            u, dt = file["/fields/u"][...], np.diff(file["/time/t"][...])[:, None, None]
            along, across = file["/fluxes/u/x"][...], file["/fluxes/u/y"][...]
            gained = np.diff(u, axis=1)[:, :, 1:-1]
            passed = np.diff(along, axis=2) + np.diff(across, axis=3)[:, :, 1:-1]
            assert np.abs(gained + dt * 24 * passed).max() < 1e-12
            # Pressure is highest where the lid pushes the fluid into the corner.
            pressure = file["/solver/pressure"][...]
            assert pressure.shape == (2, 4, 24, 24)
            assert np.abs(pressure.mean((2, 3))).max() < 1e-12
            assert (pressure[:, -1, -1, -1] == pressure[:, -1].max((1, 2))).all()
        return
    make(exact, name, 2, **size)
    with h5py.File(solved) as a, h5py.File(exact) as b:
        u, v = a["/fields/u"][...], b["/fields/u"][...]
        near = 0.03 if name == "advection_2d" else 0.02  # all rim: a block of seven cells
        assert np.abs(u - v).mean() <= near * np.abs(v).max()
        assert (a["/solver/steps"][...] >= 1).all()
        if "exact" in a.get("/shocks/u", {}):  # followed by the scheme
            true = b["/shocks/u/position"][...]
            assert np.array_equal(a["/shocks/u/exact"][...], true)
            assert 0 < np.abs(a["/shocks/u/position"][...] - true).max() < 1 / 24
        for path in ("/parameters", "/grid", "/time"):
            for key in a[path]:
                assert np.array_equal(a[f"{path}/{key}"][...], b[f"{path}/{key}"][...])


def test_solved_files_have_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    for name in ("cavity", "burgers"):
        one, two = tmp_path / f"{name}1.h5", tmp_path / f"{name}2.h5"
        make(one, name, 9, route="fv", workers=1)
        make(two, name, 9, route="fv", workers=2)
        assert digest(one) == digest(two)


def test_a_file_holds_what_the_exact_solution_says(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    make(path, "stefan", 4, dtype="float64", points=True)
    edges = pde.Stefan().edges(12)
    times = torch.linspace(0.0, 0.1, 7, dtype=torch.float64)
    with h5py.File(path) as file:
        assert np.array_equal(file["/grid/x_faces"][...], edges.numpy())
        assert np.array_equal(file["/time/t"][...], times.numpy())
        for k in range(4):
            problem = pde.Stefan(
                u_star=file["/parameters/u_star"][k], k_max=file["/parameters/k_max"][k]
            )
            assert 0.55 <= problem.u_star <= 0.7
            u = problem.cell_averages(times, edges).numpy()
            np.testing.assert_allclose(file["/fields/u"][k], u, rtol=0, atol=1e-14)
            values = problem.values(times.unsqueeze(-1), edges).numpy()
            np.testing.assert_allclose(file["/fields/u_points"][k], values, rtol=0, atol=1e-14)
            mass = problem.mass(times).numpy()
            for key in ("total", "target", "inflow"):
                np.testing.assert_allclose(file[f"/conserved/u/{key}"][k], mass, rtol=1e-13, atol=0)
            front = file["/shocks/u/position"][k, :, 0]
            np.testing.assert_allclose(front, problem.front(times).numpy(), rtol=1e-15)
            assert np.isinf(file["/boundary/u/x_lo/flux"][k, 0])
            np.testing.assert_array_equal(file["/boundary/u/x_lo/value"][k], np.ones(7))
            stream = streams.SampleStream(int(file["/provenance/seed"][k]))
            assert pde.Stefan.draw(stream) == problem
        assert file["/boundary/u/x_lo/value"].attrs["kind"] == "dirichlet"
        assert file["/fields/u"].attrs["units"] == "1"
        assert json.loads(file.attrs["created_with"])["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["stefan", "heat", "periodic_burgers"])
def test_bytes_do_not_depend_on_the_number_of_workers_or_the_moment(
    tmp_path: Path, name: str
) -> None:
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    make(first, name, 20 if name != "periodic_burgers" else 3, workers=1)
    time.sleep(1.1)  # a time stamp would differ
    make(second, name, 20 if name != "periodic_burgers" else 3, workers=3)
    assert digest(first) == digest(second)


def test_a_sample_does_not_depend_on_the_others(tmp_path: Path) -> None:
    few, many = tmp_path / "few.h5", tmp_path / "many.h5"
    make(few, samples=5)
    make(many, samples=17)
    with h5py.File(few) as a, h5py.File(many) as b:
        for path in ("/fields/u", "/fluxes/u/x", "/parameters/u_star", "/provenance/seed"):
            assert np.array_equal(a[path][...], b[path][:5])


@pytest.mark.parametrize("missing", [[0, 3, 4], [5], [0, 1, 2, 3, 4, 5]])
def test_missing_samples_are_filled_in_any_order(tmp_path: Path, missing: list[int]) -> None:
    path = tmp_path / "a.h5"
    make(path)
    whole = digest(path)
    with layout.SampleWriter(path, []) as writer:
        for index in missing:
            writer.clear(index)
    assert data.check(path).missing == len(missing)
    with pytest.raises(FileExistsError, match="exists already; resume it"):
        make(path)
    report = make(path, resume=True, workers=2)
    assert report.written == len(missing)
    assert digest(path) == whole
    assert make(path, resume=True).written == 0


def test_a_damaged_sample_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    make(path)
    whole = digest(path)
    flip(path, "/fields/u", 2)
    assert make(path, resume=True).written == 1
    assert digest(path) == whole


def flip(path: Path, dataset: str, index: int) -> None:
    """Change one byte in the middle of a sample."""
    with h5py.File(path) as file:
        (slot,) = layout.slots(file, [dataset])
    with path.open("rb+") as raw:
        raw.seek(slot.offset + index * slot.size + slot.size // 2)
        byte = raw.read(1)
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes([byte[0] ^ 1]))


KILLER = """
import os, random, signal, sys, time
import torch
from physcon_ext import data
file, kills = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
def run(name):
    data.generate("stefan", 20, name, cells=100, times=101, seed=5, workers=2, resume=True)
run(file + ".whole")  # warms up
os.unlink(file + ".whole")
start = time.perf_counter()
run(file + ".whole")
took = time.perf_counter() - start
random.seed(1)
killed, counts = 0, []
while killed < kills:
    child = os.fork()
    if child == 0:
        run(file)
        os._exit(0)
    time.sleep(random.uniform(0.0, took))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killed += 1
        if os.path.exists(file):
            report = data.check(file)
            assert report.ok, [str(f) for f in report.findings]
            counts.append(report.samples - report.missing)
            assert len(data.PDEDataset(file)) == counts[-1] * 100
    # Whatever the load of the machine, aim at kills in the midst of the work.
    finished = not os.WIFSIGNALED(status) or os.path.exists(file) and counts[-1] == 20
    took *= 0.8 if finished else 1.0 if len(counts) < 2 or counts[-1] > counts[-2] else 1.25
    if finished:
        os.unlink(file)
run(file)
whole, resumed = (open(name, "rb").read() for name in (file + ".whole", file))
assert whole == resumed
print(killed, *sorted(set(counts)))
"""


def test_a_file_survives_fifty_kills_at_random_moments(tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLER, str(tmp_path / "a.h5"), "50"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    killed, *counts = map(int, result.stdout.split())
    assert killed == 50
    assert len(counts) >= 3, counts  # the kills met the file in several states


def test_an_interrupt_leaves_a_file_that_can_be_resumed(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "a.h5"
    make(whole)

    def interrupt(state: data.Progress) -> None:
        assert state.size == whole.stat().st_size  # known from the start
        if state.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(path, progress=interrupt)
    assert data.check(path).ok and data.check(path).missing == 2
    last = json.loads((tmp_path / "a.h5.log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["done"]) == ("stopped", 4)
    assert make(path, resume=True).written == 2
    assert digest(path) == digest(whole)


def test_a_full_disk_leaves_a_file_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "a.h5"
    make(whole)
    calls, real = [0], os.pwrite

    def full(descriptor: int, part: bytes, offset: int) -> int:
        calls[0] += 1
        if calls[0] == 47:
            return real(descriptor, bytes(part)[: len(part) // 2], offset)  # a short write
        if calls[0] > 80:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, part, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        make(path)
    monkeypatch.undo()
    report = data.check(path)
    assert report.ok and 0 < report.missing < 6
    make(path, resume=True)
    assert digest(path) == digest(whole)


def test_a_disk_that_is_too_small_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", small)
    with pytest.raises(OSError, match=r"expected room for \d+ bytes; free some"):
        make(tmp_path / "a.h5")
    assert list(tmp_path.glob("*.h5*")) == []


def test_a_file_beyond_the_limit_of_the_system_is_refused_and_can_be_made_later(
    tmp_path: Path,
) -> None:
    code = f"""
import resource, signal
from physcon_ext import data
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    data.generate("stefan", 50, {str(tmp_path / "a.h5")!r}, cells=20, times=9)
except OSError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "expected room for" in found.stdout
    assert list(tmp_path.glob("*.h5*")) == []
    assert data.generate("stefan", 50, tmp_path / "a.h5", cells=20, times=9).written == 50


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for run in (data.generate, data.estimate):
        with pytest.raises(FileNotFoundError, match="expected the folder .*nowhere of a.h5 to"):
            run("stefan", 1, tmp_path / "nowhere" / "a.h5")


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    make(path)
    code = f"""
from physcon_ext.data.layout import SampleWriter
with SampleWriter(__import__("pathlib").Path({str(path)!r}), []):
    print("locked", flush=True)
    input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
    with pytest.raises(BlockingIOError, match="another process writes this file"):
        make(path, resume=True)
    assert data.check(path).ok  # reading is not hindered
    holder.communicate("\n")
    assert make(path, resume=True).written == 0


def test_the_log_tells_the_run(tmp_path: Path) -> None:
    make(tmp_path / "a.h5")
    lines = [json.loads(text) for text in (tmp_path / "a.h5.log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "end"]
    assert lines[0]["equation"] == "stefan"
    assert lines[0]["size"] == (tmp_path / "a.h5").stat().st_size
    assert lines[1]["written"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "stephan"}, "did you mean 'stefan'"),
        ({"params": {"ustar": 0.6}}, "did you mean 'u_star'"),
        ({"params": {"u_star": (0.5, 1.2)}}, r"expected u_star to be in \(0, 1\), got 1.2"),
        ({"samples": 0}, "expected samples to be >= 1, got 0"),
        ({"cells": 0}, "expected cells to be >= 1, got 0"),
        ({"seed": -1}, "expected seed to be >= 0, got -1"),
        ({"workers": 0}, "expected workers to be >= 1, got 0"),
        ({"times": 1}, "expected at least 2 times, got 1"),
        ({"times": [0.0, 0.02, 0.01]}, "increasing numbers from 0 on"),
        ({"dtype": "int8"}, "expected dtype to be float32 or float64, got 'int8'"),
        ({"split": {"train": -1.0}}, "expected split to hold shares >= 0"),
        ({"times": [0.0, 2.0]}, r"expected times up to .* sample 0 \(Stefan, u\* = .*\), got 2"),
        ({"name": "wave", "points": True}, "expected point values of wave by the route exact"),
        ({"route": "fv", "points": True}, "point values of stefan by the route fv, which has none"),
        ({"route": "exakt"}, "expected route to be exact or fv for stefan, got 'exakt'"),
        ({"name": "cavity", "route": "exact"}, "expected route to be fv for cavity, got 'exact'"),
    ],
)
def test_bad_settings_are_named_before_a_file_is_made(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "a.h5", **arguments)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 4}, "expected seed 3 of the unfinished file, got 4"),
        ({"samples": 7}, "expected samples 6 of the unfinished file, got 7"),
        ({"name": "advection", "times": [0.0, 0.1]}, "expected equation stefan of the unfinished"),
        ({"params": {"u_star": 0.6}}, "expected ranges"),
        (
            {"times": [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1]},
            "expected the times of the unfinished file, got others",
        ),
    ],
)
def test_resuming_with_other_settings_is_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.h5"
    make(path)
    before = digest(path)
    with pytest.raises(ValueError, match=message):
        make(path, resume=True, **arguments)
    assert digest(path) == before


def test_split_covers_all_samples_once() -> None:
    for samples in (1, 7, 10, 1000):
        parts = generator._parts(samples, generator.SPLIT)
        assert np.concatenate(list(parts.values())).tolist() == list(range(samples))
    assert {k: len(v) for k, v in generator._parts(1000, generator.SPLIT).items()} == {
        "train": 800,
        "valid": 100,
        "test": 100,
    }


def test_streams_are_fixed_for_good() -> None:
    assert streams.sample_seed(0, 0) != streams.sample_seed(0, 1) != streams.sample_seed(1, 0)
    stream = streams.SampleStream(streams.sample_seed(1, 2))
    again = streams.SampleStream(streams.sample_seed(1, 2))
    numbers = [stream.uniform() for _ in range(4000)] + [stream.normal() for _ in range(4000)]
    assert numbers == [again.uniform() for _ in range(4000)] + [again.normal() for _ in range(4000)]
    assert abs(np.mean(numbers[:4000]) - 0.5) < 0.02 and 0 <= min(numbers[:4000])
    assert abs(np.mean(numbers[4000:])) < 0.07 and abs(np.std(numbers[4000:]) - 1) < 0.05


# The check.


def rewritten(path: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a file with a change that HDF5 tools could have made."""
    copy = path.with_name("changed.h5")
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        change(file)
    return copy


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.h5"
    make(path, "viscous_burgers", dtype="float64")
    return path


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("circle") / "circle.h5"
    make(path, "diffusion", dtype="float64")
    return path


def put(file: Any, path: str, index: Any, value: Any) -> None:
    """Change numbers and their checksums, as a faulty generator would have written them."""
    dataset = file[path]
    dataset[index] = value
    if layout.checksum_path(path) in file:
        sums = [layout.checksum(dataset[k].tobytes()) for k in range(len(dataset))]
        file[layout.checksum_path(path)][...] = np.array(sums, dtype=np.uint32)
    else:
        dataset.attrs[layout.CHECKSUM] = np.uint32(layout.checksum(dataset[...].tobytes()))


def scale_at(path: str, index: Any, factor: float) -> Callable[[Any], None]:
    return lambda file: put(file, path, index, file[path][index] * factor)


def remove(path: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[path]

    return change


def attribute(path: str, name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        if value is None:
            del file[path].attrs[name]
        else:
            file[path].attrs[name] = value

    return change


MUTATIONS: list[tuple[Callable[[Any], None], str]] = [
    (scale_at("/fields/u", (2, 3, 5), 1 + 1e-9), "/fluxes/u, sample 2: a cell does not balance"),
    (scale_at("/fields/u", (2, 3, 5), 1 + 1e-9), "/conserved/u/total, sample 2: total differs"),
    (scale_at("/fluxes/u/x", (0, 1, 4), 1 + 1e-9), "/fluxes/u, sample 0: a cell does not"),
    (scale_at("/conserved/u/inflow", (1, 4), 1 + 1e-9), "/conserved/u/total, sample 1"),
    (scale_at("/conserved/u/target", (1, 4), 1 + 1e-9), "/conserved/u/target, sample 1"),
    (lambda f: put(f, "/fields/u", (1, 2, 3), np.nan), "/fields/u, sample 1: expected numbers"),
    (lambda f: put(f, "/boundary/u/x_lo/trace", (1, 0), np.inf), "expected finite numbers"),
    (lambda f: put(f, "/time/t", 2, 0.0), "/time/t: expected increasing times"),
    (lambda f: put(f, "/grid/x_faces", 2, 0.0), "/grid/x_faces: expected increasing faces"),
    (lambda f: put(f, "/grid/x", 2, 0.9), "/grid/x: expected every centre between its faces"),
    (scale_at("/grid/volume", 2, 1.001), "/grid/volume: expected volumes that add up"),
    (lambda f: put(f, "/split/valid", 0, 0), "/split/valid: expected disjoint parts, got sample 0"),
    (lambda f: put(f, "/split/valid", 0, 99), "/split/valid: expected indices of the 6 samples"),
    (remove("/grid/volume"), "/grid/volume: expected this dataset, got none"),
    (remove("/conserved/u/source"), "/conserved/u/source, sample 0: expected this dataset"),
    (remove("/boundary/u/x_lo/value"), "/boundary/u/x_lo/value: expected the value of a dirichlet"),
    (remove("/boundary/u/x_hi/trace"), "/boundary/u/x_hi/trace: expected this dataset"),
    (attribute("/fields/u", "units", None), "/fields/u: expected the attribute units"),
    (attribute("/fields/u", "location", None), "/fields/u: expected the attribute location"),
    (attribute("/", "seed", None), "/: expected the attribute seed, got none"),
    (attribute("/grid/x", "periodic", None), "/grid/x: expected the attribute periodic"),
    (attribute("/boundary/u/x_lo/flux", "kind", "slippery"), "/boundary/u/x_lo: expected one kind"),
    (lambda f: f["/provenance/status"].write_direct(np.full(6, 2, np.int8)), "expected 0 or 1"),
    (lambda f: f["/grid/x"].write_direct(f["/grid/x"][...] + 1e-9), "/grid/x: the checksum does"),
]


@pytest.mark.parametrize(("change", "message"), MUTATIONS, ids=[m for _, m in MUTATIONS])
def test_the_check_finds_what_is_wrong(
    good: Path, change: Callable[[Any], None], message: str
) -> None:
    assert data.check(good).ok
    report = data.check(rewritten(good, change))
    assert any(message in str(finding) for finding in report.findings), report.findings


def test_the_check_compares_periodic_edges(circle: Path) -> None:
    assert data.check(circle).ok
    report = data.check(rewritten(circle, scale_at("/boundary/u/x_hi/flux", (1, 2), 1.001)))
    assert [str(f) for f in report.findings] == [
        "/boundary/u/x_lo/flux, sample 1: periodic edges differ"
    ]


def test_a_failing_checksum_names_file_dataset_and_sample(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "flipped.h5"
    shutil.copy(good, path)
    flip(path, "/fields/u", 4)
    findings = [str(f) for f in data.check(path).findings]
    assert any(f.startswith("/fields/u, sample 4: the checksum does not match") for f in findings)
    assert data.PDEDataset(path, n_steps_output=None)[0]["sample"] == 0
    with pytest.raises(ValueError, match=r"flipped.h5: checksum of /fields/u, sample 4, does not"):
        data.PDEDataset(path, n_steps_output=None)[4]


def test_files_that_are_none_are_named(good: Path, tmp_path: Path) -> None:
    cut, text, other = tmp_path / "cut.h5", tmp_path / "text.h5", tmp_path / "other.h5"
    cut.write_bytes(good.read_bytes()[:-500])
    text.write_text("not a table")
    with h5py.File(other, "w") as file:
        file["tensor"] = np.zeros(3)
    newer = rewritten(good, attribute("/", "format_version", "2.0"))
    for path, message in (
        (cut, r"cut.h5: the file is truncated \(\d+ bytes are left\)"),
        (text, r"text.h5: expected an HDF5 file"),
        (other, r"other.h5: expected the attribute format = 'physcon' of /, got None"),
        (newer, r"changed.h5: expected the schema version 1.0 in /, got 2.0"),
    ):
        for reader in (data.check, data.describe, data.PDEDataset):
            with pytest.raises(ValueError, match=message):
                reader(path)
    with pytest.raises(FileNotFoundError, match="nowhere.h5: no such file"):
        open_file(tmp_path / "nowhere.h5")


# Loading.


def test_items_hold_fields_edges_rows_and_fluxes(good: Path) -> None:
    dataset = data.PDEDataset(good, n_steps_input=2, n_steps_output=3, dtype=torch.float64)
    assert len(dataset) == 6 * 3 and dataset.fields == ["u"]
    item = dataset[3 + 1]  # sample 1, window 1
    with h5py.File(good) as file:
        u = torch.from_numpy(file["/fields/u"][1])
        assert torch.equal(item["x"], u[1:3]) and torch.equal(item["y"], u[3:6])
        assert torch.equal(item["t"], torch.from_numpy(file["/time/t"][3:6]))
        assert torch.equal(item["flux"]["x"], torch.from_numpy(file["/fluxes/u/x"][1, 2:5]))
        value = torch.from_numpy(file["/boundary/u/x_lo/value"][1, 3:6])
        assert item["bc"]["x_lo"]["kind"] == "dirichlet"
        assert torch.equal(item["bc"]["x_lo"]["value"], value)
        assert item["parameters"]["u_left"].item() == file["/parameters/u_left"][1]
        assert torch.equal(item["grid"][0], torch.from_numpy(file["/grid/x"][...]))
    quick = data.PDEDataset(
        good, n_steps_input=2, n_steps_output=3, dtype=torch.float64, verify=False
    )[4]
    for key in ("x", "y", "t"):
        assert torch.equal(quick[key], item[key])
    assert torch.equal(quick["flux"]["x"], item["flux"]["x"])
    assert torch.equal(quick["conserved"]["target"], item["conserved"]["target"])
    assert quick["parameters"] == item["parameters"]
    rows = item["conserved"]
    residual = (rows["weights"] * item["y"]).sum(-1) - rows["target"]
    assert residual.abs().max().item() < 1e-14
    assert torch.equal(rows["noise"], torch.zeros(3, dtype=torch.float64))
    assert item["sample"] == 1


@pytest.mark.parametrize("name", pde.EQUATIONS)
def test_every_equation_feeds_batches_whose_targets_hold(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    make(path, name, 3, cells=8, times=4, dtype="float64")
    loader = torch.utils.data.DataLoader(
        data.PDEDataset(path, n_steps_output=2, dtype=torch.float64),
        batch_size=3,
        collate_fn=data.collate,
    )
    batch = next(iter(loader))
    dims = pde.equation(name).spatial_dims
    assert batch["grid"].shape == (3, dims, *(8,) * dims)
    edges = {"x_lo", "x_hi", "y_lo", "y_hi"} if dims == 2 else {"x_lo", "x_hi"}
    assert set(batch["bc"]) == edges
    for edge in edges:
        kind = batch["bc"][edge]["kind"]
        assert ("value" in batch["bc"][edge]) == (kind in ("dirichlet", "neumann"))
    if name == "cavity":  # its conserved field lives on the vertices
        assert batch["conserved"] == {}
        with h5py.File(path) as file:
            velocity = torch.from_numpy(file["/vectors/velocity"][...])
        # Windows of one time, then two: times before components.
        expected = velocity[0, 1:3].movedim(-1, 1).reshape(4, 8, 8)
        assert torch.equal(batch["y"][0], expected)
        assert data.PDEDataset(path).fields == ["velocity_x", "velocity_y"]
        return
    rows, y = batch["conserved"], batch["y"]
    amount = (rows["weights"] * y).flatten(2).sum(-1)
    size = (rows["weights"] * y.abs()).flatten(2).sum(-1).max()
    assert float((amount - rows["target"]).abs().max()) <= 1e-13 * max(1.0, float(size))
    assert all(flux.shape[:2] == (3, 2) for flux in batch["flux"].values())
    assert set(batch["flux"]) == set("xy"[:dims])


def test_a_wave_has_two_fields_and_rows_for_both(tmp_path: Path) -> None:
    path = tmp_path / "wave.h5"
    make(path, "wave", 2)
    item = data.PDEDataset(path, n_steps_output=2)[1]
    assert item["x"].shape == (2, 12, 12) and item["y"].shape == (4, 12, 12)
    assert item["grid"].shape == (2, 12, 12)
    assert item["conserved"]["weights"].shape == (4, 12, 12)
    residual = (item["conserved"]["weights"] * item["y"]).sum(dim=(1, 2))
    assert residual.abs().max().item() < 1e-6
    assert item["flux"]["x"].shape == (2, 13, 12) and item["flux"]["y"].shape == (2, 12, 13)
    assert item["bc"]["y_hi"]["value"].shape == (2, 12)
    assert data.PDEDataset(path, fields=["v"])[0]["x"].shape == (1, 12, 12)


def test_loading_processes_give_the_same_batches(good: Path) -> None:
    dataset = data.PDEDataset(good, split="train", n_steps_output=None)
    dataset[0]  # opens the file here, which the processes must not inherit
    dataset = pickle.loads(pickle.dumps(dataset))
    dataset[0]
    plain = list(torch.utils.data.DataLoader(dataset, batch_size=2, collate_fn=data.collate))
    context = multiprocessing.get_context("fork")
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=2,
        num_workers=2,
        collate_fn=data.collate,
        multiprocessing_context=context,
    )
    parallel = list(loader)
    assert len(plain) == len(parallel) == 2
    for a, b in zip(plain, parallel, strict=True):
        assert torch.equal(a["y"], b["y"]) and torch.equal(a["sample"], b["sample"])
        assert a["bc"]["x_lo"]["kind"] == b["bc"]["x_lo"]["kind"] == "dirichlet"
        assert torch.equal(a["bc"]["x_lo"]["value"], b["bc"]["x_lo"]["value"])
    assert plain[0]["y"].shape == (2, 6, 12)
    assert plain[0]["conserved"]["target"].shape == (2, 6)


def test_incomplete_samples_are_never_read(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.h5"
    shutil.copy(good, path)
    opened = data.PDEDataset(path, n_steps_output=None)
    assert opened[1]["sample"] == 1
    with layout.SampleWriter(path, []) as writer:
        writer.clear(1)
    assert [item["sample"] for item in iterate(data.PDEDataset(path, n_steps_output=None))] == [
        0, 2, 3, 4, 5
    ]  # fmt: skip
    fresh = pickle.loads(pickle.dumps(opened))
    with pytest.raises(ValueError, match="sample 1 is not complete any more"):
        fresh[1]


def iterate(dataset: data.PDEDataset) -> list[Any]:
    return [dataset[k] for k in range(len(dataset))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, "expected split to be one of .*, got 'trian'; did you mean 'train'"),
        ({"fields": ["w"]}, "expected fields among u, got 'w'"),
        ({"n_steps_input": 0}, "expected n_steps_input to be >= 1, got 0"),
        ({"n_steps_input": 5, "n_steps_output": 3}, "at most the 7 times .* got 5 . 3"),
        ({"stride": 0}, "expected stride to be >= 1, got 0"),
    ],
)
def test_bad_windows_are_named(good: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.PDEDataset(good, **arguments)
    with pytest.raises(IndexError, match="expected an index below 36, got 36"):
        data.PDEDataset(good)[36]


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "physcon-ext\[data\]"'):
        make(tmp_path / "a.h5")
