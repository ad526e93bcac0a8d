"""Selection by information under a budget, and the table of every node that explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from mipp.budget import Budget
from mipp.graph import ChannelGraph, LayerPair
from mipp.graph.pixels import PIXELS
from mipp.information.protocols import Information
from mipp.selection.limits import Floors, floors_of
from mipp.selection.prices import prices_of
from mipp.selection.rounding import Ranked, round_widths
from mipp.selection.rules import Confidence
from mipp.selection.selection import Selection
from mipp.selection.spending import check_reachable
from mipp.selection.under_budget import Account, walk_under_budget
from mipp.selection.verdict import Verdict
from mipp.selection.visits import Order
from mipp.selection.walk import (
    Course,
    Passing,
    RuleOf,
    Walk,
    decide_group,
    group_information,
    total_information,
    walk_network,
)
from mipp.settings import Gaussian, Limits, Mipp

_NONE, _NOTHING = Limits(), MappingProxyType[str, str]({})


@dataclass(frozen=True)
class Choice:
    """A selection with the walk that led to it."""

    selection: Selection
    walk: Walk
    threshold: float | None  # what a channel had to be worth; None under a confidence
    information: Mapping[str, float]  # group -> nats of the whole group
    pixels: Sequence[Verdict] = ()  # of the network's input, where asked for

    def near_collapsed(self) -> list[str]:
        """Groups in which a channel stays only because of `min_channels`."""
        return [g for g, vs in self.walk.verdicts.items() if any(v.why == "floor" for v in vs)]

    def units(self) -> list[dict[str, object]]:
        """One row per unit: group, channel, visit, nats alone and added, confidence, kept, why."""
        return [
            {"group": group, **_row(verdict)}
            for group, verdicts in self.walk.verdicts.items()
            for verdict in verdicts
        ]

    def pixel_units(self) -> list[dict[str, object]]:
        """The same row per pixel, in the order of the image; none where not asked for."""
        return [_row(verdict) for verdict in sorted(self.pixels, key=lambda v: v.channel)]


def _row(verdict: Verdict) -> dict[str, object]:
    return {
        "channel": verdict.channel,
        "visit": verdict.visit,
        "single_nats": verdict.single,
        "conditional_nats": verdict.conditional,
        "confidence": verdict.confidence,
        "kept": verdict.kept,
        "why": verdict.why,
    }


def order_of(method: Mipp, budget: Budget) -> Order:
    """The order of the visits, where it is left to us the best that the rest allows.

    A test of significance looks at each unit once, and the perceptrons of the reconstruction are
    trained again for every question.
    """
    if method.order != "auto":
        return method.order
    cheap = type(method.estimator) is Gaussian and not budget.is_tested
    return "best-first" if cheap else "mi"


def select_by_information(
    graph: ChannelGraph,
    information: Information,
    method: Mipp,
    budget: Budget,
    limits: Limits = _NONE,
    *,
    provenance: Mapping[str, str] = _NOTHING,
    pixels: Sequence[LayerPair] = (),
) -> Choice:
    """The units that stay under a budget, by one rule over the whole network.

    Parameters
    ----------
    information : per pair of the graph, an estimator's prepared state; sampled for a confidence.
    provenance : what the selection depends on, recorded in it.
    pixels : pairs from the network's input to its first layers, decided last and without
        counting toward the budget.

    Raises
    ------
    BudgetError : the budget cannot be reached.
    """
    floors = floors_of(graph, limits)
    check_reachable(graph, budget, floors)
    course = Course(order_of(method, budget), floors, method.position_weight)
    prices = prices_of(graph, method, budget)
    totals = total_information(graph, information, method.position_weight)
    threshold: float | None = None
    if budget.is_tested:
        rule_of = _confidence(method, budget.value)
        found = walk_network(graph, information, course, rule_of, totals)
    else:
        account = Account(prices, method.worth == "share" and budget.kind != "nats")
        threshold, found = walk_under_budget(graph, information, course, account, totals, budget)
        rule_of = account.rule(threshold)
    found = _rounded(graph, found, floors, budget, limits)
    kept = found.kept()
    selection = Selection(
        {group: np.asarray(channels, np.int64) for group, channels in kept.items()},
        dict(graph.widths),
        "mipp",
        dict(provenance),
    )
    decided: Sequence[Verdict] = ()
    if pixels:
        whole = group_information(pixels, information, course.position_weight, kept)
        rule = rule_of(PIXELS, Passing(whole, whole))
        decided = decide_group(PIXELS, pixels, information, course, rule, kept)
    return Choice(selection, found, threshold, totals, decided)


def _rounded(
    graph: ChannelGraph,
    walk: Walk,
    floors: Floors,
    budget: Budget,
    limits: Limits,
) -> Walk:
    """The walk with widths in multiples, and with the reason of what only a limit keeps."""
    ranked = {
        group: sorted(verdicts, key=lambda v: (not v.kept, -v.conditional, v.channel))
        for group, verdicts in walk.verdicts.items()
    }
    worth = {
        group: [Ranked(v.channel, v.worth) for v in verdicts] for group, verdicts in ranked.items()
    }
    counts = round_widths(graph, worth, walk.counts(), floors, budget, limits.round_to)
    stay = {g: {v.channel for v in verdicts[: counts[g]]} for g, verdicts in ranked.items()}
    return Walk(
        {
            group: [
                _explained(v, v.channel in stay[group], limited=floors[group] > limits.least)
                for v in verdicts
            ]
            for group, verdicts in walk.verdicts.items()
        }
    )


def _explained(verdict: Verdict, stays: bool, *, limited: bool) -> Verdict:
    """The verdict after rounding and limits."""
    if stays and not verdict.kept:
        return replace(verdict, why="rounded")
    if verdict.kept and not stays:
        return replace(verdict, why="redundant")
    if verdict.why == "floor" and limited:
        return replace(verdict, why="limit")
    return verdict


def _confidence(method: Mipp, percent: float) -> RuleOf:
    return lambda group, passing: Confidence(
        percent, method.margin * max(passing.group, 0.0), method.sure
    )
