"""docs/evidence.md, the tables that matter; a page for each kept sweep, with figures, beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.evidence.claims import CLAIMS
from benchmarks.evidence.front import cost, long_training, without_training
from benchmarks.evidence.strict import headline, strict_blocks
from mipp.errors import DataError
from mipp.experiments.panels import PANELS
from mipp.experiments.report import WHAT_SEEDS_SHOW, draw_figures, reproduce, tables
from mipp.experiments.results import Row, read_table
from mipp.experiments.tables import collapse_table, dense_sentence, mean_table, verdict
from mipp.page.document import Block, Document, Note, Notes, Picture, Section, Table, Text
from mipp.report.markdown_page import markdown_page

RESULTS, PAGE = Path("experiments/results"), Path("docs/evidence.md")
SHORT = "resnet20-cifar10"  # the sweep whose table is on the first page

Result = tuple[list[Row], dict[str, str]]


def write_page(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page, and one for every table of a folder, with its figures, in a folder beside it.

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
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (rows, about) in found.items():
        figures = list(draw_figures(rows, folder / "figures", f"{name}-"))
        text = markdown_page(experiment_page(rows, about, figures))
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    text = markdown_page(front_page(found)) + "\n" + _links(found, folder.name)
    page.write_text(text, encoding="utf-8")


def front_page(found: Mapping[str, Result]) -> Document:
    """Four tables, the count over everything, and what was claimed."""
    rows_of = {name: rows for name, (rows, _) in found.items()}
    points = sum(map(len, rows_of.values()))
    claims = [[claim.text, claim.source, claim.answer(rows_of)] for claim in CLAIMS]
    return Document(
        title="Evidence",
        done=f"Written by `make evidence` from {points} points of {len(found)} experiments in "
        f"`experiments/results/` and from what other benchmarks keep. {WHAT_SEEDS_SHOW}",
        headline=headline(rows_of),
        sections=[
            Section("No training", without_training()),
            Section("Short training", _short(found.get(SHORT))),
            Section("Long training", long_training()),
            Section("Cost", cost()),
            Section("Won, open, lost", strict_blocks(rows_of)),
            Section(
                "What was claimed, and what we measured",
                [Table(["published", "where", "measured here"], claims)],
            ),
        ],
    )


def _short(result: Result | None) -> list[Block]:
    if result is None:
        return [Text("Not measured.")]
    rows, about = result
    caption = "Test accuracy in %, pruned trained, after training."
    return [
        Text(f"{about['title']}. {about['notes']} {dense_sentence(rows, 'trained')}"),
        mean_table(rows, "trained", "accuracy_finetuned", caption),
    ]


def experiment_page(
    rows: Sequence[Row], about: Mapping[str, str], figures: Sequence[str]
) -> Document:
    """All tables of one sweep."""
    missing = int(about["points"]) - len(rows)
    partial = f"{missing} of {about['points']} points are not computed yet."
    starts = sorted({row["start"] for row in rows})
    first: list[Block] = [
        *reproduce(rows, about),
        *([Notes([Note("warning", partial)])] if missing else []),
    ]
    return Document(
        title=f"{about['title']} ({about['scale']})",
        done=about["notes"],
        headline=" ".join(verdict(rows, start) for start in starts),
        sections=[
            Section("Reproduce", first),
            *(Section(f"Pruned {start}", tables(rows, start)) for start in starts),
            Section("Collapse", [collapse_table(rows)]),
            Section(
                "Figures", [Picture(name, PANELS[name.rpartition("-")[2]][1]) for name in figures]
            ),
        ],
    )


def _links(found: Mapping[str, Result], folder: str) -> str:
    lines = [
        f"- [{about['title']}]({folder}/{name}.md): {len(rows)} points. "
        + " ".join(verdict(rows, start) for start in sorted({row["start"] for row in rows}))
        for name, (rows, about) in found.items()
    ]
    return "\n".join(["## Every sweep", "", *lines, ""])
