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
from mipp.data.decode import Encoded, decode_images, own_channels_and_size
from mipp.data.image_set import ImageSet, Part, default_normalisation
from mipp.data.locate import find_folder
from mipp.device import free_bytes
from mipp.errors import DataError
from mipp.manifest import json_object

_FILES = ("train.parquet", "test.parquet")
_BYTES = "image.bytes"  # column path of the encoded images
_OWN_SIZE = 224  # for images of many sizes


def load_parquet(config: DataConfig) -> ImageSet:
    """Set of `train.parquet` and `test.parquet`; reads labels now, images when asked for.

    Raises
    ------
    DataError : no folder with both files, an unreadable file, a missing column, a bad label.
    """
    train, test = files_of(config)
    train_labels, test_labels = _labels(train), _labels(test)
    channels, size = own_channels_and_size(_sample(train), otherwise=_OWN_SIZE)
    mean, std = default_normalisation(channels)
    names = _class_names(train) or _numbered(train, train_labels, test_labels)
    for path, labels in ((train, train_labels), (test, test_labels)):
        _check_labels(path, labels, len(names))
    return ImageSet(
        class_names=names,
        channels=channels,
        size=size,
        mean=mean,
        std=std,
        train=_part("parquet/train", train, train_labels, channels),
        test=_part("parquet/test", test, test_labels, channels),
    )


def files_of(config: DataConfig) -> list[Path]:
    """The files of the set: training, test."""
    folder = find_folder(config, _holds_set, " and ".join(_FILES))
    return [folder / file for file in _FILES]


def _holds_set(folder: Path) -> bool:
    return all((folder / file).is_file() for file in _FILES)


def _part(name: str, path: Path, labels: Tensor, channels: int) -> Part:
    read = partial(_read, path, channels)
    identity = str(path.stat().st_size)
    return Part(name, labels, read, blocks=_groups(path), identity=identity)


def _groups(path: Path) -> Tensor:
    """First rows of the row groups."""
    with _opened(path) as file:
        rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return torch.tensor([0, *accumulate(rows)][:-1], dtype=torch.int64, device="cpu")


def _read(path: Path, channels: int, indices: Tensor, size: int, progress: str) -> Tensor:
    chunks = _encoded(path, indices.numpy())
    return decode_images(chunks, len(indices), channels=channels, size=size, progress=progress)


def _encoded(path: Path, indices: NDArray[np.int64]) -> Iterator[Sequence[Encoded]]:
    """Wanted rows, with one row group in memory at a time."""
    with _opened(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            wanted = np.flatnonzero((indices >= start) & (indices < stop))
            if len(wanted):
                _require_group(path, file, group)
                images = file.read_row_group(group, columns=[_BYTES])["image"]
                rows = images.take(pa.array(indices[wanted] - start)).combine_chunks()
                blobs = rows.field("bytes").to_pylist()
                yield [
                    Encoded(int(at), f"{path} row {indices[at]}", blob)
                    for at, blob in zip(wanted, blobs, strict=True)
                ]
            start = stop


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
        _require_room(path, 3 * 8 * file.metadata.num_rows, f"{file.metadata.num_rows} labels")
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
    _require_room(path, size, f"images of row group {group}")


def _require_room(path: Path, size: int, what: str) -> None:
    """Refuse what a few bytes of a file say that they unpack to, before room for it is made."""
    free = free_bytes(torch.device("cpu"))
    if free is not None and size > free:
        raise DataError(
            f"image set {path} has no room in memory: {what}.\nExpected at most the {free:,} bytes "
            f"that are free, got {size:,}; write the file in smaller row groups."
        )


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
