# SPDX-License-Identifier: Apache-2.0
"""Reading and writing the layouts of PDEBench and of The Well.

Neither holds fluxes, edge values, totals or fronts. What a file loses on the way out, and what the
result lacks on the way in, is returned, one path or sentence each; nothing is dropped in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from physcon_ext.data.layout import (
    CHECKSUMS,
    FORMAT,
    FORMAT_VERSION,
    DataError,
    SampleWriter,
    as_stored,
    checksum,
    create,
    require_h5py,
)
from physcon_ext.data.records import AXES, Attributes, Column, Grid
from physcon_ext.data.schema import dataset_paths, done_samples, open_file, verify


_LACKING = (
    "fluxes: the layout holds none",
    "conserved totals: the layout holds none",
    "boundary values: the layout holds none",
    "kind of the fields: taken as point values at the cell centres",
)
# The Well's words for edges; Dirichlet, Neumann and Robin edges are all walls there.
_WELL_EDGES = {"periodic": "PERIODIC", "outflow": "OPEN"}


def to_pdebench(file: str | Path, out: str | Path) -> list[str]:
    """Write the fields of a file in the layout of PDEBench.

    One scalar field becomes ``tensor``, several become a dataset each, ``(sample, t, x[, y])`` in
    float32; vectors become one dataset per component. Coordinates are ``x-coordinate``,
    ``y-coordinate`` and ``t-coordinate``.

    Args:
        file: A file of the format ``physcon``.
        out: The file to write, which must not exist.

    Returns:
        What the layout cannot hold: paths in ``file``, and sentences about the rest.

    Raises:
        ImportError: If h5py is missing.
        FileExistsError: If ``out`` exists.
        FileNotFoundError, DataError: If ``file`` cannot be read.
    """
    with open_file(file) as source, require_h5py().File(out, "x") as target:
        fields = _cell_fields(source)
        for name, path in fields.items():
            shape = source[path].shape[1:]
            if path.startswith("/vectors/"):
                for k, axis in enumerate(AXES[: shape[-1]]):
                    _copy(source, path, target, f"{name}_{axis}", component=k)
            else:
                _copy(source, path, target, "tensor" if len(fields) == 1 else name)
        for axis in AXES:
            if f"/grid/{axis}" in source:
                target[f"{axis}-coordinate"] = source[f"/grid/{axis}"][...].astype(np.float32)
        target["t-coordinate"] = source["/time/t"][...].astype(np.float32)
        kept = {*fields.values(), "/time/t", *(f"/grid/{axis}" for axis in AXES)}
        return _lost(source, kept)


def from_pdebench(
    file: str | Path,
    out: str | Path,
    *,
    equation: str = "imported",
    periodic: bool | Sequence[bool] = False,
    licence: str = "unknown",
) -> list[str]:
    """Make a file of the format ``physcon`` from one in the layout of PDEBench.

    Args:
        file: A file with ``tensor``, or with one dataset per field, ``(sample, t, x[, y])``, and
            the coordinates ``x-coordinate``, ..., ``t-coordinate``.
        out: The file to write, which must not exist.
        equation: Name of the equation.
        periodic: Whether the axes are periodic, which the layout does not tell.
        licence: Licence of the data.

    Returns:
        What the result lacks, or what was left out.

    Raises:
        ImportError: If h5py is missing.
        FileExistsError: If ``out`` exists.
        FileNotFoundError, DataError: If ``file`` cannot be read as such.
    """
    with _foreign(file) as source:
        lacking = list(_LACKING)
        names = [n for n in source if not n.endswith("-coordinate")]
        fields = {n: source[n] for n in names if getattr(source[n], "ndim", 0) >= 3}
        if not fields or "x-coordinate" not in source or "t-coordinate" not in source:
            raise DataError(
                f"{file}: expected fields (sample, t, x, ...), x-coordinate and t-coordinate of "
                f"the layout of PDEBench, got {', '.join(source) or 'nothing'}"
            )
        lacking += [f"{n}: not a field over time and space" for n in names if n not in fields]
        nt = next(iter(fields.values())).shape[1]
        times = source["t-coordinate"][...].astype(np.float64)
        if len(times) > nt:
            lacking.append(f"t-coordinate: {len(times) - nt} times without a field left out")
        centres = [
            source[f"{axis}-coordinate"][...].astype(np.float64)
            for axis in AXES
            if f"{axis}-coordinate" in source
        ]
        grid = _grid(file, centres, times[:nt], periodic)
        renamed = {"u" if name == "tensor" else name: values for name, values in fields.items()}
        _import(file, out, equation, licence, grid, renamed, {}, {})
        return lacking


def to_well(file: str | Path, out: str | Path) -> list[str]:
    """Write the fields of a file in the layout of The Well.

    Args:
        file: A file of the format ``physcon``.
        out: The file to write, which must not exist.

    Returns:
        What the layout cannot hold: paths in ``file``, and sentences about the rest.

    Raises:
        ImportError: If h5py is missing.
        FileExistsError: If ``out`` exists.
        FileNotFoundError, DataError: If ``file`` cannot be read.
    """
    with open_file(file) as source, require_h5py().File(out, "x") as target:
        done, axes = done_samples(source), [axis for axis in AXES if f"/grid/{axis}" in source]
        parameters = [
            path for path in dataset_paths(source, "/parameters") if source[path].ndim == 1
        ]
        names = [path.rsplit("/", 1)[1] for path in parameters]
        target.attrs["dataset_name"] = str(source.attrs["equation"])
        target.attrs["grid_type"] = "cartesian"
        target.attrs["n_spatial_dims"] = len(axes)
        target.attrs["n_trajectories"] = len(done)
        target.attrs["simulation_parameters"] = _words(names)
        dimensions = target.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = _words(axes)
        _put(dimensions, "time", source["/time/t"][...], sample_varying=False)
        for axis in axes:
            centres = source[f"/grid/{axis}"][...]
            _put(dimensions, axis, centres, sample_varying=False, time_varying=False)
        _well_edges(source, target.create_group("boundary_conditions"), axes)
        scalars = target.create_group("scalars")
        scalars.attrs["field_names"] = _words(names)
        for name, path in zip(names, parameters, strict=True):
            values = source[path][...][done]
            _put(scalars, name, values, sample_varying=True, time_varying=False)
            target.attrs[name] = float(values[0]) if len(values) else float("nan")
        fields = _cell_fields(source)
        for order, prefix in enumerate(("/fields/", "/vectors/", "/tensors/")):
            group = target.create_group(f"t{order}_fields")
            chosen = {name: path for name, path in fields.items() if path.startswith(prefix)}
            group.attrs["field_names"] = _words(list(chosen))
            for name, path in chosen.items():
                _copy(source, path, group, name)
                group[name].attrs["dim_varying"] = np.ones(len(axes), dtype=bool)
                group[name].attrs["sample_varying"] = True
                group[name].attrs["time_varying"] = True
        kept = {*fields.values(), *parameters, "/time/t", *(f"/grid/{axis}" for axis in AXES)}
        return _lost(source, kept)


def from_well(
    file: str | Path, out: str | Path, *, equation: str | None = None, licence: str = "unknown"
) -> list[str]:
    """Make a file of the format ``physcon`` from one in the layout of The Well.

    Args:
        file: A file with ``dimensions``, ``t0_fields`` and ``t1_fields``.
        out: The file to write, which must not exist.
        equation: Name of the equation; the name of the data set when None.
        licence: Licence of the data.

    Returns:
        What the result lacks, or what was left out.

    Raises:
        ImportError: If h5py is missing.
        FileExistsError: If ``out`` exists.
        FileNotFoundError, DataError: If ``file`` cannot be read as such.
    """
    with _foreign(file) as source:
        lacking = list(_LACKING)
        if "dimensions" not in source or "t0_fields" not in source:
            raise DataError(
                f"{file}: expected dimensions and t0_fields of the layout of The Well, got "
                f"{', '.join(source) or 'nothing'}"
            )
        dimensions = source["dimensions"]
        axes = [_word(axis) for axis in dimensions.attrs["spatial_dims"]]
        if dimensions["time"].ndim != 1:
            raise DataError(f"{file}: expected dimensions/time shared by all samples")
        periodic = [False] * len(axes)
        for name, group in source.get("boundary_conditions", {}).items():
            word = _word(group.attrs["bc_type"]).upper()
            for axis in group.attrs["associated_dims"]:
                if word == "PERIODIC" and _word(axis) in axes:
                    periodic[axes.index(_word(axis))] = True
            if word != "PERIODIC":
                lacking.append(f"boundary_conditions/{name}: {word.lower()}, without values")
        centres = [dimensions[axis][...].astype(np.float64) for axis in axes]
        grid = _grid(file, centres, dimensions["time"][...].astype(np.float64), periodic)
        found: list[dict[str, Any]] = [{}, {}]
        for order in (0, 1, 2):
            for name, values in source.get(f"t{order}_fields", {}).items():
                whole = values.ndim == 2 + len(axes) + order
                if order < 2 and whole:
                    found[order][name] = values
                else:
                    lacking.append(f"t{order}_fields/{name}: not a scalar or vector over all axes")
        numbers = {}
        for name, values in source.get("scalars", {}).items():
            if bool(values.attrs.get("sample_varying")) and values.ndim == 1:
                numbers[name] = values
            else:
                lacking.append(f"scalars/{name}: does not belong to single samples")
        title = (
            _word(source.attrs.get("dataset_name", "imported")) if equation is None else equation
        )
        _import(file, out, title, licence, grid, found[0], found[1], numbers)
        return lacking


def _cell_fields(source: Any) -> dict[str, str]:
    """Paths of the fields and vectors that live on the cells, by name."""
    found = {}
    for group in ("/fields", "/vectors"):
        for path in dataset_paths(source, group):
            if _word(source[path].attrs.get("location", "cells")) == "cells":
                found[path.rsplit("/", 1)[1]] = path
    return found


def _copy(source: Any, path: str, target: Any, name: str, component: int | None = None) -> None:
    """Copy the complete samples of a field, in float32, sample by sample."""
    done, shape = done_samples(source), source[path].shape[1:]
    shape = shape if component is None else shape[:-1]
    copy = target.create_dataset(name, (len(done), *shape), dtype=np.float32)
    for place, sample in enumerate(done):
        values = source[path][sample]
        verify(source, path, int(sample), values)
        copy[place] = values if component is None else values[..., component]


def _lost(source: Any, kept: set[str]) -> list[str]:
    lost = [
        path
        for path in dataset_paths(source)
        if path not in kept and not path.startswith((CHECKSUMS, "/provenance/status"))
    ]
    missing = len(source["/provenance/status"]) - len(done_samples(source))
    if missing:
        lost.append(f"{missing} incomplete samples")
    if any(source[path].dtype == np.float64 for path in kept if path in source):
        lost.append("float64 rounded to float32")
    if "/provenance/seed" in source:
        lost.append("attributes of /: config, seed, versions, units, descriptions, kinds")
    return lost


def _well_edges(source: Any, group: Any, axes: Sequence[str]) -> None:
    fields = source.get("/boundary", {})
    kinds: dict[str, str] = {}
    for edges in fields.values():
        for edge, parts in edges.items():
            kinds[edge] = _word(next(iter(parts.values())).attrs["kind"])
    for axis in axes:
        cells = len(source[f"/grid/{axis}"])
        for end, place in (("lo", 0), ("hi", cells - 1)):
            edge = f"{axis}_{end}"
            if edge not in kinds:
                continue
            part = group.create_group(edge)
            part.attrs["associated_dims"] = _words([axis])
            part.attrs["associated_fields"] = _words([])
            part.attrs["bc_type"] = _WELL_EDGES.get(kinds[edge], "WALL")
            part.attrs["sample_varying"] = False
            part.attrs["time_varying"] = False
            mask = np.zeros(cells, dtype=bool)
            mask[place] = True
            part["mask"] = mask


def _put(group: Any, name: str, values: NDArray[Any], **attributes: bool) -> None:
    group[name] = values.astype(np.float32)
    for key, value in attributes.items():
        group[name].attrs[key] = value


def _words(words: Sequence[str]) -> NDArray[Any]:
    return np.array(list(words), dtype=require_h5py().string_dtype())


def _word(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _foreign(file: str | Path) -> Any:
    h5py = require_h5py()
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise DataError(f"{file}: expected an HDF5 file, got something else: {error}") from error


def _grid(
    file: str | Path,
    centres: Sequence[NDArray[np.float64]],
    times: NDArray[np.float64],
    periodic: bool | Sequence[bool],
) -> Grid:
    """Grid of equal cells around given centres, which may be rounded to float32."""
    faces = []
    for axis, places in zip(AXES, centres, strict=False):
        if len(places) < 2:
            raise DataError(f"{file}: expected at least 2 coordinates along {axis}")
        step = (places[-1] - places[0]) / (len(places) - 1)
        even = places[0] + step * np.arange(len(places))
        if not step > 0 or np.abs(even - places).max() > 1e-3 * step:
            raise DataError(f"{file}: expected equally spaced coordinates along {axis}")
        ends = places[0] - step / 2, places[-1] + step / 2
        faces.append(torch.linspace(*ends, len(places) + 1, dtype=torch.float64))
    closed = (periodic,) * len(faces) if isinstance(periodic, bool) else tuple(periodic)
    if len(closed) != len(faces):
        raise ValueError(
            f"from_pdebench: expected periodic for {len(faces)} axes, got {len(closed)}"
        )
    return Grid(tuple(faces), closed, torch.from_numpy(times))


def _import(
    file: str | Path,
    out: str | Path,
    equation: str,
    licence: str,
    grid: Grid,
    fields: Mapping[str, Any],
    vectors: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> None:
    """Write samples of foreign datasets into a new file."""
    path = Path(out)
    if path.exists():
        raise FileExistsError(f"{path}: exists already; remove it, or give another name")
    sources = {
        **{f"/fields/{name}": values for name, values in fields.items()},
        **{f"/vectors/{name}": values for name, values in vectors.items()},
        **{f"/parameters/{name}": values for name, values in parameters.items()},
    }
    count = len(next(iter(sources.values())))
    shape = (grid.times.numel(), *grid.volume.shape)
    for name, values in sources.items():
        tail = () if name.startswith("/parameters/") else shape
        if values.shape[: 1 + len(tail)] != (count, *tail):
            raise DataError(
                f"{file}: expected shape {(count, *tail)} of {name.rsplit('/', 1)[1]}, got "
                f"{values.shape}"
            )
    double = any(values.dtype == np.float64 for name, values in sources.items())
    dtype = "float64" if double else "float32"
    attributes: dict[str, str | int] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "equation": equation,
        "formula": "",
        "spatial_dims": len(grid.faces),
        "dtype": dtype,
        "seed": 0,
        "config": json.dumps({"imported_from": Path(file).name}),
        "created_with": json.dumps({"h5py": require_h5py().__version__}),
        "licence": licence,
        "citation": "imported",
    }
    seeds = np.zeros(count, dtype=np.uint64)
    pattern = _columns(sources, 0)
    split = {"all": np.arange(count, dtype=np.int64)}
    create(path, attributes, grid.columns(), pattern, seeds, split)
    with SampleWriter(path, list(sources)) as writer:
        for sample in range(count):
            parts = [as_stored(c, dtype).tobytes() for c in _columns(sources, sample)]
            writer.write(sample, parts, [checksum(part) for part in parts])


def _columns(sources: Mapping[str, Any], sample: int) -> list[Column]:
    kind: Attributes = {"kind": "point", "location": "cells", "conserved": False}
    return [
        Column(
            path,
            torch.from_numpy(np.asarray(values[sample])),
            "imported",
            attributes={} if path.startswith("/parameters/") else kind,
            full=path.startswith("/parameters/"),
        )
        for path, values in sources.items()
    ]
