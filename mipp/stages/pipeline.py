"""The table of the eight stages, in order, and what runs some or all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mipp.config import WRITTEN, Params
from mipp.criteria import CRITERIA
from mipp.data import DATA_SETS
from mipp.disk.storage import Workdir
from mipp.errors import DamagedStoreError, as_written
from mipp.information.estimators import ESTIMATORS
from mipp.models import MODELS
from mipp.names import Table
from mipp.needed_stages import is_needed
from mipp.stages.choose import choose_units
from mipp.stages.context import OnEpoch
from mipp.stages.estimate import estimate_pair, gather_estimates, pairs_to_estimate
from mipp.stages.evaluate import evaluate_networks
from mipp.stages.extract import extract_activations
from mipp.stages.finetune import config_after_pruning, finetune_pruned
from mipp.stages.preflight import preflight
from mipp.stages.prune import prune_network
from mipp.stages.report import write_report
from mipp.stages.shards import extract_shard
from mipp.stages.stage import Stage, made_from, needs_run, require_current, run_stage
from mipp.stages.train import epochs_before_pruning, train_dense
from mipp.training.optimizers import OPTIMIZERS

logger = logging.getLogger(__name__)

_IMAGES: Mapping[str, Table[Any]] = {"data.name": DATA_SETS}
_NETWORK: Mapping[str, Table[Any]] = {"model.name": MODELS}

STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "train",
            train_dense,
            params=("seed", "data", "model", "train"),
            files=("model.weights",),
            names={**_IMAGES, **_NETWORK, "train.optimizer": OPTIMIZERS},
            shared=lambda params: epochs_before_pruning(params) > 0,
        ),
        Stage(
            "extract",
            extract_activations,
            params=(
                "seed",
                "data",
                "extract.rows",
                "extract.batch_size",
                "extract.inputs",
                "choose.method",
            ),
            reads=("train",),
            names={**_IMAGES, **_NETWORK},
            shared=lambda params: params.extract.shards == 1,  # more of them are fanned out
        ),
        Stage(
            "estimate",
            gather_estimates,
            params=("seed", "estimate", "choose.estimator", "choose.method"),
            reads=("extract",),
            names={"choose.estimator": ESTIMATORS},
        ),
        Stage(
            "choose",
            choose_units,
            params=(
                "seed",
                "data",
                "extract.rows",
                "extract.inputs",
                "estimate",
                "choose",
                "evaluate.latency_batch",
                "finetune.rounds",
                "finetune.round_budgets",
            ),
            reads=("train", "extract", "estimate"),
            names={
                **_IMAGES,
                **_NETWORK,
                "choose.method": CRITERIA,
                "choose.estimator": ESTIMATORS,
            },
            tries=("prune",),
        ),
        Stage(
            "prune",
            prune_network,
            params=("seed", "data", "train.when", "prune"),
            reads=("train", "choose"),
            names={**_IMAGES, **_NETWORK},
        ),
        Stage(
            "finetune",
            finetune_pruned,
            params=("seed", "data", "train", "finetune"),
            reads=("train", "choose", "prune"),
            names={
                **_IMAGES,
                **_NETWORK,
                "train.optimizer": OPTIMIZERS,
                "finetune.optimizer": OPTIMIZERS,
                "choose.method": CRITERIA,
                "choose.estimator": ESTIMATORS,
            },
            rounds=("extract.rows", "estimate", "choose", "prune"),
            shared=lambda params: config_after_pruning(params).epochs > 0,
        ),
        Stage(
            "evaluate",
            evaluate_networks,
            params=("seed", "data", "model.weights", "train.when", "train.epochs", "evaluate"),
            reads=("train", "choose", "prune", "finetune"),
            names={**_IMAGES, **_NETWORK},
        ),
        Stage(
            "report",
            write_report,
            params=("report",),
            reads=("train", "choose", "prune", "finetune", "evaluate"),
            may_read=("plane",),
        ),
    )
}


def run_all(workdir: Workdir, params: Params, on_epoch: OnEpoch | None = None) -> None:
    """Run every stage that is not up to date; see `preflight` for what to refuse before.

    An activation store that turns out to be damaged is written anew.
    """
    for stage in STAGES.values():
        try:
            run_stage(stage, workdir, params, on_epoch)
        except DamagedStoreError as error:
            logger.warning("%s", error)
            for name in ("extract", "estimate", stage.name):
                run_stage(STAGES[name], workdir, params, on_epoch)


def pending_shards(workdir: Workdir, params: Params) -> list[int]:
    """Shards that the `extract` stage can be given; none when it is up to date, or has but one."""
    if params.extract.shards == 1 or not needs_run(STAGES["extract"], workdir, params):
        return []
    return list(range(params.extract.shards))


def pending_pairs(workdir: Workdir, params: Params) -> list[str]:
    """Layer pairs that the `estimate` stage still needs; none when it is up to date."""
    if not needs_run(STAGES["estimate"], workdir, params):
        return []
    return pairs_to_estimate(workdir)


def run_shard(workdir: Workdir, params: Params, shard: int) -> None:
    """One shard of stage `extract`, on any machine; its rows wait in the work directory."""
    made = made_from(STAGES["extract"], workdir, params)
    extract_shard(workdir, params, made.key(), shard)


def run_pair(workdir: Workdir, params: Params, pair: str) -> None:
    """One layer pair of stage `estimate`, on any machine; its state waits there too."""
    made = made_from(STAGES["estimate"], workdir, params)
    estimate_pair(workdir, params, made.key(), pair)


@as_written(WRITTEN)
def run_one(name: str, workdir: Workdir, params: Params) -> None:
    """Run one stage; the stages before it must be there and up to date.

    Raises
    ------
    WorkdirError : a stage that it builds on is missing or out of date.
    """
    preflight(workdir, params)
    require_before(name, workdir, params)
    run_stage(STAGES[name], workdir, params)


def require_before(name: str, workdir: Workdir, params: Params) -> None:
    """Refuse to go on where a stage that this one builds on is missing or out of date.

    Raises
    ------
    WorkdirError : says which, and the command to run.
    """
    for earlier in _before(name, params.choose.method):
        require_current(STAGES[earlier], workdir, params)


def _before(name: str, method: str) -> list[str]:
    """The stages that a stage depends on with a method, directly or not, in order."""
    needed: set[str] = set()
    waiting = list(STAGES[name].reads)
    while waiting:
        needed.add(waiting.pop())
        waiting = [r for n in needed for r in STAGES[n].reads if r not in needed]
    return [stage for stage in STAGES if stage in needed and is_needed(stage, method)]
