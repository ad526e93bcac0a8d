"""Who prunes and who repairs: rivals by themselves, and criteria with this project's repair."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from torch import nn

from benchmarks.accuracy.methods import BATCH, Trial
from benchmarks.rivals.corp import corp
from benchmarks.rivals.folding import fold
from benchmarks.rivals.grail import grail
from benchmarks.rivals.he2017 import he2017
from benchmarks.rivals.osscar import osscar
from benchmarks.rivals.shared.queries_and_keys import SUFFIX, logits_of, with_dimensions
from benchmarks.rivals.shared.readers import hidden_only
from benchmarks.rivals.variance import mean_shift, score_variance
from benchmarks.shared.kept import Point
from mipp.budget import parse_budget
from mipp.criteria import CRITERIA, CriterionInput
from mipp.criteria.shared.scoring import score_units
from mipp.cut import apply_selection
from mipp.graph import ChannelGraph
from mipp.metrics import count_params
from mipp.pruning.pruner import Pruner
from mipp.pruning.ranking import Ranking
from mipp.pruning.repair import Cut, mend
from mipp.refit import recalibrate
from mipp.selection.by_scores import select_by_criterion
from mipp.selection.controls import random_units
from mipp.selection.scores import Scores
from mipp.selection.selection import Selection
from mipp.settings import (
    NARROW_HEADS,
    Criterion,
    Distill,
    Limits,
    NoRepair,
    Refit,
    Repair,
)

Choose = Callable[[Trial, str], Selection]
Mend = Callable[[Trial, Selection], nn.Module]
By = Literal["own", "refit", "distill"]


@dataclass(frozen=True)
class Method:
    """A row of the table: which units stay under a budget, and the network repaired.

    What chooses its own units while it repairs takes no more than widths from the selection.
    """

    kind: str  # the table's part
    by: By  # whose repair
    choose: Choose
    repair: Mend


@lru_cache(maxsize=2)
def pruner_of(trial: Trial, *, whole: bool = False) -> Pruner:
    """This project's own; of rivals that repair, heads of attentions stay as wide as they are."""
    images = len(trial.images.calibration)
    return Pruner(
        trial.dense,
        trial.images.calibration.batches(BATCH),
        images=images,
        seed=trial.seed,
        narrow_heads=1 if whole else NARROW_HEADS,
    )


@lru_cache(maxsize=1)
def ranking_of(trial: Trial) -> Ranking:
    return pruner_of(trial).rank()


def given_by(trial: Trial, *, whole: bool = False) -> CriterionInput:
    """The network, its graph and the calibration images, as criteria and rivals take them."""
    pruner = pruner_of(trial, whole=whole)
    return CriterionInput(pruner.model, pruner.graph, trial.labelled, trial.seed)


@lru_cache(maxsize=2 * len(CRITERIA))
def scores_of(trial: Trial, criterion: str, *, whole: bool = False) -> Scores:
    score = score_variance if criterion == "variance" else CRITERIA[criterion]
    return score_units(criterion, score, given_by(trial, whole=whole))


def uniform(criterion: str, *, whole: bool = False) -> Choose:
    """The same share of the hidden channels of every block, those of highest score."""

    def choose(trial: Trial, budget: str) -> Selection:
        graph = pruner_of(trial, whole=whole).graph
        scores = scores_of(trial, criterion, whole=whole)
        return same_share(graph, scores, budget, hidden_only(graph), criterion)

    return choose


def same_share(
    graph: ChannelGraph, scores: Scores, budget: str, limits: Limits, name: str
) -> Selection:
    """As large a share of every group as a budget has room for."""
    method = Criterion("random", "layer")  # its scope alone counts
    return select_by_criterion(
        graph, scores, method, parse_budget(budget), limits, name=name
    ).selection


def by_information(trial: Trial, budget: str) -> Selection:
    """This project's own, of all groups."""
    return pruner_of(trial).plan(budget, ranking_of(trial)).selection


def hidden_by_information(trial: Trial, budget: str) -> Selection:
    """This project's own, residual streams left whole."""
    pruner = pruner_of(trial)
    limits = hidden_only(pruner.graph)
    return pruner.plan(budget, ranking_of(trial), limits=limits).selection


def at_our_widths(criterion: str) -> Choose:
    """As many units of every group as this project keeps, those of highest score."""

    def choose(trial: Trial, budget: str) -> Selection:
        ours = by_information(trial, budget)
        if criterion == "random":
            return random_units(ours, trial.seed)
        scores = scores_of(trial, criterion)
        kept = {
            group: np.sort(np.argsort(-scores[group], kind="stable")[: len(channels)])
            for group, channels in ours.kept.items()
        }
        return Selection(kept, ours.width, f"{criterion} at our widths")

    return choose


def osscars_units(trial: Trial, budget: str) -> Selection:
    return osscar(given_by(trial), uniform("l1")(trial, budget))[1]


def corps_units(trial: Trial, budget: str) -> Selection:
    """Hidden channels of most variance and, the same share, dimensions of queries and keys.

    Of these the ones whose own logits are largest; heads stay.
    """
    graph, logits = pruner_of(trial, whole=True).graph, logits_of(given_by(trial, whole=True))
    heads = (name.removesuffix(SUFFIX) for name in logits)
    whole = with_dimensions(graph, logits)
    energy = {name: own.by_rank.numpy() for name, own in logits.items()}
    hidden = scores_of(trial, "variance", whole=True)
    scores = Scores({**hidden, **energy}, whole.widths, "CORP")
    limits = Limits(keep_outputs=(*hidden_only(graph).keep_outputs, *heads))
    return same_share(whole, scores, budget, limits, "variance")


def rival(repair: Callable[[CriterionInput, Selection], nn.Module]) -> Mend:
    """A rival that takes the units that it is given."""
    return lambda trial, selection: repair(given_by(trial, whole=True), selection)


def choosing(
    repair: Callable[[CriterionInput, Selection], tuple[nn.Module, Selection]],
) -> Mend:
    """A rival that takes widths, and chooses units by itself."""
    return lambda trial, selection: repair(given_by(trial, whole=True), selection)[0]


def ours(repair: Repair, *, whole: bool = False) -> Mend:
    """This project's repair of whatever selection."""

    def repaired(trial: Trial, selection: Selection) -> nn.Module:
        pruner = pruner_of(trial, whole=whole)
        model = apply_selection(pruner.model, selection, trial.example)
        cut = Cut(model, pruner.model, pruner.graph, selection)
        mend(cut, repair, pruner.calibration, trial.seed)
        return model

    return repaired


RIVALS, CRITERIONS, CONTROLS, OURS = (
    "rivals with their own repair",
    "criteria with our repair",
    "our widths or others' units, with our repair",
    "this project",
)
REPAIRS: Mapping[By, Repair] = {"refit": Refit(), "distill": Distill()}
UNITS: Mapping[str, tuple[str, Choose]] = {
    **{name: (CRITERIONS, uniform(name)) for name in ("variance", *CRITERIA)},
    "OSSCAR's units": (CONTROLS, osscars_units),
    "l1-same-widths": (CONTROLS, at_our_widths("l1")),
    "random-same-widths": (CONTROLS, at_our_widths("random")),
    "mipp, streams whole": (OURS, hidden_by_information),
    "mipp": (OURS, by_information),
}
L1, VARIANCE = uniform("l1", whole=True), uniform("variance", whole=True)
METHODS: Mapping[str, Method] = {
    name: Method(RIVALS, "own", choose, repair)
    for name, choose, repair in (
        ("L1 units", L1, ours(NoRepair(), whole=True)),
        ("variance-based, mean shift", VARIANCE, rival(mean_shift)),
        ("model folding, REPAIR", L1, choosing(fold)),
        ("GRAIL, L1 units", L1, rival(grail)),
        ("GRAIL, variance units", VARIANCE, rival(grail)),
        ("CORP, variance units", corps_units, rival(corp)),
        ("He 2017", L1, choosing(he2017)),
        ("OSSCAR", L1, choosing(osscar)),
    )
} | {
    f"{name} + {by}": Method(kind, by, choose, ours(repair))
    for by, repair in REPAIRS.items()
    for name, (kind, choose) in UNITS.items()
}


def measure(trial: Trial, method: Method, budget: str) -> Point:
    """Everything of one point: shares and accuracies in percent, and seconds of the method.

    Our repairs leave batch-norms the statistics of what they read; of a rival both are measured.
    """
    started = time.perf_counter()
    model = method.repair(trial, method.choose(trial, budget))
    point: Point = {
        "seconds": time.perf_counter() - started,
        "macs": 100 * trial.macs(model) / trial.macs(trial.dense),
        "params": 100 * count_params(model) / count_params(trial.dense),
        "repaired": trial.percent(model),
    }
    if method.by == "own":
        model = copy.deepcopy(model)
        recalibrate(model, trial.inputs)
        point["recalibrated"] = trial.percent(model)
    return point
