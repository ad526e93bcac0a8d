"""Everything that can be refused before compute starts, in one place."""

from __future__ import annotations

from pathlib import Path

import torch

from mipp.config import Params, parse_budget
from mipp.criteria import CRITERIA
from mipp.device import resolve_device
from mipp.errors import ConfigError, did_you_mean
from mipp.graph import build_graph
from mipp.models import build_model, load_weights
from mipp.selection.budget import check_reachable, require_budget_for_scores
from mipp.stages.inputs import load_splits, model_spec
from mipp.training import require_trainable
from mipp.workdir import require_writable

ESTIMATORS = ("gaussian",)


def preflight(workdir: Path, params: Params) -> None:
    """Refuse parameters that would fail later: names, device, data, weights, budget, folder.

    Raises
    ------
    InputError : the first thing that does not fit; a subclass says which kind.
    """
    device = resolve_device(params.compute.device)
    _require_known("method", params.choose.method, ("mipp", *CRITERIA))
    _require_known("estimator", params.choose.estimator, ESTIMATORS)
    splits = load_splits(params)
    model = build_model(model_spec(params, splits), seed=params.seed)
    if params.model.weights:
        load_weights(model, Path(params.model.weights))
    graph = build_graph(model, torch.zeros(1, *splits.shape))
    for config in (params.train, params.finetune):
        if config.epochs:
            require_trainable(config, splits.train, splits.validation, device)
    if params.choose.method != "mipp":
        require_budget_for_scores(parse_budget(params.choose.budget))
    check_reachable(graph, parse_budget(params.choose.budget), params.choose.min_channels)
    require_writable(workdir)


def _require_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ConfigError(
            f"{what} {name!r} (choose.{what}) is unknown; {did_you_mean(name, known)}."
        )
