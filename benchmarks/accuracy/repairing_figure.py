"""docs/figures/without-training: accuracy against MACs, rivals that repair beside this project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib import color_sequences

from benchmarks.accuracy import dropped
from benchmarks.accuracy.repairing_methods import METHODS, OURS, RIVALS
from benchmarks.shared.kept import Point
from mipp.page.svg import INK, KEPT, RULE
from mipp.report.drawing import drawing, new_figure, save_figure

NETWORK = "resnet20"
FOLDER, NAME = Path("docs/figures"), "without-training"
MARKS = "osv^DP*X"
COLOURS = color_sequences["tab10"][1:]  # its blue is that of our line


def draw(points: Sequence[Point]) -> None:
    """One line per method, ours the one that one sees."""
    here = [point for point in points if point["workload"] == NETWORK]
    lines = {name: _line([p for p in here if p["method"] == name]) for name in METHODS}
    rivals = [n for n, m in METHODS.items() if m.kind == RIVALS and len(lines[n]) > 1]
    ours = [n for n, m in METHODS.items() if m.kind == OURS and len(lines[n]) > 1]
    dense = _dense()
    with drawing(NAME):
        figure, (axes,) = new_figure(3.6)
        axes.axhline(dense, color=RULE, linestyle="--", linewidth=1)
        axes.text(29, dense + 0.8, f"dense {dense:.2f} %", color=INK, fontsize=8)
        for name in ours[-1:]:
            x, y = zip(*lines[name], strict=True)
            axes.plot(x, y, color=KEPT, marker="o", linewidth=3, zorder=3, label=name)
        ranked = sorted(rivals, key=lambda name: -lines[name][-1][1])
        for mark, colour, name in zip(MARKS, COLOURS, ranked, strict=False):
            x, y = zip(*lines[name], strict=True)
            axes.plot(x, y, color=colour, marker=mark, linewidth=1, label=name)
        axes.set_xlabel("multiply-accumulates that stay, %")
        axes.set_ylabel("test accuracy without training, %")
        axes.set_title("ResNet-20 on CIFAR-10, 2,048 calibration images without labels")
        axes.grid(visible=True, axis="y")
        axes.set_xticks([30, 40, 50])
        figure.legend(loc="outside right center")
        FOLDER.mkdir(parents=True, exist_ok=True)
        save_figure(figure, FOLDER, NAME)


def _dense() -> float:
    """Percent of the test images, as another benchmark of the same checkpoint keeps it."""
    kept = dropped.points_in(dropped.FILE).all()
    return next(float(point["test_dense"]) for point in kept if point["workload"] == NETWORK)


def _line(points: Sequence[Point]) -> list[tuple[float, float]]:
    """MACs and accuracy in percent by budget: means over the seeds, of the better column."""
    line = []
    for budget in sorted({point["budget"] for point in points}):
        own = [point for point in points if point["budget"] == budget]
        columns = ([p[c] for p in own if p[c] is not None] for c in ("repaired", "recalibrated"))
        line.append((mean(p["macs"] for p in own), max(mean(c) for c in columns if c)))
    return line
