"""Everything that can be refused before compute starts, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mipp.activations import Sampling
from mipp.budget import Budget
from mipp.config import WRITTEN, OptimConfig, Params, TrainConfig
from mipp.device import require_devices, resolve_device
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest, require_room, require_writable
from mipp.errors import BudgetError, ConfigError, as_written
from mipp.export.formats import require_exportable
from mipp.graph import ChannelGraph, build_graph
from mipp.information.gaussian.folds import LEAST
from mipp.latency import Clock, require_time
from mipp.layers.heads import Attention
from mipp.models import build_model, load_weights
from mipp.narrowing import wide_attentions, with_narrowest_heads
from mipp.process.ranks import is_launched
from mipp.pruning.drop import require_tellable
from mipp.pruning.heads import require_not_named, times_wider
from mipp.pruning.needs import Size, needs_of_search, require_memory, sizes_of, stored_bytes
from mipp.pruning.ranking import require_plannable
from mipp.selection.limits import floors_of
from mipp.selection.spending import check_reachable
from mipp.settings import MIPP, Gaussian, Mipp
from mipp.stages.finetune import config_after_pruning, require_start
from mipp.stages.rounds import budgets_of
from mipp.stages.shards import require_shards
from mipp.stages.splits import at_once, load_splits, model_spec
from mipp.stages.values import limits_of, method_of
from mipp.training import require_trainable, require_undivided


@as_written(WRITTEN)
def preflight(workdir: Workdir, params: Params) -> None:
    """Refuse what would fail later: names, packages, device, data, weights, budget, folder.

    Raises
    ------
    InputError : the first thing that does not fit; a subclass says which kind.
    """
    device = resolve_device(params.compute.device)
    elsewhere = is_launched() or params.compute.runner == "ray"
    if not elsewhere:  # on machines that each have some of them
        require_devices(params.compute.device, params.compute.devices)
    _require_trials(params)
    budgets_of(params)
    for budget in _plain_budgets(params):
        require_plannable(method_of(params), budget)
    require_exportable(params.evaluate.export)
    splits = load_splits(params)
    asked = params.choose
    if asked.budget.is_searched:
        require_tellable(len(splits.validation), asked.budget.value, asked.drop_confidence)
    model = build_model(model_spec(params, splits), seed=params.seed)
    if params.model.weights:
        load_weights(model, Path(params.model.weights))
    example = torch.zeros(1, *splits.shape, device="cpu")
    graph = build_graph(model, example)
    narrower = _narrower(params, model, example)
    _require_epochs(params.train)
    for config in (params.train, config_after_pruning(params)):
        if config.epochs:
            require_trainable(config, splits.train, splits.validation, device)
            _require_undivided(config, params)
    require_start(params, splits)
    _require_rows(params, graph)
    batch = at_once(params.extract.batch_size, splits.shape)
    sizes = _require_memory(params, model, graph, batch, device)
    if read_manifest(workdir.folder / "extract") is None:
        require_room(workdir.folder, stored_bytes(sizes), "the activation store")
    require_shards(params.extract, splits)
    model = model.to(device)
    clock = Clock(model, splits.shape, params.evaluate.latency_batch, device)
    trained = read_manifest(workdir.folder / "train") is not None  # `choose` looks at the time then
    try:
        _require_budgets(params, graph, None if trained else clock)
    except BudgetError:
        if not narrower:
            raise
        least = with_narrowest_heads(model, narrower)
        graph = build_graph(least, torch.zeros(1, *splits.shape, device=device))
        graph = replace(graph, wider=times_wider(graph, least, model, splits.shape))
        clock = replace(clock, model=least, wider=model)
        _require_budgets(params, graph, None if trained else clock)
    require_writable(workdir)


def _narrower(params: Params, model: nn.Module, example: Tensor) -> list[Attention]:
    """Attentions whose heads the data may make narrower."""
    if params.model.narrow_heads == 1 or params.train.when == "after-pruning":
        return []
    wide = wide_attentions(model, example)
    require_not_named(model, limits_of(params.choose), [one.name for one in wide])
    return wide


def _require_budgets(params: Params, graph: ChannelGraph, clock: Clock | None) -> None:
    """Refuse budgets below what the limits keep; those of time, too, where there is a clock."""
    floors = floors_of(graph, limits_of(params.choose))
    for budget in _plain_budgets(params):
        check_reachable(graph, budget, floors)
        if clock is not None and budget.kind == "latency":
            require_time(budget.value, clock.least_share(graph, floors), floors, graph)


def _require_epochs(config: TrainConfig) -> None:
    if config.when == "after-pruning" and config.epochs == 0:
        raise ConfigError(
            "train.when=after-pruning with train.epochs=0 leaves a pruned network that nothing "
            "trains.\nExpected at least 1 epoch, got 0 (`finetune` is not used then); set "
            "train.epochs=20, or train.when=before-pruning for given weights."
        )


def _require_undivided(config: OptimConfig, params: Params) -> None:
    """Refuse what divided weights cannot have; of `auto`, a training itself does."""
    if params.compute.strategy == "fsdp" and params.compute.devices > 1:
        slimmed = config is params.train and bool(params.train.slimming)
        require_undivided(config, regularised=slimmed)


def _plain_budgets(params: Params) -> list[Budget]:
    """The budget asked for and those compared; for one that is searched, that of all units."""
    asked = params.choose.budget, *params.choose.compare
    return [Budget("macs", 1) if budget.is_searched else budget for budget in asked]


def _is_tested(params: Params) -> bool:
    """Whether one of the budgets asks for a test of significance."""
    return any(budget.is_tested for budget in _plain_budgets(params))


def _require_trials(params: Params) -> None:
    """Refuse to try networks whose accuracy says nothing, or cannot be told."""
    if not params.choose.tries_networks:
        return
    if any(budget.is_searched for budget in params.choose.compare):
        raise ConfigError(
            "choose.compare: a drop is no budget of one plan.\nExpected budgets such as macs:0.5, "
            f"got {', '.join(map(str, params.choose.compare))}; set choose.budget to the drop."
        )
    if params.data.validation == 0:
        raise ConfigError(
            "choose.budget=drop:X and choose.compare score networks on validation images."
            "\nExpected a share of the training images, got data.validation=0; set it to 0.1."
        )
    if params.train.when == "after-pruning":
        raise ConfigError(
            "choose.budget=drop:X and choose.compare score networks that are trained.\nExpected "
            "train.when=before-pruning, got after-pruning; change it, or choose by size alone."
        )


def _require_memory(
    params: Params, model: nn.Module, graph: ChannelGraph, batch: int, device: torch.device
) -> Mapping[str, Size]:
    """Refuse a search that this machine has no memory for.

    Sizes of the pairs come back, none where the method reads no activations.
    """
    method, images = method_of(params), params.data.calibration
    if not isinstance(method, Mipp):
        return {}
    closed = type(method.estimator) is Gaussian and not _is_tested(params)
    sizes = sizes_of(model, graph, Sampling(params.extract.rows, images, params.seed))
    needs = needs_of_search(graph, sizes, min(batch, images), closed=closed, device=device)
    require_memory(needs, sizes, images, device)
    return sizes


def _require_rows(params: Params, graph: ChannelGraph) -> None:
    """Refuse fewer activation rows than the repeats of an estimator need."""
    repeated = _is_tested(params) or params.choose.estimator == "reconstruction"
    if params.choose.method != MIPP or not repeated:
        return
    sampling = Sampling(params.extract.rows, params.data.calibration, params.seed)
    images, need = params.data.calibration, LEAST * params.estimate.repeats
    for pair in graph.pairs:
        rows = images * sampling.per_image(pair.positions)
        if rows < need:
            raise ConfigError(
                f"pair {pair.name!r} has too few rows for estimate.repeats="
                f"{params.estimate.repeats}.\nExpected at least {need}, got {rows} from {images} "
                f"calibration images; set data.calibration={need} or more."
            )
