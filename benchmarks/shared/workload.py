"""Networks and images that benchmarks measure with."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from mipp.config import DataConfig
from mipp.data import DataSplits, ImageSplit, load_data
from mipp.data.image_set import default_normalisation, part_in_memory
from mipp.data.locate import places
from mipp.data.split import Preparation
from mipp.errors import DataError
from mipp.models import ModelSpec, build_model, load_weights, preferred_input

IMAGES = "cifar10-jpeg"
CHECKPOINTS = {"resnet20": "checkpoints/resnet20-cifar10-jpeg.pt"}
TRAINED = Path(__file__).parents[1] / "checkpoints"  # by `benchmarks.accuracy.checkpoints`
MIB = 2**20


def load_splits(root: str | None, model: str, images: int, seed: int) -> DataSplits:
    """CIFAR-10-JPEG in the shape that the model wants, with `images` for calibration.

    Raises
    ------
    DataError : the set is not there, or has fewer images.
    """
    channels, size = preferred_input(model)
    folder = str(Path(root) / IMAGES) if root else None
    config = DataConfig(name="parquet", root=folder, calibration=images)
    return load_data(config, seed=seed, channels=channels, size=size)


def load_calibration(root: str | None, model: str, images: int, seed: int = 0) -> ImageSplit:
    """Calibration images; random ones, with a note on stderr, where the set is missing."""
    try:
        return load_splits(root, model, images, seed).calibration
    except DataError as error:
        print(f"note: random images, because {str(error).splitlines()[0]}", file=sys.stderr)
    return random_calibration(images, preferred_input(model)[1] or 32, classes=10, seed=seed)


def random_calibration(images: int, size: int, *, classes: int, seed: int = 0) -> ImageSplit:
    """Random colour images with random labels, in memory."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(classes, (images,), generator=generator)
    preparation = Preparation(3, size, *default_normalisation(3))
    return ImageSplit(part_in_memory("random", pixels, labels), torch.arange(images), preparation)


def load_network(root: str | None, name: str, size: int, seed: int = 0) -> nn.Module:
    """Network in eval mode, with the weights of its checkpoint where there is one."""
    model = build_model(ModelSpec(name, classes=10, channels=3, size=size), seed=seed).eval()
    weights = find_checkpoint(root, name)
    if weights is None:
        print(f"note: random weights, no checkpoint of {name} was found", file=sys.stderr)
    else:
        load_weights(model, weights)
    return model


def find_checkpoint(root: str | None, name: str) -> Path | None:
    """Checkpoint of a network, among those trained here or under the data root; None without."""
    files = (place / CHECKPOINTS[name] for place in places(root) if name in CHECKPOINTS)
    every = (TRAINED / f"{name}.safetensors", *files)
    return next((file for file in every if file.is_file()), None)


def example_of(split: ImageSplit) -> Tensor:
    """One blank input of the shape that the split gives."""
    kind = split.preparation
    return torch.zeros(1, kind.channels, kind.size, kind.size)
