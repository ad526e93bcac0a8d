"""A benchmark of many points and one table: what it measures is kept, and a page is made of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.command import circumstances
from benchmarks.shared.kept import RESULTS, Point, Points
from benchmarks.shared.origin import measured_now, origin_of
from benchmarks.shared.tables import markdown_of, print_table
from mipp.progress import track


@dataclass(frozen=True)
class PointTable:
    """Where points are kept, how they become a table, and what the page says of it.

    Parameters
    ----------
    benchmark : its name under `benchmarks`.
    title, notes : of the page.
    key, columns : as `Points` takes them; what `measured_now` adds comes last by itself.
    rows : of the points, the table's.
    """

    benchmark: str
    title: str
    notes: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Callable[[Sequence[Point]], list[dict[str, Any]]]

    @property
    def _name(self) -> str:
        return self.benchmark.rpartition(".")[2]

    @property
    def file(self) -> Path:
        """What keeps the points."""
        return RESULTS / f"{self._name}.csv"

    @property
    def page(self) -> Path:
        """What shows them."""
        return Path(f"docs/{self._name}.md")

    def points(self, file: Path | None) -> Points:
        """Those of a file; an empty table, kept nowhere, without one."""
        return Points(file, (*self.key, *self.columns, "commit", "versions"), self.key)

    def fill(
        self,
        options: argparse.Namespace,
        every: Sequence[Point],
        measure: Callable[[Point], Point],
    ) -> None:
        """Measure the points that are not kept yet, or all `--again`, and print the table."""
        points = self.points(self.file if options.write else None)
        wanted = every if options.again else points.missing(every)
        for point in track(wanted, total=len(wanted), label=self._name):
            points.add(point | measure(point) | measured_now())
        print_table(self.rows(points.all()))
        circumstances(options)

    def write_page(self) -> None:
        """Write the page from all points that are kept."""
        points = self.points(self.file).all()
        lines = [
            f"# {self.title}",
            "",
            origin_of(self.benchmark, self.file, points),
            "",
            self.notes,
            "",
            *markdown_of(self.rows(points), str),
        ]
        self.page.parent.mkdir(exist_ok=True)
        self.page.write_text("\n".join(lines) + "\n")
