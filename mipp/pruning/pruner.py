"""A network and calibration data: measured once, planned for many budgets, cut for any of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mipp.activations import Sampling
from mipp.bounds import NotNegative, require_number
from mipp.budget import Budget
from mipp.cut import apply_to_groups
from mipp.device import device_of
from mipp.pruning.drop import Goal, Of, smallest_within
from mipp.pruning.frontier import Frontier, measured_of, point_of
from mipp.pruning.metric import ACCURACY, Metric, score_of
from mipp.pruning.needs import Needs, sizes_of
from mipp.pruning.needs_of_refit import needs_of_refit
from mipp.pruning.plan import Plan
from mipp.pruning.planner import Planner, parsed
from mipp.pruning.pruned import Pruned
from mipp.pruning.ranking import Ranking
from mipp.pruning.repair import Cut, mend
from mipp.pruning.report import report_on
from mipp.settings import DROP_CONFIDENCE, Limits, Refit, Repair
from mipp.surroundings import undisturbed


class Pruner(Planner):
    """Measures a network once and answers many times: `rank`, then `plan`, then `cut`.

    Parameters and errors as for `Planner`, which cuts nothing.

    Example
    -------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    >>> pruner = Pruner(model, [torch.randn(256, 8)])
    >>> ranking = pruner.rank()
    >>> plans = [pruner.plan(f"ratio:{share}", ranking) for share in (0.25, 0.5, 0.75)]
    >>> [plan.selection.counts()["0"] for plan in plans]
    [12, 8, 4]
    >>> pruner.cut(plans[1]).model[0].out_features
    8
    """

    def needs_of_refit(self, repair: Refit | None = None) -> Needs:
        """Bytes and rough seconds of the refit of a network that is cut to about a half."""
        images, rows = self.calibration.count(), (repair or Refit()).rows
        sizes = sizes_of(self.model, self.graph, Sampling(rows, images, self.seed))
        forward = images * self._seconds_per_input
        return needs_of_refit(self.graph, sizes, images, forward, device_of(self.model))

    @undisturbed()
    def cut(self, plan: Plan, repair: Repair | None = None) -> Pruned:
        """A pruned copy of the network.

        Parameters
        ----------
        repair : what mends it: `Refit()`, which is the default, `Distill()`, `Recalibrate()` or
            `NoRepair()`.
        """
        started = time.perf_counter()
        model = apply_to_groups(self.model, plan.selection, self.graph.groups)
        cut = Cut(model, self.model, self.graph, plan.selection)
        mended = mend(cut, repair or Refit(), self.calibration, self.seed)
        seconds = time.perf_counter() - started
        report = report_on(plan, model, self.dense, self.shape, seconds)
        unfitted = {fit.layer: fit.left for fit in mended.fits if fit.left}
        report = replace(
            report,
            inputs=self.calibration.count(),
            unfitted=unfitted,
            distilled=mended.distilled,
            heads=self.heads,
        )
        return Pruned(model, plan.selection, report, self.shape)

    def smallest(
        self,
        drop: float,
        validation: Iterable[Any],
        *,
        metric: Metric = ACCURACY,
        drop_confidence: float = DROP_CONFIDENCE,
        of: Of = "macs",
        ranking: Ranking | None = None,
        limits: Limits | None = None,
        repair: Repair | None = None,
    ) -> Pruned:
        """The smallest network whose metric is at most so much below the dense one's, repaired.

        It is found by bisection, to a 64th of the dense network, and the report shows all networks
        on the way (`report.search`).

        Parameters
        ----------
        drop : how much lower the metric may be: percentage points of accuracy.
        validation : batches of (inputs, labels) that calibration has none of, read again each time.
        metric : `accuracy`, or a function of (model, validation), the higher the better.
        drop_confidence : percent, with which the accuracy is to fall by no more than `drop` on
            inputs that are drawn as those of `validation` are; the search looks at up to six
            networks, and has the luckiest of them in mind. 0 goes by the accuracies measured, as it
            always is for a metric of yours, whose noise one number does not tell.
        of : what is to be small.

        Raises
        ------
        BudgetError : no smaller network is good enough, or there are too few validation inputs to
            tell so small a drop.
        ConfigError : the drop is no number from 0 on.
        """
        require_number("drop", drop, NotNegative)
        score = score_of(metric, validation)
        goal = Goal(score, score(self.dense), drop, drop_confidence)
        return self.smallest_for(goal, of=of, ranking=ranking, limits=limits, repair=repair)

    def smallest_for(
        self,
        goal: Goal,
        *,
        of: Of = "macs",
        ranking: Ranking | None = None,
        limits: Limits | None = None,
        repair: Repair | None = None,
    ) -> Pruned:
        """`smallest`, where the dense network is scored already."""

        def cut(budget: Budget) -> Pruned:
            return self.cut(self.plan(budget, ranking, limits), repair)

        pruned, search = smallest_within(cut, goal, of, narrower=bool(self.heads))
        return replace(pruned, report=replace(pruned.report, search=search))

    def frontier(
        self,
        budgets: Sequence[str | Budget] = ("macs:0.7", "macs:0.5", "macs:0.3"),
        validation: Iterable[Any] | None = None,
        *,
        measured: Sequence[str | Budget] | None = None,
        metric: Metric = ACCURACY,
        ranking: Ranking | None = None,
        limits: Limits | None = None,
        repair: Repair | None = None,
    ) -> Frontier:
        """What each of several budgets costs: size, information lost and, where asked, the metric.

        All plans share one measurement; a metric needs a network that is cut and repaired.

        Parameters
        ----------
        validation : batches of (inputs, labels); no metric without.
        measured : those of the budgets that the metric is measured at; all without.
        metric : `accuracy`, or a function of (model, validation), the higher the better.

        Raises
        ------
        BudgetError : one of them cannot be reached.
        ConfigError : a metric is to be measured without validation, or at none of the budgets.
        """
        score = None if validation is None else score_of(metric, validation)
        every = [parsed(budget) for budget in budgets]
        at = measured_of(every, measured, validation)
        points = []
        for budget in every:
            plan = self.plan(budget, ranking, limits)
            value = score(self.cut(plan, repair).model).value if score and budget in at else None
            points.append(point_of(plan, value))
        return Frontier(tuple(points), score(self.dense).value if score else None)
