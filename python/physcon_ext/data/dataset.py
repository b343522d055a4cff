# SPDX-License-Identifier: Apache-2.0
"""Samples of a file as a torch data set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from physcon_ext.data.layout import DONE, STATUS, DataError
from physcon_ext.data.records import AXES
from physcon_ext.data.schema import WEIGHTS, dataset_paths, open_file, verify
from physcon_ext.pde.equation import suggestion


Item = dict[str, Any]


class PDEDataset(Dataset[Item]):
    """Windows of the samples of a file, read when asked for.

    An item is a window of ``n_steps_input`` times followed by ``n_steps_output`` times:

    * ``x``: input fields, ``(n_steps_input * channels, nx[, ny])``, times before fields; a vector
      takes a channel for each component.
    * ``y``: output fields, ``(n_steps_output * channels, nx[, ny])``.
    * ``grid``: cell centres, ``(spatial_dims, nx[, ny])``.
    * ``bc``: by edge (``x_lo``, ...) a dictionary with ``kind``, a word, and, where prescribed,
      ``value`` at the output times, ``(n_steps_output[, ny])``.
    * ``conserved``: ``weights`` ``(rows, nx[, ny])``, ``target`` ``(rows,)`` and ``noise``
      ``(rows,)``, zeros, float64; one row for each output time and conserved field, in the order of
      the channels of ``y``.
    * ``flux``: by axis the mean fluxes of the conserved field over the intervals that end at the
      output times, ``(n_steps_output, faces...)``; absent where the file has none.
    * ``parameters``: by name, float64.
    * ``t``: output times, ``(n_steps_output,)``, float64.
    * ``sample``: index of the sample in the file.

    Args:
        file: A file of the format ``physcon``.
        split: A part of the file, such as ``"train"``; all samples when None.
        fields: Names of the fields and vectors in ``x`` and ``y``; all that live on the cells when
            None.
        n_steps_input: Times in ``x``, at least 1.
        n_steps_output: Times in ``y``, at least 1; all that remain when None, one window a sample.
        stride: Times between the starts of windows of the same sample.
        dtype: Type of fields, grid, fluxes and edge values.
        verify: Compare every dataset that is read with its checksum, for which the whole sample is
            read; else only the times of the window are.

    Raises:
        FileNotFoundError, ImportError, ValueError: If the file cannot be read as such, or an
            argument does not fit it.

    Notes:
        Samples that are not complete are left out; a sample is never read in part.
        Determinism: items depend on their index alone, whatever the number of loading processes.
        The file is opened on first use in every process; the object can be pickled.

    Example:
        >>> import tempfile
        >>> from physcon_ext import data
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = data.generate("stefan", 2, f"{folder.name}/a.h5", cells=20, times=5)
        >>> item = PDEDataset(f"{folder.name}/a.h5")[0]
        >>> item["x"].shape, item["y"].shape, item["conserved"]["target"].shape
        (torch.Size([1, 20]), torch.Size([1, 20]), torch.Size([1]))
        >>> folder.cleanup()
    """

    def __init__(
        self,
        file: str | Path,
        *,
        split: str | None = None,
        fields: Sequence[str] | None = None,
        n_steps_input: int = 1,
        n_steps_output: int | None = 1,
        stride: int = 1,
        dtype: torch.dtype = torch.float32,
        verify: bool = True,
    ) -> None:
        self._path = Path(file)
        self._file: Any = None
        self._owner = -1
        self._verify = verify
        self._dtype = dtype
        with open_file(self._path) as opened:
            self._times = torch.from_numpy(opened["/time/t"][...])
            self._samples = _chosen_samples(opened, split)
            self._fields = _chosen_fields(opened, fields)
            self._grid = _grid(opened).to(dtype)
            self._parameters = dataset_paths(opened, "/parameters")
            self._static = {
                place: torch.from_numpy(opened[path][...])
                for place, path in WEIGHTS.items()
                if path in opened
            }
            self._conserved = [n for n, p in self._fields.items() if opened[p].attrs["conserved"]]
            self._channel_names = [
                name
                for field, path in self._fields.items()
                for name in _components(field, path, opened[path].shape[-1])
            ]
        nt = len(self._times)
        outputs = nt - n_steps_input if n_steps_output is None else n_steps_output
        for name, value in (
            ("n_steps_input", n_steps_input),
            ("n_steps_output", outputs),
            ("stride", stride),
        ):
            if value < 1:
                raise ValueError(f"PDEDataset: expected {name} to be >= 1, got {value}")
        if n_steps_input + outputs > nt:
            raise ValueError(
                f"PDEDataset: expected n_steps_input + n_steps_output to be at most the {nt} times "
                f"of {self._path}, got {n_steps_input} + {outputs}"
            )
        self._inputs, self._outputs = n_steps_input, outputs
        self._starts = range(0, nt - n_steps_input - outputs + 1, stride)

    @property
    def fields(self) -> list[str]:
        """Names of the channels of one time: fields, and components such as ``velocity_x``."""
        return list(self._channel_names)

    def __len__(self) -> int:
        return len(self._samples) * len(self._starts)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"PDEDataset: expected an index below {len(self)}, got {index}")
        place, window = divmod(index % len(self), len(self._starts))
        sample = int(self._samples[place])
        start = self._starts[window]
        middle = start + self._inputs
        stop = middle + self._outputs
        file = self._opened()
        if int(file[STATUS][sample]) != DONE:
            raise DataError(f"{self._path}: sample {sample} is not complete any more")
        read = {
            path: self._read(file, path, sample, slice(start, stop))
            for path in self._fields.values()
        }
        item: Item = {
            "x": self._channels(read, slice(None, self._inputs)),
            "y": self._channels(read, slice(self._inputs, None)),
            "grid": self._grid,
            "bc": self._edges(file, sample, middle, stop),
            "conserved": self._rows(file, sample, middle, stop),
            "parameters": {
                path.rsplit("/", 1)[1]: torch.as_tensor(self._read(file, path, sample))
                for path in self._parameters
            },
            "t": self._times[middle:stop],
            "sample": sample,
        }
        flux = self._flux(file, sample, middle, stop)
        if flux:
            item["flux"] = flux
        return item

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_owner": -1}

    def _opened(self) -> Any:
        # A handle must not be shared between processes.
        if self._file is None or self._owner != os.getpid():
            self._file, self._owner = open_file(self._path), os.getpid()
        return self._file

    def _read(self, file: Any, path: str, sample: int, steps: slice = slice(None)) -> NDArray[Any]:
        """Part of a sample; all of it is read only where its checksum is wanted."""
        dataset = file[path]
        if not self._verify:
            return np.asarray(dataset[sample] if dataset.ndim == 1 else dataset[sample, steps])
        values: NDArray[Any] = np.asarray(dataset[sample])
        verify(file, path, sample, values)
        return values[steps] if values.ndim else values

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._dtype)

    def _channels(self, read: Mapping[str, NDArray[Any]], steps: slice) -> Tensor:
        parts = [
            np.moveaxis(values[steps], -1, 1)
            if path.startswith("/vectors/")
            else values[steps, np.newaxis]
            for path, values in read.items()
        ]
        joined = np.concatenate(parts, axis=1)
        return self._tensor(joined.reshape(-1, *joined.shape[2:]))

    def _edges(self, file: Any, sample: int, start: int, stop: int) -> dict[str, Item]:
        found: dict[str, Item] = {}
        given = file.get("/boundary", {})
        name = next((n for n in self._fields if n in given), next(iter(given), None))
        for edge, group in given[name].items() if name else ():
            kind = group["trace"].attrs["kind"]
            found[edge] = {"kind": kind.decode() if isinstance(kind, bytes) else str(kind)}
            if "value" in group:
                path = f"/boundary/{name}/{edge}/value"
                found[edge]["value"] = self._tensor(
                    self._read(file, path, sample, slice(start, stop))
                )
                for key in ("a", "b"):
                    if key in group["value"].attrs:
                        found[edge][key] = float(group["value"].attrs[key])
        return found

    def _rows(self, file: Any, sample: int, start: int, stop: int) -> dict[str, Tensor]:
        targets = [
            torch.from_numpy(
                self._read(file, f"/conserved/{name}/target", sample, slice(start, stop))
            )
            for name in self._conserved
        ]
        if not targets:
            return {}
        target = torch.stack(targets, dim=1).flatten()
        weights = self._static["cells"]
        return {
            "weights": weights.expand(len(target), *weights.shape),
            "target": target,
            "noise": torch.zeros_like(target),
        }

    def _flux(self, file: Any, sample: int, start: int, stop: int) -> dict[str, Tensor]:
        name = next((n for n in self._conserved if f"/fluxes/{n}" in file), None)
        return {
            axis: self._tensor(
                self._read(file, f"/fluxes/{name}/{axis}", sample, slice(start - 1, stop - 1))
            )
            for axis in (file[f"/fluxes/{name}"] if name else ())
        }


def collate(items: Sequence[Item]) -> Item:
    """Join items of :class:`PDEDataset` into a batch: tensors get a leading axis, kinds stay words.

    Args:
        items: Items of one data set.

    Returns:
        The batch, for the argument ``collate_fn`` of ``torch.utils.data.DataLoader``.

    Raises:
        ValueError: If the kind of an edge differs between the items.
    """
    batch: Item = default_collate([{k: v for k, v in item.items() if k != "bc"} for item in items])
    batch["bc"] = {}
    for edge, first in items[0]["bc"].items():
        if any(item["bc"][edge]["kind"] != first["kind"] for item in items):
            raise ValueError(f"collate: expected one kind of edge {edge!r} in a batch, got several")
        batch["bc"][edge] = {
            key: part if key == "kind" else default_collate([i["bc"][edge][key] for i in items])
            for key, part in first.items()
        }
    return batch


def _chosen_samples(file: Any, split: str | None) -> NDArray[np.int64]:
    done = np.flatnonzero(file[STATUS][:] == DONE)
    if split is None:
        return done
    parts = file.get("/split", {})
    if split not in parts:
        raise ValueError(
            f"{file.filename}: expected split to be one of {', '.join(parts) or 'none'}, "
            f"got {split!r}{suggestion(split, dict.fromkeys(parts))}"
        )
    return np.intersect1d(file["/split"][split][...], done)


def _chosen_fields(file: Any, fields: Sequence[str] | None) -> dict[str, str]:
    """Paths of the chosen fields and vectors, by name."""
    on_cells = {
        path.rsplit("/", 1)[1]: path
        for group in ("/fields", "/vectors")
        for path in dataset_paths(file, group)
        if file[path].attrs["location"] in ("cells", b"cells")
    }
    for name in fields or ():
        if name not in on_cells:
            raise ValueError(
                f"{file.filename}: expected fields among {', '.join(on_cells)}, got {name!r}"
                f"{suggestion(name, on_cells)}"
            )
    return on_cells if fields is None else {name: on_cells[name] for name in fields}


def _components(name: str, path: str, size: int) -> list[str]:
    """Names of the channels of a field or of a vector of some size."""
    if not path.startswith("/vectors/"):
        return [name]
    return [f"{name}_{axis}" for axis in AXES[:size]]


def _grid(file: Any) -> Tensor:
    centres = [
        torch.from_numpy(file[f"/grid/{axis}"][...]) for axis in AXES if f"/grid/{axis}" in file
    ]
    return torch.stack(torch.meshgrid(*centres, indexing="ij"))
