"""The networks of the accuracy benchmark: their images, and the dense network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.shared.workload import IMAGES, find_checkpoint
from mipp.config import DataConfig, TrainConfig, dump_params
from mipp.data import ImageSplit, load_data
from mipp.disk.manifest import fingerprint
from mipp.errors import DataError
from mipp.models import ModelSpec, build_model, load_weights, preferred_input
from mipp.training import train

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workload:
    """A network, its images, how it is pruned, and how its dense form is come by."""

    model: str
    data: str  # data.name
    augment: str  # of all training
    budgets: tuple[str, ...]
    rival_layers: tuple[str, ...]  # patterns of the layers whose outputs Torch-Pruning prunes
    training: TrainConfig | None  # None: from a checkpoint
    checkpoint: str | None = None  # of benchmarks/checkpoints; None: beside the data


SHARES = ("macs:0.5", "macs:0.3")
RATIOS = ("ratio:0.5", "ratio:0.8", "ratio:0.9", "ratio:0.95")
WORKLOADS: Mapping[str, Workload] = {
    "resnet20": Workload("resnet20", "parquet", "crop-flip", SHARES, ("layer*.conv1",), None),
    "resnet20-second": Workload(
        "resnet20", "parquet", "crop-flip", SHARES, ("layer*.conv1",), None, "resnet20-1"
    ),
    "cct": Workload(
        "benchmarks.accuracy.networks:compact_transformer",
        "parquet",
        "crop-flip",
        SHARES,
        ("stem.*", "blocks.*"),
        None,
        "cct-0",
    ),
    "mobilenet": Workload(
        "benchmarks.accuracy.networks:mobilenet",
        "parquet",
        "crop-flip",
        ("macs:0.6", "macs:0.4"),
        ("features.*",),
        None,
        "mobilenet-0",
    ),
    "lenet5": Workload(
        "lenet5",
        "mnist",
        "none",
        RATIOS,
        ("conv1", "conv2", "fc1", "fc2"),
        TrainConfig(epochs=10, batch_size=128),
    ),
    "vgg11-bn": Workload(
        "vgg11",
        "parquet",
        "crop-flip",
        SHARES,
        ("features.*",),
        TrainConfig(epochs=4, batch_size=128, lr=0.05),
    ),
}


@dataclass(frozen=True)
class Images:
    """What is pruned with, trained on and tested on."""

    calibration: ImageSplit
    training: ImageSplit
    test: ImageSplit
    classes: int

    def limited(self, training: int | None, test: int | None) -> Images:
        """The same calibration images, and the first ones for training and for the test."""
        return replace(
            self,
            training=self.training if training is None else self.training.first(training),
            test=self.test if test is None else self.test.first(test),
        )

    def spec(self, model: str) -> ModelSpec:
        kind = self.test.preparation
        return ModelSpec(model, self.classes, kind.channels, kind.size)


def load_images(workload: Workload, root: str | None, images: int, seed: int) -> Images:
    """Calibration images as the pipeline draws them; training has the validation images too.

    Raises
    ------
    DataError : the set is not there, or has fewer images.
    """
    channels, size = preferred_input(workload.model)
    folder = str(Path(root) / IMAGES) if root and workload.data == "parquet" else root
    config = DataConfig(
        name=workload.data, root=folder, calibration=images, augment=workload.augment
    )
    splits = load_data(config, seed=seed, channels=channels, size=size)
    train = splits.train
    every = torch.cat([splits.validation.indices, train.indices])
    training = ImageSplit(train.part, every, train.preparation, train.augmentation)
    return Images(splits.calibration, training, splits.test, splits.classes)


def dense_network(workload: Workload, images: Images, root: str | None, cache: Path) -> nn.Module:
    """The dense network in eval mode: from its checkpoint, from the cache, or trained into it.

    Raises
    ------
    DataError : the network is not trained here and its checkpoint is not there.
    """
    model = build_model(images.spec(workload.model), seed=0).eval()
    if workload.training is None:
        checkpoint = find_checkpoint(root, workload.checkpoint or workload.model)
        if checkpoint is None:
            raise DataError(
                f"no checkpoint of {workload.model} was found; give --data-root, set MIPP_DATA, "
                "or train it by `python -m benchmarks.accuracy.checkpoints`."
            )
        load_weights(model, checkpoint)
        return model
    file = cache / f"{workload.model}-{_digest(workload, images)[:12]}.safetensors"
    if not file.exists():
        _train_into(file, model, workload.training, images)
    load_weights(model, file)
    return model


def _digest(workload: Workload, images: Images) -> str:
    """Of all that the trained weights depend on."""
    assert workload.training is not None
    recipe = dump_params(workload.training)
    return fingerprint([workload.model, workload.augment, recipe, images.training.fingerprint])


def _train_into(file: Path, model: nn.Module, config: TrainConfig, images: Images) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    training = images.training
    train(
        model,
        training,
        training.first(0),
        config,
        seed=0,
        device=CPU,
        checkpoint=file.with_suffix(".resume"),
        on_epoch=lambda record: print(f"dense, {record}", flush=True),
    )
    save_file(model.state_dict(), file)
