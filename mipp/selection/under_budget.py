"""The walk whose kept channels meet a budget: one level of worth for the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mipp.budget import Budget
from mipp.graph import ChannelGraph
from mipp.information.protocols import Information, WarmStarting
from mipp.selection.limits import Floors
from mipp.selection.rules import Threshold
from mipp.selection.search import Probe, find_threshold
from mipp.selection.spending import Candidate, allowance, fits, spare_channels, spent
from mipp.selection.walk import Course, RuleOf, Walk, walk_network


@dataclass(frozen=True)
class Account:
    """What a channel's nats are worth: per price of its group, and as a share or as they are."""

    prices: Mapping[str, float]
    shares: bool

    def rule(self, level: float) -> RuleOf:
        """Channels stay that are worth the level."""
        return lambda group, passing: Threshold(
            level, self.prices.get(group, 1.0), passing.cut if self.shares else None
        )

    def bound(self, totals: Mapping[str, float]) -> float:
        """No channel is worth as much."""
        most = {g: 1.0 if self.shares else nats for g, nats in totals.items()}
        return 2 * max(nats / self.prices[g] for g, nats in most.items()) + 1e-300


def walk_under_budget(
    graph: ChannelGraph,
    information: Information,
    course: Course,
    account: Account,
    totals: Mapping[str, float],
    budget: Budget,
) -> tuple[float, Walk]:
    """The level that the budget names, or the smallest found that meets it, and its walk."""

    information = {
        pair: own.warm_started() if isinstance(own, WarmStarting) else own
        for pair, own in information.items()
    }

    def walk(level: float) -> Walk:
        return walk_network(graph, information, course, account.rule(level), totals)

    def probe(level: float) -> Probe[Walk]:
        found = walk(level)
        share = spent(graph, found.counts(), budget.kind)
        return Probe(found, share, _suggest(graph, found, course.floors, budget))

    if budget.kind == "nats":
        return budget.value, walk(budget.value)
    level, found = find_threshold(probe, allowance(budget), account.bound(totals))
    return level, _use_spare_budget(graph, found, budget)


def _suggest(graph: ChannelGraph, walk: Walk, floors: Floors, budget: Budget) -> float:
    """The level that would meet the budget if no channel's worth changed with it."""
    worth = {group: np.sort([v.worth for v in vs]) for group, vs in walk.verdicts.items()}
    levels = np.unique(np.concatenate(list(worth.values())))
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        kept = {
            group: max(
                len(values) - int(np.searchsorted(values, levels[middle])),
                floors[group],
            )
            for group, values in worth.items()
        }
        over = not fits(graph, kept, budget)
        low, high = (middle + 1, high) if over else (low, middle)
    return float(levels[low])


def _use_spare_budget(graph: ChannelGraph, walk: Walk, budget: Budget) -> Walk:
    """Take dropped channels back, those worth most first, while they fit.

    One level meets a budget only in steps: a channel more or less changes what is asked of every
    group upstream, so that a good part of the budget can remain.
    """
    dropped = [
        Candidate(verdict.worth, group, verdict.channel)
        for group, verdicts in walk.verdicts.items()
        for verdict in verdicts
        if verdict.why == "redundant"
    ]
    spare = spare_channels(graph, walk.counts(), dropped, budget)
    return Walk(
        {
            group: [replace(v, why="spare") if (group, v.channel) in spare else v for v in verdicts]
            for group, verdicts in walk.verdicts.items()
        }
    )
