"""Encoded images (JPEG, PNG, ...) to pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from mipp.data.frame import framed_image
from mipp.errors import DataError
from mipp.progress import track

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"}  # of files that are images
_DEEP = (
    "I;16",
    "I;16L",
    "I;16B",
    "I;16N",
    "I",
)  # grey of 16 bits, which Pillow would cut off at 255
_GREY = ("1", "L", *_DEEP)
# of pixels alone: others run a program (EPS), or pages of any size
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_FAULTS = (OSError, SyntaxError, ValueError, *_BOMB)


class Encoded(NamedTuple):
    """One encoded image: its row in the answer, what to call it, its bytes or its path.

    It is taken as it is seen: upright, where a camera noted how it was held; without its alpha.
    """

    row: int
    name: str
    source: bytes | str | None


def decode_images(
    chunks: Iterable[Sequence[Encoded]], count: int, *, channels: int, size: int, progress: str
) -> Tensor:
    """Pixels uint8 (count, channels, size, size); chunks are drawn one after the other.

    Parameters
    ----------
    size : a `Frame` says how images come to it.

    Raises
    ------
    DataError : an image cannot be decoded.
    """
    out = np.empty((count, channels, size, size), dtype=np.uint8)
    every = chain.from_iterable(chunks)
    for encoded in track(every, total=count, label=progress) if progress else every:
        out[encoded.row] = _decode(encoded, channels, size)
    return torch.from_numpy(out)


def own_channels_and_size(sample: Iterable[Encoded], *, otherwise: int) -> tuple[int, int]:
    """Channels and edge length that the sample's headers share.

    Colour if one image has colour; the edge is `otherwise` unless all are squares of one size.
    """
    modes, sizes = set(), set()
    for encoded in sample:
        with _opened(encoded) as image:
            modes.add(image.mode)
            sizes.add(image.size)
    edges = {edge for size in sizes for edge in size}
    channels = 1 if modes <= {*_GREY} else 3
    return channels, edges.pop() if len(edges) == 1 else otherwise


def _decode(encoded: Encoded, channels: int, size: int) -> NDArray[np.uint8]:
    try:
        with _opened(encoded) as image:
            if image.mode == "F":
                raise ValueError("numbers in floating point, whose black and white are not known")
            upright = ImageOps.exif_transpose(image)
            shallow = _of_8_bits(upright) if image.mode in _DEEP else upright
            pixels = shallow.convert("L" if channels == 1 else "RGB")
    except _FAULTS as error:
        raise _unreadable(encoded, error) from error
    return (
        np.asarray(framed_image(pixels, size, encoded.row))
        .reshape(size, size, channels)
        .transpose(2, 0, 1)
    )


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Black and white of 16 bits as black and white of 8."""
    deep = np.asarray(image).astype(np.int64)
    if deep.min() < 0 or deep.max() > 65535:
        raise ValueError(f"grey values from {deep.min()} to {deep.max()}, more than 16 bits hold")
    return Image.fromarray((deep / 257).round().astype(np.uint8))


def _opened(encoded: Encoded) -> Image.Image:
    source = encoded.source
    try:
        if source is None:
            raise ValueError("it holds no bytes")
        if not isinstance(source, bytes) and not os.path.isfile(source):
            raise ValueError("no file" if os.path.exists(source) else "nothing at that path")
        content = BytesIO(source) if isinstance(source, bytes) else source
        image = Image.open(content, formats=_formats())
        _require_moderate(image)
        return image
    except _FAULTS as error:
        raise _unreadable(encoded, error) from error


@cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _require_moderate(image: Image.Image) -> None:
    """Refuse an image that would fill the memory; Pillow itself only warns up to twice as many."""
    most, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
    if most is not None and pixels > most:
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} pixels, of which PIL.Image.MAX_IMAGE_PIXELS allows "
            f"{most}"
        )


def _unreadable(encoded: Encoded, error: Exception) -> DataError:
    return DataError(
        f"{encoded.name} cannot be decoded.\n"
        f"Expected a JPEG, PNG or other image that Pillow reads, got: {error}.\n"
        "Replace or remove that image."
    )
