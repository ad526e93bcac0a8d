"""Units removed round by round, and scores that hold the order in which they left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mipp.selection.scores import GroupScores, Scores, require_finite

Alive = Mapping[str, npt.NDArray[np.bool_]]  # group -> which units are still there, (width,)
Unit = tuple[str, int]


def score_by_elimination(
    widths: Mapping[str, int], score: Callable[[Alive], GroupScores], rounds: int
) -> GroupScores:
    """The share of all units that have left with each unit, in (0, 1].

    Every round scores what is left anew and removes the units of lowest score, the same share
    of what is left each time, down to one unit per group. The best unit of a group stays until
    then. One order thus serves every budget: a milder one cuts a shorter beginning of it.

    Parameters
    ----------
    score : scores of all units, of which those that left do not count.

    Raises
    ------
    ScoreError : the first round tells no unit from another, or one gives numbers that are not
        finite.
    """
    alive = {name: np.ones(width, bool) for name, width in widths.items()}
    left: list[Unit] = []
    scores: GroupScores = {}
    for goal in stops(sum(widths.values()), len(widths), rounds):
        scores = score(alive)
        _require_ranking(scores, alive)
        going = _lowest(scores, alive, sum(int(a.sum()) for a in alive.values()) - goal)
        for name, unit in going:
            alive[name][unit] = False
        left += going
    last = [(name, int(np.argmax(present))) for name, present in alive.items()]
    left += sorted(last, key=lambda unit: float(scores[unit[0]][unit[1]]) if scores else 0.0)
    return _positions(widths, left)


def _require_ranking(scores: GroupScores, alive: Alive) -> None:
    """Later, units may well be alike: a network of few units can be dead."""
    if all(present.all() for present in alive.values()):
        widths = {name: len(present) for name, present in alive.items()}
        Scores(scores, widths, "the first round")
    for name, present in alive.items():
        require_finite(np.where(present, scores[name], 0.0), f"scores of group {name!r} in a round")


def stops(units: int, groups: int, rounds: int) -> list[int]:
    """Units left after each round: a geometric sequence down to the number of groups."""
    exact = (units * (groups / units) ** (k / rounds) for k in range(1, rounds + 1))
    falling = sorted({max(round(e), groups) for e in exact}, reverse=True)
    return [goal for goal in falling if goal < units]


def _lowest(scores: GroupScores, alive: Alive, number: int) -> list[Unit]:
    """The units of lowest score that are left, the best of each group apart."""
    free = []
    for name, present in alive.items():
        there = np.flatnonzero(present)
        best = there[np.argmax(scores[name][there])]
        free += [(float(scores[name][c]), name, int(c)) for c in there if c != best]
    return [(name, unit) for _, name, unit in sorted(free, key=lambda item: item[0])[:number]]


def _positions(widths: Mapping[str, int], left: list[Unit]) -> GroupScores:
    scores = {name: np.empty(width) for name, width in widths.items()}
    for position, (name, unit) in enumerate(left, start=1):
        scores[name][unit] = position / len(left)
    return scores
