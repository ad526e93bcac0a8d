"""Selection by information under a budget, and the table of every node that explains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mipp.config import Budget, ChooseConfig, parse_budget
from mipp.graph import ChannelGraph
from mipp.selection.budget import (
    Candidate,
    Price,
    Probe,
    allowance,
    check_reachable,
    find_threshold,
    fits,
    spare_channels,
    spent,
    unit_prices,
)
from mipp.selection.selection import Selection
from mipp.selection.top_down import (
    PairInformation,
    Rules,
    Walk,
    total_information,
    walk_network,
)


@dataclass(frozen=True)
class Choice:
    """A selection with the walk that led to it."""

    selection: Selection
    walk: Walk
    threshold: float  # nats per unit of price
    information: Mapping[str, float]  # group -> nats of the whole group

    def near_collapsed(self) -> list[str]:
        """Groups in which a channel stays only because of the floor."""
        return [g for g, vs in self.walk.verdicts.items() if any(v.why == "floor" for v in vs)]

    def nodes(self) -> list[dict[str, object]]:
        """One row per unit: group, channel, visit, nats alone and added, kept, why."""
        return [
            {
                "group": group,
                "channel": verdict.channel,
                "visit": verdict.visit,
                "single_nats": verdict.single,
                "conditional_nats": verdict.conditional,
                "kept": verdict.kept,
                "why": verdict.why,
            }
            for group, verdicts in self.walk.verdicts.items()
            for verdict in verdicts
        ]


def price_of(config: ChooseConfig, budget: Budget) -> Price:
    """What nats are divided by: `price`, or with `budget` whatever the budget counts."""
    if config.price != "budget":
        return config.price
    return "params" if budget.kind == "params" else "macs" if budget.kind == "macs" else "unit"


def select_by_information(
    graph: ChannelGraph,
    information: Mapping[str, PairInformation],
    config: ChooseConfig,
    provenance: Mapping[str, str],
) -> Choice:
    """The units that stay under `config.budget`, by one threshold over the whole network.

    Parameters
    ----------
    information : per pair of the graph, an estimator's prepared state.
    provenance : what the selection depends on, recorded in it.

    Raises
    ------
    BudgetError : the budget cannot be reached.
    """
    budget = parse_budget(config.budget)
    check_reachable(graph, budget, config.min_channels)
    rules = Rules(
        config.order,
        config.min_channels,
        unit_prices(graph, price_of(config, budget)),
        config.position_weight,
    )
    totals = total_information(graph, information, config.position_weight)

    def walk(threshold: float) -> Walk:
        return walk_network(graph, information, rules, threshold)

    def probe(threshold: float) -> Probe[Walk]:
        found = walk(threshold)
        share = spent(graph, found.counts(), budget.kind)
        return Probe(found, share, _suggest(graph, found, rules, budget))

    if budget.kind == "nats":
        threshold, found = budget.value, walk(budget.value)
    else:
        top = 2 * max(totals[g] / rules.prices[g] for g in graph.groups) + 1e-300
        threshold, found = find_threshold(probe, allowance(budget), top)
        found = _use_spare_budget(graph, found, rules, budget)
    kept = {group: np.asarray(channels, np.int64) for group, channels in found.kept().items()}
    selection = Selection(kept, dict(graph.widths), "mipp", dict(provenance))
    return Choice(selection, found, threshold, totals)


def _suggest(graph: ChannelGraph, walk: Walk, rules: Rules, budget: Budget) -> float:
    """The threshold that would meet the budget if no channel's information changed with it."""
    nats = {
        group: np.sort([v.conditional / rules.prices[group] for v in verdicts])
        for group, verdicts in walk.verdicts.items()
    }
    levels = np.unique(np.concatenate(list(nats.values())))
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        kept = {
            group: max(
                len(values) - int(np.searchsorted(values, levels[middle])),
                min(rules.floor, len(values)),
            )
            for group, values in nats.items()
        }
        over = not fits(graph, kept, budget)
        low, high = (middle + 1, high) if over else (low, middle)
    return float(levels[low])


def _use_spare_budget(graph: ChannelGraph, walk: Walk, rules: Rules, budget: Budget) -> Walk:
    """Take dropped channels back, the most informative for their price first, while they fit.

    One threshold meets a budget only in steps: a channel more or less changes what is asked of
    every group upstream, so that a good part of the budget can remain.
    """
    dropped = [
        Candidate(verdict.conditional / rules.prices[group], group, verdict.channel)
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
