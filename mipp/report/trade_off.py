"""The trade-off curve: what other budgets would have cost, foretold and measured."""

from __future__ import annotations

from matplotlib.figure import Figure

from mipp.page.document import Table
from mipp.page.svg import DROPPED, KEPT, RULE
from mipp.report.drawing import add_legend, new_figure
from mipp.report.run import Point, Run

PERCENT = 100.0
NOTHING = 0.05  # points, which print as 0.0


def trade_off_table(run: Run) -> Table:
    """One row per budget, the largest network first."""
    found = run.trade_off
    assert found is not None
    rows = [
        (
            f"{point['budget']}{' (chosen)' if point['budget'] == found['chosen'] else ''}",
            f"{PERCENT * point['macs_share']:.1f}",
            f"{PERCENT * point['params_share']:.1f}",
            "-" if point["lost"] is None else f"{PERCENT * point['lost']:.2f}",
            "-" if point["metric"] is None else f"{point['metric']:.2f}",
            "-" if point["metric"] is None else f"{point['metric'] - found['dense']:+.2f}",
        )
        for point in found["points"]
    ]
    sure = ""
    if "fallen" in found:
        sure = (
            f" With {found['confidence']:g} % confidence the chosen network has at most "
            f"{found['fallen']:.2f} points less on other images too."
        )
    return Table(
        ("budget", "MACs %", "params %", "information lost %", "accuracy %", "change"),
        rows,
        "Other budgets by the same measurement. Information: the share that goes, foretold. "
        f"Accuracy: on {found['images']:,} validation images, of which one is "
        f"{PERCENT / found['images']:.2f} points and the dense network has {found['dense']:.2f} % "
        "right, after the repair and without training, where networks were tried." + sure,
    )


def trade_off_sentence(run: Run) -> str:
    """What the networks that were tried would cost beside the chosen one, in one sentence."""
    found = run.trade_off
    assert found is not None
    tried = [point for point in found["points"] if point["metric"] is not None]
    costs = [f"`{p['budget']}` {_change(p['metric'] - found['dense'])}" for p in tried]
    return f"On validation images, repaired and without training: {', '.join(costs)}."


def _change(points: float) -> str:
    if abs(points) < NOTHING:
        return "would cost nothing"
    return f"would {'gain' if points > 0 else 'cost'} {abs(points):.1f} points"


def draw_trade_off(run: Run) -> Figure | None:
    """Information lost where the method tells it, and accuracy, over the MACs that stay."""
    if run.trade_off is None:
        return None
    points: list[Point] = run.trade_off["points"]
    kinds = {"lost": ("information lost, %", PERCENT), "metric": ("accuracy, %", 1.0)}
    told = [kind for kind in kinds if any(point[kind] is not None for point in points)]
    figure, panels = new_figure(2.5, columns=len(told))
    for axes, kind in zip(panels, told, strict=True):
        label, factor = kinds[kind]
        known = [point for point in points if point[kind] is not None]
        shares = [PERCENT * point["macs_share"] for point in known]
        heights = [factor * point[kind] for point in known]
        axes.plot(shares, heights, color=KEPT, marker="o", markersize=3)
        at = [point["budget"] for point in known].index(run.trade_off["chosen"])
        axes.plot([shares[at]], [heights[at]], color=DROPPED, marker="o")
        axes.set_xlabel("MACs that stay, %")
        axes.set_ylabel(label)
        axes.grid(visible=True, axis="y")
    panels[-1].axhline(run.trade_off["dense"], color=RULE, zorder=0)
    add_legend(figure, {"other budgets": KEPT, "chosen": DROPPED})
    return figure
