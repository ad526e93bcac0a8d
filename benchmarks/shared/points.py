"""Points in a CSV file, each kept when it is finished: a run goes on where it stopped."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_points(path: Path) -> list[dict[str, str]]:
    """All points of a file; none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def add_point(path: Path, columns: Sequence[str], point: Mapping[str, Any]) -> None:
    """Append a point, after the columns' names where the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if fresh:
            writer.writeheader()
        writer.writerow(point)
