"""Docstrings of the form that STYLE.md gives, as the Markdown of a page of the reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
LISTED = ("Parameters", "Raises")
ITEM = re.compile(r"^(\S[^:\n]*?) : ", re.MULTILINE)


class AsMarkdown(griffe.Extension):
    """Writes every docstring out before a page is made of it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute that was read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Sections in bold, parameters and errors as lists, examples as code.

    Example
    -------
    >>> print(as_markdown("What.\\n\\nParameters\\n----------\\nx, y : where\\n    it lies."))
    What.
    <BLANKLINE>
    **Parameters**
    <BLANKLINE>
    - `x`, `y`: where
      it lies.
    """
    plain, *rest = HEADING.split(text)
    parts = [_examples(plain)]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        body = body.strip("\n")
        parts.append(f"**{title}**")
        parts.append(_items(body) if title in LISTED else _examples(body))
    return "\n\n".join(part.strip("\n") for part in parts)


def _items(body: str) -> str:
    listed = [line.removeprefix("  ") for line in body.splitlines()]
    return ITEM.sub(lambda found: f"- {_quoted(found[1])}: ", "\n".join(listed))


def _quoted(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _examples(text: str) -> str:
    """Paragraphs that are sessions of the interpreter, fenced."""
    parts = re.split(r"\n{2,}", text)
    return "\n\n".join(
        f"```pycon\n{part}\n```" if part.lstrip("\n").startswith(">>>") else part for part in parts
    )
