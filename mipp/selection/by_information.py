"""Selection by information under a budget, and the table of every node that explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipp.budget import Budget, parse_budget
from mipp.config import ChooseConfig
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
    Passing,
    RuleOf,
    Rules,
    Walk,
    decide_group,
    group_information,
    total_information,
    walk_network,
)


@dataclass(frozen=True)
class Choice:
    """A selection with the walk that led to it."""

    selection: Selection
    walk: Walk
    threshold: float | None  # what a channel had to be worth; None under a confidence
    information: Mapping[str, float]  # group -> nats of the whole group
    pixels: Sequence[Verdict] = ()  # of the network's input, where asked for

    def near_collapsed(self) -> list[str]:
        """Groups in which a channel stays only because of `choose.min_channels`."""
        return [g for g, vs in self.walk.verdicts.items() if any(v.why == "floor" for v in vs)]

    def nodes(self) -> list[dict[str, object]]:
        """One row per unit: group, channel, visit, nats alone and added, confidence, kept, why."""
        return [
            {"group": group, **_row(verdict)}
            for group, verdicts in self.walk.verdicts.items()
            for verdict in verdicts
        ]

    def pixel_nodes(self) -> list[dict[str, object]]:
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


def order_of(config: ChooseConfig) -> Order:
    """The order of the visits, where it is left to us the best that the rest allows.

    A test of significance looks at each unit once, and the perceptrons of the reconstruction are
    trained again for every question.
    """
    if config.order != "auto":
        return config.order
    tested = parse_budget(config.budget).kind == "confidence"
    return "mi" if tested or config.estimator != "gaussian" else "best-first"


def select_by_information(
    graph: ChannelGraph,
    information: Information,
    config: ChooseConfig,
    provenance: Mapping[str, str],
    pixels: Sequence[LayerPair] = (),
) -> Choice:
    """The units that stay under `config.budget`, by one rule over the whole network.

    Parameters
    ----------
    information : per pair of the graph, an estimator's prepared state.
    provenance : what the selection depends on, recorded in it.
    pixels : pairs from the network's input to its first layers, decided last and without
        counting toward the budget.

    Raises
    ------
    BudgetError : the budget cannot be reached.
    """
    budget = parse_budget(config.budget)
    floors = floors_of(graph, config)
    check_reachable(graph, budget, floors)
    rules = Rules(order_of(config), floors, config.position_weight)
    prices = prices_of(graph, config, budget)
    totals = total_information(graph, information, config.position_weight)
    threshold: float | None = None
    if budget.kind == "confidence":
        rule_of = _confidence(config, budget.value)
        found = walk_network(graph, information, rules, rule_of, totals)
    else:
        account = Account(prices, config.worth == "share" and budget.kind != "nats")
        threshold, found = walk_under_budget(graph, information, rules, account, totals, budget)
        rule_of = account.rule(threshold)
    found = _rounded(graph, found, floors, budget, config)
    kept = found.kept()
    selection = Selection(
        {group: np.asarray(channels, np.int64) for group, channels in kept.items()},
        dict(graph.widths),
        "mipp",
        dict(provenance),
    )
    decided: Sequence[Verdict] = ()
    if pixels:
        whole = group_information(pixels, information, rules.position_weight, kept)
        rule = rule_of(PIXELS, Passing(whole, whole))
        decided = decide_group(PIXELS, pixels, information, rules, rule, kept)
    return Choice(selection, found, threshold, totals, decided)


def _rounded(
    graph: ChannelGraph,
    walk: Walk,
    floors: Floors,
    budget: Budget,
    config: ChooseConfig,
) -> Walk:
    """The walk with widths in multiples, and with the reason of what only a limit keeps."""
    ranked = {
        group: sorted(verdicts, key=lambda v: (not v.kept, -v.conditional, v.channel))
        for group, verdicts in walk.verdicts.items()
    }
    worth = {
        group: [Ranked(v.channel, v.worth) for v in verdicts] for group, verdicts in ranked.items()
    }
    counts = round_widths(graph, worth, walk.counts(), floors, budget, config.round_to)
    stay = {g: {v.channel for v in verdicts[: counts[g]]} for g, verdicts in ranked.items()}
    least = -(-config.min_channels // config.round_to) * config.round_to
    return Walk(
        {
            group: [
                _explained(v, v.channel in stay[group], limited=floors[group] > least)
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


def _confidence(config: ChooseConfig, percent: float) -> RuleOf:
    return lambda group, passing: Confidence(
        percent, config.margin * max(passing.group, 0.0), config.sure
    )
