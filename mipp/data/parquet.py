"""Parquet image sets: `image` struct<bytes, path> and `label` int64, as public hubs keep them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from mipp.config import DataConfig
from mipp.data.decode import Encoded, decode_images
from mipp.data.encoded_set import encoded_set
from mipp.data.image_set import ImageSet, Part
from mipp.data.locate import find_folder
from mipp.data.room import require_room
from mipp.disk.manifest import json_object
from mipp.errors import DataError

_LAYOUT = "train.parquet and test.parquet, or train-*.parquet and test-*.parquet"
_TEST = ("test", "validation", "val")  # how files begin; the first that there are
_BYTES = "image.bytes"  # column path of the encoded images
_SMALLER = "write the file in smaller row groups"
KEPT = 2**28  # bytes of row groups that stay in memory, at most, but for the last one


def load_parquet(config: DataConfig) -> ImageSet:
    """Set of `train.parquet` and `test.parquet`; reads labels now, images when asked for.

    Either may be several files, `train-00000-of-00014.parquet` and so on, as public hubs keep them.

    Raises
    ------
    DataError : no folder with such files, an unreadable file, a missing column, a bad label.
    """
    train, test = _files(find_folder(config, _holds_set, _LAYOUT))
    train_labels, test_labels = ([_labels(path) for path in paths] for paths in (train, test))
    names = _class_names(train[0]) or _numbered(train[0], *train_labels, *test_labels)
    for path, labels in zip((*train, *test), (*train_labels, *test_labels), strict=True):
        _check_labels(path, labels, len(names))

    def parts(channels: int) -> tuple[Part, Part]:
        return (
            _part("parquet/train", train, torch.cat(train_labels), channels),
            _part("parquet/test", test, torch.cat(test_labels), channels),
        )

    return encoded_set(names, _sample(train[0]), parts)


def files_of(config: DataConfig) -> list[Path]:
    """The files of the set: training, test."""
    train, test = _files(find_folder(config, _holds_set, _LAYOUT))
    return [*train, *test]


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Of training and of the test, those of either in order."""
    tests = (_files_of(folder, start) for start in _TEST)
    return _files_of(folder, "train"), next(filter(None, tests), [])


def _files_of(folder: Path, start: str) -> list[Path]:
    one = folder / f"{start}.parquet"
    return [one] if one.is_file() else sorted(folder.glob(f"{start}-*.parquet"))


def _holds_set(folder: Path) -> bool:
    return all(_files(folder))


def _part(name: str, paths: Sequence[Path], labels: Tensor, channels: int) -> Part:
    table = RowGroups(paths)
    identity = ",".join(str(path.stat().st_size) for path in paths)
    read = partial(_read, table, channels)
    return Part(name, labels, read, crops=True, blocks=table.starts, identity=identity)


def _read(table: RowGroups, channels: int, indices: Tensor, size: int, progress: str) -> Tensor:
    chunks = _encoded(table, indices.numpy())
    return decode_images(chunks, len(indices), channels=channels, size=size, progress=progress)


def _encoded(table: RowGroups, indices: NDArray[np.int64]) -> Iterator[Sequence[Encoded]]:
    """Wanted rows, row group by row group."""
    groups = np.searchsorted(table.starts.numpy(), indices, side="right") - 1
    for group in np.unique(groups).tolist():
        wanted = np.flatnonzero(groups == group)
        path, first, images = table.images(group)
        rows = indices[wanted] - int(table.starts[group])
        blobs = images.take(pa.array(rows)).combine_chunks().field("bytes").to_pylist()
        yield [
            Encoded(int(at), f"{path} row {first + row}", blob)
            for at, row, blob in zip(wanted, rows.tolist(), blobs, strict=True)
        ]


class RowGroups:
    """The row groups of some files, as one table; the last few read stay in memory.

    Parameters
    ----------
    paths : of the files, in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._groups: list[tuple[Path, int, int]] = []  # file, number in it, first row in it
        starts = [0]
        for path in paths:
            with _opened(path) as file:
                rows = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            firsts = [0, *accumulate(rows)][:-1]
            self._groups += [(path, group, first) for group, first in enumerate(firsts)]
            starts += [starts[-1] + stop for stop in accumulate(rows)]
        self.starts = torch.tensor(starts[:-1], dtype=torch.int64, device="cpu")
        self._read: dict[int, pa.ChunkedArray] = {}  # in the order in which they were wanted last

    def images(self, group: int) -> tuple[Path, int, pa.ChunkedArray]:
        """File of a row group, its first row in it, and its encoded images."""
        path, number, first = self._groups[group]
        if (found := self._read.pop(group, None)) is None:
            with _opened(path) as file:
                _require_group(path, file, number)
                found = file.read_row_group(number, columns=[_BYTES])["image"]
        self._read[group] = found
        while len(self._read) > 1 and sum(kept.nbytes for kept in self._read.values()) > KEPT:
            del self._read[next(iter(self._read))]
        return path, first, found


def _sample(path: Path) -> list[Encoded]:
    """The first few images; only their headers will be read."""
    with _opened(path) as file:
        if file.num_row_groups:
            _require_group(path, file, 0)
        batch = next(file.iter_batches(batch_size=16, columns=[_BYTES]), None)
        blobs = batch["image"].field("bytes").to_pylist() if batch is not None else []
    return [Encoded(row, f"{path} row {row}", blob) for row, blob in enumerate(blobs)]


def _labels(path: Path) -> Tensor:
    with _opened(path) as file:
        _check_columns(path, file.schema_arrow)
        rows = file.metadata.num_rows
        require_room(path, 3 * 8 * rows, f"{rows} labels", _SMALLER)
        labels = file.read(columns=["label"])["label"].cast(pa.int64())
    return torch.from_numpy(labels.fill_null(-1).to_numpy().copy())


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, for as long as it is read."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"image set {path} cannot be read.\n"
            f"Expected a Parquet file with labels of 64 bits at most, got: {error}.\n"
            "Copy or write the file again."
        ) from error


def _require_group(path: Path, file: pq.ParquetFile, group: int) -> None:
    size = file.metadata.row_group(group).total_byte_size  # not compressed
    require_room(path, size, f"images of row group {group}", _SMALLER)


def _check_columns(path: Path, schema: pa.Schema) -> None:
    types = {field.name: field.type for field in schema}
    once = len(types) == len(schema)
    image, label = types.get("image"), types.get("label")
    if not once or not _holds_bytes(image) or label is None or not pa.types.is_integer(label):
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise DataError(
            f"image set {path} lacks the columns of an image set.\n"
            f"Expected image: struct<bytes, path> and label: int64, once each, got {columns}.\n"
            "Rename or convert its columns."
        )


def _holds_bytes(image: pa.DataType | None) -> bool:
    """Whether images are bytes; a string there would be a path, which a file may not choose."""
    if image is None or not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
        return False
    kind = image.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _check_labels(path: Path, labels: Tensor, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise DataError(
            f"image set {path} has {len(wrong)} labels that name no class.\n"
            f"Expected 0 to {classes - 1}, got {int(wrong[0])} (a missing label counts as -1).\n"
            "Drop those rows, or correct the class names in the schema metadata."
        )


def _class_names(path: Path) -> tuple[str, ...]:
    """Names from the schema metadata (`class_names`, or the hub's own), if it has any."""
    metadata = pq.read_schema(path).metadata or {}
    own = metadata.get(b"class_names", b"").decode(errors="replace")
    names = tuple(own.split(",")) if own else _names_of_hub(metadata.get(b"huggingface", b""))
    if len({*names, ""}) <= len(names):
        raise DataError(
            f"image set {path} names its classes {', '.join(map(repr, names[:9]))}.\nExpected "
            "different names, got the same twice or none; correct them in the schema metadata."
        )
    return names


def _names_of_hub(text: bytes) -> tuple[str, ...]:
    names: Any = json_object(text)
    for key in ("info", "features", "label", "names"):
        names = names.get(key) if isinstance(names, dict) else None
    plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if plain else ()


def _numbered(path: Path, *labels: Tensor) -> tuple[str, ...]:
    """As many classes as the labels count; never more than there are images."""
    present = torch.cat(labels)
    count = int(present.max()) + 1 if len(present) else 0
    if count > len(present):
        raise DataError(
            f"image set {path.parent} has the label {count - 1}.\nExpected labels below its "
            f"{len(present)} images, since it names no classes, got {count - 1}; number the "
            "classes from 0 on, or name them in the schema metadata (class_names)."
        )
    return tuple(str(label) for label in range(count))
