"""Selection by a rival criterion's scores, under the same budget, limits and rounding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mipp.budget import parse_budget
from mipp.config import ChooseConfig
from mipp.graph import ChannelGraph
from mipp.selection.budget import Scores, select_by_scores
from mipp.selection.limits import floors_of
from mipp.selection.rounding import Ranked, round_widths
from mipp.selection.selection import Selection


def select_by_criterion(
    graph: ChannelGraph, scores: Scores, config: ChooseConfig, provenance: Mapping[str, str]
) -> Selection:
    """The units of highest score that fit the budget.

    Raises
    ------
    BudgetError : the budget cannot be reached, or is of a kind that scores cannot meet.
    """
    budget, floors = parse_budget(config.budget), floors_of(graph, config)
    kept = select_by_scores(scores, graph, budget, scope=config.scope, floors=floors)
    ranked = {}
    for group, values in scores.items():
        stays = np.isin(np.arange(len(values)), kept[group])
        order = np.lexsort((np.arange(len(values)), -values, ~stays))
        ranked[group] = [Ranked(int(c), float(values[c])) for c in order]
    counts = {group: len(channels) for group, channels in kept.items()}
    counts = round_widths(graph, ranked, counts, floors, budget, config.round_to)
    rounded = {
        group: np.sort(np.array([item.channel for item in items[: counts[group]]], np.int64))
        for group, items in ranked.items()
    }
    return Selection(rounded, dict(graph.widths), config.method, dict(provenance))


def at_floor(selection: Selection, floors: Mapping[str, int]) -> list[str]:
    """Groups that are down to what the floor keeps, and lost something."""
    return [
        group
        for group, channels in selection.kept.items()
        if len(channels) <= floors[group] < selection.width[group]
    ]
