"""What chance does to training images: drawn before any of them is read, then done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from mipp.augment_names import BY_BATCH, Augment, steps_of
from mipp.data.transforms import BY_IMAGE, OF_BATCHES, transformed

_SEEDED = ("resized-crop", *BY_IMAGE, *OF_BATCHES)


class Draws(NamedTuple):
    """What chance decides about some images; None of what it does not touch."""

    seeds: NDArray[Any] | None = None  # (n,) int64, for what draws more: `mipp.data.transforms`
    shifts: NDArray[Any] | None = None  # (2, n) int64, rows and columns of a crop's corner
    mirrored: NDArray[Any] | None = None  # (n,) bool

    def at(self, places: slice | NDArray[np.int64]) -> Draws:
        """What it decides about the images at some places."""
        return Draws(*(None if drawn is None else drawn[..., places] for drawn in self))


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied at random.

    Parameters
    ----------
    augment : `data.augment`.
    padding : `data.crop_padding`, pixels; None for an eighth of the side.
    classes : of the set, for labels of images that are mixed.
    """

    augment: Augment = "none"
    padding: int | None = None
    classes: int = 0

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done, in this order."""
        return steps_of(self.augment)

    @property
    def draws_seeds(self) -> bool:
        """Whether a step draws more than is drawn here."""
        return not {*self.steps}.isdisjoint(_SEEDED)

    @property
    def takes_long(self) -> bool:
        """Whether images are transformed one by one."""
        return not {*self.steps}.isdisjoint(("resized-crop", *BY_IMAGE))

    def draw(self, sizes: Sequence[int], side: int, generator: Generator) -> list[Draws]:
        """What chance decides about batches of these sizes, of images of this side.

        A place in the epoch is dealt the same whatever the sizes. Departs: the names in
        `BY_BATCH` draw batch by batch, so that they give the images that they always gave.
        """
        if self.augment in BY_BATCH:
            return [self._draw(size, side, generator) for size in sizes]
        stops = list(accumulate(sizes))
        whole = self._draw(sum(sizes), side, generator)
        return [whole.at(slice(stop - size, stop)) for size, stop in zip(sizes, stops, strict=True)]

    def _draw(self, n: int, side: int, generator: Generator) -> Draws:
        steps, seeds, shifts, mirrored = self.steps, None, None, None
        if self.draws_seeds:
            seeds = torch.randint(2**62, (n,), generator=generator, device="cpu").numpy()
        if "crop" in steps:
            offsets = 2 * self._padding(side) + 1
            shifts = torch.randint(offsets, (2, n), generator=generator, device="cpu").numpy()
        if "flip" in steps:
            mirrored = torch.rand(n, generator=generator, device="cpu").numpy() < 0.5
        return Draws(seeds, shifts, mirrored)

    def _padding(self, side: int) -> int:
        return side // 8 if self.padding is None else self.padding

    def vary(self, pixels: Tensor, draws: Draws, mean: Sequence[float]) -> Tensor:
        """Squares uint8 (n, c, h, h), each varied as was drawn.

        A `resized-crop` is made elsewhere, of the whole image where that is at hand, and batches
        are mixed elsewhere, once they are normalised.

        Parameters
        ----------
        mean : of each channel, 0 to 1; the colour of what is cut out.
        """
        if draws.shifts is not None:
            pixels = shifted(pixels, self._padding(pixels.shape[-1]), draws.shifts)
        if draws.mirrored is not None:
            mirrored = torch.from_numpy(draws.mirrored)[:, None, None, None]
            pixels = torch.where(mirrored, pixels.flip(3), pixels)
        names = [step for step in self.steps if step in BY_IMAGE]
        if names and draws.seeds is not None:
            pixels = transformed(pixels, draws.seeds.tolist(), names, mean)
        return pixels


UNCHANGED = Augmentation()


def shifted(pixels: Tensor, padding: int, corners: NDArray[np.int64]) -> Tensor:
    """Batch (n, c, h, w), each image moved over a border of zeros.

    As torchvision's `RandomCrop`, which takes ten times as long, image by image.

    Parameters
    ----------
    padding : pixels of the border.
    corners : (2, n), row and column of each crop's upper left corner, 0 to twice the padding.
    """
    _, _, height, width = pixels.shape
    padded = functional.pad(pixels, (padding,) * 4)
    # A view of all crops (n, c, 2p+1, 2p+1, h, w): indexing it copies one crop per image.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.from_numpy(corners)
    return crops[torch.arange(len(pixels), device="cpu"), :, top, left]
