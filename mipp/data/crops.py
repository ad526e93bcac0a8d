"""A random part of an image, each from one number: whoever reads the image draws the same part."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SCALE = (0.08, 1.0)  # of the image's area
RATIO = (3 / 4, 4 / 3)  # of width to height
TRIES = 10


class Box(NamedTuple):
    """A part of an image, in pixels, as torchvision's functions take it."""

    top: int
    left: int
    height: int
    width: int


def random_box(height: int, width: int, seed: int) -> Box:
    """The part that torchvision's `RandomResizedCrop` draws from its global generator so seeded.

    That generator is one for all threads, and images are decoded by several.

    >>> random_box(20, 30, seed=1)
    Box(top=1, left=1, height=15, width=18)
    """
    generator = torch.Generator("cpu").manual_seed(seed)

    def uniform(least: float, most: float) -> Tensor:
        return torch.empty(1, device="cpu").uniform_(least, most, generator=generator)

    def below(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator, device="cpu"))

    edges = torch.log(torch.tensor(RATIO, device="cpu")).tolist()
    for _ in range(TRIES):
        area = height * width * uniform(*SCALE).item()
        ratio = torch.exp(uniform(*edges)).item()
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return Box(below(height - high + 1), below(width - wide + 1), high, wide)
    narrow, broad = RATIO  # what fits into the centre
    high, wide = min(height, round(width / narrow)), min(width, round(height * broad))
    return Box((height - high) // 2, (width - wide) // 2, high, wide)
