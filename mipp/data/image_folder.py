"""Image folders in the ImageNet or TinyImageNet layout; streamed, never held in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mipp.config import DataConfig
from mipp.data.content import files_under
from mipp.data.decode import SUFFIXES, Encoded, decode_images
from mipp.data.encoded_set import encoded_set
from mipp.data.image_set import ImageSet, Part
from mipp.data.locate import find_folder
from mipp.disk.inside import leaves
from mipp.errors import DataError

_TEST_PARTS = ("test", "val")
_LAYOUT = "train/<class>/*.jpg and test/ or val/ beside it"
_ANNOTATIONS = "val_annotations.txt"  # TinyImageNet: file name, class, box

_Sample = tuple[str, int]  # path, label


def load_image_folder(config: DataConfig) -> ImageSet:
    """Set of a folder with `train/<class>/` and a labelled `test/` or else `val/`.

    Raises
    ------
    DataError : no such folder, no classes, or a test class that training lacks.
    """
    root = find_folder(config, _holds_set, _LAYOUT)
    names = _subfolders(root / "train")
    _require_apart(root / "train", names)
    train = _class_samples(root / "train", names)
    test = _test_samples(root, names)

    def parts(channels: int) -> tuple[Part, Part]:
        return (
            _part("image-folder/train", root, train, channels),
            _part("image-folder/test", root, test, channels),
        )

    return encoded_set(names, _spread(train), parts)


def files_of(config: DataConfig) -> list[Path]:
    """All files of the set."""
    return files_under(find_folder(config, _holds_set, _LAYOUT))


def _holds_set(folder: Path) -> bool:
    return (folder / "train").is_dir() and any((folder / part).is_dir() for part in _TEST_PARTS)


def _test_samples(root: Path, names: Sequence[str]) -> list[_Sample]:
    """Images of the first labelled part: `test/` is often there without labels."""
    for folder in (root / part for part in _TEST_PARTS):
        if (folder / _ANNOTATIONS).is_file():
            return _annotated_samples(folder, names)
        found = _subfolders(folder)
        if set(found) & set(names):
            if unknown := sorted(set(found) - set(names)):
                raise _unknown_class(folder, unknown[0], names)
            return _class_samples(folder, names)
    raise DataError(
        f"image folder {root} has no labelled test images.\n"
        f"Expected {_LAYOUT}, with the class folders of train/ or a {_ANNOTATIONS}, got neither.\n"
        "Sort the test images into class folders."
    )


def _subfolders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))


def _require_apart(folder: Path, names: Sequence[str]) -> None:
    """Refuse class folders that hold one another's images, as links can have it."""
    at: dict[str, str] = {}
    for name in names:
        place = os.path.realpath(folder / name)
        other = at.setdefault(place, name)
        if other != name or Path(os.path.realpath(folder)).is_relative_to(place):
            raise DataError(
                f"class folder {folder / name} is a link to {place}.\nExpected images of its own, "
                f"got those of {'all classes' if other == name else repr(other)}; remove the link."
            )


def _class_samples(folder: Path, names: Sequence[str]) -> list[_Sample]:
    return [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted(_images_under(folder / name))
    ]


def _images_under(folder: Path) -> list[str]:
    return [
        os.path.join(parent, file)
        for parent, _, files in os.walk(folder)
        for file in files
        if os.path.splitext(file)[1].lower() in SUFFIXES
    ]


def _annotated_samples(folder: Path, names: Sequence[str]) -> list[_Sample]:
    label_of = {name: label for label, name in enumerate(names)}
    images = folder / "images"
    samples: dict[str, int] = {}
    for number, line in enumerate(_lines(folder / _ANNOTATIONS), 1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        image = images / file
        plain = os.path.basename(file) == file and file.isprintable()
        if not rest or not plain or str(image) in samples or leaves(folder.parent, image):
            raise DataError(
                f"{folder / _ANNOTATIONS} line {number} names no image.\nExpected the name of a "
                f"file in {images}, no link to elsewhere and named once, and its class, parted by "
                f"a tab, got {line!r}; correct that line."
            )
        if name not in label_of:
            raise _unknown_class(folder, name, names)
        samples[str(image)] = label_of[name]
    return list(samples.items())


def _lines(file: Path) -> list[str]:
    """Lines of a text file that hold anything."""
    try:
        return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(
            f"{file} cannot be read.\nExpected text in UTF-8, got: {error}; save it so."
        ) from error


def _unknown_class(folder: Path, name: str, names: Sequence[str]) -> DataError:
    return DataError(
        f"image folder {folder} has the class {name!r}, which train/ lacks.\n"
        f"Expected some of the {len(names)} classes {', '.join(names[:5])}, ...\n"
        "Add the class to train/, or remove it here."
    )


def _spread(samples: Sequence[_Sample]) -> list[Encoded]:
    """A few images from all over the set; only their headers will be read."""
    paths = [path for path, _ in samples[:: max(1, len(samples) // 16)]]
    return [Encoded(row, path, path) for row, path in enumerate(paths)]


def _part(name: str, root: Path, samples: Sequence[_Sample], channels: int) -> Part:
    paths = [path for path, _ in samples]
    relative = "\n".join(os.path.relpath(path, root) for path in paths)
    return Part(
        name,
        labels=torch.tensor([label for _, label in samples], dtype=torch.int64, device="cpu"),
        read=partial(_read, paths, channels),
        streams=True,
        crops=True,
        identity=hashlib.sha256(os.fsencode(relative)).hexdigest(),
    )


def _read(paths: Sequence[str], channels: int, indices: Tensor, size: int, progress: str) -> Tensor:
    chunk = [Encoded(at, paths[row], paths[row]) for at, row in enumerate(indices.tolist())]
    return decode_images([chunk], len(chunk), channels=channels, size=size, progress=progress)
