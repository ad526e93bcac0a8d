"""docs/evidence.md and its figures: what the kept sweeps say to what was published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.evidence.claims import CLAIMS
from mipp.errors import DataError
from mipp.experiments.panels import PANELS
from mipp.experiments.report import WHAT_SEEDS_SHOW, draw_figures, reproduce, tables
from mipp.experiments.results import Row, read_table
from mipp.experiments.statistics import by_cell, share_near_best
from mipp.experiments.tables import collapse_table, share_sentence, verdict
from mipp.report.document import Block, Document, Note, Notes, Picture, Section, Table, Text
from mipp.report.markdown_page import markdown_page

RESULTS, PAGE = Path("experiments/results"), Path("docs/evidence.md")

Result = tuple[list[Row], dict[str, str]]


def write_page(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page, and its figures beside it, from every table of a folder.

    Raises
    ------
    DataError : the folder holds no table.
    """
    read = {file.stem: read_table(file) for file in sorted(results.glob("*.parquet"))}
    found = dict(sorted(read.items(), key=lambda item: -len(item[1][0])))  # most points first
    if not found:
        raise DataError(
            f"evidence needs result tables, and {results} holds none.\nExpected Parquet files as "
            "`mipp sweep` leaves them; copy DIR/results.parquet there as EXPERIMENT.parquet."
        )
    page.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        name: list(draw_figures(rows, page.parent / "figures", f"{name}-"))
        for name, (rows, _) in found.items()
    }
    page.write_text(markdown_page(compose(found, figures)), encoding="utf-8")


def compose(found: Mapping[str, Result], figures: Mapping[str, Sequence[str]]) -> Document:
    """The page: claims first, then each experiment."""
    sections = [Section("What was claimed, and what we measured", _claims(found))]
    for name, (rows, about) in found.items():
        sections.append(_section(rows, about, figures[name]))
    points = sum(len(rows) for rows, _ in found.values())
    return Document(
        title="Evidence",
        done=f"Written by `make evidence` from {points} points of {len(found)} experiments in "
        f"`experiments/results/`. {WHAT_SEEDS_SHOW}",
        headline=_headline(found.values()),
        sections=sections,
    )


def _headline(found: Iterable[Result]) -> str:
    """In how many cells pruned trained mipp is near the best, of everything and of each part."""
    parts, near, compared = [], 0, 0
    for rows, about in found:
        good, cells = share_near_best(by_cell(rows), "trained")
        near, compared = near + good, compared + cells
        if cells:
            parts.append(f"{about['title']} {good} of {cells}")
    said = share_sentence("trained", near, compared)
    return f"{said}: {'; '.join(parts)}." if parts else f"{said}."


def _claims(found: Mapping[str, Result]) -> list[Block]:
    rows_of = {name: rows for name, (rows, _) in found.items()}
    rows = [[claim.text, claim.source, claim.answer(rows_of)] for claim in CLAIMS]
    return [Table(["published", "where", "measured here"], rows)]


def _section(rows: Sequence[Row], about: Mapping[str, str], figures: Sequence[str]) -> Section:
    starts = sorted({row["start"] for row in rows})
    missing = int(about["points"]) - len(rows)
    partial = f"{missing} of {about['points']} points are not computed yet."
    blocks: list[Block] = [
        Text(about["notes"]),
        *reproduce(rows, about),
        *([Notes([Note("warning", partial)])] if missing else []),
    ]
    for start in starts:
        blocks += [Text(verdict(rows, start)), *tables(rows, start)]
    blocks.append(collapse_table(rows))
    blocks += [Picture(name, PANELS[name.rpartition("-")[2]][1]) for name in figures]
    return Section(f"{about['title']} ({about['scale']})", blocks)
