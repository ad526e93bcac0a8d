"""The points of the accuracy benchmark: kept in a CSV file, shown as tables and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from benchmarks.shared.kept import RESULTS, Point, Points
from benchmarks.shared.tables import spread

FILE = RESULTS / "accuracy.csv"
IMAGES = ("images", "dense_images", "train_images", "test_images")
SETTINGS = ("workload", "budget", *IMAGES, "epochs", "precision")
KEY = (*SETTINGS, "method", "seed")
SIZES = {"units": "units %", "macs": "MACs %", "params": "params %"}
ACCURACIES = {
    "raw": "raw",
    "recalibrated": "recalibrated",
    "refit": "refit",
    "refit_recalibrated": "refit, recal.",
    "finetuned": "fine-tuned",
}
SECONDS = {"seconds": "search s", "finetune_seconds": "fine-tuning s"}
MACHINE = ("threads", "cores", "versions")
COLUMNS = (*KEY, *SIZES, *ACCURACIES, *SECONDS, *MACHINE)


def points_in(file: Path | None) -> Points:
    return Points(file, COLUMNS, KEY)


def settings_of(points: Iterable[Point]) -> list[tuple[Any, ...]]:
    """The settings that the points were measured under, in their order: one table for each."""
    return list(dict.fromkeys(tuple(point[name] for name in SETTINGS) for point in points))


def heading(settings: tuple[Any, ...]) -> str:
    """The settings of a table on one line."""
    return ", ".join(f"{name} {value}" for name, value in zip(SETTINGS, settings, strict=True))


def under(points: Iterable[Point], settings: tuple[Any, ...]) -> list[Point]:
    return [p for p in points if tuple(p[name] for name in SETTINGS) == settings]


def table(points: Sequence[Point], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each method, in the order of `names`: means over its seeds, deviations too."""
    rows = []
    for name in sorted({p["method"] for p in points}, key=[*names].index):
        own = [p for p in points if p["method"] == name]
        row: dict[str, Any] = {"method": name, "seeds": len(own)}
        row |= {title: _mean(own, column) for column, title in SIZES.items()}
        row |= {title: _spread(own, column) for column, title in ACCURACIES.items()}
        row |= {title: _mean(own, column) for column, title in SECONDS.items()}
        rows.append(row)
    return rows


def values(points: Iterable[Point], column: str) -> list[float]:
    return [p[column] for p in points if p[column] is not None]


def _spread(points: Iterable[Point], column: str) -> str | None:
    numbers = values(points, column)
    return spread(numbers) if numbers else None


def _mean(points: Iterable[Point], column: str) -> str | None:
    numbers = values(points, column)
    return f"{mean(numbers):.1f}" if numbers else None


OURS = {
    "no training": ("mipp",),
    "fine-tuned": ("mipp", "mipp, refit start"),
    "taught": ("mipp, refit start, taught",),
}
UNTRAINED = ("raw", "recalibrated", "refit", "refit_recalibrated")


class _Best(NamedTuple):
    """The highest mean over seeds, with its method and column."""

    mean: float
    method: str
    column: str
    by_seed: Mapping[int, float]


def verdicts(points: Sequence[Point]) -> list[str]:
    """This project's best answer beside Torch-Pruning's best, without training and after it."""
    lines = []
    for stage, named in OURS.items():
        columns = UNTRAINED if stage == "no training" else ("finetuned",)
        same = [p for p in points if p["method"].endswith(", taught") == (stage == "taught")]
        ours = _best(same, columns, lambda name, named=named: name in named)
        rival = _best(same, columns, lambda name: name.startswith("Torch-Pruning"))
        if ours and rival:
            lines.append(
                f"{stage}: {ours.method} ({ours.column}) {ours.mean:.2f} %, best of Torch-Pruning "
                f"{rival.method.removeprefix('Torch-Pruning ')} ({rival.column}) "
                f"{rival.mean:.2f} %: {ours.mean - rival.mean:+.2f}"
                f"{_error_of_difference(ours.by_seed, rival.by_seed)} points"
            )
    return lines


def _best(points: Sequence[Point], columns: Iterable[str], wanted: Any) -> _Best | None:
    found = []
    for name in {p["method"] for p in points if wanted(p["method"])}:
        own = [p for p in points if p["method"] == name]
        for column in columns:
            by_seed = {p["seed"]: p[column] for p in own if p[column] is not None}
            if by_seed:
                found.append(_Best(mean(by_seed.values()), name, ACCURACIES[column], by_seed))
    return max(found, key=lambda best: (best.mean, best.method), default=None)


def _error_of_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """Standard error of the mean difference on the seeds of both; nothing on fewer than two."""
    differences = [ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()]
    if len(differences) < 2:
        return ""
    return f" ± {stdev(differences) / sqrt(len(differences)):.2f}"
