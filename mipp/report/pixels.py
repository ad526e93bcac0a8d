"""The map of the input's pixels: which of them tell the first layer something."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mipp.page.svg import DROPPED, KEPT
from mipp.report.drawing import add_legend, new_figure
from mipp.report.run import Run


def draw_pixels(run: Run) -> Figure | None:
    """Kept and dropped pixels, beside the information of each one alone."""
    if run.pixels is None:
        return None
    figure, (kept, alone) = new_figure(3.4, columns=2)
    colours = ListedColormap([DROPPED, KEPT])
    kept.imshow(run.pixels.kept, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    kept.set_title(f"{run.pixels.kept.sum()} of {run.pixels.kept.size} pixels kept")
    shown = alone.imshow(np.maximum(run.pixels.alone, 0), cmap="viridis", interpolation="nearest")
    alone.set_title("information of a pixel alone, nats")
    figure.colorbar(shown, ax=alone, shrink=0.8)
    add_legend(figure, {"kept": KEPT, "dropped": DROPPED})
    for axes in (kept, alone):
        _frame(axes)
    return figure


def _frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
