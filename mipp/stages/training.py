"""Stages `train` and `finetune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.config import OptimConfig, Params
from mipp.data import DataSplits
from mipp.device import resolve_device
from mipp.models import build_model, load_weights
from mipp.stages.inputs import load_network, load_splits, model_spec, read_json, write_json
from mipp.stages.stage import Context
from mipp.training import EpochRecord, train


def train_dense(context: Context) -> None:
    """Train the dense network; hand it on as it is without epochs, or if pruning comes first."""
    params = context.params
    splits = load_splits(params)
    spec = model_spec(params, splits)
    model = build_model(spec, seed=params.seed)
    if params.model.weights:
        load_weights(model, Path(params.model.weights))
    history: Sequence[EpochRecord] = ()
    if params.train.when == "before-pruning":
        history = _train(context, "train", model, splits, params.train)
    _write(context, Checkpoint(model, spec, None, splits.shape), history)


def finetune_pruned(context: Context) -> None:
    """Train the pruned network from the start that `prune` left; see `config_after_pruning`."""
    params = context.params
    device = resolve_device(params.compute.device)
    config = config_after_pruning(params)
    start = starting_point(context.workdir, params.finetune.start)
    checkpoint = load_network(context.workdir / "prune" / f"{start}.safetensors", device)
    splits = load_splits(params)
    history = _train(context, "finetune", checkpoint.model, splits, config)
    write_json(context.out / "start.json", {"start": start})
    _write(context, checkpoint, history)


def config_after_pruning(params: Params) -> OptimConfig:
    """The section that trains the pruned network: `train` if it is pruned untrained."""
    return params.train if params.train.when == "after-pruning" else params.finetune


def epochs_after_pruning(workdir: Path) -> int:
    """Epochs that the pruned network was trained for, whichever section asked for them."""
    return len(read_json(workdir / "finetune/history.json"))


def starting_point(workdir: Path, start: str) -> str:
    """Name of the network of `prune` that fine-tuning starts from.

    The refitted one where it was made, unless `start` is `pruned`; else the recalibrated one, or
    the one that was cut.
    """
    made: dict[str, bool] = read_json(workdir / "prune/networks.json")
    if made["refit"] and start != "pruned":
        return "refit"
    return "recalibrated" if made["recalibrated"] else "pruned"


def _train(
    context: Context, stage: str, model: nn.Module, splits: DataSplits, config: OptimConfig
) -> Sequence[EpochRecord]:
    on_epoch = context.on_epoch
    return train(
        model,
        splits.train,
        splits.validation,
        config,
        seed=context.params.seed,
        device=resolve_device(context.params.compute.device),
        checkpoint=context.workdir / f".{stage}.resume",
        on_epoch=None if on_epoch is None else lambda record: on_epoch(stage, record),
    )


def _write(context: Context, checkpoint: Checkpoint, history: Sequence[EpochRecord]) -> None:
    save_checkpoint(
        context.out / "model.safetensors", replace(checkpoint, model=checkpoint.model.cpu())
    )
    write_json(context.out / "history.json", [asdict(record) for record in history])
