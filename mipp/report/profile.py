"""Information profiles: what each unit of a group was judged by, from least to most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mipp.page.svg import ALARM, DROPPED, KEPT
from mipp.report.drawing import add_legend, new_figure, set_log_axis
from mipp.report.run import Run, Unit

PANELS = 24
COLUMNS = 4
LEAST = 1e-12  # nats: where less than that is drawn, zero having no logarithm
LOG_SPREAD = 100.0  # scores that spread wider are drawn on a log axis


def draw_profiles(run: Run) -> Figure:
    """One small panel per group, all with the same upright axis; of many groups, some."""
    shown = {name: run.units[name] for name in shown_groups(list(run.units))}
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = new_figure(0.9 + 1.35 * rows, rows=rows, columns=columns)
    logarithmic = _logarithmic(run)
    drawn = [
        _profile(axes, units, logarithmic)
        for axes, units in zip(panels, shown.values(), strict=False)
    ]
    limits = _limits([value for heights in drawn for value in heights], logarithmic)
    for i, (axes, name) in enumerate(zip(panels, shown, strict=False)):
        axes.set_ylim(*limits)
        if logarithmic:
            set_log_axis(axes)
        axes.set_title(name, loc="left", fontsize=8, parse_math=False)
        axes.tick_params(labelleft=i % columns == 0, labelsize=7.5)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supylabel("nats added" if run.by_information() else "score", fontsize=9)
    of_all = f" ({len(shown)} of {len(run.units)} groups)" if len(shown) < len(run.units) else ""
    figure.supxlabel(f"units, from least to most{of_all}", fontsize=9)
    why = {unit.why for units in shown.values() for unit in units}
    floor = {"at the floor": ALARM} if "floor" in why else {}
    add_legend(figure, {"kept": KEPT, "dropped": DROPPED, **floor})
    return figure


def shown_groups(names: Sequence[str]) -> list[str]:
    """The groups that get a panel: all, or `PANELS` evenly spaced with the first and the last."""
    if len(names) <= PANELS:
        return list(names)
    return [names[round(i)] for i in np.linspace(0, len(names) - 1, PANELS)]


def _logarithmic(run: Run) -> bool:
    if run.by_information():
        return True
    values = [unit.value for units in run.units.values() for unit in units]
    return min(values) > 0 and max(values) / min(values) > LOG_SPREAD


def _limits(heights: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    """Ends of an axis that shows all finite heights."""
    finite = [value for value in heights if math.isfinite(value)] or [1.0]
    low, high = min(finite), max(finite)
    margin = 0.05 * (high - low) or 1.0
    return (low / 3, high * 3) if logarithmic else (low - margin, high + margin)


def _profile(axes: Axes, units: Sequence[Unit], logarithmic: bool) -> list[float]:
    """Draw one group's units; returns the heights drawn."""
    ordered = sorted(units, key=lambda unit: unit.value)
    heights = [max(unit.value, LEAST) if logarithmic else unit.value for unit in ordered]
    colours = [ALARM if unit.why == "floor" else KEPT if unit.kept else DROPPED for unit in ordered]
    axes.scatter(range(1, len(ordered) + 1), heights, c=colours, s=6, linewidths=0)
    axes.set_xticks(sorted({1, len(ordered)}))
    axes.grid(visible=True, axis="y")
    return heights
