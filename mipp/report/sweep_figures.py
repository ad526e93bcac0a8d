"""Figures of a sweep: curves with bands over seeds, bars, and points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from mipp.page.svg import KEPT
from mipp.report.drawing import drawing, new_figure, save_figure

MARKS = "s^vD<>pXP*hd"
TAB20 = matplotlib.color_sequences["tab20"]
COLOURS = (*TAB20[2::2], *TAB20[3::2])  # without the blues, as ours is one; the pale ones last
OURS: Mapping[str, Any] = {"color": KEPT, "marker": "o", "linewidth": 2.6, "zorder": 3}


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
    found = dict.fromkeys(m for panel in panels for m in panel.curves)
    styles = {"mipp": OURS, **_styles([method for method in found if method != "mipp"])}
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with drawing(name):
        figure, axes = new_figure(0.6 + 2.9 * rows, rows, columns)
        for panel, axis in zip(panels, axes, strict=False):
            _draw(axis, panel, styles)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        handles = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        names = [method for method in styles if method in handles]
        shown = [handles[name] for name in names]
        figure.legend(shown, names, loc="outside upper left", ncols=5)
        return save_figure(figure, folder, name)


def _styles(rivals: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Thin lines, told apart by colour and mark."""
    return {
        method: {
            "color": COLOURS[at % len(COLOURS)],
            "marker": MARKS[at % len(MARKS)],
            "linewidth": 1,
        }
        for at, method in enumerate(rivals)
    }


def _draw(axes: Axes, panel: Panel, styles: Mapping[str, Mapping[str, Any]]) -> None:
    for method, curve in panel.curves.items():
        style = styles[method]
        order = sorted(range(len(curve.x)), key=lambda i: curve.x[i])
        x, y = [curve.x[i] for i in order], [curve.y[i] for i in order]
        line = "-" if panel.joined else "none"
        axes.plot(x, y, linestyle=line, markersize=3.5, label=method, **style)
        if curve.band:
            band = [curve.band[i] for i in order]
            low = [a - b for a, b in zip(y, band, strict=True)]
            high = [a + b for a, b in zip(y, band, strict=True)]
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), list(panel.ticks), rotation=30, ha="right")
    if panel.log:
        axes.set_xscale("log")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(visible=True)
