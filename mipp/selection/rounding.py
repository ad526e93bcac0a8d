"""Widths in multiples that hardware likes, within the same budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mipp.budget import Budget
from mipp.graph import ChannelGraph
from mipp.selection.limits import Floors
from mipp.selection.spending import UNBOUNDED, fits


class Ranked(NamedTuple):
    """A channel and what it is worth; a group's channels come in the order in which they stay."""

    channel: int
    worth: float


def round_widths(
    graph: ChannelGraph,
    ranked: Mapping[str, Sequence[Ranked]],
    counts: Mapping[str, int],
    floors: Floors,
    budget: Budget,
    multiple: int,
) -> dict[str, int]:
    """Channels that each group keeps when widths are multiples, or the whole group.

    Without a bound on size widths are rounded up. Else they are rounded down, and blocks of
    `multiple` channels come back while they fit, those worth most first.

    Parameters
    ----------
    ranked : every channel of each group, the kept ones first.
    counts : how many of them are kept.
    """
    if multiple == 1:
        return dict(counts)
    ups = {g: _up(counts[g], multiple, graph.widths[g]) for g in counts}
    if budget.kind in UNBOUNDED:
        return ups
    rounded = {g: max(_down(counts[g], multiple, graph.widths[g]), floors[g]) for g in counts}
    while True:
        steps = {
            g: {**rounded, g: _up(rounded[g] + 1, multiple, graph.widths[g])}
            for g in rounded
            if rounded[g] < graph.widths[g]
        }
        fitting = [g for g, more in steps.items() if fits(graph, more, budget)]
        if not fitting:
            return rounded
        best = max(fitting, key=lambda g: (_mean_worth(ranked[g], rounded[g], steps[g][g]), g))
        rounded = steps[best]


def _up(count: int, multiple: int, width: int) -> int:
    return min(-(-count // multiple) * multiple, width)


def _down(count: int, multiple: int, width: int) -> int:
    return width if count == width else count // multiple * multiple


def _mean_worth(ranked: Sequence[Ranked], start: int, stop: int) -> float:
    block = ranked[start:stop]
    return sum(item.worth for item in block) / len(block)
