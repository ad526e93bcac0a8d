"""The images that several stages read, as the model wants them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mipp.config import Params
from mipp.data import DataSplits, ImageSplit, load_data
from mipp.models import ModelSpec, preferred_input


def load_splits(params: Params) -> DataSplits:
    """The splits in the shape that the model wants."""
    channels, size = preferred_input(params.model.name)
    return load_data(params.data, seed=params.seed, channels=channels, size=size)


def model_spec(params: Params, splits: DataSplits) -> ModelSpec:
    """The recipe of the dense network for these splits."""
    channels, size, _ = splits.shape
    return ModelSpec(params.model.name, splits.classes, channels, size)


def images_of(split: ImageSplit, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """The images of a split without their labels, in its order."""
    for images, _ in split.batches(batch_size, device=device):
        yield images
