"""Splits of a set: which images, prepared how, handed out in batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from mipp.data.augment import UNCHANGED, Augmentation, Draws
from mipp.data.batch import normalise
from mipp.data.batch_job import BatchJob, BatchMaker, read_kept, read_part
from mipp.data.blocks import shuffled_by_block
from mipp.data.image_set import Part
from mipp.data.loader import Loader, count_workers
from mipp.data.preparation import Preparation
from mipp.data.read_whole import read_whole
from mipp.data.transforms import OF_BATCHES, mixed
from mipp.errors import DataError

MOST_KEPT = 2**31  # bytes of the pixels of a split


class ImageSplit:
    """Images `indices` of a part, in that order.

    Images are decoded when first asked for and then kept as uint8, or read batch by batch where
    the part streams, or has more of them than `MOST_KEPT` holds.

    Parameters
    ----------
    part : from a loader.
    indices : shape (n,), int64, rows of the part.
    preparation : shape and normalisation of the batches.
    augmentation : for `batches(augment=True)`.
    workers : processes that make batches ahead of time, of all processes of a training together;
        None for one a core where much is read or transformed image by image, else none.
    """

    def __init__(
        self,
        part: Part,
        indices: Tensor,
        preparation: Preparation,
        augmentation: Augmentation = UNCHANGED,
        workers: int | None = None,
    ) -> None:
        self.part = part
        self.indices = indices
        self.labels = part.labels[indices]
        self.preparation = preparation
        self.augmentation = augmentation
        self.workers = workers
        self._loaders: dict[bool, Loader] = {}  # by whether what they make is pinned

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def streams(self) -> bool:
        """Whether images are read anew for every pass."""
        pixels = len(self) * self.preparation.channels * self.preparation.size**2
        return self.part.streams or (self.part.blocks is not None and pixels > MOST_KEPT)

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 of set, images, labels and preparation; decodes nothing."""
        description = [self.part.name, self.part.identity, asdict(self.preparation)]
        digest = hashlib.sha256(json.dumps(description).encode())
        digest.update(self.indices.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def first(self, n: int) -> ImageSplit:
        """Split of the first n images, or of all where there are fewer."""
        return self.between(0, n)

    def between(self, start: int, stop: int) -> ImageSplit:
        """Split of the images from number `start` to before `stop`, as far as there are such."""
        return self.at(slice(start, stop))

    def at(self, places: slice | Sequence[int]) -> ImageSplit:
        """Split of the images at some places of this one, in their order."""
        indices = self.indices[places]
        part = ImageSplit(self.part, indices, self.preparation, self.augmentation, self.workers)
        if "_kept" in self.__dict__:  # decoded already: share, do not decode again
            part.__dict__["_kept"] = self._kept[places]
        return part

    def batches(
        self,
        batch_size: int,
        *,
        generator: Generator | None = None,
        augment: bool = False,
        device: torch.device | str = "cpu",
        share: Callable[[int], slice] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of images, float32 (b, c, h, w) normalised, and labels, int64 (b,).

        Where images are mixed, labels are shares of classes, float32 (b, classes).

        Parameters
        ----------
        generator : a CPU generator; shuffles the images and draws the augmentation.
        augment : vary the images as the split says; needs the generator.
        share : of a batch of n images only share(n) come, the same as without; the others are not
            read, but for one that is mixed with the first.

        Raises
        ------
        DataError : augmentation without a generator; an image that cannot be decoded.
        """
        drawn = self.augmentation if augment else UNCHANGED
        if drawn.steps and generator is None:
            raise DataError(
                f"split {self.part.name} cannot be augmented.\n"
                f"Expected a generator to draw {', '.join(drawn.steps)} from, got None.\n"
                "Pass generator=torch.Generator() to batches."
            )
        chunks = torch.split(self._order(generator), batch_size) if len(self) else ()
        return self._prepared(chunks, drawn, generator, torch.device(device), share or _all)

    def _order(self, generator: Generator | None) -> Tensor:
        """Places of a pass, shuffled by a generator; of blocks few at a time."""
        if generator is None:
            return torch.arange(len(self), device="cpu")
        if self.streams and self.part.blocks is not None:
            return shuffled_by_block(self.indices, self.part.blocks, generator)
        return torch.randperm(len(self), generator=generator, device="cpu")

    def _prepared(
        self,
        chunks: Sequence[Tensor],
        augmentation: Augmentation,
        generator: Generator | None,
        device: torch.device,
        share: Callable[[int], slice],
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if not chunks:
            return
        draws = [Draws()] * len(chunks)
        if generator is not None:
            sizes = [len(chunk) for chunk in chunks]
            draws = augmentation.draw(sizes, self.preparation.size, generator)
        mixes = [step for step in augmentation.steps if step in OF_BATCHES]
        own = [np.arange(len(chunk))[share(len(chunk))] for chunk in chunks]
        jobs = []
        for chunk, drawn, places in zip(chunks, draws, own, strict=True):
            read = _with_one_before(places) if mixes and len(places) < len(chunk) else places
            jobs.append(BatchJob(chunk.numpy()[read], drawn.at(read)))
        mean, std = self.preparation.mean, self.preparation.std
        published = self.preparation.resize is not None
        made = self._loader(len(jobs[0].places), device).made(jobs)
        for job, drawn, places, pixels in zip(jobs, draws, own, made, strict=True):
            there = pixels.to(device, non_blocking=True)
            images = normalise(there, mean, std, as_torchvision=published)
            labels = self.labels[torch.from_numpy(job.places)].to(device)
            if mixes and drawn.seeds is not None:
                number = int(drawn.seeds[0])
                images, labels = mixed(images, labels, number, mixes, augmentation.classes)
            yield images[-len(places) :], labels[-len(places) :]

    def _loader(self, batch_size: int, device: torch.device) -> Loader:
        """What makes batches; its processes are made once."""
        pinned = device.type == "cuda"
        if pinned not in self._loaders:
            read = (
                partial(read_part, self.part, self.indices)
                if self.streams
                else partial(read_kept, self._kept)
            )
            make = BatchMaker(read, self.preparation, self.augmentation)
            workers = self._count_workers(batch_size)
            self._loaders[pinned] = Loader(self.part.name, make, workers, pinned=pinned)
        return self._loaders[pinned]

    def _count_workers(self, batch_size: int) -> int:
        if self.workers is None and not (self.streams or self.augmentation.takes_long):
            return 0
        image = self.preparation.channels * self.preparation.size**2
        return count_workers(self.workers, batch_size * image, len(self) * image)

    @cached_property
    def _kept(self) -> Tensor:
        return read_whole(self.part, self.indices, self.preparation, self.workers)


def _all(count: int) -> slice:
    return slice(count)


def _with_one_before(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """An image is mixed with the one before it in the batch, the first with the last.

    >>> _with_one_before(np.arange(2, 4)), _with_one_before(np.arange(2))
    (array([1, 2, 3]), array([-1,  0,  1]))
    """
    return np.concatenate([places[:1] - 1, places])


@dataclass(frozen=True)
class DataSplits:
    """The four splits of a set; `shape` (c, h, w) is what the model is given."""

    name: str
    classes: int
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    train: ImageSplit
    calibration: ImageSplit
    validation: ImageSplit
    test: ImageSplit
