"""The information plane: layers in training, and from the dense network to the last one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mipp.page.svg import DROPPED, INK, KEPT, RULE
from mipp.report.drawing import new_figure
from mipp.report.run import Run

Row = Mapping[str, Any]
CAPTION = (
    "Information plane: nats that what a layer reads, or the network's output, tells of which "
    "image it is, I(X; T), and of its label, I(T; Y), which no layer exceeds (line). Left: by "
    "epochs of training, from open to filled; right: from the dense network (open) through the "
    "pruned to the last one (filled). A deterministic layer tells all of the image at infinite "
    "resolution, so that points mean something only at the stated one, where I(X; T) shows how "
    "images lie together, not what is forgotten (Saxe et al. 2018; Goldfeld et al. 2019). Each "
    "layer has noise or cells of its own, so that a later one may tell more."
)


def draw_plane(run: Run) -> Figure | None:
    """Two panels, a line per layer; the first is left out where nothing was trained."""
    if run.plane is None:
        return None
    rows, told = run.plane
    trained = [row for row in rows if row["epoch"] is not None]
    after = [row for row in rows if row["epoch"] is None]
    panels = [part for part in (trained, after) if part]
    figure, axes = new_figure(3.3, columns=len(panels))
    for one, part in zip(axes, panels, strict=True):
        _draw(one, part, told["labels_entropy"])
    axes[0].set_ylabel("I(T; Y), nats")
    titles = {True: "training", False: "pruning"}
    for one, part in zip(axes, panels, strict=True):
        one.set_title(titles[part is trained])
    figure.suptitle(
        f"{told['estimator']}, resolution {told['resolution']:.3g}, {told['images']:,} images",
        x=0.01, ha="left", fontsize=9,
    )  # fmt: skip
    return figure


def _draw(axes: Axes, rows: Sequence[Row], most: float) -> None:
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    axes.axhline(most, color=RULE, zorder=0)
    for depth, layer in enumerate(layers):
        own = [row for row in rows if row["layer"] == layer]
        x, y = [row["inputs"] for row in own], [row["labels"] for row in own]
        colour = DROPPED if layer == layers[-1] else KEPT
        axes.plot(x, y, color=colour, linewidth=0.8, marker=".", markersize=3, zorder=2)
        axes.plot(x[:1], y[:1], color=colour, marker="o", markerfacecolor="white", markersize=5)
        axes.plot(x[-1:], y[-1:], color=colour, marker="o", markersize=5)
        axes.annotate(
            layer, (x[-1], y[-1]), (4, -10 if depth % 2 else 4), textcoords="offset points",
            fontsize=8, color=INK, parse_math=False,
        )  # fmt: skip
    axes.set_xlabel("I(X; T), nats")
    axes.margins(x=0.12, y=0.12)
    axes.grid(visible=True)
