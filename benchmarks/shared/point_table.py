"""A benchmark of many points and one table: what it measures is kept, and a page is made of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.command import add_again, circumstances, parser
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

    def parser(self, description: str | None) -> argparse.ArgumentParser:
        """The command line of what fills it, to which the benchmark's own options are added."""
        options = parser(self.benchmark, description or "", self.page)
        add_again(options)
        return options

    def run(
        self,
        options: argparse.Namespace,
        every: Iterable[Sequence[Any]],
        measure: Callable[[Point], Point],
    ) -> None:
        """Fill it, and with `--write` make the page anew."""
        self.fill(options, every, measure)
        if options.write:
            self.write_page()

    def fill(
        self,
        options: argparse.Namespace,
        every: Iterable[Sequence[Any]],
        measure: Callable[[Point], Point],
    ) -> None:
        """Measure the points that are not kept yet, or all `--again`, and print the table.

        Parameters
        ----------
        every : point's values of the key.
        """
        torch.set_num_threads(options.threads)
        asked = [dict(zip(self.key, values, strict=True)) for values in every]
        points = self.points(self.file if options.write else None)
        wanted = asked if options.again else points.missing(asked)
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
