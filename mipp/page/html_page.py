"""A report as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from mipp.page.document import (
    Block,
    Code,
    Document,
    Facts,
    Notes,
    Picture,
    Searched,
    Section,
    Table,
    Text,
    Width,
    Widths,
)
from mipp.page.searched import SCRIPT, searched
from mipp.page.style_sheet import STYLE_SHEET
from mipp.page.svg import DROPPED, KEPT, inline_svg

CODE = re.compile("`([^`]*)`")


def html_page(document: Document, figures: Mapping[str, str]) -> str:
    """The page as text.

    Parameters
    ----------
    figures : name -> SVG text of every `Picture` in the document.
    """
    title = html.escape(document.title)
    sections = "\n".join(_section(section, figures) for section in document.sections)
    blocks = [block for section in document.sections for block in section.blocks]
    script = SCRIPT if any(isinstance(block, Searched) for block in blocks) else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE_SHEET}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="done">{_marked(document.done)}</p>
<p class="headline">{_marked(document.headline)}</p>
</header>
<main>
{sections}
</main>
{script}</body>
</html>
"""


def html_fragment(document: Document) -> str:
    """The headline and the blocks without a page around them, as a notebook shows them."""
    blocks = "".join(_block(block, {}) for part in document.sections for block in part.blocks)
    return f"<p><b>{_marked(document.headline)}</b></p>{blocks}"


def _section(section: Section, figures: Mapping[str, str]) -> str:
    blocks = "\n".join(_block(block, figures) for block in section.blocks)
    return f"<section>\n<h2>{html.escape(section.title)}</h2>\n{blocks}\n</section>"


def _block(block: Block, figures: Mapping[str, str]) -> str:
    match block:
        case Text():
            return f"<p>{_marked(block.text)}</p>"
        case Code():
            return f'<pre tabindex="0"><code>{html.escape(block.text)}</code></pre>'
        case Notes():
            return _notes(block)
        case Facts():
            return _facts(block)
        case Table():
            return _table(block)
        case Picture():
            label = html.escape(block.caption)
            svg = inline_svg(figures[block.name], block.name, label)
            drawn = _scrolled(f"figure {block.name}", svg)
            return (
                f"<figure>\n{drawn}\n<figcaption>{_marked(block.caption)}</figcaption>\n</figure>"
            )
        case Widths():
            return _widths(block)
        case Searched():
            return searched(block)


def _notes(notes: Notes) -> str:
    mark = {"warning": "<strong>Warning.</strong> ", "remark": ""}
    items = (
        f'<li class="{note.level}">{mark[note.level]}{_marked(note.text)}</li>'
        for note in notes.items
    )
    return '<ul class="notes">\n' + "\n".join(items) + "\n</ul>"


def _facts(facts: Facts) -> str:
    items = (
        f'<div><dt>{html.escape(fact.name)}</dt><dd class="value">{html.escape(fact.value)}</dd>'
        f'<dd class="detail">{html.escape(fact.detail)}</dd></div>'
        for fact in facts.items
    )
    return '<dl class="facts">\n' + "\n".join(items) + "\n</dl>"


def _table(table: Table) -> str:
    marks = [' class="words"' if title in table.words else "" for title in table.header]
    head = "".join(
        f'<th scope="col"{mark}>{_marked(cell)}</th>'
        for cell, mark in zip(table.header, marks, strict=True)
    )
    head = f"<thead><tr>{head}</tr></thead>"
    rows = "\n".join(
        f'<tr><th scope="row">{_marked(first)}</th>'
        + "".join(
            f"<td{mark}>{_marked(cell)}</td>" for cell, mark in zip(cells, marks[1:], strict=True)
        )
        + "</tr>"
        for first, *cells in table.rows
    )
    return _scrolled(
        ", ".join(table.header),
        f"<table>\n{head}\n<tbody>\n{rows}\n</tbody>\n</table>",
        table.caption,
    )


def _widths(widths: Widths) -> str:
    """Bars as long as the groups were wide, filled as far as they stay; numbers as text."""
    widest = max((row.dense for row in widths.rows), default=1)
    rows = "\n".join(
        f'<tr><th scope="row">{_marked(row.name)}</th><td class="bar">{_bar(row, widest)}</td>'
        f"<td>{row.dense:,} → {row.kept:,}</td>"
        + "".join(f"<td>{_marked(cell)}</td>" for cell in row.cells)
        + "</tr>"
        for row in widths.rows
    )
    titles = ("group", "width", "units", *widths.columns)
    head = "".join(f'<th scope="col">{_marked(title)}</th>' for title in titles)
    head = f"<thead><tr>{head}</tr></thead>"
    return _scrolled(
        "widths of the groups",
        f'<table class="widths">\n{head}\n<tbody>\n{rows}\n</tbody>\n</table>',
        widths.caption,
    )


def _scrolled(label: str, content: str, caption: str = "") -> str:
    """What scrolls by itself where the page is narrow, by keyboard too; its caption does not."""
    label = html.escape(label.replace("`", ""))
    below = f'\n<p class="caption">{_marked(caption)}</p>' if caption else ""
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
    return f"{region}{content}</div>{below}"


def _bar(row: Width, widest: int) -> str:
    """What was there, and over it what stays; its colours are given for notebooks too."""
    parts = ((row.dense, "--dropped", DROPPED), (row.kept, "--kept", KEPT))
    bars = "".join(
        f'<rect width="{100 * count / widest:.3g}" height="4" style="fill: var({name}, {colour})"/>'
        for count, name, colour in parts
    )
    return (
        '<svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" width="100%" '
        f'height="12">{bars}</svg>'
    )


def _marked(text: str) -> str:
    """Escaped text with its `code` marked up."""
    return CODE.sub(r"<code>\1</code>", html.escape(text))
