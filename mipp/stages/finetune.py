"""Stage `finetune`: the pruned network, trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from mipp.budget import Budget
from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.config import OptimConfig, Params
from mipp.data import DataSplits
from mipp.device import resolve_device
from mipp.distill.matched import kept_features
from mipp.errors import ConfigError
from mipp.metrics import accuracy, count_macs, count_params
from mipp.process.ranks import Ranks
from mipp.stages.context import Context
from mipp.stages.files import read_json, write_json
from mipp.stages.networks import load_dense, load_narrow, load_network, trace
from mipp.stages.parts import Parts
from mipp.stages.rounds import budgets_of, epochs_of, next_round
from mipp.stages.splits import at_once, load_splits
from mipp.stages.train import train_network, write_trained
from mipp.training import EpochRecord, Teacher

PREFERRED = ("distilled", "refit", "recalibrated", "pruned")


def finetune_pruned(context: Context) -> None:
    """Train the pruned network from the start that `prune` left; see `config_after_pruning`."""
    params = context.params
    device = resolve_device(params.compute.device)
    splits = load_splits(params)
    start, told = _start(context, splits, device)
    checkpoint = _made(context, start, device)
    if params.finetune.rounds > 1 and params.finetune.epochs:
        checkpoint, history = _by_rounds(context, splits, checkpoint, device)
    else:
        history = _trained(context, splits, config_after_pruning(params), checkpoint, device)
    write_json(context.out / "start.json", {"start": start, **told})
    write_trained(context, checkpoint, history)


def _trained(
    context: Context,
    splits: DataSplits,
    config: OptimConfig,
    checkpoint: Checkpoint,
    device: torch.device,
    done: int = 0,
) -> list[EpochRecord]:
    """Epochs of a network that is trained in place, counted on from those done before."""
    taught = config is not context.params.train and config.epochs > 0
    teacher = _teacher(context, checkpoint, device) if taught else None
    return train_network(context, "finetune", checkpoint.model, splits, config, teacher, done)


def _by_rounds(
    context: Context, splits: DataSplits, checkpoint: Checkpoint, device: torch.device
) -> tuple[Checkpoint, list[EpochRecord]]:
    """Train; then prune on, and train again, until the budget is met.

    What a round begins with is kept aside until the stage is complete: one that is killed goes on
    from there.
    """
    params, parts = context.params, Parts(context.workdir, "finetune", context.key)
    budgets = budgets_of(params)
    epochs = epochs_of(params.finetune.epochs, len(budgets))
    history: list[EpochRecord] = []
    table: list[dict[str, object]] = []
    dense = load_dense(context.workdir.folder, device)
    first = max((i for i in range(1, len(budgets)) if parts.find(f"{i}.json")), default=0)
    for number in range(first, len(budgets)):
        if number:
            if Ranks.here().rank == 0 and parts.find(f"{number}.json") is None:
                cut = next_round(params, dense, checkpoint, budgets[number])
                with parts.making(f"{number}.safetensors") as file:
                    save_checkpoint(file, cut)
                with parts.making(f"{number}.json") as file:
                    write_json(file, {"history": [asdict(r) for r in history], "rounds": table})
            Ranks.here().told(None)  # the others wait for what it has made
            checkpoint, history, table = _begun(parts, number, device)
        config = params.finetune.model_copy(update={"epochs": epochs[number]})
        history += _trained(context, splits, config, checkpoint, device, len(history))
        table.append(_row(budgets[number], epochs[number], dense, checkpoint, history[-1]))
    write_json(context.out / "rounds.json", table)
    assert checkpoint.selection is not None
    (context.out / "selection.json").write_text(checkpoint.selection.to_json())
    if Ranks.here().rank == 0:
        parts.forget()
    return checkpoint, history


def _begun(
    parts: Parts, number: int, device: torch.device
) -> tuple[Checkpoint, list[EpochRecord], list[dict[str, object]]]:
    """What a round begins with: its network, and epochs and rounds before it."""
    network, told = parts.find(f"{number}.safetensors"), parts.find(f"{number}.json")
    assert network is not None
    assert told is not None
    before = read_json(told)
    history = [EpochRecord(**record) for record in before["history"]]
    return load_network(network, device), history, before["rounds"]


def _row(
    budget: Budget, epochs: int, dense: Checkpoint, made: Checkpoint, last: EpochRecord
) -> dict[str, object]:
    assert made.selection is not None
    return {
        "budget": str(budget),
        "epochs": epochs,
        "units_removed": made.selection.units_removed(),
        "macs": count_macs(made.model, made.shape) / count_macs(dense.model, dense.shape),
        "params": count_params(made.model) / count_params(dense.model),
        "validation_accuracy": last.validation_accuracy,
    }


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


def _teacher(context: Context, taught: Checkpoint, device: torch.device) -> Teacher | None:
    """The dense network, where its answers or features count."""
    config = context.params.finetune
    if not (config.distill or config.features):
        return None
    dense = load_narrow(context.workdir.folder, device)
    layers = {}
    if config.features:
        assert taught.selection is not None
        layers = dict(kept_features(dense.model, trace(dense, device), taught.selection))
    return Teacher(dense.model, config.distill, config.temperature, config.features, layers)
