"""What is done to make a batch, wherever it is done: in this process or in another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mipp.data.augment import Augmentation, Draws
from mipp.data.frame import Frame, framed_pixels
from mipp.data.image_set import Part
from mipp.data.preparation import Preparation
from mipp.data.transforms import v2


class BatchJob(NamedTuple):
    """Which images of a split a batch has, and what chance decided about them.

    In arrays, not tensors, which processes would hand over by a file each.
    """

    places: NDArray[np.int64]
    draws: Draws = Draws()


@dataclass(frozen=True)
class BatchMaker:
    """Pixels of a job, uint8 (b, c, size, size).

    Parameters
    ----------
    read : (places (b,), frame) -> the same shape, not yet varied.
    """

    read: Callable[[Tensor, Frame], Tensor]
    preparation: Preparation
    augmentation: Augmentation

    def __post_init__(self) -> None:
        if self.augmentation.draws_seeds or self.preparation.resize is not None:
            v2()  # imported here, once, and not by each process

    def __call__(self, job: BatchJob) -> Tensor:
        frame, seeds = self.preparation.frame, job.draws.seeds
        if "resized-crop" in self.augmentation.steps and seeds is not None:
            frame = self.preparation.cropping(seeds.tolist())
        pixels = self.read(torch.from_numpy(job.places), frame)
        return self.augmentation.vary(pixels, job.draws, self.preparation.mean)


def read_kept(kept: Tensor, places: Tensor, frame: Frame) -> Tensor:
    """Of images that are in memory, in the square."""
    return kept[places] if frame.seeds is None else framed_pixels(kept[places], frame)


def read_part(part: Part, indices: Tensor, places: Tensor, frame: Frame) -> Tensor:
    """Of the images `indices` of a part."""
    if part.crops or frame.seeds is None:
        return part.read(indices[places], frame, "")
    whole = part.read(indices[places], Frame.of(frame, frame.resize, frame.interpolation), "")
    return framed_pixels(whole, frame)
