"""How images of any size come to the square that a network is given."""

from __future__ import annotations

from typing import Literal

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos"]
OF_PIXELS: Interpolation = "bilinear"  # where nobody says another
_CHUNK = 4096  # images; bounds the float copy that interpolation makes


class Frame(int):
    """The side of the square in pixels, and how an image comes to it.

    Without `resize` an image is scaled so that it just covers the square, and what sticks out is
    cut off. With it, the shorter side becomes `resize` pixels and the centre is cropped, both as
    torchvision's transforms do, pixel for pixel.

    >>> frame = Frame.of(224, resize=256, interpolation="bicubic")
    >>> frame, frame.resize, frame.interpolation
    (224, 256, 'bicubic')
    """

    resize: int | None = None
    interpolation: Interpolation = OF_PIXELS

    @classmethod
    def of(cls, size: int, resize: int | None, interpolation: Interpolation | None) -> Frame:
        """A frame of this size."""
        frame = cls(size)
        frame.resize, frame.interpolation = resize, interpolation or OF_PIXELS
        return frame


def framed_image(image: Image.Image, size: int) -> Image.Image:
    """An image in the frame; a plain number is that of its side."""
    frame = _frame(size)
    if frame.resize is not None:
        from mipp.vision import torchvision  # a second of import

        ways = torchvision.transforms.functional
        way = torchvision.transforms.InterpolationMode(frame.interpolation)
        resized: Image.Image = ways.resize(image, [frame.resize], way)
        cropped: Image.Image = ways.center_crop(resized, [int(frame)])
        return cropped
    if image.size == (size, size):
        return image
    way = Image.Resampling[frame.interpolation.upper()]
    return ImageOps.fit(image, (size, size), way)


def framed_pixels(images: Tensor, size: int) -> Tensor:
    """Pixels uint8 (n, c, h, h) in the frame, (n, c, size, size)."""
    frame = _frame(size)
    if frame.resize is not None:
        from mipp.vision import torchvision

        ways = torchvision.transforms.functional
        way = torchvision.transforms.InterpolationMode(frame.interpolation)
        parts = torch.split(images, _CHUNK)
        resized = [ways.resize(part, [frame.resize], way, antialias=True) for part in parts]
        return torch.cat([ways.center_crop(part, [int(frame)]) for part in resized])
    if images.shape[-1] == size:
        return images
    scaled = images.new_empty(len(images), images.shape[1], size, size)
    smooth = frame.interpolation in ("bilinear", "bicubic")
    for at in range(0, len(images), _CHUNK):
        part = functional.interpolate(
            images[at : at + _CHUNK].float(),
            size=(size, size),
            mode=frame.interpolation,
            antialias=smooth,
        )
        scaled[at : at + _CHUNK] = part.round_().clamp_(0, 255)
    return scaled


def _frame(size: int) -> Frame:
    return size if isinstance(size, Frame) else Frame(size)
