"""Tables of the pages that benchmarks write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """Lines of a Markdown table; a cell's text is that of the value, nothing for None."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join('' if c is None else str(c) for c in line)} |" for line in lines]


def table_of(rows: Sequence[Mapping[str, Any]], text: Callable[[Any], Any]) -> list[str]:
    """The same of rows that name their columns."""
    return table(list(rows[0]), (map(text, row.values()) for row in rows))


def brief(value: Any) -> str:
    """A number in three digits, other values as they are."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
