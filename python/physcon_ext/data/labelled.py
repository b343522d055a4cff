# SPDX-License-Identifier: Apache-2.0
"""A file as labelled arrays (extra ``xarray``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physcon_ext.data.layout import CHECKSUMS
from physcon_ext.data.records import AXES
from physcon_ext.data.schema import dataset_paths, done_samples, open_file


if TYPE_CHECKING:
    from xarray import Dataset


def as_xarray(file: str | Path) -> Dataset:
    """View a file as an ``xarray.Dataset``, without reading its numbers.

    Variables are named after their paths: ``u`` for ``/fields/u``, else ``fluxes/u/x`` and the
    like. Coordinates are ``sample``, ``t``, ``x``, ``x_faces`` and so on.

    Args:
        file: A file of the format ``physcon``.

    Returns:
        The data set. Its arrays are memory maps of the file: numbers are read when they are used.
        Samples that are not complete are left out; then the arrays are copies.

    Raises:
        ImportError: If h5py or xarray is missing.
        FileNotFoundError, DataError: If the file cannot be read.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError(
            'physcon_ext.data: xarray is missing; pip install "physcon-ext[xarray]"'
        ) from error
    with open_file(file) as source:
        done = done_samples(source)
        whole = len(done) == len(source["/provenance/status"])
        sizes = _sizes(source)
        variables = {}
        for path in dataset_paths(source):
            if path.startswith((CHECKSUMS, "/grid", "/time", "/split", "/provenance/status")):
                continue
            values = _mapped(file, source[path])
            values = values if whole else values[done]
            name = path.removeprefix("/fields/").removeprefix("/vectors/").lstrip("/")
            keys = {key: source[path].attrs[key] for key in source[path].attrs}
            variables[name] = (_names(path, values.shape, sizes), values, keys)
        coordinates = {
            "sample": done,
            "t": source["/time/t"][...],
            **{
                name: source[f"/grid/{name}"][...]
                for axis in AXES
                for name in (axis, f"{axis}_faces")
                if f"/grid/{name}" in source
            },
        }
        volume = tuple(axis for axis in AXES if axis in coordinates)
        variables["volume"] = (volume, source["/grid/volume"][...], {"units": "1"})
        attributes = {key: source.attrs[key] for key in source.attrs}
    return xarray.Dataset(variables, coordinates, attributes)


def _mapped(file: str | Path, dataset: Any) -> Any:
    offset = dataset.id.get_offset()
    if offset is None or dataset.size == 0:
        return dataset[...]
    return np.memmap(file, dataset.dtype, "r", offset, dataset.shape)


def _sizes(source: Any) -> dict[str, int]:
    sizes = {"t": len(source["/time/t"]), "interval": len(source["/time/t"]) - 1}
    for axis in AXES:
        for name in (axis, f"{axis}_faces"):
            if f"/grid/{name}" in source:
                sizes[name] = len(source[f"/grid/{name}"])
    return sizes


def _names(path: str, shape: tuple[int, ...], sizes: dict[str, int]) -> tuple[str, ...]:
    """Names of the axes of a dataset of samples; those of odd sizes are named after the dataset."""
    group, *_, last = path.strip("/").split("/")
    names = ["sample"]
    if group in ("fields", "vectors", "boundary", "conserved", "shocks"):
        names.append("t")
    elif group in ("fluxes", "sources", "solver"):
        names.append("interval")
    left = [axis for axis in AXES if axis in sizes]
    if group == "boundary":
        left = [axis for axis in left if axis != path.strip("/").split("/")[2][0]]
    if group not in ("fields", "vectors", "fluxes", "sources", "boundary", "solver"):
        left = []
    for axis in left:
        if len(names) < len(shape):
            size = shape[len(names)]
            names.append(axis if size == sizes[axis] else f"{axis}_faces")
    extra = {"vectors": "component", "shocks": "front"}.get(group, f"{last}_entry")
    names += [extra] * (len(shape) - len(names))
    return tuple(names)
