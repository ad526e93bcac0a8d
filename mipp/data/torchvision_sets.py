"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 in the layout that torchvision keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mipp.config import DataConfig
from mipp.data.image_set import ImageSet, Part, part_in_memory
from mipp.data.locate import missing_set, places
from mipp.errors import DataError


@dataclass(frozen=True)
class _Known:
    kind: str  # class in torchvision.datasets
    files: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


_KNOWN = {
    "mnist": _Known("MNIST", "MNIST/raw/*", 28, (0.1307,), (0.3081,)),
    "fashion-mnist": _Known("FashionMNIST", "FashionMNIST/raw/*", 28, (0.2860,), (0.3530,)),
    "cifar10": _Known(
        "CIFAR10",
        "cifar-10-batches-py/*",
        32,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": _Known(
        "CIFAR100",
        "cifar-100-python/*",
        32,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}


def load_torchvision_set(config: DataConfig) -> ImageSet:
    """One of torchvision's sets, fetched only if `data.download` says so.

    Raises
    ------
    DataError : the set is missing or corrupted, or its download fails.
    """
    known = _KNOWN[config.name]
    train, test = _found(config, known)
    return ImageSet(
        class_names=tuple(str(name) for name in train.classes),
        channels=len(known.mean),
        size=known.size,
        mean=known.mean,
        std=known.std,
        train=_part(f"{config.name}/train", train),
        test=_part(f"{config.name}/test", test),
    )


def files_of(config: DataConfig) -> list[Path]:
    """The files of a set that is there; none of one that is yet to be fetched."""
    pattern = _KNOWN[config.name.removesuffix("-deformed")].files
    for place in places(config.root):
        if found := [file for file in place.glob(pattern) if file.is_file()]:
            return found
    return []


def _found(config: DataConfig, known: _Known) -> tuple[Any, Any]:
    """Training and test."""
    for place in places(config.root):
        try:
            return _open(known.kind, place, train=True), _open(known.kind, place, train=False)
        except (RuntimeError, OSError):  # how torchvision says: not there, or cut short
            continue
    if config.download:
        return _fetch(config, known.kind, train=True), _fetch(config, known.kind, train=False)
    remedy = "Set data.root (or the environment variable MIPP_DATA), or data.download=true"
    raise missing_set(config, f"intact {known.files}", remedy)


def _open(kind: str, place: Path, *, train: bool, download: bool = False) -> Any:
    from mipp.vision import torchvision  # a second of import, which only these sets should pay

    return getattr(torchvision.datasets, kind)(str(place), train=train, download=download)


def _fetch(config: DataConfig, kind: str, *, train: bool) -> Any:
    place = places(config.root)[0]
    try:
        return _open(kind, place, train=train, download=True)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"data set {config.name!r} cannot be downloaded to {place}.\n"
            f"Expected a network and a folder to write to, got: {error}.\n"
            "Download it elsewhere and set data.root to the folder that holds it."
        ) from error


def _part(name: str, dataset: Any) -> Part:
    # MNIST: (n, 28, 28); CIFAR: (n, 32, 32, 3)
    images = torch.as_tensor(dataset.data, device="cpu")
    channels_first = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.asarray(dataset.targets, dtype=np.int64))
    return part_in_memory(name, channels_first.contiguous(), labels)
