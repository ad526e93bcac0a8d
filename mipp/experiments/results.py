"""The tidy table of a sweep: one row per complete point, always rebuilt from the points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mipp.disk.manifest import json_object
from mipp.disk.whole_files import written_whole
from mipp.errors import WorkdirError
from mipp.experiments.engine import result_file
from mipp.experiments.points import Point

Row = dict[str, Any]
TABLE = "results.parquet"
IDENTITY = ("start", "variant", "budget_kind", "budget_value", "method", "seed")


def read_rows(root: Path, points: Iterable[Point]) -> list[Row]:
    """Rows of the points that are complete, nested values as JSON text."""
    files = (result_file(root, point) for point in points)
    rows = [_row(file) for file in files if file.exists()]
    flat = [{k: _flat(v) for k, v in row.items()} for row in rows]
    return sorted(flat, key=lambda row: tuple(row[column] for column in IDENTITY))


def _row(file: Path) -> Row:
    row = json_object(file.read_bytes())
    if lacking := [column for column in IDENTITY if column not in row]:
        raise WorkdirError(
            f"result {file} cannot be read.\nExpected a point's row with {', '.join(IDENTITY)}, "
            f"got no {', '.join(lacking)}; delete the file and run the sweep again."
        )
    return row


def write_table(rows: Sequence[Row], file: Path, about: Mapping[str, str]) -> None:
    """Write rows as Parquet that appears complete; every row has every column, null where unknown.

    Parameters
    ----------
    about : what the rows have in common, kept in the file's metadata.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    arrays = {column: [row.get(column) for row in rows] for column in columns}
    table = pa.table(arrays).replace_schema_metadata(dict(about))
    with written_whole(file) as partial:
        pq.write_table(table, partial)


def read_table(file: Path) -> tuple[list[Row], dict[str, str]]:
    """Rows, and what they have in common."""
    table = pq.read_table(file)
    about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return table.to_pylist(), about


def _flat(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value
