"""What every loader returns: labels in memory, pixels on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mipp.data.frame import framed_pixels

Read = Callable[[Tensor, int, str], Tensor]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Part:
    """The training or the test images of a set.

    Parameters
    ----------
    name : set and part, such as `mnist/train`.
    labels : shape (n,), int64.
    read : (indices (k,), size, progress) -> uint8 (k, c, size, size), where the size is a
        `mipp.data.frame.Frame`; a bar named `progress` shows the time left, unless that name is
        empty.
    streams : the images are too many to keep; read them batch by batch.
    crops : where they stream, a frame's random crops are made of the whole images.
    blocks : first rows of what can only be read as a whole, such as row groups of a table; None
        where any image is read by itself, or lies in memory.
    identity : what else tells this part from another of the same name (file sizes or names).
    """

    name: str
    labels: Tensor
    read: Read
    streams: bool = False
    crops: bool = False
    blocks: Tensor | None = None
    identity: str = ""


@dataclass(frozen=True)
class ImageSet:
    """A set as it lies on disk: its classes, its own shape and normalisation, its two parts."""

    class_names: tuple[str, ...]
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Part
    test: Part


def part_in_memory(name: str, images: Tensor, labels: Tensor) -> Part:
    """Part of a set that is in memory anyway: images uint8 (n, c, h, h), labels int64 (n,)."""

    def read(indices: Tensor, size: int, progress: str) -> Tensor:
        return framed_pixels(images[indices], size)

    return Part(name, labels, read)


def default_normalisation(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's mean and standard deviation, or for grey images the means of both."""
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
