"""Splits of a set: which images, prepared how, handed out in batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from mipp.data.augment import UNCHANGED, Augmentation, Draws
from mipp.data.batch import normalise
from mipp.data.frame import Frame, Interpolation, framed_pixels
from mipp.data.image_set import Part
from mipp.data.transforms import OF_BATCHES, mixed
from mipp.errors import DataError


@dataclass(frozen=True)
class Preparation:
    """What a model is given: its shape (channels, size, size) and the normalisation."""

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None  # as `mipp.data.frame.Frame` has it, and so is what follows
    interpolation: Interpolation | None = None

    @property
    def frame(self) -> Frame:
        """How images come to the square."""
        return Frame.of(self.size, self.resize, self.interpolation)

    def cropping(self, seeds: Sequence[int]) -> Frame:
        """The same with a random crop of each of as many images."""
        return Frame.of(self.size, self.resize, self.interpolation, seeds)


class ImageSplit:
    """Images `indices` of a part, in that order.

    Images are decoded when first asked for and then kept as uint8, or read batch by batch where
    the part streams.

    Parameters
    ----------
    part : from a loader.
    indices : shape (n,), int64, rows of the part.
    preparation : shape and normalisation of the batches.
    augmentation : for `batches(augment=True)`.
    """

    def __init__(
        self,
        part: Part,
        indices: Tensor,
        preparation: Preparation,
        augmentation: Augmentation = UNCHANGED,
    ) -> None:
        self.part = part
        self.indices = indices
        self.labels = part.labels[indices]
        self.preparation = preparation
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.indices)

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
        part = ImageSplit(self.part, indices, self.preparation, self.augmentation)
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
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of images, float32 (b, c, h, w) normalised, and labels, int64 (b,).

        Where images are mixed, labels are shares of classes, float32 (b, classes).

        Parameters
        ----------
        generator : a CPU generator; shuffles the images and draws the augmentation.
        augment : vary the images as the split says; needs the generator.

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
        n = len(self)
        every = torch.arange(n, device="cpu")
        order = every if generator is None else torch.randperm(n, generator=generator, device="cpu")
        chunks = torch.split(order, batch_size) if n else ()
        return self._prepared(chunks, drawn, generator, torch.device(device))

    def _prepared(
        self,
        chunks: Sequence[Tensor],
        augmentation: Augmentation,
        generator: Generator | None,
        device: torch.device,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        draws = [Draws()] * len(chunks)
        if generator is not None:
            sizes = [len(chunk) for chunk in chunks]
            draws = augmentation.draw(sizes, self.preparation.size, generator)
        frames = [self._frame(augmentation, drawn) for drawn in draws]
        pixels_of = (self._streamed if self.part.streams else self._indexed)(chunks, frames)
        mean, std = self.preparation.mean, self.preparation.std
        published = self.preparation.resize is not None
        mixes = [step for step in augmentation.steps if step in OF_BATCHES]
        for chunk, drawn, pixels in zip(chunks, draws, pixels_of, strict=True):
            varied = augmentation.vary(pixels, drawn, mean).to(device)
            images = normalise(varied, mean, std, as_torchvision=published)
            labels = self.labels[chunk].to(device)
            if mixes and drawn.seeds is not None:
                number = int(drawn.seeds[0])
                images, labels = mixed(images, labels, number, mixes, augmentation.classes)
            yield images, labels

    def _frame(self, augmentation: Augmentation, drawn: Draws) -> Frame:
        """How the images of a batch come to the square."""
        if "resized-crop" not in augmentation.steps or drawn.seeds is None:
            return self.preparation.frame
        return self.preparation.cropping(drawn.seeds.tolist())

    def _indexed(self, chunks: Sequence[Tensor], frames: Sequence[Frame]) -> Iterator[Tensor]:
        for chunk, frame in zip(chunks, frames, strict=True):
            yield self._cropped(self._kept[chunk], frame)

    def _streamed(self, chunks: Sequence[Tensor], frames: Sequence[Frame]) -> Iterator[Tensor]:
        """Pixels of each chunk, read while the caller works on the one before."""

        def read(chunk: Tensor, frame: Frame) -> Tensor:
            if self.part.crops:
                return self.part.read(self.indices[chunk], frame, "")
            whole = self.part.read(self.indices[chunk], self.preparation.frame, "")
            return self._cropped(whole, frame)

        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(read, *at) for at in zip(chunks[:1], frames[:1], strict=True)]
            for following in zip(chunks[1:], frames[1:], strict=True):
                pixels = ahead.pop().result()
                ahead.append(reader.submit(read, *following))
                yield pixels
            yield from (future.result() for future in ahead)

    def _cropped(self, pixels: Tensor, frame: Frame) -> Tensor:
        """Images that are in the square already, with the frame's random crops."""
        return pixels if frame.seeds is None else framed_pixels(pixels, frame)

    @cached_property
    def _kept(self) -> Tensor:
        frame = self.preparation.frame
        return self.part.read(self.indices, frame, f"reading {self.part.name}")


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
