"""A report as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from mipp.report.document import Block, Code, Document, Facts, Notes, Picture, Section, Table, Text
from mipp.report.drawing import inline_svg
from mipp.report.style_sheet import STYLE_SHEET

CODE = re.compile("`([^`]*)`")


def html_page(document: Document, figures: Mapping[str, str]) -> str:
    """The page as text.

    Parameters
    ----------
    figures : name -> SVG text of every `Picture` in the document.
    """
    title = html.escape(document.title)
    sections = "\n".join(_section(section, figures) for section in document.sections)
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
</body>
</html>
"""


def _section(section: Section, figures: Mapping[str, str]) -> str:
    blocks = "\n".join(_block(block, figures) for block in section.blocks)
    return f"<section>\n<h2>{html.escape(section.title)}</h2>\n{blocks}\n</section>"


def _block(block: Block, figures: Mapping[str, str]) -> str:
    match block:
        case Text():
            return f"<p>{_marked(block.text)}</p>"
        case Code():
            return f"<pre><code>{html.escape(block.text)}</code></pre>"
        case Notes():
            return _notes(block)
        case Facts():
            return _facts(block)
        case Table():
            return _table(block)
        case Picture():
            label = html.escape(block.caption)
            svg = inline_svg(figures[block.name], block.name, label)
            return f"<figure>\n{svg}\n<figcaption>{_marked(block.caption)}</figcaption>\n</figure>"


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
    head = "".join(f'<th scope="col">{_marked(cell)}</th>' for cell in table.header)
    rows = "\n".join(
        f'<tr><th scope="row">{_marked(first)}</th>'
        + "".join(f"<td>{_marked(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in table.rows
    )
    caption = f"<caption>{_marked(table.caption)}</caption>\n" if table.caption else ""
    return (
        f'<div class="scroll"><table>\n{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _marked(text: str) -> str:
    """Escaped text with its `code` marked up."""
    return CODE.sub(r"<code>\1</code>", html.escape(text))
