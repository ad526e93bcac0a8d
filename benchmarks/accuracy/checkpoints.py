"""Train a network of the accuracy benchmark and keep it: benchmarks/checkpoints/NETWORK-SEED.

All 50,000 training images, cropped and flipped, for a fixed number of epochs; the test images are
looked at once, at the end, with the weights as they are kept (16 bits). A run that is cut short
goes on with the epoch where it stopped. The first ResNet-20 is no work of this command: it is a
published one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.accuracy.workloads import CPU, WORKLOADS, load_images
from benchmarks.shared.command import add_data_root, circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, read_json, write_json
from benchmarks.shared.workload import TRAINED
from mipp.config import TrainConfig, dump_params
from mipp.data import ImageSplit
from mipp.metrics import accuracy, count_macs, count_params
from mipp.models import ModelSpec, build_model, load_weights
from mipp.process.allocator import keep_freed_memory
from mipp.training import EpochRecord, train

FILE = RESULTS / "checkpoints.json"


@dataclass(frozen=True)
class Recipe:
    """The workload whose network and images these are, and how it is trained."""

    workload: str
    training: TrainConfig


RECIPES: Mapping[str, Recipe] = {
    "cct": Recipe(
        "cct",
        TrainConfig(
            epochs=20,
            batch_size=128,
            optimizer="adamw",
            lr=2e-3,
            weight_decay=0.05,
            label_smoothing=0.1,
        ),
    ),
    "mobilenet": Recipe(
        "mobilenet", TrainConfig(epochs=20, batch_size=128, lr=0.1, channels_last=True)
    ),
    "resnet20": Recipe(
        "resnet20",
        TrainConfig(epochs=14, batch_size=128, lr=0.2, precision="bfloat16", channels_last=True),
    ),
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("accuracy.checkpoints", __doc__ or "")
    add_data_root(options)
    options.add_argument("--network", choices=RECIPES, required=True, help="what is trained")
    options.add_argument("--seed", type=int, default=0, help="of the weights and of the training")
    options.add_argument("--epochs", type=int, help="fewer, for a quick trial")
    options.add_argument("--train-images", type=int, help="the first, for a quick trial")
    options.add_argument(
        "--cache", type=Path, default=Path("runs/checkpoints"), help="folder of unfinished ones"
    )
    return parse(options, given, fixed=("epochs", "train_images"))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    recipe = RECIPES[options.network]
    workload, config = WORKLOADS[recipe.workload], recipe.training
    if options.epochs is not None:
        config = config.model_copy(update={"epochs": options.epochs})
    images = load_images(workload, options.data_root, images=1, seed=0)
    images = images.limited(options.train_images, None)
    spec = images.spec(workload.model)
    name = f"{options.network}-{options.seed}"
    model = trained(spec, config, images.training, options.seed, options.cache / f"{name}.resume")
    made = {"command": options.command, "training": dump_params(config)}
    folder = TRAINED if options.write else options.cache
    kept = keep(folder / f"{name}.safetensors", model, spec, images.test, made)
    print(json.dumps(kept, indent=1))
    made |= {"measured": circumstances(options)}
    if options.write:
        before = read_json(FILE) if FILE.exists() else {}
        write_json(FILE, before | {name: kept | made})


def trained(
    spec: ModelSpec, config: TrainConfig, images: ImageSplit, seed: int, resume: Path
) -> nn.Module:
    """The trained network in eval mode, its unfinished state in the file `resume`."""
    resume.parent.mkdir(parents=True, exist_ok=True)
    # a third faster on the CPU
    model = build_model(spec, seed=seed).to(memory_format=torch.channels_last)

    def tell(record: EpochRecord) -> None:
        print(f"epoch {record.epoch}: {100 * record.train_accuracy:.2f} % of training", flush=True)

    train(
        model,
        images,
        images.first(0),
        config,
        seed=seed,
        device=CPU,
        checkpoint=resume,
        on_epoch=tell,
    )
    return model.to(memory_format=torch.contiguous_format)


def keep(
    file: Path, model: nn.Module, spec: ModelSpec, test: ImageSplit, made: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the weights in 16 bits, and say what they are worth when they are read back.

    The file's metadata hold the same, so that it can be told apart from any other.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    save_file(halves, file)
    load_weights(model, file)
    kept = {
        "model": spec.name,
        "accuracy": round(100 * accuracy(model, test, batch_size=500, device=CPU), 2),
        "test_images": len(test),
        "params": count_params(model),
        "macs": count_macs(model, (spec.channels, spec.size, spec.size)),
    }
    save_file(halves, file, {name: str(value) for name, value in (kept | made).items()})
    return kept


if __name__ == "__main__":
    main()
