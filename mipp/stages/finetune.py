"""Stage `finetune`: the pruned network, trained."""

from __future__ import annotations

from pathlib import Path

from mipp.config import OptimConfig, Params
from mipp.device import resolve_device
from mipp.stages.context import Context
from mipp.stages.files import read_json, write_json
from mipp.stages.networks import load_network
from mipp.stages.splits import load_splits
from mipp.stages.train import train_network, write_trained


def finetune_pruned(context: Context) -> None:
    """Train the pruned network from the start that `prune` left; see `config_after_pruning`."""
    params = context.params
    device = resolve_device(params.compute.device)
    config = config_after_pruning(params)
    start = starting_point(context.workdir.folder, params.finetune.start)
    checkpoint = load_network(context.workdir.folder / "prune" / f"{start}.safetensors", device)
    splits = load_splits(params)
    history = train_network(context, "finetune", checkpoint.model, splits, config)
    write_json(context.out / "start.json", {"start": start})
    write_trained(context, checkpoint, history)


def config_after_pruning(params: Params) -> OptimConfig:
    """The section that trains the pruned network: `train` if it is pruned untrained."""
    return params.train if params.train.when == "after-pruning" else params.finetune


def epochs_after_pruning(workdir: Path) -> int:
    """Epochs that the pruned network was trained for, whichever section asked for them."""
    return len(read_json(workdir / "finetune/history.json"))


def starting_point(workdir: Path, start: str) -> str:
    """Name of the network of `prune` that fine-tuning starts from.

    The distilled or the refitted one where it was made, unless `start` is `pruned`; else the
    recalibrated one, or the one that was cut.
    """
    made: dict[str, bool] = read_json(workdir / "prune/networks.json")
    if made["refit"] and start != "pruned":
        return "distilled" if made["distilled"] else "refit"
    return "recalibrated" if made["recalibrated"] else "pruned"
