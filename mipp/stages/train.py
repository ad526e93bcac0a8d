"""Stage `train`: the dense network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.config import OptimConfig, Params
from mipp.data import DataSplits
from mipp.device import resolve_device
from mipp.graph import with_projections
from mipp.models import ModelSpec, build_model, load_weights
from mipp.narrowing import narrowed, sizes_of_heads
from mipp.selection.head_sizes import KEY, written
from mipp.selection.selection import Selection
from mipp.stages.context import Context
from mipp.stages.files import write_json
from mipp.stages.networks import NARROW
from mipp.stages.splits import SplitCalibration, load_splits, model_spec
from mipp.training import EpochRecord, Regulariser, Slimming, Teacher, train

BATCH = 64  # calibration images at once


def train_dense(context: Context) -> None:
    """Train the dense network; hand it on as it is without epochs, or if pruning comes first."""
    params = context.params
    splits = load_splits(params)
    spec = model_spec(params, splits)
    model = initial_network(params, spec)
    history: Sequence[EpochRecord] = ()
    if params.train.when == "before-pruning":
        rule = slimming_of(params, model)
        history = train_network(context, "train", model, splits, params.train, regulariser=rule)
    dense = Checkpoint(model, spec, None, splits.shape)
    if params.train.when == "before-pruning":
        _write_narrow(context, dense, splits)
    write_trained(context, dense, history)


def _write_narrow(context: Context, dense: Checkpoint, splits: DataSplits) -> None:
    """The network with narrower heads, where it has attentions whose heads can be."""
    config, device = context.params.model, resolve_device(context.params.compute.device)
    model = dense.model.to(device).eval()
    images = SplitCalibration(lambda: splits.calibration, splits.shape, BATCH, device)
    projected = with_projections(model, images.example())
    narrow = narrowed(projected, images.inputs(), config.narrow_heads)
    if narrow is not projected:
        sizes = written(sizes_of_heads(narrow, projected))
        heads = Selection({}, {}, "narrow", {KEY: sizes})
        made = replace(dense, model=narrow.cpu(), selection=heads)
        save_checkpoint(context.out / NARROW.name, made)


def initial_network(params: Params, spec: ModelSpec) -> nn.Module:
    """The network that training begins with: of the seed, or of given weights."""
    model = build_model(spec, seed=params.seed)
    if params.model.weights:
        load_weights(model, Path(params.model.weights))
    return model


def slimming_of(params: Params, model: nn.Module) -> Slimming | None:
    """The penalty that `train.slimming` asks for, if any."""
    strength = params.train.slimming
    return Slimming(strength, model) if strength and params.train.epochs else None


def epochs_before_pruning(params: Params) -> int:
    """Epochs that the dense network is trained for."""
    return params.train.epochs if params.train.when == "before-pruning" else 0


def train_network(
    context: Context,
    stage: str,
    model: nn.Module,
    splits: DataSplits,
    config: OptimConfig,
    teacher: Teacher | None = None,
    done: int = 0,
    regulariser: Regulariser | None = None,
) -> list[EpochRecord]:
    """Train a stage's network; goes on where a killed stage stopped.

    Parameters
    ----------
    done : epochs before these, from which they are counted on.
    regulariser : what is added to the loss, if given.
    """

    def counted(record: EpochRecord) -> EpochRecord:
        return replace(record, epoch=done + record.epoch)

    on_epoch = context.on_epoch
    history = train(
        model,
        splits.train,
        splits.validation,
        config,
        seed=context.params.seed,
        device=resolve_device(context.params.compute.device),
        checkpoint=context.workdir.folder / f".{stage}.resume",
        on_epoch=None if on_epoch is None else lambda record: on_epoch(stage, counted(record)),
        teacher=teacher,
        regulariser=regulariser,
        strategy=context.params.compute.strategy,
    )
    return [counted(record) for record in history]


def write_trained(context: Context, checkpoint: Checkpoint, history: Sequence[EpochRecord]) -> None:
    """Write a trained network and its history into the stage's folder."""
    save_checkpoint(
        context.out / "model.safetensors", replace(checkpoint, model=checkpoint.model.cpu())
    )
    write_json(context.out / "history.json", [asdict(record) for record in history])
