"""What a report says, apart from how it is written: sections of blocks.

Text holds one mark-up only: `code` between backticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Note:
    """One thing a reader must know; a warning is one that questions the result."""

    level: Literal["warning", "remark"]
    text: str


@dataclass(frozen=True)
class Notes:
    """A list of notes."""

    items: Sequence[Note]


@dataclass(frozen=True)
class Fact:
    """A number worth seeing from afar: what it is, its value, and one line of detail."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class Facts:
    """Facts side by side."""

    items: Sequence[Fact]


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row, the others are numbers, or `words`."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: Sequence[str] = ()  # columns of text that is to be wrapped


@dataclass(frozen=True)
class Picture:
    """A figure by its name: `figures/<name>.svg` and `.png` beside the page."""

    name: str
    caption: str


@dataclass(frozen=True)
class Code:
    """Text to copy as it is."""

    text: str


@dataclass(frozen=True)
class Width:
    """One group of channels: how many it had, how many stay, and cells of further columns."""

    name: str
    dense: int
    kept: int
    cells: Sequence[str] = ()


@dataclass(frozen=True)
class Widths:
    """A network before and after, drawn: a bar for every group, from the inputs to the outputs.

    Parameters
    ----------
    columns : headings of the rows' further cells.
    """

    rows: Sequence[Width]
    columns: Sequence[str] = ()
    caption: str = ""


@dataclass(frozen=True)
class Searched:
    """A table of many rows, which a reader sorts, filters and searches.

    Parameters
    ----------
    rows : text or numbers; numbers are sorted as such.
    filters : columns of few values, one of which can be picked.
    place : file that holds the rows, for those who read the page without scripts.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    filters: Sequence[str]
    place: str
    caption: str = ""


Block = Text | Notes | Facts | Table | Picture | Code | Widths | Searched


@dataclass(frozen=True)
class Section:
    """A heading and what follows it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report: what was done, what came out in one sentence, and the sections."""

    title: str
    done: str
    headline: str
    sections: Sequence[Section]


def code(name: str) -> str:
    """A name as code; a backtick in it becomes a quote."""
    return f"`{name.replace('`', chr(39))}`"
