"""Selection under a budget of time: predicted, pruned, measured, and corrected."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from mipp.budget import Budget
from mipp.errors import BudgetError, option
from mipp.graph import ChannelGraph
from mipp.graph.latency import LatencyTable
from mipp.selection.limits import Floors
from mipp.selection.selection import Selection
from mipp.selection.spending import spent, whole_text

CLOSE = 0.03  # relative error of the measured share that is good enough
TRIES = 5  # selections at most
UNSURE = 0.1  # relative error within which the clock does not refuse a budget


class Stopwatch(Protocol):
    """What measures; `Clock` does."""

    def measured(self, graph: ChannelGraph) -> ChannelGraph: ...

    def share(self, selection: Selection) -> float: ...

    def least_share(self, graph: ChannelGraph, floors: Mapping[str, int]) -> float: ...

    def circumstances(self) -> Mapping[str, Any]: ...


class Chosen(Protocol):
    """What a choice ends in."""

    @property
    def selection(self) -> Selection: ...


Outcome = TypeVar("Outcome", bound=Chosen)
Select = Callable[[ChannelGraph, Budget], Outcome]


@dataclass(frozen=True)
class Try:
    """One selection: the share it was made for, and those predicted and measured of it."""

    target: float
    predicted: float
    measured: float


@dataclass(frozen=True)
class TimeReport:
    """What was measured for a choice: the table, and every selection on the way to a budget.

    Shares are of the dense network's time; nothing is wanted, and nothing tried, where time is
    but the price.
    """

    wanted: float | None
    tries: tuple[Try, ...]
    table: LatencyTable
    circumstances: Mapping[str, Any]

    def best(self) -> Try | None:
        """The selection that was taken: the one measured nearest to what was wanted."""
        if self.wanted is None:
            return None
        wanted = self.wanted
        return min(self.tries, key=lambda t: abs(t.measured - wanted))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.circumstances,
            "wanted": self.wanted,
            "tries": [asdict(t) for t in self.tries],
            "table": self.table.to_json(),
        }


def within_time(
    select: Select[Outcome],
    graph: ChannelGraph,
    budget: Budget,
    floors: Floors,
    clock: Stopwatch,
) -> tuple[Outcome, TimeReport]:
    """What `select` gives, once the time of every module is measured.

    Under a `latency` budget it is the selection whose measured time comes nearest: a prediction
    errs, so each selection is pruned and timed beside the dense network, and the next is made
    for a share corrected by what was measured. Two runs may differ, as their measurements do.

    Parameters
    ----------
    select : outcome on a graph with a table, under a budget, perhaps another one of `latency`.
    budget : of time; under another one time is but the price.

    Raises
    ------
    BudgetError : even with every group at its floor the network takes longer.
    """
    wanted = budget.value if budget.kind == "latency" else None
    tries: list[Try] = []
    if wanted is None:
        graph = clock.measured(graph)
        outcome = select(graph, budget)
    else:
        least = clock.least_share(graph, floors)
        require_time(wanted, least, floors, graph)
        graph = clock.measured(graph)
        ends = ((spent(graph, floors, "latency"), least), (1.0, 1.0))
        outcome, tries = _search(lambda asked: select(graph, asked), graph, wanted, clock, ends)
    assert graph.latency is not None
    return outcome, TimeReport(wanted, tuple(tries), graph.latency, clock.circumstances())


def _search(
    select: Callable[[Budget], Outcome],
    graph: ChannelGraph,
    wanted: float,
    clock: Stopwatch,
    ends: tuple[tuple[float, float], ...],
) -> tuple[Outcome, list[Try]]:
    """The best outcome, and all tries; `ends` are predicted and measured of floors and dense."""
    least = ends[0][0]
    tries: list[Try] = []
    target = max(wanted, least)
    best: tuple[float, Outcome] | None = None
    while len(tries) < TRIES and target not in [t.target for t in tries]:
        outcome = select(Budget("latency", target))
        selection = outcome.selection
        measured = clock.share(selection)
        tries.append(Try(target, spent(graph, selection.counts(), "latency"), measured))
        error = abs(measured - wanted)
        if best is None or error < best[0]:
            best = error, outcome
        if error <= CLOSE * wanted:
            break
        known = [*ends, *((t.predicted, t.measured) for t in tries)]
        target = min(max(next_target(wanted, known), least), 1.0)
    assert best is not None
    return best[1], tries


def next_target(wanted: float, known: Sequence[tuple[float, float]]) -> float:
    """The share to ask for, on the line between what was measured just below and just above.

    Parameters
    ----------
    known : predicted and measured shares.
    """
    below = [(measured, predicted) for predicted, measured in known if measured <= wanted]
    above = [(measured, predicted) for predicted, measured in known if measured > wanted]
    if not below or not above:
        return min(known)[0] if above else max(known)[0]
    (low, start), (high, stop) = max(below), min(above)
    return start + (stop - start) * (wanted - low) / (high - low)


def require_time(
    wanted: float, least: float, floors: Mapping[str, int], graph: ChannelGraph
) -> None:
    """Refuse a share of the time that is clearly less than what is needed at all floors.

    Raises
    ------
    BudgetError : names the least share, as measured.
    """
    if wanted * (1 + UNSURE) >= least:
        return
    named = min(1.0, math.ceil(least * 100) / 100)
    raise BudgetError(
        f"{option('budget')}=latency:{wanted:g} cannot be reached in this network.\nExpected at "
        f"least latency:{named:g}, measured with the {sum(floors.values())} units that "
        f"{option('min_channels')}, limits and round_to keep in {len(floors)} prunable groups, got "
        f"latency:{wanted:g}; relax the budget, or choose a larger {option('latency_batch')}, at "
        f"which widths count for more.{whole_text(graph, floors, 'latency')}"
    )
