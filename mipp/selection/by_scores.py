"""Selection by a rival criterion's scores, under the same budget, limits and rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from mipp.budget import Budget, parse_budget
from mipp.config import ChooseConfig
from mipp.errors import BudgetError
from mipp.graph import ChannelGraph
from mipp.selection.limits import floors_of
from mipp.selection.rounding import Ranked, round_widths
from mipp.selection.scores import Scores
from mipp.selection.selection import Selection
from mipp.selection.spending import (
    UNBOUNDED,
    Candidate,
    check_reachable,
    fits,
    spare_channels,
)


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


def select_by_scores(
    scores: Scores,
    graph: ChannelGraph,
    budget: Budget,
    *,
    scope: Literal["global", "layer"],
    floors: Mapping[str, int],
) -> dict[str, npt.NDArray[np.int64]]:
    """Kept channels when the lowest scores go first until the budget is met.

    Ties go to the lower index. `scope` ranks over the whole network, or takes the same share
    from every group; what the budget then has room for comes back, highest rank first.

    Raises
    ------
    BudgetError : the budget cannot be reached, or is of a kind that scores cannot meet.
    """
    require_budget_for_scores(budget)
    check_reachable(graph, budget, floors)
    ranks = _ranks(scores, scope)
    levels = np.unique(np.concatenate(list(ranks.values())))
    low, high = 0, len(levels)  # keep ranks >= levels[i]; i = len drops all above the floors
    while low < high:
        middle = (low + high) // 2
        kept = _at_level(ranks, levels, middle, floors)
        over = not fits(graph, {g: len(k) for g, k in kept.items()}, budget)
        low, high = (middle + 1, high) if over else (low, middle)
    return _with_spare(graph, _at_level(ranks, levels, low, floors), ranks, budget)


def _with_spare(
    graph: ChannelGraph,
    kept: Mapping[str, npt.NDArray[np.int64]],
    ranks: Mapping[str, npt.NDArray[np.float64]],
    budget: Budget,
) -> dict[str, npt.NDArray[np.int64]]:
    """The same channels with those of highest rank that the budget has room for."""
    dropped = [
        Candidate(float(values[c]), group, c)
        for group, values in ranks.items()
        for c in np.setdiff1d(np.arange(len(values)), kept[group]).tolist()
    ]
    counts = {group: len(channels) for group, channels in kept.items()}
    spare = spare_channels(graph, counts, dropped, budget)
    return {
        group: np.union1d(channels, [c for g, c in spare if g == group]).astype(np.int64)
        for group, channels in kept.items()
    }


def require_budget_for_scores(budget: Budget) -> None:
    """Refuse a bound on information for a method that does not measure any.

    Raises
    ------
    BudgetError : the budget is of kind `nats` or `confidence`.
    """
    if budget.kind in UNBOUNDED:
        raise BudgetError(
            f"budget {budget} (choose.budget) asks for information, which only choose."
            "method=mipp measures.\nExpected ratio, params, macs or latency for a score, got "
            f"{budget}; write for example ratio:0.5."
        )


def _ranks(scores: Scores, scope: str) -> dict[str, npt.NDArray[np.float64]]:
    """Distinct ranks, over everything or as a share of each group."""
    if scope == "layer":
        return {group: (_positions(values) + 1) / len(values) for group, values in scores.items()}
    flat = _positions(np.concatenate(list(scores.values())))
    ends = np.cumsum([len(values) for values in scores.values()])[:-1]
    return dict(zip(scores, np.split(flat, ends), strict=True))


def _positions(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    positions = np.empty(len(values))
    positions[np.argsort(values, kind="stable")] = np.arange(len(values))
    return positions


def _at_level(
    ranks: Mapping[str, npt.NDArray[np.float64]],
    levels: npt.NDArray[np.float64],
    index: int,
    floors: Mapping[str, int],
) -> dict[str, npt.NDArray[np.int64]]:
    level = levels[index] if index < len(levels) else np.inf
    kept = {}
    for group, values in ranks.items():
        best = np.argsort(-values, kind="stable")[: floors[group]]
        kept[group] = np.union1d(np.flatnonzero(values >= level), best).astype(np.int64)
    return kept
