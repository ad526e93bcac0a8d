"""The report of a sweep: tables first, then figures, in one page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mipp.experiments.panels import PANELS
from mipp.experiments.statistics import Row
from mipp.experiments.tables import (
    collapse_table,
    dense_sentence,
    difference_table,
    lost_cells,
    mean_table,
    verdict,
)
from mipp.page.document import Block, Code, Document, Note, Notes, Picture, Section, Text
from mipp.page.html_page import html_page
from mipp.report.markdown_page import markdown_page
from mipp.report.sweep_figures import draw_panels

WHAT_SEEDS_SHOW = (
    "± is the sample standard deviation over seeds, their number in brackets. Three seeds can show "
    "a difference much larger than the spread; they cannot show that two methods are alike, nor "
    "support a claim about differences of the size of one deviation."
)


def write_report(rows: Sequence[Row], about: Mapping[str, str], out: Path) -> None:
    """Write `report.html`, `report.md` and `figures/`; the same rows give the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    figures = draw_figures(rows, out / "figures")
    document = compose(rows, about, list(figures))
    (out / "report.html").write_text(html_page(document, figures), encoding="utf-8")
    (out / "report.md").write_text(markdown_page(document), encoding="utf-8")


def draw_figures(rows: Sequence[Row], folder: Path, prefix: str = "") -> dict[str, str]:
    """Name -> SVG text of every figure that the rows have something for."""
    drawn = {}
    for name, (panels_of, _) in PANELS.items():
        panels = [panel for panel in panels_of(rows) if panel.curves]
        if panels:
            drawn[f"{prefix}{name}"] = draw_panels(panels, folder, f"{prefix}{name}")
    return drawn


def compose(rows: Sequence[Row], about: Mapping[str, str], figures: Sequence[str]) -> Document:
    """All that the report says, in order."""
    starts = sorted({row["start"] for row in rows})
    pictures = [Picture(name, PANELS[name.rpartition("-")[2]][1]) for name in figures]
    return Document(
        title=about["title"],
        done=f"{len(rows)} of {about['points']} points, scale {about['scale']}. {about['notes']}",
        headline=" ".join(verdict(rows, start) for start in starts),
        sections=[
            *(Section(f"Pruned {start}", tables(rows, start)) for start in starts),
            Section("Collapse", [collapse_table(rows)]),
            Section("Figures", pictures),
            Section("Reproduce", reproduce(rows, about)),
        ],
    )


def tables(rows: Sequence[Row], start: str) -> list[Block]:
    """What is said of one start: accuracy, differences, size and cost."""
    lost = lost_cells(rows, start)
    dense = dense_sentence(rows, start)
    after = f"Test accuracy in %, pruned {start}, after training. {WHAT_SEEDS_SHOW}"
    blocks: list[Block] = [
        *([Text(dense)] if dense else []),
        mean_table(rows, start, "accuracy_finetuned", after),
        difference_table(rows, start),
        *([Notes([Note("warning", text) for text in lost])] if lost else []),
    ]
    if start == "trained":
        for column, how in (("pruned", "as pruned"), ("refit", "refitted, without retraining")):
            caption = f"Test accuracy in %, {how}."
            blocks.append(mean_table(rows, start, f"accuracy_{column}", caption))
    blocks += [
        mean_table(rows, start, "units_removed", "Units removed, %."),
        mean_table(rows, start, "params", "Parameters left.", 1),
        mean_table(rows, start, "macs", "Multiply-accumulates left.", 1),
        mean_table(rows, start, "latency_ms", "Latency of a batch, ms.", 1),
        mean_table(rows, start, "seconds_search", "Search, seconds.", 1),
    ]
    return blocks


def reproduce(rows: Sequence[Row], about: Mapping[str, str]) -> list[Block]:
    """Command, source, seeds and machines."""
    seeds = sorted({row["seed"] for row in rows})
    hosts = sorted({row["latency_device"] for row in rows if row.get("latency_device")})
    commits = sorted({row["commit"] or "unknown" for row in rows})
    versions = json.loads(rows[0]["versions"])
    with_versions = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        Code(f"{about['command']} --root DIR"),
        Text(
            f"Seeds {', '.join(map(str, seeds))}; source at {', '.join(commits)}; on "
            f"{'; '.join(hosts) or 'unknown'}; {with_versions}."
        ),
    ]
