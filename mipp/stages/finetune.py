"""Stage `finetune`: the pruned network, trained."""

from __future__ import annotations

from pathlib import Path

import torch

from mipp.checkpoint import Checkpoint
from mipp.config import OptimConfig, Params
from mipp.data import DataSplits
from mipp.device import resolve_device
from mipp.distill.matched import kept_features
from mipp.errors import ConfigError
from mipp.metrics import accuracy
from mipp.stages.context import Context
from mipp.stages.files import load_selection, read_json, write_json
from mipp.stages.networks import load_dense, load_network, trace
from mipp.stages.splits import at_once, load_splits
from mipp.stages.train import train_network, write_trained
from mipp.training import Teacher

PREFERRED = ("distilled", "refit", "recalibrated", "pruned")


def finetune_pruned(context: Context) -> None:
    """Train the pruned network from the start that `prune` left; see `config_after_pruning`."""
    params = context.params
    device = resolve_device(params.compute.device)
    config = config_after_pruning(params)
    splits = load_splits(params)
    start, told = _start(context, splits, device)
    checkpoint = _made(context, start, device)
    teacher = _teacher(context, device) if config is params.finetune and config.epochs else None
    history = train_network(context, "finetune", checkpoint.model, splits, config, teacher)
    write_json(context.out / "start.json", {"start": start, **told})
    write_trained(context, checkpoint, history)


def config_after_pruning(params: Params) -> OptimConfig:
    """The section that trains the pruned network: `train` if it is pruned untrained."""
    return params.train if params.train.when == "after-pruning" else params.finetune


def epochs_after_pruning(workdir: Path) -> int:
    """Epochs that the pruned network was trained for, whichever section asked for them."""
    return len(read_json(workdir / "finetune/history.json"))


def require_start(params: Params, splits: DataSplits) -> None:
    """Refuse to choose a start without images to choose it by.

    Raises
    ------
    ConfigError : `finetune.start` is `best`, and there is no validation split.
    """
    if params.finetune.start == "best" and len(splits.validation) == 0:
        raise ConfigError(
            "finetune.start=best needs a validation split.\nExpected at least 1 validation image, "
            "got 0; raise data.validation above 0, or set finetune.start=refit."
        )


def starting_point(workdir: Path, start: str) -> str:
    """Name of the network of `prune` that fine-tuning starts from.

    The distilled or the refitted one where it was made, unless `start` is `pruned`; else the
    recalibrated one, or the one that was cut.
    """
    made = _names_made(workdir)
    if start == "pruned":
        made = [name for name in made if name in ("recalibrated", "pruned")]
    return made[0]


def _start(
    context: Context, splits: DataSplits, device: torch.device
) -> tuple[str, dict[str, dict[str, float]]]:
    """That network's name, and where the best is asked for the accuracies that chose it."""
    params, folder = context.params, context.workdir.folder
    if params.finetune.start != "best":
        return starting_point(folder, params.finetune.start), {}
    require_start(params, splits)
    size = at_once(params.finetune.batch_size, splits.shape)
    found = {
        name: accuracy(
            _made(context, name, device).model, splits.validation, batch_size=size, device=device
        )
        for name in _names_made(folder)
    }
    return max(found, key=lambda name: found[name]), {"validation_accuracy": found}


def _names_made(workdir: Path) -> list[str]:
    """Networks that `prune` made, those that were repaired most first."""
    made: dict[str, bool] = {**read_json(workdir / "prune/networks.json"), "pruned": True}
    return [name for name in PREFERRED if made[name]]


def _made(context: Context, name: str, device: torch.device) -> Checkpoint:
    return load_network(context.workdir.folder / "prune" / f"{name}.safetensors", device)


def _teacher(context: Context, device: torch.device) -> Teacher | None:
    """The dense network, where its answers or features count."""
    config = context.params.finetune
    if not (config.distill or config.features):
        return None
    dense = load_dense(context.workdir.folder, device)
    layers = {}
    if config.features:
        selection = load_selection(context.workdir.folder)
        layers = dict(kept_features(dense.model, trace(dense, device), selection))
    return Teacher(dense.model, config.distill, config.temperature, config.features, layers)
