"""Selection by a rival criterion's scores, under the same budget, limits and rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from mipp.budget import Budget
from mipp.errors import BudgetError, option
from mipp.graph import ChannelGraph, IntArray
from mipp.selection.limits import Floors, floors_of
from mipp.selection.rounding import Ranked, round_widths
from mipp.selection.scores import GroupScores, Scores
from mipp.selection.selection import Selection
from mipp.selection.spending import (
    UNBOUNDED,
    Candidate,
    check_reachable,
    fits,
    spare_channels,
)
from mipp.settings import Criterion, Limits, Scope

_NONE, _NOTHING = Limits(), MappingProxyType[str, str]({})
Kept = Mapping[str, IntArray]  # group -> sorted channels
Ranks = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class ScoreChoice:
    """A selection with the scores that led to it."""

    selection: Selection
    scores: Scores
    ranks: Ranks  # higher stays longer
    scope: Scope
    why: Mapping[str, list[str]]  # of each channel
    floors: Floors

    def near_collapsed(self) -> list[str]:
        """Groups that are down to what the floor keeps, and lost something."""
        return [
            group
            for group, channels in self.selection.kept.items()
            if len(channels) <= self.floors[group] < self.selection.width[group]
        ]

    def units(self) -> list[dict[str, object]]:
        """One row per unit: group, channel, score, rank from the best on, kept, why."""
        rows: list[dict[str, object]] = []
        for group, places in self._places().items():
            kept = set(self.selection.kept[group].tolist())
            each = zip(self.scores[group].tolist(), places.tolist(), self.why[group], strict=True)
            for channel, (score, place, why) in enumerate(each):
                row = {"score": score, "rank": int(place), "kept": channel in kept, "why": why}
                rows.append({"group": group, "channel": channel, **row})
        return rows

    def _places(self) -> Ranks:
        """Places from the best on, 1 first, over all units or in each group."""
        if self.scope == "layer":
            return {group: len(each) - _positions(each) for group, each in self.ranks.items()}
        units = sum(map(len, self.ranks.values()))
        return {group: units - each for group, each in self.ranks.items()}


def select_by_criterion(
    graph: ChannelGraph,
    scores: Scores,
    method: Criterion,
    budget: Budget,
    limits: Limits = _NONE,
    *,
    name: str | None = None,
    provenance: Mapping[str, str] = _NOTHING,
) -> ScoreChoice:
    """The units of highest score that fit the budget.

    The lowest scores go first until it is met, of equal ones the lower index, over the whole
    network or the same share of every group. What it then has room for comes back, the highest
    first.

    Parameters
    ----------
    name : of the method, where it is not its own; recorded with the provenance.

    Raises
    ------
    BudgetError : the budget cannot be reached, or is of a kind that scores cannot meet.
    """
    floors, ranks = floors_of(graph, limits), _ranks(scores, method.scope)
    level, met = _at_budget(ranks, graph, budget, floors)
    spared = _with_spare(graph, met, ranks, budget)
    ranked = {}
    for group, values in scores.items():
        stays = np.isin(np.arange(len(values)), spared[group])
        order = np.lexsort((np.arange(len(values)), -values, ~stays))
        ranked[group] = [Ranked(int(c), float(values[c])) for c in order]
    counts = {group: len(channels) for group, channels in spared.items()}
    counts = round_widths(graph, ranked, counts, floors, budget, limits.round_to)
    rounded = {
        group: np.sort(np.array([item.channel for item in items[: counts[group]]], np.int64))
        for group, items in ranked.items()
    }
    why = {
        group: _reasons(values >= level, floors[group] > limits.least, *steps)
        for (group, values), *steps in zip(
            ranks.items(), met.values(), spared.values(), rounded.values(), strict=True
        )
    }
    called = name or str(method.method)
    selection = Selection(rounded, dict(graph.widths), called, dict(provenance))
    return ScoreChoice(selection, scores, ranks, method.scope, why, floors)


def _reasons(
    high: npt.NDArray[np.bool_], limited: bool, met: IntArray, spared: IntArray, rounded: IntArray
) -> list[str]:
    """Why each channel of a group stays or goes, from the last step that had a say in it."""
    why = np.where(high, "high score", "low score").astype(object)
    why[[c for c in met if not high[c]]] = "limit" if limited else "floor"
    why[np.setdiff1d(spared, met)] = "spare"
    why[np.setdiff1d(rounded, spared)] = "rounded"
    why[np.setdiff1d(spared, rounded)] = "rounded off"
    return [str(reason) for reason in why]


def _at_budget(
    ranks: Ranks, graph: ChannelGraph, budget: Budget, floors: Floors
) -> tuple[float, dict[str, IntArray]]:
    """The lowest rank whose channels, with the floors, meet the budget, and these channels."""
    require_budget_for_scores(budget)
    check_reachable(graph, budget, floors)
    levels = np.append(np.unique(np.concatenate(list(ranks.values()))), np.inf)  # inf: floors alone
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        kept = _at_level(ranks, levels[middle], floors)
        over = not fits(graph, {g: len(k) for g, k in kept.items()}, budget)
        low, high = (middle + 1, high) if over else (low, middle)
    return float(levels[low]), _at_level(ranks, levels[low], floors)


def _with_spare(
    graph: ChannelGraph, kept: Kept, ranks: Ranks, budget: Budget
) -> dict[str, IntArray]:
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
            f"{option('budget')}={budget} asks for information, which only {option('method')}=mipp "
            "measures.\nExpected ratio, params, macs or latency for a score, got "
            f"{budget}; write for example ratio:0.5."
        )


def _ranks(scores: GroupScores, scope: Scope) -> dict[str, npt.NDArray[np.float64]]:
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


def _at_level(ranks: Ranks, level: float, floors: Floors) -> dict[str, IntArray]:
    """Channels of this rank or above, and the best of each group up to its floor."""
    kept = {}
    for group, values in ranks.items():
        best = np.argsort(-values, kind="stable")[: floors[group]]
        kept[group] = np.union1d(np.flatnonzero(values >= level), best).astype(np.int64)
    return kept
