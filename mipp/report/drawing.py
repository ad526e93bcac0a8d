"""Matplotlib figures to files and to SVG that sits in a page; one style for all."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator

from mipp.page.svg import INK, PAPER, RULE

WIDTH = 7.6  # inches, of every figure
STYLE: Any = {  # Any: the type of its keys differs between versions of matplotlib
    "svg.fonttype": "none",  # text stays text: found, copied, coloured by the page
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
_LOCK = threading.Lock()  # matplotlib's settings belong to the process


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """The house style, with ids that depend on the figure's name alone; one thread at a time."""
    with _LOCK, matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        yield


def new_figure(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure of that height in inches and its axes, row by row."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [axis for row in axes for axis in row]


def add_legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """Names of the colours, in one line above everything."""
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(colours))


def set_log_axis(axes: Axes) -> None:
    """Upright log axis, labelled at powers of ten and on a short one between them."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def save_figure(figure: Figure, folder: Path, name: str) -> str:
    """Write `<name>.svg` and `<name>.png`; returns the SVG text. Call inside `drawing`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    (folder / f"{name}.svg").write_text(svg)
    figure.set_layout_engine("none")  # keep the places that were found
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    return svg
