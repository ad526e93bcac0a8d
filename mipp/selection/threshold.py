"""One threshold for the whole network, found so that a budget is met."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")

DEPTH = 40.0  # the bracket's width at first, in the logarithm of the threshold
STRIDE = 1.05  # least step towards larger thresholds
STEPS = 40  # walks at most
SLACK = 0.03  # a share of the budget that is not worth another walk: spare units fill it
WIDTH = 0.005  # a bracket this narrow holds a jump: one channel more takes many with it


@dataclass(frozen=True)
class Probe(Generic[Outcome]):
    """An outcome at a threshold, and the threshold it suggests for the budget."""

    outcome: Outcome
    share: float  # what it spends
    suggestion: float


def find_threshold(
    probe: Callable[[float], Probe[Outcome]], allowed: float, top: float
) -> tuple[float, Outcome]:
    """The smallest threshold found whose outcome spends at most `allowed`.

    Parameters
    ----------
    probe : outcome at a threshold; larger thresholds spend less. Its suggestions are followed
        until one spends little enough; then the bracket of a threshold that spends too much and
        one that does not is narrowed by interpolation, every third time by halving.
    allowed : the bound on what is spent.
    top : a threshold at which everything above the floors goes.

    Returns
    -------
    The threshold and its outcome; 0 when nothing needs to go.
    """
    found = probe(0.0)
    if found.share <= allowed:
        return 0.0, found.outcome
    low, above = top * math.exp(-DEPTH), found.share
    high, below, best = top, 0.0, None
    for step in range(STEPS):
        if best is None and found.suggestion < top and step < STEPS // 2:
            threshold = max(found.suggestion, low * STRIDE)
        elif best is None or step % 3 == 2:
            threshold = math.sqrt(low * high)
        else:  # where the line between the two ends of the bracket spends what is allowed
            part = min(max((above - allowed) / (above - below), 0.1), 0.9)
            threshold = low * (high / low) ** part
        found = probe(threshold)
        if found.share > allowed:
            low, above = threshold, found.share
        else:
            high, below, best = threshold, found.share, found.outcome
        met = allowed * (1 - SLACK) <= found.share <= allowed
        if met or high < low * (1 + WIDTH):
            break
    return high, best if best is not None else probe(top).outcome
