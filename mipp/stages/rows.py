"""Activation rows of some or all calibration batches, as they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from mipp.activations import Sampling, capture_rows
from mipp.activations.capture import Rows
from mipp.config import ExtractConfig, Params
from mipp.data import DataSplits
from mipp.device import resolve_device
from mipp.graph import LayerPair
from mipp.progress import track
from mipp.stages.networks import load_narrow, pixel_pairs_of, trace
from mipp.stages.splits import at_once, images_of, load_splits


@dataclass(frozen=True)
class Calibration:
    """The dense network, the layer pairs that are read, and the images that it is run on."""

    model: nn.Module
    pairs: tuple[LayerPair, ...]
    splits: DataSplits
    sampling: Sampling
    config: ExtractConfig
    device: torch.device

    @property
    def images(self) -> int:
        """How many calibration images there are."""
        return len(self.splits.calibration)

    @property
    def batches(self) -> int:
        """How many batches they make."""
        return count_batches(self.config, self.splits)

    def counts(self) -> dict[str, int]:
        """Rows that each pair has over all images."""
        per_image = self.sampling.per_image
        return {pair.name: self.images * per_image(pair.positions) for pair in self.pairs}


def load_calibration(workdir: Path, params: Params) -> Calibration:
    """What `train` left and the parameters ask for, on the device."""
    device = resolve_device(params.compute.device)
    splits = load_splits(params)
    checkpoint = load_narrow(workdir, device)
    graph = trace(checkpoint, device)
    pairs = graph.pairs
    if params.extract.inputs == "pixels":
        pairs = (*pairs, *pixel_pairs_of(checkpoint, graph, device))
    sampling = Sampling(params.extract.rows, len(splits.calibration), params.seed)
    return Calibration(checkpoint.model, pairs, splits, sampling, params.extract, device)


def count_batches(config: ExtractConfig, splits: DataSplits) -> int:
    """Batches that the calibration images make."""
    return -(-len(splits.calibration) // at_once(config.batch_size, splits.shape))


def calibration_rows(found: Calibration, batches: range) -> Iterator[Rows]:
    """Rows of these batches; who asks for all at once gets the same for each of them."""
    size = at_once(found.config.batch_size, found.splits.shape)
    first = batches.start * size
    split = found.splits.calibration.between(first, batches.stop * size)
    images = images_of(split, size, found.device)
    return capture_rows(
        found.model,
        found.pairs,
        track(images, total=len(batches), label="extract"),
        replace(found.sampling, first=first),
    )
