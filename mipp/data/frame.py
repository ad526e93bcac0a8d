"""How images of any size come to the square that a network is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from mipp.data.transforms import random_part

Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos"]
OF_PIXELS: Interpolation = "bilinear"  # where nobody says another
_CHUNK = 4096  # images; bounds the float copy that interpolation makes


class Frame(int):
    """The side of the square in pixels, and how an image comes to it.

    Without `resize` an image is scaled so that it just covers the square, and what sticks out is
    cut off. With it, the shorter side becomes `resize` pixels and the centre is cropped, both as
    torchvision's transforms do, pixel for pixel. With `seeds`, one for each image that is read, a
    random part of it is scaled to the square, see `mipp.data.transforms`.

    >>> frame = Frame.of(224, resize=256, interpolation="bicubic")
    >>> frame, frame.resize, frame.interpolation
    (224, 256, 'bicubic')
    """

    resize: int | None = None
    interpolation: Interpolation = OF_PIXELS
    seeds: Sequence[int] | None = None

    @classmethod
    def of(
        cls,
        size: int,
        resize: int | None = None,
        interpolation: Interpolation | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Frame:
        """A frame of this size."""
        frame = cls(size)
        frame.resize, frame.interpolation = resize, interpolation or OF_PIXELS
        frame.seeds = seeds
        return frame

    def modes(self) -> tuple[Any, Any]:
        """torchvision's functions on images, and the interpolation as they take it."""
        from mipp.vision import torchvision  # a second of import

        transforms = torchvision.transforms
        return transforms.functional, transforms.InterpolationMode(self.interpolation)


def framed_image(image: Image.Image, size: int, row: int = 0) -> Image.Image:
    """An image in the frame; a plain number is that of its side.

    Parameters
    ----------
    row : of the image among those that are read.
    """
    frame = _frame(size)
    if frame.seeds is not None:
        ways, way = frame.modes()
        drawn = random_part(image, frame.seeds[row])
        part: Image.Image = ways.resized_crop(
            image, **drawn, size=[int(frame)] * 2, interpolation=way
        )
        return part
    if frame.resize is not None:
        ways, way = frame.modes()
        resized: Image.Image = ways.resize(image, [frame.resize], way)
        cropped: Image.Image = ways.center_crop(resized, [int(frame)])
        return cropped
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling[frame.interpolation.upper()])


def framed_pixels(images: Tensor, size: int) -> Tensor:
    """Pixels uint8 (n, c, h, h) in the frame, (n, c, size, size)."""
    frame = _frame(size)
    if frame.interpolation == "lanczos":  # of Pillow's images alone
        every = enumerate(images.permute(0, 2, 3, 1).numpy())
        framed = (
            framed_image(Image.fromarray(i[..., 0] if i.shape[2] == 1 else i), frame, row)
            for row, i in every
        )
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in framed]))
        return pixels.view(len(images), size, size, -1).permute(0, 3, 1, 2).contiguous()
    if frame.seeds is not None:
        ways, way = frame.modes()
        drawn = map(random_part, images, frame.seeds)
        crops = (
            ways.resized_crop(
                image, **part, size=[int(frame)] * 2, interpolation=way, antialias=True
            )
            for image, part in zip(images, drawn, strict=True)
        )
        return torch.stack(list(crops))
    if frame.resize is not None:
        ways, way = frame.modes()
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
