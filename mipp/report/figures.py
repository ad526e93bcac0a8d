"""The figures of a report; each draws one thing from a run, or nothing when there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mipp.page.svg import ALARM, DROPPED, INK, KEPT, RULE
from mipp.report.drawing import add_legend, drawing, new_figure, save_figure, set_log_axis
from mipp.report.pixels import draw_pixels
from mipp.report.plane import CAPTION, draw_plane
from mipp.report.profile import draw_profiles
from mipp.report.run import History, Run
from mipp.report.table import share_kept
from mipp.report.trade_off import draw_trade_off


@dataclass(frozen=True)
class FigureKind:
    """A row of `FIGURES`: what is drawn, and what a reader sees in it."""

    draw: Callable[[Run], Figure | None]
    caption: str


def draw_figures(run: Run, folder: Path) -> dict[str, str]:
    """Write all figures of a run as SVG and PNG; returns name -> SVG text."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, kind in FIGURES.items():
        with drawing(name):
            figure = kind.draw(run)
            if figure is not None:
                drawn[name] = save_figure(figure, folder, name)
    return drawn


def draw_cost(run: Run) -> Figure:
    """Share of units, params, MACs and latency that remains."""
    figure, (axes,) = new_figure(1.7)
    shares = {name: 100 * share for name, share in share_kept(run.metrics).items()}
    for y, share in enumerate(shares.values()):
        axes.barh(y, 100, color="none", edgecolor=RULE, height=0.62)
        axes.barh(y, share, color=KEPT if share <= 100 else ALARM, height=0.62)
        inside = share > 88
        axes.text(
            share + (-1 if inside else 1),
            y,
            f"{share:.1f} %",
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else INK,
        )
    axes.set_yticks(range(len(shares)), list(shares))
    axes.invert_yaxis()
    axes.set_xlim(0, max(100.0, *shares.values()))
    axes.set_xlabel("% of the dense network")
    _bare(axes)
    return figure


def draw_curves(run: Run) -> Figure | None:
    """Loss and accuracy over the epochs of training, and after pruning of fine-tuning."""
    train, tune = run.history["train"], run.history["finetune"]
    if not train and not tune:
        return None
    figure, (loss, accuracy) = new_figure(2.5, columns=2)
    for axes, key, factor in ((loss, "loss", 1.0), (accuracy, "accuracy", 100.0)):
        _curve(axes, train, key, factor, start=0)
        _curve(axes, tune, key, factor, start=len(train))
        if train and tune:
            axes.axvline(len(train) + 0.5, color=INK, linestyle=":", linewidth=1)
            axes.text(
                len(train) + 0.5, 1.0, " pruned", transform=axes.get_xaxis_transform(), va="bottom"
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, axis="y")
    set_log_axis(loss)
    loss.set_ylabel("loss, nats")
    accuracy.set_ylabel("accuracy, %")
    validated = any(epoch["validation_loss"] is not None for epoch in (*train, *tune))
    add_legend(figure, {"training": KEPT, **({"validation": DROPPED} if validated else {})})
    return figure


def _curve(axes: Axes, history: History, key: str, factor: float, start: int) -> None:
    for split, colour in (("train", KEPT), ("validation", DROPPED)):
        seen = [e for e in history if e[f"{split}_{key}"] is not None]
        axes.plot(
            [start + e["epoch"] for e in seen],
            [factor * e[f"{split}_{key}"] for e in seen],
            color=colour,
            marker="o" if len(history) <= 30 else None,
            markersize=3,
        )


def _bare(axes: Axes) -> None:
    """No frame and no ticks: bars that carry their numbers."""
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


FIGURES: Mapping[str, FigureKind] = {
    "cost": FigureKind(draw_cost, "What is left of the dense network's size, work and time."),
    "profiles": FigureKind(
        draw_profiles,
        "What each unit was judged by, inputs first: the nats that it still added when it was "
        "visited (zero is drawn at 1e-12), or its score.",
    ),
    "pixels": FigureKind(
        draw_pixels,
        "The network's input, pixel by pixel: what selection would keep for what the kept units "
        "of the first layers compute, under the rule that chose the units. The network itself "
        "still takes whole images.",
    ),
    "trade-off": FigureKind(
        draw_trade_off,
        "What other budgets would cost: the share of the information that goes, as foretold, and "
        "accuracy on validation images after the repair, without training; the line is that of "
        "the dense network.",
    ),
    "curves": FigureKind(
        draw_curves,
        "Loss and accuracy by epoch: in training the mean while the weights move, in validation "
        "that of the weights at the epoch's end.",
    ),
    "plane": FigureKind(draw_plane, CAPTION),
}
