"""The smallest network whose metric falls by no more than so much: bisection over budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

from torch import nn

from mipp.budget import Budget
from mipp.errors import BudgetError, option
from mipp.pruning.metric import Score
from mipp.settings import require_choice

Of = Literal["macs", "params", "latency"]

CLOSE = 1 / 64  # of the dense network, to which the least share is found


class Repaired(Protocol):
    """What a cut ends in."""

    @property
    def model(self) -> nn.Module: ...


Outcome = TypeVar("Outcome", bound=Repaired)


@dataclass(frozen=True)
class Trial:
    """One network on the way: its budget, what its metric was, and whether that is enough."""

    budget: Budget
    value: float
    enough: bool


@dataclass(frozen=True)
class Search:
    """How far a metric may fall, its value in the dense network, and every network tried."""

    allowed: float
    dense: float
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        """A table of the networks by size."""
        lines = [f"metric {self.dense:.2f} dense, which may fall by {self.allowed:g}"]
        lines += [
            f"  {t.budget}: {t.value:.2f} ({t.value - self.dense:+.2f})"
            + ("" if t.enough else ", too little")
            for t in sorted(self.trials, key=lambda trial: -trial.budget.value)
        ]
        return "\n".join(lines)


def smallest_within(
    cut: Callable[[Budget], Outcome], score: Score, dense: float, allowed: float, of: Of
) -> tuple[Outcome, Search]:
    """The smallest network that was found to be good enough, with all that were tried.

    The metric is taken to fall as networks shrink; where it does not, there may be a smaller one.

    Parameters
    ----------
    cut : gives the repaired network under a budget.
    dense : the metric of the dense network.
    allowed : how much lower it may be.
    of : what is to be small.

    Raises
    ------
    BudgetError : no network that is smaller is good enough.
    """
    require_choice("of", of, get_args(Of))
    low, high = 0.0, 1.0
    best: Outcome | None = None
    trials: list[Trial] = []
    while high - low > CLOSE:
        budget = Budget(of, (low + high) / 2)
        try:
            pruned = cut(budget)
        except BudgetError:  # the network cannot be as small as that
            low = budget.value
            continue
        value = score(pruned.model)
        enough = dense - value <= allowed
        trials.append(Trial(budget, value, enough))
        if enough:
            best, high = pruned, budget.value
        else:
            low = budget.value
    search = Search(allowed, dense, tuple(trials))
    if best is None:
        raise BudgetError(
            f"no smaller network keeps the metric within {allowed:g} of the dense one's.\n"
            f"{search}\nExpected one below {high:.3f} of the {of}, got none; allow more, or choose "
            f"a repair such as {option('repair')}='distill'."
        )
    return best, search
