"""What is spent of a budget, what it has room for, and whether it can be reached at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mipp.budget import Budget
from mipp.errors import BudgetError, option
from mipp.graph import ChannelGraph
from mipp.graph.whole import whole_lines

UNBOUNDED = ("nats", "confidence")  # the share that remains is theirs to find
ROUNDING = 1e-9


def spent(graph: ChannelGraph, kept: Mapping[str, int], kind: str) -> float:
    """Share of the dense network's units, parameters, MACs or predicted time that remains."""
    if kind == "latency":
        return graph.milliseconds(kept) / graph.dense_milliseconds()
    if kind == "params":
        return graph.params(kept) / graph.dense_params()
    if kind == "macs":
        return graph.macs(kept) / graph.dense_macs()
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
            f"{option('budget')}={budget} cannot be reached in this network.\nExpected "
            f"{edge} {budget.kind}:{bound:g} with the {sum(floors.values())} units that "
            f"{option('min_channels')}, limits and round_to keep in {len(floors)} prunable groups, "
            f"got {budget}; relax the budget{_lower(floors)}."
            f"{whole_text(graph, floors, budget.kind)}"
        )


def _lower(floors: Mapping[str, int]) -> str:
    """What else to do about a budget that is out of reach, where not every floor is the lowest."""
    if max(floors.values()) <= 1:
        return ""
    return f", or lower {option('min_channels')}, {option('round_to')} or what limits keep"


def whole_text(graph: ChannelGraph, floors: Mapping[str, int], kind: str) -> str:
    """What is left of layers that stay whole, for the end of an error; units are none of theirs."""
    lines = whole_lines(graph, floors, "params" if kind == "params" else "macs")
    if not lines or kind == "ratio":
        return ""
    counted = "parameters" if kind == "params" else "multiply-accumulates"
    title = f"\nLayers that stay whole, with the share of the {counted} that is left in them:"
    return "\n".join([title, *lines])


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
