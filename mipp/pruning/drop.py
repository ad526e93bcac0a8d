"""The smallest network whose metric falls by no more than so much: bisection over budgets.

Few inputs tell little: a network that loses none of 144 may lose two in a hundred. So a network is
good enough where the accuracy falls by no more than is allowed with a confidence, see `drop_limit`;
the doubt is shared out over all networks that are tried, of which the luckiest might be taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

from torch import nn

from mipp.bounds import Confidence, require_choice, require_number
from mipp.budget import Budget
from mipp.errors import BudgetError, DataError, option
from mipp.pruning.drop_limit import drop_limit, least_inputs
from mipp.pruning.metric import Score, Scored

Of = Literal["macs", "params", "latency"]

CLOSE = 1 / 64  # of the dense network, to which the least share is found
TRIED = math.ceil(math.log2(1 / CLOSE))  # networks, at most


class Repaired(Protocol):
    """What a cut ends in."""

    @property
    def model(self) -> nn.Module: ...


Outcome = TypeVar("Outcome", bound=Repaired)


@dataclass(frozen=True)
class Goal:
    """How far a metric may fall below that of the dense network, and how sure that is to be.

    Parameters
    ----------
    dense : of the dense network.
    confidence : percent; 0 goes by what is measured, and so does a metric that is one number.

    Raises
    ------
    BudgetError : there are too few inputs to tell so small a fall.
    """

    score: Score
    dense: Scored
    allowed: float
    confidence: float

    def __post_init__(self) -> None:
        require_number("drop_confidence", self.confidence, Confidence)
        if self.dense.answers:
            require_tellable(len(self.dense.answers.right), self.allowed, self.confidence)

    def most_fallen(self, scored: Scored) -> float:
        """By how much a network's metric fell at the most, in percentage points of an accuracy.

        Raises
        ------
        DataError : the inputs come in another order than they did for the dense network.
        """
        dense, pruned = self.dense.answers, scored.answers
        if not dense or not pruned or not self.confidence:
            return self.dense.value - scored.value
        if not pruned.labels.equal(dense.labels):
            raise DataError(
                "validation gives other inputs, or another order, each time.\nExpected those by "
                "which the dense network was scored, got others; pass a loader that does not "
                f"shuffle, or {option('drop_confidence')}=0, which goes by the accuracies alone."
            )
        lost = int((dense.right & ~pruned.right).sum())
        gained = int((pruned.right & ~dense.right).sum())
        return 100 * drop_limit(lost, gained, len(dense.right), _level(self.confidence))


def require_tellable(inputs: int, allowed: float, confidence: float) -> None:
    """Refuse a fall that so few inputs could not tell, even if no answer to them changed.

    Raises
    ------
    BudgetError : names how many could.
    """
    least = least_inputs(allowed / 100, _level(confidence)) if confidence else 0
    if inputs < least:
        wanted = f"{least:,} or more" if least < math.inf else "more than 0 points"
        raise BudgetError(
            f"{inputs:,} validation inputs cannot tell with {confidence:g} % confidence that the "
            f"accuracy falls by at most {allowed:g} points.\nExpected {wanted}, got "
            f"{inputs:,}; give more by {option('validation')}, allow more, or set "
            f"{option('drop_confidence')}=0, which goes by the accuracies measured, whatever they "
            "are worth."
        )


def _level(confidence: float) -> float:
    """That of each network, so that all limits of a search hold at once with the confidence."""
    return 1 - (1 - confidence / 100) / TRIED


@dataclass(frozen=True)
class Trial:
    """One network on the way: its budget, its metric, and whether that is enough.

    `fallen` is by how much the metric is lower than the dense network's, at the most.
    """

    budget: Budget
    value: float
    fallen: float
    enough: bool


@dataclass(frozen=True)
class Search:
    """How far a metric may fall, its value in the dense network, and every network tried.

    Parameters
    ----------
    confidence : percent, with which all `fallen` are so at most; 0 if they are what was measured.
    """

    allowed: float
    dense: float
    trials: tuple[Trial, ...]
    confidence: float = 0.0

    def __str__(self) -> str:
        """A table of the networks by size."""
        lines = [f"metric {self.dense:.2f} dense, which may fall by {self.allowed:g}"]
        if self.confidence:
            lines[0] += f" with {self.confidence:g} % confidence"
        lines += [
            f"  {t.budget}: {t.value:.2f} ({t.value - self.dense:+.2f}"
            + (f", at most {-t.fallen:+.2f}" if self.confidence else "")
            + (")" if t.enough else "), too little")
            for t in sorted(self.trials, key=lambda trial: -trial.budget.value)
        ]
        return "\n".join(lines)


def smallest_within(
    cut: Callable[[Budget], Outcome], goal: Goal, of: Of, *, narrower: bool = False
) -> tuple[Outcome, Search]:
    """The smallest network that was found to be good enough, with all that were tried.

    The metric is taken to fall as networks shrink; where it does not, there may be a smaller one.

    Parameters
    ----------
    cut : gives the repaired network under a budget.
    of : what is to be small.
    narrower : whether all of them have narrower heads than the dense network, which costs, too.

    Raises
    ------
    BudgetError : no network that is smaller is good enough.
    """
    require_choice("of", of, get_args(Of))
    low, high = 0.0, 1.0
    best: Outcome | None = None
    trials: list[Trial] = []
    refusal: BudgetError | None = None
    while high - low > CLOSE:
        budget = Budget(of, (low + high) / 2)
        try:
            pruned = cut(budget)
        except BudgetError as error:  # the network cannot be as small as that
            refusal, low = error, budget.value
            continue
        scored = goal.score(pruned.model)
        fallen = goal.most_fallen(scored)
        enough = fallen <= goal.allowed
        trials.append(Trial(budget, scored.value, fallen, enough))
        if enough:
            best, high = pruned, budget.value
        else:
            low = budget.value
    told = goal.confidence if goal.dense.answers else 0.0
    search = Search(goal.allowed, goal.dense.value, tuple(trials), told)
    if refusal is not None and not trials:
        raise BudgetError(f"no smaller network can be made, whatever it may lose: {refusal}")
    if best is None:
        wider = f", or {option('narrow_heads')}=1" if narrower else ""
        raise BudgetError(
            f"no smaller network keeps the metric within {goal.allowed:g} of the dense one's.\n"
            f"{search}\nExpected one below {high:.3f} of the {of}, got none; allow more, or choose "
            f"a repair such as {option('repair')}='distill'{wider}."
        )
    return best, search
