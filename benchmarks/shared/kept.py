"""What benchmarks keep: a JSON file of one measurement, a CSV file of many points."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results")

Point = dict[str, Any]


def read_json(file: Path) -> Any:
    """What a measurement left."""
    return json.loads(file.read_text())


def write_json(file: Path, results: Mapping[str, Any]) -> None:
    """Keep a measurement."""
    _write_whole(file, json.dumps(results, indent=1) + "\n")


def keep_rows(file: Path, key: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep rows of a JSON file, in place of those that were measured of the same before."""
    kept = read_json(file)["rows"] if file.exists() else []
    new = [tuple(row[name] for name in key) for row in rows]
    others = [row for row in kept if tuple(row[name] for name in key) not in new]
    write_json(file, {"rows": [*others, *rows]})


class Points:
    """Points that are measured one by one; each is kept as soon as it is there.

    A run that was cut short goes on where it stopped. A point that is measured again takes the
    place of the one before.

    Parameters
    ----------
    file : CSV; None keeps points for as long as this object lives.
    columns : of the file, in order.
    key : the columns that say which point it is.
    """

    def __init__(self, file: Path | None, columns: Sequence[str], key: Sequence[str]) -> None:
        self.file, self.columns, self.key = file, columns, key
        read = read_points(file) if file is not None and file.exists() else []
        self._points = {self._key(point): point for point in read}

    def all(self) -> list[Point]:
        """Every point, in the order in which they came first."""
        return list(self._points.values())

    def missing(self, points: Iterable[Point]) -> list[Point]:
        """Those that are not measured yet; of a point its key is enough."""
        return [point for point in points if self._key(point) not in self._points]

    def add(self, point: Point) -> None:
        """Keep a point; floats to six digits after the point."""
        self._points[self._key(point)] = {name: _rounded(point.get(name)) for name in self.columns}
        if self.file is not None:
            write_points(self.file, self.columns, self.all())

    def _key(self, point: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(point[name] for name in self.key)


def read_points(file: Path) -> list[Point]:
    """Rows of a CSV file; numbers as such, nothing as None."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [{name: _value(text) for name, text in row.items()} for row in rows]


def write_points(file: Path, columns: Sequence[str], points: Iterable[Point]) -> None:
    """The CSV file of some points, complete or as it was."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(points)
    _write_whole(file, text.getvalue())


def _value(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text or None


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _write_whole(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text, newline="")
    os.replace(temporary, file)
