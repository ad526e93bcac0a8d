"""Stage `prune`: surgery, then recalibration and refit as separate networks, no training."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, replace

import torch
from torch import Tensor

from mipp.activations import Sampling
from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.config import PruneConfig
from mipp.cut import apply_selection
from mipp.data import ImageSplit
from mipp.device import resolve_device
from mipp.refit import RefitSettings, rebase, recalibrate, refit
from mipp.stages.context import Context
from mipp.stages.files import load_selection, write_json
from mipp.stages.networks import load_dense, trace
from mipp.stages.splits import images_of, load_splits


def prune_network(context: Context) -> None:
    """Write `pruned`, and where asked for `recalibrated` and `refit`, with a list of them.

    A network that is trained after pruning is not repaired, whatever is asked for. Both repairs
    restore what the dense network computed: before training that is a random function, worth
    nothing, and a refit would spoil the initialisation that training is to start from.
    """
    params = context.params
    untrained = params.train.when == "after-pruning"
    made = {
        "recalibrated": params.prune.recalibrate and not untrained,
        "refit": params.prune.refit and not untrained,
    }
    device = resolve_device(params.compute.device)
    dense = load_dense(context.workdir, device)
    selection = load_selection(context.workdir)
    example = torch.zeros(1, *dense.shape, device=device)
    pruned = replace(
        dense, model=apply_selection(dense.model, selection, example), selection=selection
    )
    _save(context, "pruned", pruned)
    split = load_splits(params).calibration
    if made["recalibrated"]:
        model = copy.deepcopy(pruned.model)
        recalibrate(model, images_of(split, params.prune.batch_size, device))
        _save(context, "recalibrated", replace(pruned, model=model))
    if made["refit"]:
        _refit(context, dense, pruned, split.first(params.prune.images))
    write_json(context.out / "networks.json", made)


def _refit(context: Context, dense: Checkpoint, pruned: Checkpoint, split: ImageSplit) -> None:
    params = context.params
    device = resolve_device(params.compute.device)
    graph = trace(dense, device)
    assert pruned.selection is not None

    def batches() -> Iterable[Tensor]:
        return images_of(split, params.prune.batch_size, device)

    fits = refit(
        pruned.model,
        dense.model,
        graph,
        pruned.selection,
        batches,
        _settings(params.prune, len(split), params.seed),
    )
    rebase(pruned.model, batches())
    write_json(context.out / "fits.json", [asdict(fit) for fit in fits])
    _save(context, "refit", pruned)


def _settings(config: PruneConfig, images: int, seed: int) -> RefitSettings:
    return RefitSettings(config.ridge, Sampling(config.rows, images, seed))


def _save(context: Context, name: str, checkpoint: Checkpoint) -> None:
    save_checkpoint(context.out / f"{name}.safetensors", checkpoint)
