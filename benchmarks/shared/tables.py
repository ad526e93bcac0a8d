"""Tables: on a terminal, and in the pages that benchmarks write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mipp.experiments.statistics import summarise

Rows = Sequence[Mapping[str, Any]]


def markdown(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """Lines of a Markdown table; a cell's text is that of the value, nothing for None."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join('' if c is None else str(c) for c in line)} |" for line in lines]


def markdown_of(rows: Rows, text: Callable[[Any], Any]) -> list[str]:
    """The same of rows that name their columns."""
    return markdown(list(rows[0]), (map(text, row.values()) for row in rows))


def brief(value: Any) -> str:
    """A number in three digits, other values as they are."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def two_digits(value: Any) -> str:
    """A number with two digits after the point, other values as they are, - for none."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def spread(values: Iterable[float]) -> str:
    """Mean ± sample standard deviation; of one value it has none."""
    return summarise(values).text()


def print_table(rows: Rows) -> None:
    """Columns as wide as their content; the first to the left, the others to the right."""
    texts = [list(rows[0]), *([two_digits(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))
