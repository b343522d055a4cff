# SPDX-License-Identifier: Apache-2.0
"""Files of the format ``physcon`` 1.0 with all their space reserved, and raw writes into it.

A stopped process may leave an HDF5 file unreadable when it dies while the library rewrites its own
tables. So the file is made complete once, under a temporary name: groups, attributes, grids and
every dataset contiguous at its final size, without time stamps. From then on only numbers are
written, by offset, sample by sample, and the status of a sample last. The tables never change:
at any moment the file is readable, and its bytes depend on what was asked for alone.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physcon_ext.data.records import Column


FORMAT = "physcon"
FORMAT_VERSION = "1.0"
SEED = "/provenance/seed"
STATUS = "/provenance/status"
CHECKSUMS = "/provenance/checksums"
CHECKSUM = "crc32"
MISSING, DONE = 0, 1
_TABLES = 1 << 17  # more than what HDF5 and the grid need beside the samples


class DataError(ValueError):
    """A file is not what it should be: truncated, damaged, of another format or settings."""


def require_h5py() -> ModuleType:
    """Import h5py, or say how to get it.

    Raises:
        ImportError: If h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            'physcon_ext.data: h5py is missing; pip install "physcon-ext[data]"'
        ) from error
    module: ModuleType = h5py
    return module


def checksum(data: bytes | memoryview) -> int:
    """Checksum of raw numbers: CRC-32."""
    return zlib.crc32(data)


def as_stored(column: Column, dtype: str) -> NDArray[Any]:
    """Numbers of a column in the type and byte order of the file."""
    kind = "<f8" if column.full or dtype == "float64" else "<f4"
    stored: NDArray[Any] = column.values.detach().numpy().astype(kind, order="C", copy=False)
    return stored


@dataclass(frozen=True)
class Slot:
    """Where the part of one sample of a dataset lies.

    Attributes:
        path: Path of the dataset.
        offset: Byte of the file at which the dataset begins.
        size: Bytes of one sample.
    """

    path: str
    offset: int
    size: int


def checksum_path(path: str) -> str:
    """Path of the checksums of a dataset."""
    return CHECKSUMS + path


def create(
    path: Path,
    attributes: Mapping[str, str | int],
    static: Sequence[Column],
    sample: Sequence[Column],
    seeds: NDArray[np.uint64],
    split: Mapping[str, NDArray[np.int64]],
) -> int:
    """Make a file with every dataset at its final size and no sample in it.

    Args:
        path: The file; it appears under this name only when it is complete.
        attributes: Attributes of the file; ``dtype`` is the type of its fields.
        static: Datasets that all samples share.
        sample: Columns of a sample, as patterns of shape and meaning; their numbers are not used.
        seeds: Seed of every sample.
        split: Indices of the samples of each part.

    Returns:
        Size of the file in bytes, which never changes.

    Raises:
        OSError: If the disk is too small; nothing is left behind.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        size = _lay_out(temporary, attributes, static, sample, seeds, split)
        _reserve(temporary, size)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size


def size_of(
    path: Path,
    attributes: Mapping[str, str | int],
    static: Sequence[Column],
    sample: Sequence[Column],
    seeds: NDArray[np.uint64],
    split: Mapping[str, NDArray[np.int64]],
) -> int:
    """Size in bytes of the file that :func:`create` would make; arguments as there.

    The file is laid out beside ``path`` without claiming its space, and removed.
    """
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    os.close(handle)
    try:
        return _lay_out(Path(name), attributes, static, sample, seeds, split)
    finally:
        Path(name).unlink()


def _lay_out(
    path: Path,
    attributes: Mapping[str, str | int],
    static: Sequence[Column],
    sample: Sequence[Column],
    seeds: NDArray[np.uint64],
    split: Mapping[str, NDArray[np.int64]],
) -> int:
    """Write everything but the samples, whose space stays a hole; return the size."""
    h5py, dtype = require_h5py(), str(attributes["dtype"])
    _probe(path, sum(len(seeds) * as_stored(column, dtype).nbytes for column in sample))
    with _new_file(h5py, path) as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for column in static:
            values = as_stored(Column(column.path, column.values, "", full=True), dtype)
            _add(h5py, file, column, values.shape, values.dtype.str, values)
        for column in sample:
            like = as_stored(column, dtype)
            _add(h5py, file, column, (len(seeds), *like.shape), like.dtype.str)
            text = f"CRC-32 of a sample of {column.path}"
            meaning = Column(checksum_path(column.path), column.values, text)
            _add(h5py, file, meaning, (len(seeds),), "<u4")
        for part, indices in split.items():
            meaning = Column(f"/split/{part}", sample[0].values, "samples of this part")
            _add(h5py, file, meaning, indices.shape, "<i8", indices.astype("<i8"))
        for where, kind, text, numbers in (
            (SEED, "<u8", "seed of each sample", seeds.astype("<u8")),
            (STATUS, "|i1", "0 missing, 1 done", None),
        ):
            meaning = Column(where, sample[0].values, text)
            _add(h5py, file, meaning, seeds.shape, kind, numbers)
    return path.stat().st_size


def _new_file(h5py: ModuleType, path: Path) -> Any:
    # The format of HDF5 1.10 keeps checksums of its tables.
    return h5py.File(path, "w", libver=("v110", "v110"), track_order=False)


def _add(
    h5py: ModuleType,
    file: Any,
    column: Column,
    shape: tuple[int, ...],
    kind: str,
    values: NDArray[Any] | None = None,
) -> None:
    """Add one contiguous dataset at its final size; ``values`` are written with their checksum."""
    parent = file
    for name in column.path.strip("/").split("/")[:-1]:
        parent = parent[name] if name in parent else _group(h5py, parent, name)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    stored = h5py.h5t.py_create(np.dtype(kind))
    own_name = column.path.rsplit("/", 1)[1].encode()
    identifier = h5py.h5d.create(parent.id, own_name, stored, space, properties)
    dataset = h5py.Dataset(identifier)
    dataset.attrs["units"] = column.unit
    dataset.attrs["description"] = column.description
    for key, value in column.attributes.items():
        dataset.attrs[key] = value
    if values is not None:
        dataset[...] = values
        dataset.attrs[CHECKSUM] = np.uint32(checksum(values.tobytes()))


def _group(h5py: ModuleType, parent: Any, name: str) -> Any:
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=properties))


def _probe(path: Path, size: int) -> None:
    """Raise unless a file may have this size; HDF5 does not survive to be told so later."""
    with path.open("wb") as file, _room(path, size):
        file.truncate(size + _TABLES)


def _reserve(path: Path, size: int) -> None:
    """Claim the space of a sparse file on the disk."""
    with path.open("rb+") as file:
        with _room(path, size):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        os.fsync(file.fileno())


@contextmanager
def _room(path: Path, size: int) -> Iterator[None]:
    """Say in one sentence that a disk or a limit is too small."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"{path.parent}: expected room for {size} bytes; free some and run again",
        ) from error


def read_config(file: Any) -> dict[str, Any]:
    """Settings that a file was made with."""
    config: dict[str, Any] = json.loads(file.attrs["config"])
    return config


def slots(file: Any, paths: Sequence[str]) -> list[Slot]:
    """Places of the samples of datasets in an open file.

    Raises:
        DataError: If a dataset is not contiguous, so that its samples have no fixed place.
    """
    found = []
    for path in paths:
        dataset = file[path]
        offset = dataset.id.get_offset()
        if offset is None:
            raise DataError(f"{file.filename}: expected {path} to be contiguous, got chunks")
        found.append(Slot(path, offset, dataset.nbytes // max(1, len(dataset))))
    return found


class SampleWriter:
    """The only writer of a file: puts samples in their places, their status last.

    Args:
        path: A file made by :func:`create`.
        paths: Datasets of a sample, in the order of their numbers in :meth:`write`.

    Raises:
        BlockingIOError: If another process writes the file.
    """

    def __init__(self, path: Path, paths: Sequence[str]) -> None:
        h5py = require_h5py()
        with h5py.File(path, "r") as file:
            self._slots = slots(file, paths)
            self._checks = slots(file, [checksum_path(p) for p in paths])
            (self._status,) = slots(file, [STATUS])
        self._path = path
        self._file = path.open("rb+", buffering=0)
        self._lock()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        try:
            # Not the kind of lock that HDF5 takes: readers may open the file meanwhile.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise BlockingIOError(
                error.errno, f"{self._path}: another process writes this file; wait for it"
            ) from error

    def write(self, index: int, parts: Sequence[bytes], checks: Sequence[int]) -> None:
        """Write one sample.

        Args:
            index: Index of the sample.
            parts: Raw numbers of each dataset.
            checks: Their checksums.

        Raises:
            OSError: If the disk is full or fails; the sample then counts as missing.
        """
        for slot, part in zip(self._slots, parts, strict=True):
            self._put(slot, index, part)
        for slot, check in zip(self._checks, checks, strict=True):
            self._put(slot, index, check.to_bytes(4, "little"))
        self._put(self._status, index, bytes([DONE]))

    def clear(self, index: int) -> None:
        """Mark one sample as missing."""
        self._put(self._status, index, bytes([MISSING]))

    def _put(self, slot: Slot, index: int, part: bytes) -> None:
        if len(part) != slot.size:
            raise ValueError(
                f"{self._path}: expected {slot.size} bytes for a sample of {slot.path}, "
                f"got {len(part)}"
            )
        view, place = memoryview(part), slot.offset + index * slot.size
        while view:
            done = os.pwrite(self._file.fileno(), view, place)
            view, place = view[done:], place + done

    def close(self) -> None:
        """Put everything on the disk and close the file."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
