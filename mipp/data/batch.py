"""Whole batches of pixels: random crops, random flips, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional


class Augmentation(NamedTuple):
    """How training images are varied at random."""

    name: str = "none"  # `data.augment`
    padding: int | None = None  # `data.crop_padding`


UNCHANGED = Augmentation()


def augment_batch(pixels: Tensor, augmentation: Augmentation, generator: Generator) -> Tensor:
    """Batch with each image cropped and flipped at random.

    A `resized-crop` is made elsewhere: of the whole image, where that is at hand.
    """
    if augmentation.name.startswith("crop"):
        side, padding = pixels.shape[-1], augmentation.padding
        pixels = random_crop(pixels, side // 8 if padding is None else padding, generator)
    if "flip" in augmentation.name:
        pixels = random_flip(pixels, generator)
    return pixels


def random_crop(pixels: Tensor, padding: int, generator: Generator) -> Tensor:
    """Batch (n, c, h, w), each image shifted by up to `padding` pixels over a zero border."""
    n, _, height, width = pixels.shape
    padded = functional.pad(pixels, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator, device="cpu")
    # A view of all crops (n, c, 2p+1, 2p+1, h, w): indexing it copies one crop per image.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(n, device="cpu"), :, top, left]


def random_flip(pixels: Tensor, generator: Generator) -> Tensor:
    """Batch (n, c, h, w), each image mirrored left to right with probability one half."""
    mirrored = torch.rand(len(pixels), 1, 1, 1, generator=generator, device="cpu") < 0.5
    return torch.where(mirrored, pixels.flip(3), pixels)


def normalise(
    pixels: Tensor, mean: Sequence[float], std: Sequence[float], *, as_torchvision: bool = False
) -> Tensor:
    """Float32 (n, c, h, w) from uint8; one grey channel is repeated to the length of `mean`.

    Parameters
    ----------
    as_torchvision : in the order of its transforms, with one pass more, for the same last digits.
    """
    deviation = torch.tensor(std, device=pixels.device)[:, None, None]
    centre = torch.tensor(mean, device=pixels.device)[:, None, None]
    repeated = pixels.expand(-1, len(mean), -1, -1)
    if as_torchvision:
        return (repeated.to(torch.float32) / 255).sub_(centre).div_(deviation)
    return repeated.to(torch.float32).mul_(1 / (255 * deviation)).sub_(centre / deviation)
