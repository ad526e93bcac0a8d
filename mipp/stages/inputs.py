"""What several stages read: the data as the model wants it, and earlier stages' networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mipp.checkpoint import Checkpoint, load_checkpoint
from mipp.config import ExtractConfig, Params
from mipp.data import DataSplits, ImageSplit, load_data
from mipp.graph import ChannelGraph, LayerPair, build_graph
from mipp.graph.pixels import pixel_pairs
from mipp.models import ModelSpec, preferred_input
from mipp.selection.selection import Selection
from mipp.workdir import read_manifest

STORE = Path("extract/activations.zarr")
MOMENTS = Path("extract/moments")  # of pairs whose moments take less room than their rows


def load_splits(params: Params) -> DataSplits:
    """The splits in the shape that the model wants."""
    channels, size = preferred_input(params.model.name)
    return load_data(params.data, seed=params.seed, channels=channels, size=size)


def model_spec(params: Params, splits: DataSplits) -> ModelSpec:
    """The recipe of the dense network for these splits."""
    channels, size, _ = splits.shape
    return ModelSpec(params.model.name, splits.classes, channels, size)


def load_dense(workdir: Path, device: torch.device) -> Checkpoint:
    """The dense network that `train` left, in eval mode."""
    return load_network(workdir / "train/model.safetensors", device)


def load_network(path: Path, device: torch.device) -> Checkpoint:
    """Any network of a stage folder, in eval mode."""
    checkpoint = load_checkpoint(path)
    checkpoint.model.to(device).eval()
    return checkpoint


def trace(checkpoint: Checkpoint, device: torch.device) -> ChannelGraph:
    """Channel graph of a checkpoint's network."""
    return build_graph(checkpoint.model, torch.zeros(1, *checkpoint.shape, device=device))


def pixel_pairs_of(
    checkpoint: Checkpoint, graph: ChannelGraph, device: torch.device
) -> tuple[LayerPair, ...]:
    """Pairs from the images to the first layers of a checkpoint's network."""
    example = torch.zeros(1, *checkpoint.shape, device=device)
    return pixel_pairs(checkpoint.model, graph, example)


def load_selection(workdir: Path) -> Selection:
    """What `choose` decided."""
    return Selection.from_json((workdir / "choose/selection.json").read_text())


def images_of(split: ImageSplit, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """The images of a split without their labels, in its order."""
    for images, _ in split.batches(batch_size, device=device):
        yield images


def write_json(path: Path, value: Any) -> None:
    """Write a value so that equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True))


def read_json(path: Path) -> Any:
    """The value that `write_json` wrote."""
    return json.loads(path.read_text())


def store_fingerprint(workdir: Path, splits: DataSplits, config: ExtractConfig) -> dict[str, str]:
    """What an activation store depends on, by part."""
    return {
        **model_fingerprint(workdir),
        "calibration split": splits.calibration.fingerprint,
        "sampling": f"{config.rows} rows",
        "targets": config.targets,
    }


def model_fingerprint(workdir: Path) -> dict[str, str]:
    """The part of a store's fingerprint that names the dense network."""
    trained = read_manifest(workdir, "train")
    return {"model": trained.digest() if trained else ""}
