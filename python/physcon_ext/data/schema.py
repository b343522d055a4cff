# SPDX-License-Identifier: Apache-2.0
"""Opening, describing and checking files of the format ``physcon`` 1.0."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physcon_ext.data.layout import (
    CHECKSUM,
    CHECKSUMS,
    DONE,
    FORMAT,
    FORMAT_VERSION,
    MISSING,
    SEED,
    STATUS,
    DataError,
    checksum,
    checksum_path,
    require_h5py,
)
from physcon_ext.data.records import AXES, EDGES


KINDS = {"dirichlet": True, "neumann": True, "robin": True, "periodic": False, "outflow": False}
"""Kinds of edges, and whether they prescribe a value."""

WEIGHTS = {"cells": "/grid/volume", "vertices": "/grid/vertex_volume"}
"""Quadrature weights of the places at which a field may live."""

_ATTRIBUTES = (
    "format",
    "format_version",
    "equation",
    "spatial_dims",
    "dtype",
    "seed",
    "config",
    "created_with",
    "licence",
    "citation",
)
_SAMPLE_GROUPS = (
    "fields",
    "vectors",
    "parameters",
    "fluxes",
    "sources",
    "boundary",
    "conserved",
    "shocks",
    "solver",
    "provenance/checksums",
)
# Rounding of the float64 computation behind the numbers, over the size of the whole budget.
_COMPUTED = 1e-13


@dataclass(frozen=True)
class Finding:
    """One violation.

    Attributes:
        dataset: Path of the dataset, or ``/`` for the file.
        text: What is wrong.
        sample: Index of the first sample concerned, or None.
        samples: How many samples are concerned.
    """

    dataset: str
    text: str
    sample: int | None = None
    samples: int = 0

    def __str__(self) -> str:
        where = "" if self.sample is None else f", sample {self.sample}"
        more = f" (and {self.samples - 1} further samples)" if self.samples > 1 else ""
        return f"{self.dataset}{where}: {self.text}{more}"


@dataclass
class CheckReport:
    """Outcome of :func:`check`.

    Attributes:
        file: The file.
        samples: Samples that the file has room for.
        missing: Samples that are not complete; they hold no data and are not checked.
        findings: Violations; none when the file is good.
        worst: Largest residual over its tolerance, by name of the law.
    """

    file: Path
    samples: int
    missing: int
    findings: list[Finding] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def open_file(path: str | Path) -> Any:
    """Open a file for reading, or say in one sentence why that cannot be.

    Args:
        path: The file.

    Returns:
        The open ``h5py.File``.

    Raises:
        ImportError: If h5py is missing.
        FileNotFoundError: If there is no such file.
        DataError: If it is truncated, not HDF5, of another format or another major version.
    """
    h5py = require_h5py()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if "truncated" in str(error):
            raise DataError(
                f"{path}: the file is truncated ({path.stat().st_size} bytes are left); copy it "
                f"again or generate it anew"
            ) from error
        raise DataError(f"{path}: expected an HDF5 file, got something else: {error}") from error
    try:
        found = _text(file.attrs.get("format"))
        if found != FORMAT:
            raise DataError(
                f"{path}: expected the attribute format = {FORMAT!r} of /, got {found!r}; files in "
                f"the layout of PDEBench or The Well are read by from_pdebench and from_well"
            )
        version = str(_text(file.attrs.get("format_version")))
        if version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
            raise DataError(
                f"{path}: expected the schema version {FORMAT_VERSION} in /, got {version}; "
                f"read it with the version of physcon_ext that wrote it"
            )
    except BaseException:
        file.close()
        raise
    return file


def dataset_paths(file: Any, group: str = "/") -> list[str]:
    """Paths of all datasets below a group, sorted."""
    h5py = require_h5py()
    found: list[str] = []
    if group.strip("/") and group not in file:
        return found

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(f"{group.rstrip('/')}/{name}")

    file[group].visititems(visit)
    return sorted(found)


def verify(file: Any, path: str, index: int, values: NDArray[Any]) -> None:
    """Compare the numbers of a sample with their checksum, where the file keeps one.

    Raises:
        DataError: If they differ; the message names file and dataset.
    """
    where = checksum_path(path)
    if where in file and checksum(values.tobytes()) != int(file[where][index]):
        raise DataError(
            f"{file.filename}: checksum of {path}, sample {index}, does not match; "
            f"resume the generator, which writes it again"
        )


def done_samples(file: Any) -> NDArray[np.int64]:
    """Indices of the complete samples."""
    return np.flatnonzero(file[STATUS][:] == DONE)


def describe(path: str | Path) -> dict[str, Any]:
    """Say what is in a file.

    Args:
        path: The file.

    Returns:
        Plain values, ready for JSON: attributes, sizes, ranges, shapes and units of the datasets.

    Raises:
        FileNotFoundError, ImportError, DataError: As :func:`open_file`.
    """
    with open_file(path) as file:
        status, times = file[STATUS][:], file["/time/t"][:]
        done = np.flatnonzero(status == DONE)
        parameters = {}
        for name in dataset_paths(file, "/parameters"):
            values = file[name][:][done]
            if values.size:
                parameters[name.rsplit("/", 1)[1]] = [float(values.min()), float(values.max())]
        return {
            "file": str(path),
            "size": Path(path).stat().st_size,
            **{key: _plain(value) for key, value in file.attrs.items() if key != "config"},
            "samples": len(status),
            "complete": len(done),
            "times": {"count": len(times), "first": float(times[0]), "last": float(times[-1])},
            "cells": list(file["/grid/volume"].shape),
            "parameters": parameters,
            "split": {name: len(file["/split"][name]) for name in file.get("/split", ())},
            "datasets": {
                name: {
                    "shape": list(file[name].shape),
                    "dtype": str(file[name].dtype),
                    "units": _text(file[name].attrs.get("units")),
                    "description": _text(file[name].attrs.get("description")),
                }
                for name in dataset_paths(file)
                if not name.startswith(CHECKSUMS)
            },
            "config": json.loads(file.attrs["config"]) if "config" in file.attrs else None,
        }


def check(path: str | Path) -> CheckReport:
    """Check a file against the schema and the laws that its numbers obey.

    The grid must be sorted and its volumes must fill the domain; every dataset needs units, a
    description, the right shape and its checksum; parts of the split must be disjoint; edges must
    be of a known kind, periodic ones equal; nothing may be NaN outside shocks, or infinite except
    for an edge flux at the first time. For every complete sample and conserved field
    ``(new - old) volume = -dt net flux + dt source`` in each cell, and
    ``total = volume . field = target``, at the rounding of the stored type.

    Args:
        path: The file.

    Returns:
        The findings.

    Raises:
        FileNotFoundError, ImportError, DataError: As :func:`open_file`.

    Example:
        >>> import tempfile, physcon_ext.data
        >>> folder = tempfile.TemporaryDirectory()
        >>> name = f"{folder.name}/a.h5"
        >>> report = physcon_ext.data.generate("advection", 2, name, cells=10, times=4)
        >>> check(name).ok
        True
        >>> folder.cleanup()
    """
    with open_file(path) as file:
        checker = _Checker(file, Path(path))
        checker.run()
        return checker.report()


class _Checker:
    """Collects findings; those of samples are joined by dataset and text."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file = file
        self.path = path
        self.single: list[Finding] = []
        self.joined: dict[tuple[str, str], list[int]] = {}
        self.worst: dict[str, float] = {}
        self.status = file[STATUS][:] if STATUS in file else np.zeros(0, np.int8)
        self.paths = {group: dataset_paths(file, f"/{group}") for group in _SAMPLE_GROUPS}

    def report(self) -> CheckReport:
        joined = [
            Finding(dataset, text, samples[0], len(samples))
            for (dataset, text), samples in self.joined.items()
        ]
        missing = int((self.status == MISSING).sum())
        return CheckReport(self.path, len(self.status), missing, self.single + joined, self.worst)

    def say(self, dataset: str, text: str) -> None:
        self.single.append(Finding(dataset, text))

    def say_sample(self, dataset: str, text: str, sample: int) -> None:
        self.joined.setdefault((dataset, text), []).append(sample)

    def run(self) -> None:
        for name in _ATTRIBUTES:
            if name not in self.file.attrs:
                self.say("/", f"expected the attribute {name}, got none")
        needed = ["/grid/x", "/grid/x_faces", "/grid/volume", "/time/t", SEED, STATUS]
        lacking = [name for name in needed if name not in self.file]
        for name in lacking:
            self.say(name, "expected this dataset, got none")
        if lacking:
            return
        if not np.isin(self.status, (MISSING, DONE)).all():
            self.say(STATUS, "expected 0 or 1 everywhere")
        self.check_every_dataset()
        self.check_grid()
        self.check_split()
        self.check_edges()
        if self.check_shapes():
            for sample in np.flatnonzero(self.status == DONE):
                self.check_sample(int(sample))

    def check_every_dataset(self) -> None:
        for name in dataset_paths(self.file):
            dataset = self.file[name]
            for key in ("units", "description"):
                if not _text(dataset.attrs.get(key)):
                    self.say(name, f"expected the attribute {key}, got none")
            if CHECKSUM in dataset.attrs:
                if checksum(dataset[...].tobytes()) != int(dataset.attrs[CHECKSUM]):
                    self.say(name, "the checksum does not match")

    def check_grid(self) -> None:
        volume, widths = self.file["/grid/volume"][...], []
        dims = int(self.file.attrs.get("spatial_dims", 1))
        for axis in AXES[:dims]:
            names = f"/grid/{axis}", f"/grid/{axis}_faces"
            if any(name not in self.file for name in names):
                self.say(names[0], "expected centres and faces of every axis")
                return
            centres, faces = (self.file[name][...] for name in names)
            if not (np.diff(faces) > 0).all():
                self.say(names[1], "expected increasing faces")
            elif len(centres) != len(faces) - 1:
                self.say(names[0], f"expected {len(faces) - 1} centres, got {len(centres)}")
            elif not ((centres > faces[:-1]) & (centres < faces[1:])).all():
                self.say(names[0], "expected every centre between its faces")
            if "periodic" not in self.file[names[0]].attrs:
                self.say(names[0], "expected the attribute periodic, got none")
            widths.append(np.diff(faces))
        expected = widths[0]
        for width in widths[1:]:
            expected = expected[..., None] * width
        if volume.shape != expected.shape:
            self.say("/grid/volume", f"expected shape {expected.shape}, got {volume.shape}")
        elif not np.allclose(volume, expected, rtol=1e-13, atol=0.0):
            self.say("/grid/volume", "expected volumes that add up to the domain, cell by cell")
        if not (np.diff(self.file["/time/t"][...]) > 0).all():
            self.say("/time/t", "expected increasing times")

    def check_split(self) -> None:
        taken: dict[int, str] = {}
        for name in dataset_paths(self.file, "/split"):
            indices = self.file[name][...].tolist()
            if any(not 0 <= k < len(self.status) for k in indices):
                self.say(name, f"expected indices of the {len(self.status)} samples")
            if (double := next((k for k in indices if k in taken), None)) is not None:
                self.say(name, f"expected disjoint parts, got sample {double} of {taken[double]}")
            taken.update(dict.fromkeys(indices, name))

    def check_edges(self) -> None:
        for name, field_group in self.file.get("/boundary", {}).items():
            for edge, group in field_group.items():
                path = f"/boundary/{name}/{edge}"
                if edge not in EDGES:
                    self.say(path, f"expected an edge among {', '.join(EDGES)}")
                conserved = f"/conserved/{name}" in self.file
                needed = ("trace", "flux") if conserved else ("trace",)
                for part in needed:
                    if part not in group:
                        self.say(f"{path}/{part}", "expected this dataset, got none")
                kinds = {_text(group[part].attrs.get("kind")) for part in group}
                kind = kinds.pop() if len(kinds) == 1 else None
                if kind not in KINDS:
                    self.say(path, f"expected one kind among {', '.join(KINDS)}, got {kind}")
                elif KINDS[kind] and "value" not in group:
                    self.say(f"{path}/value", f"expected the value of a {kind} edge, got none")
                if kind == "robin" and not {"a", "b"} <= set(group.get("value", group).attrs):
                    self.say(f"{path}/value", "expected the attributes a and b of a robin edge")

    def check_shapes(self) -> bool:
        """Whether the shapes allow to check samples."""
        nt = len(self.file["/time/t"])
        before = len(self.single)
        for group in _SAMPLE_GROUPS:
            for name in self.paths[group]:
                if self.file[name].shape[:1] != (len(self.status),):
                    self.say(name, f"expected {len(self.status)} samples on the first axis")
        for name in self.paths["fields"]:
            dataset = self.file[name]
            for key in ("kind", "location", "conserved"):
                if key not in dataset.attrs:
                    self.say(name, f"expected the attribute {key}, got none")
            expected = self.field_shape(_text(dataset.attrs.get("location")))
            if expected is not None and dataset.shape[1:] != (nt, *expected):
                self.say(name, f"expected shape (sample, {nt}, {expected}), got {dataset.shape}")
        for name, field_group in self.file.get("/fluxes", {}).items():
            for axis, dataset in field_group.items():
                place = _text(dataset.attrs.get("location", f"{axis}_faces"))
                if dataset.shape[1:] != (nt - 1, *(self.field_shape(place) or ())):
                    where = f"/fluxes/{name}/{axis}"
                    self.say(
                        where, f"expected shape (sample, {nt - 1}, {place}), got {dataset.shape}"
                    )
        return len(self.single) == before

    def field_shape(self, location: str | None) -> tuple[int, ...] | None:
        cells = self.file["/grid/volume"].shape
        shapes = {
            "cells": cells,
            "vertices": tuple(n + 1 for n in cells),
            "x_faces": (cells[0] + 1, *cells[1:]),
            "y_faces": (*cells[:1], *(n + 1 for n in cells[1:2]), *cells[2:]),
        }
        return shapes.get(str(location))

    def check_sample(self, sample: int) -> None:
        read: dict[str, NDArray[Any]] = {}
        for group in _SAMPLE_GROUPS[:-1]:
            for name in self.paths[group]:
                values = read[name] = self.file[name][sample]
                try:
                    verify(self.file, name, sample, values)
                except DataError:
                    self.say_sample(name, "the checksum does not match", sample)
                self.check_finite(name, values, sample)
        for name in self.paths["fields"]:
            if bool(self.file[name].attrs["conserved"]):
                self.check_budget(name.rsplit("/", 1)[1], read, sample)
        self.check_periodic(read, sample)

    def check_finite(self, name: str, values: NDArray[Any], sample: int) -> None:
        if name.startswith("/shocks/"):
            return
        if np.isnan(values).any():
            self.say_sample(name, "expected numbers, got NaN", sample)
        # The flux into an empty medium may begin with an integrable singularity.
        edge_flux = name.startswith("/boundary/") and name.endswith("/flux")
        if np.isinf(values[1:] if edge_flux else values).any():
            self.say_sample(name, "expected finite numbers, got an infinite one", sample)

    def check_budget(self, name: str, read: dict[str, NDArray[Any]], sample: int) -> None:
        lacking = [k for k in ("total", "inflow", "source", "target")
                   if f"/conserved/{name}/{k}" not in read]  # fmt: skip
        if lacking:
            self.say_sample(f"/conserved/{name}/{lacking[0]}", "expected this dataset", sample)
            return
        stored = self.file[f"/fields/{name}"]
        location = str(_text(stored.attrs["location"]))
        u = read[f"/fields/{name}"].astype(np.float64)
        weights = self.file[WEIGHTS[location]][...]
        axes = tuple(range(1, u.ndim))
        total, inflow, source, target = (
            read[f"/conserved/{name}/{k}"] for k in ("total", "inflow", "source", "target")
        )
        amount = (weights * np.abs(u)).sum(axis=axes)
        size = amount.max() + np.abs(inflow).max() + np.abs(source).max()
        eps = np.finfo(stored.dtype).eps
        self.law(
            f"/conserved/{name}/total",
            "total differs from volumes times field",
            np.abs((weights * u).sum(axis=axes) - total),
            2 * eps * amount + _COMPUTED * size,
            sample,
        )
        made = total[0] + inflow + source
        for key, expected in (("total", total), ("target", target)):
            self.law(
                f"/conserved/{name}/{key}",
                f"{key} differs from its start plus inflow and source",
                np.abs(made - expected),
                10 * _COMPUTED * size,
                sample,
            )
        if f"/fluxes/{name}/x" in read:
            self.check_cells(name, read, u, weights, size, sample)

    def check_cells(
        self,
        name: str,
        read: dict[str, NDArray[Any]],
        u: NDArray[Any],
        weights: NDArray[Any],
        size: float,
        sample: int,
    ) -> None:
        dims = u.ndim - 1
        eps = np.finfo(self.file[f"/fields/{name}"].dtype).eps
        dt = np.diff(self.file["/time/t"][...]).reshape(-1, *(1,) * dims)
        residual = weights * np.diff(u, axis=0)
        rounding = weights * (np.abs(u[1:]) + np.abs(u[:-1]))
        passed = 0.0
        for axis in range(dims):
            flux = read.get(f"/fluxes/{name}/{AXES[axis]}")
            if flux is None:
                self.say_sample(f"/fluxes/{name}/{AXES[axis]}", "expected this dataset", sample)
                return
            flux = flux.astype(np.float64)
            width = np.diff(self.file[f"/grid/{AXES[axis]}_faces"][...])
            area = weights / width.reshape(-1, *(1,) * (dims - 1 - axis))
            residual = residual + dt * area * np.diff(flux, axis=axis + 1)
            low, high = (np.delete(np.abs(flux), end, axis=axis + 1) for end in (-1, 0))
            rounding = rounding + dt * area * (low + high)
            passed += float((dt * area * np.maximum(low, high)).max())
        if (source := read.get(f"/sources/{name}")) is not None:
            residual = residual - dt * weights * source
            rounding = rounding + dt * weights * np.abs(source)
        self.law(
            f"/fluxes/{name}",
            "a cell does not balance its fluxes and sources",
            np.abs(residual),
            2 * eps * rounding + _COMPUTED * (size + passed),
            sample,
        )

    def check_periodic(self, read: dict[str, NDArray[Any]], sample: int) -> None:
        for name, group in self.file.get("/boundary", {}).items():
            for low, high in zip(EDGES[::2], EDGES[1::2], strict=True):
                if low not in group or high not in group:
                    continue
                path = f"/boundary/{name}/{low}"
                if _text(group[low]["trace"].attrs.get("kind")) != "periodic":
                    continue
                for part, sign in (("trace", 1.0), ("flux", -1.0)):
                    if f"{path}/{part}" not in read:
                        continue
                    a = read[f"{path}/{part}"].astype(np.float64)
                    b = sign * read[f"/boundary/{name}/{high}/{part}"].astype(np.float64)
                    eps = np.finfo(group[low][part].dtype).eps
                    size = np.abs(a).max() + np.abs(read[f"/fields/{name}"]).max()
                    allowed = 4 * eps * (np.abs(a) + np.abs(b)) + 10 * _COMPUTED * size
                    text = "periodic edges differ"
                    self.law(f"{path}/{part}", text, np.abs(a - b), allowed, sample)

    def law(
        self, dataset: str, text: str, residual: NDArray[Any], allowed: NDArray[Any], sample: int
    ) -> None:
        share = np.divide(
            residual, allowed, out=np.where(residual > 0, np.inf, 0.0), where=allowed > 0
        )
        worst = float(np.nanmax(share)) if share.size else 0.0
        key = f"{dataset}: {text}"
        self.worst[key] = max(worst, self.worst.get(key, 0.0))
        if worst > 1.0 or np.isnan(share).any():
            self.say_sample(dataset, text, sample)


def _text(value: Any) -> str | None:
    """Text of an attribute, which h5py may return as bytes."""
    if isinstance(value, bytes):
        return value.decode()
    return None if value is None else str(value)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else _text(value)
