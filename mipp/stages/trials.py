"""Networks that `choose` tries: cut, repaired as `prune` will, and scored on validation images.

    choose.budget=drop:1.0   bisection by MACs; the smallest that loses at most a point is chosen,
                             with choose.drop_confidence
    choose.compare=[...]     each of these budgets so too, whatever is chosen

What they cost is left in `trade_off.json`, beside the loss of information that is foretold for
every tenth of the MACs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from torch import nn

from mipp.budget import Budget
from mipp.checkpoint import Checkpoint
from mipp.config import Params
from mipp.data import DataSplits
from mipp.device import device_of
from mipp.errors import BudgetError
from mipp.pruning.drop import Goal, Search, smallest_within
from mipp.pruning.frontier import FrontierPoint, point_of
from mipp.pruning.metric import Scored, accuracy_on
from mipp.pruning.plan import Plan
from mipp.pruning.planner import Planner
from mipp.pruning.ranking import Ranking
from mipp.stages.prune import repaired
from mipp.stages.splits import at_once, load_splits
from mipp.stages.values import limits_of

TENTHS = tuple(Budget("macs", tenths / 10) for tenths in range(9, 0, -1))


@dataclass(frozen=True)
class Tried:
    """A plan, and the network that it gives."""

    plan: Plan
    model: nn.Module


class Trials:
    """Plans of one measurement, and what the networks are worth that some of them give."""

    def __init__(
        self, params: Params, dense: Checkpoint, planner: Planner, ranking: Ranking
    ) -> None:
        self._params, self._dense, self._planner = params, dense, planner
        self._ranking, self._limits = ranking, limits_of(params.choose)
        self._measured: dict[Budget, FrontierPoint] = {}
        self._search: Search | None = None

    def plan(self, budget: Budget) -> Plan:
        """Which units stay under a budget; of a drop, those of the smallest network found.

        Raises
        ------
        BudgetError : it cannot be reached; no smaller network is good enough, or the validation
            images are too few to tell.
        """
        if not budget.is_searched:
            return self._planner.plan(budget, self._ranking, self._limits)
        plans: dict[Budget, Plan] = {}

        def cut(share: Budget) -> Tried:
            plans[share] = self.plan(share)
            return Tried(plans[share], self._repaired(plans[share]))

        confidence = self._params.choose.drop_confidence
        goal = Goal(self._score, self._dense_score, budget.value, confidence)
        narrower = bool(self._planner.heads)
        found, self._search = smallest_within(cut, goal, "macs", narrower=narrower)
        for trial in self._search.trials:
            self._measured[trial.budget] = point_of(plans[trial.budget], trial.value)
        return found.plan

    def trade_off(self, chosen: Plan) -> dict[str, Any]:
        """What budgets cost, the largest network first; `metric` in percent of the images.

        `fallen` is by how much that of the chosen network falls at the most, with `confidence`.
        """
        for budget in (chosen.budget, *self._params.choose.compare):
            if budget not in self._measured:
                plan = chosen if budget == chosen.budget else self.plan(budget)
                self._measured[budget] = point_of(plan, self._score(self._repaired(plan)).value)
        points = [*self._measured.values(), *self._foretold()]
        told = {}
        if self._search and self._search.confidence:
            fallen = {trial.budget: trial.fallen for trial in self._search.trials}
            told = {"confidence": self._search.confidence, "fallen": fallen[chosen.budget]}
        return told | {
            "chosen": str(chosen.budget),
            "dense": self._dense_score.value,
            "images": len(self._splits.validation),
            "points": [asdict(p) for p in sorted(points, key=lambda p: -p.macs_share)],
        }

    def _foretold(self) -> Iterator[FrontierPoint]:
        for budget in TENTHS:
            if budget not in self._measured:
                try:
                    plan = self.plan(budget)
                except BudgetError:  # the network cannot be as small as that
                    return
                yield point_of(plan)

    def _repaired(self, plan: Plan) -> nn.Module:
        images = self._splits.calibration
        return repaired(self._params, self._dense, plan.selection, images)

    def _score(self, model: nn.Module) -> Scored:
        """Of the validation images, in batches of `prune`."""
        images = self._splits.validation
        size = at_once(self._params.prune.batch_size, self._splits.shape)
        return accuracy_on(model, images.batches(size, device=device_of(model)))

    @cached_property
    def _dense_score(self) -> Scored:
        return self._score(self._planner.dense)

    @cached_property
    def _splits(self) -> DataSplits:
        return load_splits(self._params)
