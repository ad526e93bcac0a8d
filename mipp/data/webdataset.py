"""Shards of WebDataset: tar files of images and labels; streamed, never unpacked.

An uncompressed tar is read at any place, so that images come in the order that the seed decides,
from any number of processes. The library `webdataset` reads shards from their beginning on and
shuffles in a buffer, in an order that depends on the number of processes: it is not used here.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mipp.config import DataConfig
from mipp.data.decode import SUFFIXES, Encoded, decode_images
from mipp.data.encoded_set import encoded_set
from mipp.data.image_set import ImageSet, Part
from mipp.data.locate import find_folder
from mipp.data.room import require_room
from mipp.errors import DataError
from mipp.progress import track

TRAIN, TEST = ("train",), ("test", "validation", "val")  # how the names of shards begin
_LAYOUT = "train*.tar, and test*.tar or val*.tar beside them"
_NAMES = "classes.txt"  # a name a line
_LONGEST = 20  # bytes of a label


class _Image(NamedTuple):
    """Where an image lies, and its label."""

    shard: Path
    key: str
    offset: int
    size: int
    label: int


def load_webdataset(config: DataConfig) -> ImageSet:
    """Set of the shards `train*.tar` and `test*.tar` or else `val*.tar`; reads labels now.

    A sample is `KEY.jpg` (or another image) beside `KEY.cls`, a number in text. Classes are the
    lines of `classes.txt`, where there is one, else as many numbers as the labels count.

    Raises
    ------
    DataError : no such folder; a shard is no plain tar, or cut off; a sample lacks its image or its
        label, or has two; a label names no class.
    """
    folder = find_folder(config, _holds_set, _LAYOUT)
    train, test = (_images(shards_of(folder, starts)) for starts in (TRAIN, TEST))
    names = _class_names(folder, [*train, *test])
    for image in (*train, *test):
        if image.label >= len(names):
            raise _no_label(image.shard, image.key, str(image.label), f"0 to {len(names) - 1}")
    sample = train[:: max(1, len(train) // 16)]

    def parts(channels: int) -> tuple[Part, Part]:
        return (
            _part("webdataset/train", train, channels),
            _part("webdataset/test", test, channels),
        )

    return encoded_set(names, _encoded(sample), parts)


def files_of(config: DataConfig) -> list[Path]:
    """All files of the set."""
    folder = find_folder(config, _holds_set, _LAYOUT)
    named = [file for file in (folder / _NAMES,) if file.is_file()]
    return [*shards_of(folder, TRAIN), *shards_of(folder, TEST), *named]


def shards_of(folder: Path, starts: Sequence[str]) -> list[Path]:
    """Shards of the first of these names that has any, in order."""
    every = sorted(file for file in folder.glob("*.tar") if file.is_file())
    found = ([file for file in every if file.name.startswith(start)] for start in starts)
    return next(filter(None, found), [])


def _holds_set(folder: Path) -> bool:
    return bool(shards_of(folder, TRAIN) and shards_of(folder, TEST))


def _images(shards: Sequence[Path]) -> list[_Image]:
    listed = track(shards, total=len(shards), label="shards")
    found = [image for shard in listed for image in _images_of(shard)]
    if found:
        largest = max(found, key=lambda image: image.size)
        require_room(largest.shard, largest.size, f"sample {largest.key!r}", "leave it out")
    return found


def _images_of(shard: Path) -> Iterator[_Image]:
    try:
        end = shard.stat().st_size
        with tarfile.open(shard, "r:") as tar:
            files = (_whole(shard, member, end) for member in tar if not member.isdir())
            for key, members in groupby(files, lambda member: _parted(member.name)[0]):
                yield _image(tar, shard, key, list(members))
            _require_end(shard, tar.offset)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(
            f"shard {shard} cannot be read.\nExpected a tar file that is not compressed, got: "
            f"{error}; write it again, or unpack its compression (gunzip)."
        ) from error


def _require_end(shard: Path, at: int) -> None:
    """Refuse a shard whose end is not marked: `tarfile` takes a damaged header for one."""
    with shard.open("rb") as file:
        file.seek(at)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a file nor an end mark at byte {at:,}")


def _parted(name: str) -> tuple[str, str]:
    """Key and ending: the first point of the last part of the name divides them."""
    folder, _, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}/{stem}", ending.lower()


def _whole(shard: Path, member: tarfile.TarInfo, end: int) -> tarfile.TarInfo:
    """A member that is a file, all of it there."""
    whole = member.isreg() and not member.issparse()
    if not whole or member.offset_data + member.size > end:
        what = "a part of it" if whole else "a link, a device or a file with holes"
        raise DataError(
            f"shard {shard} has the member {member.name!r} that is no whole file.\nExpected files "
            f"and their content, got {what}; write the shard again."
        )
    return member


def _image(
    tar: tarfile.TarFile, shard: Path, key: str, members: Sequence[tarfile.TarInfo]
) -> _Image:
    endings = [_parted(member.name)[1] for member in members]
    images = [m for m, ending in zip(members, endings, strict=True) if f".{ending}" in SUFFIXES]
    labels = [m for m, ending in zip(members, endings, strict=True) if ending == "cls"]
    if (len(images), len(labels)) != (1, 1):
        raise DataError(
            f"sample {key.strip('/')!r} of shard {shard} is no image with its label.\nExpected "
            f"one image ({', '.join(sorted(SUFFIXES))}) and one .cls side by side, got "
            f"{', '.join(endings)}; write the shard again."
        )
    content = tar.extractfile(labels[0])
    text = content.read(_LONGEST) if content is not None else b""
    if not text.strip().isdigit() or labels[0].size > _LONGEST:
        raise _no_label(shard, key, repr(text), "a whole number in text")
    return _Image(shard, key.strip("/"), images[0].offset_data, images[0].size, int(text))


def _no_label(shard: Path, key: str, got: str, expected: str) -> DataError:
    return DataError(
        f"sample {key.strip('/')!r} of shard {shard} has a label that names no class.\nExpected "
        f"{expected}, got {got}; number the classes from 0 on, or name them all in {_NAMES}."
    )


def _class_names(folder: Path, images: Sequence[_Image]) -> tuple[str, ...]:
    file = folder / _NAMES
    if not file.is_file():
        count = max((image.label for image in images), default=-1) + 1
        # as many at most as there are images: a label may be any number
        return tuple(map(str, range(min(count, len(images)))))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise DataError(
            f"{file} cannot be read.\nExpected text in UTF-8, got: {error}; save it so."
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len({*names}) != len(names):
        raise DataError(
            f"{file} names a class twice.\nExpected different names, a line each, got "
            f"{', '.join(names[:9])}; correct it."
        )
    return names


def _part(name: str, images: Sequence[_Image], channels: int) -> Part:
    listed = "\n".join(f"{i.shard.name} {i.key} {i.offset} {i.size}" for i in images)
    return Part(
        name,
        labels=torch.tensor([i.label for i in images], dtype=torch.int64, device="cpu"),
        read=partial(_read, images, channels),
        streams=True,
        crops=True,
        identity=hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest(),
    )


def _read(images: Sequence[_Image], channels: int, indices: Tensor, size: int, bar: str) -> Tensor:
    wanted = [images[row] for row in indices.tolist()]
    chunks = ([encoded] for encoded in _encoded(wanted))
    return decode_images(chunks, len(wanted), channels=channels, size=size, progress=bar)


def _encoded(images: Sequence[_Image]) -> Iterator[Encoded]:
    for row, image in enumerate(images):
        name = f"sample {image.key!r} of shard {image.shard}"
        try:
            with image.shard.open("rb") as file:
                file.seek(image.offset)
                yield Encoded(row, name, file.read(image.size))
        except OSError as error:
            raise DataError(
                f"shard {image.shard} cannot be read.\nExpected {name}, got: {error.strerror}; put "
                "the shard back."
            ) from error
