"""The images that several stages read, as the model wants them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cached_property

import torch
from torch import Tensor

from mipp.config import DataConfig, Params
from mipp.data import DataSplits, ImageSplit, load_data
from mipp.models import ModelSpec, images_of_weights, preferred_input

AT_ONCE = 2**25  # bytes of the images of one pass; what a network makes of them is tens of times it


def load_splits(params: Params) -> DataSplits:
    """The splits in the shape that the model wants."""
    channels, size = preferred_input(params.model.name)
    data = as_weights_want(params.data, params.model.name)
    return load_data(data, seed=params.seed, channels=channels, size=size)


def as_weights_want(data: DataConfig, model: str) -> DataConfig:
    """The section `data` with what the network's published weights say of images filled in."""
    prepare, _, weights = data.prepare.partition(":")
    if prepare != "weights":
        return data
    published = images_of_weights(model, weights)
    if data.size is not None:
        published = published.at(data.size)
    wanted = asdict(published).items()
    return data.model_copy(update={k: v for k, v in wanted if getattr(data, k) is None})


def model_spec(params: Params, splits: DataSplits) -> ModelSpec:
    """The recipe of the dense network for these splits."""
    channels, size, _ = splits.shape
    return ModelSpec(params.model.name, splits.classes, channels, size)


def at_once(batch_size: int, shape: tuple[int, ...]) -> int:
    """Images of one pass: as many as asked for, but of large ones fewer.

    Parameters
    ----------
    shape : of one image, (c, h, w).

    >>> at_once(256, (3, 32, 32)), at_once(256, (3, 224, 224)), at_once(256, (3, 9000, 9000))
    (256, 55, 1)
    """
    return max(1, min(batch_size, AT_ONCE // (4 * math.prod(shape))))


def images_of(split: ImageSplit, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """The images of a split without their labels, in its order."""
    for images, _ in split.batches(batch_size, device=device):
        yield images


class SplitCalibration:
    """A split's images as the core takes them: read anew for every pass, never held.

    Parameters
    ----------
    load : gives the split when it is first needed.
    shape : of one image, (c, h, w).
    batch_size : of images that are not large.
    """

    def __init__(
        self,
        load: Callable[[], ImageSplit],
        shape: tuple[int, ...],
        batch_size: int,
        device: torch.device,
    ) -> None:
        self._load, self._shape, self._device = load, shape, device
        self._size = at_once(batch_size, shape)

    @cached_property
    def _split(self) -> ImageSplit:
        return self._load()

    def count(self) -> int:
        return len(self._split)

    def example(self) -> Tensor:
        return torch.zeros(1, *self._shape, device=self._device)

    def labelled(self) -> Iterable[tuple[Tensor, Tensor]]:
        return self._split.batches(self._size, device=self._device)

    def inputs(self) -> Iterator[Tensor]:
        return images_of(self._split, self._size, self._device)
