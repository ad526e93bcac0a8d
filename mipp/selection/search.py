"""One threshold for the whole network, found so that a budget is met."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Outcome = TypeVar("Outcome")

DEPTH = 40.0  # below the top, in the logarithm of the threshold, where the search begins
STRIDE = 0.05  # least step in that logarithm, until the budget is between two thresholds
LEAP = 0.7  # largest step that two thresholds foretell
STEPS = 40  # walks at most
SLACK = 0.03  # a share of the budget that is not worth another walk: spare units fill it
WIDTH = 0.005  # a bracket this narrow holds a jump: one channel more takes many with it


@dataclass(frozen=True)
class Probe(Generic[Outcome]):
    """An outcome at a threshold, and the threshold it suggests for the budget."""

    outcome: Outcome
    share: float  # what it spends
    suggestion: float


class _Tried(NamedTuple):
    """The logarithm of a threshold, and what its outcome spends."""

    at: float
    share: float

    def towards(self, other: _Tried, share: float) -> float:
        """Where the line through both spends `share`; they spend differently."""
        return self.at + (other.at - self.at) * (share - self.share) / (other.share - self.share)


@dataclass
class _Search:
    """Thresholds too small and large enough so far, all as logarithms, and which to try next."""

    lowest: float
    top: float
    aim: float  # what the next outcome ought to spend
    over: list[_Tried] = field(default_factory=list)  # spent too much, ever less
    under: list[_Tried] = field(default_factory=list)  # did not, ever more
    narrowed: int = 0

    @property
    def low(self) -> float:
        return self.over[-1].at if self.over else self.lowest

    @property
    def high(self) -> float:
        return self.under[-1].at if self.under else self.top

    def next(self, suggestion: float) -> float:
        if not self.under:
            return self._up(suggestion)
        return self._between() if self.over else self._down()

    def _up(self, suggestion: float) -> float:
        """Where suggested, or as far as the last two foretell if that is further."""
        if suggestion >= self.top or len(self.over) >= STEPS // 2:
            return (self.low + self.high) / 2
        foretold = min(self._foretold(self.over), self.low + LEAP)
        return max(suggestion, self.low + STRIDE, foretold)

    def _down(self) -> float:
        foretold = max(self._foretold(self.under), self.high - LEAP)
        return max(min(foretold, self.high - STRIDE), self.low)

    def _foretold(self, tried: list[_Tried]) -> float:
        """Where the line through the last two spends what it ought to; theirs if there is none."""
        if len(tried) < 2 or tried[-1].share == tried[-2].share:
            return tried[-1].at if tried else self.low
        return tried[-2].towards(tried[-1], self.aim)

    def _between(self) -> float:
        """Where the line between both ends spends what it ought to; every third time half-way."""
        self.narrowed += 1
        part = 0.5
        if self.narrowed % 3:
            aimed = self.over[-1].towards(self.under[-1], self.aim)
            part = min(max((aimed - self.low) / (self.high - self.low), 0.1), 0.9)
        return self.low + part * (self.high - self.low)


def find_threshold(
    probe: Callable[[float], Probe[Outcome]], allowed: float, top: float
) -> tuple[float, Outcome]:
    """The smallest threshold found whose outcome spends at most `allowed`.

    Parameters
    ----------
    probe : outcome at a threshold; larger thresholds spend less. Its suggestions are followed
        until one spends little enough, and further where the last two foretell more; from a
        first one that goes too far, ever longer steps lead down. Then the bracket of a threshold
        that spends too much and one that does not is narrowed by interpolation, every third time
        by halving.
    allowed : the bound on what is spent.
    top : a threshold at which everything above the floors goes.

    Returns
    -------
    The threshold and its outcome; 0 when nothing needs to go.
    """
    found = probe(0.0)
    if found.share <= allowed:
        return 0.0, found.outcome
    best = None
    search = _Search(math.log(top) - DEPTH, math.log(top), allowed * (1 - SLACK / 2))
    for _ in range(STEPS):
        suggestion = math.log(found.suggestion) if found.suggestion > 0 else -math.inf
        tried = search.next(suggestion)
        found = probe(math.exp(tried))
        if found.share > allowed:
            search.over.append(_Tried(tried, found.share))
        else:
            best = found.outcome
            search.under.append(_Tried(tried, found.share))
        met = allowed * (1 - SLACK) <= found.share <= allowed
        if met or search.high - search.low < WIDTH:
            break
    return math.exp(search.high), best if best is not None else probe(top).outcome
