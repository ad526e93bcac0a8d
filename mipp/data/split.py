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

from mipp.data.batch import UNCHANGED, Augmentation, augment_batch, normalise
from mipp.data.crops import drawn_seeds
from mipp.data.frame import Frame, Interpolation, framed_pixels
from mipp.data.image_set import Part
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

        Parameters
        ----------
        generator : a CPU generator; shuffles the images and draws the augmentation.
        augment : crop and flip as the split says; needs the generator.

        Raises
        ------
        DataError : augmentation without a generator; an image that cannot be decoded.
        """
        drawn = self.augmentation if augment else UNCHANGED
        if drawn.name != "none" and generator is None:
            raise DataError(
                f"split {self.part.name} cannot be augmented.\n"
                f"Expected a generator to draw {drawn.name} from, got None.\n"
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
        frames = self._frames(chunks, augmentation, generator)
        pixels_of = (self._streamed if self.part.streams else self._indexed)(chunks, frames)
        for chunk, pixels in zip(chunks, pixels_of, strict=True):
            if generator is not None:
                pixels = augment_batch(pixels, augmentation, generator)
            scale = self.preparation.mean, self.preparation.std
            published = self.preparation.resize is not None
            images = normalise(pixels.to(device), *scale, as_torchvision=published)
            yield images, self.labels[chunk].to(device)

    def _frames(
        self, chunks: Sequence[Tensor], augmentation: Augmentation, generator: Generator | None
    ) -> list[Frame]:
        """How the images of each chunk come to the square: with random crops, drawn before all."""
        if not augmentation.name.startswith("resized-crop"):
            return [self.preparation.frame] * len(chunks)
        return [self.preparation.cropping(drawn_seeds(len(c), generator)) for c in chunks]

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
