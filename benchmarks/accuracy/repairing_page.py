"""docs/repairing.md: networks repaired without training, by rivals and by this project."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.accuracy.repairing_figure import NAME, draw
from benchmarks.accuracy.repairing_methods import (
    CONTROLS,
    CRITERIONS,
    METHODS,
    REPAIRS,
    RIVALS,
    By,
)
from benchmarks.shared.kept import RESULTS, Point, Points
from benchmarks.shared.origin import origin_of
from benchmarks.shared.tables import markdown, spread

FILE, PAGE = RESULTS / "repairing.csv", Path("docs/repairing.md")
SETTINGS = ("workload", "budget", "images", "test_images")
KEY = (*SETTINGS, "method", "seed")
ACCURACIES = ("repaired", "recalibrated")
COLUMNS = (*KEY, "macs", "params", *ACCURACIES, "seconds", "commit", "versions")
NOTES = """\
Percent of the test images, mean ± standard deviation over the seeds, each with calibration images
of its own; no training. Labels are read by criteria of the loss alone. *repaired*: as the method
leaves the network; *recalibrated*: after that, with the batch-norm statistics taken anew from the
calibration images, as our refit takes them too. *MACs %*: what stays of the dense network's.

- Rivals, and criteria with our repair, keep the same share of the hidden channels of every block,
  and leave residual streams whole. `mipp` prunes streams too, but for the row that says otherwise.
- Seconds are those of one thread on machines that were busy with other work.
- GRAIL (arXiv:2602.23795), OSSCAR (2403.12983), CORP (2602.05243v2), variance-based pruning
  (2507.12988), model folding (ICLR 2025) with REPAIR (2211.08403), He 2017 (1707.06168): written
  here from papers and public code, with their ridges where these are printed, and held against
  their equations over plain rows in `tests/benchmarks/rivals`. Of a transformer CORP keeps every
  head, and the same share of dimensions of queries and keys as of hidden channels: those whose own
  logits are largest, an order of ours, as is its ridge.
- *X + refit*: the criterion's units, our least-squares refit; *X + distill*: and after it
  `repair="distill"`. Of a transformer both begin with narrower heads, as all of `mipp` does, and
  the criterion decides what else goes; rivals with their own repair have heads as wide as they are.
  *l1-same-widths* and *random-same-widths*: as many units of every group as `mipp` keeps, by L1
  norm or at random. Below a table, our default is compared with the
  best mean of each other kind, under the same repair of ours or a rival's own."""


def points_in(file: Path | None) -> Points:
    return Points(file, COLUMNS, KEY)


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each setting and method, in the order of the methods."""
    rows = []
    for settings in settings_of(points):
        here = [p for p in points if tuple(p[name] for name in SETTINGS) == settings]
        for name in (name for name in METHODS if any(p["method"] == name for p in here)):
            own = [p for p in here if p["method"] == name]
            row: dict[str, Any] = {"method": name, "budget": settings[1], "seeds": len(own)}
            row["MACs %"] = f"{mean(p['macs'] for p in own):.1f}"
            row |= {column: _spread(own, column) for column in ACCURACIES}
            rows.append(row | {"seconds": f"{mean(p['seconds'] for p in own):.0f}"})
    return rows


def _values(points: Iterable[Point], column: str) -> list[float]:
    return [p[column] for p in points if p[column] is not None]


def _spread(points: Iterable[Point], column: str) -> str | None:
    values = _values(points, column)
    return spread(values) if values else None


def settings_of(points: Iterable[Point]) -> list[tuple[Any, ...]]:
    """The settings that were measured, in their order: a section of the page for each."""
    return list(dict.fromkeys(tuple(point[name] for name in SETTINGS) for point in points))


def best(points: Sequence[Point], kind: str, by: Collection[By]) -> tuple[float, str] | None:
    """The highest mean accuracy of a kind of methods with these repairs, and the method's name."""
    found = [
        (mean(values), name)
        for name, method in METHODS.items()
        if method.kind == kind and method.by in by
        for column in ACCURACIES
        if (values := _values((p for p in points if p["method"] == name), column))
    ]
    return max(found, default=None)


def write_page() -> None:
    """Write the page from all points that are kept."""
    points = points_in(FILE).all()
    origin = origin_of("accuracy.repairing", FILE, points)
    picture = f"![accuracy against work, without training](figures/{NAME}.png)"
    page = ["# Repaired without training", "", origin, "", picture, "", NOTES, ""]
    for settings in settings_of(points):
        here = [p for p in points if tuple(p[name] for name in SETTINGS) == settings]
        page += _section(settings, here)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(page))
    draw(points)


def _section(settings: tuple[Any, ...], points: Sequence[Point]) -> list[str]:
    workload, budget, images, test_images = settings
    rows = table(points)
    lines = []
    for kind in dict.fromkeys(method.kind for method in METHODS.values()):
        own = [row for row in rows if METHODS[row["method"]].kind == kind]
        if own:
            columns = [column for column in own[0] if column != "budget"]
            cells = ([row[column] for column in columns] for row in own)
            lines += [f"**{kind}**", "", *markdown(columns, cells), ""]
    return [
        f"## {workload}, `{budget}`",
        "",
        f"{images:,} calibration images, {test_images:,} test images, seeds "
        f"{', '.join(str(seed) for seed in sorted({p['seed'] for p in points}))}.",
        "",
        *lines,
        *(f"- {line}" for line in _verdicts(points)),
        "",
    ]


def _verdicts(points: Sequence[Point]) -> list[str]:
    """Of each of our repairs, this project's default beside the best of every other kind."""
    lines = []
    for by in REPAIRS:
        ours = _values((p for p in points if p["method"] == f"mipp + {by}"), "repaired")
        others = (
            (kind, best(points, kind, {"own", by})) for kind in (RIVALS, CRITERIONS, CONTROLS)
        )
        lines += [
            f"mipp + {by} {mean(ours):.2f}; best of {kind}: {found[1]} {found[0]:.2f}: "
            f"{mean(ours) - found[0]:+.2f}"
            for kind, found in others
            if ours and found
        ]
    return lines
