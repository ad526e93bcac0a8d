"""Figures of a sweep: curves with bands over seeds, bars, and points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from mipp.report.drawing import drawing, new_figure, save_figure

MARKS = "os^vD<>pXP*hd"
OURS: Mapping[str, Any] = {"linewidth": 2.6, "zorder": 3}  # the line that one sees


@dataclass(frozen=True)
class Curve:
    """Values over x: means, and their deviations as a band (empty: none)."""

    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One set of axes: curves by method, what the axes measure, lines or single points."""

    title: str
    x: str
    y: str
    curves: Mapping[str, Curve]
    joined: bool = True
    ticks: Sequence[str] = ()  # names of x = 0, 1, ...
    log: bool = False


def draw_panels(panels: Sequence[Panel], folder: Path, name: str) -> str:
    """Write `<name>.svg` and `.png` with panels two by two; returns the SVG text."""
    folder.mkdir(parents=True, exist_ok=True)
    methods = list(dict.fromkeys(m for panel in panels for m in panel.curves))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with drawing(name):
        figure, axes = new_figure(0.6 + 2.9 * rows, rows, columns)
        for panel, axis in zip(panels, axes, strict=False):
            _draw(axis, panel, methods)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        handles = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=5)
        return save_figure(figure, folder, name)


def _draw(axes: Axes, panel: Panel, methods: Sequence[str]) -> None:
    colours = matplotlib.color_sequences["tab20"]
    for method, curve in panel.curves.items():
        at = methods.index(method)
        colour, mark = colours[at % len(colours)], MARKS[at % len(MARKS)]
        order = sorted(range(len(curve.x)), key=lambda i: curve.x[i])
        x, y = [curve.x[i] for i in order], [curve.y[i] for i in order]
        line = "-" if panel.joined else "none"
        style = OURS if method == "mipp" else {"linewidth": 1}
        axes.plot(x, y, line, color=colour, marker=mark, markersize=3.5, label=method, **style)
        if curve.band:
            band = [curve.band[i] for i in order]
            low = [a - b for a, b in zip(y, band, strict=True)]
            high = [a + b for a, b in zip(y, band, strict=True)]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), list(panel.ticks), rotation=30, ha="right")
    if panel.log:
        axes.set_xscale("log")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(visible=True)
