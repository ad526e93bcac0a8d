"""Stage `prune`: the cut, then each repair as a network of its own; no labels are seen."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace

import torch
from torch import nn

from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.config import Params, PruneConfig
from mipp.cut import apply_selection
from mipp.data import ImageSplit
from mipp.device import resolve_device
from mipp.distill import is_held_out
from mipp.pruning.repair import Cut, Mended, mend
from mipp.selection.selection import Selection
from mipp.settings import Distill, Recalibrate, Refit, Repair
from mipp.stages.context import Context
from mipp.stages.files import load_selection, write_json
from mipp.stages.networks import load_narrow, trace
from mipp.stages.splits import SplitCalibration, load_splits


def prune_network(context: Context) -> None:
    """Write `pruned`, and where asked for `recalibrated`, `refit`, `distilled`, and which they are.

    Distillation goes on from the refit, which then has not seen the images that it is judged by.
    A network that is trained after pruning is not repaired, whatever is asked for. All repairs
    restore what the dense network computed: before training that is a random function, worth
    nothing, and a refit would spoil the initialisation that training is to start from.
    """
    params = context.params
    untrained = params.train.when == "after-pruning"
    made = {
        "recalibrated": params.prune.recalibrate and not untrained,
        "refit": params.prune.refit and not untrained,
    }
    made["distilled"] = made["refit"] and params.prune.repair == "distill"
    device = resolve_device(params.compute.device)
    dense = load_narrow(context.workdir.folder, device)
    selection = load_selection(context.workdir.folder)
    example = torch.zeros(1, *dense.shape, device=device)
    pruned = replace(
        dense, model=apply_selection(dense.model, selection, example), selection=selection
    )
    _save(context, "pruned", pruned)
    split = load_splits(params).calibration
    if made["recalibrated"]:
        model = copy.deepcopy(pruned.model)
        _mend(params, replace(pruned, model=model), dense, Recalibrate(), split)
        _save(context, "recalibrated", replace(pruned, model=model))
    images = split.first(params.prune.images)
    if made["refit"]:
        seen = _learned(images) if made["distilled"] else images
        fits = _mend(params, pruned, dense, _refit(params.prune), seen).fits
        write_json(context.out / "fits.json", [asdict(fit) for fit in fits])
        _save(context, "refit", pruned)
    if made["distilled"]:
        distill = replace(_distill(params.prune), refit=None)
        done = _mend(params, pruned, dense, distill, images).distilled
        assert done is not None
        write_json(context.out / "distilled.json", asdict(done))
        _save(context, "distilled", pruned)
    write_json(context.out / "networks.json", made)


def repaired(
    params: Params, dense: Checkpoint, selection: Selection, split: ImageSplit
) -> nn.Module:
    """The network that this stage would leave of a selection, with the last repair asked for."""
    example = torch.zeros(1, *dense.shape, device=resolve_device(params.compute.device))
    model = apply_selection(dense.model, selection, example)
    pruned = replace(dense, model=model, selection=selection)
    if params.prune.refit:
        last = _distill if params.prune.repair == "distill" else _refit
        _mend(params, pruned, dense, last(params.prune), split.first(params.prune.images))
    elif params.prune.recalibrate:
        _mend(params, pruned, dense, Recalibrate(), split)
    return pruned.model


def _learned(images: ImageSplit) -> ImageSplit:
    """Those that a distillation is not judged by: what it goes on from has not seen them either."""
    return images.at([i for i in range(len(images)) if not is_held_out(i)] or [0])


def _refit(config: PruneConfig) -> Refit:
    return Refit(config.ridge, config.rows)


def _distill(config: PruneConfig) -> Distill:
    return Distill(_refit(config), steps=config.steps, views=config.views)


def _mend(
    params: Params, pruned: Checkpoint, dense: Checkpoint, repair: Repair, split: ImageSplit
) -> Mended:
    """Repair a network in place on the images of a split."""
    device = resolve_device(params.compute.device)
    assert pruned.selection is not None
    cut = Cut(pruned.model, dense.model, trace(dense, device), pruned.selection)
    images = SplitCalibration(lambda: split, dense.shape, params.prune.batch_size, device)
    return mend(cut, repair, images, params.seed)


def _save(context: Context, name: str, checkpoint: Checkpoint) -> None:
    save_checkpoint(context.out / f"{name}.safetensors", checkpoint)
