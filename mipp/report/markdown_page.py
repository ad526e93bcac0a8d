"""A report as Markdown, with its figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mipp.page.document import (
    Block,
    Code,
    Document,
    Facts,
    Notes,
    Picture,
    Searched,
    Table,
    Text,
    Widths,
)

CODE = re.compile("(`[^`]*`)")
SPECIAL = re.compile(r"([\\<>*_\[\]#|])")


def markdown_page(document: Document) -> str:
    """The report as text; pictures refer to `figures/<name>.png`."""
    parts = [f"# {_safe(document.title)}", _safe(document.done), f"**{_safe(document.headline)}**"]
    for section in document.sections:
        parts += [f"## {_safe(section.title)}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Text():
            return _safe(block.text)
        case Code():
            return f"```sh\n{block.text}\n```"
        case Notes():
            mark = {"warning": "**Warning.** ", "remark": ""}
            return "\n".join(f"- {mark[note.level]}{_safe(note.text)}" for note in block.items)
        case Facts():
            return "\n".join(
                f"- {_safe(fact.name)}: **{_safe(fact.value)}** ({_safe(fact.detail)})"
                for fact in block.items
            )
        case Table():
            return _table(block)
        case Picture():
            return f"![{block.name}](figures/{block.name}.png)\n\n{_safe(block.caption)}"
        case Widths():
            rows = [(w.name, f"{w.dense:,}", f"{w.kept:,}", *w.cells) for w in block.rows]
            return _table(Table(("group", "width", "kept", *block.columns), rows, block.caption))
        case Searched():
            return f"{len(block.rows):,} rows, in `{block.place}`. {_safe(block.caption)}"


def _table(table: Table) -> str:
    rule = [":---", *("---:" for _ in table.header[1:])]
    lines = [_row([_cell(cell) for cell in table.header]), _row(rule)]
    lines += [_row([_cell(cell) for cell in row]) for row in table.rows]
    return "\n".join(lines) + (f"\n\n{_safe(table.caption)}" if table.caption else "")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """A table splits at every bar that is not escaped, also inside code."""
    return "".join(
        part.replace("|", r"\|") if part.startswith("`") else _safe(part)
        for part in CODE.split(text)
    )


def _safe(text: str) -> str:
    """One line in which only `code` is marked up."""
    return "".join(
        part if part.startswith("`") else SPECIAL.sub(r"\\\1", part)
        for part in CODE.split(" ".join(text.split()))
    )
