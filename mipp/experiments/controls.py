"""Controls as stages: the `choose`, `prune` and `finetune` of a point that stands beside mipp."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.config import FinetuneConfig, OptimConfig, Params, dump_params
from mipp.device import resolve_device
from mipp.disk.workdir import read_timing
from mipp.selection.controls import random_units, reinitialised
from mipp.stages.context import Context
from mipp.stages.files import load_selection, write_json
from mipp.stages.networks import load_network
from mipp.stages.prune import prune_network
from mipp.stages.splits import load_splits
from mipp.training import train

WIDTHS = "widths"  # in a point's work directory: that of mipp's selection
TIMED_IMAGES = 1024  # of the pass that tells how long an epoch of a small network takes


def choose_random_units(context: Context) -> None:
    """As many units of each group as mipp's selection keeps, drawn at random."""
    chosen = load_selection(context.workdir.folder / WIDTHS)
    selection = random_units(chosen, context.params.seed)
    (context.out / "selection.json").write_text(selection.to_json())
    write_json(context.out / "summary.json", {"near_collapsed_groups": []})


def prune_and_draw_anew(context: Context) -> None:
    """The pruned network with every weight drawn anew."""
    prune_network(context)
    file = context.out / "pruned.safetensors"
    checkpoint = load_network(file, torch.device("cpu"))
    fresh = reinitialised(checkpoint.model, context.params.seed + 1)
    save_checkpoint(file, replace(checkpoint, model=fresh))


def for_equal_compute(workdir: Path, params: Params) -> Params:
    """Parameters that train a small network from scratch for as long as mipp took in all.

    Epochs are those that mipp's network saw, dense training included, and as many more as the
    search's seconds (extract, estimate, choose) would have paid for, rounded. An epoch of the
    small network is timed on `TIMED_IMAGES` of its training images. The schedule is that of
    `train`.
    """
    untrained = params.train.when == "after-pruning"
    search = sum(read_timing(workdir / s)["seconds"] for s in ("extract", "estimate", "choose"))
    seen = params.train.epochs + (0 if untrained else params.finetune.epochs)
    epochs = seen + round(search / _epoch_seconds(workdir, params))
    if untrained:
        return params.model_copy(
            update={"train": params.train.model_copy(update={"epochs": epochs})}
        )
    values = {k: v for k, v in dump_params(params.train).items() if k in OptimConfig.model_fields}
    finetune = FinetuneConfig(**{**values, "epochs": epochs, "start": "pruned"})
    return params.model_copy(update={"finetune": finetune})


def _epoch_seconds(workdir: Path, params: Params) -> float:
    device = resolve_device(params.compute.device)
    checkpoint: Checkpoint = load_network(workdir / "prune/pruned.safetensors", device)
    splits = load_splits(params)
    few = splits.train.first(TIMED_IMAGES)
    config = params.train.model_copy(update={"epochs": 1, "patience": 0})
    next(few.batches(1))  # decoding is no part of an epoch
    started = time.perf_counter()
    train(checkpoint.model, few, few.first(0), config, seed=params.seed, device=device)
    return (time.perf_counter() - started) * len(splits.train) / len(few)
