"""What is spent of a budget, what it has room for, and the scores that meet it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mipp.budget import Budget
from mipp.errors import BudgetError
from mipp.graph import ChannelGraph

Scores = Mapping[str, npt.NDArray[np.float64]]  # group -> score per channel, higher means keep

UNBOUNDED = ("nats", "confidence")  # the share that remains is theirs to find
ROUNDING = 1e-9


def spent(graph: ChannelGraph, kept: Mapping[str, int], kind: str) -> float:
    """Share of the dense network's units, parameters, MACs or predicted time that remains."""
    if kind == "latency":
        return graph.milliseconds(kept) / graph.milliseconds(graph.widths)
    if kind == "params":
        return graph.params(kept) / graph.params(graph.widths)
    if kind == "macs":
        return graph.macs(kept) / graph.macs(graph.widths)
    return sum(kept.values()) / sum(graph.widths.values())


def allowance(budget: Budget) -> float:
    """Share that may remain under a budget of size or time."""
    return (1 - budget.value if budget.kind == "ratio" else budget.value) + ROUNDING


def fits(graph: ChannelGraph, kept: Mapping[str, int], budget: Budget) -> bool:
    """Whether a budget of size or predicted time is met, up to rounding of the shares."""
    return spent(graph, kept, budget.kind) <= allowance(budget)


def check_reachable(graph: ChannelGraph, budget: Budget, floors: Mapping[str, int]) -> None:
    """Refuse a budget below what the floors of all groups cost; of time once it is measured.

    Raises
    ------
    BudgetError : even with every group at its floor the budget is not met; names the least.
    """
    if budget.kind in UNBOUNDED or (budget.kind == "latency" and graph.latency is None):
        return
    if not fits(graph, floors, budget):
        reachable = spent(graph, floors, budget.kind)
        edge, bound = "at least", math.ceil(reachable * 1e4) / 1e4
        if budget.kind == "ratio":
            edge, bound = "at most", math.floor((1 - reachable + ROUNDING) * 1e4) / 1e4
        raise BudgetError(
            f"budget {budget} (choose.budget) cannot be reached in this network.\nExpected "
            f"{edge} {budget.kind}:{bound:g} with the {sum(floors.values())} units that "
            f"choose.min_channels, limits and round_to keep in {len(floors)} prunable groups, got "
            f"{budget}; relax the budget, or lower choose.min_channels or choose.round_to."
        )


class Candidate(NamedTuple):
    """A dropped channel and how much it is wanted back."""

    worth: float
    group: str
    channel: int


def spare_channels(
    graph: ChannelGraph,
    kept: Mapping[str, int],
    dropped: Iterable[Candidate],
    budget: Budget,
) -> set[tuple[str, int]]:
    """Dropped channels that still fit into the budget, those of most worth first.

    Ties go to the group's name, then to the lower channel.
    """
    counts = dict(kept)
    spare: set[tuple[str, int]] = set()
    full: set[str] = set()  # groups of which no channel fits, nor will: counts only grow
    for _, group, channel in sorted(dropped, key=lambda c: (-c.worth, c.group, c.channel)):
        if group in full:
            continue
        more = {**counts, group: counts[group] + 1}
        if fits(graph, more, budget):
            counts = more
            spare.add((group, channel))
        else:
            full.add(group)
    return spare


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
