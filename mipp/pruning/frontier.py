"""The trade-off curve: what each budget costs, foretold of all and measured of some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mipp.budget import Budget
from mipp.errors import ConfigError
from mipp.pruning.plan import Plan
from mipp.pruning.planner import parsed


@dataclass(frozen=True)
class FrontierPoint:
    """One budget: multiply-accumulates and parameters, with their shares of the dense network's.

    `lost` is the share of the information that goes, as foretold, see `Plan.lost`; `metric` is that
    of the repaired network, where it was measured.
    """

    budget: str
    macs: int
    macs_share: float
    params: int
    params_share: float
    lost: float | None
    metric: float | None = None


@dataclass(frozen=True)
class Frontier:
    """What budgets cost, in the order in which they were asked for; prints as a table.

    Parameters
    ----------
    dense : the metric of the dense network, None where none was measured.
    """

    points: tuple[FrontierPoint, ...]
    dense: float | None = None

    def rows(self) -> list[dict[str, object]]:
        """One mapping per budget, as `pandas.DataFrame` takes them."""
        return [asdict(point) for point in self.points]

    def __str__(self) -> str:
        header = ("budget", "MACs", "%", "params", "%", "information lost %", "metric")
        table = [header, *(_cells(point) for point in self.points)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in table
        ]
        if self.dense is not None:
            lines.append(f"metric of the dense network: {self.dense:.2f}")
        return "\n".join(lines)


def _cells(point: FrontierPoint) -> tuple[str, ...]:
    return (
        point.budget,
        f"{point.macs:,}",
        f"{100 * point.macs_share:.1f}",
        f"{point.params:,}",
        f"{100 * point.params_share:.1f}",
        "" if point.lost is None else f"{100 * point.lost:.2f}",
        "" if point.metric is None else f"{point.metric:.2f}",
    )


def point_of(plan: Plan, metric: float | None = None) -> FrontierPoint:
    """What a plan costs."""
    graph, kept = plan.graph, plan.selection.counts()
    macs, params = graph.macs(kept), graph.params(kept)
    return FrontierPoint(
        str(plan.budget),
        macs,
        macs / graph.dense_macs(),
        params,
        params / graph.dense_params(),
        plan.lost,
        metric,
    )


def measured_of(
    budgets: Sequence[Budget], measured: Sequence[str | Budget] | None, validation: object
) -> Sequence[Budget]:
    """The budgets at which a metric is measured.

    Raises
    ------
    ConfigError : they are none of the budgets, or there is no validation.
    """
    if measured is None:
        return budgets
    chosen = [parsed(budget) for budget in measured]
    others = [str(budget) for budget in chosen if budget not in budgets]
    if others:
        raise ConfigError(
            f"measured: expected some of the budgets, got {', '.join(others)} beside them; add "
            "them to budgets."
        )
    if validation is None:
        raise ConfigError(
            "measured has no effect without validation.\nExpected batches of (inputs, labels) to "
            "measure on, got none; pass validation, or leave out measured."
        )
    return chosen
