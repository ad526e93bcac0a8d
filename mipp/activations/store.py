"""The activation store: a Zarr v3 group per layer pair, complete or refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from mipp.activations.capture import Rows
from mipp.errors import StoreError, StoreMismatchError

CHUNK = 4 * 2**20  # bytes that an array's batches wait for
FloatArray = npt.NDArray[np.float32]


def write_store(path: Path, batches: Iterable[Rows], fingerprint: Mapping[str, str]) -> None:
    """Write rows as they come; a chunk holds as many batches as reach a few megabytes.

    The store appears at `path` when it is complete: it is written beside it and renamed.

    Parameters
    ----------
    batches : rows per pair, float32; every batch but the last of equal length per pair.
    fingerprint : what the rows depend on (model, split, sampling), kept as an attribute.

    Raises
    ------
    StoreError : there is no batch at all.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    root = zarr.open_group(partial, mode="w", zarr_format=3)
    arrays: dict[str, _Growing] = {}
    content = hashlib.sha256()
    for rows in batches:
        for pair, (x, y) in rows.items():
            for side, values in (("x", x.cpu().numpy()), ("y", y.cpu().numpy())):
                name = f"{pair}/{side}"
                content.update(np.ascontiguousarray(values).data)
                arrays.setdefault(name, _Growing(root, name)).append(values)
    for array in arrays.values():
        array.close()
    if not arrays:
        raise StoreError(
            f"activation store {path} would be empty.\nExpected at least one batch of "
            "calibration images, got none; set data.calibration above 0."
        )
    pairs = sorted({name.rpartition("/")[0] for name in arrays})
    root.attrs.update(
        {
            "pairs": pairs,
            "fingerprint": dict(fingerprint),
            "sha256": content.hexdigest(),  # so that the group's file speaks for its chunks
            "complete": True,
        }
    )
    os.replace(partial, path)


class _Growing:
    """An array whose batches wait until they fill a chunk; a write costs a millisecond each."""

    def __init__(self, root: zarr.Group, name: str) -> None:
        self._root, self._name = root, name
        self._array: zarr.Array[Any] | None = None
        self._waiting: list[FloatArray] = []

    def append(self, values: FloatArray) -> None:
        self._waiting.append(values)
        if sum(part.nbytes for part in self._waiting) >= CHUNK:
            self._write()

    def close(self) -> None:
        if self._waiting:
            self._write()

    def _write(self) -> None:
        values = np.concatenate(self._waiting)
        self._waiting = []
        if self._array is None:
            self._array = self._root.create_array(
                self._name,
                shape=values.shape,
                chunks=values.shape,
                dtype=values.dtype,
                compressors=None,
                config={"write_empty_chunks": True},  # a dead layer's zeros are no missing chunk
            )
            self._array[:] = values
        else:
            self._array.append(values)


@dataclass(frozen=True)
class ActivationStore:
    """A complete store; rows come back chunk by chunk."""

    path: Path
    pairs: tuple[str, ...]
    fingerprint: Mapping[str, str]

    def rows(self, pair: str) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Chunks of one pair: x (n, channels, block) and y (n, targets)."""
        x, y = (self._array(pair, side) for side in ("x", "y"))
        step = x.chunks[0]
        for start in range(0, x.shape[0], step):
            yield np.asarray(x[start : start + step]), np.asarray(y[start : start + step])

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
        array = zarr.open_array(self.path / pair / side, mode="r")
        if array.nchunks_initialized != array.nchunks:
            raise StoreError(
                f"activation store {self.path} is damaged at {pair}/{side}.\nExpected "
                f"{array.nchunks} chunks, got {array.nchunks_initialized}; delete the folder "
                "and re-run `mipp extract`."
            )
        return array


def open_store(path: Path, expected: Mapping[str, str] | None = None) -> ActivationStore:
    """A complete store, refused when its fingerprint is not the expected one.

    Raises
    ------
    StoreError : the store is missing or incomplete.
    StoreMismatchError : it was written for another model, split or sampling; names which.
    """
    if not (path / "zarr.json").is_file():
        raise StoreError(
            f"activation store {path} does not exist.\nExpected a Zarr group written by "
            "`mipp extract`, got no zarr.json; run `mipp extract` first."
        )
    attributes = zarr.open_group(path, mode="r").attrs.asdict()
    if attributes.get("complete") is not True:
        raise StoreError(
            f"activation store {path} is incomplete.\nExpected the attribute complete=true, "
            "which is written last, got none; delete the folder and re-run `mipp extract`."
        )
    fingerprint: Any = attributes["fingerprint"]
    pairs: Any = attributes["pairs"]
    for part, value in (expected or {}).items():
        if fingerprint.get(part) != value:
            raise StoreMismatchError(
                f"activation store {path} does not fit: it was written for another {part}.\n"
                f"Expected {part} {value[:12]}, got {str(fingerprint.get(part))[:12]}; re-run "
                "`mipp extract` for this model and these parameters."
            )
    return ActivationStore(path, tuple(pairs), fingerprint)
