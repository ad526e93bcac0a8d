"""The activation store: a Zarr v3 group per layer pair, complete or refused."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from mipp.activations.capture import Rows
from mipp.disk.inside import require_inside
from mipp.disk.whole_files import written_whole
from mipp.errors import DamagedStoreError, StoreError, StoreMismatchError, reason_of

CHUNK = 8 * 2**20  # bytes of an array that are written at once, at most
HELD = 2**28  # bytes of all arrays that wait for their chunk to fill, about
READ = 64 * 2**20  # bytes of an array that are read at once, about
AHEAD = 2  # batches that may wait for the disk
DIMENSIONS = {"x": 3, "y": 2}  # axes of an array
WRITTEN = ("float32", "bytes+crc32c")  # type and codecs
LAST = 4  # arrays whose last chunk is written at once, when no batch is left to compute meanwhile
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
FloatArray = npt.NDArray[np.float32]


def write_store(path: Path, batches: Iterable[Rows], fingerprint: Mapping[str, str]) -> None:
    """Write rows as they come, while the next ones are made; a chunk is a few megabytes.

    The store appears at `path` when it is complete: it is written beside it and renamed.

    Parameters
    ----------
    batches : rows per pair, float32.
    fingerprint : what the rows depend on (model, split, sampling), kept as an attribute.

    Raises
    ------
    StoreError : there is no batch at all.
    """
    with written_whole(path) as partial, ThreadPoolExecutor(1) as disk:
        growing = _GrowingStore(zarr.open_group(partial, mode="w", zarr_format=3))
        waiting: deque[Future[None]] = deque()
        for rows in batches:
            waiting.append(disk.submit(growing.append, rows))
            if len(waiting) > AHEAD:
                waiting.popleft().result()
        for written in waiting:
            written.result()
        disk.submit(growing.close, path, fingerprint).result()


class _GrowingStore:
    """A store's arrays and the hash of all that went into them."""

    def __init__(self, root: zarr.Group) -> None:
        self._root = root
        self._arrays: dict[str, _Growing] = {}
        self._chunk = CHUNK
        self._content = hashlib.sha256()

    def append(self, rows: Rows) -> None:
        if not self._arrays:
            self._chunk = min(CHUNK, HELD // (2 * max(len(rows), 1)))
        for pair, sides in rows.items():
            for side, values in zip("xy", sides, strict=True):
                self._append(f"{pair}/{side}", np.ascontiguousarray(values.cpu().numpy()))

    def _append(self, name: str, values: FloatArray) -> None:
        if name not in self._arrays:
            self._arrays[name] = _Growing(self._root, name, values, self._chunk)
        self._content.update(values.data)
        self._arrays[name].append(values)

    def close(self, path: Path, fingerprint: Mapping[str, str]) -> None:
        with ThreadPoolExecutor(LAST) as threads:
            list(threads.map(_Growing.close, self._arrays.values()))
        if not self._arrays:
            raise StoreError(
                f"activation store {path} would be empty.\nExpected at least one batch of "
                "calibration images, got none; set data.calibration above 0."
            )
        attributes: dict[str, Any] = {
            "pairs": sorted({name.rpartition("/")[0] for name in self._arrays}),
            "fingerprint": dict(fingerprint),
            "sha256": self._content.hexdigest(),  # so that the group's file speaks for its chunks
            "complete": True,
        }
        self._root.attrs.update(attributes)


class _Growing:
    """An array whose rows wait until they fill a chunk; they are copied once, on the way out."""

    def __init__(self, root: zarr.Group, name: str, first: FloatArray, chunk: int) -> None:
        self._root, self._name = root, name
        self._array: zarr.Array[Any] | None = None
        self._chunk = max(1, chunk // max(first[0].nbytes, 1))  # rows
        self._waiting: list[FloatArray] = []
        self._count = 0

    def append(self, values: FloatArray) -> None:
        while len(values):
            part = values[: self._chunk - self._count]
            self._waiting.append(part)
            self._count += len(part)
            values = values[len(part) :]
            if self._count == self._chunk:
                self._write()

    def close(self) -> None:
        if self._count:
            self._write()

    def _write(self) -> None:
        values = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        if self._array is None:
            self._array = self._root.create_array(
                self._name,
                shape=values.shape,
                chunks=values.shape,
                dtype=values.dtype,
                compressors=Crc32cCodec(),
                config={"write_empty_chunks": True},  # a dead layer's zeros are no missing chunk
            )
            self._array[:] = values
        else:
            self._array.append(values)


@dataclass(frozen=True)
class ActivationStore:
    """A complete store; rows come back chunk by chunk."""

    path: Path | str  # a folder, or an address that is read in place
    pairs: tuple[str, ...]
    fingerprint: Mapping[str, str]

    def rows(self, pair: str) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Rows of one pair, some chunks at a time: x (n, channels, block) and y (n, targets).

        Raises
        ------
        DamagedStoreError : a chunk is missing, or not what was written.
        """
        x, y = (self._array(pair, side) for side in ("x", "y"))
        row = x.dtype.itemsize * math.prod(x.shape[1:])
        step = x.chunks[0] * max(1, READ // (row * x.chunks[0]))
        for start in range(0, x.shape[0], step):
            try:
                yield np.asarray(x[start : start + step]), np.asarray(y[start : start + step])
            except ValueError as error:  # of a checksum
                wanted = "chunks as they were written"
                raise self._damaged(pair, wanted, str(error).rstrip(".")) from error

    def _damaged(self, place: str, expected: str, got: str) -> DamagedStoreError:
        return DamagedStoreError(
            f"activation store {self.path} is damaged at {place}.\nExpected {expected}, got {got}; "
            "run `mipp extract` again, or `mipp run`, which writes the store anew."
        )

    def shape(self, pair: str) -> tuple[int, int, int]:
        """Rows, channels and block of one pair's x."""
        rows, channels, block = self._array(pair, "x").shape
        return rows, channels, block

    def _array(self, pair: str, side: str) -> zarr.Array[Any]:
        if pair not in self.pairs:
            raise StoreMismatchError(
                f"activation store {self.path} has no layer pair {pair!r}.\n"
                f"Expected one of {', '.join(self.pairs)}; re-run `mipp extract` for this model."
            )
        place = f"{pair}/{side}"
        try:
            array = zarr.open_array(f"{self.path}/{place}", mode="r", zarr_format=3)
        except (*_MALFORMED, FileNotFoundError) as error:
            raise self._damaged(place, "an array of version 3", reason_of(error)) from error
        if (got := _kind(array)) != (wanted := (DIMENSIONS[side], *WRITTEN)):
            raise self._damaged(place, f"{wanted[0]} axes of {wanted[1]} in {wanted[2]}", str(got))
        if array.nchunks_initialized != array.nchunks:
            found = str(array.nchunks_initialized)
            raise self._damaged(place, f"{array.nchunks} chunks", found)
        if array.nbytes > (held := array.nbytes_stored()):  # before room for them is made
            raise self._damaged(place, f"at least the {array.nbytes} bytes of its shape", str(held))
        return array


def _kind(array: zarr.Array[Any]) -> tuple[int, str, str]:
    """Axes, type and codecs; others than ours may run code, or grow as they are decoded."""
    about: Any = array.metadata.to_dict()
    codecs = "+".join(codec["name"] for codec in about["codecs"])
    return array.ndim, str(array.dtype), codecs


def open_store(path: Path | str, expected: Mapping[str, str] | None = None) -> ActivationStore:
    """A complete store, refused when its fingerprint is not the expected one.

    Parameters
    ----------
    path : folder, or URL of one that is read in place through fsspec.

    Raises
    ------
    StoreError : the store is missing, incomplete, or its attributes are not those of a store.
    StoreMismatchError : it was written for another model, split or sampling; names which.
    """
    try:
        attributes = zarr.open_group(str(path), mode="r", zarr_format=3).attrs.asdict()
    except FileNotFoundError as error:
        raise StoreError(
            f"activation store {path} does not exist.\nExpected a Zarr group written by "
            "`mipp extract`, got no zarr.json; run `mipp extract` first."
        ) from error
    except _MALFORMED as error:
        raise _no_store(path, f"a group of version 3, got {reason_of(error)}") from error
    if attributes.get("complete") is not True:
        raise StoreError(
            f"activation store {path} is incomplete.\nExpected the attribute complete=true, "
            "which is written last, got none; delete the folder and re-run `mipp extract`."
        )
    fingerprint, pairs = attributes.get("fingerprint"), attributes.get("pairs")
    if not isinstance(fingerprint, dict) or not isinstance(pairs, list):
        raise _no_store(path, f"attributes fingerprint and pairs, got {sorted(attributes)}")
    for pair in pairs:
        require_inside(pair, f"activation store {path}", StoreError)
    for part, value in (expected or {}).items():
        if fingerprint.get(part) != value:
            raise StoreMismatchError(
                f"activation store {path} does not fit: it was written for another {part}.\n"
                f"Expected {part} {value[:12]}, got {str(fingerprint.get(part))[:12]}; re-run "
                "`mipp extract` for this model and these parameters."
            )
    return ActivationStore(path, tuple(pairs), fingerprint)


def _no_store(path: Path | str, expected_and_got: str) -> StoreError:
    return StoreError(
        f"activation store {path} cannot be read.\nExpected {expected_and_got}; delete "
        "the folder and re-run `mipp extract`."
    )
